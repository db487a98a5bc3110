//! The health score: from 0 to 100, out of what was observed, with the subtraction that gives it.
//!
//! 100, less 15 for each consecutive failed check (at most 60), less 10 for each restart in the last
//! ten minutes (at most 30), less 40 × the share of requests that failed, less 10 if slower than its
//! siblings. A dead process has 0. Above 70 is healthy, above 30 degraded, else unhealthy.
//!
//! A word is said better only when the score has earned it for [`HOLD`], and said worse at once: a
//! check that flaps at every period changes it once and not at every period.

use std::time::Duration;

const WHOLE: u8 = 100;
const CHECK: u8 = 15;
const CHECKS_MAX: u8 = 60;
const RESTART: u8 = 10;
const RESTARTS_MAX: u8 = 30;
const ERRORS: f64 = 40.0;
const SLOW: u8 = 10;

/// How long a restart is held against an instance.
pub const RESTART_COUNTS: Duration = Duration::from_secs(600);
/// Restarts beyond this take nothing more away.
pub const RESTARTS_COUNTED: usize = (RESTARTS_MAX / RESTART) as usize;
/// How long a better score has to last: three periods of a check as they are by default.
pub const HOLD: Duration = Duration::from_secs(30);

/// What is known of one instance that something checks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// Its process lives.
    pub lives: bool,
    /// Failed checks in a row, of the probe that has most of them.
    pub failures: u32,
    /// Restarts that nobody asked for, in the last ten minutes.
    pub restarts: u32,
    /// The share of requests that failed, 0 to 1; 0 where nobody counts them.
    pub errors: f64,
    pub slow: bool,
}

/// One step of the subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Less {
    Dead,
    Checks { points: u8, failures: u32 },
    Restarts { points: u8, restarts: u32 },
    Errors { points: u8, percent: u8 },
    Slow { points: u8 },
}

impl Less {
    pub fn points(&self) -> u8 {
        match self {
            Less::Dead => WHOLE,
            Less::Checks { points, .. }
            | Less::Restarts { points, .. }
            | Less::Errors { points, .. }
            | Less::Slow { points } => *points,
        }
    }

    /// `2 failed checks in a row`.
    pub fn why(&self) -> String {
        let counted = |count: u32, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        match self {
            Less::Dead => "its process is dead".into(),
            Less::Checks { failures: 1, .. } => "a failed check".into(),
            Less::Checks { failures, .. } => format!("{failures} failed checks in a row"),
            // More are neither held against it nor counted.
            Less::Restarts { restarts, .. } if *restarts as usize >= RESTARTS_COUNTED => {
                format!("{RESTARTS_COUNTED} or more restarts in the last 10 min")
            }
            Less::Restarts { restarts, .. } => {
                format!("{} in the last 10 min", counted(*restarts, "restart", "restarts"))
            }
            Less::Errors { percent, .. } => format!("{percent} % of requests failed"),
            Less::Slow { .. } => "slower than its siblings".into(),
        }
    }
}

/// What is taken away from 100, the most telling first; at most 100 in all.
pub fn subtraction(of: &Observed) -> Vec<Less> {
    if !of.lives {
        return vec![Less::Dead];
    }
    let times =
        |each: u8, count: u32, most: u8| u8::try_from(u32::from(each).saturating_mul(count)).unwrap_or(most).min(most);
    let errors = if of.errors.is_finite() { of.errors.clamp(0.0, 1.0) } else { 0.0 };
    let steps = [
        Less::Checks { points: times(CHECK, of.failures, CHECKS_MAX), failures: of.failures },
        Less::Restarts { points: times(RESTART, of.restarts, RESTARTS_MAX), restarts: of.restarts },
        Less::Errors { points: (ERRORS * errors).round() as u8, percent: (100.0 * errors).round() as u8 },
        Less::Slow { points: if of.slow { SLOW } else { 0 } },
    ];
    steps.into_iter().filter(|less| less.points() > 0).collect()
}

/// The points that are left.
pub fn points(less: &[Less]) -> u8 {
    let all: u32 = less.iter().map(|one| u32::from(one.points())).sum();
    u8::try_from(u32::from(WHOLE).saturating_sub(all)).unwrap_or(0)
}

/// A service's score is the mean of its instances'; none where there is none.
pub fn mean(scores: impl IntoIterator<Item = u8>) -> Option<u8> {
    let (sum, count) = scores.into_iter().fold((0_u32, 0_u32), |(sum, count), one| (sum + u32::from(one), count + 1));
    (sum + count / 2).checked_div(count).and_then(|mean| u8::try_from(mean).ok())
}

/// The word of a score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Band {
    Unhealthy,
    Degraded,
    #[default]
    Healthy,
}

impl Band {
    pub fn of(points: u8) -> Band {
        match points {
            71.. => Band::Healthy,
            31..=70 => Band::Degraded,
            ..=30 => Band::Unhealthy,
        }
    }
}

/// The word that is said, with its hysteresis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    band: Band,
    /// Since when the score has been above it, and the least that it was since.
    better: Option<(Duration, Band)>,
}

impl Said {
    /// Nothing is held against it: it begins with the word of its score.
    pub fn anew(points: Option<u8>) -> Said {
        Said { band: points.map_or(Band::Healthy, Band::of), better: None }
    }

    pub fn band(&self) -> Band {
        self.band
    }

    /// Takes up a score.
    pub fn follow(&mut self, points: Option<u8>, now: Duration) {
        let band = points.map_or(Band::Healthy, Band::of);
        if band <= self.band {
            *self = Said { band, better: None };
            return;
        }
        let (since, least) = self.better.map_or((now, band), |(since, least)| (since, least.min(band)));
        *self = match now >= since + HOLD {
            false => Said { band: self.band, better: Some((since, least)) },
            // What it was for a moment only has not been earned yet.
            true => Said { band: least, better: (band > least).then_some((now, band)) },
        };
    }

    /// When a better word has been earned, if the score stays.
    pub fn earned_at(&self) -> Option<Duration> {
        self.better.map(|(since, _)| since + HOLD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WELL: Observed = Observed { lives: true, failures: 0, restarts: 0, errors: 0.0, slow: false };

    fn score(of: Observed) -> u8 {
        points(&subtraction(&of))
    }

    #[test]
    fn each_step_takes_what_the_book_says() {
        for (of, left) in [
            (WELL, 100),
            (Observed { lives: false, ..WELL }, 0),
            (Observed { failures: 1, ..WELL }, 85),
            (Observed { failures: 9, ..WELL }, 40),
            (Observed { restarts: 2, ..WELL }, 80),
            (Observed { restarts: 30, ..WELL }, 70),
            (Observed { errors: 0.5, ..WELL }, 80),
            (Observed { slow: true, ..WELL }, 90),
            (Observed { failures: 9, restarts: 9, errors: 1.0, slow: true, ..WELL }, 0),
        ] {
            assert_eq!(score(of), left, "{of:?}");
        }
        assert_eq!(mean([]), None);
        assert_eq!(mean([100, 0]), Some(50));
        assert_eq!(mean([100, 100, 85]), Some(95));
    }

    #[test]
    fn seventy_is_degraded_and_thirty_is_unhealthy() {
        let words = [0, 30, 31, 70, 71, 100].map(Band::of);
        use Band::*;
        assert_eq!(words, [Unhealthy, Unhealthy, Degraded, Degraded, Healthy, Healthy]);
    }

    #[test]
    fn worse_is_said_at_once_and_better_when_it_has_lasted() {
        let mut said = Said::default();
        let at = Duration::from_secs;
        said.follow(Some(55), at(1));
        assert_eq!(said.band(), Band::Degraded);
        said.follow(Some(100), at(10));
        said.follow(Some(85), at(39));
        assert_eq!((said.band(), said.earned_at()), (Band::Degraded, Some(at(40))));
        said.follow(Some(100), at(40));
        assert_eq!((said.band(), said.earned_at()), (Band::Healthy, None));
    }

    #[test]
    fn what_it_was_for_a_moment_at_the_end_has_not_been_earned() {
        let mut said = Said::anew(Some(10));
        let at = Duration::from_secs;
        said.follow(Some(55), at(0));
        said.follow(Some(100), at(29));
        said.follow(Some(100), at(30));
        assert_eq!((said.band(), said.earned_at()), (Band::Degraded, Some(at(60))));
        said.follow(Some(100), at(60));
        assert_eq!((said.band(), said.earned_at()), (Band::Healthy, None));
    }

    fn observed() -> impl Strategy<Value = Observed> {
        (prop::bool::weighted(0.9), 0..9_u32, 0..9_u32, 0.0..1.0_f64, any::<bool>())
            .prop_map(|(lives, failures, restarts, errors, slow)| Observed { lives, failures, restarts, errors, slow })
    }

    proptest! {
        #[test]
        fn more_of_anything_bad_never_helps(of in observed(), more in 1..4_u32, share in 0.0..1.0_f64) {
            let before = score(of);
            prop_assert!(before <= 100);
            let worse = [
                Observed { lives: false, ..of },
                Observed { failures: of.failures + more, ..of },
                Observed { restarts: of.restarts + more, ..of },
                Observed { errors: of.errors + (1.0 - of.errors) * share, ..of },
                Observed { slow: true, ..of },
            ];
            for worse in worse {
                prop_assert!(score(worse) <= before, "{worse:?}");
            }
        }

        #[test]
        fn the_subtraction_that_is_told_gives_the_score(of in observed()) {
            let less = subtraction(&of);
            let told: i32 = 100 - less.iter().map(|one| i32::from(one.points())).sum::<i32>();
            prop_assert_eq!(i32::from(points(&less)), told.max(0));
            prop_assert_eq!(less.is_empty(), points(&less) == 100);
        }

        #[test]
        fn a_worse_instance_never_betters_the_service(scores in prop::collection::vec(0..=100_u8, 1..9), less in 1..=100_u8) {
            let mut worse = scores.clone();
            worse[0] = worse[0].saturating_sub(less);
            prop_assert!(mean(worse) <= mean(scores));
        }

        #[test]
        fn whatever_flaps_the_word_betters_at_most_twice_a_minute(
            scores in prop::collection::vec(0..=100_u8, 2..300), step in 1..20_u64,
        ) {
            let mut said = Said::default();
            let (mut better, mut now) = (0_u64, Duration::ZERO);
            for points in &scores {
                let before = said.band();
                said.follow(Some(*points), now);
                better += u64::from(said.band() > before);
                prop_assert!(said.band() <= Band::of(*points), "never better than the score");
                now += Duration::from_secs(step);
            }
            prop_assert!(better <= now.as_secs() / HOLD.as_secs(), "{better} in {now:?}");
        }
    }
}
