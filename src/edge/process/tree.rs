//! What belongs to a life, and how a signal reaches it without ever reaching a stranger.
//!
//! With a cgroup the kernel keeps the list and all of this is done at once. Without one
//! (`Scope::Session`) the tree is what a walk of /proc finds, which takes long with many processes:
//! that is the walker's work (walk.rs), in its own thread. [`Trees`] hides the difference.
//!
//! A signal goes through a pidfd that was opened before the process was identified. So a number
//! that has changed hands in between is noticed, and one that changes hands later does not matter.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup::{CgroupRoot, Group};
use super::raw;
use super::stat::{self, Mark, Stat};
use super::walk::{Request, Walker};
use crate::controller::{Leftover, Target};
use crate::keeper::Reaper;
use crate::model::name::LifeId;

/// A KILL without cgroup.kill goes over the list this often; 190 passes were seen to be needed for
/// a process that forks every 0.2 ms.
const KILL_PASSES: usize = 400;
/// Parents are followed this far up; a chain that is longer is nobody's honest tree.
const ANCESTORS_MAX: usize = 64;
/// Of a tree's processes this many are looked at when a socket's owner is sought.
const FAMILY_MAX: usize = 256;

/// One life's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub life: LifeId,
    /// The node that the life is of, as its processes find it in their environment.
    pub node: Arc<str>,
    /// The main process.
    pub pid: i32,
    pub start_time: u64,
    pub scope: Scope,
}

/// The life in the identity of a helper's tree: those of services count up from 1 and never come this far.
pub fn helper_life(number: u64) -> u64 {
    u64::MAX - number
}

/// How far a stop reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Cgroup(Group),
    Session,
    /// As `Session`, and whatever descends from this process of ours, to which all that gets away falls.
    Reaper(Reaper),
}

impl Scope {
    /// The word for `killScope:` in a status.
    pub fn word(cgroups: Option<&CgroupRoot>) -> &'static str {
        match cgroups {
            Some(_) => "cgroup",
            None => "session",
        }
    }

    /// Without a cgroup a life may have a reaper, until nothing of it is left.
    #[must_use]
    pub fn below(self, reaper: Option<Reaper>) -> Scope {
        match (self, reaper) {
            (Scope::Session | Scope::Reaper(_), Some(reaper)) => Scope::Reaper(reaper),
            (scope, _) => scope,
        }
    }
}

impl Tree {
    /// Whether a process is of this tree now. Inline: some tens of microseconds.
    pub fn contains(&self, pid: i32) -> bool {
        match &self.scope {
            Scope::Cgroup(group) => group.contains(pid),
            Scope::Session | Scope::Reaper(_) => self.descends(pid) || self.claims(pid),
        }
    }

    /// By session, by group, or by a chain of parents that leads to the main process, its session or the reaper.
    fn descends(&self, pid: i32) -> bool {
        let mut next = pid;
        for _ in 0..ANCESTORS_MAX {
            let Some(stat) = Stat::of(next) else { return false };
            if self.reaper().is_some_and(|reaper| is_reaper(reaper, &stat)) {
                return next != pid;
            }
            if stat.start_time < self.start_time {
                return false;
            }
            if self.is_main(&stat) || stat.session == self.pid || stat.group == self.pid {
                return self.number_is_ours();
            }
            next = stat.parent;
        }
        false
    }

    /// An orphan, known by its cookie alone. Anybody can write one: it counts only for what fell to our keeper,
    /// and for a user that the main process is as well.
    fn claims(&self, pid: i32) -> bool {
        let keeper = rustix::process::getppid().map_or(0, |keeper| keeper.as_raw_nonzero().get());
        if Stat::of(pid).is_none_or(|stat| stat.parent != keeper) {
            return false;
        }
        let uids = stat::uids(self.pid);
        match stat::cookie(pid) {
            stat::Cookie::Of(mark) => self.is_named(&mark) && stat::uids(pid).iter().any(|uid| uids.contains(uid)),
            stat::Cookie::Absent | stat::Cookie::Unread => false,
        }
    }

    /// By its own life, or as what a helper beside it left.
    pub(super) fn is_named(&self, mark: &Mark) -> bool {
        let life = self.life.life;
        (life == mark.life || mark.helper.map(helper_life) == Some(life))
            && *mark.node == *self.node
            && mark.instance == self.life.instance.to_string()
    }

    pub(super) fn reaper(&self) -> Option<Reaper> {
        match self.scope {
            Scope::Reaper(reaper) => Some(reaper),
            Scope::Cgroup(_) | Scope::Session => None,
        }
    }

    pub(super) fn is_main(&self, stat: &Stat) -> bool {
        stat.pid == self.pid && stat.start_time == self.start_time
    }

    /// The main pid, and with it the session's number, has not gone to somebody else. While any
    /// process of the session is left the kernel cannot give the number away.
    fn number_is_ours(&self) -> bool {
        Stat::of(self.pid).is_none_or(|stat| self.is_main(&stat))
    }

    /// Processes of the tree that are found without a walk, the main process first: for finding
    /// out who of them holds a socket.
    pub fn family(&self) -> Vec<i32> {
        let mut pids = vec![self.pid];
        match &self.scope {
            Scope::Cgroup(group) => {
                let procs = group.procs();
                pids.extend(procs.into_iter().filter(|pid| *pid != self.pid));
            }
            Scope::Session | Scope::Reaper(_) => {
                let mut next = 0;
                while next < pids.len() && pids.len() < FAMILY_MAX {
                    pids.extend(stat::children(pids[next]));
                    next += 1;
                }
            }
        }
        pids.truncate(FAMILY_MAX);
        pids
    }
}

/// Signals and surveys for all lives.
#[derive(Debug)]
pub struct Trees {
    walker: Walker,
    /// Lives that the walker was asked about.
    walked: RefCell<HashSet<LifeId>>,
}

impl Trees {
    pub fn new(walker: Walker) -> Trees {
        Trees { walker, walked: RefCell::default() }
    }

    /// Send a signal; that nobody is there is no error.
    pub fn signal(&self, tree: &Tree, signal: i32, to: Target) -> io::Result<()> {
        self.send(tree, signal, None, to)
    }

    /// Send a signal that asks for an end: who is stopped (SIGSTOP) hears of it only when it goes on.
    pub fn signal_end(&self, tree: &Tree, signal: i32, to: Target) -> io::Result<()> {
        self.send(tree, signal, Some(libc::SIGCONT).filter(|_| signal != libc::SIGKILL), to)
    }

    /// `then`: sent as well, whatever became of the first; what becomes of it nobody asks.
    fn send(&self, tree: &Tree, signal: i32, then: Option<i32>, to: Target) -> io::Result<()> {
        if to == Target::Group {
            match signal_leader_group(tree, signal, then) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => return result,
            }
        }
        let sent = self.signal_members(tree, signal, to);
        let _gone_already = then.map(|then| self.signal_members(tree, then, to));
        sent
    }

    fn signal_members(&self, tree: &Tree, signal: i32, to: Target) -> io::Result<()> {
        match &tree.scope {
            Scope::Cgroup(group) => {
                signal_cgroup(tree, group, signal, to)?;
                match outside(tree, group) {
                    Outside::Nobody => {}
                    Outside::Main(main) => drop(send(&main, signal)),
                    Outside::Somebody if group.populated() && signal != libc::SIGKILL => {}
                    Outside::Somebody => self.walk(Request::Signal { tree: tree.clone(), signal, to }, tree),
                }
                Ok(())
            }
            Scope::Session | Scope::Reaper(_) => {
                self.walk(Request::Signal { tree: tree.clone(), signal, to }, tree);
                Ok(())
            }
        }
    }

    /// What is left of the tree, main process included. `None`: the walker looks, and sends
    /// `Input::Surveyed` when it knows.
    pub fn survey(&self, tree: &Tree) -> Option<Vec<Leftover>> {
        match &tree.scope {
            Scope::Cgroup(group) => {
                let mut left = survey_cgroup(group);
                match outside(tree, group) {
                    Outside::Nobody => Some(left),
                    Outside::Main(stat) => {
                        left.insert(0, stat.into_leftover());
                        Some(left)
                    }
                    Outside::Somebody if !left.is_empty() => Some(left),
                    Outside::Somebody => {
                        self.walk(Request::Survey(tree.clone()), tree);
                        None
                    }
                }
            }
            Scope::Session | Scope::Reaper(_) => {
                self.walk(Request::Survey(tree.clone()), tree);
                None
            }
        }
    }

    fn walk(&self, request: Request, tree: &Tree) {
        self.walked.borrow_mut().insert(tree.life.clone());
        self.walker.ask(request);
    }

    /// The first process of a helper runs, or no more: it is not of the life that it names.
    pub fn helper_runs(&self, tree: &Tree, runs: bool) {
        if tree.scope == Scope::Session {
            self.walker.helper_runs(tree, runs);
        }
    }

    /// The life is over; what the walker has learned of it may go.
    pub fn forget(&self, tree: &Tree) {
        if self.walked.borrow_mut().remove(&tree.life) {
            self.walker.ask(Request::Forget(tree.life.clone()));
        }
    }
}

pub(super) fn is_reaper(reaper: Reaper, stat: &Stat) -> bool {
    (stat.pid, stat.start_time) == (reaper.pid, reaper.start_time)
}

/// To the group that the main process leads, while it is there (a zombie is there). ESRCH once its
/// number may be somebody else's: then the members are sought one by one.
fn signal_leader_group(tree: &Tree, signal: i32, then: Option<i32>) -> io::Result<()> {
    let pidfd = hold(tree.pid);
    let stat = Stat::of(tree.pid).filter(|stat| tree.is_main(stat) && stat.group == tree.pid);
    if stat.is_none() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    let send = |signal: i32| match pidfd.as_ref().map(|pidfd| raw::signal_group(pidfd.as_fd(), signal)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => Err(error),
        Err(gone) if gone.raw_os_error() == Some(libc::ESRCH) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        // Before Linux 6.9, or no descriptor is to be had. The leader has just been seen; for the number to change
        // hands it would have to be reaped and all of pid_max used up between these two calls.
        Ok(Err(_)) | Err(_) => raw::kill_group(tree.pid, signal),
    };
    let sent = send(signal);
    let _gone_already = then.map(send);
    sent
}

fn signal_cgroup(tree: &Tree, group: &Group, signal: i32, to: Target) -> io::Result<()> {
    match (to, signal) {
        (Target::Group, _) => {
            signal_listed(group, signal, |pid| Stat::of(pid).is_some_and(|stat| stat.group == tree.pid));
            Ok(())
        }
        (Target::Tree, libc::SIGKILL) => {
            kill_cgroup(group);
            Ok(())
        }
        (Target::Tree, _) => {
            signal_listed(group, signal, |_| true);
            Ok(())
        }
    }
}

/// SIGKILL to all that is in it; cgroup v1 has no cgroup.kill either.
pub(super) fn kill_cgroup(group: &Group) {
    if group.kill().is_err() {
        let passes = (0..KILL_PASSES).take_while(|_| signal_listed(group, libc::SIGKILL, |_| true) > 0);
        passes.for_each(drop);
    }
}

/// To each process that the group lists both before and after its pidfd was opened.
fn signal_listed(group: &Group, signal: i32, wanted: impl Fn(i32) -> bool) -> usize {
    let held: Vec<(i32, OwnedFd)> = group.procs().into_iter().filter_map(|pid| Some((pid, hold(pid).ok()?))).collect();
    let still: HashSet<i32> = if held.is_empty() { HashSet::new() } else { group.procs().into_iter().collect() };
    let sent = held.iter().filter(|(pid, _)| still.contains(pid) && wanted(*pid));
    sent.filter(|(_, pidfd)| raw::signal_process(pidfd.as_fd(), signal).is_ok()).count()
}

/// Who of a life with a cgroup is not in it: whoever may write to another group can leave.
enum Outside {
    Nobody,
    Main(Stat),
    /// Its main process is gone, or in there, and the process group that it led is not empty without the cgroup:
    /// who that is takes a walk. Ended children that nobody has reaped yet look the same.
    Somebody,
}

fn outside(tree: &Tree, group: &Group) -> Outside {
    // The main process leads its session, and so stays in its group for as long as it is there.
    if !group_is_there(tree.pid) {
        return Outside::Nobody;
    }
    match Stat::of(tree.pid).filter(|stat| tree.is_main(stat) && stat.lives()) {
        Some(stat) if !group.contains(tree.pid) => Outside::Main(stat),
        Some(_) => Outside::Nobody,
        None => Outside::Somebody,
    }
}

/// Whether any process, one that has ended among them, is in the group of this number. EPERM means somebody
/// as well; that it may be a stranger's by now is the walker's to find out.
pub fn group_is_there(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process_group(pid) != Err(rustix::io::Errno::SRCH))
}

/// Through a pidfd, and only if the number is still the one that was seen.
pub(super) fn send(seen: &Stat, signal: i32) -> bool {
    let pidfd = hold(seen.pid);
    if Stat::of(seen.pid).is_none_or(|stat| stat.start_time != seen.start_time || !stat.lives()) {
        return false;
    }
    match pidfd {
        Ok(pidfd) => raw::signal_process(pidfd.as_fd(), signal).is_ok(),
        // No descriptor is to be had: by its number, a moment after it was seen.
        Err(_) => raw::kill_process(seen.pid, signal).is_ok(),
    }
}

fn survey_cgroup(group: &Group) -> Vec<Leftover> {
    if !group.populated() {
        return Vec::new();
    }
    let named = |pid| match Stat::of(pid) {
        Some(stat) => stat.into_leftover(),
        None => Leftover { pid, command: "?".into(), held: None },
    };
    group.procs().into_iter().map(named).collect()
}

/// A pidfd, close-on-exec.
pub(super) fn hold(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
