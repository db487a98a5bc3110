//! Where memory runs out and the kernel kills one process of an instance: by cgroup v1 the others are killed with it, as
//! memory.oom.group has it by cgroup v2; with `singleProcessOOMKill` they go on, and that is told.
//!
//! By cgroup v2 memory.events changes, which inotify tells. By cgroup v1 the kernel tells an eventfd a moment before it
//! kills (cgroup-v1/memory, "OOM Control"); that it has, a count in memory.oom_control tells. While no controller listens
//! it is the one process alone.
//!
//! Where the whole machine is out of memory nobody is told, and the count rises all the same. So of what is counted by
//! the time that a group above runs out of memory, which is told below it as well, nobody knows when it was: it counts
//! for nothing, and what is killed from then on does. The group above is told first.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, inotify};
use tokio::io::unix::AsyncFd;

use super::counted;
use crate::edge::process::cgroup::Group;
use crate::edge::process::{raw, tree};

/// By cgroup v1.
pub(super) const CONTROL: &str = "memory.oom_control";
/// By cgroup v2.
pub(super) const EVENTS: &str = "memory.events";
/// Of an eventfd 8 bytes, of an inotify some of its events, which say all the same.
const WORD: usize = 256;
/// From the kernel's word to the kill are milliseconds: it looks for the largest process.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS: usize = 100;

/// Watches over the memory of a life.
#[derive(Debug)]
pub struct Whole {
    group: PathBuf,
    /// The file in it that counts.
    counts: &'static str,
    /// Kills that count for nothing.
    before: u64,
    ears: Option<Ears>,
}

impl Whole {
    pub(super) fn new(group: PathBuf, counts: &'static str, new: bool) -> Whole {
        let before = if new { 0 } else { kills(&group, counts) };
        Whole { group, counts, before, ears: None }
    }

    /// Until the kernel kills a process of it.
    pub async fn struck(&mut self) -> io::Result<()> {
        let ears = match self.ears.take() {
            Some(ears) => ears,
            None => Ears::of(&self.group, self.counts)?,
        };
        // What has happened meanwhile.
        let mut strikes = self.has_killed();
        while !strikes {
            strikes = self.hear(&ears).await?;
        }
        self.before = self.kills();
        self.ears = Some(ears);
        Ok(())
    }

    /// All that is left of it.
    pub fn kill(self) {
        tree::kill_cgroup(&Group::at(self.group));
    }

    fn kills(&self) -> u64 {
        kills(&self.group, self.counts)
    }

    fn has_killed(&self) -> bool {
        self.kills() > self.before
    }

    /// The next time that memory runs out: whether a process of this group was killed for it.
    async fn hear(&mut self, ears: &Ears) -> io::Result<bool> {
        let mut ready = ears.own.readable().await?;
        let _how_often = rustix::io::read(ears.own.get_ref(), &mut [0; WORD]);
        ready.clear_ready();
        let Some(above) = &ears.above else { return Ok(self.has_killed()) };
        if rustix::io::read(above, &mut [0; WORD]).is_ok() {
            self.before = self.kills();
        }
        for _ in 0..LOOKS {
            if self.has_killed() {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }
}

/// What the kernel tells of a group; by cgroup v1 of the one above it, too.
#[derive(Debug)]
struct Ears {
    own: AsyncFd<OwnedFd>,
    above: Option<OwnedFd>,
}

impl Ears {
    fn of(group: &Path, counts: &str) -> io::Result<Ears> {
        if counts != CONTROL {
            return Ok(Ears { own: raw::heard(watch(&group.join(counts))?)?, above: None });
        }
        let above = group.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Ears { above: Some(listen(above)?), own: raw::heard(listen(group)?)? })
    }
}

fn kills(group: &Path, counts: &str) -> u64 {
    counted(&group.join(counts), "oom_kill")
}

/// An inotify of each change of the file.
fn watch(file: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, file, inotify::WatchFlags::MODIFY)?;
    Ok(watch)
}

/// An eventfd of each time that the group's memory runs out.
fn listen(group: &Path) -> io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = rustix::fs::open(group.join(CONTROL), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    super::unified::write(group, "cgroup.event_control", &line)?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::edge::process::cgroup::{own_legacy_group, remove_below};

    /// Runs in the group.
    fn begin(group: &Path, command: &str) -> Child {
        let script = format!("echo 0 > {}/cgroup.procs && exec {command}", group.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdout(Stdio::null()).spawn().expect("a shell")
    }

    fn runs_out(group: &Path) {
        let ended = begin(group, "tail /dev/zero").wait().expect("waited for");
        assert!(!ended.success());
    }

    fn limit(group: &Path, limit: &str) {
        super::super::unified::write(group, "memory.limit_in_bytes", limit).expect("a limit");
    }

    /// In a group of its own of the real kernel, where there is one to be had.
    #[test]
    fn what_was_killed_when_nobody_was_told_counts_for_nothing_where_a_group_above_runs_out_of_memory() {
        let own = own_legacy_group("memory").unwrap_or_default();
        let above = own.join(format!("whole-test-{}", std::process::id()));
        let groups = ["of-us", "of-others"].map(|name| above.join(name));
        let [us, others] = &groups;
        if own.as_os_str().is_empty() || groups.iter().any(|group| std::fs::create_dir_all(group).is_err()) {
            println!("not shown: no group of cgroup v1 can be made here");
            return;
        }
        limit(&above, "64M");
        let mut stays = begin(us, "sleep 1000");
        limit(us, "16M");
        runs_out(us);
        limit(us, "-1");
        assert_eq!(kills(us, CONTROL), 1, "and nobody has listened");
        let hears = async {
            let mut whole = Whole::new(us.clone(), CONTROL, true);
            let ears = Ears::of(us, CONTROL).expect("told");
            runs_out(others);
            let of_others = whole.hear(&ears).await.expect("heard");
            limit(us, "16M");
            runs_out(us);
            (of_others, whole.hear(&ears).await.expect("heard"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let heard = runtime.block_on(hears);
        let _gone = (stays.kill(), stays.wait(), remove_below(&above));
        assert_eq!(heard, (false, true));
    }

    #[test]
    fn by_cgroup_v2_each_kill_is_told_once_and_those_of_before_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(EVENTS);
        let count = |kills: u64| std::fs::write(&file, format!("max 7\noom 3\noom_kill {kills}\n")).expect("written");
        count(4);
        let mut whole = Whole::new(folder.path().into(), EVENTS, false);
        let test = async {
            for kills in [5, 6] {
                let (told, ()) = tokio::join!(whole.struck(), async { count(kills) });
                told.expect("told");
            }
            let again = tokio::time::timeout(Duration::from_millis(50), whole.struck());
            assert!(again.await.is_err(), "told once");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test);
    }
}
