//! A timer of the kernel's own. The runtime's wheel wakes two or three times for one deadline ten
//! seconds away, as it carries it from ring to ring: most of an idle agent's wake-ups.

use super::collect::registered;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// One deadline at a time, by the clock that counts sleep: what fell due while the machine slept fires
/// at once when it wakes.
#[derive(Debug)]
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self(registered(fd)?))
    }

    /// Waits; a later call replaces the deadline of an earlier one that was dropped.
    pub(super) async fn sleep(&self, pause: Duration) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Zero would disarm it.
        let pause = pause.max(Duration::from_nanos(1));
        let setting = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: pause.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &setting)?;
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut [0_u8; 8]) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_deadline_that_was_dropped_does_not_fire_for_the_next() {
        let timer = Timer::new().unwrap();
        let far = Duration::from_secs(3600);
        assert!(
            timeout(Duration::from_millis(1), timer.sleep(far))
                .await
                .is_err()
        );
        timer.sleep(Duration::ZERO).await.unwrap();
        timer.sleep(Duration::from_millis(1)).await.unwrap();
        assert!(
            timeout(Duration::from_millis(5), timer.sleep(far))
                .await
                .is_err()
        );
    }
}
