//! When output cannot be kept: a disk that takes no writes, and a rate limit.
//!
//! Pure bookkeeping. Losses are whole lines as far as possible: a loss ends only at a line's
//! beginning.

use std::time::{Duration, Instant};

/// How long a disk is tried before lines are dropped. The pipe holds output meanwhile.
const TRY_FOR: Duration = Duration::from_secs(1);
/// Between two tries while nothing is lost yet.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// Between two tries while lines are dropped, and while a service waits (`onStall: Block`).
const TRY_LATER: Duration = Duration::from_secs(1);
/// Between two messages about one loss.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A file that took no write.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    since: Instant,
    pub next: Instant,
    pub why: String,
}

/// What to do with output for a file in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Leave it in the pipe until then.
    Wait(Instant),
    Drop,
}

impl Trouble {
    /// One more write failed.
    pub(super) fn again(before: Option<&Trouble>, why: String, now: Instant) -> Trouble {
        let since = before.map_or(now, |trouble| trouble.since);
        let next = now + if now.duration_since(since) >= TRY_FOR { TRY_LATER } else { TRY_EVERY };
        Trouble { since, next, why }
    }

    pub(super) fn verdict(&self, block: bool, now: Instant) -> Verdict {
        match block || now.duration_since(self.since) < TRY_FOR {
            true => Verdict::Wait(self.next),
            false => Verdict::Drop,
        }
    }
}

/// Output of one pipe that is being dropped.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    pub why: String,
    pub cause: Cause,
    pub bytes: u64,
    /// The last dropped byte was no newline: the rest of that line goes too.
    pub mid_line: bool,
    told: Option<(Instant, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Disk,
    Rate,
}

impl Loss {
    pub(super) fn new(cause: Cause, why: String) -> Loss {
        Loss { why, cause, bytes: 0, mid_line: false, told: None }
    }

    pub(super) fn add(&mut self, bytes: u64, mid_line: bool) {
        self.bytes += bytes;
        self.mid_line = mid_line;
    }

    /// Whether there is something new to tell.
    pub(super) fn has_news(&mut self, now: Instant) -> bool {
        let due = match self.told {
            None => self.bytes > 0,
            Some((at, bytes)) => self.bytes > bytes && now.duration_since(at) >= TELL_EVERY,
        };
        if due {
            self.told = Some((now, self.bytes));
        }
        due
    }
}

/// `logs.rateLimit`: so many bytes a second, at most one second's worth at once.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    per_second: u64,
    tokens: u64,
    filled: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u64, now: Instant) -> Rate {
        let per_second = per_second.max(1);
        Rate { per_second, tokens: per_second, filled: now }
    }

    pub(super) fn refill(&mut self, now: Instant) -> u64 {
        let micros = now.duration_since(self.filled).as_micros();
        let earned = u64::try_from(micros * u128::from(self.per_second) / 1_000_000).unwrap_or(u64::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.per_second);
            self.filled = now;
        }
        self.tokens
    }

    /// Whether a loss may end: a tenth of a second's worth, so that it does not end for one line.
    pub(super) fn has_recovered(&self) -> bool {
        self.tokens >= (self.per_second / 10).max(1)
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(bytes);
    }

    pub(super) fn exhaust(&mut self) {
        self.tokens = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tried_for_a_second_before_anything_is_dropped() {
        let start = Instant::now();
        let mut trouble = Trouble::again(None, "full".into(), start);
        assert_eq!(trouble.verdict(false, start), Verdict::Wait(start + TRY_EVERY));
        let later = start + TRY_FOR;
        trouble = Trouble::again(Some(&trouble), "full".into(), later);
        assert_eq!(trouble.verdict(false, later), Verdict::Drop);
        assert_eq!(trouble.verdict(true, later), Verdict::Wait(later + TRY_LATER));
    }

    #[test]
    fn a_rate_gives_its_bytes_each_second_and_no_more() {
        let start = Instant::now();
        let mut rate = Rate::new(1000, start);
        rate.spend(1000);
        assert_eq!(rate.refill(start), 0);
        assert!(!rate.has_recovered());
        assert_eq!(rate.refill(start + Duration::from_millis(500)), 500);
        assert!(rate.has_recovered());
        assert_eq!(rate.refill(start + Duration::from_secs(9)), 1000);
    }

    #[test]
    fn a_loss_is_told_at_once_and_then_every_ten_seconds_while_it_grows() {
        let start = Instant::now();
        let mut loss = Loss::new(Cause::Disk, "full".into());
        assert!(!loss.has_news(start));
        loss.add(5, false);
        assert!(loss.has_news(start));
        loss.add(5, false);
        assert!(!loss.has_news(start + Duration::from_secs(9)));
        assert!(loss.has_news(start + Duration::from_secs(10)));
        assert!(!loss.has_news(start + Duration::from_secs(30)));
    }
}
