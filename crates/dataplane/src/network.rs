//! What the engine must know of the tailnet.

use std::net::IpAddr;
use std::sync::Arc;

use derp::DerpMap;
use host::PeerConfig;

/// The tailnet as the packet engine sees it: derived from the netmap by the brain.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Our own addresses.
    pub self_addresses: Vec<IpAddr>,
    /// All peers.
    pub peers: Vec<PeerConfig>,
    /// The relays; `None` turns them off.
    pub derp_map: Option<Arc<DerpMap>>,
    /// Where our PeerAPI listens on our IPv4 address; 0 if it does not.
    pub peerapi_port_v4: u16,
    /// Where our PeerAPI listens on our IPv6 address; 0 if it does not.
    pub peerapi_port_v6: u16,
}
