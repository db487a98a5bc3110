//! The share of its time in which a service could be used: of the time since it was first ready in which
//! it was meant to serve.

use std::time::Duration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Availability {
    meant: Duration,
    up: Duration,
    last: Option<(Duration, State)>,
}

/// What a service is expected to do, and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Up,
    Down,
    /// Stopped on purpose, completed, skipped: that time does not count.
    Aside,
}

impl Availability {
    pub fn follow(&mut self, state: State, now: Duration) {
        *self = self.until(now);
        // Before it was ready for the first time it was not down.
        if self.last.is_some() || state == State::Up {
            self.last = Some((now, state));
        }
    }

    /// 0 to 1; none before it was ready for the first time.
    pub fn ratio(&self, now: Duration) -> Option<f64> {
        let Availability { meant, up, last } = self.until(now);
        last?;
        Some(if meant.is_zero() { 1.0 } else { up.as_secs_f64() / meant.as_secs_f64() })
    }

    fn until(&self, now: Duration) -> Availability {
        let Some((since, state)) = self.last else { return *self };
        let span = now.saturating_sub(since);
        let (meant, up) = match state {
            State::Up => (span, span),
            State::Down => (span, Duration::ZERO),
            State::Aside => (Duration::ZERO, Duration::ZERO),
        };
        Availability { meant: self.meant + meant, up: self.up + up, last: Some((now, state)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_in_which_it_was_meant_to_serve_counts() {
        let at = Duration::from_secs;
        let mut share = Availability::default();
        share.follow(State::Down, at(0));
        assert_eq!(share.ratio(at(10)), None);
        share.follow(State::Up, at(10));
        assert_eq!(share.ratio(at(10)), Some(1.0));
        share.follow(State::Down, at(100));
        assert_eq!(share.ratio(at(110)), Some(0.9));
        share.follow(State::Aside, at(110));
        assert_eq!(share.ratio(at(9_999)), Some(0.9));
        share.follow(State::Up, at(9_999));
        assert_eq!(share.ratio(at(9_999 + 100)), Some(0.95));
    }
}
