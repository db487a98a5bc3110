//! The system calls of keeper and client, each behind a safe function that does one of them.
//!
//! libc only: the keeper must not depend on what a library does with threads, signals or memory.
//! What runs between fork and exec is in `launch`.

#![expect(unsafe_code, reason = "the keeper speaks to the kernel through libc alone")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::wire::{Exit, FDS_MAX, How};

/// SCM_RIGHTS for the most descriptors of a packet, aligned as cmsghdr asks.
const CONTROL_WORDS: usize = (size_of::<libc::cmsghdr>() + FDS_MAX * size_of::<RawFd>()).div_ceil(8) + 2;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: every caller hands over the result of a call that opens a descriptor nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What an io::Error of ours says in the protocol.
pub fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// CLOCK_MONOTONIC in nanoseconds: it stands still while the machine sleeps, as services do.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Microseconds since the epoch, only to be shown.
pub fn wall_us() -> u64 {
    clock(libc::CLOCK_REALTIME) / 1_000
}

fn clock(which: libc::clockid_t) -> u64 {
    // SAFETY: timespec is plain data and ours to be written.
    let time = unsafe {
        let mut time: libc::timespec = zeroed();
        libc::clock_gettime(which, &mut time);
        time
    };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the array has the two places that pipe2 writes; both ends are new and ours.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the array has the two places that socketpair writes; both ends are new and ours.
    let (keeper, controller) = unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    for end in [&keeper, &controller] {
        let wanted: libc::c_int = 1 << 20; // as much as wmem_max allows; a refusal leaves the default
        // SAFETY: the option's value is an int and its length is given.
        unsafe {
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(end.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, (&raw const wanted).cast(), size);
        }
    }
    Ok((keeper, controller))
}

/// Sends one packet whole, or not at all: WouldBlock where the peer's buffer is full.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let length = size_of_val(fds) as u32;
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = [0u64; CONTROL_WORDS];
    let mut data = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: the message points at `data`, `packet` and `control`, which outlive the call; control has
    // room for FDS_MAX descriptors (checked above), so CMSG_FIRSTHDR is not null and CMSG_DATA lies in it.
    // sendmsg only reads what iov_base points at.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut data;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(length) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            libc::CMSG_DATA(header).copy_from_nonoverlapping(fds.as_ptr().cast(), size_of_val(fds));
        }
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        check_size(libc::sendmsg(socket.as_raw_fd(), &message, flags)).map(drop)
    }
}

/// One packet as it came.
#[derive(Debug)]
pub struct Received {
    /// 0 is the end of the connection.
    pub length: usize,
    pub fds: Vec<OwnedFd>,
    /// Bytes or descriptors were lost: too long, or no number was free.
    pub truncated: bool,
}

/// Receives one packet; WouldBlock where there is none. The packet may have changed owners (a kill
/// in between), so its descriptors are ours whatever becomes of the bytes.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the message points at `data`, `buffer` and `control`, which outlive the call. The headers
    // are walked as cmsg(3) says and only as far as the kernel filled them; each descriptor found is
    // new in this process and taken exactly once.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let length = check_size(libc::recvmsg(socket.as_raw_fd(), &mut message, flags))?;
        let mut fds = Vec::new();
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first: *const RawFd = libc::CMSG_DATA(header).cast();
                for index in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(first.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
        let truncated = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        Ok(Received { length, fds, truncated })
    }
}

/// A memfd with this content that nobody can change any more.
pub fn sealed(content: &[u8]) -> io::Result<OwnedFd> {
    let memory = memory(content)?;
    // SAFETY: plain calls on a descriptor of ours.
    unsafe {
        check(libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, SEALS | libc::F_SEAL_SEAL))?;
    }
    Ok(memory)
}

const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// A memfd with this content, read from its start.
pub fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: a NUL-terminated name; the result is a new descriptor.
    let memory = owned(unsafe { libc::memfd_create(c"keeper".as_ptr(), flags) })?;
    let mut at = 0;
    while let Some(rest) = content.get(at..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is readable for its length.
        at += check_size(unsafe {
            libc::pwrite(memory.as_raw_fd(), rest.as_ptr().cast(), rest.len(), at as libc::off_t)
        })?;
    }
    Ok(memory)
}

/// The content of a memfd that its sender cannot change while it is read.
pub fn read_sealed(memory: BorrowedFd<'_>, max: usize) -> io::Result<Vec<u8>> {
    // SAFETY: a plain call on an open descriptor.
    let seals = check(unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_GET_SEALS) })?;
    if seals & SEALS != SEALS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    read_memory(memory, max)
}

pub fn read_memory(memory: BorrowedFd<'_>, max: usize) -> io::Result<Vec<u8>> {
    // SAFETY: stat is plain data and ours to be written.
    let size = unsafe {
        let mut stat: libc::stat = zeroed();
        check(libc::fstat(memory.as_raw_fd(), &mut stat))?;
        stat.st_size
    };
    let size = usize::try_from(size).ok().filter(|size| *size <= max);
    let size = size.ok_or_else(|| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut content = Vec::new();
    content.try_reserve_exact(size).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    content.resize(size, 0);
    let mut at = 0;
    while let Some(rest) = content.get_mut(at..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is writable for its length.
        match check_size(unsafe {
            libc::pread(memory.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), at as libc::off_t)
        })? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => at += read,
        }
    }
    Ok(content)
}

/// Reads what is there, at most the buffer; an open for a short file of proc or cgroup.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length.
    check_size(unsafe { libc::read(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub fn open_at(directory: Option<BorrowedFd<'_>>, path: &CStr) -> io::Result<OwnedFd> {
    let directory = directory.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd());
    // SAFETY: a NUL-terminated path; the result is a new descriptor.
    owned(unsafe { libc::openat(directory, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })
}

/// /dev/null, for the standard input of services.
pub fn open_null() -> io::Result<OwnedFd> {
    // SAFETY: a NUL-terminated path; the result is a new descriptor.
    owned(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })
}

/// What /proc/PID/stat says, or 0 where there is no /proc. Only for children not yet reaped.
pub fn start_time(pid: i32) -> u64 {
    let Ok(path) = CString::new(format!("/proc/{pid}/stat")) else { return 0 };
    let mut text = [0; 1024];
    let length = open_at(None, &path).and_then(|file| read(std::os::fd::AsFd::as_fd(&file), &mut text));
    length.ok().and_then(|length| text.get(..length)).map_or(0, super::launch::start_time_in)
}

/// Reaps a child: None where it has not ended (`block` waits for it).
pub fn reap(pid: i32, block: bool) -> io::Result<Option<Exit>> {
    let options = if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both results are ours to be written; rusage is plain data, zero where not written.
    let (reaped, usage) = unsafe {
        let reaped = loop {
            match check(libc::wait4(pid, &mut status, options, usage.as_mut_ptr())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => break other?,
            }
        };
        (reaped, usage.assume_init())
    };
    let micros = |time: libc::timeval| time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_usec.cast_unsigned();
    Ok((reaped == pid).then(|| Exit {
        how: if libc::WIFSIGNALED(status) {
            How::Signal(libc::WTERMSIG(status))
        } else {
            How::Code(libc::WEXITSTATUS(status))
        },
        core: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss.cast_unsigned(),
        at: now(),
    }))
}

/// The pid of some child that has ended, left as it is; None where there is none. ECHILD: no child at all.
pub fn peek_ended() -> io::Result<Option<i32>> {
    // SAFETY: siginfo_t is plain data, zeroed as waitid(2) asks; its pid is there after WNOHANG.
    unsafe {
        let mut info: libc::siginfo_t = zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        check(libc::waitid(libc::P_ALL, 0, &mut info, options))?;
        Ok(Some(info.si_pid()).filter(|pid| *pid != 0))
    }
}

/// kill(2): a negative pid is a group. Only for children that are not yet reaped, and their groups.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// All signals blocked for ever, and two descriptors: one for those that people send, one for SIGCHLD.
/// A signal that was ignored at the start (nohup) stays so: it remains blocked and nobody reads it.
pub fn take_signals(wanted: &[i32]) -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: sets are initialised by sigfillset and sigemptyset before they are used. No handler is
    // installed: SIG_DFL replaces SIG_IGN, so that children start with default dispositions.
    unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()))?;
        for signal in (1..=64).filter(|signal| is_ignored(*signal)) {
            let default = [0usize; 8];
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<usize>(), 8);
        }
        let set_of = |signals: &[i32]| {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            set
        };
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let people = owned(libc::signalfd(-1, set_of(wanted).as_ptr(), flags))?;
        let children = owned(libc::signalfd(-1, set_of(&[libc::SIGCHLD]).as_ptr(), flags))?;
        Ok((people, children))
    }
}

/// The kernel's own call: libc refuses to speak of 32 and 33, which a parent may have ignored as any other.
/// Its `struct sigaction` begins with the handler and is at most eight words; the mask has 8 bytes.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = [0usize; 8];
    // SAFETY: a null new action only asks; the old one has room.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<usize>(), action.as_mut_ptr(), 8) };
    result == 0 && action.first() == Some(&libc::SIG_IGN)
}

/// Whether a read would not wait: there is something, or the other end is closed.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut ready = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd of ours that outlives the call, which does not wait.
    unsafe { libc::poll(&raw mut ready, 1, 0) == 1 }
}

/// The signals that wait in a signalfd, at most 16 at a time.
pub fn read_signals(from: BorrowedFd<'_>) -> Vec<i32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; SIZE * 16];
    let length = read(from, &mut buffer).unwrap_or(0);
    let number = |info: &[u8]| info.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes).cast_signed());
    buffer.get(..length).unwrap_or(&[]).chunks_exact(SIZE).filter_map(number).collect()
}

/// epoll(7), level-triggered.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: the result is a new descriptor.
        owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Poll)
    }

    fn control(&self, operation: libc::c_int, fd: BorrowedFd<'_>, events: i32, tag: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: tag };
        // SAFETY: the event is ours and outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) }).map(drop)
    }

    pub fn add(&self, fd: BorrowedFd<'_>, events: i32, tag: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, tag)
    }

    pub fn change(&self, fd: BorrowedFd<'_>, events: i32, tag: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, tag)
    }

    /// Must be asked before a descriptor is closed of which someone else holds a copy.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _gone_already = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Tags and events of what is ready; waits at most `timeout` milliseconds, for ever if None.
    pub fn wait(&self, ready: &mut Vec<(u64, i32)>, timeout: Option<i32>) {
        const AT_ONCE: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        // SAFETY: the array has AT_ONCE places.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), AT_ONCE as i32, timeout.unwrap_or(-1)) };
        ready.clear();
        let known = events.iter().take(usize::try_from(count).unwrap_or(0));
        ready.extend(known.map(|event| (event.u64, event.events.cast_signed())));
    }
}

/// Whose the keeper is.
pub fn user() -> u32 {
    // SAFETY: a plain call that cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes this process the parent of its orphaned descendants.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

pub fn open_files_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours to be written.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    Ok(limit)
}

pub fn set_open_files_limit(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the limit is read only.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// 0, 1 and 2 are open, and nothing else survives an exec unless it is asked for.
pub fn settle_descriptors() {
    // SAFETY: plain calls; opening /dev/null takes the lowest free number, so the loop ends at 3.
    unsafe {
        for number in 0..3 {
            if libc::fcntl(number, libc::F_GETFD) < 0 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// A second descriptor of the same file, out of the way of the standard three.
pub fn copy_above_stdio(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a plain call; the result is a new descriptor.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// Makes the number name this file too; what it named before is let go. It survives an exec.
pub fn put_at(fd: BorrowedFd<'_>, number: RawFd) {
    // SAFETY: a plain call. It fails only for numbers that are not open or not allowed, and these are.
    unsafe {
        libc::dup2(fd.as_raw_fd(), number);
    }
}

pub fn keep_over_exec(fd: RawFd, keep: bool) {
    // SAFETY: a plain call; a number that is not open is refused by the kernel.
    unsafe {
        libc::fcntl(fd, libc::F_SETFD, if keep { 0 } else { libc::FD_CLOEXEC });
    }
}

/// Takes a descriptor that was kept over an exec; None where the number is not open.
pub fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl only asks whether the number is open. The state that names it was written by this
    // process before it executed itself, each number once, so nobody else owns it.
    unsafe { (libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd)) }
        .inspect(|fd| keep_over_exec(fd.as_raw_fd(), false))
}

/// Returns only with the reason why it could not.
pub fn execute(path: &CStr, argv: &[&CStr]) -> io::Error {
    let mut pointers: Vec<_> = argv.iter().map(|text| text.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: path and arguments are NUL-terminated and the array ends with a null pointer.
    unsafe {
        libc::execv(path.as_ptr(), pointers.as_ptr());
    }
    io::Error::last_os_error()
}

/// One line to standard error, if that takes it at once: the keeper waits for nobody.
pub fn say(line: &str) {
    let line = format!("plugd keeper: {line}\n");
    let mut ready = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: poll gets one pollfd of ours. A pipe that is ready takes PIPE_BUF bytes without blocking.
    unsafe {
        if libc::poll(&mut ready, 1, 0) == 1 && ready.revents & libc::POLLOUT != 0 {
            let text = line.as_bytes();
            libc::write(2, text.as_ptr().cast(), text.len().min(libc::PIPE_BUF));
        }
    }
}

/// The keeper's own environment, for its controller, as execve takes it.
pub fn environment() -> Vec<*const libc::c_char> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut variables = Vec::new();
    // SAFETY: environ is null or an array of C strings that ends with null; the keeper has one thread and
    // never changes it.
    unsafe {
        let mut place = environ;
        while !place.is_null() && !(*place).is_null() {
            variables.push(*place);
            place = place.add(1);
        }
    }
    variables.push(ptr::null());
    variables
}

/// The children of this thread, which is all of the keeper.
pub fn children() -> Vec<i32> {
    let Ok(file) = open_at(None, c"/proc/thread-self/children") else { return Vec::new() };
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = read(std::os::fd::AsFd::as_fd(&file), &mut part) {
        text.extend_from_slice(part.get(..length).unwrap_or(&[]));
    }
    String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
