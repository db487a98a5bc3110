//! The keeper: the tiny parent of everything, its wire protocol, and the client half. Floor 3.
//!
//! The keeper starts the controller and, when that asks, services. It holds the read ends of their
//! pipes and the descriptors left with it, reaps every child and orphan, and keeps an ended life's
//! entry until it is told to forget it. So the controller may die at any moment: a new one lists what
//! is there and goes on. The keeper is one thread of system calls: no tokio, no files but /proc and cgroups,
//! no text that a user wrote except what is handed to execve. It blocks on no child, pipe or
//! controller, and has nothing that could live in the controller.
//!
//! In reading order: `wire` (the protocol), `launch` (from fork to exec), `sys` (other system calls),
//! `table` (lives), `minder` (the controller's own life), `program` (the loop), `notes` (what the keeper
//! tells), `reapers` (lives whose parent is another), `requests` (what the controller asks), `farewell`
//! (shutdown without a controller), `reexec` (the keeper replaces itself), `client` and `inherit` (the
//! controller's half).

mod client;
mod farewell;
mod inherit;
mod launch;
pub mod memory;
mod minder;
mod notes;
mod program;
mod reapers;
mod reexec;
mod requests;
mod sys;
mod table;
mod wire;

use std::ffi::{CString, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

pub use client::{
    Capabilities, Entry, Event, Exit, Fault, How, Id, Identity, Link, Reaper, SpawnRequest, Stage, Stdin, Welcome,
};
pub use inherit::{ignore_sigio, link as inherited_link};
use program::Keeper;

/// How a keeper begins.
#[derive(Debug)]
pub struct Start {
    /// What is executed as controller, usually `/proc/self/exe`.
    pub controller: PathBuf,
    /// Its whole argv, the name first.
    pub args: Vec<OsString>,
    /// Held for ever.
    pub lock: Option<OwnedFd>,
    /// Between TERM and KILL in a shutdown without a controller; the design says 8 s (docker's ten less two).
    pub shutdown_grace: Duration,
    /// A controller that answers no ping for this long is killed; the design says 60 s.
    pub answer_limit: Duration,
}

/// Becomes the keeper. Call it in a process that has one thread.
pub fn run(start: Start) -> ! {
    sys::close_at_exec();
    match begin(start) {
        Ok(keeper) => keeper.run(),
        Err(error) => give_up(&format!("cannot begin: {error}")),
    }
}

/// Goes on as the keeper that executed itself, `plugd keeper-resume FD`.
pub fn resume(state: RawFd) -> ! {
    // It would be called by the name of the link by which it was executed.
    let _unnamed = rustix::thread::set_name(c"plugd");
    match Keeper::from_state(state) {
        Ok(mut keeper) => {
            keeper.tell(program::Note::Reexecuted { errno: 0 });
            keeper.run()
        }
        Err(error) => give_up(&format!("cannot go on: {error}")),
    }
}

/// EX_OSERR of sysexits.h.
fn give_up(why: &str) -> ! {
    sys::say(why);
    std::process::exit(71)
}

fn begin(start: Start) -> Result<Keeper, Box<dyn std::error::Error>> {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let path = CString::new(start.controller.into_os_string().into_vec())?;
    let args = start.args.into_iter().map(|text| CString::new(text.into_vec())).collect::<Result<_, _>>()?;
    let minder = minder::Minder::new(path, args, nanos(start.answer_limit), sys::now());
    let mut keeper = Keeper::new(minder, launch::Desk::new(None)?, sys::is_ignored(libc::SIGHUP))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let given = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: given.maximum, maximum: given.maximum })?;
    keeper.open_files = (given.current.unwrap_or(u64::MAX), given.maximum.unwrap_or(u64::MAX));
    (keeper.lock, keeper.grace) = (start.lock, nanos(start.shutdown_grace));
    Ok(keeper)
}
