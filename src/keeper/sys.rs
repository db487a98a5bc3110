//! The system calls of keeper and client that are more than one call of a library, each behind a safe
//! function. What runs between fork and exec is in `launch`.

#![expect(unsafe_code, reason = "signals, reaping and inherited descriptors have no safe interface")]
#![expect(clippy::disallowed_methods, reason = "the keeper reads /proc")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};

use super::wire::{Exit, FDS_MAX, How};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What an io::Error of ours says in the protocol.
pub fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// CLOCK_MONOTONIC in nanoseconds: it stands still while the machine sleeps, as services do.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CLOCK_BOOTTIME in nanoseconds, by which /proc tells when a process began. No call of the kernel, no lock: also for a
/// child that shares our memory.
pub fn boottime() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let pair = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    for end in [&pair.0, &pair.1] {
        // As much as wmem_max allows; a refusal leaves the default.
        let _default = sockopt::set_socket_send_buffer_size(end, 1 << 20);
    }
    Ok(pair)
}

/// Sends one packet whole, or not at all: WouldBlock where the peer's buffer is full.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut control, flags).map(drop)?)
}

/// Whether what failed so can be sent later. Not to one who is gone, and not what is itself at fault;
/// whatever else the kernel lacks comes back.
pub fn may_pass(errno: i32) -> bool {
    !matches!(errno, libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN | libc::EMSGSIZE | libc::EINVAL)
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

/// Receives one packet; WouldBlock where there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = part {
            fds.extend(found);
        }
    }
    let truncated = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Received { length: message.bytes, fds, truncated })
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// A memfd with this content that nobody can change any more.
pub fn sealed(content: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("keeper", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let memory = File::from(memory);
    memory.write_all_at(content, 0)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS | SealFlags::SEAL)?;
    Ok(memory.into())
}

/// The content of a memfd that its sender cannot change while it is read.
pub fn read_sealed(memory: OwnedFd, max: usize) -> io::Result<Vec<u8>> {
    if !rustix::fs::fcntl_get_seals(&memory)?.contains(SEALS) {
        return Err(Errno::INVAL.into());
    }
    let size = usize::try_from(rustix::fs::fstat(&memory)?.st_size).ok().filter(|size| *size <= max);
    let size = size.ok_or(Errno::TOOBIG)?;
    let mut content = Vec::new();
    content.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
    content.resize(size, 0);
    File::from(memory).read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// Reaps a child (-1: any), if one has ended: its pid and how. ECHILD: there is none at all.
pub fn reap(pid: i32, block: bool) -> io::Result<Option<(i32, Exit)>> {
    let mut status = 0;
    // SAFETY: the status is ours to be written. No handler of a signal interrupts it: all are blocked.
    let reaped = check(unsafe { libc::waitpid(pid, &mut status, if block { 0 } else { libc::WNOHANG }) })?;
    let signalled = libc::WIFSIGNALED(status);
    let how = if signalled { How::Signal(libc::WTERMSIG(status)) } else { How::Code(libc::WEXITSTATUS(status)) };
    Ok((reaped > 0).then(|| (reaped, Exit { how, at: now() })))
}

/// kill(2): a negative pid is a group. Only for children that are not yet reaped, and their groups.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a plain call.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// All signals blocked for ever, and a descriptor that tells of these. A signal that was ignored at the
/// start (nohup) stays so: it remains blocked and nobody reads it.
pub fn take_signals(wanted: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: sets are initialised by sigfillset and sigemptyset before they are used. No handler is
    // installed: SIG_DFL replaces SIG_IGN, so that children start with default dispositions.
    unsafe {
        let (mut all, mut heard) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()))?;
        for signal in (1..=64).filter(|signal| is_ignored(*signal)) {
            let default = [0usize; 8];
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<usize>(), 8);
        }
        libc::sigemptyset(heard.as_mut_ptr());
        for signal in wanted {
            libc::sigaddset(heard.as_mut_ptr(), *signal);
        }
        let fd = check(libc::signalfd(-1, heard.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
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

/// Whether a read would not wait, at the latest after `wait` ms: there is something, or the other end is closed.
pub fn is_readable(fd: BorrowedFd<'_>, wait: i32) -> bool {
    let mut ready = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd of ours that outlives the call.
    unsafe { libc::poll(&raw mut ready, 1, wait) == 1 }
}

/// The signals that wait in a signalfd, at most 16 at a time.
pub fn read_signals(from: &OwnedFd) -> Vec<i32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; SIZE * 16];
    let length = rustix::io::read(from, &mut buffer).unwrap_or(0);
    let number = |info: &[u8]| info.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes).cast_signed());
    buffer.get(..length).unwrap_or(&[]).chunks_exact(SIZE).filter_map(number).collect()
}

/// epoll(7) with a number for each descriptor.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    pub fn add(&self, fd: impl AsFd, tag: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(tag), flags)?)
    }

    /// As [`Poll::add`], of one that may be there already.
    pub fn set(&self, fd: impl AsFd, tag: u64, flags: EventFlags) -> io::Result<()> {
        let changed = epoll::modify(&self.0, &fd, EventData::new_u64(tag), flags);
        changed.map_or_else(|_| self.add(fd, tag, flags), Ok)
    }

    /// Must be asked before a descriptor is closed of which someone else holds a copy.
    pub fn remove(&self, fd: impl AsFd) {
        let _gone_already = epoll::delete(&self.0, fd);
    }

    /// What is ready; waits at most so many nanoseconds, for ever if None.
    pub fn wait(&self, ready: &mut Vec<Event>, timeout: Option<u64>) {
        let millis = timeout.map(|nanos| i64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(i64::MAX).min(1 << 30));
        let timeout =
            millis.map(|millis| rustix::time::Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 });
        ready.clear();
        let _interrupted = epoll::wait(&self.0, rustix::buffer::spare_capacity(ready), timeout.as_ref());
    }
}

/// Nothing but 0, 1 and 2 (which are open, the library sees to it) survives an exec unless it is asked for.
pub fn close_at_exec() {
    // SAFETY: a plain call.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Makes the number name this file too; what it named before is let go. It survives an exec.
pub fn put_at(fd: &OwnedFd, number: RawFd) {
    // SAFETY: a plain call. It fails only for numbers that are not open or not allowed, and these are.
    unsafe { libc::dup2(fd.as_raw_fd(), number) };
}

pub fn keep_over_exec(fd: &OwnedFd, keep: bool) {
    let _an_open_one = rustix::io::fcntl_setfd(fd, if keep { FdFlags::empty() } else { FdFlags::CLOEXEC });
}

/// Takes a descriptor that was kept over an exec; None where the number is not open.
pub fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl only asks whether the number is open. The state that names it was written by this
    // process before it executed itself, each number once, so nobody else owns it.
    unsafe { (libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd)) }
        .inspect(|fd| keep_over_exec(fd, false))
}

/// Returns only with the reason why it could not.
pub fn execute(path: &CStr, argv: &[CString]) -> io::Error {
    let pointers: Vec<_> = argv.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
    // SAFETY: path and arguments are NUL-terminated and the array ends with a null pointer.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// One line to standard error, if that takes it at once: the keeper waits for nobody.
pub fn say(line: &str) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let line = format!("plugd keeper: {line}\n");
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A pipe that is ready takes PIPE_BUF bytes without blocking.
    if poll(&mut ready, Some(&at_once)) == Ok(1) && ready[0].revents().contains(PollFlags::OUT) {
        let text = line.as_bytes().get(..libc::PIPE_BUF).unwrap_or(line.as_bytes());
        let _nobody_reads = rustix::io::write(&stderr, text);
    }
}

/// What /proc/PID/stat says, or 0 where there is no /proc. Only for children not yet reaped.
pub fn start_time(pid: i32) -> u64 {
    std::fs::read(format!("/proc/{pid}/stat")).map_or(0, |text| super::launch::start_time_in(&text))
}

/// The children of this thread, which is all of the keeper.
pub fn children() -> Vec<i32> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
