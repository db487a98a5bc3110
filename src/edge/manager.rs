//! The service manager that plugd itself runs under, as sd_notify(3) says: systemd, or whoever sets
//! NOTIFY_SOCKET. plugd is its client here; the server for plugd's own services is `probe/notify.rs`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the manager listens, and how often it wants to hear that plugd is alive.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    to: SocketAddr,
    /// WATCHDOG_USEC.
    pub watchdog: Option<Duration>,
}

impl Manager {
    /// From plugd's own environment. `main` is the process that the manager started: a watchdog that was
    /// meant for another (WATCHDOG_PID) is none of ours.
    pub fn find(main: i32) -> Option<Manager> {
        let to = std::env::var_os("NOTIFY_SOCKET").filter(|to| !to.is_empty())?;
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let mine = number("WATCHDOG_PID").is_none_or(|pid| i32::try_from(pid) == Ok(main));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| mine && *usec > 0).map(Duration::from_micros);
        Manager::at(&to, watchdog)
            .inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET={to:?} cannot be used: systemd is told nothing"))
            .ok()
    }

    /// A path, or `@` and an abstract name.
    pub fn at(to: &OsStr, watchdog: Option<Duration>) -> io::Result<Manager> {
        let to = match to.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(to)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Manager { socket, to, watchdog })
    }

    /// Says all lines at once. Never waits: a manager that is full hears the next one.
    pub fn say(&self, lines: &[String]) -> bool {
        let text = lines.join("\n");
        match self.socket.send_to_addr(text.as_bytes(), &self.to) {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, text, "the service manager does not hear");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_understood_and_nothing_else() {
        let temp = tempfile::tempdir().expect("a temp folder");
        let path = temp.path().join("notify");
        let listening = UnixDatagram::bind(&path).expect("bound");
        let manager = Manager::at(path.as_os_str(), None).expect("a path");
        assert!(manager.say(&["READY=1".into(), "STATUS=up".into()]));
        let mut buffer = [0; 64];
        let length = listening.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=up");

        let name = format!("plugd-test-manager-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listening = UnixDatagram::bind_addr(&address).expect("bound");
        let manager = Manager::at(OsStr::new(&format!("@{name}")), None).expect("an abstract name");
        assert!(manager.say(&["WATCHDOG=1".into()]));
        let length = listening.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
        drop(listening);
        assert!(!manager.say(&["READY=1".into()]), "nobody listens");

        assert!(Manager::at(OsStr::new("vsock:2:1234"), None).is_err());
        assert!(Manager::at(OsStr::new(""), None).is_err());
    }
}
