//! One door: who waits before it, who is let in, and to whom they are led.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_local;

use super::PAUSE;
use super::line::Line;
use super::queue::Queue;
use crate::controller::{Demand, Input};

/// An instance that has just gone is looked for again this often.
const AGAIN: Duration = Duration::from_millis(10);
/// Connections of one door that are passed on at a time; the next ones wait in the kernel's queue.
const OPEN_MAX: usize = 4096;

/// A ready instance.
#[derive(Debug)]
struct Target {
    port: u16,
    open: Cell<usize>,
}

#[derive(Debug)]
pub(super) struct Door {
    pub line: Line,
    /// Of all doors together.
    places: Arc<Semaphore>,
    targets: RefCell<Vec<Rc<Target>>>,
    /// Let in and not gone; of these, not led to anybody yet.
    open: Cell<usize>,
    stranded: Cell<usize>,
    /// Somebody was let in since the brain was told last.
    used: Cell<bool>,
}

impl Door {
    pub fn new(line: Line, places: Arc<Semaphore>) -> Door {
        Door {
            line,
            places,
            targets: RefCell::default(),
            open: Cell::new(0),
            stranded: Cell::new(0),
            used: Cell::new(false),
        }
    }

    /// Those that stay keep their counts.
    pub fn lead(&self, ports: &[u16]) {
        let before = self.targets.take();
        let target = |port: &u16| {
            let known = before.iter().find(|one| one.port == *port).cloned();
            known.unwrap_or_else(|| Rc::new(Target { port: *port, open: Cell::new(0) }))
        };
        self.targets.replace(ports.iter().map(target).collect());
        self.line.moved.notify_one();
    }

    /// Lets in whoever comes while somebody is ready, and lets wait whoever comes otherwise.
    pub async fn stand(self: Rc<Door>, listener: AsyncFd<TcpListener>) {
        let mut queue = Queue::default();
        loop {
            let shut = self.targets.borrow().is_empty();
            let full = self.open.get() >= OPEN_MAX;
            if shut {
                self.line.look(&listener, &mut queue, |listener| listener.accept().is_ok()).await;
                continue;
            }
            queue.forget();
            self.line.set_waits(false);
            tokio::select! {
                biased;
                () = self.line.moved.notified() => {}
                accepted = self.accept(&listener), if !full => match accepted {
                    Ok((stream, place)) => {
                        queue.took();
                        self.clone().let_in(stream, place);
                    }
                    Err(error) => {
                        tracing::warn!(service = %self.line.name, %error, "a connection cannot be taken; trying on");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    /// The next one that waits, once there is a place for it.
    async fn accept(&self, listener: &AsyncFd<TcpListener>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = self.places.clone().acquire_owned().await.map_err(io::Error::other)?;
        loop {
            let mut ready = listener.readable().await?;
            match ready.try_io(|listener| listener.get_ref().accept()) {
                Ok(Ok((stream, _))) => {
                    stream.set_nonblocking(true)?;
                    // Who vanishes without a word does not keep it awake for ever; without this, only that.
                    let _unwatched = sockopt::set_socket_keepalive(&stream, true);
                    return Ok((TcpStream::from_std(stream)?, place));
                }
                // It went away while it waited.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    fn let_in(self: Rc<Door>, client: TcpStream, place: OwnedSemaphorePermit) {
        self.open.set(self.open.get() + 1);
        if !self.used.replace(true) {
            self.line.news.notify_one();
        }
        spawn_local(async move {
            let _inside = Inside { door: &self, _place: place };
            if let Some((target, server)) = self.find().await {
                pass(client, server, &target).await;
            } else {
                self.line.sent_away();
            }
        });
    }

    /// Connects to the ready instance that has the fewest connections; one that has just gone is waited for.
    async fn find(&self) -> Option<(Rc<Target>, TcpStream)> {
        let until = tokio::time::Instant::now() + self.line.hold();
        let _stranded = Stranded::new(self);
        loop {
            let target = self.targets.borrow().iter().min_by_key(|one| one.open.get()).cloned();
            if let Some(target) = target {
                // Counted while it is tried, so that many at once are spread.
                target.open.set(target.open.get() + 1);
                let found = tokio::time::timeout_at(until, reach(target.port)).await;
                target.open.set(target.open.get() - 1);
                if let Ok(Ok(server)) = found {
                    return Some((target, server));
                }
            }
            if tokio::time::Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn demand(&self) -> Demand {
        let connected = self.open.get() > self.stranded.get();
        Demand {
            waiting: self.line.somebody_waits() || self.stranded.get() > 0,
            connected: connected || self.used.get(),
        }
    }

    pub async fn tell(self: Rc<Door>, out: mpsc::Sender<Input>) {
        let demand = || {
            let demand = self.demand();
            self.used.set(false);
            demand
        };
        self.line.tell(out, demand).await;
    }
}

/// Takes back what was counted, however the task ends.
struct Inside<'a> {
    door: &'a Door,
    _place: OwnedSemaphorePermit,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let open = self.door.open.get();
        self.door.open.set(open - 1);
        if open == OPEN_MAX {
            self.door.line.moved.notify_one();
        }
        self.door.line.news.notify_one();
    }
}

struct Stranded<'a>(&'a Door);

impl<'a> Stranded<'a> {
    fn new(door: &'a Door) -> Stranded<'a> {
        door.stranded.set(door.stranded.get() + 1);
        Stranded(door)
    }
}

impl Drop for Stranded<'_> {
    fn drop(&mut self) {
        self.0.stranded.set(self.0.stranded.get() - 1);
        self.0.line.news.notify_one();
    }
}

/// A service that takes PORT binds 127.0.0.1 or every address; some bind ::1 alone.
async fn reach(port: u16) -> io::Result<TcpStream> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await
        }
        found => found,
    }
}

/// Both ways, until both have ended; an end is handed on for itself (a half-close).
async fn pass(mut client: TcpStream, mut server: TcpStream, target: &Target) {
    struct Counted<'a>(&'a Target);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.open.set(self.0.open.get() - 1);
        }
    }
    target.open.set(target.open.get() + 1);
    let _counted = Counted(target);
    // Where it cannot be set the last packet of an answer is late, no more.
    let _late = (client.set_nodelay(true), server.set_nodelay(true));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(port = target.port, %error, "a connection broke");
    }
}
