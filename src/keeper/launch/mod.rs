//! From fork to exec: a child made by clone, which takes the steps of `child` until it is the program.
//!
//! The usual way shares the keeper's memory and stops it until the exec (CLONE_VM | CLONE_VFORK): no
//! page table is copied, and the errno of every step stands in [`Launch::fault`] when `start` returns.
//! Where an exec may hang for ever (a dead network file system) a plain copy is made instead, and it
//! tells its fault through a pipe that the exec closes.

#![expect(unsafe_code, reason = "clone has no safe interface")]

mod child;
mod line;
pub mod reaper;

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::fcntl_dupfd_cloexec;

pub use line::start_time_in;

use super::sys;
use super::wire::{Fault, Spawn, flag};

/// What a child needs, all of it prepared. Descriptors must stay open until `start` returns.
#[derive(Debug)]
pub struct Launch<'a> {
    pub what: &'a Spawn<'a>,
    pub role: Role,
    /// Ends with a null pointer, as does `env`; both point at what lives as long as `'a`.
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// `LISTEN_PID=` and room for digits, where `env` points at it.
    listen_pid: Option<Box<[u8; 32]>>,
    pub stdio: [RawFd; 3],
    /// (descriptor, number in the child), sorted by number; each number is 3 or more.
    pub extra: Vec<(RawFd, RawFd)>,
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Files to which it writes to be in further cgroups.
    pub entrances: Vec<RawFd>,
    pub life_line: Option<RawFd>,
    /// Where it begins below a reaper, to which this is told; else -1.
    tell: RawFd,
    /// The reaper is there, and what is made now is the service.
    reaped: bool,
    /// The limit of open files that the keeper was given: it has raised its own.
    pub open_files: Option<(u64, u64)>,
    /// Where a plain copy writes its fault, else -1.
    report: RawFd,
    /// It goes into its cgroup by a write, not by CLONE_INTO_CGROUP.
    moves_itself: bool,
    /// It begins with the keeper's own table of descriptors, where this number is kept for it.
    spare: Option<RawFd>,
    /// Written by a child that shares this memory as soon as it runs, and what comes of it.
    began: bool,
    /// CLOCK_BOOTTIME before the child was made, in nanoseconds.
    before: u64,
    pub fault: Option<Fault>,
    pub start_time: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A session of its own.
    Service,
    /// A group of its own, deaf to the signals that the keeper hears, dead when the keeper dies.
    Controller { keeper: i32 },
}

/// A child that was made; with `verdict` its exec is not over: end of file there means success.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub verdict: Option<OwnedFd>,
    /// The child is a reaper, which tells of the service.
    pub told: Option<OwnedFd>,
}

/// Signals that the keeper hears and forwards. The controller ignores them when they come by the terminal.
pub const HEARD: [i32; 6] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The standard descriptors. The keeper's own 0 is /dev/null, as its services' is; 1 and 2 are put back
/// behind each child that began in the keeper's table.
#[derive(Debug)]
pub struct Desk {
    /// As they were given to the keeper, for its controller.
    pub stdio: [OwnedFd; 3],
    null: OwnedFd,
    /// A low number that a child in the keeper's table may overwrite.
    spare: OwnedFd,
}

impl Desk {
    /// `stdin`: what was number 0 before a first desk put /dev/null there.
    pub fn new(stdin: Option<OwnedFd>) -> io::Result<Desk> {
        let stdin = stdin.map_or_else(|| fcntl_dupfd_cloexec(io::stdin(), 3), Ok)?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        let (out, err) = (fcntl_dupfd_cloexec(io::stdout(), 3)?, fcntl_dupfd_cloexec(io::stderr(), 3)?);
        sys::put_at(&null, 0);
        Ok(Desk { stdio: [stdin, out, err], spare: null.try_clone()?, null })
    }

    /// Behind a child that may have put its own there.
    fn put_back(&self, stdin: bool) {
        let [_, out, err] = &self.stdio;
        sys::put_at(out, 1);
        sys::put_at(err, 2);
        if stdin {
            sys::put_at(&self.null, 0);
        }
    }
}

impl<'a> Launch<'a> {
    pub fn new(what: &'a Spawn<'a>, role: Role, stdio: [RawFd; 3]) -> Launch<'a> {
        let mut listen_pid = (what.flags & flag::LISTEN_PID != 0).then(|| Box::new([0u8; 32]));
        for (to, from) in listen_pid.iter_mut().flat_map(|slot| slot.iter_mut()).zip(LISTEN_PID) {
            *to = *from;
        }
        let own = listen_pid.as_mut().map(|slot| slot.as_mut_ptr().cast_const().cast());
        let env = what.env.iter().filter(|text| own.is_none() || !text.to_bytes().starts_with(LISTEN_PID));
        Launch {
            what,
            role,
            argv: what.argv.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect(),
            env: env.map(|text| text.as_ptr()).chain(own).chain([ptr::null()]).collect(),
            listen_pid,
            stdio,
            extra: Vec::new(),
            cgroup: None,
            entrances: Vec::new(),
            life_line: None,
            tell: -1,
            reaped: false,
            open_files: None,
            report: -1,
            moves_itself: false,
            spare: None,
            began: false,
            before: 0,
            fault: None,
            start_time: 0,
        }
    }

    /// Makes the child. An error is clone's own; a fault of the child is in `fault`, or will come from the
    /// verdict.
    ///
    /// A cgroup that was ever emptied by `cgroup.kill` kills a child that is cloned into it before its first
    /// instruction (Linux 6.18: cgroup_post_fork compares the target's kill_seq with that of the parent's
    /// cgroup). Such a child never began, and a second one goes there by itself; so do plain copies, of which
    /// nobody could tell, and all of them where clone3 is refused (old sandboxes and kernels).
    pub fn start(&mut self, desk: &Desk, plain: bool) -> io::Result<Started> {
        let reaper = (self.what.flags & flag::REAPER != 0).then(sys::pipe).transpose()?;
        if plain || reaper.is_some() || !CAN_SHARE {
            let (verdict, report) = sys::pipe()?;
            self.report = report.as_raw_fd();
            self.tell = reaper.as_ref().map_or(-1, |(_, tell)| tell.as_raw_fd());
            self.moves_itself = self.cgroup.is_some();
            let (pid, pidfd) = self.make(0)?;
            return Ok(Started { pid, pidfd, verdict: Some(verdict), told: reaper.map(|(told, _)| told) });
        }
        let refused = [libc::ENOSYS, libc::EPERM, libc::E2BIG, libc::EINVAL];
        match self.start_sharing(desk) {
            Ok(killed) if !self.began && self.cgroup.is_some() => drop(sys::reap(killed.pid, true)?),
            Err(error) if self.cgroup.is_some() && refused.contains(&sys::errno(&error)) => {}
            other => return other,
        }
        self.moves_itself = true;
        self.start_sharing(desk)
    }

    /// A copy of the keeper's table of descriptors, and closing it again, costs more than the rest of a start
    /// where there are thousands. So a child that takes none but the standard three begins in the keeper's own
    /// table: it sets those three and leaves with a copy of what is low. It opens nothing before that: if it
    /// is killed there, only what is put back here has changed.
    fn start_sharing(&mut self, desk: &Desk) -> io::Result<Started> {
        self.spare = (self.extra.is_empty() && !self.moves_itself).then(|| desk.spare.as_raw_fd());
        let files = self.spare.map_or(0, |_| libc::CLONE_FILES);
        let made = self.make(libc::CLONE_VM | libc::CLONE_VFORK | files);
        if self.spare.is_some() {
            desk.put_back(self.stdio[0] != 0);
        }
        made.map(|(pid, pidfd)| Started { pid, pidfd, verdict: None, told: None })
    }

    fn make(&mut self, flags: i32) -> io::Result<(i32, OwnedFd)> {
        let mut pidfd: RawFd = -1;
        let at = ptr::from_mut(&mut pidfd) as usize;
        let flags = (flags | libc::CLONE_PIDFD) as u64;
        let cgroup = self.cgroup.filter(|_| !self.moves_itself).map(|cgroup| cgroup.as_raw_fd() as u64);
        // `struct clone_args`: flags, pidfd, two of threads, the signal at its end, stack, three more, cgroup.
        let into = |cgroup| [flags | CLONE_INTO_CGROUP, at as u64, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, 0, 0, cgroup];
        let args = cgroup.map(into);
        self.before = sys::boottime();
        let launch = ptr::from_mut(self);
        let (call, first, second, third) = match &args {
            Some(args) => (libc::SYS_clone3, args.as_ptr() as usize, size_of_val(args), 0),
            None => (libc::SYS_clone, flags as usize | libc::SIGCHLD as usize, 0, at),
        };
        // SAFETY: arguments as clone and clone3 ask, without a stack of its own. What the child reads lives
        // until the call returns, which with CLONE_VFORK is after it has executed or ended; a plain copy has
        // copies. The keeper is stopped or apart, so it may write through `launch`.
        let result = unsafe { branch(call, first, second, third, launch.cast()) };
        match i32::try_from(result) {
            // SAFETY: the kernel wrote a new descriptor for this child.
            Ok(pid) if pid > 0 => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
            Ok(errno) => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}

/// Whether a child may run on this stack: `branch` is written for the processor.
const CAN_SHARE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The call that makes a child, which runs `child(launch)` from the same instruction on; gives the kernel's
/// answer to the parent. It is made here and not through libc because the child must not return: where it
/// shares the memory it may only write below the parent's frames, as a called function does.
///
/// # Safety
/// As clone(2) and clone3(2) ask, CLONE_VM only with CLONE_VFORK, and `launch` points at a [`Launch`].
#[cfg(target_arch = "x86_64")]
unsafe fn branch(call: i64, first: usize, second: usize, third: usize, launch: *mut libc::c_void) -> i64 {
    let result;
    // SAFETY: in the parent the call writes rax, rcx, r11 and what the arguments point at. The stack is
    // aligned for a call and nothing of the parent's lies below it (no `nostack`).
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r12", "call r13", "ud2", "2:",
            inlateout("rax") call => result,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") 0, in("r8") 0,
            in("r12") launch, in("r13") child::child as unsafe extern "C" fn(*mut libc::c_void) -> !,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn branch(call: i64, first: usize, second: usize, third: usize, launch: *mut libc::c_void) -> i64 {
    let result;
    // SAFETY: in the parent the call writes x0 and what the arguments point at. The stack is aligned for a
    // call and nothing of the parent's lies below it (no `nostack`).
    unsafe {
        std::arch::asm!(
            "svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x20", "blr x21", "brk 1", "2:",
            inlateout("x0") first => result,
            in("x1") second, in("x2") third, in("x3") 0, in("x4") 0, in("x8") call,
            in("x20") launch, in("x21") child::child as unsafe extern "C" fn(*mut libc::c_void) -> !,
        );
    }
    result
}

/// Elsewhere every child is a plain copy, which may go on in this frame.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn branch(call: libc::c_long, a: usize, b: usize, c: usize, launch: *mut libc::c_void) -> i64 {
    // SAFETY: the caller's promise; the child is a copy.
    unsafe {
        match libc::syscall(call, a, b, c, 0, 0) {
            0 => child::child(launch),
            -1 => -i64::from(sys::errno(&io::Error::last_os_error())),
            pid => pid.into(),
        }
    }
}
