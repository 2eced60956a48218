//! `watch-ipn-bus`: the first message, then what the bus says.

use std::sync::Arc;
use std::time::Duration;

use backend::Snapshot;
use futures_util::StreamExt as _;
use futures_util::stream;
use ipn::{EngineStatus, Notify, PeerStatusLite, State, WatchMask};
use localapi::{FELL_BEHIND, Reply, for_subscriber};
use packet::PeerId;
use rand_core::Rng as _;
use tokio::sync::mpsc;

use super::Api;
use crate::brain::BrainHandle;
use crate::bus::PeerWatcher;

/// How often engine figures go to those who want them.
const ENGINE_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn stream(api: &Api, mask: WatchMask, pid: Option<i32>) -> Reply {
    // Before the snapshot is read, so that nothing falls between the two.
    let messages = api.bus.subscribe(pid);
    let snapshot = api.brain.snapshot();
    let mut first = first_message(&snapshot, mask);
    if mask.intersects(WatchMask::INITIAL_STATUS) {
        first.initial_status = Some(Arc::new(api.status.read(true).await));
    }
    let first = stream::iter(mask.intersects(WatchMask::INITIAL).then(|| Arc::new(first)));
    let watcher = match mask.intersects(WatchMask::PEER_CHANGES | WatchMask::PEER_PATCHES) {
        true => Some(api.peer_watchers.join(&api.brain).await),
        false => None,
    };
    let following = Following {
        messages,
        brain: api.brain.clone(),
        mask,
        _watcher: watcher,
    };
    let rest = stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        match following.next().await {
            Some(message) => Some((message, Some(following))),
            None => Some((Arc::new(fell_behind()), None)),
        }
    });
    if !mask.intersects(WatchMask::ENGINE_UPDATES) {
        return Reply::Notifies(first.chain(rest).boxed());
    }
    let engine = api.engine.clone();
    let figures = stream::unfold(engine, |engine| async move {
        tokio::time::sleep(ENGINE_EVERY).await;
        let message = engine_figures(&engine.status().await);
        Some((Arc::new(message), engine))
    });
    Reply::Notifies(first.chain(stream::select(rest, figures)).boxed())
}

struct Following {
    messages: mpsc::Receiver<Arc<Notify>>,
    brain: BrainHandle,
    mask: WatchMask,
    _watcher: Option<PeerWatcher>,
}

impl Following {
    /// The next message with something in it for this subscriber; `None` once it was cut off.
    async fn next(&mut self) -> Option<Arc<Notify>> {
        loop {
            let message = self.messages.recv().await?;
            let whole_node = |id| {
                let snapshot = self.brain.snapshot();
                let netmap = snapshot.netmap.as_ref()?;
                netmap
                    .peers
                    .get(PeerId(id))
                    .map(|peer| Arc::new(peer.to_wire(netmap.suffix())))
            };
            if let Some(own) = for_subscriber(&message, self.mask, whole_node) {
                return Some(own);
            }
        }
    }
}

fn fell_behind() -> Notify {
    Notify {
        version: ipn::version::LONG.into(),
        err_message: Some(FELL_BEHIND.into()),
        ..Notify::default()
    }
}

fn first_message(snapshot: &Snapshot, mask: WatchMask) -> Notify {
    let mut first = Notify {
        version: ipn::version::LONG.into(),
        ..Notify::default()
    };
    if mask.intersects(WatchMask::INITIAL_STATE) {
        first.session_id = format!("{:016x}", rt::OsRng.next_u64());
        first.state = Some(snapshot.state);
        if snapshot.state == State::NeedsLogin && !snapshot.auth_url.is_empty() {
            first.browse_to_url = Some(snapshot.auth_url.clone());
        }
    }
    if mask.intersects(WatchMask::INITIAL_PREFS) {
        first.prefs = Some(Arc::clone(&snapshot.prefs));
    }
    if mask.intersects(WatchMask::INITIAL_HEALTH_STATE) {
        first.health = Some(Arc::clone(&snapshot.health));
    }
    if mask.intersects(WatchMask::INITIAL_NETMAP)
        && let Some(map) = &snapshot.netmap
    {
        first.self_change = Some(Arc::new(map.self_node.to_wire(map.suffix())));
    }
    if mask.intersects(WatchMask::INITIAL_CLIENT_VERSION) && snapshot.prefs.auto_update.check {
        first.client_version = snapshot.client_version.clone();
    }
    first
}

fn engine_figures(status: &dataplane::EngineStatus) -> Notify {
    let live: std::collections::BTreeMap<_, _> = status
        .peers
        .iter()
        .filter(|(_, peer)| peer.in_engine)
        .map(|(key, peer)| {
            let figures = PeerStatusLite {
                node_key: *key,
                tx_bytes: i64::try_from(peer.tx_bytes).unwrap_or(i64::MAX),
                rx_bytes: i64::try_from(peer.rx_bytes).unwrap_or(i64::MAX),
                last_handshake: peer
                    .last_handshake
                    .map(crate::status::go_time)
                    .unwrap_or_default(),
            };
            (*key, figures)
        })
        .collect();
    let engine = EngineStatus {
        r_bytes: live.values().map(|peer| peer.rx_bytes).sum(),
        w_bytes: live.values().map(|peer| peer.tx_bytes).sum(),
        num_live: live.len() as i64,
        live_derps: status.derps.len() as i64,
        live_peers: live,
    };
    Notify {
        version: ipn::version::LONG.into(),
        engine: Some(Arc::new(engine)),
        ..Notify::default()
    }
}
