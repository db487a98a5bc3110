//! Whether the status files are still what was written last.
//!
//! Somebody may delete one, or write to it. The directory's watch tells of every change, our own
//! renames included; a second later the file is compared with what was written, and where it differs
//! the runtime is told, which has it written again. Two who fight over a file do so once a second.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Known, NODE, Shared, Writer};
use crate::model::name::Name;

/// Told whose status file is not ours any more; `None` is the node's own.
pub type OnLost = Box<dyn FnMut(Option<&Name>) + Send>;

/// From the first news to the look at all that was told of.
const PAUSE: Duration = Duration::from_secs(1);
/// With more of them all files are looked at.
const STEMS_MAX: usize = 1024;

/// A way to say that a status file may have changed.
#[derive(Debug, Clone)]
pub struct StatusCheck {
    pub(super) shared: Arc<Shared>,
}

impl StatusCheck {
    /// `None`: any of them.
    pub fn look(&self, stem: Option<&str>) {
        let mut queue = self.shared.lock();
        let due = queue.suspects.add(stem, Instant::now());
        if queue.asleep.is_some_and(|until| until.is_none_or(|until| until > due)) {
            queue.asleep = None;
            self.shared.more.notify_one();
        }
    }
}

#[derive(Default)]
pub(super) struct Ear(Mutex<Option<OnLost>>);

impl Ear {
    pub fn set(&self, on_lost: OnLost) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_lost);
    }

    fn tell(&self, name: Option<&Name>) {
        if let Some(tell) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            tell(name);
        }
    }
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ear")
    }
}

/// The files that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    due: Option<Instant>,
    stems: BTreeSet<String>,
    all: bool,
}

impl Suspects {
    fn add(&mut self, stem: Option<&str>, now: Instant) -> Instant {
        match stem {
            Some(stem) if self.stems.len() < STEMS_MAX => drop(self.stems.insert(stem.to_string())),
            Some(_) | None => self.all = true,
        }
        *self.due.get_or_insert(now + PAUSE)
    }

    pub fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Those whose time has come.
    pub fn take(&mut self, now: Instant) -> Option<Suspects> {
        self.due.filter(|due| *due <= now).map(|_| std::mem::take(self))
    }
}

impl Writer {
    pub(super) fn look_at(&mut self, suspects: Suspects) {
        let stems: Vec<String> = match suspects.all {
            true => self.files.keys().cloned().collect(),
            false => suspects.stems.into_iter().collect(),
        };
        for stem in stems {
            // What could not be written is being tried again anyway.
            let Some(Known { mark: Some(mark), failed: None, lost, .. }) = self.files.get_mut(&stem) else { continue };
            if self.place.mark(&stem).as_ref() == Some(mark) {
                continue;
            }
            *lost = true;
            match Name::parse(&stem) {
                _ if stem == NODE => self.shared.lost.tell(None),
                Ok(name) => self.shared.lost.tell(Some(&name)),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_two_fight_over_is_looked_at_once_a_second() {
        let mut suspects = Suspects::default();
        let start = Instant::now();
        let mut looks = 0;
        for tenth in 0..50 {
            let now = start + Duration::from_millis(tenth * 100);
            suspects.add(Some("web"), now);
            looks += u32::from(suspects.take(now).is_some());
        }
        assert!((4..=5).contains(&looks), "{looks}");
    }

    #[test]
    fn with_too_many_names_all_are_looked_at() {
        let mut suspects = Suspects::default();
        let now = Instant::now();
        for n in 0..=STEMS_MAX {
            suspects.add(Some(&n.to_string()), now);
        }
        assert!(suspects.take(now + PAUSE).is_some_and(|due| due.all && due.stems.len() == STEMS_MAX));
        assert_eq!(suspects.next(), None);
    }
}
