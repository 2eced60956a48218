//! The round trip time and the retransmission timeout that follows from it (RFC 6298).

use std::time::Duration;

const INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298 says one second; the reference and every kernel use this.
const MIN: Duration = Duration::from_millis(200);
pub(crate) const MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    backoff: u32,
}

impl Rtt {
    pub(crate) fn new() -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            backoff: 0,
        }
    }

    pub(crate) fn sample(&mut self, rtt: Duration) {
        self.backoff = 0;
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The timeout, doubled for each one that has passed in vain.
    pub(crate) fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            None => INITIAL,
            Some(smoothed) => (smoothed + self.variation * 4).clamp(MIN, MAX),
        };
        base.saturating_mul(1 << self.backoff.min(10)).min(MAX)
    }

    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The network answers again.
    pub(crate) fn progress(&mut self) {
        self.backoff = 0;
    }
}
