//! An internet, and sites on it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv4Net;
use os::netlink::Protocol;
use os::netlink::nft::{Batch, Chain, ChainKind, Family, Hook, Step};
use serde::Serialize;

use crate::netns::{Netns, System, wire};

const BRIDGE: &str = "internet";
/// A node's own interface.
const NODE_LINK: &str = "eth0";
/// A router's interface to the internet, and the one to its site.
const WAN: &str = "wan";
const LAN: &str = "lan";
const PREFIX_LEN: u8 = 24;
const UDP: u8 = 17;
/// The router's table for what `cut_udp` forbids.
const CUT: &str = "cut";
const HUSH: &str = "hush";
/// The protocol number of ICMP.
const ICMP: u8 = 1;
const CONNECT_TRIES: usize = 50;
const CONNECT_PATIENCE: Duration = Duration::from_millis(200);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// `NF_IP_PRI_NAT_SRC`
const PRIORITY_SOURCE_NAT: i32 = 100;

/// What stands between a node and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Nat {
    /// Nothing.
    None,
    /// A NAT that gives one inner port one outer port, whoever is talked to; only who was talked to may answer.
    Easy,
    /// A NAT that gives each conversation an outer port of its own.
    Hard,
    /// A NAT that lets no UDP through.
    Blocked,
}

impl Nat {
    /// Whether two nodes behind such NATs can reach each other without a relay.
    pub fn is_direct_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Blocked, _) | (_, Self::Blocked) => false,
            // Who has no NAT learns the other's port from its first packet.
            (Self::None, _) | (_, Self::None) => true,
            (Self::Easy, Self::Easy) => true,
            (Self::Hard, _) | (_, Self::Hard) => false,
        }
    }
}

impl std::fmt::Display for Nat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Easy => "easy",
            Self::Hard => "hard",
            Self::Blocked => "blocked",
        })
    }
}

/// An internet: one network, 203.0.113.0/24 (RFC 5737), on which servers and sites have addresses.
#[derive(Debug)]
pub struct World {
    internet: Netns,
    sites: u8,
}

impl World {
    /// Where servers can listen, inside [`internet`](Self::internet).
    pub const SERVERS: [Ipv4Addr; 2] =
        [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];

    /// An internet without sites.
    pub fn new() -> Result<Self> {
        let internet = Netns::new()?;
        let [first, second] = Self::SERVERS;
        wire::add_bridge(&internet, BRIDGE, net(first)?)?;
        wire::add_address(&internet, BRIDGE, net(second)?)?;
        Ok(Self { internet, sites: 0 })
    }

    /// Where servers run.
    pub fn internet(&self) -> &Netns {
        &self.internet
    }

    /// A site for one node.
    pub fn add_site(&mut self, nat: Nat) -> Result<Site> {
        ensure!(self.sites < 200, "an internet has room for 200 sites");
        self.sites += 1;
        let number = self.sites;
        let node = Netns::machine()?;
        // Nobody else is there to have the same address: whoever looks at a machine need not wait until that is certain.
        if Path::new("/proc/sys/net/ipv6").exists() {
            node.set_parameter("net/ipv6/conf/default/accept_dad", "0")?;
        }
        let plug = format!("site{number}");
        let public = Ipv4Addr::new(203, 0, 113, 10 + number);
        let (router, address) = match nat {
            Nat::None => {
                wire::add_cable((&self.internet, &plug), (&node, NODE_LINK))?;
                wire::add_address(&node, NODE_LINK, net(public)?)?;
                (None, public)
            }
            Nat::Easy | Nat::Hard | Nat::Blocked => {
                let router = Netns::new()?;
                let inner = Ipv4Addr::new(192, 168, number, 2);
                let gateway = Ipv4Addr::new(192, 168, number, 1);
                wire::add_cable((&self.internet, &plug), (&router, WAN))?;
                wire::add_cable((&router, LAN), (&node, NODE_LINK))?;
                wire::add_address(&router, WAN, net(public)?)?;
                wire::add_address(&router, LAN, net(gateway)?)?;
                wire::add_address(&node, NODE_LINK, net(inner)?)?;
                wire::add_default_route(&node, NODE_LINK, gateway)?;
                router.set_parameter("net/ipv4/ip_forward", "1")?;
                translate(&router, nat)?;
                (Some(router), inner)
            }
        };
        wire::enslave(&self.internet, &plug, BRIDGE)?;
        if nat == Nat::None {
            wire::add_default_route(&node, NODE_LINK, Self::SERVERS[0])?;
        }
        let site = Site {
            nat,
            node,
            router,
            address: Mutex::new(address),
        };
        site.wait_until_connected()?;
        Ok(site)
    }
}

/// The network of one node.
#[derive(Debug)]
pub struct Site {
    nat: Nat,
    node: Netns,
    router: Option<Netns>,
    address: Mutex<Ipv4Addr>,
}

impl Site {
    /// What stands between it and the internet.
    pub fn nat(&self) -> Nat {
        self.nat
    }

    /// Where the node's processes run.
    pub fn node(&self) -> &Netns {
        &self.node
    }

    /// Starts another system on the node.
    pub fn start_system(&mut self, system: &System) -> Result<()> {
        self.node.start_system(system)
    }

    /// The node's address at the site.
    pub fn address(&self) -> Ipv4Addr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls (`false`) or puts back the node's cable: its interface stays up, but has no carrier.
    pub fn set_plugged(&self, plugged: bool) -> Result<()> {
        let router = self
            .router
            .as_ref()
            .context("a site without a router cannot be unplugged")?;
        wire::set_up(router, LAN, plugged)
    }

    /// Waits until packets get through: the kernel takes up to a second to notice a cable, and what is sent before is lost.
    pub fn wait_until_connected(&self) -> Result<()> {
        // Nobody listens there, and whose answer says so is there.
        let server = SocketAddr::from((World::SERVERS[0], 9));
        self.node.run(|| {
            for _ in 0..CONNECT_TRIES {
                match TcpStream::connect_timeout(&server, CONNECT_PATIENCE) {
                    Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                        std::thread::sleep(CONNECT_PAUSE);
                    }
                    _ => return Ok(()),
                }
            }
            bail!("a new site cannot reach the internet of the lab")
        })?
    }

    /// Gives the node another address, as another lease would.
    pub fn change_address(&self) -> Result<()> {
        let old = self.address();
        let mut octets = old.octets();
        octets[3] = if octets[3] >= 150 {
            octets[3] - 100
        } else {
            octets[3] + 100
        };
        let new = Ipv4Addr::from(octets);
        wire::remove_address(&self.node, NODE_LINK, net(old)?)?;
        wire::add_address(&self.node, NODE_LINK, net(new)?)?;
        let gateway = match self.router {
            Some(_) => Ipv4Addr::new(octets[0], octets[1], octets[2], 1),
            None => World::SERVERS[0],
        };
        // The old one went with the address.
        wire::add_default_route(&self.node, NODE_LINK, gateway)?;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Sets the longest packet of the node's network.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        wire::set_mtu(&self.node, NODE_LINK, mtu)
    }

    /// Sets the longest packet that the way from the router to the internet carries; of longer ones the router says so.
    pub fn set_path_mtu(&self, mtu: u32) -> Result<()> {
        let router = self.router.as_ref();
        let router = router.context("a site without a router has no way to it")?;
        wire::set_mtu(router, WAN, mtu)
    }

    /// Has the router say nothing about packets that it cannot pass on.
    pub fn hush(&self) -> Result<()> {
        let router = self.router.as_ref();
        let router = router.context("a site without a router has nobody to hush")?;
        let chain = Chain {
            family: Family::Ip,
            table: HUSH,
            name: "out",
        };
        let mut batch = Batch::default();
        batch.add_table(Family::Ip, HUSH);
        batch.add_base_chain(chain, ChainKind::Filter, Hook::Output, 0);
        batch.add_rule(chain, &[Step::Protocol(ICMP), Step::Drop]);
        router.netlink(Protocol::Netfilter, |netlink| batch.commit(netlink))
    }

    /// Has the router drop all UDP (`true`), or none more than its NAT does.
    pub fn cut_udp(&self, cut: bool) -> Result<()> {
        let router = self
            .router
            .as_ref()
            .context("a site without a router cannot be cut off")?;
        let mut batch = Batch::default();
        if cut {
            drop_udp(&mut batch, CUT);
        } else {
            batch.remove_table(Family::Ip, CUT);
        }
        router.netlink(Protocol::Netfilter, |netlink| batch.commit(netlink))
    }
}

/// Makes a namespace the NAT of its site.
fn translate(router: &Netns, nat: Nat) -> Result<()> {
    const TABLE: &str = "nat";
    let chain = |name| Chain {
        family: Family::Ip,
        table: TABLE,
        name,
    };
    let mut batch = Batch::default();
    batch.add_table(Family::Ip, TABLE);
    let source = chain("source");
    batch.add_base_chain(
        source,
        ChainKind::Nat,
        Hook::Postrouting,
        PRIORITY_SOURCE_NAT,
    );
    let is_random = nat == Nat::Hard;
    batch.add_rule(
        source,
        &[Step::OutputName(WAN.into()), Step::Masquerade { is_random }],
    );
    // Without this the router would remember, and answer, what nobody inside has asked for; what is asked for later would then
    // get another port than the one that was announced.
    let own = chain("own");
    batch.add_base_chain(own, ChainKind::Filter, Hook::Input, 0);
    batch.add_rule(own, &[Step::InputName(WAN.into()), Step::Drop]);
    if nat == Nat::Blocked {
        drop_udp(&mut batch, "blocked");
    }
    router.netlink(Protocol::Netfilter, |netlink| batch.commit(netlink))
}

fn drop_udp(batch: &mut Batch, table: &str) {
    let chain = Chain {
        family: Family::Ip,
        table,
        name: "through",
    };
    batch.add_table(Family::Ip, table);
    batch.add_base_chain(chain, ChainKind::Filter, Hook::Forward, 0);
    batch.add_rule(chain, &[Step::Protocol(UDP), Step::Drop]);
}

fn net(address: Ipv4Addr) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(address, PREFIX_LEN)?)
}
