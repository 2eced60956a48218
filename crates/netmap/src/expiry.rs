//! Keys that run out, judged by the control server's clock.

use host::Wall;
use tailcfg::go::GoTime;

/// Below this difference clocks count as equal.
const MIN_OFFSET_NANOS: i128 = 60 * 1_000_000_000;
/// January 2023. A clock that says less is wrong, and nothing is judged by it.
const EPOCH_NANOS: i128 = 1_673_373_066 * 1_000_000_000;

/// How far the control server's clock is ahead of ours. Kept so that a wrong clock here does not make everybody expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockOffset(i128);

impl ClockOffset {
    /// Learns from a `ControlTime` that came in at `now`. Differences under a minute are the network's.
    #[must_use]
    pub fn learn(control_time: GoTime, now: Wall) -> Self {
        let offset = control_time.unix_nanos() - now.as_unix_nanos();
        Self(if offset.abs() > MIN_OFFSET_NANOS {
            offset
        } else {
            0
        })
    }

    /// Whether another measurement says about the same.
    #[must_use]
    pub fn is_near(self, other: Self) -> bool {
        (self.0 - other.0).abs() <= MIN_OFFSET_NANOS
    }

    /// The control server's time; `None` if it cannot be right.
    #[must_use]
    pub fn control_now(self, now: Wall) -> Option<GoTime> {
        let nanos = now.as_unix_nanos().saturating_add(self.0);
        (nanos >= EPOCH_NANOS).then(|| GoTime::from_unix_nanos(nanos))
    }

    /// When our clock shows what the control server's shows at `time`.
    #[must_use]
    pub fn local(self, time: GoTime) -> Wall {
        Wall::from_unix_nanos(time.unix_nanos().saturating_sub(self.0))
    }
}
