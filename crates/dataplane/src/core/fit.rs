//! How long packets to a peer may be: what the kernel has heard of the way, and, where routers say nothing, what gets there.
//!
//! A way that is used is asked with a datagram as long as the longest packet's. If that is lost again and again, shorter ones are tried, and
//! the first that is answered is the limit for as long as the way is the same: a loss alone says nothing, for a dead way loses all.

use std::net::SocketAddr;
use std::time::Duration;

use host::Instant;
use magicsock::PingId;
use wireguard::sealed_len;

/// How often it is looked at what the kernel has heard, while a way is used.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take, and how many of one length must be missing.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;
/// When it is tried anew, whatever came of it.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
const UDP_HEADER: usize = 8;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
/// Nobody carries less (RFC 791: 576 bytes, with room for the headers around); who says so is not believed.
const LEAST_MTU: usize = 496;
/// Packets that are tried after those of the device's length, in the tunnel: what fits into 1280, 1124 and 576 bytes, and what lies between.
const SHORTER: [usize; 5] = [1216, 1056, 864, 656, LEAST_MTU];

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Ask the kernel.
    Kernel,
    /// Send a disco ping of this many bytes.
    Ping(usize),
}

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct Fit {
    to: SocketAddr,
    /// The device's.
    mtu: usize,
    kernel_asked: Option<Instant>,
    /// What the kernel has heard; 0 for all.
    by_kernel: usize,
    /// Which length is tried; 0 is the device's.
    step: usize,
    tries: u8,
    asked: Option<(PingId, Instant)>,
    next_ping: Instant,
    /// What got there where longer ones did not; 0 for all.
    by_pings: usize,
}

impl Fit {
    pub(crate) fn new(to: SocketAddr, mtu: usize, now: Instant) -> Self {
        Self {
            to,
            mtu,
            kernel_asked: None,
            by_kernel: 0,
            step: 0,
            tries: 0,
            asked: None,
            next_ping: now,
            by_pings: 0,
        }
    }

    pub(crate) fn to(&self) -> SocketAddr {
        self.to
    }

    /// The longest packet; 0 for all that the device takes.
    pub(crate) fn limit(&self) -> usize {
        match (self.by_kernel, self.by_pings) {
            (0, other) | (other, 0) => other,
            (kernel, pings) => kernel.min(pings),
        }
    }

    /// Whether routers on the way drop long packets and say nothing.
    pub(crate) fn is_hole(&self) -> bool {
        self.by_pings != 0
    }

    /// What to ask now: to be called while the way is used.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Ask> {
        if self
            .kernel_asked
            .is_none_or(|at| now.since(at) >= ASK_EVERY)
        {
            self.kernel_asked = Some(now);
            return Some(Ask::Kernel);
        }
        if let Some((_, at)) = self.asked {
            if now.since(at) < PATIENCE {
                return None;
            }
            self.lost(now);
        }
        let is_due = self.asked.is_none() && now >= self.next_ping && !self.is_hole();
        is_due.then(|| Ask::Ping(sealed_len(self.tried())))
    }

    /// When to poll although nobody uses the way: whoever waits for a packet that was lost sends little.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let is_searching = self.step > 0 || self.tries > 0;
        match self.asked {
            Some((_, at)) => Some(at + PATIENCE),
            None => is_searching.then_some(self.next_ping),
        }
    }

    /// The ping that was asked for is on its way.
    pub(crate) fn sent(&mut self, id: PingId, now: Instant) {
        self.asked = Some((id, now));
    }

    fn tried(&self) -> usize {
        let shorter = self.step.checked_sub(1).and_then(|at| SHORTER.get(at));
        shorter.copied().unwrap_or(self.mtu)
    }

    fn lost(&mut self, now: Instant) {
        self.asked = None;
        self.tries += 1;
        if self.tries < TRIES {
            return;
        }
        self.tries = 0;
        self.step += 1;
        if self.step > SHORTER.len() {
            // Nothing gets there, however short.
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.step = 0;
        self.tries = 0;
        self.asked = None;
        self.next_ping = now + AGAIN_AFTER;
    }

    /// A ping has come back by this way; says whether it was ours.
    pub(crate) fn answered(&mut self, id: PingId, by: SocketAddr, now: Instant) -> bool {
        let is_ours = self.asked.is_some_and(|(asked, _)| asked == id);
        if is_ours && by == self.to {
            self.by_pings = if self.step == 0 { 0 } else { self.tried() };
            self.rest(now);
        }
        is_ours
    }

    /// The kernel says that the way carries so much, headers included.
    pub(crate) fn heard(&mut self, outer: usize) {
        let inner = inner_mtu(outer, self.to.is_ipv6());
        self.by_kernel = if inner >= self.mtu { 0 } else { inner };
    }
}

/// The longest packet in a tunnel whose datagrams may be so long, headers included.
fn inner_mtu(outer: usize, v6: bool) -> usize {
    let around = UDP_HEADER + if v6 { V6_HEADER } else { V4_HEADER } + sealed_len(0);
    // Packets are sealed in steps of sixteen bytes.
    (outer.saturating_sub(around) & !15).max(LEAST_MTU)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: usize = 1280;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(100_000 + millis)
    }

    fn to() -> SocketAddr {
        ([192, 0, 2, 1], 41641).into()
    }

    /// Uses a way for so long, every half second, that carries so much; 0 carries nothing.
    fn use_way(fit: &mut Fit, carries: usize, seconds: u64) -> usize {
        let mut pings = 0;
        for turn in 0..seconds * 2 {
            let now = at(turn * 500);
            while let Some(ask) = fit.poll(now) {
                if let Ask::Ping(len) = ask {
                    pings += 1;
                    let id = PingId(pings as u64);
                    fit.sent(id, now);
                    if len <= carries {
                        assert!(fit.answered(id, to(), now));
                    }
                }
            }
        }
        pings
    }

    #[test]
    fn a_way_that_carries_all_has_no_limit_and_is_asked_seldom() {
        let mut fit = Fit::new(to(), MTU, at(0));
        let pings = use_way(&mut fit, 1400, 300);
        assert_eq!((fit.limit(), fit.is_hole()), (0, false));
        assert!((4..=6).contains(&pings), "{pings}");
    }

    #[test]
    fn where_long_packets_vanish_the_longest_that_arrives_is_the_limit() {
        for (carries, expected) in [(1252, 1216), (1096, 1056), (548, LEAST_MTU)] {
            let mut fit = Fit::new(to(), MTU, at(0));
            use_way(&mut fit, carries, 60);
            assert_eq!((fit.limit(), fit.is_hole()), (expected, true));
        }
    }

    #[test]
    fn a_dead_way_has_no_limit() {
        let mut fit = Fit::new(to(), MTU, at(0));
        use_way(&mut fit, 0, 300);
        assert_eq!((fit.limit(), fit.is_hole()), (0, false));
    }

    #[test]
    fn what_came_by_another_way_says_nothing() {
        let mut fit = Fit::new(to(), MTU, at(0));
        let other = ([192, 0, 2, 9], 1).into();
        let mut asked = 0;
        for turn in 0..60 {
            while let Some(ask) = fit.poll(at(turn * 500)) {
                if let Ask::Ping(_) = ask {
                    asked += 1;
                    fit.sent(PingId(asked), at(turn * 500));
                    fit.answered(PingId(asked), other, at(turn * 500));
                }
            }
        }
        assert_eq!((fit.limit(), fit.is_hole()), (0, false));
    }

    #[test]
    fn what_the_kernel_has_heard_counts() {
        let mut fit = Fit::new(to(), MTU, at(0));
        for (outer, expected) in [
            (1500, 0),
            (1340, 0),
            (1339, 1264),
            (1280, 1216),
            (1124, 1056),
            (68, LEAST_MTU),
        ] {
            fit.heard(outer);
            assert_eq!(fit.limit(), expected, "{outer}");
        }
    }
}
