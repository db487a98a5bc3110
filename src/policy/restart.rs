//! Whether an instance that ended by itself runs again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::spec::{Restart, RestartLimit, RestartPolicy};

/// What follows an end that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Again,
    Completed,
    Failed,
}

/// How it ended: by itself with this status (code, or 128 + signal), or killed by one of our probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Status(i32),
    KilledByUs,
}

impl End {
    pub fn is_success(self, restart: &Restart) -> bool {
        match self {
            End::Status(status) => status == 0 || restart.success_exit_codes.contains(&status),
            End::KilledByUs => false,
        }
    }
}

pub fn next(restart: &Restart, end: End) -> Next {
    match (restart.policy, end.is_success(restart)) {
        (RestartPolicy::Always, true | false) => Next::Again,
        (RestartPolicy::OnFailure, false) => Next::Again,
        (RestartPolicy::OnFailure | RestartPolicy::Never, true) => Next::Completed,
        (RestartPolicy::Never, false) => Next::Failed,
    }
}

/// The recent ends of one instance, for `restart.limit`.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    ends: VecDeque<Duration>,
    /// There were more once: that is final.
    spent: bool,
}

impl Recent {
    /// Notes an end; true if there were more than the limit allows.
    pub fn exceeded(&mut self, limit: &RestartLimit, now: Duration) -> bool {
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|&at| now.saturating_sub(at) > limit.within)
            || self.ends.len() > RestartLimit::MOST as usize + 1
        {
            self.ends.pop_front();
        }
        self.spent |= self.ends.len() > limit.max as usize;
        self.spent
    }

    /// There were more than the limit allows, as an earlier controller has counted.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    pub fn is_spent(&self) -> bool {
        self.spent
    }

    pub fn clear(&mut self) {
        *self = Recent::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::Backoff;

    fn restart(policy: RestartPolicy) -> Restart {
        Restart {
            policy,
            backoff: Backoff {
                initial: Duration::from_secs(1),
                factor: 2.0,
                max: Duration::from_secs(60),
                jitter: 0.2,
                reset_after: Duration::from_secs(60),
            },
            crash_loop_after: 5,
            limit: None,
            success_exit_codes: vec![143],
        }
    }

    #[test]
    fn the_largest_limit_is_exceeded_as_any_other() {
        let limit = RestartLimit { max: RestartLimit::MOST, within: Duration::from_secs(3600) };
        let mut recent = Recent::default();
        let spent =
            (0..=RestartLimit::MOST).map(|_| recent.exceeded(&limit, Duration::ZERO)).filter(|spent| *spent).count();
        assert_eq!(spent, 1, "by the last alone");
    }

    #[test]
    fn each_policy_answers_each_end() {
        use RestartPolicy::*;
        for (policy, end, expected) in [
            (Always, End::Status(0), Next::Again),
            (Always, End::Status(1), Next::Again),
            (OnFailure, End::Status(0), Next::Completed),
            (OnFailure, End::Status(143), Next::Completed),
            (OnFailure, End::Status(137), Next::Again),
            (OnFailure, End::KilledByUs, Next::Again),
            (Never, End::Status(0), Next::Completed),
            (Never, End::Status(2), Next::Failed),
            (Never, End::KilledByUs, Next::Failed),
        ] {
            assert_eq!(next(&restart(policy), end), expected, "{policy:?} {end:?}");
        }
    }

    #[test]
    fn a_limit_counts_only_what_lies_within_it() {
        let limit = RestartLimit { max: 2, within: Duration::from_secs(10) };
        let mut recent = Recent::default();
        let ends = [0, 1, 20, 21, 22].map(|at| recent.exceeded(&limit, Duration::from_secs(at)));
        assert_eq!(ends, [false, false, false, false, true]);
        assert!(recent.exceeded(&limit, Duration::from_secs(99)), "once it is exceeded that is final");
        recent.clear();
        assert!(!recent.exceeded(&limit, Duration::from_secs(99)));
    }
}
