//! What the engine can say about itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use host::Wall;
use keys::NodePublic;

/// The engine at one moment.
#[derive(Debug, Clone, Default)]
pub struct EngineStatus {
    /// The peers that we exchanged something with. A peer that is missing is idle.
    pub peers: BTreeMap<NodePublic, PeerStatus>,
    /// Open relay links, by region.
    pub derps: BTreeMap<u16, DerpLinkStatus>,
    /// Our home relay region; 0 for none.
    pub home_derp: u16,
    /// Where we may be reached, the surest first.
    pub endpoints: Vec<SocketAddr>,
}

impl EngineStatus {
    /// Peers with a tunnel that can carry data.
    pub fn live_peers(&self) -> usize {
        self.peers
            .values()
            .filter(|peer| peer.in_engine && peer.last_handshake.is_some())
            .count()
    }
}

/// One peer at one moment.
#[derive(Debug, Clone, Default)]
pub struct PeerStatus {
    /// Bytes received through the tunnel, as the tunnel's datagrams count.
    pub rx_bytes: u64,
    /// Bytes sent through the tunnel, as the tunnel's datagrams count.
    pub tx_bytes: u64,
    /// When the last handshake succeeded.
    pub last_handshake: Option<Wall>,
    /// When we last sent something that was not the engine's own upkeep.
    pub last_write: Option<Wall>,
    /// The direct address in use; `None` while relayed.
    pub cur_addr: Option<SocketAddr>,
    /// Whether we sent something in the last 45 s.
    pub active: bool,
    /// Whether tunnel state exists for it.
    pub in_engine: bool,
}

/// One relay link at one moment.
#[derive(Debug, Clone, Default)]
pub struct DerpLinkStatus {
    /// Whether it is connected.
    pub connected: bool,
    /// The problem that the region reports, or that keeps us from connecting; empty if none.
    pub trouble: String,
}
