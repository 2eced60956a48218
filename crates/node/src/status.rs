//! `ipn::Status`: the snapshot and the engine's figures, put together.

use dataplane::Engine;
use host::Wall;
use tailcfg::go::GoTime;

use crate::StatusSource;
use crate::brain::BrainHandle;

/// Reads the node's status.
#[derive(Clone)]
pub(crate) struct StatusReader {
    pub(crate) has_tun: bool,
    pub(crate) brain: BrainHandle,
    pub(crate) engine: Engine,
}

impl StatusReader {
    pub(crate) async fn read(&self, peers: bool) -> ipn::Status {
        let engine = self.engine.status().await;
        let snapshot = self.brain.snapshot();
        let facts = backend::status::EngineFacts {
            tun: self.has_tun,
            endpoints: engine.endpoints.clone(),
            peers: engine
                .peers
                .iter()
                .map(|(key, peer)| (*key, peer_facts(peer)))
                .collect(),
        };
        backend::status::compose(&snapshot, &facts, peers)
    }
}

fn peer_facts(peer: &dataplane::PeerStatus) -> backend::status::PeerFacts {
    backend::status::PeerFacts {
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_handshake: peer.last_handshake,
        last_write: peer.last_write,
        cur_addr: peer.cur_addr,
        active: peer.active,
        in_engine: peer.in_engine,
    }
}

pub(crate) fn go_time(time: Wall) -> GoTime {
    GoTime::from_unix_nanos(time.as_unix_nanos())
}

impl StatusSource for StatusReader {
    fn status_json(&self) -> host::BoxFuture<'_, String> {
        Box::pin(async {
            let status = self.read(true).await;
            tailcfg::go::to_string_indent(&status, "\t").unwrap_or_default()
        })
    }
}
