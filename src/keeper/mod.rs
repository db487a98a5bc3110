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
mod inherit;
mod launch;
mod sys;
mod wire;

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

pub use inherit::{ignore_sigio, link as inherited_link};
pub use client::{Entry, Event, Exit, How, Id, Identity, Keeper, SpawnRequest, Stage, Stdin, Welcome};

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
    drop(start);
    std::process::exit(70)
}

/// Goes on as the keeper that executed itself, `plugd keeper-resume FD`.
pub fn resume(state: RawFd) -> ! {
    std::process::exit(state)
}
