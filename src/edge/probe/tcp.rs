//! tcpSocket: somebody accepts connections, and it is the right one.
//!
//! Connected to once a minute; between, as long as it passes, the kernel is asked whether the same socket goes on
//! listening and nobody waits to be accepted.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::context::{LifeContext, Place};
use super::eager;
use super::listener::{self, Found};
use super::sockets::{Calling, Sockets};
use crate::controller::Verdict;
use crate::model::reason::Reason;

/// Addresses of one name that are tried, one after the other.
const TRIED_MAX: usize = 4;
/// Ports that are named.
const PORTS_SHOWN: usize = 3;
/// How long each but the last may keep the next waiting: what RFC 8305 calls the attempt delay.
const STEP: Duration = Duration::from_millis(250);

/// One check; ends within `timeout`.
pub async fn tcp(ctx: Arc<LifeContext>, sockets: Arc<Sockets>, place: Place, timeout: Duration) -> Verdict {
    if let Place::Local(port) = place
        && let Some(known) = listener::still_takes(&ctx, &sockets, port)
    {
        let message = passed(&known.addr.to_string(), known.note.as_deref());
        return Verdict { passed: true, message, reason: None, took: Duration::ZERO };
    }
    let check = async {
        let reached = connect(&ctx, &sockets, &place).await?;
        if let Place::Local(port) = place {
            ctx.note_connected(port);
        }
        Ok(passed(&reached.addr, reached.note.as_deref()))
    };
    judged("tcp", &ctx, &place, timeout, check).await
}

fn passed(addr: &str, note: Option<&str>) -> String {
    format!("tcp {addr} passed{}", noted(note))
}

/// `, held by docker-proxy pid 12`, or nothing.
fn noted(note: Option<&str>) -> String {
    note.map(|note| format!(", {note}")).unwrap_or_default()
}

/// A connection, and what is to be said of it.
pub(super) struct Reached {
    pub stream: std::net::TcpStream,
    /// As it was dialled, for messages.
    pub addr: String,
    note: Option<String>,
    /// As long as what it is of lives, the connection is told from those of callers.
    _calling: Option<Calling>,
}

impl Reached {
    /// As a message ends.
    pub fn note(&self) -> String {
        noted(self.note.as_deref())
    }
}

/// Why a check did not pass: the end of a sentence whose subject is the address.
pub(super) struct Failure {
    pub reason: Option<Reason>,
    pub message: String,
}

impl Failure {
    pub fn because(message: impl Into<String>) -> Failure {
        Failure { reason: None, message: message.into() }
    }

    fn closed(message: String) -> Failure {
        Failure { reason: Some(Reason::PortNotOpen), message }
    }
}

/// Connect by the owner's rule, or to the host as written.
pub(super) async fn connect(ctx: &LifeContext, sockets: &Arc<Sockets>, place: &Place) -> Result<Reached, Failure> {
    match place {
        Place::Local(port) => match listener::find(ctx, sockets, *port).await {
            Found::Closed => {
                let elsewhere = elsewhere(ctx, *port).await;
                Err(Failure::closed(format!("nothing listens on port {port}{elsewhere}")))
            }
            Found::Taken(message) => Err(Failure { reason: Some(Reason::AddressInUse), message }),
            Found::Open { addr, note } => match connect_here(addr).await {
                Ok(stream) => {
                    let calling = sockets.calling(stream.local_addr());
                    Ok(Reached { stream, addr: addr.to_string(), note, _calling: Some(calling) })
                }
                Err(error) => Err(refused(&addr.to_string(), &error)),
            },
        },
        Place::Host(host, port) => {
            let shown = shown(host, *port);
            let connected = match host.parse::<IpAddr>() {
                Ok(literal) => TcpStream::connect((literal, *port)).await,
                Err(_) => {
                    let found = sockets.names.of(host).await;
                    let found = found.map_err(|unknown| Failure {
                        reason: unknown.unasked.then_some(Reason::ResourceExhausted),
                        message: format!("{host} {}", unknown.why),
                    })?;
                    to_any(&found[..found.len().min(TRIED_MAX)], *port).await
                }
            };
            match connected.and_then(TcpStream::into_std) {
                Ok(stream) => Ok(Reached { stream, addr: shown, note: None, _calling: None }),
                Err(error) => Err(refused(&shown, &error)),
            }
        }
    }
}

/// On this machine a connection is there, or refused, by the time connect(2) returns: mostly nothing is waited for, and
/// a thousand checks need no place in the loop's poll.
async fn connect_here(addr: SocketAddr) -> io::Result<std::net::TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    // The answer to the answer goes with what is said: one packet less, and the other side wakes once.
    let _is_cheaper = rustix::net::sockopt::set_tcp_quickack(&socket, false);
    let connect = || rustix::net::connect(&socket, &addr);
    // The first begins it; what came of that the second tells.
    match connect().or_else(|error| if error == Errno::INPROGRESS { connect() } else { Err(error) }) {
        Ok(()) => Ok(socket.into()),
        // Its backlog is full, say.
        Err(Errno::ALREADY) => {
            let waits = TcpStream::from_std(socket.into())?;
            waits.writable().await?;
            let stream = waits.into_std()?;
            match stream.take_error()? {
                Some(error) => Err(error),
                None => Ok(stream),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The commonest mistake is another number: `; its process listens on 8082: …`, or nothing.
async fn elsewhere(ctx: &LifeContext, port: u16) -> String {
    let ports: Vec<String> = ctx.elsewhere().await.iter().take(PORTS_SHOWN).map(u16::to_string).collect();
    match (ports.as_slice(), ctx.instance_port == Some(port)) {
        ([], _) => String::new(),
        ([only], true) => format!("; its process listens on {only}: write `port: {only}`, or hand it $(PORT)"),
        (several, _) => format!("; its process listens on {}", several.join(", ")),
    }
}

/// The first address that accepts. One that is silent holds up the next for a moment only; the last
/// has whatever time is left.
async fn to_any(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut why = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (at, addr) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect((*addr, port));
        let connected = if at + 1 == addresses.len() {
            connecting.await
        } else {
            let patience = tokio::time::timeout(STEP, connecting).await;
            patience.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn refused(addr: &str, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused the connection".to_string(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "cannot be reached".to_string(),
        _ => format!("cannot be connected to: {error}"),
    };
    let message = format!("{addr} {why}");
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::closed(message),
        _ => Failure::because(message),
    }
}

fn shown(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(addr) => SocketAddr::new(addr, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Run a check under one deadline for all of it. Failures say which kind of check it was; passes
/// say so themselves. After a failure the port's owner is looked for anew.
pub(super) async fn judged(
    kind: &str,
    ctx: &LifeContext,
    place: &Place,
    timeout: Duration,
    check: impl Future<Output = Result<String, Failure>>,
) -> Verdict {
    let begun = Instant::now();
    let result = eager::within(timeout, check).await;
    let took = begun.elapsed();
    let failure = match result {
        Some(Ok(message)) => return Verdict { passed: true, message, reason: None, took },
        Some(Err(failure)) => failure,
        None => {
            let addr = match place {
                Place::Local(port) => format!("port {port}"),
                Place::Host(host, port) => shown(host, *port),
            };
            Failure::because(format!("{addr} did not answer within {timeout:?}"))
        }
    };
    if let Place::Local(port) = place {
        ctx.remember(*port, None);
    }
    let message = match failure.reason {
        // Of a port that is somebody else's it is no matter how it is checked.
        Some(Reason::AddressInUse) => failure.message,
        Some(_) | None => format!("{kind} {}", failure.message),
    };
    Verdict { passed: false, message, reason: failure.reason, took }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_check_that_is_under_way_is_no_caller() {
        let server = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = server.local_addr().expect("bound");
        let (ctx, sockets) = (LifeContext::new(None, vec![]), Arc::new(Sockets::new()));
        let check = connect(&ctx, &sockets, &Place::Local(addr.port())).await.unwrap_or_else(|_| panic!("it listens"));
        let _accepted = server.accept().expect("the check");
        assert!(!sockets.is_connected(addr.port()));
        let caller = std::net::TcpStream::connect(addr).expect("connected");
        let _also = server.accept().expect("the caller");
        assert!(sockets.is_connected(addr.port()));
        // Where it called from is anybody's again once it is over.
        let from = check.stream.local_addr().expect("connected").port();
        assert!(sockets.is_calling(from));
        drop(check);
        assert!(!sockets.is_calling(from));
        drop(caller);
    }
}
