//! A door whose listening socket is handed to the processes of its service: they let callers in themselves.
//!
//! While none of them is there plugd looks at who waits, as at any door. While one is, plugd sees no
//! connection: it looks now and then at what the kernel says of that port, and only if something depends on it
//! ([`looks`]).

use std::cell::Cell;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::ioctl_fionbio;
use tokio::sync::mpsc;

use super::PAUSE;
use super::line::Line;
use super::queue::Queue;
use crate::controller::{Demand, Input};
use crate::edge::probe::Sockets;
use crate::edge::process::raw;

/// Looks within one `idleStop`.
const LOOKS: u32 = 10;
const EVERY_MIN: Duration = Duration::from_millis(20);
const EVERY_MAX: Duration = Duration::from_secs(1);

/// How often the connections of a port are looked at while a process lets them in, where something depends on them:
/// when its service may sleep, or, where one of several has left (`is_missed`), whether it is to come again.
pub fn looks(idle_stop: Option<Duration>, is_missed: bool) -> Option<Duration> {
    let by_idleness = idle_stop.map(|idle_stop| (idle_stop / LOOKS).clamp(EVERY_MIN, EVERY_MAX));
    by_idleness.or(is_missed.then_some(EVERY_MAX))
}

/// Whose turn it is to accept on a socket that plugd shares with a service: true while it is the service's.
///
/// Whether an accept waits is a property of the one socket, not of who holds it. So plugd, which must never wait,
/// touches it only while it is certain that nobody else does.
#[derive(Debug, Default)]
pub struct Turn(Mutex<bool>);

impl Turn {
    /// Before a process is started that gets the socket. The first one finds it as servers expect it, waiting; those
    /// beside it find it as that one has made it.
    pub fn hand_over(&self, listener: &impl AsFd, first: bool) -> std::io::Result<()> {
        let mut handed = self.locked();
        *handed = true;
        if first { Ok(ioctl_fionbio(listener, false)?) } else { Ok(()) }
    }

    /// Whether a process of the service is there; true if that is news.
    pub fn set(&self, handed: bool) -> bool {
        std::mem::replace(&mut *self.locked(), handed) != handed
    }

    fn is_handed(&self) -> bool {
        *self.locked()
    }

    /// Takes the first one out who waits, if it is plugd's turn.
    fn let_out(&self, listener: &TcpListener) -> Option<TcpStream> {
        let handed = self.locked();
        if *handed || listener.set_nonblocking(true).is_err() {
            return None;
        }
        Some(listener.accept().ok()?.0)
    }

    fn locked(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Handed {
    pub line: Line,
    pub port: u16,
    turn: Arc<Turn>,
    sockets: Arc<Sockets>,
    every: Cell<Option<Duration>>,
    connected: Cell<bool>,
}

impl Handed {
    pub fn new(line: Line, port: u16, turn: Arc<Turn>, sockets: Arc<Sockets>, every: Option<Duration>) -> Handed {
        Handed { line, port, turn, sockets, every: Cell::new(every), connected: Cell::new(false) }
    }

    /// The turn or what depends on its connections may have changed.
    pub fn turned(&self, every: Option<Duration>) {
        self.every.set(every);
        self.line.moved.notify_one();
    }

    pub async fn stand(self: Rc<Handed>, listener: TcpListener) {
        let mut queue = Queue::default();
        loop {
            if self.turn.is_handed() {
                // Who came when is not known of those that it leaves behind.
                queue.forget();
                self.look(&listener).await;
                continue;
            }
            self.set_connected(false);
            // Not while a process has its turn: each connection would wake both.
            let watched = match listener.try_clone().and_then(raw::watched) {
                Ok(watched) => watched,
                Err(error) => {
                    tracing::warn!(service = %self.line.name, %error, "its port cannot be watched; trying on");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            while !self.turn.is_handed() {
                self.line.look(&watched, &mut queue, |listener| self.turn.let_out(listener)).await;
            }
        }
    }

    /// While a process of it is there.
    async fn look(&self, listener: &TcpListener) {
        let Some(every) = self.every.get() else {
            self.line.set_waits(false);
            self.set_connected(false);
            return self.line.moved.notified().await;
        };
        let (sockets, port) = (self.sockets.clone(), self.port);
        // With very many connections this takes milliseconds. What cannot be known is no reason to stop it.
        let connected = tokio::task::spawn_blocking(move || sockets.is_connected(port)).await.unwrap_or(true);
        self.line.set_waits(raw::queued(listener).unwrap_or(0) > 0);
        self.set_connected(connected);
        tokio::select! {
            () = self.line.moved.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
    }

    fn set_connected(&self, connected: bool) {
        if self.connected.replace(connected) != connected {
            self.line.news.notify_one();
        }
    }

    pub async fn tell(self: Rc<Handed>, out: mpsc::Sender<Input>) {
        let demand = || Demand { waiting: self.line.somebody_waits(), connected: self.connected.get(), block: None };
        self.line.tell(out, demand).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_connected_is_looked_at_where_something_depends_on_it() {
        let seconds = Duration::from_secs;
        assert_eq!(looks(None, false), None);
        assert_eq!(looks(None, true), Some(EVERY_MAX), "one of several is missed");
        assert_eq!(looks(Some(seconds(600)), true), Some(EVERY_MAX));
        assert_eq!(looks(Some(seconds(5)), true), Some(seconds(5) / LOOKS));
        assert_eq!(looks(Some(Duration::ZERO), false), Some(EVERY_MIN));
    }

    #[test]
    fn plugd_takes_nobody_out_while_a_process_has_the_socket_and_never_waits_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let _caller = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let waits = || !rustix::fs::fcntl_getfl(&listener).expect("asked").contains(rustix::fs::OFlags::NONBLOCK);
        let turn = Turn::default();
        turn.hand_over(&listener, true).expect("handed over");
        assert!(turn.let_out(&listener).is_none() && waits());
        assert!(turn.set(false), "that it ended is news");
        assert!(turn.let_out(&listener).is_some(), "the one who waits");
        assert!(turn.let_out(&listener).is_none(), "and nobody is waited for");
        turn.hand_over(&listener, false).expect("handed over");
        assert!(!waits(), "as the process beside it has made it");
        turn.hand_over(&listener, true).expect("handed over");
        assert!(waits(), "as servers expect it");
        assert!(!turn.set(true), "known already");
    }
}
