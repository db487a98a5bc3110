//! By cgroup v1: where memory runs out the whole instance is killed, as memory.oom.group has it by cgroup v2.
//!
//! The kernel kills one process. A moment before it does it tells an eventfd (cgroup-v1/memory, "OOM Control"); that
//! it has, a count in memory.oom_control tells. While no controller listens it is the one process alone.
//!
//! Where the whole machine is out of memory nobody is told, and the count rises all the same. So of what is counted by
//! the time that a group above runs out of memory, which is told below it as well, nobody knows when it was: it counts
//! for nothing, and what is killed from then on does. The group above is told first.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;

use super::counted;
use crate::edge::process::cgroup::Group;
use crate::edge::process::{raw, tree};

pub(super) const CONTROL: &str = "memory.oom_control";
/// From the kernel's word to the kill are milliseconds: it looks for the largest process.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS: usize = 100;

/// The memory of a life that is killed as a whole.
#[derive(Debug)]
pub struct Whole {
    group: PathBuf,
    /// Kills that count for nothing.
    before: u64,
}

impl Whole {
    pub(super) fn new(group: PathBuf, before: u64) -> Whole {
        Whole { group, before }
    }

    /// Until all of it is killed.
    pub async fn guard(mut self) -> io::Result<()> {
        let ears = Ears::of(&self.group)?;
        // What has happened meanwhile.
        let mut strikes = self.has_killed();
        while !strikes {
            strikes = self.hear(&ears).await?;
        }
        tree::kill_cgroup(&Group::at(self.group));
        Ok(())
    }

    fn has_killed(&self) -> bool {
        kills(&self.group) > self.before
    }

    /// The next time that memory runs out: whether a process of this group was killed for it.
    async fn hear(&mut self, ears: &Ears) -> io::Result<bool> {
        let mut ready = ears.own.readable().await?;
        let _how_often = rustix::io::read(ears.own.get_ref(), &mut [0; 8]);
        ready.clear_ready();
        if rustix::io::read(&ears.above, &mut [0; 8]).is_ok() {
            self.before = kills(&self.group);
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

/// What the kernel tells of a group, and of the one above it.
struct Ears {
    own: AsyncFd<OwnedFd>,
    above: OwnedFd,
}

impl Ears {
    fn of(group: &Path) -> io::Result<Ears> {
        let above = group.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Ears { above: listen(above)?, own: raw::heard(listen(group)?)? })
    }
}

pub(super) fn kills(group: &Path) -> u64 {
    counted(&group.join(CONTROL), "oom_kill")
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
        assert_eq!(kills(us), 1, "and nobody has listened");
        let hears = async {
            let (mut whole, ears) = (Whole::new(us.clone(), 0), Ears::of(us).expect("told"));
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
}
