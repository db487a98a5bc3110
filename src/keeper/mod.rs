//! The keeper: the tiny parent of everything, its wire protocol, and the client half. Floor 3.
//!
//! The keeper starts the controller and, when that asks, services. It holds the read ends of their
//! pipes and the descriptors left with it, reaps every child and orphan, and keeps an ended life's
//! entry until it is told to forget it. So the controller may die at any moment: a new one lists what
//! is there and goes on. The keeper is one thread on libc: no tokio, no files but /proc and cgroups,
//! no text that a user wrote except what is handed to execve. It blocks on no child, pipe or
//! controller, and has nothing that could live in the controller.
//!
//! In reading order: `wire` (the protocol), `launch` (from fork to exec), `sys` (other system calls),
//! `table` (lives), `minder` (the controller's own life), `program` (the loop), `requests` (what the
//! controller asks), `farewell` (shutdown without a controller), `reexec` (the keeper replaces itself),
//! `client` (the controller's half).

mod client;
mod farewell;
mod inherit;
mod launch;
pub mod memory;
mod minder;
mod program;
mod reexec;
mod requests;
mod sys;
mod table;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

pub use client::{Entry, Event, Exit, How, Id, Identity, Keeper, SpawnRequest, Stage, Stdin, Welcome};
pub use inherit::{ignore_sigio, link as inherited_link};

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
    sys::settle_descriptors();
    match begin(start) {
        Ok(keeper) => keeper.run(),
        Err(error) => give_up(&format!("cannot begin: {error}")),
    }
}

/// Goes on as the keeper that executed itself, `plugd keeper-resume FD`.
pub fn resume(state: RawFd) -> ! {
    match program::Keeper::read_state(state) {
        Ok(keeper) => keeper.run(),
        Err(error) => give_up(&format!("cannot go on: {error}")),
    }
}

/// EX_OSERR of sysexits.h.
fn give_up(why: &str) -> ! {
    sys::say(why);
    std::process::exit(71)
}

fn begin(start: Start) -> Result<program::Keeper, Box<dyn std::error::Error>> {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let path = CString::new(start.controller.into_os_string().into_vec())?;
    let args = start.args.into_iter().map(|text| CString::new(text.into_vec())).collect::<Result<_, _>>()?;
    let now = sys::now();
    let deaf_to_hup = sys::is_ignored(libc::SIGHUP);
    let (signals, children) = sys::take_signals(&program::Keeper::signals_heard(deaf_to_hup))?;
    sys::become_subreaper()?;
    let open_files = sys::open_files_limit()?;
    let raised = libc::rlimit { rlim_cur: open_files.rlim_max, rlim_max: open_files.rlim_max };
    sys::set_open_files_limit(raised)?;
    let keeper = program::Keeper {
        poll: sys::Poll::new()?,
        signals,
        children,
        stack: launch::Stack::new()?,
        null: sys::open_null()?,
        lock: start.lock,
        open_files,
        deaf_to_hup,
        table: table::Table::default(),
        deposits: BTreeMap::new(),
        minder: minder::Minder::new(path, args, nanos(start.answer_limit), now),
        outbox: VecDeque::new(),
        full: false,
        interest: libc::EPOLLIN,
        retry_at: None,
        strangers_at: None,
        started_at: sys::wall_us(),
        grace: nanos(start.shutdown_grace),
        unheard: Vec::new(),
        stop_heard: None,
        farewell: None,
    };
    keeper.watch_all()?;
    Ok(keeper)
}
