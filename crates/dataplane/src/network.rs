//! What the engine must know of the tailnet.

use std::net::IpAddr;
use std::sync::Arc;

use derp::DerpMap;
use filter::Filter;
use host::{Avoid, PeerConfig};

/// The tailnet as the packet engine sees it: derived from the netmap by the brain.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Our own addresses.
    pub self_addresses: Vec<IpAddr>,
    /// All peers; `None` leaves those that there are.
    pub peers: Option<Vec<Arc<PeerConfig>>>,
    /// The relays; `None` turns them off.
    pub derp_map: Option<Arc<DerpMap>>,
    /// What may come in.
    pub firewall: Firewall,
    /// Where our PeerAPI listens on our IPv4 address; 0 if it does not.
    pub peerapi_port_v4: u16,
    /// Where our PeerAPI listens on our IPv6 address; 0 if it does not.
    pub peerapi_port_v6: u16,
    /// Offloads that are not to be used.
    pub avoid: Avoid,
}

/// What may come in. The default lets nothing in.
#[derive(Debug, Clone, Default)]
pub struct Firewall {
    /// For peers.
    pub filter: Option<Arc<Filter>>,
    /// For peers that may only answer us (`IsJailed`).
    pub jailed: Option<Arc<Filter>>,
    /// Which peers have which node capabilities, for rules that ask.
    pub caps: NodeCaps,
}

type HasCap = dyn Fn(IpAddr, &str) -> bool + Send + Sync;

/// Answers whether the node with an address has a node capability. The default knows of none.
#[derive(Clone, Default)]
pub struct NodeCaps(Option<Arc<HasCap>>);

impl NodeCaps {
    /// Asks `has`, on the engine's thread: it must not wait for anything.
    pub fn new(has: impl Fn(IpAddr, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(has)))
    }

    pub(crate) fn has(&self, ip: IpAddr, cap: &str) -> bool {
        self.0.as_ref().is_some_and(|has| has(ip, cap))
    }
}

impl std::fmt::Debug for NodeCaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeCaps")
    }
}
