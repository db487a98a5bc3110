//! What was found of the ports of a life and cannot be found again: which sockets listened there when it was spawned,
//! and on which ports it has listened itself.
//!
//! The controller that comes after is to know it, too. So it is noted, one small file for a life, in the run directory:
//! it is about processes that run, and a node that begins with none begins without it. What is not known (there is no
//! such directory, its disk was full) does not count against the service.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::edge::noted::{PORTS, put};
use crate::model::name::LifeId;

#[derive(Debug, Default)]
pub struct Past {
    known: Mutex<Known>,
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Inodes.
    #[serde(default)]
    listened_at_spawn: Vec<u64>,
    #[serde(default)]
    owned: Vec<u16>,
}

impl Past {
    /// Of a life that was just spawned.
    pub fn begin(run: Option<&Path>, life: &LifeId, listened_at_spawn: Vec<u64>) -> Past {
        let past = Past { file: file(run, life), ..Past::of(listened_at_spawn) };
        // Nearly always nobody listened: that is known without a note.
        if past.found_listeners() {
            past.note();
        }
        past
    }

    /// Of a life that an earlier controller spawned.
    pub fn recall(run: Option<&Path>, life: &LifeId) -> Past {
        let file = file(run, life);
        let read = |file| serde_json::from_slice(&std::fs::read(file).ok()?).ok();
        let known: Known = file.as_ref().and_then(read).unwrap_or_default();
        Past { known: Mutex::new(known), file }
    }

    /// Noted nowhere.
    pub(super) fn of(listened_at_spawn: Vec<u64>) -> Past {
        Past { known: Mutex::new(Known { listened_at_spawn, owned: Vec::new() }), file: None }
    }

    /// Whether somebody listened on one of its ports when it was spawned.
    pub fn found_listeners(&self) -> bool {
        !self.locked().listened_at_spawn.is_empty()
    }

    pub(super) fn listened_at_spawn(&self, inode: u64) -> bool {
        self.locked().listened_at_spawn.contains(&inode)
    }

    /// Whether it has listened there itself: whoever else does now has taken its place.
    pub(super) fn has_owned(&self, port: u16) -> bool {
        self.locked().owned.contains(&port)
    }

    pub(super) fn owns(&self, port: u16) {
        let mut known = self.locked();
        if !known.owned.contains(&port) {
            known.owned.push(port);
            drop(known);
            self.note();
        }
    }

    /// Writes it down, also where the run directory was made again.
    pub fn note(&self) {
        let (Some(file), known) = (&self.file, self.locked()) else { return };
        if *known == Known::default() {
            return;
        }
        let written = serde_json::to_vec(&*known).map_err(io::Error::from).and_then(|text| put(file, &text));
        if let Err(error) = written {
            tracing::debug!(%error, "{} is not known to the next controller", file.display());
        }
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life is over.
pub fn forget(run: Option<&Path>, life: &LifeId) {
    // Mostly nothing was noted.
    let _ = file(run, life).map(std::fs::remove_file);
}

fn file(run: Option<&Path>, life: &LifeId) -> Option<PathBuf> {
    // No name has a `#`.
    let LifeId { instance, life } = life;
    Some(run?.join(PORTS).join(format!("{}#{}#{life}", instance.service, instance.index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Instance;

    #[test]
    fn what_was_found_of_a_life_is_known_to_the_next_controller_until_it_is_over() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let run = Some(folder.path());
        let life = |life| LifeId { instance: Instance::parse("web/1").expect("valid"), life };
        Past::begin(run, &life(1), vec![7]).owns(80);
        Past::begin(run, &life(2), vec![]).owns(81);
        let first = Past::recall(run, &life(1));
        assert!(first.listened_at_spawn(7) && first.has_owned(80) && !first.has_owned(81));
        let second = Past::recall(run, &life(2));
        assert!(second.has_owned(81) && !second.found_listeners());
        forget(run, &life(1));
        assert_eq!(*Past::recall(run, &life(1)).locked(), Known::default());

        // The run directory was taken away and made again.
        crate::edge::noted::forget_all(folder.path());
        assert_eq!(*Past::recall(run, &life(2)).locked(), Known::default());
        second.note();
        assert!(Past::recall(run, &life(2)).has_owned(81));
        Past::begin(None, &life(3), vec![7]).owns(80);
        assert_eq!(*Past::recall(None, &life(3)).locked(), Known::default());
    }
}
