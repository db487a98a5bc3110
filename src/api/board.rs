//! What everybody may see: kept up by the loop, copied only when somebody looks.
//!
//! With 1,000 services a copy of the table costs more than most turns of the loop, and most of the time
//! nobody looks. So the loop changes the one table in place, and the first reader after a change makes
//! the copy that all readers share until the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::view::Snapshot;

#[derive(Debug)]
pub struct Board(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    now: Snapshot,
    /// The copy of `now`, if it was asked for since the last change.
    shown: Option<Arc<Snapshot>>,
}

impl Board {
    pub fn new(now: Snapshot) -> Board {
        Board(Mutex::new(Inner { now, shown: None }))
    }

    /// Everything, as one value that does not change any more.
    pub fn load(&self) -> Arc<Snapshot> {
        let mut inner = self.lock();
        let Inner { now, shown } = &mut *inner;
        shown.get_or_insert_with(|| Arc::new(now.clone())).clone()
    }

    /// A look without a copy. The loop waits for its end.
    pub fn look<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(&self.lock().now)
    }

    /// Each change has a sequence number of its own.
    pub fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut inner = self.lock();
        change(&mut inner.now);
        inner.now.sequence += 1;
        inner.shown = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::view::NodeView;

    #[test]
    fn a_copy_is_made_once_for_all_readers_of_one_state() {
        let board = Board::new(Snapshot { sequence: 1, node: NodeView::default(), services: BTreeMap::new() });
        let first = board.load();
        assert!(Arc::ptr_eq(&first, &board.load()));
        board.change(|now| now.node.settled = true);
        assert!(!first.node.settled && board.look(|now| now.node.settled));
        assert_eq!((board.load().sequence, board.load().node.settled), (2, true));
    }
}
