//! Moments, as they are handed to the pure floors.

use std::time::Duration;

use jiff::Timestamp;

/// A moment on both clocks. `mono` decides (CLOCK_BOOTTIME is not used: a machine that slept owes
/// nobody a probe); `wall` is only ever shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC.
    pub mono: Duration,
    /// The wall clock at the same moment.
    pub wall: Timestamp,
}

impl Now {
    /// The wall-clock time at which a deadline will fall.
    pub fn wall_at(&self, deadline: Duration) -> Timestamp {
        let ahead = jiff::SignedDuration::try_from(deadline).unwrap_or_default()
            - jiff::SignedDuration::try_from(self.mono).unwrap_or_default();
        self.wall.checked_add(ahead).unwrap_or(self.wall)
    }
}
