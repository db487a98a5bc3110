//! inotify, by way of notify: directories only, never files.
//!
//! notify's mask is fixed and includes opens, so that every read of ours makes events: what means
//! nothing is dropped in its callback, before it wakes our thread. Of the main directory all names
//! are told; of the others only the paths that somebody depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use notify::event::{AccessKind, AccessMode, EventKind, MetadataKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::OnStatus;
use super::agenda::News;
use super::disk;
use super::thread::Message;
use crate::edge::Identity;

/// One event of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub path: PathBuf,
    pub news: News,
    /// An entry came, went or was renamed; not only a content.
    pub entry: bool,
}

/// What the callback lets through.
#[derive(Debug, Default)]
struct Interest {
    /// Directories of which all names matter.
    whole: BTreeSet<PathBuf>,
    paths: BTreeSet<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Watch {
    ears: Option<Ears>,
    told: Told,
    watched: BTreeMap<PathBuf, Identity>,
    /// What is not heard of now, which was said.
    deaf: bool,
}

/// A watcher, and whether its thread lives.
#[derive(Debug)]
struct Ears {
    watcher: RecommendedWatcher,
    thread: Weak<()>,
}

/// Whom the watcher's thread tells of what.
#[derive(Debug, Clone)]
struct Told {
    to: SyncSender<Message>,
    /// Of the status files in which directory.
    status: Option<(PathBuf, OnStatus)>,
    interest: Arc<RwLock<Interest>>,
    /// Events were lost: everything is to be compared.
    lost: Arc<AtomicBool>,
}

impl Told {
    fn tell(&self, message: Message) {
        match self.to.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // The thread has thousands of messages before it: it will see this when it gets there.
            Err(TrySendError::Full(_)) => self.lost.store(true, Ordering::Relaxed),
        }
    }

    fn hear(&self, event: notify::Result<notify::Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.tell(Message::Rescan),
            Ok(event) => {
                if let Some((dir, told)) = &self.status
                    && let Some(stem) = status_changed(&event, dir)
                {
                    return told.tell(Some(stem));
                }
                if let Some(event) = meaning(event, &self.interest.read().unwrap_or_else(PoisonError::into_inner)) {
                    self.tell(Message::Event(event));
                }
            }
            Err(_) => self.tell(Message::Rescan),
        }
    }
}

impl Watch {
    /// `status`: who is told of the status files in which directory.
    pub fn start(to: SyncSender<Message>, status: Option<(PathBuf, OnStatus)>) -> Watch {
        let told = Told { to, status, interest: Arc::default(), lost: Arc::default() };
        Watch { ears: None, told, watched: BTreeMap::new(), deaf: false }
    }

    pub fn lost_events(&self) -> Arc<AtomicBool> {
        self.told.lost.clone()
    }

    /// Whether the kernel tells of changes at all.
    pub fn is_healthy(&self) -> bool {
        self.ears.is_some() && !self.deaf
    }

    /// Has a watcher whose thread lives. notify does not say where that could not be started or has ended: its
    /// next call would panic, and so would its end, so the old one is never dropped.
    fn listen(&mut self) -> notify::Result<&mut RecommendedWatcher> {
        if self.let_go_of_the_dead() {
            self.watched.clear();
        }
        if self.ears.is_none() {
            let (told, lives) = (self.told.clone(), Arc::new(()));
            let thread = Arc::downgrade(&lives);
            let hear = move |event| {
                let _ = &lives;
                told.hear(event);
            };
            self.ears = Some(Ears { watcher: notify::recommended_watcher(hear)?, thread });
            if self.let_go_of_the_dead() {
                return Err(notify::Error::generic("no thread can be started for it"));
            }
        }
        Ok(&mut self.ears.as_mut().expect("made above").watcher)
    }

    /// Whether there was a watcher whose thread does not live.
    fn let_go_of_the_dead(&mut self) -> bool {
        let dead = self.ears.take_if(|ears| ears.thread.strong_count() == 0);
        dead.map(|ears| std::mem::forget(ears.watcher)).is_some()
    }

    /// Watches exactly these: all names in `whole`, and `paths` by their directories. A directory
    /// that was replaced behind its path is watched anew.
    ///
    /// `heard` tells of itself while it is there (moved, deleted): the directory above it, which may
    /// be a busy one, is not watched for its sake.
    ///
    /// Returns the paths that are heard of only from now on: what happened to them between the look
    /// and the watch was not told.
    pub fn set(
        &mut self,
        whole: BTreeSet<PathBuf>,
        mut paths: BTreeSet<PathBuf>,
        heard: Option<&Path>,
    ) -> BTreeSet<PathBuf> {
        // Where a directory is missing, the next one above that exists tells when it is made.
        let silent = paths.iter().filter(|path| heard != Some(path.as_path()));
        let mut parents: BTreeSet<PathBuf> = silent.filter_map(|path| path.parent()).map(Path::to_path_buf).collect();
        for missing in parents.clone() {
            let mut dir = missing.as_path();
            while disk::stat(dir).is_err()
                && let Some(above) = dir.parent()
            {
                paths.insert(dir.to_path_buf());
                parents.insert(above.to_path_buf());
                dir = above;
            }
        }
        let dirs: BTreeSet<PathBuf> = whole.iter().cloned().chain(parents).collect();
        // The filter first: an event that comes in with the new watch must pass.
        let mut added: BTreeSet<PathBuf> = {
            let mut interest = self.told.interest.write().unwrap_or_else(PoisonError::into_inner);
            let new = paths.difference(&interest.paths).chain(whole.difference(&interest.whole)).cloned().collect();
            *interest = Interest { whole, paths };
            new
        };
        if let Err(error) = self.hear_of(&dirs, &mut added) {
            if !std::mem::replace(&mut self.deaf, true) {
                tracing::warn!("{error}: the directory is looked at every second instead");
            }
        } else if std::mem::take(&mut self.deaf) {
            tracing::info!("changes in the directory are told again");
        }
        added
    }

    /// Watches these directories and no others; which of them are new.
    fn hear_of(&mut self, dirs: &BTreeSet<PathBuf>, added: &mut BTreeSet<PathBuf>) -> Result<(), String> {
        self.listen().map_err(|error| format!("inotify cannot be used ({error})"))?;
        let Watch { ears: Some(Ears { watcher, .. }), watched, .. } = self else { return Ok(()) };
        watched.retain(|dir, identity| {
            let same = disk::stat(dir).is_ok_and(|found| (found.dev, found.ino) == *identity);
            let keep = same && dirs.contains(dir);
            if !keep {
                // The kernel drops the watch of a removed directory by itself.
                watcher.unwatch(dir).ok();
            }
            keep
        });
        let mut refused = Ok(());
        for dir in dirs {
            if watched.contains_key(dir) {
                continue;
            }
            let Ok(found) = disk::stat(dir) else { continue };
            if !found.is_dir() {
                continue;
            }
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    added.insert(dir.clone());
                    watched.insert(dir.clone(), (found.dev, found.ino));
                }
                Err(error) if disk::stat(dir).is_ok() => {
                    refused = refused.and(Err(format!("{} cannot be watched ({error})", dir.display())));
                }
                Err(_) => {}
            }
        }
        refused
    }

    /// The watch of this directory is gone (removed, moved away): watch it anew next time.
    pub fn forget(&mut self, dir: &Path) {
        if self.watched.remove(dir).is_some()
            && let Some(ears) = self.ears.as_mut().filter(|ears| ears.thread.strong_count() > 0)
        {
            ears.watcher.unwatch(dir).ok();
        }
    }

    pub fn is_watched(&self, dir: &Path) -> bool {
        self.watched.contains_key(dir)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.let_go_of_the_dead();
    }
}

/// The stem of the status file in `dir` that may no longer be what was written last. Our own renames
/// look the same: who is told compares.
fn status_changed<'a>(event: &'a notify::Event, dir: &Path) -> Option<&'a str> {
    let changed = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => true,
        EventKind::Modify(ModifyKind::Name(mode)) => mode != RenameMode::Both,
        EventKind::Access(_) | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => false,
    };
    let path = event.paths.first().filter(|path| changed && path.parent() == Some(dir))?;
    path.file_name()?.to_str()?.strip_suffix(".status")
}

fn meaning(event: notify::Event, interest: &Interest) -> Option<Event> {
    let news = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => News::Complete,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => News::Complete,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => News::MovedAway,
        // `Both` repeats a pair of From and To.
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Access(_) => return None,
        EventKind::Create(_) | EventKind::Modify(_) => News::Partial,
        EventKind::Remove(_) => News::Unlinked,
        EventKind::Any | EventKind::Other => return None,
    };
    let written = matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)));
    let entry = !written && event.kind != EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    let path = event.paths.into_iter().next()?;
    let name = path.file_name()?.as_encoded_bytes();
    if name.ends_with(b".status") || name == b".plugd" {
        return None;
    }
    let wanted = path.parent().is_some_and(|dir| interest.whole.contains(dir))
        || interest.paths.contains(&path)
        || interest.whole.contains(&path);
    wanted.then_some(Event { path, news, entry })
}
