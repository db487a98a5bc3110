//! Status files: written beside the manifests by rename, coalesced, never fsynced.
//!
//! One thread, so that a filesystem that hangs holds up nothing else. A file is written at once, and
//! ten times a second at most where that goes on, a new word before a new explanation; equal texts are
//! not written at all. The directory is reached through a descriptor: while its path is lost, statuses go
//! on in the old one.
//! A status is an observation that can be made again, so nothing here is ever synced.
//!
//! Not here: what a status says (`controller`), and when it changed (the runtime asks for a write at
//! each change).

mod check;
mod place;
mod workshop;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::model::name::Name;
use crate::model::reason::Status;
use crate::model::text::{ControllerLine, status_file};
use crate::model::view::ServiceView;
use place::{Mark, Place, Refused};

pub use check::{OnLost, StatusCheck};

/// Starting, running and ready often follow each other at once: the first write waits this long.
const GATHER: Duration = Duration::from_millis(2);
/// With this many in the queue a whole directory is being started: its services come first.
const CROWD: usize = 32;
/// A status is true within 200 ms; a quarter of that is left for the writing.
const GATHER_CROWD: Duration = Duration::from_millis(150);
/// In a crowd the queue is looked through so often at most.
const LOOK_CROWD: Duration = Duration::from_millis(10);
/// Ten writes a second a service; after some quiet so many at once.
const PACE: Duration = Duration::from_millis(100);
const AT_ONCE: u32 = 4;
/// The last of them is left to a new word or count for so long: what a start explains of itself (its check has not
/// answered, nothing listens yet) does not keep anybody from hearing that it is ready.
const EXPLAINED: Duration = PACE;
/// All files together, a second: 5,000 of 13 to 110 µs are at most half a core.
const WRITES_MAX: u32 = 5_000;
/// Longest status file; 25 lines for one instance are about 1 KiB, 50 instances about 6 KiB.
pub const STATUS_MAX: usize = 16 * 1024;
/// After a failed write: 1 s, doubled up to 30 s.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long `flush` waits for a filesystem that hangs.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// The node's own file.
const NODE: &str = "_controller";

/// Told when a status cannot be written (`Some`), and when it can be again (`None`); the name is
/// `None` for the node's own file.
pub type OnTrouble = Box<dyn FnMut(Option<&Name>, Option<String>) + Send>;

/// The handle to the thread.
#[derive(Debug)]
pub struct StatusFiles {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Work for the thread.
    more: Condvar,
    /// Everything that was asked for has been tried.
    idle: Condvar,
    lost: check::Ear,
}

/// What is to be done; bounded by one entry a file.
#[derive(Debug, Default)]
struct Queue {
    wanted: BTreeMap<String, Asked>,
    suspects: check::Suspects,
    /// The thread sleeps, until then if it is some: who asks for something sooner wakes it.
    asleep: Option<Option<Instant>>,
    /// Remove what belongs to none of these services.
    sweep: Option<Vec<Name>>,
    reopen: bool,
    /// Ignore the limits on rates until the queue is empty.
    flush: bool,
    /// The thread has taken entries that it has not tried yet.
    busy: bool,
    stop: bool,
    place: Option<PathBuf>,
}

#[derive(Debug)]
struct Asked {
    wish: Wish,
    /// When it may be carried out at the earliest.
    from: Instant,
}

#[derive(Debug, Clone)]
enum Wish {
    Write { name: Option<Name>, text: Text, like: Option<PathBuf> },
    Remove,
}

/// What a file is to hold. A service's view is put into words by the writer's thread: between two
/// writes of one file there may be many views that nobody reads.
#[derive(Debug, Clone)]
pub enum Text {
    Words(String),
    View(Arc<ServiceView>, ControllerLine),
}

impl From<String> for Text {
    fn from(words: String) -> Text {
        Text::Words(words)
    }
}

impl Text {
    fn words(&self) -> Cow<'_, str> {
        match self {
            Text::Words(text) => Cow::Borrowed(text),
            Text::View(view, controller) => Cow::Owned(status_file(view, controller)),
        }
    }

    /// What people wait for; the rest explains it.
    fn gist(&self) -> Option<Gist> {
        match self {
            Text::Words(_) => None,
            Text::View(view, _) => Some((view.status, view.ready)),
        }
    }

    /// A check has passed: nothing is about to follow that would be worth a wait.
    fn is_ready(&self) -> bool {
        match self {
            Text::Words(_) => false,
            Text::View(view, _) => view.check.is_some() && view.ready > 0 && view.ready == view.desired,
        }
    }
}

/// Status word, and how many are ready.
type Gist = (Status, u32);

impl StatusFiles {
    /// Status files of the directory `dir`; where it cannot be written they go to `fallback`
    /// (`status/` of the state directory). `through`: another way to it, while something else is at its path.
    pub fn start(
        dir: &Path,
        through: Option<&Path>,
        fallback: Option<PathBuf>,
        on_trouble: OnTrouble,
    ) -> io::Result<StatusFiles> {
        let shared = Arc::new(Shared::default());
        let place = Place::open(dir, through, fallback);
        shared.lock().place = Some(place.shown());
        let writer = Writer {
            shared: shared.clone(),
            dir: dir.to_path_buf(),
            place,
            on_trouble,
            files: BTreeMap::new(),
            failing: BTreeSet::new(),
            hasher: RandomState::new(),
            rate: Rate::new(),
        };
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || writer.run())?;
        Ok(StatusFiles { shared, thread: Some(thread) })
    }

    /// Write `NAME.status`, with owner, group and mode of the manifest `like`.
    pub fn announce(&self, name: &Name, text: impl Into<Text>, like: Option<PathBuf>) {
        self.wish(name.as_str(), Wish::Write { name: Some(name.clone()), text: text.into(), like });
    }

    /// Write `_controller.status`.
    pub fn node(&self, text: String) {
        self.wish(NODE, Wish::Write { name: None, text: Text::Words(text), like: None });
    }

    pub fn remove(&self, name: &Name) {
        self.wish(name.as_str(), Wish::Remove);
    }

    /// Removes what an earlier run left of services that are not among `names`.
    pub fn keep_only(&self, names: Vec<Name>) {
        self.shared.lock().sweep = Some(names);
        self.shared.more.notify_one();
    }

    /// The directory at the path was replaced and accepted: from now on write there. The caller
    /// announces everything again.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.more.notify_one();
    }

    /// Who hears that a status file is not what was written last, and has it written again.
    pub fn on_lost(&self, on_lost: OnLost) {
        self.shared.lost.set(on_lost);
    }

    /// Who sees changes in the directory tells of them here.
    pub fn check(&self) -> StatusCheck {
        StatusCheck { shared: self.shared.clone() }
    }

    /// Where status files are written now: the directory, or the fallback where it is read-only.
    pub fn place(&self) -> PathBuf {
        self.shared.lock().place.clone().unwrap_or_default()
    }

    /// Returns when everything asked for so far has been tried, at latest after 2 s.
    pub fn flush(&self) {
        let mut queue = self.shared.lock();
        queue.flush = true;
        self.shared.more.notify_one();
        let until = Instant::now() + FLUSH_MAX;
        while !queue.is_done() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.idle.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wish(&self, stem: &str, wish: Wish) {
        let mut queue = self.shared.lock();
        let gather = match &wish {
            _ if queue.wanted.len() >= CROWD => GATHER_CROWD,
            Wish::Write { text, .. } if text.is_ready() => Duration::ZERO,
            Wish::Write { .. } | Wish::Remove => GATHER,
        };
        let from = Instant::now() + gather;
        match queue.wanted.get_mut(stem) {
            Some(asked) => *asked = Asked { wish, from: asked.from.min(from) },
            None => drop(queue.wanted.insert(stem.to_string(), Asked { wish, from })),
        }
        if queue.asleep.is_some_and(|until| until.is_none_or(|until| until > from)) {
            queue.asleep = None;
            self.shared.more.notify_one();
        }
    }
}

impl Drop for StatusFiles {
    /// Flushes and ends the thread; one that hangs in its filesystem is left behind.
    fn drop(&mut self) {
        self.flush();
        let mut queue = self.shared.lock();
        queue.stop = true;
        let done = queue.is_done();
        drop(queue);
        self.shared.more.notify_one();
        if let Some(thread) = self.thread.take().filter(|_| done) {
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_done(&self) -> bool {
        self.wanted.is_empty() && self.sweep.is_none() && !self.reopen && !self.busy
    }
}

/// What the writer knows of one file.
#[derive(Debug, Default)]
struct Known {
    paced: Paced,
    gist: Option<Gist>,
    /// A hash of the text without the moment of writing, to know equals by.
    text: u64,
    /// What the file was when it was written.
    mark: Option<Mark>,
    /// It is not what was written any more: the same text is written again.
    lost: bool,
    failed: Option<Failure>,
}

impl Known {
    fn due(&self, asked: &Asked) -> Instant {
        let explains = match &asked.wish {
            Wish::Write { text, .. } => text.gist() == self.gist,
            Wish::Remove => false,
        };
        let reserve = self.paced.free_at(AT_ONCE - 1).filter(|_| explains);
        let reserve = reserve.map(|at| at.min(asked.from + EXPLAINED));
        [self.paced.free_at(AT_ONCE), reserve].into_iter().flatten().fold(asked.from, Instant::max)
    }
}

#[derive(Debug)]
struct Failure {
    retry_at: Instant,
    delay: Duration,
    wish: Wish,
}

struct Writer {
    shared: Arc<Shared>,
    /// Beside the manifests; what lies elsewhere may not answer.
    dir: PathBuf,
    place: Place,
    on_trouble: OnTrouble,
    files: BTreeMap<String, Known>,
    /// Those whose last write failed.
    failing: BTreeSet<String>,
    hasher: RandomState,
    rate: Rate,
}

impl Writer {
    fn run(mut self) {
        super::stand_back(super::A_LITTLE);
        super::afar::begin(&self.dir);
        let shared = self.shared.clone();
        loop {
            let (due, sweep, reopen, suspects) = {
                let mut queue = shared.lock();
                loop {
                    let now = Instant::now();
                    let (due, next) = self.due(&mut queue, now);
                    let suspects = queue.suspects.take(now);
                    if !due.is_empty() || queue.sweep.is_some() || queue.reopen || suspects.is_some() {
                        queue.busy = true;
                        break (due, queue.sweep.take(), std::mem::take(&mut queue.reopen), suspects);
                    }
                    let next = next.into_iter().chain(queue.suspects.next()).min();
                    queue.busy = false;
                    if queue.wanted.is_empty() {
                        queue.flush = false;
                        shared.idle.notify_all();
                    }
                    if queue.stop {
                        return;
                    }
                    queue.asleep = Some(next);
                    queue = match next {
                        None => shared.more.wait(queue).unwrap_or_else(PoisonError::into_inner),
                        Some(at) => {
                            let pause = at.saturating_duration_since(now);
                            shared.more.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner).0
                        }
                    };
                    queue.asleep = None;
                }
            };
            if reopen {
                self.place.reopen(self.files.keys());
                self.files.clear();
                self.failing.clear();
                self.shared.lock().place = Some(self.place.shown());
            }
            for (stem, wish) in due {
                self.carry_out(&stem, wish);
            }
            if let Some(names) = sweep {
                let kept: std::collections::BTreeSet<&str> = names.iter().map(Name::as_str).collect();
                // Also what was written since the names were given.
                self.place.sweep(|stem| stem == NODE || kept.contains(stem) || self.files.contains_key(stem));
            }
            if let Some(suspects) = suspects {
                self.look_at(suspects);
            }
        }
    }

    /// Takes what can be written now; says when the next one can.
    fn due(&mut self, queue: &mut Queue, now: Instant) -> (Vec<(String, Wish)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        // All are looked through each time: where there are many that is not done for each of them.
        let least = if queue.wanted.len() < CROWD { now } else { now + LOOK_CROWD };
        let mut later = |at: Instant| next = Some(next.map_or(at, |earlier| earlier.min(at)).max(least));
        let mut ready = Vec::new();
        for (stem, asked) in &queue.wanted {
            let at = self.files.get(stem).map_or(asked.from, |known| known.due(asked));
            let wait = Some(at).filter(|at| *at > now).or_else(|| self.rate.full_until(now));
            match wait.filter(|_| !queue.flush) {
                Some(at) => later(at),
                None => {
                    self.rate.spend(now);
                    ready.push(stem.clone());
                }
            }
        }
        // Of what is due together, the node's file tells of the others: it is the last.
        ready.sort_by_key(|stem| stem == NODE);
        for stem in ready {
            due.extend(queue.wanted.remove(&stem).map(|asked| (stem, asked.wish)));
        }
        for stem in &self.failing {
            let failure = self.files.get(stem).and_then(|known| known.failed.as_ref());
            match failure.filter(|_| !queue.wanted.contains_key(stem)) {
                Some(failure) if failure.retry_at <= now => due.push((stem.clone(), failure.wish.clone())),
                Some(failure) => later(failure.retry_at),
                None => {}
            }
        }
        (due, next)
    }

    fn carry_out(&mut self, stem: &str, wish: Wish) {
        match &wish {
            Wish::Remove => {
                if self.place.remove(stem).is_ok() {
                    self.files.remove(stem);
                    self.failing.remove(stem);
                    return;
                }
                // Nothing may stay that speaks of a service which is no more.
                let known = self.files.entry(stem.to_string()).or_default();
                let delay = known.failed.as_ref().map_or(RETRY_MIN, |last| (last.delay * 2).min(RETRY_MAX));
                known.failed = Some(Failure { retry_at: Instant::now() + delay, delay, wish: Wish::Remove });
                self.failing.insert(stem.to_string());
            }
            Wish::Write { name, text, like } => {
                let (gist, words) = (text.gist(), text.words());
                let text = capped(&words);
                let known = self.files.entry(stem.to_string()).or_default();
                let essence = self.hasher.hash_one(without_moment(&text));
                if known.failed.is_none() && known.paced.0.is_some() && known.text == essence && !known.lost {
                    return;
                }
                let result = self.place.write(stem, text.as_bytes(), like.as_deref(), known.mark);
                known.paced.spend(Instant::now());
                known.gist = gist;
                known.text = essence;
                known.lost = false;
                known.mark = None;
                match result {
                    Ok(mark) => {
                        known.mark = mark;
                        if known.failed.take().is_some() {
                            self.failing.remove(stem);
                            (self.on_trouble)(name.as_ref(), None);
                        }
                    }
                    Err(refused) => {
                        let delay = known.failed.as_ref().map_or(RETRY_MIN, |last| (last.delay * 2).min(RETRY_MAX));
                        if known.failed.is_none() && !self.place.is_nowhere() {
                            (self.on_trouble)(name.as_ref(), Some(explain(stem, &refused)));
                        }
                        self.failing.insert(stem.to_string());
                        known.failed = Some(Failure { retry_at: Instant::now() + delay, delay, wish: wish.clone() });
                    }
                }
            }
        }
    }
}

fn explain(stem: &str, refused: &Refused) -> String {
    let why = match refused.errno {
        Errno::NOSPC => "the disk is full".to_string(),
        Errno::DQUOT => "the quota is used up".to_string(),
        Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => "a directory of that name is in the way".to_string(),
        errno => io::Error::from(errno).to_string(),
    };
    match &refused.instead {
        Some(path) => format!("{stem}.status cannot be written: {why}; it is at {} meanwhile", path.display()),
        None => format!("{stem}.status cannot be written: {why}; the file there is out of date until it can"),
    }
}

/// Cut at the end of a line, with a word about it.
fn capped(text: &str) -> Cow<'_, str> {
    const CUT: &str = "# (cut: longer than 16 KiB)\n";
    if text.len() <= STATUS_MAX {
        return text.into();
    }
    let head = &text.as_bytes()[..STATUS_MAX - CUT.len()];
    let end = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    format!("{}{CUT}", &text[..end]).into()
}

/// The text without the value of `written:`: that alone is no change.
fn without_moment(text: &str) -> String {
    let Some(at) = text.find("written: ") else { return text.to_string() };
    let value = at + "written: ".len();
    let length = text[value..].find([',', '}', '\n']).unwrap_or(text.len() - value);
    format!("{}{}", &text[..value], &text[value + length..])
}

/// The writes of one file: when it will have been quiet for all of them, each of which puts that off.
#[derive(Debug, Default, Clone, Copy)]
struct Paced(Option<Instant>);

impl Paced {
    /// When it may be written next, if so many may be at once; none: as soon as anybody likes.
    fn free_at(self, at_once: u32) -> Option<Instant> {
        self.0?.checked_sub(PACE * (at_once - 1))
    }

    fn spend(&mut self, now: Instant) {
        self.0 = Some(self.0.map_or(now, |quiet| quiet.max(now)) + PACE);
    }
}

/// Writes in the current second.
#[derive(Debug)]
struct Rate {
    since: Instant,
    spent: u32,
}

impl Rate {
    fn new() -> Rate {
        Rate { since: Instant::now(), spent: 0 }
    }

    fn full_until(&self, now: Instant) -> Option<Instant> {
        let end = self.since + Duration::from_secs(1);
        (self.spent >= WRITES_MAX && now < end).then_some(end)
    }

    fn spend(&mut self, now: Instant) {
        if now >= self.since + Duration::from_secs(1) {
            *self = Rate { since: now, spent: 0 };
        }
        self.spent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::samples;

    #[test]
    fn a_few_writes_are_at_once_and_many_are_ten_a_second() {
        let (start, mut paced) = (Instant::now() + Duration::from_secs(3600), Paced::default());
        let mut moments = Vec::new();
        let mut now = start;
        for _ in 0..6 {
            now = paced.free_at(AT_ONCE).map_or(now, |at| at.max(now));
            paced.spend(now);
            moments.push((now - start).as_millis());
        }
        assert_eq!(moments, [0, 0, 0, 0, 100, 200]);
        now += Duration::from_secs(1);
        paced.spend(now);
        assert!(paced.free_at(AT_ONCE).is_some_and(|at| at <= now), "it has rested");
    }

    /// When it may be written, in milliseconds, after so many writes in one moment, the last of them with this gist.
    fn due_after(writes: u32, told: &ServiceView, next: ServiceView) -> u128 {
        let start = Instant::now() + Duration::from_secs(3600);
        let gist = Some((told.status, told.ready));
        let mut known = Known { gist, ..Known::default() };
        (0..writes).for_each(|_| known.paced.spend(start));
        let line = ControllerLine { pid: 1, version: "1".into(), written: jiff::Timestamp::UNIX_EPOCH };
        let text = Text::View(Arc::new(next), line);
        let asked = Asked { wish: Wish::Write { name: None, text, like: None }, from: start };
        (known.due(&asked) - start).as_millis()
    }

    #[test]
    fn what_a_start_explains_of_itself_keeps_nobody_from_hearing_that_it_is_ready() {
        let ready = samples::healthy("web");
        let starting = ServiceView { status: Status::Starting, ready: 0, ..ready.clone() };
        for (writes, explains, turns) in [(0, 0, 0), (2, 0, 0), (3, 100, 0), (4, 100, 100)] {
            assert_eq!(due_after(writes, &starting, starting.clone()), explains, "an explanation after {writes}");
            assert_eq!(due_after(writes, &starting, ready.clone()), turns, "ready after {writes}");
        }
    }

    #[test]
    fn the_moment_of_writing_alone_is_no_change() {
        let one = "status: healthy\ncontroller: {pid: 8, written: 2026-11-23T11:02:44Z}\n";
        let two = "status: healthy\ncontroller: {pid: 8, written: 2026-11-23T11:02:45Z}\n";
        assert_eq!(without_moment(one), without_moment(two));
        assert_ne!(without_moment(one), without_moment(&one.replace("healthy", "degraded")));
    }

    #[test]
    fn a_long_status_is_cut_at_a_line_and_says_so() {
        let text = "ä: 1234567\n".repeat(5_000);
        let cut = capped(&text);
        assert!(cut.len() <= STATUS_MAX);
        assert!(cut.ends_with("1234567\n# (cut: longer than 16 KiB)\n"));
    }

    #[test]
    fn five_thousand_writes_fill_a_second() {
        let mut rate = Rate::new();
        let start = rate.since;
        for _ in 0..WRITES_MAX {
            assert_eq!(rate.full_until(start), None);
            rate.spend(start);
        }
        assert_eq!(rate.full_until(start), Some(start + Duration::from_secs(1)));
        assert_eq!(rate.full_until(start + Duration::from_secs(1)), None);
    }
}
