//! The congestion window: CUBIC (RFC 9438) with its Reno-friendly region.

use std::time::Duration;

use host::Instant;

/// RFC 9438 4.1 and 4.6.
const C: f64 = 0.4;
const BETA: f64 = 0.7;
/// RFC 6928.
const INITIAL_SEGMENTS: usize = 10;

#[derive(Debug, Clone)]
pub(crate) struct Cubic {
    mss: f64,
    window: f64,
    threshold: f64,
    /// The window before the last reduction.
    peak: f64,
    epoch: Option<Epoch>,
}

/// One stretch of growth between two reductions.
#[derive(Debug, Clone)]
struct Epoch {
    start: Instant,
    /// The window around which growth is slowest.
    origin: f64,
    /// Seconds until it is reached.
    k: f64,
    /// What Reno would have.
    reno: f64,
}

impl Cubic {
    pub(crate) fn new(mss: usize) -> Self {
        let mss = mss as f64;
        Self {
            mss,
            window: mss * INITIAL_SEGMENTS as f64,
            threshold: f64::MAX,
            peak: 0.0,
            epoch: None,
        }
    }

    /// In bytes.
    pub(crate) fn window(&self) -> usize {
        self.window as usize
    }

    /// `acked` new bytes were confirmed, while the window was what limited the sender.
    pub(crate) fn on_ack(&mut self, acked: usize, rtt: Duration, now: Instant) {
        let acked = acked as f64;
        if self.window < self.threshold {
            self.window = (self.window + acked).min(self.threshold.max(self.window + self.mss));
            return;
        }
        let (window, peak, mss) = (self.window, self.peak, self.mss);
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            start: now,
            origin: peak.max(window),
            k: ((peak - window).max(0.0) / mss / C).cbrt(),
            reno: window,
        });
        epoch.reno += mss * (3.0 * (1.0 - BETA) / (1.0 + BETA)) * acked / window;
        let at = (now.since(epoch.start) + rtt).as_secs_f64() - epoch.k;
        let cubic = (C * at * at * at * mss + epoch.origin).clamp(window, window * 1.5);
        let target = cubic.max(epoch.reno);
        // At most the target after one round trip.
        self.window += ((target - window) * acked / window).max(0.0);
    }

    /// A loss was repaired without silence.
    pub(crate) fn on_loss(&mut self, in_flight: usize) {
        self.reduce(in_flight);
        self.window = self.threshold;
    }

    /// Nothing came back for a whole timeout.
    pub(crate) fn on_timeout(&mut self, in_flight: usize) {
        self.reduce(in_flight);
        self.window = self.mss;
    }

    /// Nothing was sent for longer than the timeout: the window says nothing about the network any more (RFC 5681 4.1).
    pub(crate) fn on_idle(&mut self) {
        self.window = self.window.min(self.mss * INITIAL_SEGMENTS as f64);
        self.epoch = None;
    }

    fn reduce(&mut self, in_flight: usize) {
        let window = self.window.min((in_flight as f64).max(self.mss * 2.0));
        // RFC 9438 4.7: give way faster when the peak has sunk.
        self.peak = if window < self.peak {
            window * (1.0 + BETA) / 2.0
        } else {
            window
        };
        self.threshold = (window * BETA).max(self.mss * 2.0);
        self.epoch = None;
    }
}
