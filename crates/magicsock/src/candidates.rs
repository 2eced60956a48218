//! Where a peer might be reached directly.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::Instant;
use packet::addr::DERP_MAGIC;
use packet::disco::TxId;

/// The most candidates of one peer (the originals prune above this).
pub(crate) const MAX: usize = 100;
/// The most that are taken from one list: a network map or a call-me-maybe.
pub(crate) const MAX_LISTED: usize = 64;
/// A candidate is not pinged more often than this, except on a call-me-maybe (`discoPingInterval`).
pub(crate) const PING_GAP: Duration = Duration::from_secs(5);
/// What was learnt from a ping alone is forgotten when no ping has come from there for this long (`sessionActiveTimeout`).
const HEARD_TIMEOUT: Duration = Duration::from_secs(45);

/// How an address became a candidate; several may hold. Without any it is not one.
#[derive(Debug, Clone, Default)]
struct Candidate {
    /// The network map lists it.
    configured: bool,
    /// The peer's last call-me-maybe listed it.
    called: bool,
    /// A ping came from it, last at this time.
    heard: Option<Instant>,
    /// The last ping from it: its copies are not worth another answer.
    last_heard: Option<TxId>,
    last_ping: Option<Instant>,
}

impl Candidate {
    fn is_alive(&self, now: Instant) -> bool {
        let recently = |at: Instant| now.since(at) <= HEARD_TIMEOUT;
        self.configured || self.called || self.heard.is_some_and(recently)
    }
}

/// What a ping from somewhere means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The address is a candidate from here on.
    New,
    /// It was one already.
    Known,
    /// The same ping has come from there before.
    Copy,
    /// There are too many candidates that are better founded.
    Refused,
}

/// All candidates of one peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates(BTreeMap<SocketAddr, Candidate>);

impl Candidates {
    pub(crate) fn contains(&self, addr: SocketAddr) -> bool {
        self.0.contains_key(&addr)
    }

    #[cfg(test)]
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.0.keys().copied().collect()
    }

    /// Takes the list of the network map, which replaces the one before. Says whether there is a new candidate.
    pub(crate) fn configure(&mut self, listed: &[SocketAddr]) -> bool {
        for candidate in self.0.values_mut() {
            candidate.configured = false;
        }
        self.list(listed, |candidate| candidate.configured = true)
    }

    /// Takes the list of a call-me-maybe, which replaces the one before.
    pub(crate) fn call(&mut self, listed: &[SocketAddr]) {
        for candidate in self.0.values_mut() {
            candidate.called = false;
            // A call-me-maybe says that the other side is about to open its firewall: now is the time, whatever was tried
            // before.
            candidate.last_ping = None;
        }
        self.list(listed, |candidate| candidate.called = true);
    }

    fn list(&mut self, listed: &[SocketAddr], mark: impl Fn(&mut Candidate)) -> bool {
        let mut any_new = false;
        for addr in listed.iter().take(MAX_LISTED) {
            let addr = canonical(*addr);
            if !is_usable(addr) {
                continue;
            }
            any_new |= !self.contains(addr);
            if self.make_room_for(addr) {
                mark(self.0.entry(addr).or_default());
            }
        }
        // Those that only an old list named.
        self.0
            .retain(|_, c| c.configured || c.called || c.heard.is_some());
        any_new
    }

    /// A ping came from `addr`.
    pub(crate) fn hear(&mut self, addr: SocketAddr, tx: TxId, now: Instant) -> Heard {
        let is_known = self.contains(addr);
        if !self.make_room_for(addr) {
            return Heard::Refused;
        }
        let candidate = self.0.entry(addr).or_default();
        if candidate.last_heard.replace(tx) == Some(tx) {
            return Heard::Copy;
        }
        // What somebody else vouches for does not live by pings.
        if !is_known || candidate.heard.is_some() {
            candidate.heard = Some(now);
        }
        if is_known { Heard::Known } else { Heard::New }
    }

    /// Forgets those that have expired, and gives those to be pinged now: all, or those that were not pinged of late.
    pub(crate) fn take_due(&mut self, now: Instant, all: bool) -> Vec<SocketAddr> {
        self.0.retain(|_, candidate| candidate.is_alive(now));
        let due = |candidate: &&mut Candidate| {
            all || candidate
                .last_ping
                .is_none_or(|at| now.since(at) >= PING_GAP)
        };
        let mut addrs = Vec::new();
        for (addr, candidate) in &mut self.0 {
            if due(&candidate) {
                candidate.last_ping = Some(now);
                addrs.push(*addr);
            }
        }
        addrs
    }

    /// A candidate is pinged for another reason.
    pub(crate) fn note_ping(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(candidate) = self.0.get_mut(&addr) {
            candidate.last_ping = Some(now);
        }
    }

    /// Our own address has changed: what was tried from the old one means nothing.
    pub(crate) fn reset(&mut self) {
        for candidate in self.0.values_mut() {
            candidate.last_ping = None;
        }
    }

    /// Makes room for one more by forgetting the one, known by its pings only, that was silent the longest.
    fn make_room_for(&mut self, addr: SocketAddr) -> bool {
        if self.0.len() < MAX || self.contains(addr) {
            return true;
        }
        let only_heard = self
            .0
            .iter()
            .filter(|(_, c)| !c.configured && !c.called)
            .min_by_key(|(_, c)| c.heard)
            .map(|(addr, _)| *addr);
        only_heard.is_some_and(|addr| self.0.remove(&addr).is_some())
    }
}

/// IPv4 in IPv6 is IPv4, and scopes and flow labels mean nothing to others.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether a datagram could ever reach a peer there. Scopes are not passed on, so link-local IPv6 cannot.
fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let fits = match ip {
        IpAddr::V4(ip) => !ip.is_broadcast() && ip != DERP_MAGIC,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    fits && addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}
