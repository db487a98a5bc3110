//! What belongs to a life, and how a signal reaches it without ever reaching a stranger.
//!
//! With a cgroup the kernel keeps the list and all of this is done at once. Without one
//! (`Scope::Session`) the tree is what a walk of /proc finds, which takes long with many processes:
//! that is the walker's work (walk.rs), in its own thread. [`Trees`] hides the difference.
//!
//! A signal goes through a pidfd that was opened before the process was identified. So a number
//! that has changed hands in between is noticed, and one that changes hands later does not matter.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup::{CgroupRoot, Group};
use super::raw;
use super::stat::{self, Stat};
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
    /// The main process.
    pub pid: i32,
    pub start_time: u64,
    pub scope: Scope,
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

    /// By session, by group, or by a chain of parents that leads to the main process or its session.
    fn descends(&self, pid: i32) -> bool {
        let mut next = pid;
        for _ in 0..ANCESTORS_MAX {
            let Some(stat) = Stat::of(next) else { return false };
            let reaper = self.reaper().filter(|reaper| is_reaper(*reaper, &stat));
            if reaper.is_some() {
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

    /// An orphan, known by its cookie alone.
    fn claims(&self, pid: i32) -> bool {
        match stat::cookie(pid) {
            stat::Cookie::Of(instance, life) => self.is_named(&(instance, life)),
            stat::Cookie::Absent | stat::Cookie::Unread => false,
        }
    }

    pub(super) fn is_named(&self, cookie: &(String, u64)) -> bool {
        cookie.1 == self.life.life && cookie.0 == self.life.instance.to_string()
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
}

impl Trees {
    pub fn new(walker: Walker) -> Trees {
        Trees { walker }
    }

    /// Send a signal; that nobody is there is no error.
    pub fn signal(&self, tree: &Tree, signal: i32, to: Target) -> io::Result<()> {
        if to == Target::Group {
            match signal_leader_group(tree, signal) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => return result,
            }
        }
        match &tree.scope {
            Scope::Cgroup(group) => signal_cgroup(tree, group, signal, to),
            Scope::Session | Scope::Reaper(_) => {
                self.walker.ask(Request::Signal { tree: tree.clone(), signal, to });
                Ok(())
            }
        }
    }

    /// What is left of the tree, main process included. `None`: the walker looks, and sends
    /// `Input::Surveyed` when it knows.
    pub fn survey(&self, tree: &Tree) -> Option<Vec<Leftover>> {
        match &tree.scope {
            Scope::Cgroup(group) => Some(survey_cgroup(group)),
            Scope::Session | Scope::Reaper(_) => {
                self.walker.ask(Request::Survey(tree.clone()));
                None
            }
        }
    }

    /// The life is over; what the walker has learned of it may go.
    pub fn forget(&self, tree: &Tree) {
        match tree.scope {
            Scope::Cgroup(_) => {}
            Scope::Session | Scope::Reaper(_) => self.walker.ask(Request::Forget(tree.life.clone())),
        }
    }
}

pub(super) fn is_reaper(reaper: Reaper, stat: &Stat) -> bool {
    (stat.pid, stat.start_time) == (reaper.pid, reaper.start_time)
}

/// To the group that the main process leads, while it is there (a zombie is there). ESRCH once its
/// number may be somebody else's: then the members are sought one by one.
fn signal_leader_group(tree: &Tree, signal: i32) -> io::Result<()> {
    let pidfd = hold(tree.pid)?;
    let stat = Stat::of(tree.pid).filter(|stat| tree.is_main(stat) && stat.group == tree.pid);
    if stat.is_none() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    match raw::signal_group(pidfd.as_fd(), signal) {
        // Before Linux 6.9. The leader has just been seen; for the number to change hands it would
        // have to be reaped and all of pid_max used up between these two calls.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => raw::kill_group(tree.pid, signal),
        result => result,
    }
}

fn signal_cgroup(tree: &Tree, group: &Group, signal: i32, to: Target) -> io::Result<()> {
    match (to, signal) {
        (Target::Group, _) => {
            signal_listed(group, signal, |pid| Stat::of(pid).is_some_and(|stat| stat.group == tree.pid));
            Ok(())
        }
        (Target::Tree, libc::SIGKILL) => match group.kill() {
            Ok(()) => Ok(()),
            Err(_) => {
                let passes = (0..KILL_PASSES).take_while(|_| signal_listed(group, signal, |_| true) > 0);
                passes.for_each(drop);
                Ok(())
            }
        },
        (Target::Tree, _) => {
            signal_listed(group, signal, |_| true);
            Ok(())
        }
    }
}

/// To each process that the group lists both before and after its pidfd was opened.
fn signal_listed(group: &Group, signal: i32, wanted: impl Fn(i32) -> bool) -> usize {
    let held: Vec<(i32, OwnedFd)> = group.procs().into_iter().filter_map(|pid| Some((pid, hold(pid).ok()?))).collect();
    let still: HashSet<i32> = if held.is_empty() { HashSet::new() } else { group.procs().into_iter().collect() };
    let sent = held.iter().filter(|(pid, _)| still.contains(pid) && wanted(*pid));
    sent.filter(|(_, pidfd)| raw::signal_process(pidfd.as_fd(), signal).is_ok()).count()
}

fn survey_cgroup(group: &Group) -> Vec<Leftover> {
    if !group.populated() {
        return Vec::new();
    }
    let named = |pid| Leftover { pid, command: stat::command(pid).unwrap_or_else(|| "?".into()) };
    group.procs().into_iter().map(named).collect()
}

/// A pidfd, close-on-exec.
pub(super) fn hold(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
