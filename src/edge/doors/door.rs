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
use tokio::time::Instant;

use super::PAUSE;
use super::line::Line;
use super::queue::Queue;
use crate::controller::{Demand, Input};

/// An instance that has just gone is looked for again this often.
const AGAIN: Duration = Duration::from_millis(10);
/// The door is gone: whoever was let in and found nobody waits this long for one that takes its place.
const GONE_FOR: Duration = Duration::from_secs(1);
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
    pub port: u16,
    /// Of all doors together.
    places: Arc<Semaphore>,
    targets: RefCell<Vec<Rc<Target>>>,
    /// Let in and not gone; of these, led to nobody: they tried in vain.
    open: Cell<usize>,
    stranded: Cell<usize>,
    /// Since when it is attended to no more, and which one has its port now.
    gone: Cell<Option<Instant>>,
    next: RefCell<Option<Rc<Door>>>,
    /// Somebody was let in since the brain was told last.
    used: Cell<bool>,
}

impl Door {
    pub fn new(line: Line, port: u16, places: Arc<Semaphore>) -> Door {
        Door {
            line,
            port,
            places,
            targets: RefCell::default(),
            open: Cell::new(0),
            stranded: Cell::new(0),
            gone: Cell::new(None),
            next: RefCell::default(),
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
        let guest = Guest::of(self.clone(), place);
        if !self.used.replace(true) {
            self.line.news.notify_one();
        }
        spawn_local(async move {
            let mut guest = guest;
            if let Some((target, server)) = guest.find().await {
                pass(client, server, &target).await;
            } else {
                guest.door.line.sent_away();
            }
        });
    }

    /// Nobody stands at it any more.
    pub fn leave(&self) {
        self.gone.set(Some(Instant::now()));
    }

    /// Whoever was let in here and found nobody goes over to the one that has its port now.
    pub fn send_on(&self, next: &Rc<Door>) {
        self.next.replace(Some(next.clone()));
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

/// Somebody who was let in. What is counted of him is taken back, however his task ends.
struct Guest {
    door: Rc<Door>,
    stranded: bool,
    _place: OwnedSemaphorePermit,
}

impl Guest {
    fn of(door: Rc<Door>, place: OwnedSemaphorePermit) -> Guest {
        door.open.set(door.open.get() + 1);
        Guest { door, stranded: false, _place: place }
    }

    /// Connects to the ready instance that has the fewest connections; one that has just gone is waited for.
    async fn find(&mut self) -> Option<(Rc<Target>, TcpStream)> {
        let until = Instant::now() + self.door.line.hold();
        loop {
            let target = self.door.targets.borrow().iter().min_by_key(|one| one.open.get()).cloned();
            if let Some(target) = target {
                // Counted while it is tried, so that many at once are spread.
                target.open.set(target.open.get() + 1);
                let found = tokio::time::timeout_at(until, reach(target.port)).await;
                target.open.set(target.open.get() - 1);
                if let Ok(Ok(server)) = found {
                    self.set_stranded(false);
                    return Some((target, server));
                }
            }
            let is_last = self.door.next.borrow().is_none();
            let is_gone = self.door.gone.get().is_some_and(|gone| Instant::now() >= gone + GONE_FOR);
            if (is_gone && is_last) || Instant::now() >= until {
                return None;
            }
            // The brain hears of it: somebody is to be started for him.
            self.set_stranded(true);
            tokio::time::sleep(AGAIN).await;
            self.follow();
        }
    }

    fn set_stranded(&mut self, stranded: bool) {
        let count = self.door.stranded.get();
        match (std::mem::replace(&mut self.stranded, stranded), stranded) {
            (false, true) => self.door.stranded.set(count + 1),
            (true, false) => self.door.stranded.set(count - 1),
            (false, false) | (true, true) => return,
        }
        self.door.line.news.notify_one();
    }

    fn follow(&mut self) {
        let Some(next) = self.door.next.borrow().clone() else { return };
        self.set_stranded(false);
        self.leave();
        next.open.set(next.open.get() + 1);
        self.door = next;
        self.set_stranded(true);
    }

    fn leave(&self) {
        let open = self.door.open.get();
        self.door.open.set(open - 1);
        if open == OPEN_MAX {
            self.door.line.moved.notify_one();
        }
        self.door.line.news.notify_one();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.set_stranded(false);
        self.leave();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;

    /// A door before two servers, and who has come through it to which of them.
    struct World {
        door: Rc<Door>,
        front: tokio::net::TcpListener,
        servers: [tokio::net::TcpListener; 2],
    }

    impl World {
        async fn new() -> World {
            let bind = || tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            let front = bind().await.expect("bound");
            let servers = [bind().await.expect("bound"), bind().await.expect("bound")];
            let line = Line::new(Name::parse("web").expect("a name"), Duration::from_secs(10));
            let door = Rc::new(Door::new(line, 0, Arc::new(Semaphore::new(100))));
            door.lead(&servers.each_ref().map(|server| server.local_addr().expect("bound").port()));
            World { door, front, servers }
        }

        /// The next caller: to which server he was led, and both ends.
        async fn call(&self) -> (usize, [TcpStream; 2]) {
            let caller = TcpStream::connect(self.front.local_addr().expect("bound")).await.expect("connected");
            let (stream, _) = self.front.accept().await.expect("a caller");
            let place = self.door.places.clone().acquire_owned().await.expect("room");
            self.door.clone().let_in(stream, place);
            tokio::select! {
                led = self.servers[0].accept() => (0, [caller, led.expect("led").0]),
                led = self.servers[1].accept() => (1, [caller, led.expect("led").0]),
            }
        }
    }

    #[tokio::test]
    async fn each_caller_is_led_to_the_instance_that_has_the_fewest() {
        let test = async {
            let world = World::new().await;
            let mut inside = Vec::new();
            for _ in 0..4 {
                inside.push(world.call().await);
            }
            let of = |inside: &[(usize, _)], server| inside.iter().filter(|(led, _)| *led == server).count();
            assert_eq!((of(&inside, 0), of(&inside, 1)), (2, 2));
            // Those of one leave: it has the next ones.
            inside.retain(|(led, _)| *led == 0);
            while world.door.targets.borrow()[1].open.get() > 0 {
                tokio::task::yield_now().await;
            }
            for _ in 0..2 {
                inside.push(world.call().await);
            }
            assert_eq!((of(&inside, 0), of(&inside, 1)), (2, 2));
            // One that stays keeps its count when others come and go.
            let ports = world.servers.each_ref().map(|server| server.local_addr().expect("bound").port());
            inside.retain(|(led, _)| *led == 0);
            world.door.lead(&ports[..1]);
            world.door.lead(&ports);
            for _ in 0..2 {
                inside.push(world.call().await);
            }
            assert_eq!((of(&inside, 0), of(&inside, 1)), (2, 2));
        };
        tokio::task::LocalSet::new().run_until(test).await;
    }
}
