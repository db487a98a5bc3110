//! The socket file: bound with mode 0600, reached at any length of path, and who may be at its
//! other end.
#![expect(clippy::disallowed_methods, reason = "the socket lies on the disk, and so does its directory's owner")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixStream;

/// `sun_path` has 108 bytes, one of them the NUL.
const PATH_MAX: usize = 107;
/// The kernel's caller for an owner that this user namespace does not map: it may be anybody.
const OVERFLOW_UID: u32 = 65534;
/// Connections that wait to be accepted: as many as are served at one time.
const BACKLOG: i32 = 256;
/// Together 5 s, in which 256 idle connections are closed by the server.
const CONNECT_TRIES: u32 = 250;
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Binds the socket, mode 0600 from its first moment, in place of one that nobody holds any more
/// (the caller owns the directory's lock, so a socket that lies there is a dead controller's).
pub fn bind(path: &Path) -> io::Result<tokio::net::UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what lies there is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // bind(2) takes the mode of the socket file from the socket's own: no moment in between.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let reach = Reach::to(path)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&reach.path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    tokio::net::UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}

/// Connects, at any length of path.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let reach = Reach::to(path)?;
    let mut tries = 0;
    loop {
        match UnixStream::connect(&reach.path).await {
            // unix(7): the backlog is full. Many come at once, or the controller is stopped.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < CONNECT_TRIES => tries += 1,
            other => return other,
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

/// A path that fits into a socket address; the descriptor in it must outlive its use.
struct Reach {
    path: PathBuf,
    _directory: Option<std::os::fd::OwnedFd>,
}

impl Reach {
    fn to(path: &Path) -> io::Result<Reach> {
        if path.as_os_str().len() <= PATH_MAX {
            return Ok(Reach { path: path.to_path_buf(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        let directory = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Reach { path: short, _directory: Some(directory) })
    }
}

/// Who may be at the other end: root, this process's own user, the owner of the watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed(Vec<u32>);

impl Allowed {
    /// `dir` is the watched directory, where it is known.
    pub fn with_owner_of(dir: Option<&Path>) -> Allowed {
        let owner = dir.and_then(|dir| std::fs::metadata(dir).ok()).map(|meta| meta.uid());
        Allowed::of(rustix::process::geteuid().as_raw(), owner)
    }

    /// An owner that is not mapped here is nobody in particular, so it is not let in.
    pub fn of(own: u32, owner: Option<u32>) -> Allowed {
        let mut uids = vec![0, own];
        uids.extend(owner.filter(|uid| *uid != OVERFLOW_UID));
        Allowed(uids)
    }

    pub fn contains(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_directorys_owner_are_let_in() {
        let allowed = Allowed::of(1000, Some(2000));
        for (uid, verdict) in [(0, true), (1000, true), (2000, true), (3000, false), (OVERFLOW_UID, false)] {
            assert_eq!(allowed.contains(uid), verdict, "{uid}");
        }
    }

    #[test]
    fn an_owner_that_is_not_mapped_here_lets_nobody_in() {
        assert!(!Allowed::of(0, Some(OVERFLOW_UID)).contains(OVERFLOW_UID));
        assert!(Allowed::of(OVERFLOW_UID, None).contains(OVERFLOW_UID));
    }
}
