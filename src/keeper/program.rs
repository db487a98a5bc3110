//! The keeper's loop: wait, note what ended, answer what is asked, tell what there is to tell.
//!
//! One thread. Nothing here waits for anybody but the kernel: news for the controller stand in `outbox`
//! as small notes (what they say is looked up when they are sent) and go when its socket takes them.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;

use super::farewell::Farewell;
use super::launch::{Desk, HEARD};
use super::minder::{Minder, Tick};
use super::reapers::Told;
use super::sys::{self, Poll};
use super::table::{self, Table};
use super::wire::field::{Field, Read, choice};
use super::wire::{Exit, Fault, How, Malformed, PACKET_MAX};

/// SIGCHLD comes with every exit; a look for unknown children costs 50 ns a child, so one in this time.
const STRANGERS_EVERY: u64 = 20_000_000;
/// Strangers reaped at a time, between which everything else is served.
const STRANGERS_AT_ONCE: usize = 1024;
/// Requests answered at a time, at 0.1 ms each, before exits are looked at again.
const REQUESTS_AT_ONCE: usize = 16;
/// Notes that wait before nothing more is read from a controller that does not read.
const OUTBOX_MAX: usize = 1024;
/// The signals that ask for an end.
const STOPPING: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// Tags in epoll. A life's number is shifted by two, the lowest bit set for its verdict, both for its reaper.
const SIGNALS: u64 = 2;
const CONTROLLER: u64 = 6;
const SOCKET: u64 = 10;

#[derive(Debug)]
pub struct Keeper {
    pub poll: Poll,
    pub signals: OwnedFd,
    pub desk: Desk,
    pub lock: Option<OwnedFd>,
    /// As it was given to the keeper, and to its services.
    pub open_files: (u64, u64),
    /// HUP was ignored at the start (nohup).
    pub deaf_to_hup: bool,
    pub table: Table,
    pub deposits: BTreeMap<Box<[u8]>, OwnedFd>,
    /// By life, while they are there.
    pub reapers: BTreeMap<u64, Told>,
    pub minder: Minder,
    pub outbox: VecDeque<Note>,
    /// The socket takes no more notes.
    pub full: bool,
    /// What is asked of the poll about the socket. Room in it is none of that while notes find it: each packet that
    /// the controller takes would wake the keeper.
    pub awaited: EventFlags,
    pub retry_at: Option<u64>,
    pub strangers_at: Option<u64>,
    /// Nanoseconds.
    pub grace: u64,
    /// What came while there was no controller, but for the signals that ask for an end.
    pub unheard: Vec<i32>,
    pub stop_heard: Option<i32>,
    pub farewell: Option<Farewell>,
    pub buffer: Vec<u8>,
}

choice! {
    /// News for the controller, or the place up to which a list has been told.
    #[derive(Debug, PartialEq, Eq)]
    pub enum Note {
        0 Welcome,
        1 Entries { from: u64 },
        2 Deposits { after: Option<Box<[u8]>> },
        3 Spawned { number: u64 },
        4 Failed { key: Box<[u8]>, life: u64, fault: Fault },
        5 Exited { number: u64 },
        6 Signal { signal: i32 },
        7 Reexecuted { errno: i32 },
        8 Ping,
    }
}

impl Keeper {
    /// A keeper with no lives yet, that has taken the signals.
    pub fn new(minder: Minder, desk: Desk, deaf_to_hup: bool) -> std::io::Result<Keeper> {
        let mut heard = HEARD.to_vec();
        heard.retain(|signal| *signal != libc::SIGHUP || !deaf_to_hup);
        heard.push(libc::SIGCHLD);
        Ok(Keeper {
            poll: Poll::new()?,
            signals: sys::take_signals(&heard)?,
            desk,
            lock: None,
            open_files: (u64::MAX, u64::MAX),
            deaf_to_hup,
            table: Table::default(),
            deposits: BTreeMap::new(),
            reapers: BTreeMap::new(),
            minder,
            outbox: VecDeque::new(),
            full: false,
            awaited: EventFlags::empty(),
            retry_at: None,
            // Before a re-exec an exit may have come after the last look.
            strangers_at: Some(sys::now()),
            grace: 0,
            unheard: Vec::new(),
            stop_heard: None,
            farewell: None,
            buffer: vec![0; PACKET_MAX],
        })
    }

    /// A life that cannot be watched (no memory) is found by the look for strangers when it ends.
    pub fn watch(&self, number: u64, entry: &table::Entry) {
        let fds = [(&entry.pidfd, number << 2), (&entry.verdict, number << 2 | 1)];
        for (fd, tag) in fds.into_iter().filter_map(|(fd, tag)| fd.as_ref().map(|fd| (fd, tag))) {
            let _found_later = self.poll.add(fd, tag, EventFlags::IN);
        }
    }

    pub fn run(mut self) -> ! {
        // Without the signals it would never be told to end, but there is nobody who could say so better.
        let _watched = self.poll.add(&self.signals, SIGNALS, EventFlags::IN);
        self.minder.watch(&self.poll, CONTROLLER);
        self.table.entries.iter().for_each(|(number, entry)| self.watch(*number, entry));
        self.reapers.iter().for_each(|(number, reaper)| self.watch_reaper(*number, reaper));
        let mut ready = Vec::with_capacity(64);
        loop {
            self.act_on_time(sys::now());
            self.flush();
            self.watch_socket();
            let timeout = self.deadline().map(|deadline| deadline.saturating_sub(sys::now()));
            self.poll.wait(&mut ready, timeout);
            for event in ready.drain(..) {
                match event.data.u64() {
                    SIGNALS => self.hear_signals(),
                    CONTROLLER => drop(self.minder.process.as_ref().map(|(pid, _)| *pid).map(|pid| self.reap(pid))),
                    SOCKET => self.serve(),
                    life if life & 3 == 1 => self.executed(life >> 2),
                    life if life & 3 == 3 => self.hear_reaper_by_now(life >> 2),
                    life => {
                        let running = self.table.get(life >> 2).filter(|entry| entry.exit.is_none());
                        let _not_yet = running.map(|entry| entry.pid).map(|pid| self.reap(pid));
                    }
                }
                self.flush();
            }
        }
    }

    /// Requests are heard as long as there is room for their answers.
    fn watch_socket(&mut self) {
        let when = |wanted: bool, flag| if wanted { flag } else { EventFlags::empty() };
        let wanted = when(self.outbox.len() < OUTBOX_MAX, EventFlags::IN) | when(self.full, EventFlags::OUT);
        let Some(socket) = self.minder.socket.as_ref().filter(|_| wanted != self.awaited) else { return };
        self.awaited = wanted;
        if self.poll.set(socket, SOCKET, wanted).is_err() {
            self.minder.kill(); // as a controller that cannot be watched
        }
    }

    fn deadline(&self) -> Option<u64> {
        let minder = self.minder.deadline().filter(|_| self.farewell.is_none());
        let farewell = self.farewell.as_ref().map(Farewell::next_look);
        [self.strangers_at, self.retry_at, minder, self.away_limit(), farewell].into_iter().flatten().min()
    }

    /// When a stop that somebody asked for will be done without a controller.
    fn away_limit(&self) -> Option<u64> {
        let waits = self.stop_heard.is_some() && self.farewell.is_none();
        self.minder.away_since.filter(|_| waits).map(|since| since + self.minder.ping_every())
    }

    fn act_on_time(&mut self, now: u64) {
        let due = |at: Option<u64>| at.is_some_and(|at| now >= at);
        if due(self.strangers_at) {
            // Orphans that came to the keeper, and whatever the poll could not watch.
            let all = (0..STRANGERS_AT_ONCE).all(|_| self.reap(-1).is_ok_and(|reaped| reaped));
            self.strangers_at = all.then_some(now + STRANGERS_EVERY);
        }
        self.retry_at.take_if(|at| now >= *at);
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
                sys::say("the controller does not answer; killing it and starting another");
                self.minder.kill();
            }
        }
    }

    fn start_controller(&mut self, now: u64) {
        self.minder.start(&self.desk, now);
        self.minder.watch(&self.poll, CONTROLLER);
        if self.minder.process.is_some() {
            self.tell(Note::Welcome);
            for signal in std::mem::take(&mut self.unheard) {
                self.tell(Note::Signal { signal });
            }
        }
    }

    /// Reaps this child, or (-1) any: a life, the controller, or an orphan. False where none has ended.
    pub fn reap(&mut self, pid: i32) -> std::io::Result<bool> {
        let Some((pid, exit)) = sys::reap(pid, false)? else { return Ok(false) };
        if self.table.number_of_pid(pid).is_none() {
            self.hear_the_unborn(); // it may be one of theirs, whose reaper was killed
        }
        if let Some(number) = self.table.number_of_pid(pid) {
            // Of one below a reaper that is killed in these moments the pipe says what comes of it.
            if !self.is_unborn(number) {
                self.ended(number, exit);
            }
        } else if self.minder.is(pid) {
            self.controller_ended(pid, exit);
        }
        Ok(true)
    }

    /// What it had sent is still answered: its last word may be that the keeper is to leave.
    fn controller_ended(&mut self, pid: i32, exit: Exit) {
        if let Some((_, pidfd)) = &self.minder.process {
            self.poll.remove(pidfd);
        }
        self.minder.ended(exit.how, exit.at);
        while self.serve_one() {}
        self.lose_socket();
        // Not where its last word was that the keeper should leave as well.
        if self.farewell.is_none() {
            let how = match exit.how {
                How::Code(code) => format!("code {code}"),
                How::Signal(signal) => format!("signal {signal}"),
            };
            sys::say(&format!("the controller (pid {pid}) ended with {how}; starting another"));
        }
    }

    fn lose_socket(&mut self) {
        if let Some(socket) = self.minder.socket.take() {
            self.poll.remove(&socket);
        }
        self.outbox.clear();
        (self.full, self.awaited, self.retry_at) = (false, EventFlags::empty(), None);
    }

    fn serve(&mut self) {
        self.full = false;
        for _ in 0..REQUESTS_AT_ONCE {
            if self.outbox.len() >= OUTBOX_MAX || !self.serve_one() {
                return;
            }
        }
    }

    /// One request; false where there is none.
    fn serve_one(&mut self) -> bool {
        let Some(socket) = &self.minder.socket else { return false };
        match sys::receive(socket.as_fd(), &mut self.buffer) {
            Ok(received) if received.length > 0 => {
                self.minder.heard();
                let buffer = std::mem::take(&mut self.buffer);
                let packet = buffer.get(..received.length).unwrap_or(&[]);
                self.answer(packet, received.fds, received.truncated);
                self.buffer = buffer;
                self.buffer.iter_mut().take(received.length).for_each(|byte| *byte = 0); // secrets, too
                self.flush();
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            // It closed its end: whatever it is doing, it can never be asked again.
            Ok(_) | Err(_) => {
                self.lose_socket();
                self.minder.hung_up(sys::now());
                false
            }
        }
    }

    fn hear_signals(&mut self) {
        let now = sys::now();
        for signal in sys::read_signals(&self.signals) {
            if signal == libc::SIGCHLD {
                self.strangers_at.get_or_insert(now + STRANGERS_EVERY);
                continue;
            }
            let stopping = STOPPING.contains(&signal);
            let again = stopping && self.stop_heard.replace(signal).is_some();
            let away = self.minder.away_since.is_some_and(|since| now.saturating_sub(since) > self.minder.ping_every());
            if stopping && (away || again && self.minder.silent > 0) {
                self.begin_farewell("the controller does not answer", now);
            } else if self.minder.socket.is_some() {
                self.tell(Note::Signal { signal });
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
        let length = rustix::io::read(&verdict, &mut report).unwrap_or(0);
        self.poll.remove(&verdict);
        entry.fault = report.get(..length).and_then(|report| Fault::decode(report).ok());
        if entry.fault.is_none() {
            self.tell(Note::Spawned { number });
        }
        // Who it is: told before the exec, and looked up when the note is sent.
        self.hear_reaper_by_now(number);
    }

    /// Takes up a verdict that is there to be read.
    pub fn executed_by_now(&mut self, number: u64) {
        let verdict = self.table.get(number).and_then(|entry| entry.verdict.as_ref());
        if verdict.is_some_and(|verdict| sys::is_readable(verdict.as_fd(), 0)) {
            self.executed(number);
        }
    }

    /// A known child has ended.
    pub fn ended(&mut self, number: u64, exit: Exit) {
        if self.table.get(number).is_none_or(|entry| entry.exit.is_some()) {
            return; // told by its reaper, and then found as an orphan
        }
        if let Some(pidfd) = self.table.get(number).and_then(|entry| entry.pidfd.as_ref()) {
            self.poll.remove(pidfd); // a plain copy of the keeper may have one, so closing is not enough
        }
        self.executed(number);
        self.table.end(number, exit);
        let Some(fault) = self.table.get(number).and_then(|entry| entry.fault) else {
            return self.tell(Note::Exited { number });
        };
        if let Some(entry) = self.table.remove(number) {
            self.tell(Note::Failed { key: entry.key, life: entry.life, fault });
        }
    }
}
