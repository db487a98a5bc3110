//! The controller's half: requests that never block, and one stream of events.
//!
//! A request returns at once; its packet (with its descriptors) goes out now, or waits here until the
//! socket takes it, in order. Every answer is an [`Event`]: a lost answer is not possible, a doubled
//! one is (after a restart, `list` says again what is known), so events are facts, not replies.
//! The limit of what waits here is the caller's: it bounds the spawns that it asks for at a time.

use std::collections::{HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::reexec::STATE;
use super::sys;
use super::wire::{self, Added, Field, INLINE_MAX, KEY_MAX, Malformed, Notice, PROTOCOL, Request, flag};
pub use super::wire::{Capabilities, Exit, Fault, How, Identity, Reaper, Stage, Welcome};
use crate::model::name::{Instance, LifeId};

/// An event's packet is at most an entry: its blob, its key and numbers. Twice that, for newer keepers.
const EVENT_MAX: usize = 4096;
/// When too many descriptors are in flight between two processes (ETOOMANYREFS), or it has no memory, the
/// kernel refuses and tells nobody when it would not; the keeper reads within microseconds.
const REFUSED_DELAY: Duration = Duration::from_millis(2);

/// What the controller calls a process: an instance (`orders/0`) or a helper by a key of its own
/// choice (`orders/0 probe 17`), at most 128 bytes, and which life of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub key: Box<[u8]>,
    pub life: u64,
}

impl Id {
    pub fn new(key: impl AsRef<[u8]>, life: u64) -> Id {
        Id { key: key.as_ref().into(), life }
    }

    /// None for a helper: its key is no instance.
    pub fn life_id(&self) -> Option<LifeId> {
        let instance = Instance::parse(std::str::from_utf8(&self.key).ok()?)?;
        Some(LifeId { instance, life: self.life })
    }

    fn wire(&self) -> wire::Id<'_> {
        wire::Id { key: &self.key, life: self.life }
    }
}

impl From<&LifeId> for Id {
    fn from(life: &LifeId) -> Id {
        Id::new(life.instance.to_string(), life.life)
    }
}

impl From<wire::Id<'_>> for Id {
    fn from(id: wire::Id<'_>) -> Id {
        Id::new(id.key, id.life)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", String::from_utf8_lossy(&self.key), self.life)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What to run and how. Everything is resolved: the keeper looks nothing up.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    pub id: Id,
    /// Absolute; what is executed.
    pub program: CString,
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    /// None is the keeper's own.
    pub working_dir: Option<CString>,
    /// None is the keeper's own.
    pub identity: Option<Identity>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    pub no_new_privs: bool,
    /// None is the keeper's own.
    pub capabilities: Option<Capabilities>,
    /// (RLIMIT_…, soft, hard)
    pub limits: Vec<(u32, u64, u64)>,
    /// The directory of a cgroup v2 in which the process begins. It must be empty, see `joins_cgroup`.
    pub cgroup: Option<Arc<OwnedFd>>,
    /// Files `cgroup.procs` of groups of cgroup v1 in which the process begins as well.
    pub entrances: Vec<Arc<OwnedFd>>,
    /// A helper, for which it does not matter that the cgroup already has processes.
    pub joins_cgroup: bool,
    /// Opened for appending. The child writes `TEXT PID STARTTIME\n` before it executes anything.
    pub life_line: Option<(Arc<OwnedFd>, Vec<u8>)>,
    pub stdin: Stdin,
    /// Standard error gets a pipe of its own.
    pub separate_stderr: bool,
    /// Each gets the number beside it (3 or more) in the process.
    pub extra_fds: Vec<(Arc<OwnedFd>, i32)>,
    /// Sets LISTEN_PID to the process's own pid.
    pub listen_pid: bool,
    /// Whatever it leaves falls to a process of its own, not to the keeper.
    pub reaper: bool,
    /// The program or the working directory lies where a dead server can block an exec for ever.
    pub plain_fork: bool,
    /// At most 1 KiB, given back by `list`.
    pub blob: Vec<u8>,
    /// For a shutdown without a controller.
    pub stop_signal: i32,
    pub stop_grace: Duration,
}

#[derive(Debug, Clone)]
pub enum Stdin {
    Null,
    Fd(Arc<OwnedFd>),
}

impl SpawnRequest {
    /// As plain as can be: the keeper's own directory, identity and limits, no environment.
    pub fn new(id: Id, program: CString, argv: Vec<CString>) -> SpawnRequest {
        SpawnRequest {
            id,
            program,
            argv,
            env: Vec::new(),
            working_dir: None,
            identity: None,
            umask: None,
            nice: None,
            oom_score_adj: None,
            no_new_privs: false,
            capabilities: None,
            limits: Vec::new(),
            cgroup: None,
            entrances: Vec::new(),
            joins_cgroup: false,
            life_line: None,
            stdin: Stdin::Null,
            separate_stderr: false,
            extra_fds: Vec::new(),
            listen_pid: false,
            reaper: false,
            plain_fork: false,
            blob: Vec::new(),
            stop_signal: libc::SIGTERM,
            stop_grace: Duration::from_secs(30),
        }
    }

    fn flags(&self) -> u32 {
        [
            (self.cgroup.is_some(), flag::CGROUP),
            (self.life_line.is_some(), flag::LIFE_LINE),
            (matches!(self.stdin, Stdin::Fd(_)), flag::STDIN),
            (self.separate_stderr, flag::SEPARATE_STDERR),
            (self.listen_pid, flag::LISTEN_PID),
            (self.plain_fork, flag::PLAIN_FORK),
            (self.no_new_privs, flag::NO_NEW_PRIVS),
            (self.joins_cgroup, flag::JOINS_CGROUP),
            (self.reaper, flag::REAPER),
        ]
        .into_iter()
        .fold(0, |flags, (wanted, bit)| if wanted { flags | bit } else { flags })
    }

    fn encode(&self) -> Vec<u8> {
        let spawn = wire::Spawn {
            id: self.id.wire(),
            flags: self.flags(),
            program: &self.program,
            argv: self.argv.iter().map(CString::as_c_str).collect(),
            env: self.env.iter().map(CString::as_c_str).collect(),
            working_dir: self.working_dir.as_deref(),
            identity: self.identity.clone(),
            umask: self.umask,
            nice: self.nice,
            oom_score_adj: self.oom_score_adj,
            limits: self.limits.clone(),
            life_line: self.life_line.as_ref().map_or(&[], |(_, text)| text),
            targets: self.extra_fds.iter().map(|(_, target)| *target).collect(),
            blob: &self.blob,
            stop_signal: self.stop_signal,
            stop_grace_ms: u64::try_from(self.stop_grace.as_millis()).unwrap_or(u64::MAX),
            entrances: Added(u32::try_from(self.entrances.len()).unwrap_or(u32::MAX)),
            capabilities: Added(self.capabilities),
        };
        Request::Spawn { spawn: Box::new(spawn) }.encode()
    }

    fn into_fds(self) -> Vec<Arc<OwnedFd>> {
        let stdin = match self.stdin {
            Stdin::Null => None,
            Stdin::Fd(fd) => Some(fd),
        };
        let own = [self.cgroup, self.life_line.map(|(fd, _)| fd), stdin];
        own.into_iter().flatten().chain(self.entrances).chain(self.extra_fds.into_iter().map(|(fd, _)| fd)).collect()
    }
}

/// One fact from the keeper.
#[derive(Debug)]
pub enum Event {
    /// The first one.
    Welcome(Welcome),
    /// One life in the keeper's table, after `list`.
    Entry(Entry),
    /// All entries and deposits of `list` have been told.
    Listed,
    /// The program was executed.
    Spawned { id: Id, pid: i32, start_time: u64, reaper: Option<Reaper>, log: OwnedFd, log_stderr: Option<OwnedFd> },
    /// Nothing of it runs or is left.
    SpawnFailed { id: Id, stage: Stage, errno: i32 },
    /// Reaped. The entry and its log stay until `forget`.
    Exited { id: Id, exit: Exit },
    /// After `list`, one for each.
    Deposited { key: Box<[u8]>, fd: OwnedFd },
    /// TERM, INT, HUP, QUIT, USR1 or USR2 came to the keeper.
    Signal(i32),
    /// The keeper executed itself in place, or could not (errno) and goes on as it was.
    Reexecuted(Result<(), i32>),
    /// The keeper is gone or has left; nothing follows.
    Closed,
}

#[derive(Debug)]
pub struct Entry {
    pub id: Id,
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot.
    pub start_time: u64,
    pub reaper: Option<Reaper>,
    /// CLOCK_MONOTONIC.
    pub spawned_at: Duration,
    pub log: OwnedFd,
    pub log_stderr: Option<OwnedFd>,
    pub exit: Option<Exit>,
    pub blob: Vec<u8>,
}

type Waiting = (Vec<u8>, Vec<Arc<OwnedFd>>);

/// The link to the keeper.
#[derive(Debug)]
pub struct Link {
    /// Watched for what comes only: room in it is news at every packet that the keeper takes, and a turn of the loop.
    socket: AsyncFd<OwnedFd>,
    waiting: VecDeque<Waiting>,
    /// Keys of what lies with the keeper.
    deposited: HashSet<Box<[u8]>>,
    buffer: Box<[u8; EVENT_MAX]>,
}

impl Link {
    /// Takes the descriptor that the keeper gave this controller (3) and says hello. Within a runtime.
    pub fn connect(socket: OwnedFd) -> io::Result<Link> {
        let socket = watched(socket, Interest::READABLE)?;
        let mut link =
            Link { socket, waiting: VecDeque::new(), deposited: HashSet::new(), buffer: Box::new([0; EVENT_MAX]) };
        link.send(Request::Hello { protocol: PROTOCOL });
        Ok(link)
    }

    /// This controller serves. If it is an upgrade, the keeper keeps it and executes the same program.
    pub fn ready(&mut self) {
        self.send(Request::Ready { state: STATE });
    }

    /// Answered by `Spawned` or `SpawnFailed`. An error means that nothing was asked: the key is too long,
    /// or there is no memory for a large request.
    pub fn spawn(&mut self, request: SpawnRequest) -> io::Result<()> {
        if request.id.key.len() > KEY_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key is at most 128 bytes"));
        }
        let packet = request.encode();
        if packet.len() <= INLINE_MAX {
            self.post(packet, request.into_fds());
            return Ok(());
        }
        let large = Arc::new(sys::sealed(&packet)?);
        let announcement = Request::SpawnLarge { id: request.id.wire() }.encode();
        self.post(announcement, [large].into_iter().chain(request.into_fds()).collect());
        Ok(())
    }

    /// Replaces what the keeper holds for a life; at most 1 KiB.
    pub fn set_blob(&mut self, id: &Id, blob: &[u8]) {
        self.send(Request::SetBlob { id: id.wire(), blob });
    }

    /// Ends a child that has not executed its program yet; what runs already is not touched. A keeper
    /// that does not know this word passes over it.
    pub fn abandon(&mut self, id: &Id) {
        self.send(Request::Abandon { id: id.wire() });
    }

    /// Drops the entry of a life that has ended, with its log.
    pub fn forget(&mut self, id: &Id) {
        self.send(Request::Forget { id: id.wire() });
    }

    /// Asks for all entries and deposits, then `Listed`.
    pub fn list(&mut self) {
        self.send(Request::List);
    }

    /// Leaves a descriptor (a listener, the write end of a stdin) with the keeper, under a key of at
    /// most 128 bytes; replaces what was there.
    pub fn deposit(&mut self, key: &[u8], fd: Arc<OwnedFd>) {
        self.deposited.insert(key.into());
        self.post(Request::Deposit { key }.encode(), vec![fd]);
    }

    /// What was never deposited needs no word.
    pub fn withdraw(&mut self, key: &[u8]) {
        if self.deposited.remove(key) {
            self.send(Request::Withdraw { key });
        }
    }

    /// The keeper kills nothing and exits with this code.
    pub fn leave(&mut self, code: i32) {
        self.send(Request::Leave { code });
    }

    /// The next controller is started from this path. One that does not get ready is taken back.
    pub fn upgrade(&mut self, path: &CStr) {
        self.send(Request::Upgrade { path });
    }

    /// The keeper executes this path in its own place, with everything that it holds.
    pub fn reexec(&mut self, path: &CStr) {
        self.send(Request::Reexec { path });
    }

    fn send(&mut self, request: Request<'_>) {
        self.post(request.encode(), Vec::new());
    }

    fn post(&mut self, packet: Vec<u8>, fds: Vec<Arc<OwnedFd>>) {
        self.waiting.push_back((packet, fds));
        let _what_is_left_waits = self.send_waiting();
    }

    /// Sends until the socket is full (WouldBlock), the kernel refuses, or all is sent. A packet that can
    /// never be sent, because the keeper is gone, is dropped: `Closed` tells of it.
    fn send_waiting(&mut self) -> io::Result<()> {
        while let Some((packet, fds)) = self.waiting.front() {
            let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            match sys::send(self.socket.as_fd(), packet, &fds) {
                Err(error) if error.raw_os_error().is_some_and(sys::may_pass) => return Err(error),
                Ok(()) | Err(_) => drop(self.waiting.pop_front()),
            }
        }
        Ok(())
    }

    /// Waits until everything asked for has been sent. Cancel-safe.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.send_waiting() {
                Ok(()) => return Ok(()),
                Err(error) => self.room(&error).await?,
            }
        }
    }

    async fn room(&self, why: &io::Error) -> io::Result<()> {
        let full = (why.kind() == io::ErrorKind::WouldBlock).then(|| self.socket.get_ref().try_clone());
        match full.and_then(|copy| watched(copy.ok()?, Interest::WRITABLE).ok()) {
            Some(copy) => drop(copy.writable().await?),
            None => tokio::time::sleep(REFUSED_DELAY).await,
        }
        Ok(())
    }

    /// The next event; what waits to be sent is sent meanwhile. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            match self.send_waiting() {
                Ok(()) => drop(self.socket.readable().await?),
                Err(error) => tokio::select! {
                    readable = self.socket.readable() => drop(readable?),
                    room = self.room(&error) => room?,
                },
            }
        }
    }

    /// The next event if one is there.
    pub fn try_next(&mut self) -> io::Result<Option<Event>> {
        loop {
            let Link { socket, buffer, .. } = self;
            let received =
                match socket.try_io(Interest::READABLE, |socket| sys::receive(socket.as_fd(), buffer.as_mut())) {
                    Ok(received) => received,
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => return Ok(None),
                        io::ErrorKind::Interrupted => continue,
                        io::ErrorKind::ConnectionReset => return Ok(Some(Event::Closed)),
                        _ => return Err(error),
                    },
                };
            if received.length == 0 {
                return Ok(Some(Event::Closed));
            }
            let packet = self.buffer.get(..received.length).unwrap_or(&[]);
            match Notice::decode(packet) {
                Ok(Notice::Ping) => self.send(Request::Pong),
                Ok(notice) => {
                    if let Notice::Deposited { key } = notice {
                        self.deposited.insert(key.into());
                    }
                    return event(notice, received.fds).map(Some);
                }
                Err(Malformed::Unknown) => {} // of a newer keeper
                Err(why) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            }
        }
    }
}

/// One of the two ends is watched for one thing. Neither library has its type, SOCK_SEQPACKET: only readiness is asked
/// of it, and packets go through sendmsg and recvmsg, which are told not to wait.
#[expect(unsafe_code, reason = "the interest in one direction alone has no safe call")]
fn watched(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it owns its descriptor and closes it only when it is dropped, with the `AsyncFd` that watches it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest)? })
}

/// A notice with its descriptors. One that came without them (no number was free here) is an error:
/// the controller cannot go on without the pipe of a life, and a new one gets them all again.
fn event(notice: Notice<'_>, fds: Vec<OwnedFd>) -> io::Result<Event> {
    let mut fds = fds.into_iter();
    let mut fd = || fds.next().ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE));
    Ok(match notice {
        Notice::Welcome { welcome } => Event::Welcome(welcome),
        Notice::Entry { entry } => Event::Entry(Entry {
            id: entry.id.into(),
            pid: entry.pid,
            start_time: entry.start_time,
            reaper: entry.reaper.0,
            spawned_at: Duration::from_nanos(entry.spawned_at),
            log: fd()?,
            log_stderr: fd().ok(),
            exit: entry.exit,
            blob: entry.blob.to_vec(),
        }),
        Notice::Listed => Event::Listed,
        Notice::Spawned { id, pid, start_time, reaper: Added(reaper) } => {
            Event::Spawned { id: id.into(), pid, start_time, reaper, log: fd()?, log_stderr: fd().ok() }
        }
        Notice::SpawnFailed { id, fault: Fault { stage, errno } } => Event::SpawnFailed { id: id.into(), stage, errno },
        Notice::Exited { id, exit } => Event::Exited { id: id.into(), exit },
        Notice::Deposited { key } => Event::Deposited { key: key.into(), fd: fd()? },
        Notice::Signal { signal } => Event::Signal(signal),
        Notice::Reexecuted { errno: 0 } => Event::Reexecuted(Ok(())),
        Notice::Reexecuted { errno } => Event::Reexecuted(Err(errno)),
        // Answered before it gets here; one more is as good as nothing heard.
        Notice::Ping => Event::Signal(0),
    })
}
