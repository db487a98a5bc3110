//! The keeper replaces itself in place: same pid, same children, same descriptors, a new program.
//!
//! Everything that it knows goes into a memfd; the descriptors named there lose CLOEXEC and keep their
//! numbers. Signals that wait stay pending (they are blocked), exits stay with the kernel. If the exec
//! fails nothing has changed. A new program must read the states of all older ones.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use super::launch::{Fault, Stack};
use super::minder::Minder;
use super::program::{Keeper, Note};
use super::sys;
use super::table::{Entry, Table};
use super::wire::{BLOB_MAX, Id, KEY_MAX, Malformed, PACKET_MAX, Reader, Stage, Writer};

/// Raised when the layout changes; fields are added at the end of their group.
const STATE: u32 = 1;
/// 100,000 lives with full blobs.
const STATE_MAX: usize = 128 * 1024 * 1024;
/// More than any list in a state.
const MANY: usize = 1 << 24;

impl Keeper {
    /// Returns only if it could not, with the errno.
    pub fn reexec(&mut self, path: &CStr) -> i32 {
        if self.farewell.is_some() {
            return libc::EBUSY;
        }
        let state = match sys::memory(&self.write_state().0) {
            Ok(state) => state,
            Err(error) => return sys::errno(&error),
        };
        let Ok(number) = CString::new(state.as_raw_fd().to_string()) else { return libc::EINVAL };
        let kept: Vec<RawFd> = self.descriptors().chain([&state]).map(AsRawFd::as_raw_fd).collect();
        kept.iter().for_each(|fd| sys::keep_over_exec(*fd, true));
        let error = sys::execute(path, &[c"plugd", c"keeper-resume", &number]);
        kept.iter().for_each(|fd| sys::keep_over_exec(*fd, false));
        sys::errno(&error)
    }

    fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        let lives = self.table.iter().flat_map(|(_, entry)| {
            [entry.pidfd.as_ref(), Some(&entry.log), entry.log_stderr.as_ref(), entry.verdict.as_ref()]
        });
        let own = [self.lock.as_ref(), self.minder.socket.as_ref(), self.minder.process.as_ref().map(|(_, fd)| fd)];
        own.into_iter().chain(lives).flatten().chain(self.deposits.values())
    }

    fn write_state(&self) -> Writer {
        let minder = &self.minder;
        let to = Writer::default()
            .u32(STATE)
            .option(self.lock.as_ref(), fd)
            .u64(self.open_files.rlim_cur)
            .u64(self.open_files.rlim_max)
            .u8(self.deaf_to_hup.into())
            .u64(self.started_at)
            .u64(self.grace)
            .list(&self.unheard, |to, signal| to.i32(*signal))
            .option(self.stop_heard, Writer::i32)
            .text(&minder.path)
            .list(&minder.args, |to, text| to.text(text))
            .u64(minder.answer_limit)
            .option(minder.process.as_ref(), |to, (pid, pidfd)| fd(to.i32(*pid), pidfd))
            .option(minder.socket.as_ref(), fd)
            .u32(minder.started)
            .option(minder.last_end, Writer::how)
            .u64(minder.started_at)
            .u32(minder.failures)
            .option(minder.restart_at, Writer::u64)
            .option(minder.away_since, Writer::u64)
            .u64(minder.ping_at)
            .u8(minder.ping_open.into())
            .u32(minder.silent);
        let deposits: Vec<_> = self.deposits.iter().collect();
        let notes: Vec<_> = self.outbox.iter().collect();
        let entries: Vec<_> = self.table.iter().collect();
        to.list(&deposits, |to, (key, held)| fd(to.bytes(key), held))
            .list(&notes, |to, note| write_note(to, note))
            .list(&entries, |to, (number, entry)| write_entry(to.u64(*number), entry))
    }

    /// The keeper that executed itself.
    pub fn from_state(state: &[u8]) -> Result<Keeper, Box<dyn std::error::Error>> {
        let from = &mut Reader(state);
        if from.u32()? != STATE {
            return Err("the state is of a newer keeper".into());
        }
        let lock = from.option(take_fd)?;
        let open_files = libc::rlimit { rlim_cur: from.u64()?, rlim_max: from.u64()? };
        let deaf_to_hup = from.flag()?;
        let (signals, children) = sys::take_signals(&Keeper::signals_heard(deaf_to_hup))?;
        let (started_at, grace) = (from.u64()?, from.u64()?);
        let unheard = from.list(MANY, Reader::i32)?;
        let stop_heard = from.option(Reader::i32)?;
        let minder = Minder {
            path: from.text()?.into(),
            args: from.list(MANY, |from| from.text().map(CString::from))?,
            answer_limit: from.u64()?,
            process: from.option(|from| Ok((from.i32()?, take_fd(from)?)))?,
            socket: from.option(take_fd)?,
            started: from.u32()?,
            last_end: from.option(Reader::how)?,
            started_at: from.u64()?,
            failures: from.u32()?,
            restart_at: from.option(Reader::u64)?,
            away_since: from.option(Reader::u64)?,
            ping_at: from.u64()?,
            ping_open: from.flag()?,
            silent: from.u32()?,
        };
        let deposits = from.list(MANY, |from| Ok((from.bytes(KEY_MAX)?.into(), take_fd(from)?)))?;
        let notes = from.list(MANY, read_note)?;
        let mut table = Table::default();
        for (number, entry) in from.list(MANY, |from| Ok((from.u64()?, read_entry(from)?)))? {
            table.restore(number, entry);
        }
        Ok(Keeper {
            poll: sys::Poll::new()?,
            signals,
            children,
            stack: Stack::new()?,
            null: sys::open_null()?,
            lock,
            open_files,
            deaf_to_hup,
            table,
            deposits: deposits.into_iter().collect(),
            minder,
            outbox: VecDeque::from(notes),
            full: false,
            interest: libc::EPOLLIN,
            retry_at: None,
            // An exit may have come between the old one's last look and now.
            strangers_at: Some(sys::now()),
            started_at,
            grace,
            unheard,
            stop_heard,
            farewell: None,
        })
    }

    pub fn read_state(state: RawFd) -> Result<Keeper, Box<dyn std::error::Error>> {
        let memory = sys::adopt(state).ok_or("no state was handed over")?;
        let mut keeper = Keeper::from_state(&sys::read_memory(memory.as_fd(), STATE_MAX)?)?;
        keeper.watch_all()?;
        keeper.tell(Note::Reexecuted(0));
        Ok(keeper)
    }
}

fn fd(to: Writer, fd: &OwnedFd) -> Writer {
    to.i32(fd.as_raw_fd())
}

fn take_fd(from: &mut Reader<'_>) -> Result<OwnedFd, Malformed> {
    sys::adopt(from.i32()?).ok_or(Malformed)
}

fn write_fault(to: Writer, fault: Fault) -> Writer {
    to.u8(fault.stage as u8).i32(fault.errno)
}

fn read_fault(from: &mut Reader<'_>) -> Result<Fault, Malformed> {
    Ok(Fault { stage: Stage::from_number(from.u8()?).ok_or(Malformed)?, errno: from.i32()? })
}

fn write_entry(to: Writer, entry: &Entry) -> Writer {
    to.id(entry.id())
        .i32(entry.pid)
        .u64(entry.start_time)
        .u64(entry.spawned_at)
        .option(entry.pidfd.as_ref(), fd)
        .i32(entry.log.as_raw_fd())
        .option(entry.log_stderr.as_ref(), fd)
        .option(entry.verdict.as_ref(), fd)
        .option(entry.fault, write_fault)
        .bytes(&entry.blob)
        .option(entry.exit, Writer::exit)
        .u8(entry.group_gone.into())
        .i32(entry.stop_signal)
        .u64(entry.stop_grace_ms)
}

fn read_entry(from: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let id = from.id()?;
    Ok(Entry {
        key: id.key.into(),
        life: id.life,
        pid: from.i32()?,
        start_time: from.u64()?,
        spawned_at: from.u64()?,
        pidfd: from.option(take_fd)?,
        log: take_fd(from)?,
        log_stderr: from.option(take_fd)?,
        verdict: from.option(take_fd)?,
        fault: from.option(read_fault)?,
        blob: from.bytes(BLOB_MAX)?.into(),
        exit: from.option(Reader::exit)?,
        group_gone: from.flag()?,
        stop_signal: from.i32()?,
        stop_grace_ms: from.u64()?,
    })
}

fn write_note(to: Writer, note: &Note) -> Writer {
    match note {
        Note::Welcome => to.u8(0),
        Note::Entries(from) => to.u8(1).u64(*from),
        Note::Deposits(after) => to.u8(2).option(after.as_deref(), Writer::bytes),
        Note::Spawned(number) => to.u8(3).u64(*number),
        Note::Failed { key, life, fault } => write_fault(to.u8(4).id(Id { key, life: *life }), *fault),
        Note::Exited(number) => to.u8(5).u64(*number),
        Note::Signal(signal) => to.u8(6).i32(*signal),
        Note::Reexecuted(errno) => to.u8(7).i32(*errno),
        Note::Ping => to.u8(8),
    }
}

fn read_note(from: &mut Reader<'_>) -> Result<Note, Malformed> {
    Ok(match from.u8()? {
        0 => Note::Welcome,
        1 => Note::Entries(from.u64()?),
        2 => Note::Deposits(from.option(|from| from.bytes(PACKET_MAX).map(Box::from))?),
        3 => Note::Spawned(from.u64()?),
        4 => {
            let id = from.id()?;
            Note::Failed { key: id.key.into(), life: id.life, fault: read_fault(from)? }
        }
        5 => Note::Exited(from.u64()?),
        6 => Note::Signal(from.i32()?),
        7 => Note::Reexecuted(from.i32()?),
        8 => Note::Ping,
        _ => return Err(Malformed),
    })
}
