//! The peers, and how their keys lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use host::{Instant, PeerConfig};
use keys::{DiscoPublic, NodePublic};
use packet::PeerId;

use crate::LinkId;
use crate::paths::Paths;

/// A session counts as active for this long after the last send (`sessionActiveTimeout`).
pub(crate) const ACTIVE: Duration = Duration::from_secs(45);

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: NodePublic,
    /// The disco key in use.
    pub(crate) disco: DiscoPublic,
    /// The disco key of the last configuration. The one in use is newer if the peer told us inside the tunnel.
    configured: DiscoPublic,
    /// 0 if unknown.
    pub(crate) home: u16,
    /// The link on which its packets arrived last.
    pub(crate) heard_on: Option<LinkId>,
    pub(crate) last_send: Option<Instant>,
    pub(crate) paths: Paths,
    /// When it wants its turn; see [`Peers::wake_at`].
    wake_at: Option<Instant>,
}

/// How a peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// When something was last sent to it that was not an answer to disco.
    pub last_send: Option<Instant>,
    /// Whether that was in the last 45 s.
    pub active: bool,
    /// The direct address in use, if it is known to work.
    pub direct: Option<SocketAddr>,
}

/// What a configuration did to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// It restarted: its sessions are dead although their keys have not expired.
    Restarted,
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
    by_key: BTreeMap<NodePublic, PeerId>,
    /// Several nodes may share one disco key: node sharing, and people who switch accounts.
    by_disco: BTreeSet<(DiscoPublic, PeerId)>,
    /// When each peer that wants a turn wants it. Idle ones want none.
    turns: BTreeSet<(Instant, PeerId)>,
}

impl Peers {
    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn by_key(&self, key: &NodePublic) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn knows_disco(&self, disco: &DiscoPublic) -> bool {
        self.of_disco(disco).next().is_some()
    }

    /// The peers with this disco key.
    pub(crate) fn of_disco(&self, disco: &DiscoPublic) -> impl Iterator<Item = PeerId> + '_ {
        let all = (*disco, PeerId(i64::MIN))..=(*disco, PeerId(i64::MAX));
        self.by_disco.range(all).map(|(_, id)| *id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.by_id.keys().copied()
    }

    /// When the first peer wants its turn.
    pub(crate) fn next_turn(&self) -> Option<Instant> {
        self.turns.first().map(|(at, _)| *at)
    }

    /// The next peer whose turn has come. It wants none from here on, until it says so.
    pub(crate) fn take_turn(&mut self, now: Instant) -> Option<PeerId> {
        let (at, id) = *self.turns.first()?;
        if at > now {
            return None;
        }
        self.wake_at(id, None);
        Some(id)
    }

    /// Gives a peer its turn then, or before if it wanted that.
    pub(crate) fn wake_by(&mut self, id: PeerId, at: Instant) {
        let wanted = self.get(id).and_then(|peer| peer.wake_at);
        if wanted.is_none_or(|wanted| at < wanted) {
            self.wake_at(id, Some(at));
        }
    }

    /// Gives a peer its turn then, and not at any other time.
    pub(crate) fn wake_at(&mut self, id: PeerId, at: Option<Instant>) {
        let Some(peer) = self.by_id.get_mut(&id) else {
            return;
        };
        if peer.wake_at == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut peer.wake_at, at) {
            self.turns.remove(&(old, id));
        }
        if let Some(at) = at {
            self.turns.insert((at, id));
        }
    }

    /// Adds or updates a peer. A key that another peer already has is not taken over: the first one keeps it.
    pub(crate) fn upsert(&mut self, config: &PeerConfig) -> Change {
        if self.by_key(&config.key).is_some_and(|id| id != config.id) {
            return Change::None;
        }
        if self.get(config.id).is_some_and(|old| old.key != config.key) {
            self.remove(config.id);
        }
        let Some(old) = self.by_id.get_mut(&config.id) else {
            self.insert(config);
            return Change::None;
        };
        old.home = config.home_derp;
        old.paths.configure(&config.endpoints);
        if old.configured == config.disco {
            return Change::None;
        }
        let known = !old.configured.is_zero();
        old.configured = config.disco;
        let changed = self.set_disco(config.id, config.disco);
        if known && changed {
            Change::Restarted
        } else {
            Change::None
        }
    }

    /// Uses another disco key for a peer; says whether it is another one.
    pub(crate) fn set_disco(&mut self, id: PeerId, disco: DiscoPublic) -> bool {
        let Some(peer) = self.by_id.get_mut(&id) else {
            return false;
        };
        let before = std::mem::replace(&mut peer.disco, disco);
        if before == disco {
            return false;
        }
        self.unindex_disco(before, id);
        self.index_disco(disco, id);
        true
    }

    fn insert(&mut self, config: &PeerConfig) {
        let mut paths = Paths::default();
        paths.configure(&config.endpoints);
        let peer = Peer {
            key: config.key,
            disco: config.disco,
            configured: config.disco,
            home: config.home_derp,
            heard_on: None,
            last_send: None,
            paths,
            wake_at: None,
        };
        self.by_key.insert(config.key, config.id);
        self.by_id.insert(config.id, peer);
        self.index_disco(config.disco, config.id);
    }

    pub(crate) fn remove(&mut self, id: PeerId) {
        self.wake_at(id, None);
        let Some(peer) = self.by_id.remove(&id) else {
            return;
        };
        self.by_key.remove(&peer.key);
        self.unindex_disco(peer.disco, id);
    }

    /// Forgets which direct paths work.
    pub(crate) fn reset_paths(&mut self) {
        for peer in self.by_id.values_mut() {
            peer.paths.reset();
        }
    }

    /// Gives up the paths to `addr`; says whose they were.
    pub(crate) fn lose_path(&mut self, addr: SocketAddr) -> Vec<(NodePublic, DiscoPublic)> {
        let all = self.by_id.values_mut();
        all.filter_map(|peer| {
            let lost = peer.paths.unreachable(addr);
            lost.then_some((peer.key, peer.disco))
        })
        .collect()
    }

    /// Forgets that anybody was heard on `link`.
    pub(crate) fn forget_link(&mut self, link: LinkId) {
        for peer in self.by_id.values_mut() {
            if peer.heard_on == Some(link) {
                peer.heard_on = None;
            }
        }
    }

    fn index_disco(&mut self, disco: DiscoPublic, id: PeerId) {
        if !disco.is_zero() {
            self.by_disco.insert((disco, id));
        }
    }

    fn unindex_disco(&mut self, disco: DiscoPublic, id: PeerId) {
        self.by_disco.remove(&(disco, id));
    }
}

impl Peer {
    pub(crate) fn is_active(&self, now: Instant) -> bool {
        self.last_send.is_some_and(|at| now.since(at) < ACTIVE)
    }

    pub(crate) fn view(&self, now: Instant) -> PeerView {
        let choice = self.paths.choose(now);
        PeerView {
            last_send: self.last_send,
            active: self.is_active(now),
            direct: choice.direct.filter(|_| choice.trusted),
        }
    }
}
