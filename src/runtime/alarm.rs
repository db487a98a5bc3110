//! When the loop wakes by itself.
//!
//! A timerfd, because the timers of tokio are up to 2 ms late (whole milliseconds of its wheel, and again of
//! epoll_wait(2)): of checks that are 5 ms apart that is a third.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::edge::process::raw::heard;

pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        heard(timerfd_create(TimerfdClockId::Monotonic, flags)?).map(Alarm)
    }

    /// Returns at `deadline`, or never.
    pub async fn ring(&mut self, deadline: Option<Instant>) {
        self.set(deadline);
        let mut ticks = [0; 8];
        loop {
            let Ok(mut ready) = self.0.readable().await else { return };
            match rustix::io::read(&self.0, &mut ticks) {
                Ok(_) => return,
                // It rang for an earlier deadline.
                Err(_) => ready.clear_ready(),
            }
        }
    }

    fn set(&self, deadline: Option<Instant>) {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // Zero would be never.
        let (secs, nanos) = left.map_or((0, 0), |left| (left.as_secs(), left.subsec_nanos().max(1)));
        let value = Timespec { tv_sec: i64::try_from(secs).unwrap_or(i64::MAX), tv_nsec: nanos.into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).expect("a timer of our own, and a time in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_rings_for_the_last_deadline_alone_and_never_early() {
        let mut alarm = Alarm::new().expect("a timer");
        let begun = Instant::now();
        alarm.ring(Some(begun)).await;
        alarm.set(Some(begun));
        let later = begun + Duration::from_millis(20);
        alarm.ring(Some(later)).await;
        assert!(Instant::now() >= later);
        alarm.set(Some(later));
        let never = tokio::time::timeout(Duration::from_millis(20), alarm.ring(None)).await;
        assert!(never.is_err());
    }
}
