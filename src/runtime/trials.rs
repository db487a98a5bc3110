//! Who asked for all that was refused to be tried again, and which answers are still awaited.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use crate::model::name::Name;

#[derive(Debug, Default)]
pub(super) struct Trials {
    askers: Vec<Asker>,
}

#[derive(Debug)]
struct Asker {
    awaited: BTreeSet<Name>,
    /// Dropped once all are answered, and that is told.
    open: oneshot::Sender<()>,
}

impl Trials {
    /// Ends with the turn that has the last answer.
    pub fn answers(&mut self) -> oneshot::Receiver<()> {
        let (open, answered) = oneshot::channel();
        self.askers.push(Asker { awaited: BTreeSet::new(), open });
        answered
    }

    pub fn asked(&mut self, name: &Name) {
        for asker in &mut self.askers {
            asker.awaited.insert(name.clone());
        }
    }

    pub fn answered(&mut self, name: &Name) {
        for asker in &mut self.askers {
            asker.awaited.remove(name);
        }
    }

    pub fn end_turn(&mut self) {
        self.askers.retain(|asker| !asker.awaited.is_empty() && !asker.open.is_closed());
    }
}
