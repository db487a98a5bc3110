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
pub struct Neighbours(Mutex<HashMap<LifeId, Tree>>);

impl Neighbours {
    pub fn enter(&self, tree: &Tree) {
        self.locked().insert(tree.life.clone(), tree.clone());
    }

    pub fn strike(&self, life: &LifeId) {
        self.locked().remove(life);
    }

    /// The instance, other than `asker`, whose tree a process belongs to.
    pub fn owner(&self, pid: i32, asker: &LifeId) -> Option<Instance> {
        // Its own word first: that is one look instead of one for each life.
        let named = match stat::cookie(pid) {
            Cookie::Of(mark) => Instance::parse(&mark.instance).map(|instance| LifeId { instance, life: mark.life }),
            Cookie::Absent | Cookie::Unread => None,
        };
        let known: Vec<Tree> = {
            let lives = self.locked();
            match named.and_then(|life| lives.get(&life)) {
                Some(tree) => vec![tree.clone()],
                None => lives.values().cloned().collect(),
            }
        };
        let owner = known.into_iter().find(|tree| tree.life != *asker && tree.contains(pid))?;
        Some(owner.life.instance)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<LifeId, Tree>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
