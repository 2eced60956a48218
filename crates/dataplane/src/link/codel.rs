//! CoDel (RFC 8289): how long packets wait says whether a queue only takes a burst or stands. A standing queue loses a packet now and
//! then, more often the longer it stands, so that senders slow down; a burst loses none.

use std::time::Duration;

use host::Instant;

/// A queue that never empties faster than this stands.
pub(crate) const TARGET: Duration = Duration::from_millis(5);
/// For so long a burst may take to drain: about the longest usual round trip.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// With no more than a packet waiting there is nothing to gain.
const LEAST_BYTES: usize = 1500;

/// What is known of one queue.
#[derive(Debug, Default)]
pub(crate) struct Codel {
    /// When packets will have waited too long for too long.
    stands_at: Option<Instant>,
    /// While packets are dropped: when the next one is.
    next_drop: Option<Instant>,
    /// Drops of this time, and of the time before.
    drops: u32,
    drops_before: u32,
    ended: Option<Instant>,
}

impl Codel {
    /// Looks at what is taken out next, which has waited since `since`, with `left` bytes behind it. Says whether a packet of it should
    /// be dropped.
    pub(crate) fn handle_dequeue(&mut self, since: Instant, left: usize, now: Instant) -> bool {
        let stands = self.stands(since, left, now);
        let Some(next) = self.next_drop else {
            if !stands {
                return false;
            }
            self.begin(now);
            return true;
        };
        if !stands {
            self.next_drop = None;
            self.ended = Some(now);
            return false;
        }
        if now < next {
            return false;
        }
        self.drops = self.drops.saturating_add(1);
        self.next_drop = Some(next + spacing(self.drops));
        true
    }

    /// Nothing waits.
    pub(crate) fn handle_empty(&mut self, now: Instant) {
        self.stands_at = None;
        if self.next_drop.take().is_some() {
            self.ended = Some(now);
        }
    }

    fn stands(&mut self, since: Instant, left: usize, now: Instant) -> bool {
        if now.since(since) < TARGET || left <= LEAST_BYTES {
            self.stands_at = None;
            return false;
        }
        now >= *self.stands_at.get_or_insert(now + INTERVAL)
    }

    /// If it was bad a moment ago, it goes on about where it was.
    fn begin(&mut self, now: Instant) {
        let is_recent = self
            .ended
            .is_some_and(|ended| now.since(ended) < INTERVAL * 16);
        let grown = self.drops.saturating_sub(self.drops_before);
        let start = if is_recent && grown > 1 { grown } else { 1 };
        self.drops = start;
        self.drops_before = start;
        self.next_drop = Some(now + spacing(start));
    }
}

/// The time between drops falls with the root of their number, as TCP's speed does.
fn spacing(drops: u32) -> Duration {
    INTERVAL.div_f64(f64::from(drops.max(1)).sqrt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FULL: usize = 1 << 20;

    fn start() -> Instant {
        Instant::ZERO + Duration::from_secs(1000)
    }

    /// Drops while each packet has waited for `wait`, one packet each millisecond.
    fn drops(codel: &mut Codel, from: u32, to: u32, wait: Duration) -> Vec<u32> {
        let at = |ms: u32| start() + MS * ms;
        (from..to)
            .filter(|ms| codel.handle_dequeue(at(*ms) - wait, FULL, at(*ms)))
            .collect()
    }

    #[test]
    fn a_burst_loses_nothing() {
        let mut codel = Codel::default();
        assert!(drops(&mut codel, 0, 99, MS * 50).is_empty());
        assert!(drops(&mut codel, 99, 300, MS * 4).is_empty());
        // The patience is there again.
        assert!(drops(&mut codel, 300, 399, MS * 50).is_empty());
    }

    #[test]
    fn a_standing_queue_loses_more_and_more() {
        let mut codel = Codel::default();
        // 100, then 100/1, 100/√2, 100/√3 … later.
        assert_eq!(
            drops(&mut codel, 0, 500, MS * 20),
            [100, 200, 271, 329, 379, 424, 464]
        );
        // Little left, or a short wait, ends it.
        assert!(!codel.handle_dequeue(start(), LEAST_BYTES, start() + MS * 600));
        assert!(drops(&mut codel, 601, 700, MS * 20).is_empty());
        // Soon bad again: it goes on as fast as it was.
        let again = drops(&mut codel, 700, 800, MS * 20);
        assert!(again.len() >= 2, "{again:?}");
    }

    #[test]
    fn an_empty_queue_stands_no_more() {
        let mut codel = Codel::default();
        drops(&mut codel, 0, 150, MS * 20);
        codel.handle_empty(start() + MS * 150);
        assert!(drops(&mut codel, 151, 250, MS * 20).is_empty());
    }

    proptest! {
        /// A sender that halves its rate at each loss and otherwise grows, before a link of one packet each millisecond.
        #[test]
        fn a_standing_queue_comes_down_to_the_target(
            first_rate in 1.0f64..4.0,
            growth in 0.0002f64..0.002,
        ) {
            let mut codel = Codel::default();
            let mut queue = std::collections::VecDeque::new();
            let (mut rate, mut credit) = (first_rate, 0.0);
            let mut waits = Vec::new();
            for ms in 0..20_000u32 {
                let now = start() + MS * ms;
                credit += rate;
                while credit >= 1.0 {
                    credit -= 1.0;
                    queue.push_back(now);
                }
                rate += growth;
                let Some(since) = queue.pop_front() else {
                    codel.handle_empty(now);
                    continue;
                };
                waits.push(now.since(since));
                if codel.handle_dequeue(since, queue.len() * 1400, now) {
                    rate /= 2.0;
                }
            }
            let late = &waits[waits.len() / 2..];
            let mean = late.iter().sum::<Duration>() / late.len() as u32;
            prop_assert!(mean < INTERVAL, "{mean:?}");
        }
    }
}
