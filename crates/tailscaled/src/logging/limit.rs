//! Lines that repeat are worth a few copies, not a full disk.
//!
//! Compat: the figures and the notes are the original's, which people search their logs for.

use std::collections::BTreeMap;
use std::time::Duration;

use host::Instant;

/// Lines of one place in the code: this many at once, then one per [`EVERY`].
const BURST: u32 = 5;
const EVERY: Duration = Duration::from_secs(5);
/// Places that are remembered.
const PLACES: usize = 100;
/// What a bug report says is asked for, and must be whole.
const EXEMPT: &str = "diag: ";

/// Counts the lines of each place that logs.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    places: BTreeMap<usize, Place>,
}

#[derive(Debug)]
struct Place {
    tokens: u32,
    refilled: Instant,
    /// Lines left out, counting the one with which that began.
    blocked: u64,
    used: Instant,
}

/// What is to be written: the notes around a line, and whether the line itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) before: Option<String>,
    pub(super) line: bool,
    pub(super) after: Option<String>,
}

impl Limiter {
    /// Judges a line from `place`.
    pub(super) fn judge(&mut self, place: usize, text: &str, now: Instant) -> Verdict {
        if text.starts_with(EXEMPT) {
            return Verdict {
                line: true,
                ..Verdict::default()
            };
        }
        self.forget_the_oldest(place);
        let fresh = Place {
            tokens: BURST,
            refilled: now,
            blocked: 0,
            used: now,
        };
        self.places.entry(place).or_insert(fresh).judge(text, now)
    }

    fn forget_the_oldest(&mut self, wanted: usize) {
        if self.places.len() < PLACES || self.places.contains_key(&wanted) {
            return;
        }
        let oldest = self.places.iter().min_by_key(|(_, place)| place.used);
        if let Some(oldest) = oldest.map(|(key, _)| *key) {
            self.places.remove(&oldest);
        }
    }
}

impl Place {
    fn judge(&mut self, text: &str, now: Instant) -> Verdict {
        self.used = now;
        self.refill(now);
        let mut verdict = Verdict::default();
        // Two at least, or it would stop and start with every line.
        if self.blocked > 0 && self.tokens >= 2 {
            if self.blocked > 1 {
                let dropped = self.blocked - 1;
                verdict.before = Some(format!("[RATELIMIT] format({text:?}) ({dropped} dropped)"));
            }
            self.blocked = 0;
        }
        if self.blocked > 0 || self.tokens == 0 {
            self.blocked += 1;
            return verdict;
        }
        self.tokens -= 1;
        verdict.line = true;
        if self.tokens == 0 {
            self.blocked = 1;
            verdict.after = Some(format!("[RATELIMIT] format({text:?})"));
        }
        verdict
    }

    fn refill(&mut self, now: Instant) {
        let fresh = now.since(self.refilled).as_nanos() / EVERY.as_nanos();
        if fresh > 0 {
            let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(fresh).min(BURST);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_burst_then_a_note_then_silence_until_there_is_room() {
        let mut limiter = Limiter::default();
        let mut judge = |second| limiter.judge(1, "x", at(second));
        for _ in 0..4 {
            assert_eq!(
                judge(0),
                Verdict {
                    line: true,
                    ..Verdict::default()
                }
            );
        }
        let last = judge(0);
        assert!(last.line);
        assert_eq!(last.after.as_deref(), Some("[RATELIMIT] format(\"x\")"));
        assert_eq!(judge(1), Verdict::default());
        // One token is not enough to start again.
        assert_eq!(judge(5), Verdict::default());
        let again = judge(10);
        assert!(again.line);
        assert_eq!(
            again.before.as_deref(),
            Some("[RATELIMIT] format(\"x\") (2 dropped)")
        );
    }

    #[test]
    fn places_do_not_disturb_each_other_and_are_bounded() {
        let mut limiter = Limiter::default();
        for _ in 0..9 {
            limiter.judge(0, "loud", at(0));
        }
        assert!(limiter.judge(1, "quiet", at(0)).line);
        for place in 2..1000 {
            limiter.judge(place, "many", at(1));
        }
        assert_eq!(limiter.places.len(), PLACES);
        // The loud one was forgotten, for it said nothing for longest.
        assert!(limiter.judge(0, "loud", at(1)).line);
    }

    #[test]
    fn bug_reports_are_whole() {
        let mut limiter = Limiter::default();
        assert!((0..50).all(|_| limiter.judge(1, "diag: routes", at(0)).line));
    }
}
