//! NOTIFY_SOCKET: one abstract datagram socket per instance.
//!
//! Abstract, because a path in our 0700 directory cannot be reached by a service of another uid.
//! The name is random, but anybody can read it in /proc/net/unix, so each sender is checked: it
//! must be a process of the instance's tree. The descriptor is deposited with the keeper, so a
//! READY=1 that is sent while no controller runs waits in the kernel.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::io::Interest;

use super::notification;
use crate::controller::Notification;
use crate::edge::process::raw::{self, Sender};
use crate::edge::process::stat;
use crate::edge::process::tree::Tree;

/// Longest datagram that is read; sd_notify messages are some 100 bytes.
const DATAGRAM_MAX: usize = 4096;
/// After so many datagrams without a pause there is one: a flooding service waits, not the loop.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_millis(10);

/// The controller's end.
#[derive(Debug)]
pub struct NotifySocket {
    socket: tokio::net::UnixDatagram,
    /// The value of NOTIFY_SOCKET, `@` and the name.
    env: String,
}

impl NotifySocket {
    /// Bind a new one. Within a runtime.
    pub fn bind() -> io::Result<NotifySocket> {
        // RandomState is seeded by the operating system; the name only has to be nobody else's.
        let word = || RandomState::new().build_hasher().finish();
        let name = format!("plugd-notify-{:016x}{:016x}", word(), word());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        NotifySocket::from_std(socket)
    }

    /// Go on with one that the keeper held. Within a runtime.
    pub fn adopt(fd: OwnedFd) -> io::Result<NotifySocket> {
        let socket = UnixDatagram::from(fd);
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        NotifySocket::from_std(socket)
    }

    fn from_std(socket: UnixDatagram) -> io::Result<NotifySocket> {
        let addr = socket.local_addr()?;
        let name = addr.as_abstract_name().and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a notify socket"))?;
        let env = format!("@{name}");
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket: tokio::net::UnixDatagram::from_std(socket)?, env })
    }

    /// What NOTIFY_SOCKET is set to.
    pub fn env(&self) -> &str {
        &self.env
    }

    /// A copy for the keeper's keeping.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Hand every message of the tree's processes to `tell`, until the socket fails or the future
    /// is dropped. Others are passed over.
    pub async fn listen(&self, tree: &Tree, mut tell: impl FnMut(Notification)) -> io::Result<()> {
        let mut burst = 0;
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            let received =
                self.socket.async_io(Interest::READABLE, || raw::receive(self.socket.as_fd(), &mut buffer)).await;
            match received {
                Ok((length, Some(sender))) if length <= DATAGRAM_MAX && is_of(tree, sender) => {
                    if let Some(message) = notification::parse(&buffer[..length]) {
                        tell(message);
                    }
                }
                Ok((length, sender)) => {
                    tracing::debug!(life = %tree.life, length, ?sender, "passed over a notification of a stranger");
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            burst += 1;
            if burst == BURST {
                burst = 0;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The sender is of the tree. One that has ended already (`systemd-notify --ready` in a script) can
/// no longer be looked at: it counts if its uid is the main process's, since such a process could
/// do to the service whatever it likes anyway.
fn is_of(tree: &Tree, sender: Sender) -> bool {
    if sender.pid <= 0 {
        return false;
    }
    match stat::Stat::of(sender.pid) {
        Some(_) => tree.contains(sender.pid),
        None => stat::uids(tree.pid).contains(&sender.uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::process::tree::Scope;
    use crate::model::name::{Instance, LifeId};

    #[test]
    fn a_sender_that_has_ended_counts_if_it_had_the_services_uid() {
        let mut gone = std::process::Command::new("true").spawn().expect("true runs");
        let pid = gone.id() as i32;
        gone.wait().expect("it ends");
        let life = LifeId { instance: Instance::parse("web/0").expect("a valid name"), life: 1 };
        let own = std::process::id() as i32;
        let start_time = stat::Stat::of(own).expect("we run").start_time;
        let tree = Tree { life, node: "node".into(), pid: own, start_time, scope: Scope::Session };
        let uid = rustix::process::getuid().as_raw();
        assert!(is_of(&tree, Sender { pid, uid }));
        assert!(!is_of(&tree, Sender { pid, uid: uid + 1 }));
        assert!(!is_of(&tree, Sender { pid: 0, uid }), "from outside of our pid namespace");
        assert!(!is_of(&tree, Sender { pid: 1, uid }));
    }
}
