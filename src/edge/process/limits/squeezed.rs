//! Limits of memory that were lowered below what is in use. The kernel does not take those, so they come into force
//! once there is room: they are looked at again now and then, and only while there are such.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::name::{LifeId, Name};
use crate::model::spec::Spec;

const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Squeezed {
    /// What was asked for, and what was said of it.
    lives: BTreeMap<LifeId, (Arc<Spec>, String)>,
    look_at: Option<Duration>,
}

impl Squeezed {
    pub fn enter(&mut self, life: &LifeId, spec: &Arc<Spec>, words: String, now: Duration) {
        self.lives.insert(life.clone(), (spec.clone(), words));
        self.look_at.get_or_insert(now + LOOK);
    }

    /// Whether it was one, and of its service the last one.
    pub fn leave(&mut self, life: &LifeId) -> bool {
        let was = self.lives.remove(life).is_some();
        if self.lives.is_empty() {
            self.look_at = None;
        }
        was && self.words(&life.instance.service).is_none()
    }

    /// What was said of a life of this service.
    pub fn words(&self, service: &Name) -> Option<String> {
        let mut lives = self.lives.iter().filter(|(life, _)| life.instance.service == *service);
        lives.next().map(|(_, (_, words))| words.clone())
    }

    pub fn next_look(&self) -> Option<Duration> {
        self.look_at
    }

    /// All of them, once it is time.
    pub fn take_due(&mut self, now: Duration) -> Vec<(LifeId, Arc<Spec>)> {
        if self.look_at.take_if(|at| *at <= now).is_none() {
            return Vec::new();
        }
        self.look_at = Some(now + LOOK);
        self.lives.iter().map(|(life, (spec, _))| (life.clone(), spec.clone())).collect()
    }
}

/// Whether the group has no more than that which could not just be dropped. To try where it has would cost the
/// service its cache each time.
pub(super) fn has_room(group: &Path, limit: u64) -> bool {
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    held(&stat) < limit
}

/// Bytes, by memory.stat of cgroup v2 or v1 (there with all groups below in `total_`).
fn held(stat: &str) -> u64 {
    let is_legacy = stat.lines().any(|line| line.starts_with("total_rss "));
    let counted: &[&str] = if is_legacy { &["total_rss", "total_shmem", "total_swap"] } else { &["anon", "shmem"] };
    let fields = stat.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| counted.contains(name));
    fields.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_dropped_is_not_held() {
        assert_eq!(held("anon 100\nfile 5000\nkernel 7\nshmem 20\ninactive_anon 90\n"), 120);
        assert_eq!(
            held("cache 5000\nrss 1\nshmem 2\ntotal_cache 5000\ntotal_rss 100\ntotal_shmem 20\ntotal_swap 3\n"),
            123
        );
        assert_eq!(held(""), 0);
    }

    #[test]
    fn there_is_a_time_to_look_only_while_there_is_what_to_look_at() {
        let life = |index, life| LifeId {
            instance: crate::model::name::Instance { service: Name::parse("web").expect("a name"), index },
            life,
        };
        let spec = Arc::new(crate::model::manifest::assumed(Name::parse("web").expect("a name")));
        let at = Duration::from_secs;
        let mut squeezed = Squeezed::default();
        assert!(squeezed.next_look().is_none() && !squeezed.leave(&life(0, 1)));
        squeezed.enter(&life(0, 1), &spec, "first".into(), at(10));
        squeezed.enter(&life(1, 1), &spec, "second".into(), at(12));
        assert_eq!(squeezed.next_look(), Some(at(15)));
        assert!(squeezed.take_due(at(14)).is_empty());
        assert_eq!(squeezed.take_due(at(15)).len(), 2);
        assert_eq!(squeezed.next_look(), Some(at(20)));
        assert!(!squeezed.leave(&life(0, 1)), "another one of the service is left");
        assert_eq!(squeezed.words(&life(0, 1).instance.service).as_deref(), Some("second"));
        assert!(squeezed.leave(&life(1, 1)));
        assert_eq!(squeezed.next_look(), None);
    }
}
