//! When a container should end by itself.
//!
//! As PID 1 (or with `--exit-on-required`) plugd leaves when what the container is for cannot be
//! had: a required service that is not ready for the limit without a break, or at once one that
//! ended for good with a failure. If nothing is required, the same when every service is failed or
//! unhealthy. When there were services and nothing is left that may run again, it leaves with 0.

use std::time::Duration;

/// The services of a node, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    pub total: u32,
    pub required: u32,
    /// Failed or unhealthy.
    pub bad: u32,
    /// Failed for good: no try will follow by itself.
    pub bad_for_good: u32,
    /// Skipped or stopped: nothing is expected of them.
    pub aside: u32,
    /// Completed, or failed for good after a run: will not run again by themselves.
    pub over: u32,
}

/// Whether every service that should serve is failed or unhealthy, where none is required.
pub fn all_bad(census: &Census) -> bool {
    census.required == 0 && census.bad > 0 && census.bad + census.aside == census.total
}

/// All that should serve ended for good: no reason to wait for the limit.
pub fn all_bad_for_good(census: &Census) -> bool {
    all_bad(census) && census.bad == census.bad_for_good
}

/// Nothing runs and nothing will.
pub fn nothing_left(census: &Census) -> bool {
    census.total > 0 && census.over == census.total
}

/// When patience with something that has been wrong since `since` ends.
pub fn patience_ends(since: Duration, limit: Duration) -> Duration {
    since.saturating_add(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_service_that_serves_keeps_the_node() {
        let census = Census { total: 3, bad: 2, ..Census::default() };
        assert!(!all_bad(&census));
        assert!(all_bad(&Census { aside: 1, ..census }));
        assert!(!all_bad(&Census { aside: 1, required: 1, ..census }), "the required one decides alone");
    }

    #[test]
    fn completed_jobs_alone_leave_nothing() {
        assert!(nothing_left(&Census { total: 2, over: 2, ..Census::default() }));
        assert!(!nothing_left(&Census { total: 2, over: 1, ..Census::default() }));
        assert!(!nothing_left(&Census::default()), "an empty directory waits for its first manifest");
    }
}
