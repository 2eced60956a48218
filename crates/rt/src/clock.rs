//! The real clocks.

use std::time::Duration;

use host::{Clock, Instant, Wall};

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Instant {
        now()
    }

    fn wall(&self) -> Wall {
        wall()
    }
}

/// Monotonic time since the process's first look at the clock.
pub fn now() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let now = std::time::Instant::now();
    let start = *START.get_or_init(|| now);
    // A second of head start lets `now - timeout` in machines stay exact right after the start.
    let elapsed = now.saturating_duration_since(start) + Duration::from_secs(3600);
    Instant::ZERO + elapsed
}

/// Civil time.
pub fn wall() -> Wall {
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let now = std::time::SystemTime::now();
    match now.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => Wall::from_unix_nanos(since.as_nanos() as i128),
        Err(before) => Wall::from_unix_nanos(-(before.duration().as_nanos() as i128)),
    }
}

/// Sleeps until `deadline`.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep(now().until(deadline)).await;
}
