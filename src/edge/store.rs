//! `state.db`: what outlives the keeper.
//!
//! One SQLite file, written by one thread in batches at most 200 ms behind the facts, so that
//! nothing between an event and a spawn waits for a disk. It is memory, never truth about processes:
//! a database that is torn, newer than us or somebody else's is moved aside and a new one begun,
//! and where none can be written plugd runs without memory and says so.
//!
//! Not here: what is worth remembering (the brain decides) and what is shown of it (`view`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, params};
use tokio::sync::oneshot;

use crate::controller::Memory;
use crate::model::name::Name;
use crate::model::view::Event;

/// How far behind the facts a batch may be.
const BATCH_DELAY: Duration = Duration::from_millis(200);
/// After a write that failed (a full disk), the next try.
const RETRY_DELAY: Duration = Duration::from_secs(10);
/// Events kept: a month of a busy node (300 a day), about 3 MiB.
pub const EVENTS_MAX: usize = 10_000;
/// Events waiting for a disk that takes none; the oldest go first.
const WAITING_MAX: usize = 2_000;
/// "plug": marks the file as ours.
const APPLICATION_ID: i32 = 0x706c_7567;
const SCHEMA_VERSION: i32 = 1;
/// Pages kept in memory. It is read once, at the start; what is written goes through few pages.
const CACHE_KIB: u32 = 256;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS memory (name TEXT PRIMARY KEY, json TEXT NOT NULL, era TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS owner (name TEXT PRIMARY KEY, file TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS claim (script TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, service TEXT, json TEXT NOT NULL);
";

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
}

/// What the last run left.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub memories: Vec<(Name, Memory)>,
    /// The file that owned each name.
    pub owners: BTreeMap<Name, String>,
    /// Scripts that a manifest claimed, with what they were then (see [`Store::claim`]).
    pub claims: BTreeMap<String, String>,
}

enum Job {
    Remember(Name, Memory),
    Forget(Name),
    Owner(Name, Option<String>),
    Claim(String, Option<String>),
    Record(Event),
    Events { since: Option<Timestamp>, service: Option<String>, limit: usize, reply: oneshot::Sender<Vec<Event>> },
    Settle(oneshot::Sender<()>),
    Close,
}

/// Why a database cannot be used as it stands.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it belongs to uid {0}")]
    Foreign(u32),
    #[error("it was not written by plugd")]
    NotOurs,
    #[error("it was written by a newer plugd (schema {0})")]
    Newer(i32),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Unusable {
    /// Whether a new file in its place would do better.
    fn is_the_files_fault(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch, Unknown};
        match self {
            Unusable::Foreign(_) | Unusable::NotOurs | Unusable::Newer(_) => true,
            Unusable::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase | TypeMismatch | Unknown)
            }
            Unusable::Sqlite(_) => true,
            Unusable::Io(_) => false,
        }
    }
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
        let loaded = opened.as_ref().and_then(|db| load(db, era).ok()).unwrap_or_default();
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
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let loaded = Connection::open_with_flags(path, flags).and_then(|db| {
            db.busy_timeout(BATCH_DELAY)?;
            load(&db, &era())
        });
        Store::knowing(loaded.unwrap_or_default())
    }

    fn knowing(loaded: Loaded) -> Store {
        let shared = Shared {
            jobs: Mutex::new(None),
            urgent: Arc::default(),
            thread: Mutex::new(None),
            trouble: Arc::default(),
            loaded: Mutex::new(loaded),
        };
        Store { shared: Arc::new(shared) }
    }

    /// What the last run left, as it was when the store was opened.
    pub fn load(&self) -> Loaded {
        self.shared.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            let urgent = matches!(job, Job::Events { .. } | Job::Settle(_) | Job::Close);
            // A closed channel means a closed store: there is nobody left to tell.
            jobs.send(job).ok();
            if urgent {
                self.shared.urgent.call();
            }
        }
    }
}

/// Somebody waits for an answer: the pause in which a batch gathers is over.
#[derive(Debug, Default)]
struct Urgent {
    called: Mutex<bool>,
    bell: Condvar,
}

impl Urgent {
    fn call(&self) {
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
struct Batch {
    memories: BTreeMap<Name, Option<Memory>>,
    owners: BTreeMap<Name, Option<String>>,
    claims: BTreeMap<String, Option<String>>,
    events: VecDeque<Event>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.memories.is_empty() && self.owners.is_empty() && self.claims.is_empty() && self.events.is_empty()
    }
}

/// The thread that owns the connection.
struct Keeper {
    db: Option<Connection>,
    era: String,
    batch: Batch,
    trouble: Arc<Mutex<Option<String>>>,
    failing: bool,
}

impl Keeper {
    fn run(mut self, inbox: &mpsc::Receiver<Job>, urgent: &Urgent) {
        super::stand_back();
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
            Job::Record(event) => {
                if self.batch.events.len() == WAITING_MAX {
                    self.batch.events.pop_front();
                }
                self.batch.events.push_back(event);
            }
            Job::Events { .. } | Job::Settle(_) | Job::Close => {}
        }
        if self.db.is_none() {
            self.batch.memories.clear();
            self.batch.owners.clear();
            self.batch.claims.clear();
        }
    }

    fn write(&mut self) {
        let Some(db) = self.db.as_mut() else { return };
        if self.batch.is_empty() {
            return;
        }
        match write(db, &self.batch, &self.era) {
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

    fn events(&self, since: Option<Timestamp>, service: Option<&str>, limit: usize) -> Vec<Event> {
        let matching = |event: &&Event| {
            since.is_none_or(|since| event.at >= since)
                && service.is_none_or(|name| event.service.as_deref() == Some(name))
        };
        let written = self.db.as_ref().map(|db| read_events(db, since, service, limit));
        let mut events = written.and_then(Result::ok).unwrap_or_default();
        events.extend(self.batch.events.iter().filter(matching).cloned());
        let surplus = events.len().saturating_sub(limit);
        events.drain(..surplus);
        events
    }
}

fn write(db: &mut Connection, batch: &Batch, era: &str) -> rusqlite::Result<()> {
    let change = db.transaction()?;
    {
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO memory VALUES (?1, ?2, ?3)")?;
        let mut cut = change.prepare_cached("DELETE FROM memory WHERE name = ?1")?;
        for (name, memory) in &batch.memories {
            match memory {
                Some(memory) => put.execute(params![name.as_str(), to_json(memory), era])?,
                None => cut.execute([name.as_str()])?,
            };
        }
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO owner VALUES (?1, ?2)")?;
        let mut cut = change.prepare_cached("DELETE FROM owner WHERE name = ?1")?;
        for (name, file) in &batch.owners {
            match file {
                Some(file) => put.execute(params![name.as_str(), file])?,
                None => cut.execute([name.as_str()])?,
            };
        }
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO claim VALUES (?1, ?2)")?;
        let mut cut = change.prepare_cached("DELETE FROM claim WHERE script = ?1")?;
        for (script, stamp) in &batch.claims {
            match stamp {
                Some(stamp) => put.execute(params![script, stamp])?,
                None => cut.execute([script])?,
            };
        }
        let mut put = change.prepare_cached("INSERT INTO event (at, service, json) VALUES (?1, ?2, ?3)")?;
        for event in &batch.events {
            put.execute(params![event.at.as_microsecond(), event.service, to_json(event)])?;
        }
        if !batch.events.is_empty() {
            let mut trim = change.prepare_cached("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?1")?;
            trim.execute([EVENTS_MAX as i64])?;
        }
    }
    change.commit()
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("memories and events are plain values")
}

fn read_events(
    db: &Connection,
    since: Option<Timestamp>,
    service: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<Event>> {
    let mut query = db.prepare_cached(
        "SELECT json FROM event WHERE at >= ?1 AND (?2 IS NULL OR service = ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let since = since.map_or(i64::MIN, Timestamp::as_microsecond);
    let rows = query.query_map(params![since, service, limit.min(EVENTS_MAX) as i64], |row| row.get::<_, String>(0))?;
    let mut events = Vec::new();
    for json in rows {
        events.extend(serde_json::from_str::<Event>(&json?).ok());
    }
    events.reverse();
    Ok(events)
}

fn load(db: &Connection, era: &str) -> rusqlite::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut query = db.prepare("SELECT name, json, era FROM memory")?;
    let rows = query
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    for row in rows {
        let (name, json, of) = row?;
        if let (Ok(name), Ok(mut memory)) = (Name::parse(&name), serde_json::from_str::<Memory>(&json)) {
            // `plugd stop` holds until the host or the container restarts.
            memory.stopped_by_operator &= of == era;
            loaded.memories.push((name, memory));
        }
    }
    let mut query = db.prepare("SELECT name, file FROM owner")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (name, file) = row?;
        if let Ok(name) = Name::parse(&name) {
            loaded.owners.insert(name, file);
        }
    }
    let mut query = db.prepare("SELECT script, stamp FROM claim")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (script, stamp) = row?;
        loaded.claims.insert(script, stamp);
    }
    Ok(loaded)
}

fn open_usable(path: &Path, trouble: &Arc<Mutex<Option<String>>>) -> Option<Connection> {
    let error = match open_one(path) {
        Ok(db) => return Some(db),
        Err(error) => error,
    };
    if !error.is_the_files_fault() {
        say(trouble, format!("running without memory: {} cannot be used: {error}", path.display()));
        return None;
    }
    match move_aside(path) {
        Err(aside) => {
            say(
                trouble,
                format!("running without memory: {}: {error}, and it cannot be moved: {aside}", path.display()),
            );
            None
        }
        Ok(kept) => match open_one(path) {
            Ok(db) => {
                say(trouble, format!("{}: {error}; kept as {}, a new one is begun", path.display(), kept.display()));
                Some(db)
            }
            Err(error) => {
                say(trouble, format!("running without memory: {} cannot be used: {error}", path.display()));
                None
            }
        },
    }
}

fn open_one(path: &Path) -> Result<Connection, Unusable> {
    use std::os::unix::fs::MetadataExt;
    let ours = rustix::process::geteuid().as_raw();
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(Unusable::NotOurs),
        Ok(found) if found.uid() != ours && found.uid() != 0 => return Err(Unusable::Foreign(found.uid())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(2))?;
    let number = |pragma: &str| db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i32>(0));
    let tables: i32 = db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    let (id, version) = (number("application_id")?, number("user_version")?);
    if tables > 0 && id != APPLICATION_ID {
        return Err(Unusable::NotOurs);
    }
    if version > SCHEMA_VERSION {
        return Err(Unusable::Newer(version));
    }
    // WAL may be refused (no shared memory on some network filesystems): the rollback journal does.
    db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    db.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};
         {SCHEMA}"
    ))?;
    Ok(db)
}

/// Renames the database and its journals to the first free `NAME.broken-N`.
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    // A hundred broken databases tell of something else that is broken: the last is overwritten.
    let kept = (1..100).map(|n| beside(&format!(".broken-{n}"))).find(|kept| kept.symlink_metadata().is_err());
    let kept = kept.unwrap_or_else(|| beside(".broken-100"));
    std::fs::rename(path, &kept)?;
    for journal in ["-wal", "-shm", "-journal"] {
        // Most often there is none.
        std::fs::rename(beside(journal), format!("{}{journal}", kept.display())).ok();
    }
    Ok(kept)
}

fn say(trouble: &Arc<Mutex<Option<String>>>, text: String) {
    tracing::warn!("{text}");
    *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

/// The boot of this machine and, in a container, of the container: boot id, pid namespace and the
/// start time of its first process (the number of a namespace is used again).
pub fn era() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let first = std::fs::read_to_string("/proc/1/stat").unwrap_or_default();
    // Field 22 of stat; the command (field 2) may hold anything, so count from its closing bracket.
    let start = first.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)).unwrap_or_default();
    format!("{} {} {start}", boot.trim(), space.display())
}
