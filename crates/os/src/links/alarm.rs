//! A timer that a machine which wakes up finds expired if its time has come meanwhile: the runtime's own stand still during sleep.

use std::io;
use std::os::fd::OwnedFd;

use host::Instant;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// One timer of the kernel (timerfd_create(2)); it does not wake the machine.
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// Must be called inside the async runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; an `OwnedFd`'s does not"
        )]
        AsyncFd::new(timer).map(Self)
    }

    /// Resolves at `deadline`, or soon after the machine has woken if it slept then. Whoever gives up waiting loses nothing.
    pub(super) async fn at(&self, deadline: Instant) -> io::Result<()> {
        let wait = rt::now().until(deadline);
        // No time at all would disarm it.
        let nanos = i64::from(wait.subsec_nanos()).max(i64::from(wait.is_zero()));
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: nanos,
            },
        };
        // Setting it anew forgets that it has expired before.
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let expired = ready.try_io(|timer| {
                let mut count = [0; 8];
                rustix::io::read(timer, &mut count).map_err(io::Error::from)
            });
            match expired {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_expires_again_and_again_and_never_early() {
        let alarm = Alarm::new().unwrap();
        for wait in [0, 1, 20] {
            let deadline = rt::now() + Duration::from_millis(wait);
            alarm.at(deadline).await.unwrap();
            assert!(rt::now() >= deadline);
        }
        // One that nobody waits for any more does not count.
        let far = rt::now() + Duration::from_secs(3600);
        let given_up = tokio::time::timeout(Duration::from_millis(5), alarm.at(far)).await;
        assert!(given_up.is_err());
        let deadline = rt::now() + Duration::from_millis(20);
        alarm.at(deadline).await.unwrap();
        assert!(rt::now() >= deadline);
    }
}
