//! The thread that owns the connection: it gathers what is said and writes it in batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::Job;
use super::open::say;
use super::{history, rows};
use crate::controller::Memory;
use crate::model::history::History;
use crate::model::name::Name;
use crate::model::view::Event;

/// How far behind the facts a batch may be.
const BATCH_DELAY: Duration = Duration::from_millis(200);
/// After a write that failed (a full disk), the next try.
const RETRY_DELAY: Duration = Duration::from_secs(10);
/// Events waiting for a disk that takes none; the oldest go first.
const WAITING_MAX: usize = 2_000;

/// Somebody waits for an answer: the pause in which a batch gathers is over.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    called: Mutex<bool>,
    bell: Condvar,
}

impl Urgent {
    pub fn call(&self) {
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }

    fn wait(&self, limit: Duration) {
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(called, limit, |called| !*called);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What waits for the next transaction. Bounded: one entry a name, and [`WAITING_MAX`] events.
#[derive(Default)]
pub(super) struct Batch {
    pub memories: BTreeMap<Name, Option<Memory>>,
    pub owners: BTreeMap<Name, Option<String>>,
    pub claims: BTreeMap<String, Option<String>>,
    pub accepted: BTreeMap<String, Option<String>>,
    pub events: VecDeque<Event>,
    pub past: history::Pending,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let Batch { memories, owners, claims, accepted, events, past } = self;
        memories.is_empty()
            && owners.is_empty()
            && claims.is_empty()
            && accepted.is_empty()
            && events.is_empty()
            && past.is_empty()
    }
}

/// The thread that owns the connection.
pub(super) struct Keeper {
    pub db: Option<Connection>,
    pub era: String,
    pub batch: Batch,
    pub trouble: Arc<Mutex<Option<String>>>,
    pub failing: bool,
}

impl Keeper {
    pub fn run(mut self, inbox: &mpsc::Receiver<Job>, urgent: &Urgent) {
        crate::edge::stand_back();
        loop {
            if self.batch.is_empty() {
                let goes_on = inbox.recv().is_ok_and(|job| self.take(job));
                if !goes_on {
                    return self.write();
                }
            }
            if !self.batch.is_empty() {
                // What comes meanwhile waits in the channel and wakes nobody.
                urgent.wait(if self.failing { RETRY_DELAY } else { BATCH_DELAY });
            }
            while let Ok(job) = inbox.try_recv() {
                if !self.take(job) {
                    return self.write();
                }
            }
            self.write();
        }
    }

    /// False at the end.
    fn take(&mut self, job: Job) -> bool {
        match job {
            Job::Close => return false,
            Job::Events { since, service, limit, reply } => {
                self.write();
                // Nobody waits for the answer any more: that is theirs to know.
                reply.send(self.events(since, service.as_deref(), limit)).ok();
            }
            Job::Recall { question, reply } => {
                self.write();
                reply.send(self.recall(&question)).ok();
            }
            Job::Settle(reply) => {
                self.write();
                reply.send(()).ok();
            }
            job => self.note(job),
        }
        true
    }

    fn note(&mut self, job: Job) {
        match job {
            Job::Remember(name, memory) => {
                self.batch.memories.insert(name, Some(memory));
            }
            Job::Forget(name) => {
                self.batch.memories.insert(name.clone(), None);
                self.batch.owners.insert(name, None);
            }
            Job::Owner(name, file) => {
                self.batch.owners.insert(name, file);
            }
            Job::Claim(script, stamp) => {
                self.batch.claims.insert(script, stamp);
            }
            Job::Accept(file, text) => {
                self.batch.accepted.insert(file, text);
            }
            Job::Record(event) => {
                if self.batch.events.len() == WAITING_MAX {
                    self.batch.events.pop_front();
                }
                self.batch.events.push_back(event);
            }
            Job::Minute(minute) => self.batch.past.note(minute),
            Job::Events { .. } | Job::Recall { .. } | Job::Settle(_) | Job::Close => {}
        }
        if self.db.is_none() {
            self.batch.memories.clear();
            self.batch.owners.clear();
            self.batch.claims.clear();
            self.batch.accepted.clear();
            self.batch.past = history::Pending::default();
        }
    }

    fn write(&mut self) {
        let Some(db) = self.db.as_mut() else { return };
        if self.batch.is_empty() {
            return;
        }
        match rows::write(db, &self.batch, &self.era) {
            Ok(()) => {
                self.batch = Batch::default();
                if std::mem::take(&mut self.failing) {
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    tracing::info!("memory is written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    say(&self.trouble, format!("memory cannot be written ({error}); trying again every 10 s"));
                }
            }
        }
    }

    fn recall(&self, question: &history::Question) -> History {
        let written = self.db.as_ref().map(|db| history::read(db, question));
        let read = written.transpose().inspect_err(|error| tracing::warn!(%error, "the history cannot be read"));
        read.ok().flatten().unwrap_or_else(|| {
            let events = self.events(Some(question.since), Some(&question.service), history::EVENTS_TOLD);
            History { events, ..question.nothing() }
        })
    }

    fn events(&self, since: Option<Timestamp>, service: Option<&str>, limit: usize) -> Vec<Event> {
        let matching = |event: &&Event| {
            since.is_none_or(|since| event.at >= since)
                && service.is_none_or(|name| event.service.as_deref() == Some(name))
        };
        let written = self.db.as_ref().map(|db| rows::read_events(db, since, service, limit));
        let mut events = written.and_then(Result::ok).unwrap_or_default();
        events.extend(self.batch.events.iter().filter(matching).cloned());
        let surplus = events.len().saturating_sub(limit);
        events.drain(..surplus);
        events
    }
}
