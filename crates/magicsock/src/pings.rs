//! Pings that wait for their pong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use host::Instant;
use packet::PeerId;
use packet::disco::TxId;

/// How long a pong may take (`pingTimeoutDuration`).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// The most pings of people that wait at once. They ask for them one at a time.
pub(crate) const MAX_WAITING: usize = 256;
/// The most pings to one peer that wait at once: what a peer can make us send to addresses of its choice has an end.
pub(crate) const MAX_OF_PEER: usize = 256;

/// A ping that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PingId(pub u64);

/// Why a ping was not sent, or has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingFailure {
    /// No such peer is configured.
    NoSuchPeer,
    /// The peer speaks no disco.
    NoDisco,
    /// There is no path to it: it has no home that we know, or relays are off, and no address to try.
    NoPath,
    /// The packet would not fit into a datagram.
    TooBig,
    /// Too many pings wait.
    Busy,
    /// No pong came within 5 s.
    TimedOut,
}

/// Which way a ping went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By the relay of this region.
    Relay(u16),
    /// Straight to this address.
    Direct(SocketAddr),
}

/// A pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PongReceived {
    /// Time since the ping.
    pub latency: Duration,
    /// Where the ping was sent to. What the peer says of its source is of no interest.
    pub via: Via,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SentPing {
    /// Who asked for it, if somebody did.
    pub(crate) id: Option<PingId>,
    pub(crate) peer: PeerId,
    pub(crate) via: Via,
    pub(crate) at: Instant,
}

/// All of them. One ping of a person may have been sent by several ways; the first pong is its answer.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    waiting: BTreeMap<TxId, SentPing>,
    deadlines: BTreeSet<(Instant, TxId)>,
    by_peer: BTreeSet<(PeerId, TxId)>,
    /// The people who wait, and how many pings of theirs do.
    asked: BTreeMap<PingId, usize>,
}

impl Pings {
    /// Whether no more people may ask.
    pub(crate) fn is_full(&self) -> bool {
        self.asked.len() >= MAX_WAITING
    }

    /// Whether no more may be sent to this peer.
    pub(crate) fn is_full_for(&self, peer: PeerId) -> bool {
        self.of(peer).count() >= MAX_OF_PEER
    }

    pub(crate) fn insert(&mut self, tx: TxId, ping: SentPing) {
        self.deadlines.insert((ping.at + TIMEOUT, tx));
        self.by_peer.insert((ping.peer, tx));
        if let Some(id) = ping.id {
            *self.asked.entry(id).or_default() += 1;
        }
        self.waiting.insert(tx, ping);
    }

    pub(crate) fn get(&self, tx: &TxId) -> Option<&SentPing> {
        self.waiting.get(tx)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A pong came. Gives the ping, and who is to be told.
    pub(crate) fn answered(&mut self, tx: &TxId) -> Option<(SentPing, Option<PingId>)> {
        let ping = self.remove(tx)?;
        let asker = ping.id.filter(|id| self.asked.remove(id).is_some());
        Some((ping, asker))
    }

    /// The next ping whose time is over, and who must be told that there is no answer.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(SentPing, Option<PingId>)> {
        let (at, tx) = *self.deadlines.first()?;
        if now < at {
            return None;
        }
        self.lost(&tx)
    }

    /// The next ping to a peer that is no more, and who must be told.
    pub(crate) fn remove_of(&mut self, peer: PeerId) -> Option<(SentPing, Option<PingId>)> {
        let tx = self.of(peer).next()?;
        self.lost(&tx)
    }

    fn of(&self, peer: PeerId) -> impl Iterator<Item = TxId> + '_ {
        let all = (peer, TxId([0; 12]))..=(peer, TxId([0xff; 12]));
        self.by_peer.range(all).map(|(_, tx)| *tx)
    }

    /// Whoever asked is told when the last of the pings is lost.
    fn lost(&mut self, tx: &TxId) -> Option<(SentPing, Option<PingId>)> {
        let ping = self.remove(tx)?;
        let Some(id) = ping.id else {
            return Some((ping, None));
        };
        let Some(left) = self.asked.get_mut(&id) else {
            return Some((ping, None));
        };
        *left -= 1;
        let is_last = *left == 0;
        if is_last {
            self.asked.remove(&id);
        }
        Some((ping, is_last.then_some(id)))
    }

    fn remove(&mut self, tx: &TxId) -> Option<SentPing> {
        let ping = self.waiting.remove(tx)?;
        self.deadlines.remove(&(ping.at + TIMEOUT, *tx));
        self.by_peer.remove(&(ping.peer, *tx));
        Some(ping)
    }
}
