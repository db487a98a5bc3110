//! The child's life until it is the program, or ends with 127.
//!
//! Everything is prepared by the parent. The child allocates nothing, takes no lock and panics nowhere:
//! it calls the kernel and leaves. All signals are blocked in the keeper, so no handler can run on the
//! shared memory; dispositions are the default ones (`sys::take_signals`), only the mask is to be reset.

#![expect(unsafe_code, reason = "between fork and exec there are only system calls")]

use std::convert::Infallible;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use super::super::sys;
use super::super::wire::{Capabilities, Fault, Stage, flag};
use super::line::{Line, tick_of_both};
use super::{HEARD, LISTEN_PID, Launch, Role, reaper, start_time_in};

/// # Safety
/// `launch` points at the parent's [`Launch`], which waits, or at a copy of it.
pub unsafe extern "C" fn child(launch: *mut libc::c_void) -> ! {
    // SAFETY: the caller's promise; the rest are plain calls, and the report is a pipe of ours or -1.
    unsafe {
        let launch = &mut *launch.cast::<Launch<'_>>();
        launch.began = true;
        if launch.tell >= 0 && !std::mem::replace(&mut launch.reaped, true) {
            reaper::live(launch);
        }
        let Err(fault) = become_program(launch);
        fail(launch, fault)
    }
}

/// # Safety
/// As [`child`].
pub unsafe fn fail(launch: &mut Launch<'_>, fault: Fault) -> ! {
    launch.fault = Some(fault);
    let [a, b, c, d] = fault.errno.to_le_bytes();
    let report = [fault.stage as u8, a, b, c, d];
    // SAFETY: plain calls; the report is a pipe of ours or -1.
    unsafe {
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
    let what = launch.what;
    // SAFETY: every pointer handed over is from a C string, an array or a local that is alive here; arrays
    // for execve end with null (the contract of Launch).
    unsafe {
        if let Some(cgroup) = launch.cgroup.filter(|_| launch.moves_itself) {
            let procs = libc::openat(cgroup.as_raw_fd(), c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(Stage::Cgroup, procs)?;
            check(Stage::Cgroup, libc::write(procs, c"0".as_ptr().cast(), 1) as i64)?;
        }
        for procs in &launch.entrances {
            check(Stage::Cgroup, libc::write(*procs, c"0".as_ptr().cast(), 1) as i64)?;
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
        if let Some(spare) = launch.spare {
            leave_shared_table(launch, spare)?;
        }
        tell_life(launch);
        if let Some(adjustment) = what.oom_score_adj {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(Stage::OomScore, file)?;
            let mut line = Line::new();
            line.push(if adjustment < 0 { b"-" } else { b"" });
            line.push_number(adjustment.unsigned_abs().into());
            check(Stage::OomScore, libc::write(file, line.text().as_ptr().cast(), line.text().len()) as i64)?;
        }
        // Out of the way of the numbers that are wanted.
        if let Some((_, highest)) = launch.extra.last().copied() {
            let above = highest.saturating_add(1);
            let report = (launch.report >= 0).then_some(&mut launch.report);
            for fd in launch.extra.iter_mut().map(|(fd, _)| fd).chain(report) {
                *fd = check(Stage::Descriptors, libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, above))?;
            }
        }
        let open_files = launch.open_files.map(|(soft, hard)| (libc::RLIMIT_NOFILE as _, soft, hard));
        for (resource, soft, hard) in open_files.iter().chain(&what.limits) {
            let limit = libc::rlimit { rlim_cur: *soft as _, rlim_max: *hard as _ };
            check(Stage::Limits, libc::setrlimit(*resource as _, &limit))?;
        }
        if let Some(umask) = what.umask {
            libc::umask(umask as libc::mode_t);
        }
        if let Some(nice) = what.nice {
            check(Stage::Nice, libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
        }
        if let Some(sets) = &what.capabilities.0 {
            drop_bounding(sets.bounding)?;
            // Until the exec, which clears it.
            check(Stage::Capabilities, libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        }
        if let Some(who) = &what.identity {
            let (uid, gid) = (who.uid, who.gid);
            check(Stage::Groups, libc::syscall(libc::SYS_setgroups, who.groups.len(), who.groups.as_ptr()))?;
            check(Stage::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(Stage::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
        if let Some(sets) = &what.capabilities.0 {
            set_capabilities(sets)?;
        }
        if what.flags & flag::NO_NEW_PRIVS != 0 {
            check(Stage::NoNewPrivs, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        }
        if launch.spare.is_none() {
            set_stdio(launch.stdio)?;
            let mut free = 3;
            for (fd, number) in &launch.extra {
                check(Stage::Descriptors, libc::dup2(*fd, *number))?;
                close_at_exec(free, number.wrapping_sub(1));
                free = number.wrapping_add(1);
            }
            close_at_exec(free, i32::MAX);
        }
        if let Some(directory) = what.working_dir {
            check(Stage::WorkingDir, libc::chdir(directory.as_ptr()))?;
        }
        let mut none = zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        check(Stage::Exec, libc::execve(what.program.as_ptr(), launch.argv.as_ptr(), launch.env.as_ptr()))?;
        Err(Fault { stage: Stage::Exec, errno: libc::EIO })
    }
}

/// Before the user changes, who alone may do it; the kernel knows none beyond the first that it refuses.
unsafe fn drop_bounding(stays: u64) -> Result<(), Fault> {
    for capability in (0..64u64).filter(|number| stays >> number & 1 == 0) {
        // SAFETY: plain calls.
        unsafe {
            if libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) < 0 {
                break;
            }
            check(Stage::Capabilities, libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0))?;
        }
    }
    Ok(())
}

unsafe fn set_capabilities(sets: &Capabilities) -> Result<(), Fault> {
    let (kept, ambient) = (halves(sets.kept), halves(sets.ambient));
    // Version 3 and this process; then effective, permitted, inheritable of the lower and of the upper half.
    let header = [0x2008_0522u32, 0];
    let data = [kept[0], kept[0], ambient[0], kept[1], kept[1], ambient[1]];
    // SAFETY: arrays of the sizes that capset(2) reads; the rest are plain calls.
    unsafe {
        check(Stage::Capabilities, libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()))?;
        check(Stage::Capabilities, libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))?;
        for capability in (0..64u64).filter(|number| sets.ambient >> number & 1 == 1) {
            let raise = libc::PR_CAP_AMBIENT_RAISE;
            check(Stage::Capabilities, libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0))?;
        }
    }
    Ok(())
}

fn halves(set: u64) -> [u32; 2] {
    [set as u32, (set >> 32) as u32]
}

unsafe fn set_stdio(stdio: [RawFd; 3]) -> Result<(), Fault> {
    for (number, fd) in [0, 1, 2].into_iter().zip(stdio) {
        // SAFETY: plain calls.
        check(Stage::Descriptors, if fd == number { 0 } else { unsafe { libc::dup2(fd, number) } })?;
    }
    Ok(())
}

/// From here on the child's descriptors are its own: 0 to 2, and up to the spare number what the exec
/// closes. Where the kernel (5.9) or a sandbox has no close_range, it copies the whole table.
unsafe fn leave_shared_table(launch: &mut Launch<'_>, spare: RawFd) -> Result<(), Fault> {
    // SAFETY: plain calls; of the keeper's table only what it puts back is changed, and the spare number.
    unsafe {
        set_stdio(launch.stdio)?;
        if let Some(life_line) = &mut launch.life_line {
            *life_line = check(Stage::Descriptors, libc::dup3(*life_line, spare, libc::O_CLOEXEC))?;
        }
        if libc::syscall(libc::SYS_close_range, spare.wrapping_add(1), u32::MAX, libc::CLOSE_RANGE_UNSHARE) != 0 {
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
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    }
}

/// As /proc tells it.
fn told_start_time() -> u64 {
    // SAFETY: plain calls; the buffer is a local with its length.
    unsafe {
        let stat = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let mut content = [0u8; 1024];
        let length = libc::read(stat, content.as_mut_ptr().cast(), content.len()); // of -1: nothing
        libc::close(stat); // its number may be below the limit of open files
        start_time_in(content.get(..length.max(0) as usize).unwrap_or(&[]))
    }
}

/// LISTEN_PID, who it is (to a keeper that is not its parent), and the line in the table of lives: `TEXT PID
/// STARTTIME\n`. A line that cannot be written (the run directory is full) keeps no service from starting: it
/// is only needed if the keeper dies.
fn tell_life(launch: &mut Launch<'_>) {
    // SAFETY: plain calls; buffers are locals with their lengths.
    unsafe {
        let mut tail = Line::new();
        tail.push_number(u64::from(libc::getpid().unsigned_abs()));
        let room = launch.listen_pid.iter_mut().flat_map(|slot| slot.iter_mut().skip(LISTEN_PID.len()));
        for (to, from) in room.zip(tail.text()) {
            *to = *from; // zeros behind the digits end the string
        }
        if launch.life_line.is_none() && launch.tell < 0 {
            return;
        }
        launch.start_time = tick_of_both(launch.before, sys::boottime()).unwrap_or_else(told_start_time);
        if launch.tell >= 0 {
            reaper::tell(launch.tell, reaper::BORN, libc::getpid(), launch.start_time);
        }
        let Some(file) = launch.life_line else { return };
        tail.push(b" ");
        tail.push_number(launch.start_time);
        tail.push(b"\n");
        let parts = [launch.what.life_line, b" ", tail.text()]
            .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        libc::writev(file, parts.as_ptr(), 3);
    }
}
