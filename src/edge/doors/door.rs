//! One door: who waits before it, who is let in, and to whom they are led.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::line::Line;
use super::queue::Queue;
use super::target::Target;
use super::{PAUSE, Places, Ready};
use crate::controller::{Block, Demand, Input};
use crate::edge::process::raw;

/// An instance that has just gone is looked for again this often.
const AGAIN: Duration = Duration::from_millis(10);
/// The door is gone: whoever was let in and found nobody waits this long for one that takes its place.
const GONE_FOR: Duration = Duration::from_secs(1);
/// Connections of one door that are passed on at a time, and at most half of all; the next ones wait in the kernel's
/// queue.
const OPEN_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Door {
    pub line: Line,
    pub port: u16,
    /// Of all doors together, and how many of them may be its own.
    places: Places,
    open_max: usize,
    targets: RefCell<Vec<Rc<Target>>>,
    /// Let in and not gone; of these, led to nobody: they tried in vain.
    open: Cell<usize>,
    stranded: Cell<usize>,
    /// There is no room for who waits.
    crowded: Cell<Option<Block>>,
    /// Somebody else listened where one of these was led to.
    taken: Cell<bool>,
    /// Since when it is attended to no more, and which one has its port now.
    gone: Cell<Option<Instant>>,
    next: RefCell<Option<Rc<Door>>>,
    /// Somebody was let in since the brain was told last.
    used: Cell<bool>,
}

impl Door {
    pub fn new(line: Line, port: u16, places: Places) -> Door {
        Door {
            line,
            port,
            open_max: OPEN_MAX.min(places.all / 2).max(1),
            places,
            targets: RefCell::default(),
            open: Cell::new(0),
            stranded: Cell::new(0),
            crowded: Cell::new(None),
            taken: Cell::new(false),
            gone: Cell::new(None),
            next: RefCell::default(),
            used: Cell::new(false),
        }
    }

    /// Those that stay keep their counts.
    pub fn lead(&self, ready: &[Ready]) {
        let before = self.targets.take();
        let target = |ready: &Ready| {
            let known = before.iter().find(|one| one.ready == *ready).cloned();
            known.unwrap_or_else(|| Rc::new(Target::new(ready.clone())))
        };
        self.targets.replace(ready.iter().map(target).collect());
        self.line.moved.notify_one();
    }

    /// Lets in whoever comes while somebody is ready and there is room, and lets wait whoever comes otherwise.
    pub async fn stand(self: Rc<Door>, listener: AsyncFd<TcpListener>) {
        let mut queue = Queue::default();
        loop {
            if self.lets_in() {
                self.settle(listener.get_ref(), &mut queue);
                tokio::select! {
                    biased;
                    () = self.line.moved.notified() => continue,
                    come = listener.readable() => drop(come),
                    // Places of other doors that are free again are no news here.
                    () = tokio::time::sleep(PAUSE), if self.crowded.get().is_some() => continue,
                }
                let Some(place) = self.place(&listener, &mut queue).await else { continue };
                match Door::accept(&listener) {
                    Ok(None) => {}
                    Ok(Some(stream)) => {
                        queue.took();
                        self.clone().let_in(stream, place);
                    }
                    Err(error) => {
                        tracing::warn!(service = %self.line.name, %error, "a connection cannot be taken; trying on");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            }
            self.set_crowded(self.is_full().then_some(Block::Full(self.open_max)));
            self.line.look(&listener, &mut queue, let_out).await;
        }
    }

    fn is_full(&self) -> bool {
        self.open.get() >= self.open_max
    }

    fn lets_in(&self) -> bool {
        !self.is_full() && !self.targets.borrow().is_empty()
    }

    fn set_crowded(&self, crowded: Option<Block>) {
        if self.crowded.replace(crowded) != crowded {
            self.line.news.notify_one();
        }
    }

    /// Nobody waits any more, unless for room.
    fn settle(&self, listener: &TcpListener, queue: &mut Queue) {
        if self.has_room_again() {
            self.set_crowded(None);
        }
        if self.crowded.get().is_some() && raw::queued(listener).is_ok_and(|waiting| waiting > 0) {
            return;
        }
        queue.forget();
        self.line.set_waits(false);
    }

    /// An eighth is free: one that comes and goes is no news.
    fn has_room_again(&self) -> bool {
        let (all, free) = match self.crowded.get() {
            Some(Block::Full(all)) => (all, all.saturating_sub(self.open.get())),
            Some(Block::NodeFull(all)) => (all, self.places.free.available_permits()),
            Some(Block::Taken) | None => return false,
        };
        free >= all.div_ceil(8)
    }

    /// For the next one that waits; none: nobody does any more, or nobody is let in.
    async fn place(&self, listener: &AsyncFd<TcpListener>, queue: &mut Queue) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.free.clone().try_acquire_owned() {
            return Some(place);
        }
        let waits = || raw::queued(listener.get_ref()).is_ok_and(|waiting| waiting > 0);
        let mut place = pin!(self.places.free.clone().acquire_owned());
        loop {
            if waits() {
                self.set_crowded(Some(Block::NodeFull(self.places.all)));
            }
            tokio::select! {
                biased;
                place = &mut place => return place.ok(),
                () = self.line.look(listener, queue, let_out) => {}
            }
            if !self.lets_in() || !waits() {
                return None;
            }
        }
    }

    /// The first one who waits, if somebody does.
    fn accept(listener: &AsyncFd<TcpListener>) -> io::Result<Option<TcpStream>> {
        match listener.try_io(Interest::READABLE, TcpListener::accept) {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                // Who vanishes without a word does not keep it awake for ever; without this, only that.
                let _unwatched = sockopt::set_socket_keepalive(&stream, true);
                TcpStream::from_std(stream).map(Some)
            }
            // It went away while it waited, or another look was before this one.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::WouldBlock) => {
                Ok(None)
            }
            Err(error) => Err(error),
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
                guest.door.line.count_sent_away(&client);
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
            block: self.crowded.get().or_else(|| (self.stranded.get() > 0 && self.taken.get()).then_some(Block::Taken)),
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

    /// Connects to the ready instance that has the fewest connections, or to the next; one that has just gone is waited
    /// for.
    async fn find(&mut self) -> Option<(Rc<Target>, TcpStream)> {
        let until = Instant::now() + self.door.line.hold();
        loop {
            let mut targets = self.door.targets.borrow().clone();
            targets.sort_by_key(|one| one.open.get());
            for target in targets.into_iter().filter(|one| !one.is_in_vain()) {
                let reached = tokio::time::timeout_at(until, target.reach(&self.door.places.sockets)).await;
                if let Ok(reached) = &reached {
                    let taken = reached.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
                    if self.door.taken.replace(taken) != taken {
                        self.door.line.news.notify_one();
                    }
                }
                if let Ok(Ok(server)) = reached {
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
        if self.door.crowded.get().is_some() {
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

fn let_out(listener: &TcpListener) -> Option<std::net::TcpStream> {
    Some(listener.accept().ok()?.0)
}

/// Both ways, until both have ended; an end is handed on for itself (a half-close).
async fn pass(mut client: TcpStream, mut server: TcpStream, target: &Target) {
    let _counted = target.count();
    // Where it cannot be set the last packet of an answer is late, no more.
    let _late = (client.set_nodelay(true), server.set_nodelay(true));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(port = target.ready.port, %error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener, TcpStream as Caller};
    use std::sync::Arc;

    use tokio::task::LocalSet;

    use super::*;
    use crate::edge::probe::Sockets;
    use crate::model::name::Name;

    /// What fails is heard of by then.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn bound() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a flag");
        let port = listener.local_addr().expect("bound").port();
        (listener, port)
    }

    /// A door that leads to a server which says nothing until its callers go.
    struct Stand {
        port: u16,
        told: mpsc::Receiver<Input>,
    }

    async fn serve(listener: TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).expect("watched");
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn_local(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    }

    impl Stand {
        fn new(hold: Duration, places: &Places) -> Stand {
            let ((listener, port), (server, to)) = (bound(), bound());
            let line = Line::new(Name::parse("web").expect("valid"), hold);
            let door = Rc::new(Door::new(line, port, places.clone()));
            let (out, told) = mpsc::channel(64);
            door.lead(&[Ready { port: to, life: None }]);
            spawn_local(door.clone().stand(raw::watched(listener).expect("watched")));
            spawn_local(door.tell(out));
            spawn_local(serve(server));
            Stand { port, told }
        }

        fn call(&self) -> Caller {
            Caller::connect((Ipv4Addr::LOCALHOST, self.port)).expect("connected")
        }

        /// Gives how many were sent away until it is told so.
        async fn until(&mut self, holds: impl Fn(Demand, u32) -> bool) -> u32 {
            let mut gone = 0;
            let heard = async {
                while let Some(Input::Demand { demand, sent_away, .. }) = self.told.recv().await {
                    gone += sent_away;
                    if holds(demand, gone) {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, heard).await.expect("it is told");
            gone
        }
    }

    #[tokio::test]
    async fn callers_of_one_door_leave_room_for_those_of_another_and_wait_no_longer_than_anybody() {
        let places = Places::of(4, Arc::new(Sockets::without_netlink()));
        let test = async {
            let mut first = Stand::new(Duration::from_millis(300), &places);
            let mut let_in = vec![first.call(), first.call()];
            let mut third = first.call();
            first.until(|demand, _| demand.block == Some(Block::Full(2)) && demand.waiting).await;
            let mut other = Stand::new(PATIENCE, &places);
            let _connected = other.call();
            other.until(|demand, _| demand.connected && demand.block.is_none()).await;
            assert_eq!(places.free.available_permits(), 1);

            // Nobody waits for longer than `holdRequests`.
            assert_eq!(first.until(|_, gone| gone > 0).await, 1);
            assert_eq!(third.read(&mut [0]).unwrap_or(0), 0, "it was closed");
            // Who has left by himself was not sent away.
            drop(first.call());
            let mut last = first.call();
            assert_eq!(first.until(|_, gone| gone > 0).await, 1);
            assert_eq!(last.read(&mut [0]).unwrap_or(0), 0, "it was closed");
            drop(let_in.pop());
            first.until(|demand, _| demand.block.is_none() && demand.connected).await;
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn where_all_places_are_taken_who_waits_is_told_of_and_comes_in_when_one_is_free() {
        let places = Places::of(2, Arc::new(Sockets::without_netlink()));
        let test = async {
            let mut full = [Stand::new(PATIENCE, &places), Stand::new(PATIENCE, &places)];
            let first = full[0].call();
            let _second = full[1].call();
            for one in &mut full {
                one.until(|demand, _| demand.connected).await;
            }
            let mut third = Stand::new(PATIENCE, &places);
            let _waits = third.call();
            third.until(|demand, _| demand.waiting && demand.block == Some(Block::NodeFull(2))).await;
            drop(first);
            third.until(|demand, _| demand.connected && !demand.waiting).await;
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn that_places_were_all_taken_is_told_until_an_eighth_is_free_whoever_had_them() {
        let places = Places::of(16, Arc::new(Sockets::without_netlink()));
        let test = async {
            let mut full = [Stand::new(PATIENCE, &places), Stand::new(PATIENCE, &places)];
            let mut inside: Vec<Vec<Caller>> = full.iter().map(|one| (0..8).map(|_| one.call()).collect()).collect();
            while places.free.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            let mut third = Stand::new(PATIENCE, &places);
            let _waits = third.call();
            third.until(|demand, _| demand.waiting && demand.block == Some(Block::NodeFull(16))).await;
            drop(inside[0].pop());
            third.until(|demand, _| demand.connected && !demand.waiting && demand.block.is_some()).await;
            inside[0].truncate(5);
            third.until(|demand, _| demand.block.is_none()).await;

            let _again = (full[1].call(), full[1].call());
            full[1].until(|demand, _| demand.waiting && demand.block == Some(Block::Full(8))).await;
            inside[1].truncate(6);
            full[1].until(|demand, _| !demand.waiting).await;
            inside[1].clear();
            full[1].until(|demand, _| demand.block.is_none() && demand.connected).await;
        };
        LocalSet::new().run_until(test).await;
    }

    fn ready(server: &tokio::net::TcpListener) -> Ready {
        Ready { port: server.local_addr().expect("bound").port(), life: None }
    }

    /// A door before two servers, and who has come through it to which of them.
    struct Two {
        door: Rc<Door>,
        front: tokio::net::TcpListener,
        servers: [tokio::net::TcpListener; 2],
    }

    impl Two {
        async fn new() -> Two {
            let bind = || tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            let front = bind().await.expect("bound");
            let servers = [bind().await.expect("bound"), bind().await.expect("bound")];
            let line = Line::new(Name::parse("web").expect("a name"), Duration::from_secs(10));
            let door = Rc::new(Door::new(line, 0, Places::of(100, Arc::new(Sockets::without_netlink()))));
            door.lead(&servers.each_ref().map(ready));
            Two { door, front, servers }
        }

        /// The next caller: to which server he was led, and both ends.
        async fn call(&self) -> (usize, [TcpStream; 2]) {
            let caller = TcpStream::connect(self.front.local_addr().expect("bound")).await.expect("connected");
            let (stream, _) = self.front.accept().await.expect("a caller");
            let place = self.door.places.free.clone().acquire_owned().await.expect("room");
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
            let world = Two::new().await;
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
            let both = world.servers.each_ref().map(ready);
            inside.retain(|(led, _)| *led == 0);
            world.door.lead(&both[..1]);
            world.door.lead(&both);
            for _ in 0..2 {
                inside.push(world.call().await);
            }
            assert_eq!((of(&inside, 0), of(&inside, 1)), (2, 2));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_call_that_is_over_before_it_is_told_is_told() {
        let test = async {
            let world = Two::new().await;
            assert!(!world.door.demand().connected);
            drop(world.call().await);
            while world.door.open.get() > 0 {
                tokio::task::yield_now().await;
            }
            assert!(world.door.demand().connected, "somebody was there");
            world.door.used.set(false);
            assert!(!world.door.demand().connected, "and is told once");
        };
        LocalSet::new().run_until(test).await;
    }
}
