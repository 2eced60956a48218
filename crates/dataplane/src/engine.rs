//! The handle to the engine.

use std::io;
use std::sync::Arc;

use host::{PeerConfig, UdpBinder};
use keys::{DiscoPublic, NodePrivate};
use metrics::UserMetrics;
use packet::PeerId;
use tokio::sync::mpsc;

use crate::{EngineEvent, EngineStatus, Network, PingError, PingRequest, Pong};

/// What the engine needs of the world.
pub struct EngineConfig {
    /// Makes the UDP sockets that probe relays.
    pub udp: Arc<dyn UdpBinder>,
    /// What it counts.
    pub metrics: Arc<UserMetrics>,
}

/// The running engine. Clones are handles to the same one; it stops when the last is dropped.
#[derive(Clone)]
pub struct Engine {
    disco: DiscoPublic,
}

/// What the engine reports, in order.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<EngineEvent>);

impl Events {
    /// The next event; `None` once the engine has stopped.
    pub async fn recv(&mut self) -> Option<EngineEvent> {
        self.0.recv().await
    }
}

impl Engine {
    /// Starts the engine's thread. Must be called inside the async runtime, which carries the relay links.
    pub fn start(config: EngineConfig) -> io::Result<(Self, Events)> {
        drop(config);
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the packet engine is not built yet",
        ))
    }

    /// Our disco key, fresh at every start. Control must be told.
    pub fn disco_key(&self) -> DiscoPublic {
        self.disco
    }

    /// Sets our WireGuard key; `None` closes all links and sessions.
    pub fn set_keys(&self, key: Option<NodePrivate>) {
        drop(key);
    }

    /// Replaces all that is known of the tailnet. What did not change keeps its sessions; `None` drops every packet.
    pub fn set_network(&self, network: Option<Arc<Network>>) {
        drop(network);
    }

    /// Adds or replaces one peer of the network.
    pub fn upsert_peer(&self, peer: PeerConfig) {
        drop(peer);
    }

    /// Removes one peer of the network.
    pub fn remove_peer(&self, peer: PeerId) {
        let _ = peer;
    }

    /// Whether relay links may be open: off while the user wants to be down or the network is.
    pub fn set_derp_running(&self, running: bool) {
        let _ = running;
    }

    /// Whether a map is being streamed from control: only then may the home relay move, as only then peers would learn it.
    pub fn set_map_streaming(&self, streaming: bool) {
        let _ = streaming;
    }

    /// Our links changed: probes the relays anew. `major` also checks every relay link at once and drops the dead.
    pub fn link_changed(&self, major: bool) {
        let _ = major;
    }

    /// Pings a peer.
    pub async fn ping(&self, request: PingRequest) -> Result<Pong, PingError> {
        let _ = request;
        std::future::ready(Err(PingError::Stopped)).await
    }

    /// The engine at this moment; empty once it has stopped.
    pub async fn status(&self) -> EngineStatus {
        std::future::ready(EngineStatus::default()).await
    }
}
