//! The ports of services that run on demand: which are listened on, by which key the keeper holds them, and
//! on which ports the instances themselves listen.
//!
//! A listener is deposited as `door NAME PORT PRIVATE`. The next controller finds all three in the key, so that
//! an instance that runs is found where it is; while the port cannot be listened on they stand in the key of an empty
//! text, `private NAME PORT PRIVATE`. Where the listener itself is handed over both ports are the same.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Node, memory};
use crate::controller::{Declaration, Demand, Input, MISSED, SHUT, is_listened_for};
use crate::edge::doors::{self, Doors, Ready, Turn, Way};
use crate::edge::process::prepare::{self, Unpreparable};
use crate::edge::process::raw;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::reason::Reason;
use crate::model::spec::{Pass, Spec};
use crate::model::view::ServiceView;

/// Where outgoing connections get their ports if the kernel does not say otherwise.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);
/// Below this a port is somebody's.
const LOWEST: u16 = 20_000;
/// A port that cannot be listened on is tried again this often.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Held {
    edge: Doors,
    doors: HashMap<Name, Door>,
    /// Listening sockets that were given up in this turn, by port: whoever is to listen there takes them up, and
    /// with them who waits.
    given_up: HashMap<u16, Arc<OwnedFd>>,
    /// Of these it was told that no private port is free.
    portless: HashSet<Name>,
}

struct Door {
    port: u16,
    pass: Pass,
    /// The first instance's own; the port itself where they share its socket.
    private: u16,
    /// Instances have as many in a row.
    count: u16,
    hold: Duration,
    idle_stop: Option<Duration>,
    /// Between two looks at who is connected to a socket that is handed over.
    every: Option<Duration>,
    /// Of a socket that is handed over.
    turn: Arc<Turn>,
    /// As it lies with the keeper.
    listener: Option<Arc<OwnedFd>>,
    /// It is attended to.
    open: bool,
    /// Where the ready instances listen.
    leads_to: Vec<Ready>,
    /// That it cannot be listened on.
    told: bool,
    /// The key by which its private port is noted, while there is no listener.
    noted: Option<String>,
}

impl Held {
    pub fn new(edge: Doors) -> Held {
        Held { edge, doors: HashMap::new(), given_up: HashMap::new(), portless: HashSet::new() }
    }
}

impl Door {
    fn key(&self, name: &Name) -> String {
        key(DOOR, name, self.port, self.private)
    }

    fn way(&self) -> Way {
        match self.pass {
            Pass::Proxy => Way::Proxy,
            Pass::Socket => Way::Handed { port: self.port, turn: self.turn.clone(), every: self.every },
        }
    }
}

const DOOR: &str = "door";
const PRIVATE: &str = "private";

fn key(of: &str, name: &Name, port: u16, private: u16) -> String {
    format!("{of} {name} {port} {private}")
}

fn read_key<'k>(of: &str, key: &'k [u8]) -> Option<(&'k str, u16, u16)> {
    let mut words = std::str::from_utf8(key).ok()?.strip_prefix(of)?.strip_prefix(' ')?.split(' ');
    let found = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(found)
}

impl Node {
    /// Before the brain hears of a declaration: a service on demand is told its private port.
    pub(super) fn enter_door(&mut self, declaration: &mut Declaration) {
        let spec = &declaration.spec;
        let name = spec.name.clone();
        let (Some(activation), Some(port), Some(pass)) =
            (spec.activation.clone(), spec.process.port, spec.process.on_demand)
        else {
            self.close_door(&name);
            return;
        };
        let count = u16::try_from(spec.replicas).unwrap_or(u16::MAX).max(1);
        let found = |of: &str| {
            let mut of_it =
                self.deposits.keys().filter_map(|key| read_key(of, key)).filter(|key| key.0 == name.as_str());
            of_it.next().map(|(_, port, private)| (port, private))
        };
        let (deposited, noted) = (found(DOOR), found(PRIVATE));
        let known = self.held.doors.get(&name).map(|door| (door.port, door.private)).or(deposited).or(noted);
        let noted = noted.map(|(port, private)| key(PRIVATE, &name, port, private));
        let noted = noted.filter(|key| self.deposits.remove(key.as_bytes()).is_some());
        // One that shared the port has none of its own.
        let own = known.and_then(|(of, private)| (private != of && private != port).then_some(private));
        let private = match pass {
            Pass::Socket => Some(port),
            Pass::Proxy => own.or_else(|| self.free_private(&name, port, count)),
        };
        let Some(private) = private else {
            let (sender, reason) = (self.sender.clone(), Reason::ResourceExhausted);
            let message = Some("no port of this machine is free for it to listen on behind its own".into());
            self.held.portless.insert(name.clone());
            // After the brain knows it.
            tokio::task::spawn_local(async move { sender.send(Input::Problem { name, reason, message }).await });
            return;
        };
        self.has_port(&name);
        if pass == Pass::Proxy {
            let mut spec = (**spec).clone();
            spec.process.private_port = Some(private);
            declaration.spec = Arc::new(spec);
        }
        if self.held.doors.get(&name).is_some_and(|door| door.port != port) {
            self.close_door(&name);
        }
        let was = deposited.filter(|(of, _)| *of == port).map(|(of, private)| key(DOOR, &name, of, private));
        let found = was.and_then(|was| Some((self.deposits.remove(was.as_bytes()).map(Arc::new)?, was)));
        let (hold, idle_stop) = (activation.hold_requests, activation.idle_stop);
        let door = self.held.doors.entry(name.clone()).or_insert(Door {
            port,
            pass,
            private,
            count,
            hold,
            idle_stop,
            every: None,
            turn: Arc::default(),
            listener: None,
            open: false,
            leads_to: Vec::new(),
            told: false,
            noted: None,
        });
        door.noted = door.noted.take().or(noted);
        let (listener, was) = match found {
            Some((listener, was)) => (Some(listener), was),
            None => (door.listener.clone(), door.key(&name)),
        };
        // Another way in: whoever waits is let in by that.
        door.open &= door.pass == pass;
        (door.listener, door.pass, door.private, door.count) = (listener, pass, private, count);
        if door.key(&name) != was {
            self.rename(&name, &was);
        }
        let Some(door) = self.held.doors.get_mut(&name) else { return };
        if door.hold != hold {
            door.hold = hold;
            self.held.edge.hold(&name, hold);
        }
        door.idle_stop = idle_stop;
        self.note_private(&name);
    }

    /// Where its instances listen the next controller knows by the listener's key; where there is none, by this.
    fn note_private(&mut self, name: &Name) {
        let Some(door) = self.held.doors.get_mut(name) else { return };
        let is_noted = door.pass == Pass::Proxy && door.listener.is_none();
        let wanted = is_noted.then(|| key(PRIVATE, name, door.port, door.private));
        if door.noted == wanted {
            return;
        }
        if let Some(before) = door.noted.take() {
            self.keeper.withdraw(before.as_bytes());
        }
        // Where that cannot be made the next controller looks for another.
        if let Some((key, text)) = wanted.and_then(|key| Some((key, memory::hold(b"").ok()?))) {
            self.keeper.deposit(key.as_bytes(), Arc::new(text));
            door.noted = Some(key);
        }
    }

    /// The keeper holds its listener by another key from now on.
    fn rename(&mut self, name: &Name, was: &str) {
        let Some(door) = self.held.doors.get(name) else { return };
        if let Some(listener) = &door.listener {
            self.keeper.deposit(door.key(name).as_bytes(), listener.clone());
            self.keeper.withdraw(was.as_bytes());
        }
    }

    /// Where callers are led, and whether anybody is listened for, follows what is announced.
    pub(super) fn lead_callers(&mut self, view: &ServiceView) {
        let Some(pass) = self.held.doors.get(&view.service).map(|door| door.pass) else { return };
        let shared = pass == Pass::Socket;
        let runs = shared && self.runs(&view.service);
        let ready = self.ready_of(view);
        let Some(door) = self.held.doors.get_mut(&view.service) else { return };
        let is_missed = view.desired > 1 && view.ready < view.desired;
        let every = doors::looks(door.idle_stop, is_missed);
        let is_other = std::mem::replace(&mut door.every, every) != every;
        if shared && (door.turn.set(runs) || is_other) {
            self.held.edge.turned(&view.service, every);
        }
        // One from before an edit may listen there itself; plugd never calls on itself.
        let ready: Vec<Ready> = ready.into_iter().filter(|one| one.port != door.port).collect();
        if door.leads_to != ready {
            door.leads_to.clone_from(&ready);
            self.held.edge.lead(&view.service, ready);
        }
        if is_listened_for(view) {
            self.open_door(&view.service);
        } else {
            self.shut_door(&view.service);
        }
    }

    fn ready_of(&self, view: &ServiceView) -> Vec<Ready> {
        let ready = view.instances.iter().filter(|instance| instance.ready);
        let ready = ready.filter_map(|instance| Some((instance.pid, instance.port?)));
        let life = |pid| self.lives_of(&view.service).find(|(_, live)| Some(live.tree.pid) == pid && !live.ended);
        ready.map(|(pid, port)| Ready { port, life: life(pid).map(|(_, live)| live.context.clone()) }).collect()
    }

    /// Listens, unless it does.
    fn open_door(&mut self, name: &Name) {
        let Some(door) = self.held.doors.get_mut(name).filter(|door| !door.open) else { return };
        let (port, key) = (door.port, door.key(name));
        let listener = match door.listener.clone() {
            Some(listener) => Ok(listener),
            None => {
                let given_up = self.held.given_up.remove(&port);
                given_up.map_or_else(|| doors::listen(port).map(Arc::new), Ok).inspect(|listener| {
                    self.keeper.deposit(key.as_bytes(), listener.clone());
                    door.listener = Some(listener.clone());
                })
            }
        };
        let opened = listener.and_then(|listener| listener.as_fd().try_clone_to_owned());
        self.note_private(name);
        let Some(door) = self.held.doors.get_mut(name) else { return };
        match opened {
            Ok(listener) => {
                door.open = true;
                self.held.edge.open(name, listener, door.hold, door.way());
                self.held.edge.lead(name, door.leads_to.clone());
                self.queue.push_back(Input::Door { name: name.clone(), listens: true });
                self.take_back_words(name);
            }
            Err(error) => self.cannot_listen(name, port, &error),
        }
    }

    /// Found out before the port was free: by now it is listened on or soon will be, or nobody is to listen there.
    pub(super) fn is_overtaken(&self, input: &Input) -> bool {
        let Input::Problem { name, reason, message: Some(_) } = input else { return false };
        if *reason == Reason::ResourceExhausted {
            return !self.held.portless.contains(name);
        }
        match self.held.doors.get(name) {
            Some(door) => {
                let is_left = || self.listens_at(name, door.port).is_some_and(|other| self.controller.leaves(other));
                SHUT.contains(reason) && (door.open || is_left())
            }
            None => SHUT.contains(reason),
        }
    }

    /// Another service that plugd listens for on this port.
    fn listens_at(&self, name: &Name, port: u16) -> Option<&Name> {
        let mut others =
            self.held.doors.iter().filter(|(other, door)| *other != name && door.open && door.port == port);
        others.next().map(|(other, _)| other)
    }

    fn take_back_words(&mut self, name: &Name) {
        let Some(door) = self.held.doors.get_mut(name) else { return };
        if std::mem::take(&mut door.told) {
            for reason in SHUT {
                self.queue.push_back(Input::Problem { name: name.clone(), reason, message: None });
            }
        }
    }

    /// Its port cannot be listened on: said, and tried again.
    fn cannot_listen(&mut self, name: &Name, port: u16, error: &io::Error) {
        if let Some(door) = self.held.doors.get_mut(name) {
            door.told = true;
        }
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => Reason::AddressInUse,
            io::ErrorKind::PermissionDenied => Reason::PermissionDenied,
            _ => Reason::Error,
        };
        let first_to_know = self.awaited_ports.insert(port);
        let mut message = format!("plugd cannot listen on port {port} for it: {error}");
        let other = self.listens_at(name, port);
        let other = other.map(|other| format!("plugd listens on port {port} for the service {other} already"));
        let (sockets, sender, name) = (self.sockets.clone(), self.sender.clone(), name.clone());
        tokio::task::spawn_local(async move {
            let mut own = false;
            match other {
                Some(other) => {
                    message = other;
                    // It may be the same service under another name, which is missed a moment later.
                    tokio::time::sleep(MISSED).await;
                }
                None if reason == Reason::AddressInUse => {
                    let inode = sockets.inodes(port).first().copied();
                    let holder = match inode {
                        Some(inode) => sockets.holder(inode).await,
                        None => None,
                    };
                    if let Some(holder) = &holder {
                        // Of nobody: its own instances count as others.
                        let nobody = Instance { service: name.clone(), index: u32::MAX };
                        let owner = sockets.neighbours.owner(holder.pid, &LifeId { instance: nobody, life: 0 });
                        own = owner.as_ref().is_some_and(|owner| owner.instance.service == name);
                        let of = owner.map_or(String::new(), |owner| format!(" of {}", owner.instance));
                        message = format!("port {port} is held by {holder}{of}");
                    } else if inode.is_some() {
                        message = format!("port {port} is held by a process that cannot be seen");
                    }
                }
                None => {}
            }
            // Its version from before an edit makes room, and is no problem. Where the loop is gone nobody is
            // left to be told.
            if !own {
                let _ = sender.send(Input::Problem { name, reason, message: Some(message) }).await;
            }
            if first_to_know {
                tokio::time::sleep(AGAIN).await;
                sockets.freed(port).await;
                let _ = sender.send(Input::PortFree(port)).await;
            }
        });
    }

    /// A port may be free now that somebody waited for.
    pub(super) fn open_doors_of(&mut self, port: u16) {
        let waits = |door: &Door| door.port == port && !door.open && door.told;
        let waiting: Vec<Name> =
            self.held.doors.iter().filter(|(_, door)| waits(door)).map(|(name, _)| name.clone()).collect();
        waiting.iter().for_each(|name| self.open_door(name));
    }

    /// It is not listened for any more: a caller is refused, unless another service is to have the port.
    fn shut_door(&mut self, name: &Name) {
        let Some(door) = self.held.doors.get_mut(name) else { return };
        if std::mem::take(&mut door.open) {
            self.held.edge.close(name);
            let demand = Demand::default();
            self.queue.push_back(Input::Demand { name: name.clone(), demand, sent_away: 0 });
            self.queue.push_back(Input::Door { name: name.clone(), listens: false });
        }
        let (listener, port, key, pass) = (door.listener.take(), door.port, door.key(name), door.pass);
        if let Some(listener) = listener {
            // One that a process listens on as well is no other service's.
            if pass == Pass::Proxy || !self.runs(name) {
                self.held.given_up.insert(port, listener);
            }
            self.keeper.withdraw(key.as_bytes());
        }
        self.note_private(name);
        self.take_back_words(name);
        self.open_doors_of(port);
    }

    /// The turn is over: where nobody took them up nobody listens.
    pub(super) fn drop_given_up(&mut self) {
        self.held.given_up.clear();
    }

    pub(super) fn close_door(&mut self, name: &Name) {
        self.shut_door(name);
        if let Some(key) = self.held.doors.remove(name).and_then(|door| door.noted) {
            self.keeper.withdraw(key.as_bytes());
        }
        self.has_port(name);
    }

    /// It has a private port, or needs none: what was told of that is taken back.
    fn has_port(&mut self, name: &Name) {
        if self.held.portless.remove(name) {
            let reason = Reason::ResourceExhausted;
            self.queue.push_back(Input::Problem { name: name.clone(), reason, message: None });
        }
    }

    /// Before a process begins: where somebody has taken its port meanwhile, it is given another. Those that run
    /// keep theirs.
    pub(super) fn settle_private(&mut self, life: &LifeId, spec: Arc<Spec>) -> Arc<Spec> {
        let name = &life.instance.service;
        let Some(door) = self.held.doors.get(name).filter(|door| door.pass == Pass::Proxy) else { return spec };
        let begins = self.preparing.spawns().any(|other| other.instance.service == *name && other != life);
        let alone = !self.runs(name) && !begins;
        let taken =
            |private: u16| (private..=private.saturating_add(door.count - 1)).any(|own| !self.sockets.free(own));
        let (port, count) = (door.port, door.count);
        if !alone || !taken(door.private) {
            return spec;
        }
        let Some(private) = self.free_private(name, port, count) else { return spec };
        let Some(door) = self.held.doors.get_mut(name) else { return spec };
        let was = door.key(name);
        tracing::info!(service = %name, "port {} is taken; it listens on {private} from now on", door.private);
        door.private = private;
        self.rename(name, &was);
        self.note_private(name);
        self.queue.push_back(Input::PrivatePort { name: name.clone(), port: private });
        let mut spec = (*spec).clone();
        spec.process.private_port = Some(private);
        Arc::new(spec)
    }

    /// A process of it is there, or asked for.
    fn runs(&self, name: &Name) -> bool {
        let of_it = |other: &LifeId| other.instance.service == *name;
        self.lives_of(name).any(|(_, live)| !live.ended) || self.pending.keys().any(of_it)
    }

    /// The listening socket that a process of it gets.
    pub(super) fn hand_over(&mut self, name: &Name) -> Result<Arc<OwnedFd>, Unpreparable> {
        let first = !self.runs(name);
        // A start by hand, or after an edit, may come before it is announced.
        self.open_door(name);
        let door = self.held.doors.get(name).filter(|door| door.pass == Pass::Socket);
        let Some(door) = door else {
            return Err(prepare::fault(Reason::Error, "it is not on demand any more: its manifest has changed"));
        };
        let Some(listener) = &door.listener else {
            let message = format!("plugd cannot listen on port {} for it, and has no socket to hand over", door.port);
            return Err(prepare::fault(Reason::AddressInUse, message));
        };
        door.turn.hand_over(listener, first).map_err(|error| {
            prepare::fault(Reason::Error, format!("its listening socket cannot be handed over: {error}"))
        })?;
        self.held.edge.turned(name, door.every);
        Ok(listener.clone())
    }

    /// One of it has ended: whether somebody waits whom it was to let in, and none of it is there to do that.
    pub(super) fn leaves_callers(&self, name: &Name) -> bool {
        let door = self.held.doors.get(name).filter(|door| door.pass == Pass::Socket);
        let listener = door.and_then(|door| door.listener.as_ref());
        listener.is_some_and(|listener| !self.runs(name) && raw::queued(listener).is_ok_and(|waiting| waiting > 0))
    }

    /// The sockets that a process of it was handed, for its checks.
    pub(super) fn handed(&self, spec: &Spec) -> Vec<u64> {
        let door = self.held.doors.get(&spec.name).filter(|_| spec.process.on_demand == Some(Pass::Socket));
        let listener = door.and_then(|door| door.listener.as_ref());
        listener.and_then(|listener| rustix::fs::fstat(listener).ok()).map(|stat| stat.st_ino).into_iter().collect()
    }

    /// So many ports in a row that no manifest names and nobody holds; one that no outgoing connection is given, where
    /// the machine has such.
    fn free_private(&self, name: &Name, port: u16, count: u16) -> Option<u16> {
        let (low, high) = ephemeral();
        let declared = self.specs.values().flat_map(|spec| {
            let many = u16::try_from(spec.replicas).unwrap_or(u16::MAX);
            spec.process.ports.iter().map(move |named| (named.port, many))
        });
        let others = self.held.doors.iter().filter(|(other, _)| *other != name);
        let taken: Vec<(u16, u16)> =
            declared.chain(others.map(|(_, door)| (door.private, door.count))).chain([(port, 1)]).collect();
        let is_free = |first: &u16| {
            let Some(last) = first.checked_add(count - 1) else { return false };
            let apart = taken.iter().all(|(from, many)| last < *from || *first > from.saturating_add(many.max(&1) - 1));
            let mixed = (low..=high).contains(first) != (low..=high).contains(&last);
            apart && !mixed && (*first..=last).all(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
        };
        // Each begins elsewhere, so that neither two services nor two nodes of a machine are after the same one.
        let mut hasher = DefaultHasher::new();
        (&*self.key, name.as_str()).hash(&mut hasher);
        candidates((low, high), hasher.finish()).find(is_free)
    }
}

/// Those that outgoing connections are not given, from somewhere on, then the others: a server's tuning may leave none.
fn candidates((low, high): (u16, u16), from: u64) -> impl Iterator<Item = u16> {
    let given = low..=high;
    let ports = move |inside: bool| {
        let given = given.clone();
        (LOWEST..=u16::MAX).filter(move |port| given.contains(port) == inside)
    };
    [false, true].into_iter().flat_map(move |inside| {
        let begin = usize::try_from(from % (ports(inside).count().max(1) as u64)).unwrap_or(0);
        ports(inside).skip(begin).chain(ports(inside).take(begin))
    })
}

fn ephemeral() -> (u16, u16) {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    read().unwrap_or(EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_port_is_one_that_no_outgoing_connection_is_given_where_there_is_such() {
        let all: Vec<u16> = candidates((32_768, 60_999), 7).collect();
        let outside = all.iter().take_while(|port| !(32_768..=60_999).contains(*port)).count();
        assert_eq!(outside, usize::from(32_768 - LOWEST) + 65_536 - 61_000);
        assert_eq!((all[0], all.len()), (LOWEST + 7, 65_536 - usize::from(LOWEST)));
        // As a server is tuned.
        assert_eq!(candidates((1_024, 65_535), u64::from(u16::MAX)).count(), 65_536 - usize::from(LOWEST));
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_others_are_not() {
        let name = Name::parse("web").expect("a name");
        for of in [DOOR, PRIVATE] {
            assert_eq!(read_key(of, key(of, &name, 8080, 61_000).as_bytes()), Some(("web", 8080, 61_000)));
        }
        for other in ["notify web/0#1", "door web 8080", "door web 8080 99999", "door web 80 90 x", ""] {
            assert_eq!(read_key(DOOR, other.as_bytes()), None, "{other}");
        }
    }
}
