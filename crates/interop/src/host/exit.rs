//! Exit nodes, and what leaves the machines that use them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use lab::netns::{Nat, World};
use packet::Proto;

use super::Verdict;
use super::capture::{Capture, Left};
use super::machine::Machine;
use super::stage::Stage;

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
            "ip addr replace {}/64 dev internet nodad; ip addr replace {}/128 dev internet nodad; ip addr replace {}/32 dev internet",
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
    pub(super) fn use_exit(&self, client: &Machine) -> Result<()> {
        client.until("the exit node is known", |client| {
            Ok(client.cli(&["set", "--exit-node=exit"]).is_ok())
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

    /// Listens while a machine does what programs do; fails if anything left it but the tunnel's own packets: to control, relays
    /// and STUN, and the exit node's WireGuard. How many conversations there were.
    pub(super) fn nothing_else_leaves(
        &self,
        client: &Machine,
        exit: IpAddr,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Verdict> {
        let capture = Capture::start(client)?;
        self.exercise(client)?;
        meanwhile()?;
        self.exercise(client)?;
        let seen = capture.stop()?;
        for left in &seen {
            ensure!(
                is_the_tunnels_own(left, exit),
                "{} left the machine from {} to {}",
                left.proto,
                left.from,
                left.to
            );
        }
        ensure!(
            !seen.is_empty(),
            "not even the tunnel's own packets were seen"
        );
        Ok(Verdict::Pass(format!(
            "{} flows, all of the tunnel's",
            seen.len()
        )))
    }
}

fn is_the_tunnels_own(left: &Left, exit: IpAddr) -> bool {
    let to = left.to.ip();
    let is_server = World::SERVERS.map(IpAddr::from).contains(&to);
    match left.proto {
        Proto::TCP => is_server,
        // Questions for names are not.
        Proto::UDP => (is_server || to == exit) && left.to.port() != 53,
        // Neighbour discovery and listener reports.
        Proto::ICMP6 => {
            matches!(to, IpAddr::V6(to) if to.is_unicast_link_local() || to.is_multicast())
        }
        _ => false,
    }
}
