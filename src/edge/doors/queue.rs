//! Who waits in the kernel's queue, and since when.
//!
//! The kernel tells how many wait and never since when. It lets them out in the order in which they came: so
//! how many had come by a moment says who came by then. A look now and then bounds each one's wait by the
//! time between two looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Looks within one hold: nobody waits longer than it by more than an eighth.
const LOOKS: u32 = 8;
const GAP_MIN: Duration = Duration::from_millis(5);
const GAP_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Let in or sent away so far.
    taken: u64,
    /// How many had come by when.
    come: VecDeque<(Instant, u64)>,
}

impl Queue {
    pub fn took(&mut self) {
        self.taken += 1;
    }

    /// So many wait now; gives how many of them have waited for `hold`.
    pub fn look(&mut self, now: Instant, waiting: u64, hold: Duration) -> u64 {
        self.come.push_back((now, self.taken + waiting));
        let mut overdue = 0;
        while let Some((at, come)) = self.come.front().copied()
            && now.saturating_duration_since(at) >= hold
        {
            overdue = come.saturating_sub(self.taken);
            self.come.pop_front();
        }
        overdue
    }

    /// Somebody is ready: nobody waits.
    pub fn forget(&mut self) {
        self.come.clear();
    }

    pub fn gap(hold: Duration) -> Duration {
        (hold / LOOKS).clamp(GAP_MIN, GAP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_its_own_time_and_the_first_goes_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let hold = Duration::from_secs(8);
        let mut queue = Queue::default();
        assert_eq!(queue.look(at(0), 1, hold), 0);
        assert_eq!(queue.look(at(4), 3, hold), 0);
        assert_eq!(queue.look(at(8), 3, hold), 1, "the one that came first");
        queue.took();
        assert_eq!(queue.look(at(9), 2, hold), 0);
        assert_eq!(queue.look(at(12), 2, hold), 2);
        queue.took();
        queue.took();
        assert_eq!(queue.look(at(13), 0, hold), 0);
        // One that was let in meanwhile is not sent away in the place of another.
        assert_eq!(queue.look(at(14), 2, hold), 0);
        queue.took();
        assert_eq!(queue.look(at(22), 1, hold), 1);
        queue.forget();
        assert_eq!(queue.look(at(40), 1, hold), 0);
        assert_eq!(Queue::gap(Duration::from_secs(60)), GAP_MAX);
    }
}
