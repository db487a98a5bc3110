//! While logs are followed: which services go, and whether a controller is still there to tell.
//!
//! The files themselves do not say that nothing will be written any more. A thread of its own watches,
//! because the follower reads files and blocks on nothing.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::args::Global;
use super::fault::Fault;
use super::node::{Node, Step};
use crate::model::name::Name;

/// Between two looks for a controller that does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What became of the followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Gone(Name),
    /// The controller does not answer any more.
    Unwatched,
}

/// News of these services, from now on; none where no controller was there to begin with.
pub fn watch(names: BTreeSet<Name>, global: &Global) -> Receiver<News> {
    let (tell, news) = channel();
    let global = global.clone();
    // Without the thread the logs are followed all the same.
    let _ = std::thread::Builder::new().name("gone".into()).spawn(move || {
        let mut was_there = false;
        loop {
            let ended = Node::open(&global).and_then(|node| tell_until_it_ends(&node, &names, &tell, &mut was_there));
            if let (Err(_), true) = (ended, std::mem::take(&mut was_there))
                && tell.send(News::Unwatched).is_err()
            {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    });
    news
}

fn tell_until_it_ends(
    node: &Node,
    names: &BTreeSet<Name>,
    tell: &Sender<News>,
    was_there: &mut bool,
) -> Result<(), Fault> {
    let mut watching = node.watch()?;
    loop {
        let gone: Vec<Name> = match watching.step(None)? {
            Step::Removed(name) => names.get(&name).cloned().into_iter().collect(),
            // Before the first scan an empty table says nothing.
            Step::All | Step::Node => {
                let known = watching.known().filter(|known| known.node.settled && !known.node.shutting_down);
                let is_gone = |name: &&Name| known.is_some_and(|known| !known.services.contains_key(*name));
                names.iter().filter(is_gone).cloned().collect()
            }
            Step::Changed(_) | Step::TimeIsUp => Vec::new(),
        };
        *was_there = true;
        if gone.into_iter().any(|name| tell.send(News::Gone(name)).is_err()) {
            return Ok(());
        }
    }
}
