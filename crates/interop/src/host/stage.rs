//! A tailnet for one scenario.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use lab::netns::{Nat, Netns, World};
use packet::Proto;
use tailcfg::DnsConfig;

use super::capture::Left;
use super::machine::Machine;
use crate::tailnet::{Control, Tailnet, Whose};

pub(super) struct Stage {
    pub(super) tailnet: Tailnet,
    pub(super) whose: Whose,
}

impl Stage {
    pub(super) fn new(whose: Whose) -> Result<Self> {
        let tailnet = Tailnet::start(Control::Ours, Whose::Ours)?;
        let stage = Self { tailnet, whose };
        stage.set_dns(DnsConfig::default())?;
        Ok(stage)
    }

    /// Names of the tailnet, and what else `dns` says.
    pub(super) fn set_dns(&self, dns: DnsConfig) -> Result<()> {
        let dns = DnsConfig {
            proxied: true,
            domains: vec!["tailnet.test".into()],
            ..dns
        };
        self.tailnet.with_admin(async move |admin| {
            admin.set_dns(dns).await;
            Ok(())
        })
    }

    /// A machine without a daemon, behind a router.
    pub(super) fn machine(&mut self, name: &str) -> Result<Machine> {
        self.machine_behind(name, Nat::Easy)
    }

    pub(super) fn machine_behind(&mut self, name: &str, nat: Nat) -> Result<Machine> {
        let site = self.tailnet.world.add_site(nat)?;
        Machine::new(site, self.whose, name)
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
        let own = machine.address()?;
        let is_it = move |addresses: &[IpAddr]| addresses.contains(&own);
        self.tailnet.with_admin(async move |admin| {
            let node = admin
                .nodes()
                .into_iter()
                .find(|node| is_it(&node.addresses));
            match node {
                Some(node) => admin.set_routes(node.id, routes).await,
                None => Ok(()),
            }
        })
    }

    /// Runs a command on the internet.
    pub(super) fn internet_sh(&self, line: &str) -> Result<String> {
        super::machine::sh(self.tailnet.world.internet(), line).context("on the internet")
    }
}

/// What several scenarios set up.
impl Stage {
    /// The exit node's IPv6 address on the internet, which it alone has.
    pub(super) const EXIT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99);
    /// The exit node's way out. What is on its own network it lets nobody to.
    const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    /// A node on the internet that lets others out, both families.
    pub(super) fn exit_node(&mut self) -> Result<Machine> {
        let mut exit = self.machine_behind("exit", Nat::None)?;
        self.internet_sh(&format!(
            "ip addr add {}/64 dev internet nodad; ip addr add {}/128 dev internet nodad; ip addr add {}/32 dev internet",
            Self::GATEWAY_V6,
            Self::OUTSIDE_V6,
            Self::OUTSIDE_V4
        ))?;
        exit.sh(&format!(
            "sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; \
             ip addr add {}/64 dev eth0 nodad; ip route add default via {}",
            Self::EXIT_V6,
            Self::GATEWAY_V6
        ))?;
        exit.start()?;
        self.up(&exit, &["--advertise-exit-node"])?;
        self.approve(&exit, &["0.0.0.0/0", "::/0"])?;
        Ok(exit)
    }

    /// Has a node send everything through the exit node.
    pub(super) fn use_exit(&self, client: &Machine, args: &[&str]) -> Result<()> {
        let mut all = vec!["set", "--exit-node=exit"];
        all.extend(args);
        client.until("the exit node is known", |client| {
            Ok(client.cli(&all).is_ok())
        })?;
        client.until_sh("ip route show table 52 | grep -q default")?;
        Ok(())
    }

    /// Addresses on the internet that belong to nobody's servers.
    pub(super) const OUTSIDE: [IpAddr; 2] =
        [IpAddr::V4(Self::OUTSIDE_V4), IpAddr::V6(Self::OUTSIDE_V6)];

    /// Has a machine send what programs send: names, pings and connections, of both families, in and out of the tailnet.
    pub(super) fn exercise(&self, client: &Machine) -> Result<()> {
        let [v4, v6] = Self::OUTSIDE;
        for line in [
            format!("ping -c2 -W1 {v4}"),
            format!("ping -c2 -W1 {v6}"),
            "getent ahosts www.example".to_owned(),
            "getent ahosts exit".to_owned(),
            format!("timeout 1 bash -c '>/dev/tcp/{v4}/80'"),
            format!("timeout 1 bash -c '>/dev/tcp/{v6}/80'"),
            format!("timeout 1 bash -c 'echo x >/dev/udp/{v4}/53'"),
            "timeout 1 bash -c 'echo x >/dev/udp/203.0.113.1/53'".to_owned(),
        ] {
            // Whether it succeeds is not what is asked.
            client.sh(&format!("{line} || true"))?;
        }
        Ok(())
    }

    /// Fails if anything left but the tunnel's own packets: to control, relays, STUN, and the exit node's WireGuard.
    pub(super) fn only_the_tunnels_own(&self, seen: &BTreeSet<Left>, exit: &Machine) -> Result<()> {
        let servers = World::SERVERS.map(IpAddr::from);
        let exit: IpAddr = exit.site.address().into();
        let is_link_local = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
        };
        for left in seen {
            let to = left.to.ip();
            let is_control = left.proto == Proto::TCP && servers.contains(&to);
            let is_probe =
                left.proto == Proto::UDP && servers.contains(&to) && left.to.port() != 53;
            let is_tunnel = left.proto == Proto::UDP && to == exit && left.to.port() != 53;
            // Neighbour discovery and listener reports.
            let is_nd = left.proto == Proto::ICMP6 && is_link_local(to);
            ensure!(
                is_control || is_probe || is_tunnel || is_nd,
                "{} left the machine from {} to {}",
                left.proto,
                left.from,
                left.to
            );
        }
        Ok(())
    }

    /// A network with one host, 10.88.0.2, behind a machine that forwards.
    pub(super) fn subnet_behind(&self, router: &Machine) -> Result<Netns> {
        let lan = Netns::new()?;
        wire_to(router, &lan, "10.88.0")?;
        router.sh("sysctl -q net.ipv4.ip_forward=1")?;
        Ok(lan)
    }

    /// A container as docker makes it on a machine: 172.17.0.2 behind a bridge, with docker's rules.
    pub(super) fn container_on(&self, machine: &Machine) -> Result<Netns> {
        let container = Netns::new()?;
        wire_to(machine, &container, "172.17.0")?;
        machine.sh(
            "sysctl -q net.ipv4.ip_forward=1; nft 'table ip nat { chain POSTROUTING { type nat hook postrouting priority 100; \
             ip saddr 172.17.0.0/16 oifname != \"lan0\" masquerade; }; }; table ip filter { chain FORWARD { type filter hook forward \
             priority 0; policy drop; iifname \"lan0\" accept; oifname \"lan0\" ct state established,related accept; }; }'",
        )?;
        Ok(container)
    }
}

/// A cable from a machine (`.1`) to another network's only host (`.2`).
fn wire_to(machine: &Machine, other: &Netns, net: &str) -> Result<()> {
    lab::netns::connect((machine.site.node(), "lan0"), (other, "eth0"))?;
    machine.sh(&format!("ip addr add {net}.1/24 dev lan0"))?;
    super::machine::sh(
        other,
        &format!("ip addr add {net}.2/24 dev eth0; ip route add default via {net}.1"),
    )?;
    Ok(())
}
