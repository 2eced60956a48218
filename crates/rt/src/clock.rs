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

/// Monotonic time since the process's first look at the clock; time that the machine sleeps counts.
pub fn now() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Duration> = OnceLock::new();
    let now = since_boot();
    let start = *START.get_or_init(|| now);
    // Some head start lets `now - timeout` in machines stay exact right after the start.
    Instant::ZERO + now.saturating_sub(start) + Duration::from_secs(3600)
}

/// Time on a clock that goes on while the machine sleeps.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    // There it is the uptime clocks that stop.
    #[cfg(target_vendor = "apple")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(CLOCK);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    // Neither is negative.
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}

/// The standard library's clock: it stands still during sleep on some systems.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    static FIRST: OnceLock<std::time::Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let now = std::time::Instant::now();
    now.saturating_duration_since(*FIRST.get_or_init(|| now))
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
