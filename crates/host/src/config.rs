//! What we ask of the machine's network, as plain values, and the traits that do it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use keys::{DiscoPublic, NodePublic};
use packet::PeerId;

use crate::BoxFuture;

/// One peer as the packet engines see it: derived from the netmap by the brain, consumed by `dataplane`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Which peer.
    pub id: PeerId,
    /// Its WireGuard key.
    pub key: NodePublic,
    /// Its disco key; zero if it speaks no disco.
    pub disco: DiscoPublic,
    /// Its home relay region; 0 if unknown.
    pub home_derp: u16,
    /// Where it says that it can be reached directly.
    pub endpoints: Vec<SocketAddr>,
    /// Its own addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Inner sources that it may use.
    pub sources: Vec<IpNet>,
    /// Destinations that are sent to it.
    pub routes: Vec<IpNet>,
    /// Whether it may only answer us (`IsJailed`).
    pub jailed: bool,
    /// By which addresses it knows us, if not by our own.
    pub masquerade: Masquerade,
}

/// By which addresses a peer knows us, if not by our own: what goes to it comes from there, and what it sends goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Masquerade {
    /// In place of our IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// In place of our IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Masquerade {
    /// What stands for our address of the family of `like`.
    pub fn of(self, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// What the OS routing should look like. The default, empty value means: nothing of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouterConfig {
    /// Whether others are routed, for which the machine must forward.
    pub forwards: bool,
    /// Our addresses.
    pub addresses: Vec<IpNet>,
    /// Prefixes that go into the tunnel.
    pub routes: Vec<IpNet>,
    /// What becomes of the networks around us.
    pub lan: Lan,
    /// Whether nothing may leave beside the tunnel, also while the device is gone.
    pub is_guarded: bool,
    /// The firewall.
    pub firewall: FirewallConfig,
}

/// What becomes of the networks that the machine is on, where a route into the tunnel leads there too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lan {
    /// They win over routes that are as long or shorter, but for those to everywhere.
    #[default]
    Wins,
    /// Routes into the tunnel win: as the originals.
    Yields,
    /// Everything goes to an exit node, and they too.
    Captured,
    /// Everything goes to an exit node but what is for them.
    Kept,
}

/// How much of the firewall is ours to manage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetfilterMode {
    /// Nothing.
    #[default]
    Off,
    /// Chains of our own, which nobody asks but who wants to.
    NoDivert,
    /// Chains of our own, which are asked before all others.
    On,
}

/// How rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirewallKind {
    /// As the machine seems to be used.
    #[default]
    Auto,
    /// So that `iptables` can list them.
    Iptables,
    /// As `nft` writes them.
    Nftables,
}

/// What to do with packets that come from outside with a source in the carriers' range (100.64.0.0/10), in which the
/// tailnet's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgnatGuard {
    /// Drop them; where the machine's own networks use that range, only those with addresses of the tailnet.
    #[default]
    Narrow,
    /// Drop them all: as the originals.
    Drop,
    /// Let them pass.
    Off,
}

/// What the firewall should look like. The default, empty value means: nothing of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallConfig {
    /// How much is ours to manage.
    pub mode: NetfilterMode,
    /// How rules are written.
    pub kind: FirewallKind,
    /// Whether packets of peers leave us with our own address.
    pub snat: bool,
    /// Whether only answers may be forwarded to peers.
    pub stateful: bool,
    /// The guard of the tailnet's addresses.
    pub cgnat: CgnatGuard,
    /// The UDP port over IPv4 to let in; 0 for none.
    pub port_v4: u16,
    /// The UDP port over IPv6 to let in; 0 for none.
    pub port_v6: u16,
}

/// What the OS resolver should do. The default, empty value means: nothing of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    /// Servers to ask.
    pub nameservers: Vec<IpAddr>,
    /// Suffixes to try.
    pub search: Vec<String>,
    /// Suffixes that are ours to answer; empty means all names.
    pub matching: Vec<String>,
}

/// What the machine's resolver is without us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemDns {
    /// Who configures it, by the original's names: `direct`, `systemd-resolved`, ….
    pub manager: &'static str,
    /// Whether names can be shared out by suffix, so that others than ours need not be asked of us.
    pub splits: bool,
    /// The servers that are asked without us, where they can be known; where names can be shared out, the one who does.
    pub nameservers: Vec<IpAddr>,
    /// The suffixes that are tried without us, where they can be known.
    pub search: Vec<String>,
    /// Why it may not do what it is told.
    pub trouble: Option<String>,
}

/// What became of one `apply`, item by item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// What could not be done, each with what was attempted and why not.
    pub failures: Vec<String>,
    /// What was done otherwise than one might expect, and why.
    pub notes: Vec<String>,
    /// Whether others are to be routed and the machine does not forward.
    pub forwarding_off: bool,
}

/// Something of the machine that is not as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what: `routing`, `firewall`, `dns`.
    pub part: &'static str,
    /// What would be done about it.
    pub step: String,
    /// The network that it is about.
    pub about: Option<IpNet>,
}

/// Applies routing. Idempotent.
pub trait Router: Send {
    /// What [`apply`](Self::apply) would do, or why that cannot be known.
    fn differences(&mut self, want: &RouterConfig) -> Result<Vec<Difference>, String>;
    /// Makes the machine's routing equal to `want`.
    fn apply(&mut self, want: &RouterConfig) -> Applied;
    /// Resolves when somebody else changed what is ours.
    fn drifted(&mut self) -> BoxFuture<'_, ()>;
    /// Removes all that is ours.
    fn cleanup(&mut self) -> Applied;
}

/// Applies resolver settings. Idempotent. It may have to ask other programs, and so takes its time.
pub trait DnsConfigurator: Send {
    /// What the resolver is without us, as it is now; or why that cannot be known.
    fn system(&mut self) -> BoxFuture<'_, Result<SystemDns, String>>;
    /// What [`apply`](Self::apply) would do, or why that cannot be known.
    fn differences<'a>(
        &'a mut self,
        want: &'a DnsConfig,
    ) -> BoxFuture<'a, Result<Vec<Difference>, String>>;
    /// Makes the machine's resolver equal to `want`.
    fn apply<'a>(&'a mut self, want: &'a DnsConfig) -> BoxFuture<'a, Applied>;
    /// Resolves when somebody else changed what is ours, or who configures the resolver.
    fn drifted(&mut self) -> BoxFuture<'_, ()>;
    /// Removes all that is ours.
    fn cleanup(&mut self) -> BoxFuture<'_, Applied>;
}

/// Keeps our own sockets out of our own tunnel.
pub trait Egress: Send + Sync {
    /// Marks a socket before it connects or sends to `to`.
    fn mark(&self, socket: &os_socket::SocketRef<'_>, to: SocketAddr) -> io::Result<()>;
}

/// The borrowed socket that [`Egress`] marks.
pub mod os_socket {
    /// A borrowed operating-system socket.
    #[cfg(unix)]
    pub type SocketRef<'a> = std::os::fd::BorrowedFd<'a>;
    /// A borrowed operating-system socket.
    #[cfg(windows)]
    pub type SocketRef<'a> = std::os::windows::io::BorrowedSocket<'a>;
}

/// The machine's links, as far as path choice cares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Whether any link but loopback and our own is up and has an address.
    pub up: bool,
    /// Addresses of the machine under which a peer might reach it, without our own in the tailnet.
    pub addresses: Vec<IpAddr>,
    /// The networks that the machine is on, each with its own address there. Not our own, loopback, nor link-local ones.
    pub networks: Vec<IpNet>,
    /// The interface of the default route.
    pub default_interface: Option<String>,
    /// Whether there is an IPv4 address that can reach more than this machine.
    pub have_v4: bool,
    /// Whether there is an IPv6 address that can reach more than this machine.
    pub have_v6: bool,
}

/// A change of the machine's links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDelta {
    /// The new state.
    pub now: Arc<LinkState>,
    /// Whether sockets must be bound anew.
    pub major: bool,
    /// Whether the machine slept.
    pub woke: bool,
}

/// Watches the machine's links.
pub trait LinkMonitor: Send {
    /// The present state.
    fn current(&self) -> Arc<LinkState>;
    /// Resolves at the next change.
    fn changed(&mut self) -> BoxFuture<'_, LinkDelta>;
}
