//! Waiting longer after each failure.

use std::time::Duration;

use rand_core::Rng as _;

use crate::OsRng;

/// Quadratic back-off with jitter: the n-th wait is n² · 10 ms · (0.5 to 1.5), at most `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off that never waits longer than `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { cap, failures: 0 }
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let n = u64::from(self.failures.min(10_000));
        let base = Duration::from_millis(n * n * 10).min(self.cap);
        let permille = 500 + u64::from(OsRng.next_u32()) % 1001;
        (base * u32::try_from(permille).unwrap_or(1000) / 1000).min(self.cap)
    }

    /// Waits as [`next_wait`](Self::next_wait) says.
    pub async fn wait(&mut self) {
        let wait = self.next_wait();
        tokio::time::sleep(wait).await;
    }

    /// After a success the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_under_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(2));
        assert!(backoff.next_wait() <= Duration::from_millis(15));
        for _ in 0..100 {
            assert!(backoff.next_wait() <= Duration::from_secs(2));
        }
        assert!(backoff.next_wait() >= Duration::from_secs(1));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(15));
    }
}
