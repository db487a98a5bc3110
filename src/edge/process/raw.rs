//! The system calls for which rustix has no safe form: the edge's only `unsafe`.
//!
//! A few things: a signal through a pidfd to a whole group (and to real-time signals), a datagram
//! with its sender's credentials, a user's entry from NSS, another user's rights for a moment, and whether
//! clone3 answers. Each function is complete in itself:
//! what goes in is safe Rust, what comes out is plain values.
#![expect(unsafe_code, reason = "rustix has no call for these; each block says why it holds")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Linux 6.9: the signal goes to the process group that the pidfd's process leads.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
/// Longest entry of a user that is read, in bytes; a home and a shell of PATH_MAX fit.
const ENTRY_MAX: usize = 64 * 1024;
/// NGROUPS_MAX of Linux.
const GROUPS_MAX: usize = 65_536;

/// pidfd_send_signal(2) to the one process.
pub(crate) fn signal_process(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    pidfd_send_signal(pidfd, signal, 0)
}

/// pidfd_send_signal(2) to the group that the process leads; EINVAL before Linux 6.9.
pub(crate) fn signal_group(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    pidfd_send_signal(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open for the time of the call, a null siginfo is allowed by
    // pidfd_send_signal(2), and any signal number is checked by the kernel.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A listening socket as tokio watches it: told of who comes without letting anybody in.
pub(crate) fn watched(listener: std::net::TcpListener) -> io::Result<AsyncFd<std::net::TcpListener>> {
    // SAFETY: the listener owns its descriptor and closes it only when it is dropped, with the `AsyncFd` that
    // owns it from here on.
    Ok(unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE)? })
}

/// An eventfd as tokio watches it.
pub(crate) fn heard(event: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it owns its descriptor and closes it only when it is dropped, with the `AsyncFd` that watches it.
    Ok(unsafe { AsyncFd::register_with_interest(event, Interest::READABLE)? })
}

/// How many connections wait at a listening TCP socket to be accepted.
pub(crate) fn queued(listener: &impl AsFd) -> io::Result<u32> {
    // `tcpi_unacked` of a listening socket is its accept queue (net/ipv4/tcp.c, tcp_get_info).
    const UNACKED: usize = 24;
    let mut info = [0u8; UNACKED + 4];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which `info` has.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match result {
        0 if length as usize == info.len() => {
            Ok(u32::from_ne_bytes([info[UNACKED], info[UNACKED + 1], info[UNACKED + 2], info[UNACKED + 3]]))
        }
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// kill(2) to a process group, for kernels without [`signal_group`], or when no descriptor is to be had. The caller has seen that the
/// group's leader is there and is the right one.
pub(crate) fn kill_group(group: i32, signal: i32) -> io::Result<()> {
    if group <= 1 {
        // kill(-1) would be everybody.
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: kill(2) touches no memory of ours.
    if unsafe { libc::kill(-group, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// kill(2) to one process, for when no descriptor is to be had. The caller has seen that it is the right one.
pub(crate) fn kill_process(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: kill(2) touches no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Does something on the file system with the rights of another user, on this thread alone (setfsuid(2)); for
/// who is root. The kernel takes root's powers over files away meanwhile. `groups`: those beside `gid`, where they
/// are not to be ours.
pub(crate) fn with_rights_of<T>(uid: u32, gid: u32, groups: Option<&[u32]>, act: impl FnOnce() -> T) -> io::Result<T> {
    /// Takes the old ones back, also where `act` panics.
    struct Back(libc::c_int, libc::c_int, Option<Vec<libc::gid_t>>);
    impl Drop for Back {
        fn drop(&mut self) {
            // SAFETY: both take plain numbers and touch no memory; they are the calling thread's alone.
            unsafe { (libc::setfsuid(self.0 as libc::uid_t), libc::setfsgid(self.1 as libc::gid_t)) };
            self.2.iter().for_each(|own| drop(set_groups(own)));
        }
    }
    let own = groups.map(|_| rustix::process::getgroups()).transpose()?;
    let own = own.map(|own| own.into_iter().map(rustix::process::Gid::as_raw).collect());
    groups.map_or(Ok(()), set_groups)?;
    // SAFETY: as above. The group first: without root's powers it could not be changed any more. Both give
    // the number before, and tell of a refusal only by what the next call gives.
    let (_back, now) = unsafe {
        let group = libc::setfsgid(gid);
        let back = Back(libc::setfsuid(uid), group, own);
        (back, (libc::setfsuid(libc::uid_t::MAX), libc::setfsgid(libc::gid_t::MAX)))
    };
    match now == (uid as libc::c_int, gid as libc::c_int) {
        true => Ok(act()),
        false => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    }
}

/// Of this thread alone: libc's function of that name would set those of all threads.
fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: the pointer is to as many numbers as are told, and they are only read.
    match unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether clone3(2) is there and not refused by a seccomp profile.
pub(crate) fn clone3_answers() -> bool {
    // SAFETY: a size of 0 is refused before any argument is looked at, with EINVAL: nothing is made.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0usize) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// Who sent a datagram, as the kernel says. `pid` is 0 for a sender outside our pid namespace,
/// which is why rustix's type (never 0) does not serve here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    pub pid: i32,
    pub uid: u32,
}

/// Room for the credentials, which come first, and for nothing else: descriptors that a sender passes do not fit and
/// are closed by the kernel, which is what whoever sent them waits for (`BARRIER=1`, as systemd-notify does).
#[repr(C, align(8))]
struct Control([u8; CREDENTIALS]);

// SAFETY: a sum of sizes.
const CREDENTIALS: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

/// One datagram without waiting, and its sender where SO_PASSCRED is set. The length is the
/// datagram's own (MSG_TRUNC), so one larger than `buffer` is known as such.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<Sender>)> {
    let mut control = Control([0; CREDENTIALS]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a zeroed msghdr is a valid value (null pointers, zero lengths).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to `buffer` and `control`, both alive and exclusively ours here,
    // with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: recvmsg has filled in `msg_control` and `msg_controllen`; CMSG_FIRSTHDR checks that
    // one header fits, and the length is compared before the payload is read (unaligned).
    let sender = unsafe {
        let message = libc::CMSG_FIRSTHDR(&header);
        let wanted = libc::CMSG_LEN(size_of::<libc::ucred>() as u32) as usize;
        let fits = !message.is_null()
            && (*message).cmsg_level == libc::SOL_SOCKET
            && (*message).cmsg_type == libc::SCM_CREDENTIALS
            && (*message).cmsg_len as usize >= wanted;
        fits.then(|| libc::CMSG_DATA(message).cast::<libc::ucred>().read_unaligned())
    };
    Ok((length as usize, sender.map(|credentials| Sender { pid: credentials.pid, uid: credentials.uid })))
}

/// A line of passwd(5), from wherever NSS finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub name: CString,
    pub uid: u32,
    pub gid: u32,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}

pub(crate) fn user_by_name(name: &CStr) -> io::Result<Option<User>> {
    user(|entry, buffer, length, result| {
        // SAFETY: `user` hands in an entry, a buffer of that length and a result slot, all alive.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, result) }
    })
}

pub(crate) fn user_by_id(uid: u32) -> io::Result<Option<User>> {
    user(|entry, buffer, length, result| {
        // SAFETY: as above.
        unsafe { libc::getpwuid_r(uid, entry, buffer, length, result) }
    })
}

type PasswdCall<'a> =
    &'a mut dyn FnMut(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int;

fn user(
    mut call: impl FnMut(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<User>> {
    let call: PasswdCall<'_> = &mut call;
    let mut buffer = vec![0 as libc::c_char; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut result = std::ptr::null_mut();
        match call(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut result) {
            0 if result.is_null() => return Ok(None),
            0 => {
                // SAFETY: the call returned 0 and a result: the entry is filled in and its strings
                // are NUL-terminated and lie in `buffer`, which lives until they are copied.
                let user = unsafe {
                    let entry = entry.assume_init_ref();
                    User {
                        name: CStr::from_ptr(entry.pw_name).to_owned(),
                        uid: entry.pw_uid,
                        gid: entry.pw_gid,
                        home: CStr::from_ptr(entry.pw_dir).to_bytes().to_vec(),
                        shell: CStr::from_ptr(entry.pw_shell).to_bytes().to_vec(),
                    }
                };
                return Ok(Some(user));
            }
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < ENTRY_MAX => buffer.resize(buffer.len() * 4, 0),
            // What getpwnam(3) lists as "not found" among its errors.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The gid of a group's name.
pub(crate) fn group_by_name(name: &CStr) -> io::Result<Option<u32>> {
    let mut buffer = vec![0 as libc::c_char; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut result = std::ptr::null_mut();
        // SAFETY: the name is NUL-terminated; entry, buffer (with its true length) and result slot
        // are alive and ours.
        let error = unsafe {
            libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut result)
        };
        match error {
            0 if result.is_null() => return Ok(None),
            // SAFETY: 0 and a result: the entry is filled in.
            0 => return Ok(Some(unsafe { entry.assume_init_ref() }.gr_gid)),
            libc::EINTR => {}
            // A group of many members has a long line; 1 MiB is about 100,000 of them.
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// getgrouplist(3): `gid` and every group that names the user.
pub(crate) fn groups_of(name: &CStr, gid: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0 as libc::gid_t; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: the name is NUL-terminated and `count` is the true length of `groups`.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
        if result >= 0 {
            groups.truncate(count.max(0) as usize);
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            return Err(io::Error::other("more groups than the kernel allows"));
        }
        let wanted = (count.max(0) as usize).max(groups.len() * 2).min(GROUPS_MAX);
        groups.resize(wanted, 0);
    }
}
