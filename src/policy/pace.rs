//! How fast an instance answers its checks, and whether that is slower than its siblings.

use std::time::Duration;

/// The weight of the last answer in the average: about the last ten count.
const WEIGHT: f64 = 0.2;
/// So many times the others' time is slow, and so many times it has to come down to.
const SLOW_FROM: u32 = 3;
const SLOW_UNTIL: u32 = 2;
/// A difference that no caller feels, and that a busy machine makes by itself, is none.
const FELT: Duration = Duration::from_millis(50);

/// A moving average of response times; none before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace(Option<f64>);

impl Pace {
    /// Takes in one answer. What speaks by itself took no time and says nothing.
    pub fn took(&mut self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let seconds = time.as_secs_f64();
        self.0 = Some(self.0.map_or(seconds, |mean| mean + WEIGHT * (seconds - mean)));
    }

    pub fn mean(&self) -> Option<Duration> {
        self.0.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

/// The time in the middle of a service's instances (of two the better one); none where nobody can be
/// compared.
pub fn middle(paces: impl IntoIterator<Item = Pace>) -> Option<Duration> {
    let mut means: Vec<Duration> = paces.into_iter().filter_map(|pace| pace.mean()).collect();
    if means.len() < 2 {
        return None;
    }
    means.sort_unstable();
    Some(means[(means.len() - 1) / 2])
}

/// Whether any caller feels how long it takes: none that is quicker is ever slow.
pub fn is_felt(own: Pace) -> bool {
    own.mean().is_some_and(|own| own > FELT)
}

/// Whether an instance is slow beside its siblings; `was`: it was until now.
pub fn is_slow(own: Pace, middle: Option<Duration>, was: bool) -> bool {
    let (Some(own), Some(middle)) = (own.mean(), middle) else { return false };
    own > middle * if was { SLOW_UNTIL } else { SLOW_FROM } && own > middle + FELT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(millis: u64) -> Pace {
        let mut pace = Pace::default();
        pace.took(Duration::from_millis(millis));
        pace
    }

    #[test]
    fn slow_is_three_times_the_middle_of_all_and_felt() {
        let middle_of = |millis: &[u64]| middle(millis.iter().map(|one| pace(*one)));
        let usual = middle_of(&[90, 100, 301, 4000]);
        assert!(is_slow(pace(301), usual, false));
        assert!(!is_slow(pace(250), usual, false));
        assert!(is_slow(pace(250), usual, true), "it stays so until it comes down to twice");
        assert!(is_slow(pace(400), middle_of(&[10, 400]), false), "of two the better one counts");
        assert!(!is_slow(pace(40), middle_of(&[1, 40]), false), "nobody feels that");
        assert!(!is_slow(pace(400), middle_of(&[400]), false), "it has no siblings");
        assert!(!is_slow(Pace::default(), usual, true));
    }

    #[test]
    fn an_average_follows_and_forgets() {
        let mut pace = pace(1000);
        for _ in 0..30 {
            pace.took(Duration::from_millis(10));
        }
        pace.took(Duration::ZERO);
        assert!(pace.mean().is_some_and(|mean| mean < Duration::from_millis(13)), "{pace:?}");
    }
}
