//! Watching and reading `services.d`: events in, declarations out.
//!
//! One thread owns all contact with the directory. An event is only news that something may have
//! changed: what is declared always comes from looking at the files again. The decisions are pure
//! and have files of their own: which names are candidates (`names`), when a file is looked at and
//! when an absence counts (`agenda`), who owns a name (`register`), what a missing directory means
//! (`presence`), whom a file is trusted to (`trust`). The rest is I/O: reading (`disk`),
//! finding wrappers (`resolve`) and watched files (`watched`), watching (`watch`); what lies elsewhere and may not answer is looked at by
//! a second thread (`edge::afar`).
//!
//! Not here: what a manifest means (`model::manifest`) and what is done about it (the brain).

mod accepted;
mod agenda;
mod desk;
mod disk;
mod floor;
mod load;
mod names;
mod owners;
mod parse;
mod presence;
mod recall;
mod resolve;
mod scripts;
mod thread;
mod trust;
mod watch;
mod watched;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use self::desk::Desk;
use self::presence::{Presence, Verdict};
use self::recall::Recall;
use self::thread::{Message, Thread};
use self::trust::Surroundings;
use self::watch::Watch;
use crate::controller::Input;
use crate::edge::named::Named;
use crate::edge::store::Store;
use crate::model::manifest::{self, Reading, Text};
use crate::model::settings::Settings;

pub use accepted::settings_before;
pub use desk::DROP_INS_MAX;
pub use disk::{read_handed, read_named, reader};
pub use load::{Invalid, Loaded, load, load_some, resolve_one};
pub use names::{is_drop_in, is_its_own};
pub use parse::OwnedText;
pub use scripts::no_program;
pub use trust::in_container;

/// Events that wait for the thread; what comes beyond them is found by a compare. An eighth of the
/// kernel's own queue.
const MESSAGES_MAX: usize = 2048;

/// What the thread is told at its start.
pub struct Config {
    /// The directory as it was named; made absolute, never resolved, so that a link that is swapped
    /// is seen.
    pub dir: PathBuf,
    pub settings: Settings,
    /// The text of `_plugd.yaml` that they come from, where a controller before this one read it.
    pub settings_text: Option<Vec<u8>>,
    /// Recorded owners of names and claims of scripts are read from it and written to it.
    pub store: Store,
    /// The run directory, where there is one: what the watched files were is noted there.
    pub run: Option<PathBuf>,
    /// Told the text of `_plugd.yaml` when it is first seen and at each change (`None`: it is gone);
    /// an error says that it was refused and that the last good settings stay.
    pub on_settings: Option<OnSettings>,
    /// The directory that the controller before this one had accepted last: with an empty one at its place all
    /// is held.
    pub before: Option<OwnedFd>,
    /// Told each time that a directory is accepted at the path: the first, and each that replaces it. Given the
    /// directory itself, where it can be opened.
    pub on_accepted: Option<OnAccepted>,
    /// Where the files are noted that manifests name.
    pub named: Arc<Named>,
    /// Told that a status file was written, moved or removed, by whomever.
    pub on_status: Option<OnStatus>,
    /// Called at each tick: every 5 s, so that others need no clock of their own.
    pub on_tick: Option<OnTick>,
}

pub type OnSettings = Box<dyn FnMut(Option<&[u8]>) -> Result<(), String> + Send>;
pub type OnAccepted = Box<dyn FnMut(Option<OwnedFd>) + Send>;
pub type OnTick = Box<dyn FnMut() + Send>;

/// Told the stem of a `STEM.status`, or that any of them may have changed.
#[derive(Clone)]
pub struct OnStatus(Arc<TellStatus>);

type TellStatus = dyn Fn(Option<&str>) + Send + Sync;

impl OnStatus {
    pub fn new(tell: impl Fn(Option<&str>) + Send + Sync + 'static) -> OnStatus {
        OnStatus(Arc::new(tell))
    }

    fn tell(&self, stem: Option<&str>) {
        (self.0)(stem);
    }
}

impl std::fmt::Debug for OnStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnStatus")
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("dir", &self.dir).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The running thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Directory {
    to: SyncSender<Message>,
    lost_events: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Directory {
    /// Starts to watch and to read. Sends `Scanned` after the first scan, then changes as they happen.
    pub fn start(config: Config, out: mpsc::Sender<Input>) -> io::Result<Directory> {
        let Config {
            dir,
            settings,
            settings_text,
            store,
            run,
            on_settings,
            before,
            on_accepted,
            named,
            on_status,
            on_tick,
        } = config;
        let memory = (store, Recall::at(run.as_deref()));
        let dir = std::path::absolute(dir)?;
        let (to, inbox) = sync_channel(MESSAGES_MAX);
        let watch = Watch::start(to.clone(), on_status.clone().map(|tell| (dir.clone(), tell)));
        let lost_events = watch.lost_events();
        let surroundings = surroundings(&dir, &settings);
        let thread = Thread {
            desk: Desk::new(dir, (settings, settings_text), surroundings, memory, on_settings, named),
            watch,
            lost_events: lost_events.clone(),
            inbox,
            out,
            on_accepted,
            on_status,
            on_tick,
            agenda: Default::default(),
            presence: Presence::after(before.as_ref().and_then(disk::identity)),
            floor: Default::default(),
            started: Instant::now(),
            first: Default::default(),
            first_identity: None,
            lock: None,
            filling_until: None,
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("directory".into()).spawn(move || thread.run())?;
        Ok(Directory { to, lost_events, thread: Some(thread) })
    }

    /// Look at everything now (SIGHUP); the sender is dropped once all that was written by now is told.
    pub fn rescan(&self) -> oneshot::Receiver<()> {
        let (done, looked) = oneshot::channel();
        self.tell(Message::RescanWhole(done));
        looked
    }

    /// `plugd rm --missing`: what a lost directory held is let go.
    pub fn confirm_missing(&self) {
        self.tell(Message::Confirm);
    }

    /// The settings in force changed.
    pub fn settings(&self, settings: Settings) {
        self.tell(Message::Settings(Box::new(settings)));
    }

    /// Never blocks: a full queue means that everything is about to be compared anyway.
    fn tell(&self, message: Message) {
        if self.to.try_send(message).is_err() {
            self.lost_events.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.to.try_send(Message::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A thread that waits for a full channel or a hanging filesystem is left behind.
            drop(thread);
        }
    }
}

/// The text of `_plugd.yaml`, None where there is none; refused like any file that a third party may write.
pub fn settings_text(dir: &Path, settings: &Settings) -> Result<Option<Vec<u8>>, String> {
    desk::settings_text(dir, &surroundings(dir, settings))
}

/// Where to look for the directory that was accepted last, while it is lost: another one without a manifest, or
/// nothing, is at its path. It lives as long as `accepted`.
pub fn covered(dir: &Path, accepted: &OwnedFd) -> Option<PathBuf> {
    let first = Presence::after(disk::identity(accepted)).look(disk::sight(dir), || disk::holds_manifest(dir));
    let through = PathBuf::from(format!("/proc/self/fd/{}", accepted.as_raw_fd()));
    matches!(first, Verdict::Lost(_)).then_some(through)
}

/// Whether the directory itself may be used: `Err` is the reason to refuse it (exit 78), `Ok(Some)`
/// a standing warning.
pub fn admit(dir: &Path, settings: &Settings) -> Result<Option<String>, String> {
    let found = disk::stat(dir).map_err(|errno| format!("{}: {}", dir.display(), io::Error::from(errno)))?;
    if !found.is_dir() {
        return Err(format!("{} is {}, not a directory", dir.display(), found.kind()));
    }
    match surroundings(dir, settings).judge(dir, &found, None) {
        Some(finding) if finding.refused => Err(finding.message),
        finding => Ok(finding.map(|finding| finding.message)),
    }
}

/// Files that make no service though they look as if they were meant to: what to do, a sentence each.
pub fn bystanders(dir: &Path) -> Vec<String> {
    let entries: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    let is_there = |file: &str| entries.iter().any(|entry| entry.file_name() == file);
    let of_entry = |entry: &std::fs::DirEntry| {
        let found = disk::stat(&entry.path());
        match found.is_ok_and(|found| found.is_dir()) {
            true => names::orphan(&entry.file_name(), is_there).or_else(|| unread_folder(entry)),
            false => names::bystander(&entry.file_name(), found.is_ok_and(|found| found.is_executable())),
        }
    };
    let mut told: Vec<String> = entries.iter().filter_map(of_entry).collect();
    told.sort();
    told
}

/// Looked at in a folder: enough to tell what it is for.
const FOLDER_MAX: usize = 100;

/// A folder of manifests, of which none is read.
fn unread_folder(entry: &std::fs::DirEntry) -> Option<String> {
    use names::Candidate;
    let name = entry.file_name();
    let may_be_meant =
        matches!(names::candidate(&name), Candidate::Script { .. } | Candidate::Misnamed { .. } | Candidate::Other);
    let folder = may_be_meant.then(|| entry.path())?;
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten().take(FOLDER_MAX);
    let is_manifest = |file: std::fs::DirEntry| {
        let Candidate::Manifest { stem } = names::candidate(&file.file_name()) else { return false };
        let shown = file.file_name().to_string_lossy().into_owned();
        // A file of another tool is none.
        disk::read_named(&file.path()).is_ok_and(|text| {
            let main = Text { file: &shown, text: &text };
            let reading = Reading { main, stem: &stem, dir: &folder, defaults: None, drop_ins: Vec::new() };
            manifest::read_named(&reading, &file.path()).is_ok()
        })
    };
    let shown = name.to_string_lossy();
    files.into_iter().any(is_manifest).then(|| format!("{shown}/ is not read: manifests lie directly in the directory"))
}

/// Device and inode of the directory at a path, through links; None where there is none, or no answer.
pub fn identity(dir: &Path) -> Option<(u64, u64)> {
    disk::stat(dir).ok().filter(disk::Stamp::is_dir).map(|found| (found.dev, found.ino))
}

fn surroundings(dir: &Path, settings: &Settings) -> Surroundings {
    let uid = rustix::process::geteuid().as_raw();
    let dir_owner = disk::stat(dir).map_or(uid, |found| found.uid);
    Surroundings { uid, container: trust::in_container(), dir_owner, trust: settings.trust }
}
