//! What the controller finds when it begins: the keeper's socket, and one signal to be deaf to.
#![expect(unsafe_code, reason = "an inherited descriptor and a signal's disposition have no safe interface")]

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// Where the keeper puts the socket.
const LINK: i32 = 3;

/// The socket that the keeper gave this process, if this process is a controller. Once.
pub fn link() -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) on a number that may not be open; it fails with EBADF then.
    if unsafe { libc::fcntl(LINK, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, was left to us by the keeper, and is owned from here on; nothing
    // else in this process knows its number. Called once, at the start of the controller.
    let link = unsafe { OwnedFd::from_raw_fd(LINK) };
    if rustix::net::sockopt::socket_type(link.as_fd())? != rustix::net::SocketType::SEQPACKET {
        // Not ours to close: it came from whoever called us.
        std::mem::forget(link);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor 3 is not a keeper's socket"));
    }
    rustix::io::fcntl_setfd(&link, rustix::io::FdFlags::CLOEXEC)?;
    Ok(link)
}

/// SIGIO is how the kernel breaks a lease (fcntl(2), F_SETLEASE); its default ends the process.
pub fn ignore_sigio() {
    // SAFETY: SIG_IGN is a valid disposition of SIGIO, and no handler of ours runs.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}
