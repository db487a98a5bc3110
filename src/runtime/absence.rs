//! Whether this loop was away: the machine slept, the controller was stopped (SIGSTOP, a debugger, a frozen
//! cgroup), or one turn took longer than a check may take.
//!
//! What failed meanwhile says nothing about the services, so the brain is told (`Input::Awoke`).
//! CLOCK_MONOTONIC stands still while the machine sleeps and CLOCK_BOOTTIME does not: their distance
//! is the time slept, whatever is done to the wall clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A check has a second by default: a loop that is away for longer can lose any.
const AWAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Absence {
    /// The time slept since the machine was booted, as far as it is known.
    slept: Duration,
}

impl Absence {
    pub fn new() -> Absence {
        Absence { slept: slept() }
    }

    /// Called when the loop wakes, so much later than it was to.
    pub fn on_wake(&mut self, late: Option<Duration>) -> bool {
        let slept = slept();
        let by_machine = is_long(slept.saturating_sub(self.slept));
        self.slept = slept;
        by_machine || late.is_some_and(is_long)
    }
}

/// Whether the loop was away for so long that it matters.
pub(super) fn is_long(span: Duration) -> bool {
    span > AWAY
}

fn slept() -> Duration {
    let since_boot = clock_gettime(ClockId::Boottime);
    let awake = super::monotonic();
    Duration::new(since_boot.tv_sec.max(0) as u64, since_boot.tv_nsec.max(0) as u32).saturating_sub(awake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_in_time_is_none_and_one_that_is_late_by_seconds_is_one() {
        let mut absence = Absence::new();
        let at = Duration::from_secs;
        assert!(!absence.on_wake(None));
        assert!(!absence.on_wake(Some(at(1))));
        assert!(absence.on_wake(Some(at(2))));
        // As if the machine had slept for a minute since; it cannot have on one that never did.
        absence.slept = absence.slept.saturating_sub(at(60));
        assert_eq!(absence.on_wake(None), slept() > at(61), "the clocks have moved apart");
        assert!(!absence.on_wake(None), "and that is known now");
    }
}
