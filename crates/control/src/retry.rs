//! When to try again.

use std::time::Duration;

use rt::Backoff;

/// While the outage is young, waits stay this short: a node must be back within seconds of its server.
const YOUNG_CAP: Duration = Duration::from_secs(2);
/// How many waits belong to a young outage; some three minutes of them.
const YOUNG_WAITS: u32 = 100;
/// By how much each later wait may be longer.
const STEP: Duration = Duration::from_millis(250);
/// The longest wait.
const CAP: Duration = Duration::from_secs(30);

/// Waits that grow as the originals' do, but stay short for the first minutes of an outage.
#[derive(Debug, Clone)]
pub struct Retry {
    backoff: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(YOUNG_CAP),
        }
    }
}

impl Retry {
    /// No failure so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.backoff.next_wait();
        let late = self.backoff.failures().saturating_sub(YOUNG_WAITS);
        (wait + STEP.saturating_mul(late)).min(CAP)
    }

    /// Waits as [`next_wait`](Self::next_wait) says.
    pub async fn wait(&mut self) {
        let wait = self.next_wait();
        tokio::time::sleep(wait).await;
    }

    /// After a success the next failure is the first again.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }
}
