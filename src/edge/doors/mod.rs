//! Doors: ports that plugd listens on for services that run only while somebody wants them.
//!
//! A door's listening socket lies with the keeper, so that it is there whatever becomes of a controller.
//! While no instance is ready nobody is let in: connections wait in the kernel's queue, where a controller
//! that is killed loses none of them. Once one is ready they are let in and passed on, both ways, until both
//! sides have ended. A service may also be handed the listening socket itself: then it lets them in, and plugd
//! looks after the port only while nothing of it runs. All of it runs on a thread of its own; what the brain hears
//! are levels (somebody waits, somebody is connected), at most ten a second and only where they change.

mod door;
mod handed;
mod line;
mod listen;
mod queue;
mod target;

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use self::door::Door;
use self::handed::Handed;
pub use self::handed::{Turn, looks};
use self::line::Line;
pub use self::listen::listen;
use crate::controller::Input;
use crate::edge::probe::{LifeContext, Sockets};
use crate::edge::process::raw;
use crate::model::name::Name;

/// Of all doors together, where there are descriptors enough.
const PLACES_MAX: usize = 16_384;
/// Threads that ask the kernel who is connected.
const BLOCKING: usize = 4;
/// After something could not be done for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread that attends to all doors. Dropping it ends the thread and what is passed on.
#[derive(Debug)]
pub struct Doors {
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Open { name: Name, listener: OwnedFd, hold: Duration, way: Way },
    Hold { name: Name, hold: Duration },
    Lead { name: Name, ready: Vec<Ready> },
    Turned { name: Name, every: Option<Duration> },
    Close { name: Name },
}

/// A ready instance, and where it listens on this machine.
#[derive(Debug, Clone)]
pub struct Ready {
    pub port: u16,
    /// By what is judged who listens there; none: whoever does.
    pub life: Option<Arc<LifeContext>>,
}

impl PartialEq for Ready {
    fn eq(&self, other: &Ready) -> bool {
        self.port == other.port && self.life.as_ref().map(Arc::as_ptr) == other.life.as_ref().map(Arc::as_ptr)
    }
}

/// How callers get in.
#[derive(Debug)]
pub enum Way {
    /// They are let in and passed on.
    Proxy,
    /// By the processes that the listening socket is handed to.
    Handed { port: u16, turn: Arc<Turn>, every: Option<Duration> },
}

impl Doors {
    /// `out` hears of demand.
    pub fn start(out: mpsc::Sender<Input>, sockets: Arc<Sockets>) -> io::Result<Doors> {
        let (orders, inbox) = mpsc::unbounded_channel();
        // Built where it runs: a runtime that is dropped inside another one panics.
        let (begun, begins) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_io().enable_time().max_blocking_threads(BLOCKING).build();
            let (runtime, answer) = match runtime {
                Ok(runtime) => (Some(runtime), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _who_asked_waits = begun.send(answer);
            if let Some(runtime) = runtime {
                LocalSet::new().block_on(&runtime, attend(inbox, out, sockets));
            }
        };
        std::thread::Builder::new().name("doors".into()).spawn(run)?;
        begins.recv().map_err(io::Error::other)??;
        Ok(Doors { orders })
    }

    /// Attends to a listening socket, nobody being let in yet. It replaces the one of that name.
    pub fn open(&self, name: &Name, listener: OwnedFd, hold: Duration, way: Way) {
        self.order(Order::Open { name: name.clone(), listener, hold, way });
    }

    /// How long somebody may wait at it.
    pub fn hold(&self, name: &Name, hold: Duration) {
        self.order(Order::Hold { name: name.clone(), hold });
    }

    /// To whom callers are led; none: nobody is let in.
    pub fn lead(&self, name: &Name, ready: Vec<Ready>) {
        self.order(Order::Lead { name: name.clone(), ready });
    }

    /// Of a listening socket that is handed over: whose turn it is may have changed, or how often it is looked at.
    pub fn turned(&self, name: &Name, every: Option<Duration>) {
        self.order(Order::Turned { name: name.clone(), every });
    }

    /// Who is connected stays connected.
    pub fn close(&self, name: &Name) {
        self.order(Order::Close { name: name.clone() });
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!(
                "the thread that attends to on-demand ports is gone: connections wait for the next controller"
            );
        }
    }
}

/// A door and the tasks that end with it.
struct Attended {
    kind: Attention,
    tasks: [AbortHandle; 2],
}

enum Attention {
    Door(Rc<Door>),
    Handed(Rc<Handed>),
}

impl Attended {
    fn proxy(line: Line, listener: OwnedFd, places: Places, out: mpsc::Sender<Input>) -> io::Result<Attended> {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = raw::watched(listener)?;
        let door = Rc::new(Door::new(line, port, places));
        let stand = spawn_local(door.clone().stand(listener)).abort_handle();
        let tell = spawn_local(door.clone().tell(out)).abort_handle();
        Ok(Attended { kind: Attention::Door(door), tasks: [stand, tell] })
    }

    fn handed(handed: Handed, listener: OwnedFd, out: mpsc::Sender<Input>) -> Attended {
        let handed = Rc::new(handed);
        let stand = spawn_local(handed.clone().stand(TcpListener::from(listener))).abort_handle();
        let tell = spawn_local(handed.clone().tell(out)).abort_handle();
        Attended { kind: Attention::Handed(handed), tasks: [stand, tell] }
    }

    /// Nobody is let in any more; those who were are at the door still.
    fn leave(self) -> Option<Rc<Door>> {
        match &self.kind {
            Attention::Door(door) => {
                door.leave();
                Some(door.clone())
            }
            Attention::Handed(_) => None,
        }
    }

    /// Whoever was let in at the same port and has found nobody yet is its guest from now on; where guests are let in
    /// by the processes themselves he comes to them like everybody.
    fn take_over(&self, left: &mut Vec<Rc<Door>>) {
        match &self.kind {
            Attention::Door(door) => {
                left.extract_if(.., |old| old.port == door.port).for_each(|old| old.send_on(door));
            }
            Attention::Handed(handed) => {
                let itself = [Ready { port: handed.port, life: None }];
                left.extract_if(.., |old| old.port == handed.port).for_each(|old| old.lead(&itself));
            }
        }
    }

    fn line(&self) -> &Line {
        match &self.kind {
            Attention::Door(door) => &door.line,
            Attention::Handed(handed) => &handed.line,
        }
    }

    fn lead(&self, ready: &[Ready]) {
        if let Attention::Door(door) = &self.kind {
            door.lead(ready);
        }
    }

    fn turned(&self, every: Option<Duration>) {
        if let Attention::Handed(handed) = &self.kind {
            handed.turned(every);
        }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What all doors have together.
#[derive(Debug, Clone)]
struct Places {
    free: Arc<Semaphore>,
    all: usize,
    sockets: Arc<Sockets>,
}

impl Places {
    /// Connections that are passed on at a time, each of which takes two descriptors: half of all descriptors are
    /// left to everything else.
    fn new(sockets: Arc<Sockets>) -> Places {
        Places::of(super::quarter_of_descriptors(getrlimit(Resource::Nofile).current, PLACES_MAX).max(1), sockets)
    }

    fn of(all: usize, sockets: Arc<Sockets>) -> Places {
        Places { free: Arc::new(Semaphore::new(all)), all, sockets }
    }
}

async fn attend(mut inbox: mpsc::UnboundedReceiver<Order>, out: mpsc::Sender<Input>, sockets: Arc<Sockets>) {
    let mut doors: HashMap<Name, Attended> = HashMap::new();
    // Those that are gone: not all who were let in have found somebody.
    let mut left: Vec<Rc<Door>> = Vec::new();
    let places = Places::new(sockets.clone());
    while let Some(order) = inbox.recv().await {
        left.retain(|door| Rc::strong_count(door) > 1);
        match order {
            Order::Open { name, listener, hold, way } => {
                left.extend(doors.remove(&name).and_then(Attended::leave));
                let line = Line::new(name.clone(), hold);
                let attended = match way {
                    Way::Proxy => Attended::proxy(line, listener, places.clone(), out.clone()),
                    Way::Handed { port, turn, every } => {
                        let handed = Handed::new(line, port, turn, sockets.clone(), every);
                        Ok(Attended::handed(handed, listener, out.clone()))
                    }
                };
                match attended {
                    Ok(attended) => {
                        attended.take_over(&mut left);
                        doors.insert(name, attended);
                    }
                    Err(error) => tracing::error!(service = %name, %error, "its port cannot be attended to"),
                }
            }
            Order::Hold { name, hold } => doors.get(&name).into_iter().for_each(|one| one.line().set_hold(hold)),
            Order::Lead { name, ready } => doors.get(&name).into_iter().for_each(|one| one.lead(&ready)),
            Order::Turned { name, every } => doors.get(&name).into_iter().for_each(|one| one.turned(every)),
            Order::Close { name } => left.extend(doors.remove(&name).and_then(Attended::leave)),
        }
    }
}
