//! When a file is looked at, and when its absence counts. Pure: time arrives as an argument.
//!
//! Events only set deadlines. What a look finds is told back, and decides whether the matter is
//! closed, asked again, or an absence that is now for good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A change of a running service waits until its name was quiet for this long: a script that writes
/// a manifest in two opens would restart it twice.
const QUIET: Duration = Duration::from_millis(20);
/// … at latest this long after the first change.
const QUIET_MAX: Duration = Duration::from_millis(200);
/// git, `install` and `cp --remove-destination` unlink and create.
const UNLINKED: Duration = Duration::from_millis(10);
/// vim renames to a backup, then creates.
const MOVED_AWAY: Duration = Duration::from_millis(100);
/// A file held open for writing is asked again.
const BUSY_RETRY: Duration = Duration::from_millis(100);
/// Files with matters open; beyond that an event only marks the directory dirty. A whole checkout
/// of the largest node (10,000 services and their wrappers).
const WAITS_MAX: usize = 20_000;

/// What an event says of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Renamed in, or closed after writing.
    Complete,
    /// Appeared, was modified, or its mode or owner changed.
    Partial,
    Unlinked,
    MovedAway,
}

impl News {
    /// What it is to the folder, which is there whatever went.
    pub fn of_folder(self) -> News {
        match self {
            News::Complete => News::Complete,
            News::Partial | News::Unlinked | News::MovedAway => News::Partial,
        }
    }
}

/// One file that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub path: PathBuf,
    /// An event said that its writer is done.
    pub complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// Asked again later.
    Waiting,
    ForGood,
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    waits: BTreeMap<PathBuf, Wait>,
    dirty: Option<Settling>,
}

#[derive(Debug, Default, Clone)]
struct Wait {
    change: Option<Settling>,
    complete: bool,
    absent_until: Option<Duration>,
    busy: Option<Busy>,
}

#[derive(Debug, Clone, Copy)]
struct Settling {
    first: Duration,
    due: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Busy {
    since: Duration,
    due: Duration,
}

impl Settling {
    fn again(before: Option<Settling>, now: Duration, quiet: Duration) -> Settling {
        let first = before.map_or(now, |before| before.first);
        Settling { first, due: (now + quiet).min(first + QUIET_MAX) }
    }
}

impl Wait {
    fn due(&self) -> Option<Duration> {
        let change = self.change.map(|change| change.due);
        [change, self.absent_until, self.busy.map(|busy| busy.due)].into_iter().flatten().min()
    }
}

impl Agenda {
    /// `settle`: the file belongs to a service that is declared, so its change waits for quiet.
    pub fn news(&mut self, path: &Path, news: News, settle: bool, now: Duration) {
        if self.waits.len() >= WAITS_MAX && !self.waits.contains_key(path) {
            self.dirty(now, false);
            return;
        }
        let wait = self.waits.entry(path.to_path_buf()).or_default();
        match news {
            News::Complete | News::Partial => {
                wait.change = Some(Settling::again(wait.change, now, if settle { QUIET } else { Duration::ZERO }));
                wait.complete = news == News::Complete;
                wait.absent_until = None;
                // Whoever had it open may be done: ask again with this event.
                wait.busy = wait.busy.map(|busy| Busy { due: wait.change.map_or(now, |change| change.due), ..busy });
            }
            News::Unlinked => wait.absent_until = Some(now + UNLINKED),
            News::MovedAway => wait.absent_until = Some(now + MOVED_AWAY),
        }
    }

    /// Look at this file at `at`, whatever happens.
    pub fn later(&mut self, path: &Path, at: Duration) {
        let wait = self.waits.entry(path.to_path_buf()).or_default();
        wait.change = wait.change.or(Some(Settling { first: at, due: at }));
    }

    /// Compare all entries soon: after a moment of quiet, or at once.
    pub fn dirty(&mut self, now: Duration, at_once: bool) {
        let quiet = if at_once { Duration::ZERO } else { QUIET };
        self.dirty = Some(Settling::again(self.dirty, now, quiet));
    }

    /// What waits for a moment of quiet waits no more.
    pub fn hurry(&mut self, now: Duration) {
        let changes = self.waits.values_mut().filter_map(|wait| wait.change.as_mut());
        changes.for_each(|change| change.due = change.due.min(now));
    }

    /// Everything is about to be compared.
    pub fn clean(&mut self) {
        self.dirty = None;
    }

    pub fn take_dirty(&mut self, now: Duration) -> bool {
        self.dirty.take_if(|dirty| dirty.due <= now).is_some()
    }

    /// The files to look at now. Each look ends with `done`, `busy` or `absent`.
    pub fn due(&mut self, now: Duration) -> Vec<Look> {
        let mut due = Vec::new();
        for (path, wait) in &mut self.waits {
            if wait.due().is_some_and(|at| at <= now) {
                wait.change.take_if(|change| change.due <= now);
                due.push(Look { path: path.clone(), complete: wait.complete });
            }
        }
        due
    }

    pub fn next(&self) -> Option<Duration> {
        let waits = self.waits.values().filter_map(Wait::due);
        waits.chain(self.dirty.map(|dirty| dirty.due)).min()
    }

    /// The file was read, or there was nothing to read.
    pub fn done(&mut self, path: &Path) {
        if let Some(wait) = self.waits.get_mut(path) {
            // An event that came after the look was due keeps its own deadline.
            (wait.absent_until, wait.busy) = (None, None);
            if wait.change.is_none() {
                self.waits.remove(path);
            }
        }
    }

    /// Somebody has it open for writing. Returns for how long we know.
    pub fn busy(&mut self, path: &Path, now: Duration) -> Duration {
        let wait = self.waits.entry(path.to_path_buf()).or_default();
        let since = wait.busy.map_or(now, |busy| busy.since);
        wait.absent_until = None;
        wait.busy = Some(Busy { since, due: now + BUSY_RETRY });
        now - since
    }

    /// The file is not there. `grace`: how long an absence is doubted that no event told of.
    pub fn absent(&mut self, path: &Path, now: Duration, grace: Duration) -> Absence {
        let wait = self.waits.entry(path.to_path_buf()).or_default();
        wait.busy = None;
        match wait.absent_until {
            Some(until) if until <= now => {
                self.waits.remove(path);
                Absence::ForGood
            }
            Some(_) => Absence::Waiting,
            None => {
                wait.absent_until = Some(now + grace);
                Absence::Waiting
            }
        }
    }

    /// Doubts the absence of all files anew, for at least this long.
    pub fn doubt(&mut self, now: Duration, grace: Duration) {
        for wait in self.waits.values_mut() {
            wait.absent_until = wait.absent_until.map(|until| until.max(now + grace));
        }
    }

    /// Doubts no absence for longer than this.
    pub fn relent(&mut self, now: Duration, grace: Duration) {
        for wait in self.waits.values_mut() {
            wait.absent_until = wait.absent_until.map(|until| until.min(now + grace));
        }
    }

    /// The files that are looked at again: somebody holds them open for writing, or a manifest may claim them yet.
    pub fn waiting(&self) -> std::collections::BTreeSet<PathBuf> {
        self.waits.keys().cloned().collect()
    }

    pub fn is_waiting(&self, path: &Path) -> bool {
        self.waits.contains_key(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "/d/x.yaml";

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn looks(agenda: &mut Agenda, now: u64) -> usize {
        agenda.due(ms(now)).len()
    }

    #[test]
    fn a_new_file_is_looked_at_at_once() {
        let mut agenda = Agenda::default();
        agenda.news(Path::new(X), News::Complete, false, ms(5));
        assert_eq!(agenda.due(ms(5)), [Look { path: X.into(), complete: true }]);
        agenda.done(Path::new(X));
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn a_change_waits_for_twenty_quiet_milliseconds_and_at_most_two_hundred() {
        let mut agenda = Agenda::default();
        for at in (0..=300).step_by(15) {
            if looks(&mut agenda, at) == 1 {
                assert_eq!(at, 210, "the first look after 200 ms");
                return;
            }
            agenda.news(Path::new(X), News::Partial, true, ms(at));
        }
        panic!("never looked at");
    }

    #[test]
    fn an_unlinked_file_that_is_created_again_is_one_change() {
        let mut agenda = Agenda::default();
        agenda.news(Path::new(X), News::Unlinked, true, ms(0));
        agenda.news(Path::new(X), News::Partial, true, ms(1));
        agenda.news(Path::new(X), News::Complete, true, ms(2));
        assert_eq!(looks(&mut agenda, 21), 0);
        assert_eq!(looks(&mut agenda, 22), 1);
        agenda.done(Path::new(X));
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn an_absence_counts_after_ten_milliseconds_and_after_a_rename_away_after_a_hundred() {
        for (news, grace) in [(News::Unlinked, 10), (News::MovedAway, 100)] {
            let mut agenda = Agenda::default();
            agenda.news(Path::new(X), news, true, ms(0));
            assert_eq!(looks(&mut agenda, grace - 1), 0);
            assert_eq!(looks(&mut agenda, grace), 1);
            assert_eq!(agenda.absent(Path::new(X), ms(grace), ms(1000)), Absence::ForGood);
        }
    }

    #[test]
    fn an_absence_that_only_a_poll_saw_is_looked_at_a_second_time() {
        let mut agenda = Agenda::default();
        assert_eq!(agenda.absent(Path::new(X), ms(0), ms(1000)), Absence::Waiting);
        assert_eq!(agenda.next(), Some(ms(1000)));
        assert_eq!(looks(&mut agenda, 1000), 1);
        assert_eq!(agenda.absent(Path::new(X), ms(1000), ms(1000)), Absence::ForGood);
    }

    #[test]
    fn a_file_held_open_is_asked_again_and_the_time_is_counted() {
        let mut agenda = Agenda::default();
        agenda.news(Path::new(X), News::Partial, false, ms(0));
        assert_eq!(looks(&mut agenda, 0), 1);
        assert_eq!(agenda.busy(Path::new(X), ms(0)), ms(0));
        assert_eq!(agenda.next(), Some(ms(100)));
        agenda.news(Path::new(X), News::Complete, false, ms(50));
        assert_eq!(agenda.next(), Some(ms(50)), "the close is heard at once");
        assert_eq!(looks(&mut agenda, 50), 1);
        assert_eq!(agenda.busy(Path::new(X), ms(50)), ms(50), "another writer still has it");
    }

    #[test]
    fn a_dirty_directory_is_compared_after_quiet_or_at_once() {
        let mut agenda = Agenda::default();
        agenda.dirty(ms(0), false);
        assert!(!agenda.take_dirty(ms(19)) && agenda.take_dirty(ms(20)) && !agenda.take_dirty(ms(40)));
        agenda.dirty(ms(50), true);
        assert!(agenda.take_dirty(ms(50)));
    }
}
