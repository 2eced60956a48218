//! How often the interfaces are looked at.

use std::time::Duration;

use host::Instant;

/// How long the next look has to wait, after each of those that follow one another. A new lease is two changes within a millisecond, and
/// the second one is what counts; a flapping cable has changes without end.
const RESTS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
];
/// After so long without a look the next is a first one.
const QUIET: Duration = Duration::from_secs(5);

/// See [`RESTS`].
#[derive(Debug, Default)]
pub(super) struct Pace {
    looks: usize,
    last: Option<Instant>,
}

impl Pace {
    /// After a look: how long to rest.
    pub(super) fn rest(&mut self, now: Instant) -> Duration {
        let is_first = self.last.is_none_or(|last| now.since(last) > QUIET);
        self.looks = if is_first { 0 } else { self.looks + 1 };
        self.last = Some(now);
        let longest = RESTS.len() - 1;
        RESTS.get(self.looks.min(longest)).copied().unwrap_or(QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_looked_at_once_a_second() {
        let (mut pace, mut now) = (Pace::default(), Instant::ZERO);
        let start = now;
        let looks = (0..100).take_while(|_| {
            now += pace.rest(now);
            now.since(start) < Duration::from_secs(10)
        });
        assert_eq!(looks.count(), 12);
        // After a while of peace it is quick again.
        now += Duration::from_secs(6);
        assert_eq!(pace.rest(now), RESTS[0]);
        assert_eq!(pace.rest(now + RESTS[0]), RESTS[1]);
    }
}
