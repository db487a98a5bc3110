//! The keeper's loop: wait, note what ended, answer what is asked, tell what there is to tell.
//!
//! One thread. Nothing here waits for anybody but the kernel: news for the controller stand in `outbox`
//! as small notes (what they say is looked up when they are sent) and go when its socket takes them.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use super::farewell::Farewell;
use super::launch::{Fault, HEARD, Stack};
use super::minder::{Minder, Tick};
use super::sys::{self, Poll};
use super::table::Table;
use super::wire::{Entry, Id, Notice, PACKET_MAX, PROTOCOL, Stage, Welcome};

/// SIGCHLD comes with every exit; a look for unknown children costs 50 ns a child, so one in this time.
const STRANGERS_EVERY: u64 = 20_000_000;
/// Strangers reaped at a time, between which everything else is served.
const STRANGERS_AT_ONCE: usize = 1024;
/// Requests answered at a time, at 0.1 ms each, before exits are looked at again.
const REQUESTS_AT_ONCE: usize = 16;
/// Notes that wait before nothing more is read from a controller that does not read.
const OUTBOX_MAX: usize = 1024;
/// Too many descriptors in flight (ETOOMANYREFS): the kernel does not tell when there is room again.
const IN_FLIGHT_DELAY: u64 = 2_000_000;
/// The signals that ask for an end.
const STOPPING: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// Tags in epoll. A life's number is shifted by two, the lowest bit set for its verdict.
mod tag {
    pub const SIGNALS: u64 = 2;
    pub const CHILDREN: u64 = 6;
    pub const CONTROLLER: u64 = 10;
    pub const SOCKET: u64 = 14;
    pub fn exit_of(number: u64) -> u64 {
        number << 2
    }
    pub fn verdict_of(number: u64) -> u64 {
        number << 2 | 1
    }
}

#[derive(Debug)]
pub struct Keeper {
    pub poll: Poll,
    pub signals: OwnedFd,
    pub children: OwnedFd,
    pub stack: Stack,
    pub null: OwnedFd,
    pub lock: Option<OwnedFd>,
    /// As it was given to the keeper, and to its services.
    pub open_files: libc::rlimit,
    /// HUP was ignored at the start (nohup).
    pub deaf_to_hup: bool,
    pub table: Table,
    pub deposits: BTreeMap<Box<[u8]>, OwnedFd>,
    pub minder: Minder,
    pub outbox: VecDeque<Note>,
    /// The socket was full: EPOLLOUT will tell.
    pub full: bool,
    /// What epoll is asked of the socket.
    pub interest: i32,
    pub retry_at: Option<u64>,
    pub strangers_at: Option<u64>,
    /// Microseconds since the epoch.
    pub started_at: u64,
    /// Nanoseconds.
    pub grace: u64,
    /// What came while there was no controller, but for the signals that ask for an end.
    pub unheard: Vec<i32>,
    pub stop_heard: Option<i32>,
    pub farewell: Option<Farewell>,
}

/// News for the controller, or the place up to which a list has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Welcome,
    Entries(u64),
    Deposits(Option<Box<[u8]>>),
    Spawned(u64),
    Failed { key: Box<[u8]>, life: u64, fault: Fault },
    Exited(u64),
    Signal(i32),
    Reexecuted(i32),
    Ping,
}

impl Keeper {
    pub fn signals_heard(deaf_to_hup: bool) -> Vec<i32> {
        HEARD.into_iter().filter(|signal| *signal != libc::SIGHUP || !deaf_to_hup).collect()
    }

    /// Watches what there is from the start; `sys::take_signals` made the two descriptors.
    pub fn watch_all(&self) -> std::io::Result<()> {
        self.poll.add(self.signals.as_fd(), libc::EPOLLIN, tag::SIGNALS)?;
        self.poll.add(self.children.as_fd(), libc::EPOLLIN | libc::EPOLLONESHOT, tag::CHILDREN)?;
        self.minder.watch(&self.poll, tag::CONTROLLER, tag::SOCKET);
        for (number, entry) in self.table.iter() {
            self.watch(number, entry);
        }
        Ok(())
    }

    /// A life that cannot be watched (no memory) is found by the look for strangers when it ends.
    pub fn watch(&self, number: u64, entry: &super::table::Entry) {
        if let Some(pidfd) = &entry.pidfd {
            let _found_later = self.poll.add(pidfd.as_fd(), libc::EPOLLIN, tag::exit_of(number));
        }
        if let Some(verdict) = &entry.verdict {
            let _read_at_its_end = self.poll.add(verdict.as_fd(), libc::EPOLLIN, tag::verdict_of(number));
        }
    }

    pub fn run(mut self) -> ! {
        let mut buffer = vec![0; PACKET_MAX];
        let mut ready = Vec::new();
        loop {
            self.act_on_time(sys::now());
            self.flush();
            self.set_interest();
            let timeout = self.deadline().map(|deadline| {
                let millis = deadline.saturating_sub(sys::now()).div_ceil(1_000_000);
                i32::try_from(millis).unwrap_or(i32::MAX)
            });
            self.poll.wait(&mut ready, timeout);
            for (tag, events) in &ready {
                match *tag {
                    tag::SIGNALS => self.hear_signals(),
                    tag::CHILDREN => self.strangers_at = Some(sys::now() + STRANGERS_EVERY),
                    tag::CONTROLLER => self.controller_ended(&mut buffer),
                    tag::SOCKET => self.serve(*events, &mut buffer),
                    life if life & 3 == 1 => self.executed(life >> 2),
                    life => self.ended(life >> 2),
                }
                self.flush();
                self.set_interest();
            }
        }
    }

    fn deadline(&self) -> Option<u64> {
        let away = self.away_limit();
        let minder = self.minder.deadline().filter(|_| self.farewell.is_none());
        let farewell = self.farewell.as_ref().map(Farewell::next_look);
        [self.strangers_at, self.retry_at, minder, away, farewell].into_iter().flatten().min()
    }

    /// When a stop that somebody asked for will be done without a controller.
    fn away_limit(&self) -> Option<u64> {
        let waits = self.stop_heard.is_some() && self.farewell.is_none();
        self.minder.away_since.filter(|_| waits).map(|since| since + self.minder.ping_every())
    }

    fn act_on_time(&mut self, now: u64) {
        let due = |at: Option<u64>| at.is_some_and(|at| now >= at);
        if due(self.strangers_at) {
            self.reap_strangers(now);
        }
        if due(self.retry_at) {
            self.retry_at = None;
        }
        if due(self.away_limit()) {
            self.begin_farewell("no controller to stop the services", now);
        }
        if self.farewell.is_some() {
            self.go_on_with_farewell(now);
            return;
        }
        if due(self.minder.restart_at) {
            self.start_controller(now);
        }
        match self.minder.tick(now) {
            Tick::Nothing => {}
            Tick::Ping => self.tell(Note::Ping),
            Tick::Hung => {
                sys::say("the controller answers nothing; killing it and starting another");
                self.minder.kill();
            }
        }
    }

    fn start_controller(&mut self, now: u64) {
        self.minder.start(&self.stack, now);
        self.minder.watch(&self.poll, tag::CONTROLLER, tag::SOCKET);
        self.outbox.clear();
        self.full = false;
        self.interest = libc::EPOLLIN;
        if self.minder.process.is_some() {
            self.tell(Note::Welcome);
            for signal in std::mem::take(&mut self.unheard) {
                self.tell(Note::Signal(signal));
            }
        }
    }

    /// Its pidfd says so. What it had sent is still answered: it may have been its last word.
    fn controller_ended(&mut self, buffer: &mut [u8]) {
        let Some((pid, pidfd)) = &self.minder.process else { return };
        let Ok(Some(exit)) = sys::reap(*pid, false) else { return };
        if self.farewell.is_none() {
            sys::say(&format!("the controller (pid {pid}) ended with {:?}; starting another", exit.how));
        }
        self.poll.remove(pidfd.as_fd());
        self.minder.ended(exit.how, sys::now());
        while self.serve_one(buffer) {}
        self.lose_socket();
    }

    fn lose_socket(&mut self) {
        if let Some(socket) = self.minder.socket.take() {
            self.poll.remove(socket.as_fd());
        }
        self.outbox.clear();
        self.retry_at = None;
    }

    fn serve(&mut self, events: i32, buffer: &mut [u8]) {
        if events & (libc::EPOLLOUT | libc::EPOLLHUP) != 0 {
            self.full = false;
            self.flush();
        }
        for _ in 0..REQUESTS_AT_ONCE {
            if self.outbox.len() >= OUTBOX_MAX || !self.serve_one(buffer) {
                return;
            }
        }
    }

    /// One request; false where there is none.
    fn serve_one(&mut self, buffer: &mut [u8]) -> bool {
        let Some(socket) = &self.minder.socket else { return false };
        match sys::receive(socket.as_fd(), buffer) {
            Ok(received) if received.length > 0 => {
                self.minder.heard();
                let packet = buffer.get(..received.length).unwrap_or(&[]);
                self.answer(packet, received.fds, received.truncated);
                self.flush();
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            // It closed its end: whatever it is doing, it can never be asked again.
            Ok(_) | Err(_) => {
                self.lose_socket();
                self.minder.kill();
                false
            }
        }
    }

    fn hear_signals(&mut self) {
        for signal in sys::read_signals(self.signals.as_fd()) {
            let now = sys::now();
            let stopping = STOPPING.contains(&signal);
            let again = stopping && self.stop_heard.replace(signal).is_some();
            let away = self.minder.away_since.is_some_and(|since| now.saturating_sub(since) > self.minder.ping_every());
            if stopping && (away || again && self.minder.silent > 0) {
                self.begin_farewell("the controller does not answer", now);
            } else if self.minder.socket.is_some() {
                self.tell(Note::Signal(signal));
            } else if !stopping && !self.unheard.contains(&signal) {
                self.unheard.push(signal); // one that asks for an end stands in Welcome
            }
        }
    }

    /// The exec of a plain copy is over, one way or the other.
    fn executed(&mut self, number: u64) {
        let Some(entry) = self.table.get_mut(number) else { return };
        let Some(verdict) = entry.verdict.take() else { return };
        let mut report = [0; 5];
        let length = sys::read(verdict.as_fd(), &mut report).unwrap_or(0);
        self.poll.remove(verdict.as_fd());
        let [stage, errno @ ..] = report;
        entry.fault = (length > 0).then(|| Fault {
            stage: Stage::from_number(stage).unwrap_or(Stage::Exec),
            errno: i32::from_ne_bytes(errno),
        });
        if entry.fault.is_none() {
            self.tell(Note::Spawned(number));
        }
    }

    /// Takes up a verdict that is there to be read.
    pub fn executed_by_now(&mut self, number: u64) {
        let verdict = self.table.get(number).and_then(|entry| entry.verdict.as_ref());
        if verdict.is_some_and(|verdict| sys::is_readable(verdict.as_fd())) {
            self.executed(number);
        }
    }

    /// A known child may have ended.
    fn ended(&mut self, number: u64) {
        let Some(entry) = self.table.get(number).filter(|entry| entry.exit.is_none()) else { return };
        let Ok(Some(exit)) = sys::reap(entry.pid, false) else { return };
        if let Some(pidfd) = &entry.pidfd {
            self.poll.remove(pidfd.as_fd()); // the controller has a copy, so closing is not enough
        }
        self.executed(number);
        let owed = self.outbox.contains(&Note::Spawned(number));
        self.table.end(number, exit, owed);
        match self.table.get(number).and_then(|entry| entry.fault) {
            None => self.tell(Note::Exited(number)),
            Some(fault) => {
                if let Some(entry) = self.table.remove(number) {
                    self.tell(Note::Failed { key: entry.key, life: entry.life, fault });
                }
            }
        }
    }

    /// Reaps orphans that came to the keeper, and whatever the poll could not watch. A look names one ended
    /// child, so known ones are reaped on the way: they would hide the others.
    fn reap_strangers(&mut self, now: u64) {
        let _news = sys::read_signals(self.children.as_fd());
        for _ in 0..STRANGERS_AT_ONCE {
            let Ok(Some(pid)) = sys::peek_ended() else {
                self.strangers_at = None;
                let events = libc::EPOLLIN | libc::EPOLLONESHOT;
                let _watched = self.poll.change(self.children.as_fd(), events, tag::CHILDREN);
                return;
            };
            if let Some(number) = self.table.number_of_pid(pid) {
                self.ended(number);
            } else if self.minder.is(pid) {
                self.controller_ended(&mut vec![0; PACKET_MAX]);
            } else {
                let _how_it_ended = sys::reap(pid, false);
            }
        }
        self.strangers_at = Some(now + STRANGERS_EVERY);
    }

    /// Notes news for the controller; without one there is nobody to tell, and a new one lists.
    pub fn tell(&mut self, note: Note) {
        if self.minder.socket.is_some() {
            self.outbox.push_back(note);
        }
    }

    fn set_interest(&mut self) {
        let write = if self.full { libc::EPOLLOUT } else { 0 };
        let read = if self.outbox.len() < OUTBOX_MAX { libc::EPOLLIN } else { 0 };
        if let Some(socket) = self.minder.socket.as_ref().filter(|_| self.interest != read | write) {
            self.interest = read | write;
            let _watched = self.poll.change(socket.as_fd(), self.interest, tag::SOCKET);
        }
    }

    /// Sends notes until none is left or the socket is full.
    pub fn flush(&mut self) {
        if self.full || self.retry_at.is_some() {
            return;
        }
        while let (Some(socket), Some(note)) = (&self.minder.socket, self.outbox.front()) {
            let (told, next) = match self.put(note) {
                Some((packet, fds, next)) => (sys::send(socket.as_fd(), &packet, &fds), next),
                None => (Ok(()), None), // forgotten meanwhile
            };
            match told.as_ref().map_err(sys::errno) {
                Ok(()) => {
                    if let Some(Note::Spawned(number)) = self.outbox.pop_front() {
                        self.table.told(number);
                    }
                    if let Some(next) = next {
                        self.outbox.push_front(next);
                    }
                }
                Err(libc::EAGAIN) => {
                    self.full = true;
                    return;
                }
                Err(libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM) => {
                    self.retry_at = Some(sys::now() + IN_FLIGHT_DELAY);
                    return;
                }
                Err(libc::EINTR) => {}
                Err(_) => return self.outbox.clear(), // it is gone; its pidfd will say so
            }
        }
    }

    /// A note as a packet, its descriptors, and what is then to be told next.
    fn put(&self, note: &Note) -> Option<(Vec<u8>, Vec<RawFd>, Option<Note>)> {
        let alone = |notice: Notice<'_>| Some((notice.encode(), Vec::new(), None));
        match note {
            Note::Welcome => alone(Notice::Welcome(Welcome {
                protocol: PROTOCOL,
                keeper_pid: std::process::id().cast_signed(),
                controllers_started: self.minder.started,
                last_end: self.minder.last_end,
                started_at: self.started_at,
                stop_heard: self.stop_heard,
            })),
            Note::Entries(from) => match self.table.next_from(*from) {
                None => self.put(&Note::Deposits(None)),
                Some((number, entry)) => {
                    let notice = Notice::Entry(Entry {
                        id: entry.id(),
                        pid: entry.pid,
                        start_time: entry.start_time,
                        spawned_at: entry.spawned_at,
                        exit: entry.exit,
                        blob: &entry.blob,
                    });
                    Some((notice.encode(), descriptors(entry), Some(Note::Entries(number + 1))))
                }
            },
            Note::Deposits(after) => {
                use std::ops::Bound::{Excluded, Unbounded};
                let from = after.as_ref().map_or(Unbounded, |key| Excluded(key.clone()));
                match self.deposits.range((from, Unbounded)).next() {
                    None => alone(Notice::Listed),
                    Some((key, fd)) => {
                        let next = Note::Deposits(Some(key.clone()));
                        Some((Notice::Deposited(key).encode(), vec![fd.as_raw_fd()], Some(next)))
                    }
                }
            }
            Note::Spawned(number) => {
                let entry = self.table.get(*number)?;
                let notice = Notice::Spawned { id: entry.id(), pid: entry.pid, start_time: entry.start_time };
                Some((notice.encode(), descriptors(entry), None))
            }
            Note::Failed { key, life, fault } => {
                let id = Id { key, life: *life };
                alone(Notice::SpawnFailed { id, stage: fault.stage, errno: fault.errno })
            }
            Note::Exited(number) => {
                let entry = self.table.get(*number)?;
                alone(Notice::Exited { id: entry.id(), exit: entry.exit? })
            }
            Note::Signal(signal) => alone(Notice::Signal(*signal)),
            Note::Reexecuted(errno) => alone(Notice::Reexecuted(*errno)),
            Note::Ping => alone(Notice::Ping),
        }
    }
}

fn descriptors(entry: &super::table::Entry) -> Vec<RawFd> {
    let own = [entry.pidfd.as_ref(), Some(&entry.log), entry.log_stderr.as_ref()];
    own.into_iter().flatten().map(AsRawFd::as_raw_fd).collect()
}
