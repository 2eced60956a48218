//! Log lines that cannot flood.

use std::sync::Mutex;
use std::time::Duration;

use host::Instant;

/// A token bucket: `burst` lines at once, then one per `every`.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: u32,
    refilled: Instant,
}

impl RateLimit {
    /// A full bucket.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            state: Mutex::new(State {
                tokens: burst,
                refilled: Instant::ZERO,
            }),
        }
    }

    /// Whether one more line may be written at `now`.
    pub fn allow(&self, now: Instant) -> bool {
        let Ok(mut state) = self.state.lock() else {
            return false;
        };
        let elapsed = now.since(state.refilled).as_nanos();
        let fresh = u32::try_from(elapsed / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        if fresh > 0 {
            state.tokens = state.tokens.saturating_add(fresh).min(self.burst);
            state.refilled = now;
        }
        if state.tokens == 0 {
            return false;
        }
        state.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_a_trickle() {
        let limit = RateLimit::new(2, Duration::from_secs(5));
        let at = |s: u64| Instant::from_nanos(1_000_000_000 * s);
        assert!(limit.allow(at(100)));
        assert!(limit.allow(at(100)));
        assert!(!limit.allow(at(101)));
        assert!(limit.allow(at(105)));
        assert!(!limit.allow(at(106)));
    }
}
