//! What the brain wants done.

use std::net::IpAddr;
use std::sync::Arc;

use derp::DerpMap;
use host::{Avoid, DnsConfig, PeerConfig, RouterConfig};
use ipn::Notify;
use ipnet::IpNet;
use keys::{LockPublic, MachinePrivate, NodePrivate, NodePublic};
use packet::PeerId;
use tailcfg::go::{GoTime, Secret};
use tailcfg::{FilterRule, Hostinfo, PeerChange};
use zeroize::Zeroizing;

use crate::{Answer, ClientId, CommandError, CommandId};

/// Something to be done. Effects are done in the order in which they come.
#[derive(Debug, Clone)]
pub enum Effect {
    /// For the control client.
    Control(ControlEffect),
    /// The packet engine's identity; `None` takes it away, and with it every session.
    EngineKeys(Option<NodePrivate>),
    /// The tailnet as the packet engine should see it, but for its peers; an empty one when we are off.
    EngineNetwork(Arc<Network>),
    /// The peers that the packet engine may exchange packets with.
    EnginePeers(PeersUpdate),
    /// Whether the engine should choose a home relay and keep its link.
    EngineDerp(bool),
    /// OS routing; answer with [`Event::Applied`](crate::Event::Applied). Latest wins.
    ApplyRouter(RouterConfig),
    /// OS resolver; answer with [`Event::Applied`](crate::Event::Applied). Latest wins.
    ApplyDns(DnsConfig),
    /// Write this to the state store; answer with [`Event::Stored`](crate::Event::Stored). Order among writes matters.
    SaveState {
        /// Key.
        key: String,
        /// Value, perhaps with secrets in it.
        value: Zeroizing<Vec<u8>>,
    },
    /// Remove this from the state store; answer with [`Event::Stored`](crate::Event::Stored).
    RemoveState {
        /// Key.
        key: String,
    },
    /// The answer to a command.
    Reply {
        /// Which command.
        id: CommandId,
        /// What became of it.
        result: Result<Answer, CommandError>,
    },
    /// A message for every subscriber of the bus. The version is filled in.
    Notify(Box<Notify>),
    /// A message for the subscribers in one process.
    NotifyProcess {
        /// The process.
        pid: i32,
        /// The message, as above.
        message: Box<Notify>,
    },
    /// A line for the log that people look for (`Switching ipn state ...`). Without secrets.
    Log(String),
}

/// Something for the control client.
#[derive(Debug, Clone)]
pub enum ControlEffect {
    /// Make a client. There is none at that moment.
    Start {
        /// Its name; its events carry it.
        client: ClientId,
        /// Base URL of the server.
        server_url: String,
        /// The machine's key.
        machine_key: MachinePrivate,
        /// Whether it starts paused.
        paused: bool,
    },
    /// Stop the client and wait until nothing of it can reach the server any more. It does not log out.
    Shutdown,
    /// Register this key, until told otherwise; a login under way is given up for it.
    Login(Login),
    /// Expire this key on the server, once, with a time limit of the client's; then
    /// [`LoggedOut`](crate::ControlEvent::LoggedOut).
    Logout {
        /// The key to expire.
        node_key: NodePrivate,
    },
    /// Have this key run out at this moment, once; then [`ExpirySet`](crate::ControlEvent::ExpirySet). Login and long
    /// poll go on.
    SetExpiry {
        /// The registered key.
        node_key: NodePrivate,
        /// The key before it; zero if there is none.
        old_node_key: NodePublic,
        /// The tailnet lock key.
        lock_key: LockPublic,
        /// When it is to run out.
        expiry: GoTime,
    },
    /// While paused, no long poll and no updates. Logins go on.
    Pause(bool),
    /// Keep a long poll with this key. One with another key is closed.
    StartMap {
        /// The registered key.
        node_key: NodePrivate,
        /// What to say of this node.
        hostinfo: Arc<Hostinfo>,
    },
    /// End the long poll.
    StopMap,
    /// A peer told us something of itself: let it find its place among what the server says.
    Learned(Box<PeerChange>),
    /// What to say of this node has changed: send it as soon as there is a long poll, and in every request from now on.
    Update {
        /// What to say, network included.
        hostinfo: Arc<Hostinfo>,
    },
}

/// A registration to be made.
#[derive(Debug, Clone)]
pub struct Login {
    /// The key to register.
    pub node_key: NodePrivate,
    /// The key before it; zero if there is none.
    pub old_node_key: NodePublic,
    /// The tailnet lock key.
    pub lock_key: LockPublic,
    /// A key that makes nobody necessary. It is used once.
    pub auth_key: Option<Secret>,
    /// What to say of this node.
    pub hostinfo: Arc<Hostinfo>,
    /// Whether the server should forget the node once it is gone.
    pub ephemeral: bool,
}

/// How the peers of the packet engine change.
#[derive(Debug, Clone, PartialEq)]
pub enum PeersUpdate {
    /// These, and no others.
    All(Vec<Arc<PeerConfig>>),
    /// Some of them.
    Patch {
        /// New, or other than before.
        changed: Vec<Arc<PeerConfig>>,
        /// Gone.
        removed: Vec<PeerId>,
    },
}

/// The tailnet as the packet engine should see it, but for its peers. The default lets nothing through.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// Our own addresses, IPv4 first.
    pub self_addresses: Vec<IpAddr>,
    /// What may come in.
    pub filter: FilterConfig,
    /// The relays; `None` while none are known.
    pub derp_map: Option<Arc<DerpMap>>,
    /// Port of our own API for peers on our IPv4 address; 0 if it is not there.
    pub peerapi_port_v4: u16,
    /// The same on our IPv6 address.
    pub peerapi_port_v6: u16,
    /// Offloads that control wants unused.
    pub avoid: Avoid,
}

/// What may come in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterConfig {
    /// Destinations that are ours to answer for: our addresses and what we route.
    pub local: Vec<IpNet>,
    /// Per family (IPv4, IPv6), where this is an exit node: packets for everything but these may come in, too.
    pub all_but: [Option<Vec<IpNet>>; 2],
    /// Destinations whose drops are worth a log line.
    pub logged: Vec<IpNet>,
    /// The tailnet's rules, in order.
    pub rules: Arc<[FilterRule]>,
    /// Whether the user wants nothing but answers; the rules then count for nothing.
    pub shields_up: bool,
}
