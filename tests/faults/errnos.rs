//! Every call that a controller makes fails once, with every errno that it may fail with.

use std::time::Duration;

use crate::guard;
use crate::inject::is_root;
use crate::kills::{Play, drawn};
use crate::oracle::{Known, Oracle};
use crate::soak::times;

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

/// How long one error may be felt: 5 s, and as much for a machine that others use, too.
const RECOVERED: Duration = Duration::from_secs(10);

/// Errors of every push.
const INJECTED: usize = 300;

/// The nth of these calls, which are one to those who make them, fails.
struct Case {
    calls: String,
    errno: &'static str,
    nth: usize,
}

impl Case {
    /// A life is never quite like the one that was counted: not every case comes to pass.
    fn fired(&self, trace: &str) -> bool {
        let said = format!("= -1 {} ", self.errno);
        let injected = trace.lines().filter(|line| line.contains(&said) && line.ends_with("(INJECTED)"));
        injected.filter_map(call_of).any(|call| self.calls.split(',').any(|of_ours| of_ours == call))
    }
}

/// `read` of `4711 read(3, …` and of `4711 <... read resumed>…`.
fn call_of(line: &str) -> Option<&str> {
    let said = line.split_once(' ')?.1.trim_start();
    match said.strip_prefix("<... ") {
        Some(resumed) => resumed.split(' ').next(),
        None => said.split('(').next(),
    }
}

#[test]
fn an_error_at_any_call_restarts_no_service_and_is_over_in_seconds() {
    if !is_root() {
        return;
    }
    let mut play = Play::begin();
    let oracle = Oracle::watch_known(&play.world.dir(), Known { late: RECOVERED, ..Known::default() });
    for faults in FOUND {
        play.act_within(RECOVERED, faults);
    }
    let counted = play.calls();
    let most = |calls: &str| calls.split(',').filter_map(|call| counted.get(call)).max().copied().unwrap_or(0);
    let mut cases = Vec::new();
    for calls in CALLS {
        let made: Vec<&str> = calls.split(',').filter(|call| counted.contains_key(*call)).collect();
        for nth in 1..=most(calls) {
            cases.extend(ERRNOS.iter().map(|errno| Case { calls: made.join(","), errno, nth }));
        }
    }
    let (wanted, mut lives, mut fired) = (times(INJECTED), 0, 0);
    let mut draw = drawn(&cases);
    while fired < wanted {
        assert!(lives < wanted, "only {fired} errors in {lives} lives");
        lives += 1;
        // Three in each life, of calls that differ: strace has one fault for a call.
        let mut of_one_life: Vec<&Case> = Vec::new();
        while of_one_life.len() < 3 {
            let case = draw.next().expect("drawn again and again");
            if of_one_life.iter().all(|other| other.calls != case.calls) {
                of_one_life.push(case);
            }
        }
        let faults =
            of_one_life.iter().map(|Case { calls, errno, nth }| format!("-e inject={calls}:error={errno}:when={nth}"));
        let faults = faults.collect::<Vec<_>>().join(" ");
        // Only what is traced is injected.
        let traced = of_one_life.iter().map(|case| case.calls.as_str()).collect::<Vec<_>>().join(",");
        // Each thread meets each of the three, one after another.
        play.act_within(2 * RECOVERED, &format!("-e trace={traced} {faults}"));
        let trace = play.trace();
        fired += of_one_life.iter().filter(|case| case.fired(&trace)).count();
    }
    eprintln!("    {fired} errors, of {} cases, in {lives} lives", cases.len());
    oracle.assert_no_lie();
    guard::assert_calm(&play.world);
}
