//! By cgroup v1: where memory runs out the whole instance is killed, as memory.oom.group has it by cgroup v2.
//!
//! The kernel kills one process. A moment before it does it tells an eventfd (cgroup-v1/memory, "OOM Control"); that
//! it has, a count in memory.oom_control tells. While no controller listens it is the one process alone.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};

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
    pub async fn guard(self) -> io::Result<()> {
        let told = raw::heard(listen(&self.group)?)?;
        let mut looks = 1;
        loop {
            for _ in 0..looks {
                if kills(&self.group) > self.before {
                    tree::kill_cgroup(&Group::at(self.group));
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let mut ready = told.readable().await?;
            let _how_often = rustix::io::read(told.get_ref(), &mut [0; 8]);
            ready.clear_ready();
            looks = LOOKS;
        }
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
