//! Every call that a controller makes fails once, with every errno that it may fail with.

use std::time::Duration;

use crate::guard;
use crate::inject::{is_root, times};
use crate::kills::{Play, spread};

/// What a controller does with the world. Not those that the runtime itself cannot do without
/// (epoll_wait, futex, the waker's eventfd, mmap for its stacks): a controller that is denied these ends, and row 1 is of
/// those that end.
const CALLS: &[&str] = &[
    "openat",
    "read",
    "renameat,renameat2,rename",
    "unlinkat,unlink",
    "fsync,fdatasync",
    "statx,newfstatat,fstat",
    "getdents64",
    "socket",
    "accept4",
    "sendmsg",
    "recvmsg",
    "epoll_ctl",
    "pwrite64",
    "pread64",
    "splice",
    "inotify_add_watch",
    "pidfd_open",
    "ftruncate",
    "flock",
    "fcntl",
    "mkdirat,mkdir",
    "pipe2",
    "clone3",
    "sendto",
    "recvfrom",
    "fchmod",
    "fchown",
];
/// Those that pass. What says "not allowed" or "not there" is believed until somebody changes it: status
/// files of a directory that may not be written lie elsewhere until the next controller.
const ERRNOS: &[&str] = &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EAGAIN", "ENOMEM", "EMFILE"];

/// What was found here, each once. A request to the keeper that the kernel refused was lost; status files lay
/// elsewhere for good after one look that was interrupted.
const FOUND: &[&str] = &[
    "-e trace=sendmsg -e inject=sendmsg:error=ENOSPC:when=7",
    "-e trace=statx,newfstatat,fstat -e inject=statx,newfstatat,fstat:error=EINTR:when=1",
];

/// How long one error may be felt.
const RECOVERED: Duration = Duration::from_secs(5);

#[test]
fn an_error_at_any_call_restarts_no_service_and_is_over_in_seconds() {
    if !is_root() {
        return;
    }
    let mut play = Play::begin();
    for faults in FOUND {
        play.act_within(RECOVERED, faults);
    }
    let counted = play.calls();
    let most = |calls: &str| calls.split(',').filter_map(|call| counted.get(call)).max().copied().unwrap_or(0);
    let mut cases = Vec::new();
    for calls in CALLS {
        let made: Vec<&str> = calls.split(',').filter(|call| counted.contains_key(*call)).collect();
        for nth in 1..=most(calls) {
            cases.extend(ERRNOS.iter().map(|errno| (made.join(","), *errno, nth)));
        }
    }
    // Three in each life, of calls that differ: 300 of every push are 100 lives.
    let wanted = times(300);
    let chosen = spread(&cases, wanted);
    let third = chosen.len() / 3;
    for n in 0..third {
        let of_one_life = [n, n + third, n + 2 * third].map(|at| &chosen[at]);
        let faults = of_one_life.map(|(calls, errno, nth)| format!("-e inject={calls}:error={errno}:when={nth}"));
        // Only what is traced is injected.
        let traced = of_one_life.map(|(calls, ..)| calls.as_str()).join(",");
        // Each thread meets each of the three, one after another.
        play.act_within(3 * RECOVERED, &format!("-e trace={traced} {}", faults.join(" ")));
    }
    eprintln!("    {} of {} cases", 3 * third, cases.len());
    guard::assert_calm(&play.world);
}
