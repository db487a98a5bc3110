//! The thread that owns the connection: it opens it, writes batches, and makes the file again where
//! somebody takes it away.
//!
//! Nothing of this has a time limit: a disk that hangs holds up this thread and nobody else. What
//! cannot be opened is tried again; until then what is said waits (`inbox`), and when it can be, what
//! the file held is of another time and gives way to it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::history::{self, Question};
use super::inbox::{Batch, Call, Inbox, Load};
use super::open::{self, Opened};
use super::rows;
use super::{FORGOTTEN, Found, News, Tell};
use crate::edge::Identity;
use crate::model::history::History;
use crate::model::view::Event;

/// How far behind the facts a batch may be.
const BATCH_DELAY: Duration = Duration::from_millis(200);
/// After a write that failed (a full disk), the next try.
const RETRY_DELAY: Duration = Duration::from_secs(10);
/// How often a file that cannot be opened is tried again, and one that is open looked for.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// The same where somebody else looks ([`Store::look_for_its_file`](super::Store)), if anybody does.
const LOOK_SELDOM: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    path: PathBuf,
    era: String,
    inbox: Arc<Inbox>,
    /// Which file is open.
    lies: Arc<Mutex<Option<Identity>>>,
    is_near: bool,
    trouble: Arc<Mutex<Option<String>>>,
    tell: Option<Tell>,
    db: Option<(Connection, Identity)>,
    /// What the file holds was not told to this controller: the next write begins with emptying it.
    foreign: bool,
    /// The file that could be read at the start and not written: what it holds was told.
    read: Option<Identity>,
    /// The last write, or the last try to open it, failed.
    failing: bool,
    /// Something of this controller is written.
    written: bool,
}

impl Writer {
    pub fn new(
        path: &Path,
        era: &str,
        inbox: Arc<Inbox>,
        (lies, is_near): (Arc<Mutex<Option<Identity>>>, bool),
        trouble: Arc<Mutex<Option<String>>>,
        tell: Option<Tell>,
    ) -> Writer {
        let (path, era) = (path.to_path_buf(), era.to_string());
        let (foreign, failing, written) = (false, false, false);
        Writer { path, era, inbox, lies, is_near, trouble, tell, db: None, foreign, read: None, failing, written }
    }

    /// `was_taken`: it lay there, and is gone. `found`: who waits for what the last run left, for a while.
    pub fn run(mut self, was_taken: bool, found: &SyncSender<Found>) {
        if was_taken {
            let what = format!("the memory was begun anew: {} was taken away; {FORGOTTEN}", self.path.display());
            self.say_anew(what);
        }
        self.open();
        let what = self.find();
        // Nobody waits any more, or nothing was found: this controller began without.
        let nothing = self.db.is_none() && self.read.is_none();
        self.foreign = found.send(what.unwrap_or_default()).is_err() || nothing;
        if self.foreign {
            self.read = None;
        }
        crate::edge::stand_back(crate::edge::FAR);
        loop {
            let gather = match (self.db.is_some(), self.failing) {
                (true, false) => BATCH_DELAY,
                (true, true) => RETRY_DELAY,
                (false, _) => LOOK_EVERY,
            };
            let idle = if self.db.is_some() && self.is_near { LOOK_SELDOM } else { LOOK_EVERY };
            self.note_its_file();
            let Load { batch, calls, closed } = self.inbox.take(idle, gather);
            self.look();
            self.write(batch);
            for call in calls {
                self.answer(call);
            }
            if closed {
                return;
            }
        }
    }

    fn note_its_file(&self) {
        let identity = self.db.as_ref().map(|(_, identity)| *identity);
        *self.lies.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    fn open(&mut self) {
        let opened = match open::is_saved(&self.path) {
            true => open::put_back(&self.path).map_err(|error| {
                format!("{} was taken away and cannot be put back: {error}; trying on", self.path.display())
            }),
            false => open::open_usable(&self.path),
        };
        match opened {
            Ok(Opened { db, identity, note, anew }) => {
                self.db = Some((db, identity));
                let again = std::mem::take(&mut self.failing);
                match note {
                    Some(what) if anew => self.say_anew(what),
                    note => self.say(note, false),
                }
                if again {
                    tracing::info!("memory is written again");
                }
            }
            Err(why) => {
                self.failing = true;
                self.say(Some(why), true);
            }
        }
    }

    /// What the last run left.
    fn find(&mut self) -> Option<Found> {
        let Some((db, _)) = self.db.as_ref() else { return self.find_by_reading() };
        match rows::find(db, &self.era) {
            Ok(found) => Some(found),
            Err(error) => {
                self.begin_anew(&error, FORGOTTEN);
                self.db.is_some().then(Found::default)
            }
        }
    }

    /// Of a file that cannot be written: on a full disk, or one that may only be read, it is as true as ever.
    fn find_by_reading(&mut self) -> Option<Found> {
        let (db, identity) = open::readable(&self.path).ok()?;
        let found = rows::find(&db, &self.era).ok()?;
        self.read = Some(identity);
        Some(found)
    }

    /// A file whose pages are torn is put aside, for whoever wants to look at it.
    fn begin_anew(&mut self, error: &rusqlite::Error, forgotten: &str) {
        let shown = self.path.display().to_string();
        if !open::is_torn(error) {
            return self.say(Some(format!("{shown} cannot be read: {error}")), true);
        }
        // Closed first: it takes its journals with it.
        self.db = None;
        match open::move_aside(&self.path) {
            Ok(kept) => {
                self.open();
                let note = open::begun_anew(&self.path, error, forgotten, &kept);
                self.say_anew(note);
            }
            Err(aside) => {
                let text = format!("running without memory: {shown}: {error}, and it cannot be moved: {aside}");
                self.say(Some(text), true);
            }
        }
    }

    /// An event of the node, where one listens.
    fn say_anew(&self, what: String) {
        if self.tell.is_none() {
            return self.say(Some(what), false);
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.clone());
        self.tell(News::BegunAnew(what));
        self.tell(News::Trouble(None));
    }

    fn tell(&self, news: News) {
        if let Some(tell) = &self.tell {
            tell(news);
        }
    }

    /// Said once, however often it is found again.
    fn say(&self, text: Option<String>, lasting: bool) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble == text {
            return;
        }
        trouble.clone_from(&text);
        drop(trouble);
        if let Some(text) = &text {
            tracing::warn!("{text}");
        }
        self.tell(News::Trouble(text.filter(|_| lasting)));
    }

    /// Whether the file is still where it belongs.
    fn look(&mut self) {
        let path = self.path.display();
        match &self.db {
            None => {
                // What a copy holds, this controller was told or said itself.
                let known = open::is_saved(&self.path);
                self.open();
                if let Some((_, identity)) = &self.db {
                    self.foreign |= !known && self.read != Some(*identity);
                }
            }
            Some((_, identity)) if open::found_at(&self.path) == Some(*identity) => {}
            Some((db, _)) => match open::save(db, &self.path) {
                Ok(()) => {
                    tracing::warn!("{path} was taken away; it is made again, with all that it held");
                    // Closed before the new one is opened: it takes its journals with it.
                    self.db = None;
                    self.open();
                }
                Err(error) => {
                    self.say(Some(format!("{path} was taken away and cannot be made again: {error}; trying on")), true);
                }
            },
        }
    }

    fn write(&mut self, batch: Batch) {
        let Some((db, _)) = self.db.as_mut() else { return self.inbox.give_back(batch) };
        if batch.is_empty() && !self.foreign {
            return;
        }
        match rows::write(db, &batch, &self.era, self.foreign) {
            Ok(()) => {
                self.foreign = false;
                if !std::mem::replace(&mut self.written, true) {
                    self.tell(News::Written);
                }
                if batch.dropped > 0 {
                    tracing::warn!("{} events or memories found no room while nothing could be written", batch.dropped);
                }
                if std::mem::take(&mut self.failing) {
                    self.say(None, false);
                    tracing::info!("memory is written again");
                }
            }
            Err(error) if open::is_torn(&error) => {
                self.inbox.give_back(batch);
                // What it knows the controller says again.
                self.begin_anew(&error, "what was ordered by hand (stop, scale) is kept, the past is not");
            }
            Err(error) => {
                self.failing = true;
                self.inbox.give_back(batch);
                self.say(Some(format!("memory cannot be written ({error}); trying again every 10 s")), true);
            }
        }
    }

    fn answer(&self, call: Call) {
        // Nobody waits for the answer any more: that is theirs to know.
        match call {
            Call::Settle(reply) => drop(reply.send(self.db.is_some() && !self.failing)),
            Call::Recall { question, reply } => drop(reply.send(self.recall(&question))),
            Call::Events { since, service, limit, reply } => {
                drop(reply.send(self.events(since, service.as_deref(), limit)));
            }
        }
    }

    fn recall(&self, question: &Question) -> History {
        let written = self.db.as_ref().map(|(db, _)| history::read(db, question));
        let read = written.transpose().inspect_err(|error| tracing::warn!(%error, "the history cannot be read"));
        read.ok().flatten().unwrap_or_else(|| {
            let events = self.events(Some(question.since), Some(&question.service), history::EVENTS_TOLD);
            History { events, ..question.nothing() }
        })
    }

    fn events(&self, since: Option<Timestamp>, service: Option<&str>, limit: usize) -> Vec<Event> {
        let matching = |event: &Event| {
            since.is_none_or(|since| event.at >= since)
                && service.is_none_or(|name| event.service.as_deref() == Some(name))
        };
        let written = self.db.as_ref().map(|(db, _)| rows::read_events(db, since, service, limit));
        let mut events = written.and_then(Result::ok).unwrap_or_default();
        events.extend(self.inbox.events().into_iter().filter(matching));
        let surplus = events.len().saturating_sub(limit);
        events.drain(..surplus);
        events
    }
}
