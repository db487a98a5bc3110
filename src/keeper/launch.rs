//! From fork to exec: a child made by clone3 and the steps that it takes until it is the program.
//!
//! The usual way shares the keeper's memory and stops it until the exec (CLONE_VM | CLONE_VFORK): no
//! page table is copied, and the errno of every step stands in [`Launch::fault`] when `start` returns.
//! Where an exec may hang for ever (a dead network file system) or clone3 is refused (old sandboxes), a
//! plain copy is made instead, and it tells its fault through a pipe that the exec closes.
//!
//! Everything is prepared by the parent. The child allocates nothing, takes no lock and panics nowhere:
//! it calls the kernel and leaves. All signals are blocked in the keeper, so no handler can run on the
//! shared memory; dispositions are the default ones (`sys::take_signals`), only the mask is to be reset.

#![expect(unsafe_code, reason = "between fork and exec there are only system calls")]

use std::convert::Infallible;
use std::ffi::{CStr, c_char};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::sys;
use super::wire::{Identity, Stage};

/// What a child needs, all of it prepared. Descriptors must stay open until `start` returns.
#[derive(Debug)]
pub struct Launch<'a> {
    pub role: Role,
    pub program: &'a CStr,
    /// Ends with a null pointer, as does `env`; both point at what lives as long as `'a`.
    pub argv: Vec<*const c_char>,
    pub env: Vec<*const c_char>,
    /// `LISTEN_PID=` and room for digits, where `env` points at it.
    pub listen_pid: Option<Box<[u8; 32]>>,
    pub working_dir: Option<&'a CStr>,
    pub stdio: [RawFd; 3],
    /// (descriptor, number in the child), sorted by number; each number is 3 or more.
    pub extra: Vec<(RawFd, RawFd)>,
    pub cgroup: Option<BorrowedFd<'a>>,
    pub life_line: Option<(BorrowedFd<'a>, &'a [u8])>,
    /// The limit of open files that the keeper was given: it has raised its own.
    pub open_files: Option<libc::rlimit>,
    pub limits: &'a [(u32, u64, u64)],
    pub oom_score_adj: Option<i32>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub identity: Option<&'a Identity>,
    pub no_new_privs: bool,
    /// Where a plain copy writes its fault, else -1.
    pub report: RawFd,
    /// It goes into its cgroup by a write, not by CLONE_INTO_CGROUP.
    pub moves_itself: bool,
    /// It begins with the keeper's own table of descriptors and leaves it, see `start_sharing`.
    pub shares_descriptors: bool,
    /// Written by a child that shares this memory as soon as it runs.
    pub began: bool,
    /// Written by a child that shares this memory.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub stage: Stage,
    pub errno: i32,
}

/// A child that was made; with `verdict` its exec is not over: end of file there means success.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub verdict: Option<OwnedFd>,
}

/// Signals that the keeper hears and forwards. The controller ignores them when they come by the terminal.
pub const HEARD: [i32; 6] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// What children that share the keeper's memory need of it, one at a time: a stack (their deepest call
/// needs 4 KiB, unoptimised 16), and the keeper's standard descriptors, to be put back behind each.
#[derive(Debug)]
pub struct Stack {
    base: *mut libc::c_void,
    stdio: [OwnedFd; 3],
}

impl Stack {
    const SIZE: usize = 64 * 1024;

    pub fn new() -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping, never unmapped: the keeper needs it as long as it lives. Its lowest page
        // is taken away again, so that an overflow is a fault of the child and not of the keeper's data.
        let base = unsafe {
            let base = libc::mmap(ptr::null_mut(), Self::SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::mprotect(base, 4096, libc::PROT_NONE);
            base
        };
        let saved = |number| sys::copy_above_stdio(number);
        Ok(Stack { base, stdio: [saved(0)?, saved(1)?, saved(2)?] })
    }
}

/// `struct clone_args` of clone3(2), as of Linux 5.7.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes the child. An error is clone's own; a fault of the child is in `launch.fault`, or will come
/// from the verdict.
///
/// A cgroup that was ever emptied by `cgroup.kill` kills a child that is cloned into it before its first
/// instruction (Linux 6.18: cgroup_post_fork compares the target's kill_seq with that of the parent's
/// cgroup). Such a child never began, and a second one goes there by itself; so do plain copies, of which
/// nobody could tell.
pub fn start(launch: &mut Launch<'_>, stack: &Stack, plain: bool) -> io::Result<Started> {
    if !plain {
        match start_sharing(launch, stack) {
            Ok(killed) if !launch.began && launch.cgroup.is_some() => {
                sys::reap(killed.pid, true)?;
                launch.moves_itself = true;
                return start_sharing(launch, stack);
            }
            Err(error) if refused(&error) => {}
            other => return other,
        }
    }
    let (verdict, report) = sys::pipe()?;
    launch.report = report.as_raw_fd();
    launch.moves_itself = launch.cgroup.is_some();
    let (pid, pidfd) = match start_copying(launch) {
        Err(error) if refused(&error) => start_copying_simply(launch)?,
        other => other?,
    };
    Ok(Started { pid, pidfd, verdict: Some(verdict) })
}

/// clone3 is unknown, forbidden, or older than one of the flags.
fn refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::E2BIG | libc::EINVAL))
}

fn clone_args(launch: &Launch<'_>, pidfd: &mut RawFd) -> CloneArgs {
    let cgroup = launch.cgroup.filter(|_| !launch.moves_itself);
    CloneArgs {
        flags: libc::CLONE_PIDFD as u64 | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        pidfd: ptr::from_mut(pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64),
        ..CloneArgs::default()
    }
}

/// A copy of the keeper's table of descriptors, and closing it again, costs more than the rest of a start
/// where there are thousands. So a child that takes none but the standard three begins in the keeper's own
/// table: it sets those three, and leaves with a copy of them alone (`leave_shared_table`). The keeper,
/// stopped meanwhile, puts its own back.
fn start_sharing(launch: &mut Launch<'_>, stack: &Stack) -> io::Result<Started> {
    let mut pidfd: RawFd = -1;
    let mut args = clone_args(launch, &mut pidfd);
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    launch.shares_descriptors = launch.extra.is_empty();
    if launch.shares_descriptors {
        args.flags |= libc::CLONE_FILES as u64;
    }
    args.stack = stack.base as u64;
    args.stack_size = Stack::SIZE as u64;
    // SAFETY: args and launch live until the call returns, which is after the child has executed or ended
    // (CLONE_VFORK), so nothing that it reads is freed or written meanwhile. Its stack is its own.
    let result = unsafe { clone_onto_stack(&mut args, ptr::from_mut(launch).cast()) };
    if launch.shares_descriptors {
        launch.shares_descriptors = false;
        for (saved, number) in stack.stdio.iter().zip(0..) {
            sys::put_at(saved.as_fd(), number);
        }
    }
    match i32::try_from(result) {
        // SAFETY: the kernel wrote a new descriptor for this child.
        Ok(pid) if pid > 0 => Ok(Started { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, verdict: None }),
        Ok(errno) => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
        Err(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

/// clone3 where the child runs `child(launch)` on the stack of `args`: it cannot return into this frame,
/// which is the parent's, so the call is made here and not through libc. Gives the kernel's answer.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_onto_stack(args: *mut CloneArgs, launch: *mut libc::c_void) -> isize {
    let result: isize;
    // SAFETY: in the parent the syscall writes rax, rcx, r11 and what args point at. The child begins at
    // the same instruction with rax = 0 and rsp = the stack's top (16-aligned, as a call asks), takes
    // its argument and function from registers that the kernel keeps, and never comes back.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") launch,
            in("r13") child as unsafe extern "C" fn(*mut libc::c_void) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn clone_onto_stack(args: *mut CloneArgs, launch: *mut libc::c_void) -> isize {
    let result: isize;
    // SAFETY: in the parent the syscall writes x0 and what args point at. The child begins at the same
    // instruction with x0 = 0 and sp = the stack's top (16-aligned), takes its argument and function from
    // registers that the kernel keeps, and never comes back.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            inlateout("x0") args => result,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x20") launch,
            in("x21") child as unsafe extern "C" fn(*mut libc::c_void) -> !,
        );
    }
    result
}

/// Elsewhere every child is a plain copy.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone_onto_stack(_args: *mut CloneArgs, _launch: *mut libc::c_void) -> isize {
    -(libc::ENOSYS as isize)
}

fn start_copying(launch: &mut Launch<'_>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let args = clone_args(launch, &mut pidfd);
    // SAFETY: as fork: the child has a copy of all memory and goes on in this frame of it.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<CloneArgs>()) };
    copied(launch, pid, &pidfd)
}

/// clone(2): the first three arguments are the same on every processor, the others are not used.
fn start_copying_simply(launch: &mut Launch<'_>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: as fork: the child has a copy of all memory and goes on in this frame of it.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    copied(launch, pid, &pidfd)
}

fn copied(launch: &mut Launch<'_>, pid: libc::c_long, pidfd: &RawFd) -> io::Result<(i32, OwnedFd)> {
    match i32::try_from(pid) {
        // SAFETY: in the child; the launch is a copy of its own.
        Ok(0) => unsafe { child(ptr::from_mut(launch).cast()) },
        // SAFETY: the kernel wrote a new descriptor for this child; read only now, after it did.
        Ok(pid) if pid > 0 => Ok((pid, unsafe { OwnedFd::from_raw_fd(ptr::from_ref(pidfd).read_volatile()) })),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// The child's life until it is the program, or ends with 127.
unsafe extern "C" fn child(launch: *mut libc::c_void) -> ! {
    // SAFETY: the parent passed its Launch and is stopped, or it is a copy.
    let launch = unsafe { &mut *launch.cast::<Launch<'_>>() };
    launch.began = true;
    // SAFETY: this is the child, with its own stack and descriptors.
    let Err(fault) = unsafe { become_program(launch) };
    launch.fault = Some(fault);
    // SAFETY: plain calls; the report is a pipe of ours or -1.
    unsafe {
        let [a, b, c, d] = fault.errno.to_ne_bytes();
        let report = [fault.stage as u8, a, b, c, d];
        libc::write(launch.report, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

fn check(stage: Stage, result: impl Into<i64>) -> Result<i32, Fault> {
    let result: i64 = result.into();
    if result >= 0 {
        return Ok(result as i32);
    }
    // SAFETY: errno's place is always there. (In a child that shares memory it is the keeper's own.)
    Err(Fault { stage, errno: unsafe { *libc::__errno_location() } })
}

/// The steps in their order. What opens a file stands before the limit of open files, which may be lower
/// than the keeper's descriptors are many; what needs privilege stands before it is given up.
///
/// # Safety
/// Only in a fresh child: it changes the process for good. Credentials are set by bare system calls:
/// libc's functions of that name would signal the threads that it believes to have.
unsafe fn become_program(launch: &mut Launch<'_>) -> Result<Infallible, Fault> {
    // SAFETY: every pointer handed over is from a C string, an array or a local that is alive here; arrays
    // for execve end with null (the contract of Launch).
    unsafe {
        if launch.moves_itself
            && let Some(cgroup) = launch.cgroup
        {
            let procs = libc::openat(cgroup.as_raw_fd(), c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(Stage::Cgroup, procs)?;
            let moved = check(Stage::Cgroup, libc::write(procs, c"0".as_ptr().cast(), 1) as i64);
            libc::close(procs);
            moved?;
        }
        match launch.role {
            Role::Service => check(Stage::Session, libc::setsid())?,
            Role::Controller { keeper } => {
                check(Stage::Session, libc::setpgid(0, 0))?;
                check(Stage::Session, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                if libc::getppid() != keeper {
                    libc::_exit(127); // it died before the line above
                }
                for signal in HEARD {
                    libc::signal(signal, libc::SIG_IGN);
                }
                0
            }
        };
        tell_life(launch);
        if launch.shares_descriptors {
            set_stdio(launch.stdio)?;
            leave_shared_table()?;
        }
        if let Some(adjustment) = launch.oom_score_adj {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(Stage::OomScore, file)?;
            let mut line = Line::default();
            line.push(if adjustment < 0 { b"-" } else { b"" });
            line.push_number(adjustment.unsigned_abs().into());
            check(Stage::OomScore, libc::write(file, line.bytes.as_ptr().cast(), line.length) as i64)?;
        }
        // Out of the way of the numbers that are wanted.
        if let Some((_, highest)) = launch.extra.last().copied() {
            let above = highest.saturating_add(1);
            for (fd, _) in &mut launch.extra {
                *fd = check(Stage::Descriptors, libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, above))?;
            }
            if launch.report >= 0 {
                launch.report = check(Stage::Descriptors, libc::fcntl(launch.report, libc::F_DUPFD_CLOEXEC, above))?;
            }
        }
        if let Some(limit) = &launch.open_files {
            check(Stage::Limits, libc::setrlimit(libc::RLIMIT_NOFILE, limit))?;
        }
        for (resource, soft, hard) in launch.limits {
            let limit = libc::rlimit { rlim_cur: *soft as _, rlim_max: *hard as _ };
            check(Stage::Limits, libc::setrlimit(*resource as _, &limit))?;
        }
        if let Some(umask) = launch.umask {
            libc::umask(umask as libc::mode_t);
        }
        if let Some(nice) = launch.nice {
            check(Stage::Nice, libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
        }
        if let Some(who) = launch.identity {
            let (uid, gid) = (who.uid, who.gid);
            let groups = (who.groups.len(), who.groups.as_ptr());
            check(Stage::Groups, libc::syscall(libc::SYS_setgroups, groups.0, groups.1))?;
            check(Stage::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(Stage::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
        if launch.no_new_privs {
            check(Stage::NoNewPrivs, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        }
        if !launch.shares_descriptors {
            set_stdio(launch.stdio)?;
            let mut free = 3;
            for (fd, number) in &launch.extra {
                check(Stage::Descriptors, libc::dup2(*fd, *number))?;
                close_at_exec(free, number.wrapping_sub(1));
                free = number.wrapping_add(1);
            }
            close_at_exec(free, i32::MAX);
        }
        if let Some(directory) = launch.working_dir {
            check(Stage::WorkingDir, libc::chdir(directory.as_ptr()))?;
        }
        let mut none = zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        check(Stage::Exec, libc::execve(launch.program.as_ptr(), launch.argv.as_ptr(), launch.env.as_ptr()))?;
        Err(Fault { stage: Stage::Exec, errno: libc::EIO })
    }
}

unsafe fn set_stdio(stdio: [RawFd; 3]) -> Result<(), Fault> {
    for (number, fd) in [0, 1, 2].into_iter().zip(stdio) {
        // SAFETY: plain calls.
        check(Stage::Descriptors, if fd == number { 0 } else { unsafe { libc::dup2(fd, number) } })?;
    }
    Ok(())
}

/// From here on the child's descriptors are its own, and 0 to 2 are all it has. Where the kernel (5.9) or
/// a sandbox has no close_range, it copies the whole table, of which the exec leaves the same three.
unsafe fn leave_shared_table() -> Result<(), Fault> {
    // SAFETY: plain calls; the keeper's table is not touched by either.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_UNSHARE) != 0 {
            check(Stage::Descriptors, libc::unshare(libc::CLONE_FILES))?;
        }
    }
    Ok(())
}

/// All of the keeper's descriptors are CLOEXEC from their birth; this is the second bolt, for kernels
/// that have it (5.11).
unsafe fn close_at_exec(first: i32, last: i32) {
    if first <= last {
        // SAFETY: a plain call.
        unsafe {
            libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC);
        }
    }
}

/// LISTEN_PID, and the line in the table of lives: `TEXT PID STARTTIME\n`. A line that cannot be
/// written (the run directory is full) keeps no service from starting: it is only needed if the keeper dies.
fn tell_life(launch: &mut Launch<'_>) {
    // SAFETY: plain calls; buffers are locals with their lengths.
    unsafe {
        let pid = u64::from(libc::getpid().unsigned_abs());
        if let Some(slot) = &mut launch.listen_pid {
            let mut digits = Line::default();
            digits.push_number(pid);
            let room = slot.iter_mut().skip(LISTEN_PID.len());
            for (to, from) in room.zip(digits.bytes) {
                *to = from; // zeros behind the digits end the string
            }
        }
        let Some((file, text)) = launch.life_line else { return };
        let stat = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if stat >= 0 {
            let mut content = [0u8; 1024];
            let length = libc::read(stat, content.as_mut_ptr().cast(), content.len());
            launch.start_time = start_time_in(content.get(..length.max(0) as usize).unwrap_or(&[]));
            libc::close(stat);
        }
        let mut tail = Line::default();
        tail.push(b" ");
        tail.push_number(pid);
        tail.push(b" ");
        tail.push_number(launch.start_time);
        tail.push(b"\n");
        let parts = [
            libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() },
            libc::iovec { iov_base: tail.bytes.as_mut_ptr().cast(), iov_len: tail.length },
        ];
        libc::writev(file.as_raw_fd(), parts.as_ptr(), 2);
    }
}

pub const LISTEN_PID: &[u8] = b"LISTEN_PID=";

/// A few words and numbers without allocating: two numbers of 20 digits and three separators fit.
struct Line {
    bytes: [u8; 48],
    length: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; 48], length: 0 }
    }
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length = self.length.wrapping_add(1);
            }
        }
    }

    fn push_number(&mut self, number: u64) {
        let mut place = 1;
        while number / place >= 10 {
            place *= 10; // at most number, so it cannot overflow
        }
        while place > 0 {
            self.push(&[b'0' + (number / place % 10) as u8]);
            place /= 10;
        }
    }
}

/// Field 22 of /proc/PID/stat. The second field is the program's name in parentheses and may hold any
/// byte, so the count begins behind the last one. 0 if it is not there.
pub fn start_time_in(stat: &[u8]) -> u64 {
    let name_end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let fields = stat.get(name_end..).unwrap_or(&[]);
    let field = fields.split(|byte| *byte == b' ').nth(20).unwrap_or(&[]);
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')));
    field.iter().map_while(digit).fold(0, |number, digit| number.wrapping_mul(10).wrapping_add(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        for name in ["(sh)", "(a b)", "(x) y)", "()"] {
            assert_eq!(start_time_in(format!("77 {name} {rest}\n").as_bytes()), 987_654, "{name}");
        }
        for broken in ["", "77", "77 (sh) S 1 2", ")"] {
            assert_eq!(start_time_in(broken.as_bytes()), 0, "{broken:?}");
        }
    }

    #[test]
    fn numbers_are_written_without_allocating() {
        for number in [0, 9, 10, 123, u64::from(u32::MAX), u64::MAX] {
            let mut line = Line::default();
            line.push_number(number);
            assert_eq!(line.bytes.get(..line.length), Some(number.to_string().as_bytes()));
        }
    }
}
