//! The lives of this node, so that a socket of one is never taken for another's.
//!
//! The loop enters a life when it was spawned and strikes it when it is let go. Whose a process is, is
//! asked only about the holder of a port that is not the asker's own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::edge::process::stat::{self, Cookie};
use crate::edge::process::tree::Tree;
use crate::model::name::{Instance, LifeId};

#[derive(Debug, Default)]
pub struct Neighbours(Mutex<HashMap<LifeId, Entered>>);

/// A life, and the port that it was given.
#[derive(Debug, Clone)]
struct Entered {
    tree: Tree,
    port: Option<u16>,
}

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub instance: Instance,
    /// `$(instance.port)`.
    pub port: Option<u16>,
}

impl Neighbours {
    pub fn enter(&self, tree: &Tree, port: Option<u16>) {
        self.locked().insert(tree.life.clone(), Entered { tree: tree.clone(), port });
    }

    pub fn strike(&self, life: &LifeId) {
        self.locked().remove(life);
    }

    /// The instance, other than `asker`, whose tree a process belongs to.
    pub fn owner(&self, pid: i32, asker: &LifeId) -> Option<Neighbour> {
        // Its own word first: that is one look instead of one for each life.
        let named = match stat::cookie(pid) {
            Cookie::Of(mark) => Instance::parse(&mark.instance).map(|instance| LifeId { instance, life: mark.life }),
            Cookie::Absent | Cookie::Unread => None,
        };
        let known: Vec<Entered> = {
            let lives = self.locked();
            match named.and_then(|life| lives.get(&life)) {
                Some(entered) => vec![entered.clone()],
                None => lives.values().cloned().collect(),
            }
        };
        let owner = known.into_iter().find(|one| one.tree.life != *asker && one.tree.contains(pid))?;
        Some(Neighbour { instance: owner.tree.life.instance, port: owner.port })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<LifeId, Entered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
