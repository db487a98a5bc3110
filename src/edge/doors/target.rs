//! An instance that callers are led to, and the certainty that it is that one who listens there.
//!
//! A connection to the port alone is none: where the server is gone and something else of the instance lives on,
//! anybody may have the port by now. So the kernel is asked whose socket it is, as for a check: before, so that nobody
//! else sees a caller, and once more when the connection is there.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Ready;
use crate::edge::probe::listener::{Found, find};
use crate::edge::probe::{LifeContext, Sockets};

/// One that was not reached is left alone for so long, however many wait.
const VAIN_FOR: Duration = Duration::from_millis(10);
/// Who has its port is looked up among all descriptors of a stranger: not as often.
const TAKEN_FOR: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Target {
    pub ready: Ready,
    pub open: Cell<usize>,
    vain_until: Cell<Option<Instant>>,
}

/// A connection to it, or one that is being made.
pub(super) struct Counted<'a>(&'a Target);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Target {
    pub fn new(ready: Ready) -> Target {
        Target { ready, open: Cell::new(0), vain_until: Cell::new(None) }
    }

    pub fn count(&self) -> Counted<'_> {
        self.open.set(self.open.get() + 1);
        Counted(self)
    }

    /// It was not reached a moment ago.
    pub fn is_in_vain(&self) -> bool {
        self.vain_until.get().is_some_and(|until| Instant::now() < until)
    }

    /// `AddrInUse`: somebody else listens there.
    pub async fn reach(&self, sockets: &Arc<Sockets>) -> io::Result<TcpStream> {
        // Counted while it is tried, so that many at once are spread.
        let _counted = self.count();
        let port = self.ready.port;
        let reached = match &self.ready.life {
            Some(life) if sockets.tell() => its_own(life, sockets, port).await,
            Some(_) | None => by_loopback(port).await,
        };
        if let Err(error) = &reached {
            let long = if error.kind() == io::ErrorKind::AddrInUse { TAKEN_FOR } else { VAIN_FOR };
            self.vain_until.set(Some(Instant::now() + long));
        }
        reached
    }
}

async fn its_own(life: &LifeContext, sockets: &Arc<Sockets>, port: u16) -> io::Result<TcpStream> {
    let taken = |message| io::Error::new(io::ErrorKind::AddrInUse, message);
    let server = match find(life, sockets, port).await {
        Found::Open { addr, .. } => TcpStream::connect(addr).await?,
        // Of this network there is no listener: a rule of the firewall may lead into another one.
        Found::Closed => by_loopback(port).await?,
        Found::Taken(message) => return Err(taken(message)),
    };
    match find(life, sockets, port).await {
        Found::Open { .. } | Found::Closed => Ok(server),
        Found::Taken(message) => Err(taken(message)),
    }
}

/// A service that takes PORT binds 127.0.0.1 or every address; some bind ::1 alone.
async fn by_loopback(port: u16) -> io::Result<TcpStream> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_binds_the_address_of_ipv6_alone_is_reached() {
        let server = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let reached = by_loopback(port).await.expect("reached");
        assert_eq!(reached.peer_addr().expect("connected"), server.local_addr().expect("bound"));
    }
}
