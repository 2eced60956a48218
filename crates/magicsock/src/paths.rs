//! The direct paths to one peer: which addresses may work, and which one does.

use std::net::SocketAddr;
use std::time::Duration;

use host::Instant;

use crate::candidates::Candidates;
use crate::quality::Quality;

/// A path is trusted for this long after a pong: two lost heartbeats and a little more (`trustUDPAddrDuration`).
pub(crate) const TRUST: Duration = Duration::from_millis(6500);
/// Between two heartbeats (`heartbeatInterval`).
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(3);
/// A path as fast as this needs no better one (`goodEnoughLatency`).
const GOOD_ENOUGH: Duration = Duration::from_millis(5);
/// Better paths than the one in use are looked for this often (`upgradeUDPDirectInterval`).
const UPGRADE_EVERY: Duration = Duration::from_secs(60);
/// While there is no trusted path, a packet to send is a reason to look for one this often.
const KICK_GAP: Duration = Duration::from_secs(5);
/// A heartbeat that has no answer after this long, or three times the usual, makes the path doubtful.
const ANSWER_AT_LEAST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Best {
    quality: Quality,
    trusted_until: Instant,
    answered: Instant,
}

/// Where packets go at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) direct: Option<SocketAddr>,
    /// Whether that is known to work. If not, everything must go by the relay as well.
    pub(crate) trusted: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) candidates: Candidates,
    best: Option<Best>,
    last_full_ping: Option<Instant>,
    /// When packets last made us look for a path; none if the next packet should.
    kicked: Option<Instant>,
    /// The next heartbeat, while there is traffic.
    pub(crate) heartbeat_at: Option<Instant>,
    /// The last heartbeat, and when it should have been answered.
    unanswered_heartbeat: Option<(Instant, Instant)>,
    /// When data of the peer last came straight.
    pub(crate) data_at: Option<Instant>,
    /// A call-me-maybe waits until our own addresses are known afresh.
    pub(crate) call_waits: bool,
}

impl Paths {
    pub(crate) fn choose(&self, now: Instant) -> Choice {
        Choice {
            direct: self.best.map(|best| best.quality.addr),
            trusted: self.best.is_some_and(|best| now <= best.trusted_until),
        }
    }

    /// A heartbeat goes out on the path in use.
    pub(crate) fn note_heartbeat(&mut self, now: Instant) {
        self.unanswered_heartbeat = self.best.map(|best| {
            let wait = (best.quality.latency * 3).max(ANSWER_AT_LEAST);
            (now, now + wait)
        });
    }

    /// When [`doubt`](Self::doubt) is to be called.
    pub(crate) fn doubt_at(&self) -> Option<Instant> {
        self.unanswered_heartbeat.map(|(_, at)| at)
    }

    /// Ends the trust in a path from which neither an answer nor data has come since the last heartbeat. That is sooner than
    /// the originals do: a connection that is cut goes on by the relay before its next retransmission but one.
    pub(crate) fn doubt(&mut self, now: Instant) {
        let Some((sent, _)) = self.unanswered_heartbeat.take_if(|(_, at)| *at <= now) else {
            return;
        };
        let heard = self.data_at.is_some_and(|at| at >= sent);
        if let Some(best) = self.best.as_mut().filter(|_| !heard)
            && best.answered < sent
            && now <= best.trusted_until
        {
            best.trusted_until = sent;
            self.allow_kick();
        }
    }

    /// Something is sent without a trusted path; whether one should be looked for now.
    pub(crate) fn kick(&mut self, now: Instant) -> bool {
        if self.kicked.is_some_and(|at| now.since(at) < KICK_GAP) {
            return false;
        }
        self.kicked = Some(now);
        true
    }

    /// The next packet without a trusted path makes us look for one.
    pub(crate) fn allow_kick(&mut self) {
        self.kicked = None;
    }

    /// Whether all candidates should be pinged along with a heartbeat.
    pub(crate) fn wants_full_ping(&self, now: Instant) -> bool {
        let Some(best) = self.best.filter(|best| now <= best.trusted_until) else {
            return true;
        };
        let Some(last) = self.last_full_ping else {
            return true;
        };
        best.quality.latency > GOOD_ENOUGH && now.since(last) >= UPGRADE_EVERY
    }

    /// Which candidates to ping now. One that is no candidate any more is not in use any more either.
    pub(crate) fn full_ping(&mut self, now: Instant, all: bool) -> Vec<SocketAddr> {
        self.last_full_ping = Some(now);
        let addrs = self.candidates.take_due(now, all);
        self.drop_orphan();
        addrs
    }

    /// A ping to `to` was answered. Says whether that is the path in use from here on, and was not before.
    pub(crate) fn answered(&mut self, to: SocketAddr, latency: Duration, now: Instant) -> bool {
        if !self.candidates.contains(to) {
            return false;
        }
        let challenger = Quality { addr: to, latency };
        let is_better = self.best.is_none_or(|best| {
            now > best.trusted_until || challenger.is_better_than(&best.quality)
        });
        let was = self.best.map(|best| best.quality.addr);
        if is_better || was == Some(to) {
            self.best = Some(Best {
                quality: challenger,
                trusted_until: now + TRUST,
                answered: now,
            });
        }
        is_better && was != Some(to)
    }

    /// A ping to `to` was not answered. Says whether the path in use is given up.
    pub(crate) fn unanswered(&mut self, to: SocketAddr, now: Instant) -> bool {
        let dead = self
            .best
            .is_some_and(|best| best.quality.addr == to && now > best.trusted_until);
        if dead {
            self.best = None;
        }
        dead
    }

    /// The system says that there is no way to `to`.
    pub(crate) fn unreachable(&mut self, to: SocketAddr) -> bool {
        let hit = self.best.is_some_and(|best| best.quality.addr == to);
        if hit {
            self.best = None;
            self.allow_kick();
        }
        hit
    }

    /// Our own address has changed: nothing that worked before is known to work.
    pub(crate) fn reset(&mut self) {
        self.best = None;
        self.last_full_ping = None;
        self.allow_kick();
        self.candidates.reset();
    }

    /// Takes the addresses that the network map lists.
    pub(crate) fn configure(&mut self, listed: &[SocketAddr]) {
        if self.candidates.configure(listed) {
            self.allow_kick();
        }
        self.drop_orphan();
    }

    /// Takes the addresses of a call-me-maybe.
    pub(crate) fn call(&mut self, listed: &[SocketAddr]) {
        self.candidates.call(listed);
        self.drop_orphan();
    }

    fn drop_orphan(&mut self) {
        let lost = |best: &Best| !self.candidates.contains(best.quality.addr);
        if self.best.as_ref().is_some_and(lost) {
            self.best = None;
            self.allow_kick();
        }
    }
}
