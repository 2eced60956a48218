//! Pings that wait for their pong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host::Instant;
use packet::PeerId;
use packet::disco::TxId;

/// How long a pong may take (`pingTimeoutDuration`).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// The most pings that wait at once. People ask for them one at a time.
pub(crate) const MAX_WAITING: usize = 256;

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
    /// There is no relay for it: it has no home that we know, or relays are off.
    NoPath,
    /// The packet would not fit into a datagram.
    TooBig,
    /// Too many pings wait.
    Busy,
    /// No pong came within 5 s.
    TimedOut,
}

/// A pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PongReceived {
    /// Time since the ping.
    pub latency: Duration,
    /// The region that the ping was addressed to.
    pub region: u16,
}

#[derive(Debug)]
pub(crate) struct SentPing {
    pub(crate) id: PingId,
    pub(crate) peer: PeerId,
    pub(crate) region: u16,
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Pings {
    waiting: BTreeMap<TxId, SentPing>,
    deadlines: BTreeSet<(Instant, TxId)>,
}

impl Pings {
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    pub(crate) fn insert(&mut self, tx: TxId, ping: SentPing) {
        self.deadlines.insert((ping.at + TIMEOUT, tx));
        self.waiting.insert(tx, ping);
    }

    pub(crate) fn get(&self, tx: &TxId) -> Option<&SentPing> {
        self.waiting.get(tx)
    }

    pub(crate) fn remove(&mut self, tx: &TxId) -> Option<SentPing> {
        let ping = self.waiting.remove(tx)?;
        self.deadlines.remove(&(ping.at + TIMEOUT, *tx));
        Some(ping)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next ping whose time is over.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<SentPing> {
        let (at, tx) = *self.deadlines.first()?;
        if now < at {
            return None;
        }
        self.remove(&tx)
    }

    /// The next ping to a peer that is no more.
    pub(crate) fn remove_of(&mut self, peer: PeerId) -> Option<SentPing> {
        let tx = *self.waiting.iter().find(|(_, ping)| ping.peer == peer)?.0;
        self.remove(&tx)
    }
}
