//! `state.db`: what outlives the keeper.
//!
//! One SQLite file, written by one thread in batches at most 200 ms behind the facts, so that
//! nothing between an event and a spawn waits for a disk. It is memory, never truth about processes:
//! a database that is torn, newer than us or somebody else's is moved aside and a new one begun,
//! and where none can be written plugd runs without memory and says so.
//!
//! Opening waits for the disk as long as `OPEN_MAX` and no longer: a database that hangs or is locked
//! is tried again beside the node that runs. A file that is taken away is made again.
//!
//! `thread` owns the connection, `inbox` is what waits for it, `rows` is what it reads and writes, `open`
//! how it is begun; the past in numbers is gathered by `samples` and kept by `history`, a blob of `packed`
//! a minute.
//!
//! Not here: what is worth remembering (the brain decides) and what is shown of it (`view`).

mod history;
mod inbox;
mod open;
pub(crate) mod packed;
mod rows;
mod samples;
mod thread;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

pub use self::history::{EXITS_OF_ONE, Minute, Question};
use self::inbox::{Call, Inbox};
pub use self::open::era;
pub use self::samples::{Checked, Sample, Samples};
use self::thread::Writer;
use crate::controller::Memory;
use crate::edge::mounts::remote_mount;
use crate::edge::{Identity, identity};
use crate::model::history::History;
use crate::model::name::Name;
use crate::model::view::{Event, ExitView};

/// How long a start waits for what the last run left.
const OPEN_MAX: Duration = Duration::from_secs(3);

/// What is told of the memory as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It cannot be used, and why; none: it can be (again).
    Trouble(Option<String>),
    /// What it held is gone; why, and where the old file is.
    BegunAnew(String),
    /// The first of what this controller says is written: from now on there is something to lose.
    Written,
}

pub type Tell = Box<dyn Fn(News) + Send>;

/// What a controller that begins without it does not know.
const FORGOTTEN: &str = "what was ordered by hand (stop, scale) is forgotten";

/// Events kept: a month of a busy node (300 a day), about 3 MiB.
pub const EVENTS_MAX: usize = 10_000;
/// Of one service.
pub const EVENTS_OF_ONE: usize = 1_000;
/// The newest of each service stay whatever others say, as long as all together are no more than twice as many.
pub const EVENTS_FLOOR: usize = 10;

/// A handle to the memory; clones share one thread and one file.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: Arc<Inbox>,
    path: PathBuf,
    /// It lies on a disk of this machine.
    is_near: bool,
    /// Which file is open there; none while there is none.
    lies: Arc<Mutex<Option<Identity>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    trouble: Arc<Mutex<Option<String>>>,
    found: Mutex<Found>,
}

/// What was read at the start; the accepted texts are given away once.
#[derive(Debug, Default)]
struct Found {
    loaded: Loaded,
    /// The accepted text of each file.
    accepted: BTreeMap<String, String>,
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

impl Store {
    /// Opens or creates the database at `path`. Never fails: the worst case is a store that forgets,
    /// see [`Store::trouble`].
    pub fn open(path: &Path) -> Store {
        Store::start(path, &era(), None, false)
    }

    /// As [`Store::open`], and `tell` hears what becomes of the memory. `goes_on`: an earlier controller of this node
    /// was told [`News::Written`] of it.
    pub fn open_telling(path: &Path, goes_on: bool, tell: Tell) -> Store {
        Store::start(path, &era(), Some(tell), goes_on)
    }

    /// As [`Store::open`], in the given era: what `stopped_by_operator` holds for.
    pub fn open_in(path: &Path, era: &str) -> Store {
        Store::start(path, era, None, false)
    }

    fn start(path: &Path, era: &str, tell: Option<Tell>, goes_on: bool) -> Store {
        let (inbox, trouble) = (Arc::new(Inbox::default()), Arc::new(Mutex::new(None)));
        let lies = Arc::default();
        let is_near = remote_mount(path).is_none();
        let keeper = Writer::new(path, era, inbox.clone(), (Arc::clone(&lies), is_near), trouble.clone(), tell);
        // No room: what nobody takes is not kept. Of what is not there nothing is known, and nobody waits for it
        // to be made.
        let (found, answer) = mpsc::sync_channel(0);
        let absent = open::is_absent(path);
        let answer = (!absent).then_some(answer);
        let thread = std::thread::Builder::new().name("store".into());
        let thread = thread.spawn(move || keeper.run(absent && goes_on, &found));
        let complain = |text: String| {
            tracing::warn!("{text}");
            *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        };
        let found = match &thread {
            Err(error) => {
                inbox.close();
                complain(format!("memory is off: no thread ({error})"));
                Found::default()
            }
            Ok(_) => match answer.map(|answer| answer.recv_timeout(OPEN_MAX)) {
                Some(Ok(found)) => found,
                Some(Err(_)) => {
                    complain(format!("running without memory: {} does not answer; trying on", path.display()));
                    Found::default()
                }
                None => Found::default(),
            },
        };
        let path = path.to_path_buf();
        let shared =
            Shared { inbox, path, is_near, lies, thread: Mutex::new(thread.ok()), trouble, found: Mutex::new(found) };
        Store { shared: Arc::new(shared) }
    }

    /// A store that remembers nothing beyond this process.
    pub fn none() -> Store {
        Store::knowing(Found::default())
    }

    /// What an earlier run has left where nothing can be written any more: it is known, and nothing is added.
    pub fn read(path: &Path) -> Store {
        let found = open::readable(path).ok().and_then(|(db, _)| rows::find(&db, &era()).ok());
        Store::knowing(found.unwrap_or_default())
    }

    /// What another run has left, or writes at this moment; nothing is written to it. Where it cannot
    /// be read, as [`Store::none`].
    pub fn look(path: &Path) -> Store {
        let found = open::read_only(path).and_then(|db| rows::find(&db, &era()));
        Store::knowing(found.unwrap_or_default())
    }

    /// The text of `file` that was accepted last, as another run left it.
    pub fn accepted_at(path: &Path, file: &str) -> Option<String> {
        open::read_only(path).and_then(|db| rows::accepted(&db, file)).ok()
    }

    fn knowing(found: Found) -> Store {
        let shared = Shared {
            inbox: Arc::default(),
            path: PathBuf::new(),
            is_near: false,
            lies: Arc::default(),
            thread: Mutex::new(None),
            trouble: Arc::default(),
            found: Mutex::new(found),
        };
        shared.inbox.close();
        Store { shared: Arc::new(shared) }
    }

    /// What the last run left, as it was when the store was opened.
    pub fn load(&self) -> Loaded {
        self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).loaded.clone()
    }

    /// The text of each file that the last run accepted. The texts are given away: there may be many,
    /// and only the first scan asks.
    pub fn take_accepted(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).accepted)
    }

    /// For who wakes anyway: the store's thread is woken only where its file is not at its place any more. One that
    /// may lie where nothing answers, it looks for itself.
    pub fn look_for_its_file(&self) {
        let lies = *self.shared.lies.lock().unwrap_or_else(PoisonError::into_inner);
        let found = || self.shared.path.symlink_metadata().ok().map(|found| identity(&found));
        if self.shared.is_near && lies.is_some() && found() != lies {
            self.shared.inbox.lost();
        }
    }

    /// What is wrong with the memory now, as a sentence for people.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn remember(&self, name: Name, memory: Memory) {
        self.shared.inbox.remember(name, Some(memory));
    }

    /// The service is gone: its memory and the owner of its name go with it.
    pub fn forget(&self, name: Name) {
        self.shared.inbox.note(|batch| {
            batch.remember(name.clone(), None);
            batch.owner(name, None);
        });
    }

    pub fn record(&self, event: Event) {
        self.shared.inbox.note(|batch| batch.record(event));
    }

    /// `file` owns `name` from now on.
    pub fn owner(&self, name: Name, file: String) {
        self.shared.inbox.note(|batch| batch.owner(name, Some(file)));
    }

    pub fn disown(&self, name: Name) {
        self.shared.inbox.note(|batch| batch.owner(name, None));
    }

    /// A manifest claims `script`, whose identity and times are `stamp`: while these are the same it
    /// does not come back by discovery, even when the manifest is gone.
    pub fn claim(&self, script: String, stamp: String) {
        self.shared.inbox.note(|batch| batch.claim(script, Some(stamp)));
    }

    pub fn unclaim(&self, script: String) {
        self.shared.inbox.note(|batch| batch.claim(script, None));
    }

    /// `text` is what was accepted of `file`: its last good version.
    pub fn accept(&self, file: String, text: String) {
        self.shared.inbox.note(|batch| batch.accept(file, Some(text)));
    }

    pub fn unaccept(&self, file: String) {
        self.shared.inbox.note(|batch| batch.accept(file, None));
    }

    /// What was accepted of `before` is of `file`, which is its name now.
    pub fn follow(&self, before: String, file: String) {
        self.shared.inbox.note(|batch| batch.follow(before, file));
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
        self.shared.inbox.call(Call::Events { since, service: service.map(str::to_string), limit, reply });
        answer
    }

    /// What was gathered of all services; written with the next batch.
    pub fn minute(&self, minute: Minute) {
        self.shared.inbox.note(|batch| batch.past.note(minute));
    }

    /// How a life of a service ended, where that is not to wait for the minute.
    pub fn exit(&self, service: Name, exit: ExitView) {
        self.minute(Minute { exits: vec![(service, exit)], ..Minute::default() });
    }

    /// The history of a service begins at so many restarts.
    pub fn counted(&self, service: Name, restarts: u64) {
        self.minute(Minute { counts: vec![(service, restarts)], ..Minute::default() });
    }

    /// What is remembered of one service. A store without a thread drops the sender at once.
    pub fn recall(&self, question: Question) -> oneshot::Receiver<History> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.call(Call::Recall { question, reply });
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

    /// Answers when everything said so far is written, or with `false` when it cannot be: what a person was
    /// promised must not be lost with the controller. A store without a thread drops the sender at once.
    pub fn settled(&self) -> oneshot::Receiver<bool> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.call(Call::Settle(reply));
        answer
    }

    /// Writes what waits and ends the thread. Later calls are ignored.
    pub fn close(&self) {
        self.shared.inbox.close();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It says nothing when it ends: a panic of it would have been ours.
        let _ended = thread.map(JoinHandle::join);
    }
}

impl Drop for Shared {
    /// Nobody can say anything any more: the thread writes what waits and ends.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
