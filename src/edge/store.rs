//! `state.db`: what outlives the keeper.
//!
//! One SQLite file, written by one thread in batches at most 200 ms behind the facts, so that
//! nothing between an event and a spawn waits for a disk. It is memory, never truth about processes:
//! a database that is torn, newer than us or somebody else's is moved aside and a new one begun,
//! and where none can be written plugd runs without memory and says so.
//!
//! `thread` owns the connection, `rows` is what it reads and writes, `open` how it is begun; the past in
//! numbers is gathered by `samples` and kept by `history`, a blob of `packed` a minute.
//!
//! Not here: what is worth remembering (the brain decides) and what is shown of it (`view`).

mod history;
mod open;
mod packed;
mod rows;
mod samples;
mod thread;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::sync::oneshot;

pub use self::history::{EXITS_OF_ONE, Minute, Question};
pub use self::open::era;
use self::open::{open_usable, say};
pub use self::samples::{Sample, Samples};
use self::thread::{Batch, Keeper, Urgent};
use crate::controller::Memory;
use crate::model::history::History;
use crate::model::name::Name;
use crate::model::view::{Event, ExitView};

/// Events kept: a month of a busy node (300 a day), about 3 MiB.
pub const EVENTS_MAX: usize = 10_000;

/// A handle to the memory; clones share one thread and one file.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    urgent: Arc<Urgent>,
    thread: Mutex<Option<JoinHandle<()>>>,
    trouble: Arc<Mutex<Option<String>>>,
    loaded: Mutex<Loaded>,
    /// The accepted text of each file; given away once.
    accepted: Mutex<BTreeMap<String, String>>,
}

/// What the last run left.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub memories: Vec<(Name, Memory)>,
    /// The file that owned each name.
    pub owners: BTreeMap<Name, String>,
    /// Scripts that a manifest claimed, with what they were then (see [`Store::claim`]).
    pub claims: BTreeMap<String, String>,
    /// Restarts that the history has (see [`Samples::known`]).
    pub counted: BTreeMap<String, u64>,
}

enum Job {
    Remember(Name, Memory),
    Forget(Name),
    Owner(Name, Option<String>),
    Claim(String, Option<String>),
    Accept(String, Option<String>),
    Record(Event),
    Events { since: Option<Timestamp>, service: Option<String>, limit: usize, reply: oneshot::Sender<Vec<Event>> },
    Minute(Minute),
    Recall { question: Question, reply: oneshot::Sender<History> },
    Settle(oneshot::Sender<()>),
    Close,
}

impl Store {
    /// Opens or creates the database at `path`. Never fails: the worst case is a store that forgets,
    /// see [`Store::trouble`].
    pub fn open(path: &Path) -> Store {
        Store::open_in(path, &era())
    }

    /// As [`Store::open`], in the given era: what `stopped_by_operator` holds for.
    pub fn open_in(path: &Path, era: &str) -> Store {
        let trouble = Arc::new(Mutex::new(None));
        let opened = open_usable(path, &trouble);
        let loaded = opened.as_ref().and_then(|db| rows::load(db, era).ok()).unwrap_or_default();
        let accepted = opened.as_ref().and_then(|db| rows::load_accepted(db).ok()).unwrap_or_default();
        let (jobs, inbox) = mpsc::channel();
        let keeper = Keeper {
            db: opened,
            era: era.to_string(),
            batch: Batch::default(),
            trouble: trouble.clone(),
            failing: false,
        };
        let urgent = Arc::new(Urgent::default());
        let hurry = urgent.clone();
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || keeper.run(&inbox, &hurry));
        let thread = thread.inspect_err(|error| say(&trouble, format!("memory is off: no thread ({error})"))).ok();
        Store {
            shared: Arc::new(Shared {
                jobs: Mutex::new(Some(jobs)),
                urgent,
                thread: Mutex::new(thread),
                trouble,
                loaded: Mutex::new(loaded),
                accepted: Mutex::new(accepted),
            }),
        }
    }

    /// A store that remembers nothing beyond this process.
    pub fn none() -> Store {
        Store::knowing(Loaded::default())
    }

    /// What another run has left, or writes at this moment; nothing is written to it. Where it cannot
    /// be read, as [`Store::none`].
    pub fn look(path: &Path) -> Store {
        let loaded = open::read_only(path).and_then(|db| rows::load(&db, &era()));
        Store::knowing(loaded.unwrap_or_default())
    }

    fn knowing(loaded: Loaded) -> Store {
        let shared = Shared {
            jobs: Mutex::new(None),
            urgent: Arc::default(),
            thread: Mutex::new(None),
            trouble: Arc::default(),
            loaded: Mutex::new(loaded),
            accepted: Mutex::default(),
        };
        Store { shared: Arc::new(shared) }
    }

    /// What the last run left, as it was when the store was opened.
    pub fn load(&self) -> Loaded {
        self.shared.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of each file that the last run accepted. The texts are given away: there may be many,
    /// and only the first scan asks.
    pub fn take_accepted(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut *self.shared.accepted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is wrong with the memory now, as a sentence for people.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn remember(&self, name: Name, memory: Memory) {
        self.send(Job::Remember(name, memory));
    }

    /// The service is gone: its memory and the owner of its name go with it.
    pub fn forget(&self, name: Name) {
        self.send(Job::Forget(name));
    }

    pub fn record(&self, event: Event) {
        self.send(Job::Record(event));
    }

    /// `file` owns `name` from now on.
    pub fn owner(&self, name: Name, file: String) {
        self.send(Job::Owner(name, Some(file)));
    }

    pub fn disown(&self, name: Name) {
        self.send(Job::Owner(name, None));
    }

    /// A manifest claims `script`, whose identity and times are `stamp`: while these are the same it
    /// does not come back by discovery, even when the manifest is gone.
    pub fn claim(&self, script: String, stamp: String) {
        self.send(Job::Claim(script, Some(stamp)));
    }

    pub fn unclaim(&self, script: String) {
        self.send(Job::Claim(script, None));
    }

    /// `text` is what was accepted of `file`: its last good version.
    pub fn accept(&self, file: String, text: String) {
        self.send(Job::Accept(file, Some(text)));
    }

    pub fn unaccept(&self, file: String) {
        self.send(Job::Accept(file, None));
    }

    /// The newest `limit` events since `since`, of one service or all, oldest first. The answer
    /// includes what is not written yet.
    pub fn events(
        &self,
        since: Option<Timestamp>,
        service: Option<&str>,
        limit: usize,
    ) -> oneshot::Receiver<Vec<Event>> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Events { since, service: service.map(str::to_string), limit, reply });
        answer
    }

    /// What was gathered of all services; written with the next batch.
    pub fn minute(&self, minute: Minute) {
        self.send(Job::Minute(minute));
    }

    /// How a life of a service ended, where that is not to wait for the minute.
    pub fn exit(&self, service: Name, exit: ExitView) {
        self.send(Job::Minute(Minute { exits: vec![(service, exit)], ..Minute::default() }));
    }

    /// The history of a service begins at so many restarts.
    pub fn counted(&self, service: Name, restarts: u64) {
        self.send(Job::Minute(Minute { counts: vec![(service, restarts)], ..Minute::default() }));
    }

    /// What is remembered of one service. A store without a thread drops the sender at once.
    pub fn recall(&self, question: Question) -> oneshot::Receiver<History> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Recall { question, reply });
        answer
    }

    /// As [`Store::recall`], of the database at `path`, which another process may be writing.
    pub fn recall_from(path: &Path, question: &Question) -> rusqlite::Result<History> {
        let db = open::read_only(path)?;
        // One that no plugd of this kind has written yet.
        match history::is_there(&db)? {
            true => history::read(&db, question),
            false => Ok(question.nothing()),
        }
    }

    /// Answers when everything said so far is written (or cannot be): what a person was promised
    /// must not be lost with the controller. A store without a thread drops the sender at once.
    pub fn settled(&self) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Settle(reply));
        answer
    }

    /// Writes what waits and ends the thread. Later calls are ignored.
    pub fn close(&self) {
        self.send(Job::Close);
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's thread has panicked; the last memories are lost");
        }
    }

    fn send(&self, job: Job) {
        let jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = jobs.as_ref() {
            let urgent = matches!(job, Job::Events { .. } | Job::Recall { .. } | Job::Settle(_) | Job::Close);
            // A closed channel means a closed store: there is nobody left to tell.
            jobs.send(job).ok();
            if urgent {
                self.shared.urgent.call();
            }
        }
    }
}
