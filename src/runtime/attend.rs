//! The wait for one helper: its output, its end or its limit, and what it leaves behind.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::controller::{Exit, Target};
use crate::edge::probe::exec::{Ended, Tail};
use crate::edge::process::tree::{Scope, Tree, Trees, group_is_there};
use crate::model::reason::Reason;

/// A killed group is empty within a millisecond; one that is not, after this, is left where it is.
const GROUP_MAX: Duration = Duration::from_secs(5);
/// After the end so many reads of 4 KiB: a full pipe of 64 KiB four times over.
const DRAIN_MAX: usize = 64;

/// Waits for the end of a helper, or for its limit, and keeps the end of its output.
pub(super) async fn attend(
    log: OwnedFd,
    output: &mut Tail,
    exit: &mut oneshot::Receiver<Exit>,
    limit: Duration,
) -> Ended {
    let pipe = Receiver::from_owned_fd(log).ok();
    let limit_over = tokio::time::sleep(limit);
    tokio::pin!(limit_over);
    let mut open = pipe.is_some();
    let ended = loop {
        tokio::select! {
            biased;
            exit = &mut *exit => match exit {
                Ok(exit) => break Ended::Exited(exit),
                Err(_) => break Ended::NotStarted(Reason::ControllerStopped, "the controller is leaving".into()),
            },
            () = &mut limit_over => break Ended::TimedOut(limit),
            () = readable(pipe.as_ref()), if open => open = read_some(pipe.as_ref(), output),
        }
    };
    if open {
        drain(pipe.as_ref(), output);
    }
    ended
}

async fn readable(pipe: Option<&Receiver>) {
    match pipe {
        // An error shows at the next read.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

/// Whether more may come.
fn read_some(pipe: Option<&Receiver>, output: &mut Tail) -> bool {
    let Some(pipe) = pipe else { return false };
    let mut bytes = [0; 4096];
    match pipe.try_read(&mut bytes) {
        Ok(0) => false,
        Ok(length) => {
            output.push(&bytes[..length]);
            true
        }
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// What is in the pipe now, read past tokio: what was written in this moment it has not heard of yet,
/// and would call the pipe empty for as long as the loop does not come round.
fn drain(pipe: Option<&Receiver>, output: &mut Tail) {
    let Some(pipe) = pipe else { return };
    let mut bytes = [0; 4096];
    for _ in 0..DRAIN_MAX {
        match rustix::io::read(pipe.as_fd(), &mut bytes) {
            Ok(length) if length > 0 => output.push(&bytes[..length]),
            // The end, or nothing more for now: a child that it left behind may write for ever.
            Ok(_) | Err(_) => return,
        }
    }
}

/// Ends what the helper left running, and the helper itself where its time is over. Whether the
/// walker was asked for it.
pub(super) fn end_tree(trees: &Trees, tree: &Tree, timed_out: bool, hook: bool) -> bool {
    match &tree.scope {
        Scope::Cgroup(group) => {
            if group.populated() {
                let _ = trees.signal(tree, libc::SIGKILL, Target::Tree);
            }
            false
        }
        // A hook runs once a life; what it leaves in a session of its own may have nobody else to end it.
        Scope::Session | Scope::Reaper(_) if timed_out || hook => {
            let _ = trees.signal(tree, libc::SIGKILL, Target::Tree);
            true
        }
        // Its group is all that can be found cheaply of one that has ended, and mostly nobody is left
        // in it: a walk over /proc for each probe of each service would be most of what plugd does.
        Scope::Session | Scope::Reaper(_) if group_is_there(tree.pid) => {
            let _ = trees.signal(tree, libc::SIGKILL, Target::Group);
            true
        }
        Scope::Session | Scope::Reaper(_) => false,
    }
}

/// Once it is empty.
pub(super) async fn remove_group(scope: &Scope) {
    let Scope::Cgroup(group) = scope else { return };
    let until = Instant::now() + GROUP_MAX;
    while group.remove().is_err() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
