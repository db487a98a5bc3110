//! The share of its time in which a service could be used: of the time in which it was meant to serve, from
//! the first moment on. It is the number that `history` keeps (edge/store/samples.rs), of one controller's time.

use std::time::Duration;

use crate::model::view::Serving;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Availability {
    meant: Duration,
    up: Duration,
    /// When it was followed first.
    first: Option<Duration>,
    last: Option<(Duration, Serving)>,
}

impl Availability {
    pub fn follow(&mut self, serving: Serving, now: Duration) {
        *self = self.until(now);
        self.first.get_or_insert(now);
        self.last = Some((now, serving));
    }

    /// 0 to 1; none where nothing was expected of it yet.
    pub fn ratio(&self, now: Duration) -> Option<f64> {
        let Availability { meant, up, .. } = self.until(now);
        (!meant.is_zero()).then(|| up.as_secs_f64() / meant.as_secs_f64())
    }

    /// Since when it is counted.
    pub fn since(&self) -> Option<Duration> {
        self.first
    }

    fn until(&self, now: Duration) -> Availability {
        let Some((since, serving)) = self.last else { return *self };
        let span = now.saturating_sub(since);
        let (meant, up) = match serving {
            Serving::Up => (span, span),
            Serving::Down => (span, Duration::ZERO),
            Serving::Aside => (Duration::ZERO, Duration::ZERO),
        };
        Availability { meant: self.meant + meant, up: self.up + up, last: Some((now, serving)), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_in_which_it_was_meant_to_serve_counts() {
        let at = Duration::from_secs;
        let mut share = Availability::default();
        share.follow(Serving::Aside, at(0));
        assert_eq!(share.ratio(at(10)), None);
        share.follow(Serving::Down, at(10));
        assert_eq!(share.ratio(at(15)), Some(0.0), "one that does not start cannot be used");
        share.follow(Serving::Up, at(20));
        assert_eq!(share.ratio(at(110)), Some(0.9));
        share.follow(Serving::Aside, at(110));
        assert_eq!(share.ratio(at(9_999)), Some(0.9));
        share.follow(Serving::Up, at(9_999));
        assert_eq!(share.ratio(at(9_999 + 100)), Some(0.95));
        assert_eq!(share.since(), Some(at(0)));
    }
}
