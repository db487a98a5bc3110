//! The thread: waits for events and deadlines, looks at what is due, sends what is new.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::agenda::{Absence, Agenda, Look, News};
use super::desk::{Desk, Seen};
use super::disk;
use super::floor::Floor;
use super::names::{Candidate, candidate};
use super::presence::{EMPTIED_HOLD, Presence, REPLACED_QUIET, Sight, Verdict};
use super::watch::{Event, Watch};
use super::{OnAccepted, OnStatus, OnTick};
use crate::controller::Input;
use crate::edge::places::{Lock, LockError};
use crate::edge::{Identity, afar};
use crate::model::settings::Settings;

/// Held open for writing for longer than this is a problem.
const STILL_WRITING: Duration = Duration::from_secs(2);
/// A file brings up who names it, and that one whoever needs it anew.
const ROUNDS: usize = 3;
/// Messages taken before anything is looked at: a burst is one batch.
const BATCH_MAX: usize = 1024;

#[derive(Debug)]
pub(super) enum Message {
    Event(Event),
    Rescan,
    /// Dropped once everything was looked at and told, also what waits for a moment of quiet.
    RescanWhole(oneshot::Sender<()>),
    Confirm,
    Settings(Box<Settings>),
    Stop,
}

pub(super) struct Thread {
    pub desk: Desk,
    pub watch: Watch,
    /// Events were lost: everything is to be compared.
    pub lost_events: Arc<AtomicBool>,
    pub inbox: Receiver<Message>,
    pub out: mpsc::Sender<Input>,
    pub on_accepted: Option<OnAccepted>,
    pub on_status: Option<OnStatus>,
    pub on_tick: Option<OnTick>,
    pub agenda: Agenda,
    pub presence: Presence,
    pub floor: Floor,
    pub started: Instant,
    /// Files of the first scan that somebody writes.
    pub first: BTreeSet<PathBuf>,
    /// The first directory is locked by the keeper; one that replaces it by this.
    pub first_identity: Option<Identity>,
    pub lock: Option<Lock>,
    /// A replacement is still being filled: what it lacks is not missed before this.
    pub filling_until: Option<Duration>,
    /// Who waits for the next compare.
    pub waiting: Vec<oneshot::Sender<()>>,
}

/// The receiver is gone: nobody listens any more.
struct Closed;

impl Thread {
    pub fn run(mut self) {
        afar::begin(&self.desk.dir);
        // An error here says that the runtime has ended, and so do we.
        self.turn().ok();
    }

    fn turn(&mut self) -> Result<(), Closed> {
        self.look_at_directory()?;
        loop {
            self.follow_links();
            self.deliver()?;
            let now = self.started.elapsed();
            // While it is lost only its path is looked at: by events of its parent, and by the tick.
            let next = self.agenda.next().filter(|_| !self.presence.is_lost());
            let pause = next.into_iter().fold(self.floor.next(), Duration::min).saturating_sub(now);
            match self.inbox.recv_timeout(pause) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(message) => {
                    self.hear(message)?;
                    for _ in 0..BATCH_MAX {
                        match self.inbox.try_recv() {
                            Ok(Message::Stop) => return Ok(()),
                            Ok(message) => self.hear(message)?,
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.started.elapsed();
            if self.lost_events.swap(false, Ordering::Relaxed) {
                self.agenda.dirty(now, true);
            }
            if self.floor.tick_is_due(now) {
                if let Some(tell) = self.on_tick.as_mut() {
                    tell();
                }
                if afar::has_answered() {
                    self.desk.read_all_again();
                    self.desk.watch_changed = true;
                    self.agenda.dirty(now, true);
                }
                self.look_at_directory()?;
            }
            if self.presence.is_lost() {
                self.waiting.clear();
                continue;
            }
            self.desk.refreshed.clear();
            if !self.waiting.is_empty() {
                self.agenda.hurry(now);
            }
            self.look_at_due(now)?;
            if self.agenda.take_dirty(now) | self.floor.compare_is_due(now) {
                self.compare()?;
                self.answer_waiting()?;
            }
            self.filling_until.take_if(|until| *until <= now);
            self.end_first_scan();
        }
    }

    fn look_at_due(&mut self, now: Duration) -> Result<(), Closed> {
        for look in self.agenda.due(now) {
            self.look(&look)?;
            self.hand_over()?;
        }
        Ok(())
    }

    /// Everything was compared: what that brought up is looked at, too, before anybody is told so.
    fn answer_waiting(&mut self) -> Result<(), Closed> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            self.look_at_due(self.started.elapsed())?;
        }
        self.deliver()?;
        self.waiting.clear();
        Ok(())
    }

    fn hear(&mut self, message: Message) -> Result<(), Closed> {
        let now = self.started.elapsed();
        match message {
            Message::Event(event) => self.hear_event(event, now)?,
            Message::Rescan => {
                self.look_at_directory()?;
                self.agenda.dirty(now, true);
            }
            Message::RescanWhole(done) => {
                self.look_at_directory()?;
                self.agenda.dirty(now, true);
                self.waiting.push(done);
            }
            Message::Confirm => self.confirm()?,
            Message::Settings(settings) => {
                self.desk.set_settings(*settings);
                self.desk.again.clear();
                self.agenda.dirty(now, true);
            }
            Message::Stop => {}
        }
        Ok(())
    }

    fn hear_event(&mut self, Event { path, news, entry }: Event, now: Duration) -> Result<(), Closed> {
        if path == self.desk.dir {
            if matches!(news, News::Unlinked | News::MovedAway) {
                self.watch.forget(&path);
            }
            return self.look_at_directory();
        }
        if self.presence.is_lost() {
            return self.look_at_directory();
        }
        if self.filling_until.is_some() {
            self.filling_until = Some(now + REPLACED_QUIET);
            self.agenda.doubt(now, REPLACED_QUIET);
        }
        if self.watch.is_watched(&path) && entry {
            self.watch.forget(&path);
            self.agenda.dirty(now, true);
        }
        if self.desk.users.contains_key(&path) {
            self.agenda.news(&path, news, self.desk.is_declared(&path), now);
            // A folder that is made is listened to from now on.
            self.desk.watch_changed |= entry && self.desk.is_listened(&path);
        } else if let Some(folder) = path.parent().filter(|_| entry || news == News::Complete)
            && self.desk.users.contains_key(folder)
        {
            // A name that somebody may watch.
            self.agenda.news(folder, news.of_folder(), self.desk.is_declared(folder), now);
        }
        if let Some(stem) = self.drop_in_of(&path) {
            for file in self.desk.drop_in_changed(&stem) {
                let manifest = self.desk.path_of(&file);
                self.agenda.news(&manifest, News::Partial, true, now);
            }
            return Ok(());
        }
        let Some(file) = self.desk.file_of(&path) else {
            if entry && !self.desk.users.contains_key(&path) {
                // A directory on the way to something that is depended on.
                self.desk.watch_changed = true;
                self.agenda.dirty(now, true);
            }
            return Ok(());
        };
        let name = Path::new(&file).file_name().unwrap_or_default();
        match candidate(name) {
            Candidate::Manifest { .. } | Candidate::Script { .. } | Candidate::Defaults | Candidate::Settings => {
                self.agenda.news(&path, news, self.desk.is_declared(&path), now);
                if matches!(news, News::Unlinked | News::MovedAway) && disk::lstat(&path).is_err() {
                    self.desk.missing(&file);
                }
            }
            Candidate::DropIns { .. } | Candidate::Wrappers | Candidate::Mcp => {
                self.desk.watch_changed = true;
                self.agenda.dirty(now, true);
            }
            // A Kubernetes ConfigMap is swapped by a rename of `..data` alone. What is only written
            // to (a log file in the directory) changes nothing of ours.
            Candidate::Misnamed { .. } | Candidate::Refused { .. } | Candidate::Skipped | Candidate::Other if entry => {
                self.agenda.dirty(now, file.starts_with(".."));
            }
            Candidate::Misnamed { .. } | Candidate::Refused { .. } | Candidate::Skipped | Candidate::Other => {}
        }
        Ok(())
    }

    /// The stem of `STEM.yaml.d/…`.
    fn drop_in_of(&self, path: &Path) -> Option<String> {
        let folder = path.parent()?;
        if folder.parent() != Some(&self.desk.dir) {
            return None;
        }
        match candidate(folder.file_name()?) {
            Candidate::DropIns { stem } => Some(stem),
            _ => None,
        }
    }

    fn look(&mut self, look: &Look) -> Result<(), Closed> {
        let now = self.started.elapsed();
        let Look { path, complete } = look;
        let mut seen = Seen::Done;
        if self.desk.users.contains_key(path) {
            seen = self.desk.dependency(path, *complete, now);
        }
        let file = self.desk.file_of(path);
        if let Some(file) = file.as_ref().filter(|_| seen == Seen::Done) {
            seen = self.desk.look(file, *complete, now);
        }
        match seen {
            Seen::Done => {
                self.agenda.done(path);
                self.desk.not_writing(path);
                if file.as_ref().is_some_and(|file| self.desk.knows(file)) {
                    self.found_manifests(true, now);
                }
            }
            Seen::Later(at) => {
                self.agenda.done(path);
                self.agenda.later(path, at);
            }
            Seen::Busy(held) => {
                if self.agenda.busy(path, now) >= STILL_WRITING {
                    self.desk.still_writing(&held, path);
                }
                return Ok(());
            }
            Seen::Absent => {
                // No directory is not an empty directory.
                self.look_at_directory()?;
                if self.presence.is_lost() {
                    return Ok(());
                }
                let Some(file) = file else { return Ok(()) };
                if !self.desk.knows(&file) {
                    self.agenda.done(path);
                } else if self.agenda.absent(path, now, self.grace(now)) == Absence::ForGood {
                    self.desk.gone(&file);
                } else {
                    self.desk.missing(&file);
                }
            }
        }
        self.first.remove(path);
        for file in std::mem::take(&mut self.desk.again) {
            self.agenda.later(&self.desk.path_of(&file), now);
        }
        Ok(())
    }

    /// Whether the directory holds anything now.
    fn found_manifests(&mut self, any: bool, now: Duration) {
        if std::mem::replace(&mut self.floor.emptied, !any) && any {
            // It holds something again: what else is missing is missed as ever.
            self.agenda.relent(now, self.floor.absence_grace());
        }
    }

    /// How long an absence is doubted that no event told of.
    fn grace(&self, now: Duration) -> Duration {
        let filling = self.filling_until.map(|until| until.saturating_sub(now));
        filling.unwrap_or_else(|| if self.floor.emptied { EMPTIED_HOLD } else { self.floor.absence_grace() })
    }

    /// Compares all entries with what is known of them.
    fn compare(&mut self) -> Result<(), Closed> {
        let now = self.started.elapsed();
        self.floor.compared(now);
        self.agenda.clean();
        if let Some(tell) = &self.on_status {
            tell.tell(None);
        }
        let entries = match self.desk.entries() {
            Ok(entries) => entries,
            Err(error) => return self.lose(&error),
        };
        let is_manifest = |file: &String| matches!(candidate(file.as_ref()), Candidate::Manifest { .. });
        self.found_manifests(entries.iter().any(is_manifest), now);
        let there: BTreeSet<&String> = entries.iter().collect();
        let gone: Vec<String> = self.desk.known_files().into_iter().filter(|file| !there.contains(file)).collect();
        // What is gone first: a file that was renamed hands its name over before the new one asks for it.
        for file in gone.iter().chain(&entries) {
            let path = self.desk.path_of(file);
            if !self.agenda.is_waiting(&path) {
                self.look(&Look { path, complete: false })?;
                self.hand_over()?;
            }
            if self.presence.is_lost() {
                return Ok(());
            }
        }
        self.desk.refreshed.clear();
        for path in self.desk.dependencies() {
            if !self.agenda.is_waiting(&path) {
                self.look(&Look { path, complete: false })?;
            }
        }
        self.desk.tidy();
        // A watch that was lost is taken up again.
        self.desk.watch_changed = true;
        Ok(())
    }

    /// The entries cannot be read: that is not an empty directory.
    fn lose(&mut self, error: &std::io::Error) -> Result<(), Closed> {
        let why = format!("{} cannot be read: {error}", self.desk.dir.display());
        let verdict = self.presence.look(Sight::Nothing(why), || false);
        self.judge(verdict)
    }

    fn look_at_directory(&mut self) -> Result<(), Closed> {
        let dir = &self.desk.dir;
        let verdict = self.presence.look(disk::sight(dir), || disk::holds_manifest(dir));
        self.judge(verdict)
    }

    fn confirm(&mut self) -> Result<(), Closed> {
        if !self.presence.is_lost() {
            return Ok(());
        }
        let verdict = self.presence.confirm(disk::sight(&self.desk.dir));
        if verdict == Verdict::Held {
            self.desk.withdraw_all();
        }
        self.judge(verdict)
    }

    fn judge(&mut self, verdict: Verdict) -> Result<(), Closed> {
        match verdict {
            Verdict::Same | Verdict::Held => Ok(()),
            Verdict::Lost(why) => {
                self.agenda = Agenda::default();
                self.floor.look_soon(self.started.elapsed());
                self.deliver()?;
                // The one above is watched from now on: it tells when the directory is back.
                self.desk.watch_changed = true;
                self.send(Input::DirectoryLost(why))
            }
            Verdict::Accept { found, doubt } => {
                let identity = self.presence.accepted();
                if let Err(why) = self.take_lock(identity) {
                    let verdict = self.presence.refuse(self.first_identity, why);
                    return self.judge(verdict);
                }
                let now = self.started.elapsed();
                self.floor.settle(&self.desk.dir, now);
                self.watch.forget(&self.desk.dir);
                self.desk.watch_changed = true;
                self.follow_links();
                self.filling_until = doubt.map(|doubt| now + doubt);
                if found {
                    self.send(Input::DirectoryFound)?;
                }
                if let Some(tell) = self.on_accepted.as_mut() {
                    tell(disk::open_directory(&self.desk.dir).filter(|fd| disk::identity(fd) == identity));
                }
                self.compare()?;
                self.begin_first_scan();
                Ok(())
            }
        }
    }

    fn take_lock(&mut self, identity: Option<Identity>) -> Result<(), String> {
        let first = *self.first_identity.get_or_insert(identity.unwrap_or_default());
        self.lock = None;
        if identity == Some(first) {
            return Ok(());
        }
        match Lock::take(&self.desk.dir, None) {
            Ok(lock) => self.lock = Some(lock),
            Err(error @ LockError::Held { .. }) => return Err(error.to_string()),
            // Where directories cannot be locked the first one is not either.
            Err(LockError::Io { .. }) => {}
        }
        Ok(())
    }

    /// What the first scan could not read yet is waited for.
    fn begin_first_scan(&mut self) {
        if self.desk.is_scanning() {
            self.first = self.agenda.waiting();
            self.end_first_scan();
        }
    }

    fn end_first_scan(&mut self) {
        // A look that failed has shown nothing: with "all was read" what is not declared would be stopped.
        if !self.desk.is_scanning() || self.presence.is_lost() || self.presence.accepted().is_none() {
            return;
        }
        let (desk, agenda) = (&self.desk, &self.agenda);
        self.first
            .retain(|path| agenda.is_waiting(path) && desk.file_of(path).is_some_and(|file| !desk.has_read(&file)));
        if self.first.is_empty() {
            self.desk.scanned();
            self.desk.named.was_read();
            self.desk.tell_problems();
            self.desk.outbox.push(Input::Scanned);
        }
    }

    /// Watches what is depended on now, again until there is nothing new to watch: a directory may
    /// be made while the one above it is about to be watched.
    fn follow_links(&mut self) {
        while std::mem::take(&mut self.desk.watch_changed) {
            let (mut whole, mut paths) = (BTreeSet::new(), BTreeSet::new());
            paths.insert(self.desk.dir.clone());
            let hops = disk::hops(&self.desk.dir);
            // A link is swapped by whoever writes beside it.
            let heard = Some(self.desk.dir.clone()).filter(|_| hops.is_empty() && !self.presence.is_lost());
            paths.extend(hops);
            if !self.presence.is_lost() {
                whole.extend(self.desk.folders());
                whole.extend(self.desk.listened().iter().cloned());
                paths.extend(self.desk.users.keys().cloned());
            }
            let new = self.watch.set(whole, paths, heard.as_deref());
            self.desk.watch_changed = !new.is_empty();
            let now = self.started.elapsed();
            // What happened before the watch was not told.
            if self.desk.folders().any(|folder| new.contains(&folder)) {
                self.agenda.dirty(now, true);
            }
            let is_new = |path: &Path| new.contains(path) || path.parent().is_some_and(|dir| new.contains(dir));
            for used in self.desk.users.keys().filter(|used| !new.is_empty() && is_new(used)) {
                self.agenda.later(used, now);
            }
            self.floor.healthy = self.watch.is_healthy();
        }
    }

    fn deliver(&mut self) -> Result<(), Closed> {
        self.desk.tell_problems();
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), Closed> {
        for input in std::mem::take(&mut self.desk.outbox) {
            self.send(input)?;
        }
        Ok(())
    }

    fn send(&self, input: Input) -> Result<(), Closed> {
        self.out.blocking_send(input).map_err(|_| Closed)
    }
}
