//! When a peer was last sent to and heard from, noted by the packet movers and read by the peer's timers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::Instant;

/// Time stamps of one peer, across its sessions. Noted once per batch.
///
/// A note answers whether a timer was armed by it: then the owner of the peer must ask
/// [`Peer::next_timeout`](crate::Peer::next_timeout) again.
#[derive(Debug, Default)]
pub struct Activity {
    /// The first data sent since the peer was last heard from.
    unanswered: Stamp,
    /// The first data received since we last sent anything.
    owed: Stamp,
    sent: Stamp,
    received: Stamp,
}

impl Activity {
    /// Something authenticated was sent; `data` says whether it was more than a keepalive.
    pub fn note_sent(&self, now: Instant, data: bool) -> bool {
        self.sent.set(now);
        self.owed.clear();
        data && self.unanswered.set_if_clear(now)
    }

    /// Something authenticated was received; `data` says whether it was more than a keepalive.
    pub fn note_received(&self, now: Instant, data: bool) -> bool {
        self.received.set(now);
        self.unanswered.clear();
        data && self.owed.set_if_clear(now)
    }

    /// When anything authenticated was last sent.
    pub fn last_sent(&self) -> Option<Instant> {
        self.sent.get()
    }

    /// When anything authenticated was last received.
    pub fn last_received(&self) -> Option<Instant> {
        self.received.get()
    }

    /// When the peer must be told that we are alive.
    pub(crate) fn keepalive_at(&self) -> Option<Instant> {
        self.owed.get().map(|since| since + KEEPALIVE)
    }

    /// When the peer, which does not answer, must be asked for a new session.
    pub(crate) fn silent_at(&self, jitter: Duration) -> Option<Instant> {
        let since = self.unanswered.get()?;
        Some(since + KEEPALIVE + REKEY_TIMEOUT + jitter)
    }

    pub(crate) fn take_owed(&self) {
        self.owed.clear();
    }

    pub(crate) fn take_unanswered(&self) {
        self.unanswered.clear();
    }
}

/// An optional instant in one atomic: zero is none, so the clock's start is rounded up by a nanosecond.
#[derive(Debug, Default)]
struct Stamp(AtomicU64);

impl Stamp {
    fn get(&self) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    fn set(&self, now: Instant) {
        self.0.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    fn set_if_clear(&self, now: Instant) -> bool {
        self.0
            .compare_exchange(
                0,
                now.as_nanos().max(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
