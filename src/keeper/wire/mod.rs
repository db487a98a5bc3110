//! What keeper and controller say to each other, one packet (SOCK_SEQPACKET) a message.
//!
//! A packet is an operation (one byte) and its fields. The version of the protocol travels once, in
//! `Welcome` and `Hello`. A reader skips operations that it does not know and ignores what stands behind
//! the fields that it knows, so that either side may be the newer one: a field is only ever added at the
//! end. Pure: bytes in, values out.

pub mod field;
#[cfg(test)]
mod tests;

use std::ffi::CStr;

pub use field::{Added, Field, Malformed, Read};
use field::{choice, record};

/// Raised when an old reader could misunderstand, not when something is added.
pub const PROTOCOL: u32 = 1;
/// Longest packet. Half of what a default socket buffer (212,992 bytes, doubled) can hold.
pub const PACKET_MAX: usize = 256 * 1024;
/// A spawn request longer than this travels in a sealed memfd: a usual environment is 4 KiB.
pub const INLINE_MAX: usize = 64 * 1024;
/// Longest spawn request in a memfd: the kernel takes 6 MiB of arguments and environment.
pub const LARGE_MAX: usize = 8 * 1024 * 1024;
/// Longest key: a name's 63 bytes, `/`, ten digits, and as much again for helpers.
pub const KEY_MAX: usize = 128;
/// Longest blob of an entry, from `interfaces.md`; 1,000 services make 1 MiB of them at the worst.
pub const BLOB_MAX: usize = 1024;
/// Descriptors beside a spawn request: 7 of its own and its extra ones. Half of the keeper's reserve.
pub const FDS_MAX: usize = 32;

record! {
    /// (instance key, life): what the controller calls a process.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Id<'a> {
        pub key: &'a [u8],
        pub life: u64,
    }
}

choice! {
    /// Controller to keeper.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Request<'a> {
        /// The first word of a controller.
        b'H' Hello { protocol: u32 },
        /// It serves. Its program could go on as this keeper with a state of this version or an older one.
        b'R' Ready { state: u32 },
        b'S' Spawn { spawn: Box<Spawn<'a>> },
        /// The request lies in the sealed memfd that is the packet's first descriptor.
        b'M' SpawnLarge { id: Id<'a> },
        b'B' SetBlob { id: Id<'a>, blob: &'a [u8] },
        b'F' Forget { id: Id<'a> },
        /// The child is killed if it has not executed its program yet.
        b'A' Abandon { id: Id<'a> },
        b'L' List,
        b'D' Deposit { key: &'a [u8] },
        b'W' Withdraw { key: &'a [u8] },
        b'Q' Leave { code: i32 },
        /// The next controller is started from this path; once it is ready the keeper executes it as well.
        b'U' Upgrade { path: &'a CStr },
        /// The keeper executes this path in its own place.
        b'X' Reexec { path: &'a CStr },
        b'P' Pong,
    }
}

record! {
    /// What to run and how. Its descriptors travel in this order: cgroup, life line, stdin, entrances,
    /// extra ones.
    #[derive(Debug, Clone, Default, PartialEq)]
    pub struct Spawn<'a> {
        pub id: Id<'a>,
        pub flags: u32,
        pub program: &'a CStr,
        pub argv: Vec<&'a CStr>,
        pub env: Vec<&'a CStr>,
        pub working_dir: Option<&'a CStr>,
        pub identity: Option<Identity>,
        pub umask: Option<u32>,
        pub nice: Option<i32>,
        pub oom_score_adj: Option<i32>,
        /// (resource, soft, hard)
        pub limits: Vec<(u32, u64, u64)>,
        pub life_line: &'a [u8],
        /// The number that each extra descriptor gets.
        pub targets: Vec<i32>,
        pub blob: &'a [u8],
        pub stop_signal: i32,
        pub stop_grace_ms: u64,
        /// So many files `cgroup.procs` of cgroup v1, to which the child writes before anything else.
        pub entrances: Added<u32>,
        pub capabilities: Added<Option<Capabilities>>,
    }
}

record! {
    /// Sets of capabilities, a bit for each.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Capabilities {
        /// What is not in it leaves the bounding set.
        pub bounding: u64,
        /// Permitted and effective.
        pub kept: u64,
        /// Inheritable and ambient, which an exec hands on to whoever is not root.
        pub ambient: u64,
    }
}

/// Bits of [`Spawn::flags`].
pub mod flag {
    pub const CGROUP: u32 = 1;
    pub const LIFE_LINE: u32 = 2;
    pub const STDIN: u32 = 4;
    pub const SEPARATE_STDERR: u32 = 8;
    pub const LISTEN_PID: u32 = 16;
    pub const PLAIN_FORK: u32 = 32;
    pub const NO_NEW_PRIVS: u32 = 64;
    /// A helper that runs in a cgroup which already has processes.
    pub const JOINS_CGROUP: u32 = 128;
    /// It begins below a reaper of its own, to whom whatever it leaves falls.
    pub const REAPER: u32 = 256;
}

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Identity {
        pub uid: u32,
        pub gid: u32,
        pub groups: Vec<u32>,
    }
}

choice! {
    /// Keeper to controller.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Notice<'a> {
        b'w' Welcome { welcome: Welcome },
        /// Descriptors: log, log of stderr where it is separate.
        b'l' Entry { entry: Entry<'a> },
        b'o' Listed,
        /// Descriptors: log, log of stderr where it is separate.
        b's' Spawned { id: Id<'a>, pid: i32, start_time: u64, reaper: Added<Option<Reaper>> },
        b'f' SpawnFailed { id: Id<'a>, fault: Fault },
        b'e' Exited { id: Id<'a>, exit: Exit },
        b'd' Deposited { key: &'a [u8] },
        b'k' Signal { signal: i32 },
        /// 0, or why the keeper could not be executed anew and goes on as it was.
        b'x' Reexecuted { errno: i32 },
        b'p' Ping,
    }
}

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Welcome {
        pub protocol: u32,
        pub keeper_pid: i32,
        /// Since the keeper's start, this one included.
        pub controllers_started: u32,
        /// How the controller before this one ended.
        pub last_end: Option<How>,
        /// TERM, INT or QUIT, where one came before this controller was started.
        pub stop_heard: Option<i32>,
        /// The last upgrade did not come up: this is the program from before it.
        pub taken_back: bool,
    }
}

record! {
    #[derive(Debug, Clone, PartialEq)]
    pub struct Entry<'a> {
        pub id: Id<'a>,
        pub pid: i32,
        /// Field 22 of /proc/PID/stat, in clock ticks since boot.
        pub start_time: u64,
        /// CLOCK_MONOTONIC, nanoseconds.
        pub spawned_at: u64,
        pub exit: Option<Exit>,
        pub blob: &'a [u8],
        pub reaper: Added<Option<Reaper>>,
    }
}

record! {
    /// The process between the keeper and a life, while it is there: its tree is what descends from it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Reaper {
        pub pid: i32,
        pub start_time: u64,
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Code(i32),
    Signal(i32),
}

field::written_as! {
    How as (bool, i32): it => match it { How::Code(code) => (false, *code), How::Signal(signal) => (true, *signal) },
        |(signal, number)| Ok(if signal { How::Signal(number) } else { How::Code(number) });
}

record! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Exit {
        pub how: How,
        /// CLOCK_MONOTONIC, nanoseconds.
        pub at: u64,
    }
}

record! {
    /// Why a spawn failed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Fault {
        pub stage: Stage,
        pub errno: i32,
    }
}

choice! {
    /// The step of a spawn that failed. A child writes its number, so they are counted from 0.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Stage {
        /// The keeper refused it: EEXIST, EBUSY, EMFILE, EINVAL.
        0 Request,
        1 Pipe, 2 Clone, 3 Cgroup, 4 Session, 5 OomScore, 6 Limits, 7 Nice, 8 Groups, 9 Gid, 10 Uid,
        11 NoNewPrivs, 12 Descriptors, 13 WorkingDir, 14 Exec, 15 Capabilities,
    }
}
