//! What several scenarios play, with small differences.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use lab::netns::Netns;

use super::Verdict;
use super::machine::{Machine, same, sh};
use super::servers;
use super::stage::Stage;

const ASKS_US: &str = "grep -q 100.100.100.100 /etc/resolv.conf";

impl Machine {
    /// Waits until the machine asks MagicDNS.
    pub(super) fn until_asks_us(&self) -> Result<Duration> {
        self.until_sh(ASKS_US)
    }

    /// Waits until it does so no more.
    pub(super) fn until_asks_others(&self) -> Result<Duration> {
        self.until_sh(&format!("! {ASKS_US}"))
    }
}

impl Stage {
    /// Something of a working node's is broken; then what `look` prints must be as before, and the node work.
    pub(super) fn mends(&mut self, look: &str, broken: &str) -> Result<Verdict> {
        let client = self.node("client")?;
        let other = self.node("other")?;
        client.until_pings(other.address()?)?;
        let before = client.sh(look)?;
        client.sh(broken)?;
        let took = client.until("it is mended", |client| Ok(client.sh(look)? == before))?;
        client.until_pings(other.address()?)?;
        Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
    }

    /// A node has set up resolv.conf; then the file, and what lies beside it, must be as before.
    pub(super) fn resolv_conf_is_back_after(
        &mut self,
        end: impl FnOnce(&mut Machine) -> Result<()>,
    ) -> Result<Verdict> {
        const LOOK: &str = "cat /etc/resolv.conf; ls -l /etc/resolv*";
        let mut client = self.machine("client")?;
        let before = client.sh(LOOK)?;
        client.start()?;
        self.up(&client, &[])?;
        client.until_asks_us()?;
        end(&mut client)?;
        same(&before, &client.sh(LOOK)?)?;
        Verdict::pass()
    }

    /// As whom a host behind a subnet router sees a node that comes through it, and the node's own address.
    pub(super) fn seen_behind_a_subnet_router(&mut self, snat: bool) -> Result<(IpAddr, IpAddr)> {
        let router = self.node("router")?;
        let client = self.node("client")?;
        let lan = self.subnet_behind(&router)?;
        let snat = format!("--snat-subnet-routes={snat}");
        router.cli(&["set", "--advertise-routes=10.88.0.0/24", &snat])?;
        self.approve(&router, &["10.88.0.0/24"])?;
        client.cli(&["set", "--accept-routes"])?;
        let mirror = servers::mirror(&lan, [10, 88, 0, 2].into())?;
        client.until_sh("ping -c1 -W1 10.88.0.2")?;
        let seen = servers::seen_as(client.site.node(), mirror)?;
        Ok((seen, client.address()?))
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
    lab::netns::add_cable((machine.site.node(), "lan0"), (other, "eth0"))?;
    machine.sh(&format!("ip addr add {net}.1/24 dev lan0"))?;
    sh(
        other,
        &format!("ip addr add {net}.2/24 dev eth0; ip route add default via {net}.1"),
    )?;
    Ok(())
}
