//! A process between the keeper and a service that escapes (`stop.killScope: Tree`): whatever of the
//! service loses its parents falls to it, so the tree is what descends from it, whatever that does.
//!
//! It is a copy of the keeper that never executes anything: some pages and a number, no second program. It
//! keeps one descriptor, tells how the main process ended, reaps the rest, and ends when nothing is left.
//! Where it is killed, the keeper itself is the next one to whom its children fall.

#![expect(unsafe_code, reason = "between fork and exec there are only system calls")]

use std::mem::zeroed;
use std::os::fd::RawFd;

use super::super::sys;
use super::super::wire::{Fault, Stage};
use super::{Launch, child};

/// What is told by the main process of itself before anything can go wrong, and of it by the reaper: a kind,
/// a number, and the start time where that is known.
pub const RECORD: usize = 13;
pub const BORN: u8 = 0;
pub const EXITED: u8 = 1;
pub const KILLED: u8 = 2;
pub const REAPED: u8 = 3;

/// The kernel's own limit of descriptors (fs.nr_open), by default.
const CLOSED_ONE_BY_ONE: RawFd = 1 << 20;

/// One write, which a pipe takes whole.
pub fn tell(to: RawFd, kind: u8, number: i32, start_time: u64) {
    let [a, b, c, d] = number.to_le_bytes();
    let [e, f, g, h, i, j, k, l] = start_time.to_le_bytes();
    let record: [u8; RECORD] = [kind, a, b, c, d, e, f, g, h, i, j, k, l];
    // SAFETY: a buffer of ours with its length. Where nobody reads (the keeper is gone) nobody is to be told.
    unsafe { libc::write(to, record.as_ptr().cast(), record.len()) };
}

/// The reaper's whole life, in a copy of the keeper.
///
/// # Safety
/// Only in a fresh copy, of which nothing is needed any more: it never returns.
pub unsafe fn live(launch: &mut Launch<'_>) -> ! {
    // SAFETY: plain calls on this process, which has one thread and all signals blocked, and locals.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        libc::prctl(libc::PR_SET_NAME, c"plugd-reaper".as_ptr());
        libc::setsid();
        let tell_to = launch.tell;
        let main = match launch.make(0) {
            Ok((pid, _pidfd)) => pid,
            Err(error) => child::fail(launch, Fault { stage: Stage::Clone, errno: sys::errno(&error) }),
        };
        libc::dup2(tell_to, 0);
        close_from(1);
        loop {
            let mut ended: libc::siginfo_t = zeroed();
            if libc::waitid(libc::P_ALL, 0, &mut ended, libc::WEXITED | libc::WNOWAIT) != 0 {
                libc::_exit(0); // no child is left
            }
            // Told before it is reaped: whoever kills us in between leaves a zombie to the keeper.
            let pid = ended.si_pid();
            if pid == main {
                let kind = if ended.si_code == libc::CLD_EXITED { EXITED } else { KILLED };
                tell(0, kind, ended.si_status(), 0);
            }
            libc::waitpid(pid, std::ptr::null_mut(), 0);
            if pid == main {
                tell(0, REAPED, 0, 0);
            }
        }
    }
}

/// Linux 5.9, else one by one.
unsafe fn close_from(first: RawFd) {
    // SAFETY: plain calls; nothing of this copy uses what is closed.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) != 0 {
            (first..CLOSED_ONE_BY_ONE).for_each(|fd| _ = libc::close(fd));
        }
    }
}
