//! Moments that may wait a little, gathered: what is due together is one wake-up.

use std::time::Duration;

/// The next moment of a grid that all share, not before `at`.
pub fn gathered(at: Duration, grid: Duration) -> Duration {
    let (at, grid) = (at.as_nanos(), grid.as_nanos());
    if grid == 0 {
        return Duration::from_nanos(u64::try_from(at).unwrap_or(u64::MAX));
    }
    Duration::from_nanos(u64::try_from(at.div_ceil(grid).saturating_mul(grid)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gathered_moment_is_never_early_and_late_by_less_than_the_grid() {
        let grid = Duration::from_millis(250);
        for (at, then) in [(0, 0), (1, 250), (250, 250), (251, 500), (10_249, 10_250)] {
            assert_eq!(gathered(Duration::from_millis(at), grid), Duration::from_millis(then));
        }
    }
}
