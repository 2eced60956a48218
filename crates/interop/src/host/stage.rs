//! A tailnet for one scenario.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use lab::netns::Nat;
use tailcfg::{DnsConfig, NodeId};

use super::machine::Machine;
use crate::tailnet::{Control, Tailnet, Whose};

pub(super) struct Stage {
    pub(super) tailnet: Tailnet,
    pub(super) whose: Whose,
}

impl Stage {
    pub(super) fn new(whose: Whose) -> Result<Self> {
        let tailnet = Tailnet::start(Control::Ours, Whose::Ours)?;
        // Names of the tailnet.
        let dns = DnsConfig {
            proxied: true,
            domains: vec!["tailnet.test".into()],
            ..DnsConfig::default()
        };
        tailnet.with_admin(async move |admin| {
            admin.set_dns(dns).await;
            Ok(())
        })?;
        Ok(Self { tailnet, whose })
    }

    /// A machine without a daemon, behind a router.
    pub(super) fn machine(&mut self, name: &str) -> Result<Machine> {
        self.machine_behind(name, Nat::Easy)
    }

    pub(super) fn machine_behind(&mut self, name: &str, nat: Nat) -> Result<Machine> {
        let site = self.tailnet.world.add_site(nat)?;
        Machine::new(site, self.whose, name)
    }

    /// The other kind of daemon, if it is at hand.
    pub(super) fn other_kind(&self) -> Option<Whose> {
        let other = match self.whose {
            Whose::Ours => Whose::Go,
            Whose::Go => Whose::Ours,
        };
        crate::tailnet::program(other, "tailscaled", "TS_GO_TAILSCALED").ok()?;
        Some(other)
    }

    /// A machine that is on the tailnet.
    pub(super) fn node(&mut self, name: &str) -> Result<Machine> {
        let mut machine = self.machine(name)?;
        machine.start()?;
        self.up(&machine, &[])?;
        Ok(machine)
    }

    pub(super) fn up(&self, machine: &Machine, args: &[&str]) -> Result<()> {
        let server = format!("--login-server={}", self.tailnet.url);
        let key = format!("--auth-key={}", self.tailnet.auth_key);
        let name = format!("--hostname={}", machine.name);
        let mut all = vec!["up", &server, &key, &name, "--timeout=60s"];
        all.extend(args);
        machine.cli(&all)?;
        Ok(())
    }

    /// Lets a node route for others.
    pub(super) fn approve(&self, machine: &Machine, routes: &[&str]) -> Result<()> {
        let routes: Vec<IpNet> = routes
            .iter()
            .map(|net| net.parse())
            .collect::<Result<_, _>>()?;
        let id = self.number_of(machine.address()?)?;
        self.tailnet
            .with_admin(async move |admin| admin.set_routes(id, routes).await)
    }

    /// Has control forget the node with this address.
    pub(super) fn remove(&self, address: IpAddr) -> Result<()> {
        let id = self.number_of(address)?;
        self.tailnet
            .with_admin(async move |admin| admin.remove_node(id).await)
    }

    /// Has the others let nothing in that the node with this address begins.
    pub(super) fn jail(&self, address: IpAddr) -> Result<()> {
        let id = self.number_of(address)?;
        self.tailnet
            .with_admin(async move |admin| admin.set_jailed(id, true).await)
    }

    fn number_of(&self, address: IpAddr) -> Result<NodeId> {
        let nodes = self.tailnet.with_admin(async |admin| Ok(admin.nodes()))?;
        let mut nodes = nodes.into_iter();
        let node = nodes.find(|node| node.addresses.contains(&address));
        Ok(node
            .with_context(|| format!("control knows no {address}"))?
            .id)
    }

    /// Runs a command on the internet.
    pub(super) fn internet_sh(&self, line: &str) -> Result<String> {
        super::machine::sh(self.tailnet.world.internet(), line).context("on the internet")
    }
}
