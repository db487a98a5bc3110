//! What waits for the store's thread: bounded, one entry a name, whoever said it how often.
//!
//! A disk that hangs for hours must cost no memory: what is remembered of a name replaces what was,
//! and of the events the oldest go first, counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::history::{Pending, Question};
use crate::controller::Memory;
use crate::model::history::History;
use crate::model::name::Name;
use crate::model::view::Event;

/// Events waiting for a disk that takes none; the oldest go first.
const WAITING_MAX: usize = 2_000;
/// Names, scripts or files waiting; twice the largest node. What is said of others then is lost.
const NAMES_MAX: usize = 20_000;
/// A version that goes on while an edit waits is written this soon: without it the next controller has the edit alone.
/// So is it that a service was stopped for what it needs: the next one would start it again.
/// Not at once, for as a rule the edit is carried out in a moment.
const SOON: Duration = Duration::from_millis(10);
/// Questions that wait for an answer; a further one is answered with nothing.
const CALLS_MAX: usize = 256;

/// What waits for the next transaction; none is a removal.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub memories: BTreeMap<Name, Option<Memory>>,
    pub owners: BTreeMap<Name, Option<String>>,
    pub claims: BTreeMap<String, Option<String>>,
    pub accepted: BTreeMap<String, Option<String>>,
    /// Files by their new names, with those under which their texts are written already. Before `accepted`.
    pub followed: BTreeMap<String, String>,
    pub events: VecDeque<Event>,
    pub past: Pending,
    /// What found no room.
    pub dropped: u64,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        let Batch { memories, owners, claims, accepted, followed, events, past, dropped: _ } = self;
        memories.is_empty()
            && owners.is_empty()
            && claims.is_empty()
            && accepted.is_empty()
            && followed.is_empty()
            && events.is_empty()
            && past.is_empty()
    }

    pub fn remember(&mut self, name: Name, memory: Option<Memory>) {
        put(&mut self.memories, name, memory, &mut self.dropped);
    }

    pub fn owner(&mut self, name: Name, file: Option<String>) {
        put(&mut self.owners, name, file, &mut self.dropped);
    }

    pub fn claim(&mut self, script: String, stamp: Option<String>) {
        put(&mut self.claims, script, stamp, &mut self.dropped);
    }

    pub fn accept(&mut self, file: String, text: Option<String>) {
        put(&mut self.accepted, file, text, &mut self.dropped);
    }

    pub fn follow(&mut self, before: String, file: String) {
        match self.accepted.get(&before) {
            Some(text) => self.accept(file, text.clone()),
            None => {
                let written = self.followed.get(&before).cloned().unwrap_or(before);
                self.accepted.remove(&file);
                put(&mut self.followed, file, written, &mut self.dropped);
            }
        }
    }

    pub fn record(&mut self, event: Event) {
        if self.events.len() == WAITING_MAX {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(event);
    }

    /// Takes up what an older batch could not write.
    fn after(&mut self, older: Batch) {
        older.memories.into_iter().for_each(|(name, memory)| _ = self.memories.entry(name).or_insert(memory));
        older.owners.into_iter().for_each(|(name, file)| _ = self.owners.entry(name).or_insert(file));
        older.claims.into_iter().for_each(|(script, stamp)| _ = self.claims.entry(script).or_insert(stamp));
        for (file, before) in std::mem::take(&mut self.followed) {
            match older.accepted.get(&before) {
                Some(text) => _ = self.accepted.entry(file).or_insert(text.clone()),
                None => {
                    let written = older.followed.get(&before).cloned().unwrap_or(before);
                    self.followed.insert(file, written);
                }
            }
        }
        older.accepted.into_iter().for_each(|(file, text)| _ = self.accepted.entry(file).or_insert(text));
        older.followed.into_iter().for_each(|(file, before)| _ = self.followed.entry(file).or_insert(before));
        self.past.after(older.past);
        self.dropped += older.dropped;
        let newer = std::mem::replace(&mut self.events, older.events);
        newer.into_iter().for_each(|event| self.record(event));
    }
}

fn put<K: Ord, V>(to: &mut BTreeMap<K, V>, key: K, value: V, dropped: &mut u64) {
    if to.len() < NAMES_MAX || to.contains_key(&key) {
        to.insert(key, value);
    } else {
        *dropped += 1;
    }
}

/// Somebody waits for an answer.
#[derive(Debug)]
pub(super) enum Call {
    Events { since: Option<Timestamp>, service: Option<String>, limit: usize, reply: oneshot::Sender<Vec<Event>> },
    Recall { question: Question, reply: oneshot::Sender<History> },
    Settle(oneshot::Sender<bool>),
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    calls: Vec<Call>,
    /// Not later than this, whatever else is gathered.
    by: Option<Instant>,
    /// The file is not where it was.
    lost: bool,
    closed: bool,
}

/// What the thread takes at one time.
#[derive(Debug)]
pub(super) struct Load {
    pub batch: Batch,
    pub calls: Vec<Call>,
    pub closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for the disk. Only the first word after a pause wakes the thread.
    pub fn note(&self, note: impl FnOnce(&mut Batch)) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        let first = waiting.batch.is_empty();
        note(&mut waiting.batch);
        drop(waiting);
        if first {
            self.bell.notify_one();
        }
    }

    pub fn remember(&self, name: Name, memory: Option<Memory>) {
        let is_pressing =
            memory.as_ref().is_some_and(|memory| memory.kept.is_some() || memory.dependency_lost.is_some());
        self.note(|batch| batch.remember(name, memory));
        if is_pressing {
            self.lock().by.get_or_insert(Instant::now() + SOON);
            self.bell.notify_one();
        }
    }

    pub fn call(&self, call: Call) {
        let mut waiting = self.lock();
        // Else the reply is dropped, which is an answer too.
        if !waiting.closed && waiting.calls.len() < CALLS_MAX {
            waiting.calls.push(call);
            drop(waiting);
            self.bell.notify_one();
        }
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    /// The thread looks for its file at once.
    pub fn lost(&self) {
        self.lock().lost = true;
        self.bell.notify_one();
    }

    /// What there is. Waits for the first word at most `idle`, and after it `gather`; a call or the end
    /// are waited for by nobody.
    pub fn take(&self, idle: Duration, gather: Duration) -> Load {
        let pressing = |waiting: &Waiting| !waiting.calls.is_empty() || waiting.lost || waiting.closed;
        let waits = |waiting: &mut Waiting| waiting.batch.is_empty() && !pressing(waiting);
        let waited = self.bell.wait_timeout_while(self.lock(), idle, waits);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        let until = Instant::now() + gather;
        while !waiting.batch.is_empty() && !pressing(&waiting) {
            let until = waiting.by.map_or(until, |by| by.min(until));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting = self.bell.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let Waiting { batch, calls, by, lost, closed } = &mut *waiting;
        (*by, *lost) = (None, false);
        Load { batch: std::mem::take(batch), calls: std::mem::take(calls), closed: *closed }
    }

    /// It could not be written: it waits on, behind what is newer.
    pub fn give_back(&self, older: Batch) {
        self.lock().batch.after(older);
    }

    /// What is not written yet.
    pub fn events(&self) -> Vec<Event> {
        self.lock().batch.events.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: i64) -> Event {
        Event {
            at: Timestamp::from_microsecond(n).expect("in range"),
            service: None,
            instance: None,
            reason: crate::model::reason::Reason::Exited,
            warning: false,
            message: String::new(),
        }
    }

    #[test]
    fn what_a_dead_disk_keeps_waiting_is_bounded_and_counted() {
        let inbox = Inbox::default();
        for n in 0..WAITING_MAX as i64 + 7 {
            inbox.note(|batch| batch.record(event(n)));
            inbox.note(|batch| batch.owner(Name::parse("web").expect("valid"), Some(n.to_string())));
        }
        let Load { batch, .. } = inbox.take(Duration::ZERO, Duration::ZERO);
        assert_eq!((batch.events.len(), batch.owners.len(), batch.dropped), (WAITING_MAX, 1, 7));
        assert_eq!(batch.events[0].at.as_microsecond(), 7);
        let mut all = Batch::default();
        (0..NAMES_MAX as i64 + 3).for_each(|n| all.claim(n.to_string(), None));
        assert_eq!((all.claims.len(), all.dropped), (NAMES_MAX, 3));
    }

    #[test]
    fn a_version_that_goes_on_while_an_edit_waits_is_not_gathered_for_long() {
        use crate::controller::{KeptMemory, Memory};
        const LONG: Duration = Duration::from_secs(3600);
        let inbox = Inbox::default();
        let name = Name::parse("web").expect("valid");
        let spec = std::sync::Arc::new(crate::model::manifest::assumed(name.clone()));
        let kept = KeptMemory { spec, wrapper: None, content: Default::default(), source: 1, generation: 1 };
        let memory = Memory { kept: Some(Box::new(kept)), ..Memory::default() };
        inbox.note(|batch| batch.record(event(1)));
        inbox.remember(name.clone(), Some(memory));
        let Load { batch, .. } = inbox.take(LONG, LONG);
        assert!(batch.memories[&name].is_some());
        // What is said after that is gathered as ever.
        let gather = Duration::from_millis(50);
        inbox.remember(name, Some(Memory::default()));
        let begin = Instant::now();
        let Load { batch, .. } = inbox.take(LONG, gather);
        assert_eq!(batch.memories.len(), 1);
        assert!(begin.elapsed() >= gather);
    }

    #[test]
    fn a_text_follows_its_file_wherever_it_is_by_then() {
        let mut batch = Batch::default();
        batch.accept("a".into(), Some("new".into()));
        batch.follow("a".into(), "b".into());
        batch.accept("a".into(), None);
        batch.follow("x".into(), "y".into());
        batch.accept("x".into(), None);
        batch.follow("y".into(), "z".into());
        batch.accept("y".into(), None);
        assert_eq!((&batch.accepted["a"], &batch.accepted["b"]), (&None, &Some("new".into())));
        assert_eq!(batch.followed["z"], "x");
        // What it follows waits in a batch that could not be written.
        let mut older = Batch::default();
        older.accept("x".into(), Some("old".into()));
        batch.after(older);
        assert_eq!((&batch.accepted["x"], &batch.accepted["z"]), (&None, &Some("old".into())));
        assert!(batch.followed.is_empty() || !batch.followed.contains_key("z"));
    }

    #[test]
    fn what_could_not_be_written_stands_behind_what_is_newer() {
        let inbox = Inbox::default();
        let mut older = Batch::default();
        older.claim("a".into(), Some("old".into()));
        older.claim("b".into(), Some("old".into()));
        older.record(event(1));
        inbox.note(|batch| batch.claim("a".into(), None));
        inbox.note(|batch| batch.record(event(2)));
        inbox.give_back(older);
        let Load { batch, .. } = inbox.take(Duration::ZERO, Duration::ZERO);
        assert_eq!((&batch.claims["a"], &batch.claims["b"]), (&None, &Some("old".into())));
        let times: Vec<i64> = batch.events.iter().map(|event| event.at.as_microsecond()).collect();
        assert_eq!(times, [1, 2]);
    }
}
