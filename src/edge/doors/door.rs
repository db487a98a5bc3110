//! One door: who waits before it, who is let in, and to whom they are led.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_local;

use super::queue::Queue;
use crate::controller::{Demand, Input};
use crate::edge::process::raw;
use crate::model::name::Name;

/// Between two words to the brain.
const TELL_MIN: Duration = Duration::from_millis(100);
/// After a connection could not be taken in (no descriptor is left).
const PAUSE: Duration = Duration::from_millis(100);
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
    name: Name,
    hold: Cell<Duration>,
    /// Of all doors together.
    places: Arc<Semaphore>,
    targets: RefCell<Vec<Rc<Target>>>,
    /// The targets or the hold changed, or a place became free.
    moved: Notify,
    waits: Cell<bool>,
    /// Let in and not gone; of these, not led to anybody yet.
    open: Cell<usize>,
    stranded: Cell<usize>,
    /// Somebody was let in since the brain was told last.
    used: Cell<bool>,
    /// Sent away since then, because they had waited for too long.
    sent_away: Cell<u32>,
    news: Notify,
}

impl Door {
    pub fn new(name: Name, hold: Duration, places: Arc<Semaphore>) -> Door {
        Door {
            name,
            hold: Cell::new(hold),
            places,
            targets: RefCell::default(),
            moved: Notify::new(),
            waits: Cell::new(false),
            open: Cell::new(0),
            stranded: Cell::new(0),
            used: Cell::new(false),
            sent_away: Cell::new(0),
            news: Notify::new(),
        }
    }

    pub fn hold(&self, hold: Duration) {
        self.hold.set(hold);
        self.moved.notify_one();
    }

    /// Those that stay keep their counts.
    pub fn lead(&self, ports: &[u16]) {
        let before = self.targets.take();
        let target = |port: &u16| {
            let known = before.iter().find(|one| one.port == *port).cloned();
            known.unwrap_or_else(|| Rc::new(Target { port: *port, open: Cell::new(0) }))
        };
        self.targets.replace(ports.iter().map(target).collect());
        self.moved.notify_one();
    }

    /// Lets in whoever comes while somebody is ready, and lets wait whoever comes otherwise.
    pub async fn stand(self: Rc<Door>, listener: AsyncFd<TcpListener>) {
        let mut queue = Queue::default();
        loop {
            let shut = self.targets.borrow().is_empty();
            let full = self.open.get() >= OPEN_MAX;
            if shut {
                self.let_wait(&listener, &mut queue).await;
                continue;
            }
            queue.forget();
            self.waits(false);
            tokio::select! {
                biased;
                () = self.moved.notified() => {}
                accepted = self.accept(&listener), if !full => match accepted {
                    Ok((stream, place)) => {
                        queue.took();
                        self.clone().let_in(stream, place);
                    }
                    Err(error) => {
                        tracing::warn!(service = %self.name, %error, "a connection cannot be taken; trying on");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    async fn let_wait(&self, listener: &AsyncFd<TcpListener>, queue: &mut Queue) {
        let ready = tokio::select! {
            () = self.moved.notified() => return,
            ready = listener.readable() => ready,
        };
        let waiting = raw::queued(listener.get_ref()).unwrap_or(0);
        match ready {
            Ok(mut ready) if waiting == 0 => {
                ready.clear_ready();
                // Who came between the two is seen by the next look, not by the next event.
                if raw::queued(listener.get_ref()).unwrap_or(0) == 0 {
                    self.waits(false);
                    return;
                }
            }
            Ok(mut ready) => ready.retain_ready(),
            Err(_) => {}
        }
        self.waits(true);
        let hold = self.hold.get();
        for _ in 0..queue.look(Instant::now(), u64::from(waiting), hold) {
            let Ok((late, _)) = listener.get_ref().accept() else { break };
            drop(late);
            queue.took();
            self.sent_away();
        }
        tokio::select! {
            () = self.moved.notified() => {}
            () = tokio::time::sleep(Queue::gap(hold)) => {}
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
            self.news.notify_one();
        }
        spawn_local(async move {
            let _inside = Inside { door: &self, _place: place };
            if let Some((target, server)) = self.find().await {
                pass(client, server, &target).await;
            } else {
                self.sent_away();
            }
        });
    }

    /// Connects to the ready instance that has the fewest connections; one that has just gone is waited for.
    async fn find(&self) -> Option<(Rc<Target>, TcpStream)> {
        let until = tokio::time::Instant::now() + self.hold.get();
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

    fn waits(&self, waits: bool) {
        if self.waits.replace(waits) != waits {
            self.news.notify_one();
        }
    }

    fn sent_away(&self) {
        self.sent_away.set(self.sent_away.get().saturating_add(1));
        self.news.notify_one();
    }

    fn demand(&self) -> Demand {
        let connected = self.open.get() > self.stranded.get();
        Demand { waiting: self.waits.get() || self.stranded.get() > 0, connected: connected || self.used.get() }
    }

    /// Tells the brain of changes, not of connections.
    pub async fn tell(self: Rc<Door>, out: mpsc::Sender<Input>) {
        // What was told before it was closed and opened anew holds no more.
        let mut told = None;
        loop {
            let demand = self.demand();
            let sent_away = self.sent_away.take();
            self.used.set(false);
            if told != Some(demand) || sent_away > 0 {
                told = Some(demand);
                if out.send(Input::Demand { name: self.name.clone(), demand, sent_away }).await.is_err() {
                    return;
                }
                tokio::time::sleep(TELL_MIN).await;
                continue;
            }
            self.news.notified().await;
        }
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
            self.door.moved.notify_one();
        }
        self.door.news.notify_one();
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
        self.0.news.notify_one();
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
