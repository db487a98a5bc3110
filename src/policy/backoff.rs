//! The ladder: how long to wait before the next try.
//!
//! Step 0 waits 0; step n waits `initial × factor^(n-1)`, at most `max`. With the defaults: 0, 1, 2,
//! 4, 8, 16, 32, 60, 60 … s. A delay may be shortened by a random share of at most `jitter`, never
//! lengthened. The numbers come from the crate `backoff`, used as a calculator only: its random
//! factor is 0, it never gives up by itself, and what its clock says is thrown away.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use crate::model::spec::Backoff as Rule;

/// Rungs that are climbed at most; with the smallest sensible factor (1.01) an hour is reached
/// from a second well before.
const STEPS_MAX: u32 = 1_024;

/// The full delay at `step`, before any jitter.
pub fn delay(rule: &Rule, step: u32) -> Duration {
    if step == 0 || rule.max.is_zero() {
        return Duration::ZERO;
    }
    if step == 1 {
        return rule.initial.min(rule.max);
    }
    let factor = if rule.factor.is_finite() { rule.factor.max(1.0) } else { 1.0 };
    let mut calculator = ExponentialBackoff {
        current_interval: rule.initial.min(rule.max),
        initial_interval: rule.initial.min(rule.max),
        randomization_factor: 0.0,
        multiplier: factor,
        max_interval: rule.max,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut reached = Duration::ZERO;
    for _ in 0..step.min(STEPS_MAX) {
        reached = calculator.next_backoff().unwrap_or(rule.max).min(rule.max);
        if reached == rule.max {
            break;
        }
    }
    reached
}

/// `delay` less a random share of at most `jitter`; `unit` is random in [0, 1).
pub fn shortened(delay: Duration, jitter: f64, unit: f64) -> Duration {
    let share = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    delay.mul_f64(1.0 - share * unit.clamp(0.0, 1.0))
}

/// Where an instance stands: how often it ended, and how often it failed to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ladder {
    /// Ends that nobody asked for since the last reset; the rung of the next delay.
    pub step: u32,
    /// Starts in a row that ended before `minReady`.
    pub failed_starts: u32,
    /// The failed starts are those of a run before: they count, but nothing was tried yet in this one.
    pub recalled: bool,
}

impl Ladder {
    /// One end that nobody asked for. `lasted`: it was ready for `minReady`; `steady`: for
    /// `resetAfter`. Gives the step whose delay applies now.
    pub fn ended(&mut self, lasted: bool, steady: bool) -> u32 {
        self.rest(lasted, steady);
        if !lasted {
            self.failed_starts = self.failed_starts.saturating_add(1);
        }
        self.climb()
    }

    /// An end that somebody asked for: what it was until then counts, and no step follows.
    pub fn rest(&mut self, lasted: bool, steady: bool) {
        if steady {
            self.step = 0;
        }
        if lasted {
            self.failed_starts = 0;
        }
    }

    /// An end that says nothing about the start: only the delay grows.
    pub fn climb(&mut self) -> u32 {
        self.recalled = false;
        let step = self.step;
        self.step = self.step.saturating_add(1);
        step
    }

    /// New, edited, or started by hand.
    pub fn reset(&mut self) {
        self.step = 0;
        self.failed_starts = 0;
        self.recalled = false;
    }

    /// Whether its last start failed, as this run has seen.
    pub fn has_failed(&self) -> bool {
        self.failed_starts > 0 && !self.recalled
    }

    pub fn is_crash_loop(&self, crash_loop_after: u32) -> bool {
        self.failed_starts >= crash_loop_after.max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(initial_ms: u64, factor: f64, max_ms: u64) -> Rule {
        Rule {
            initial: Duration::from_millis(initial_ms),
            factor,
            max: Duration::from_millis(max_ms),
            jitter: 0.2,
            reset_after: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_default_ladder_is_0_1_2_4_8_16_32_60_60() {
        let seconds: Vec<u64> = (0..9).map(|step| delay(&rule(1_000, 2.0, 60_000), step).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(&rule(1_000, 2.0, 60_000), u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn a_delay_of_zero_is_allowed() {
        assert_eq!(delay(&rule(0, 2.0, 0), 9), Duration::ZERO);
    }

    #[test]
    fn five_failed_starts_are_a_crash_loop() {
        let mut ladder = Ladder::default();
        for _ in 0..7 {
            ladder.ended(false, false);
        }
        assert!(ladder.is_crash_loop(5));
        assert_eq!(ladder.step, 7);
        assert_eq!(ladder.ended(true, true), 0, "steady for resetAfter: the first rung again");
        assert!(!ladder.is_crash_loop(5));
    }

    proptest! {
        #[test]
        fn delays_stay_below_the_cap_and_never_shrink(
            initial in 1u64..100_000, factor in 1.0f64..10.0, max in 0u64..4_000_000, step in 0u32..200,
        ) {
            let rule = rule(initial, factor, max);
            prop_assert!(delay(&rule, step) <= rule.max);
            prop_assert!(delay(&rule, step) <= delay(&rule, step + 1));
        }

        #[test]
        fn jitter_only_shortens_and_by_no_more_than_its_share(millis in 0u64..100_000, unit in 0.0f64..1.0) {
            let full = Duration::from_millis(millis);
            let short = shortened(full, 0.2, unit);
            prop_assert!(short <= full);
            prop_assert!(short + Duration::from_nanos(10) >= full.mul_f64(0.8));
        }
    }
}
