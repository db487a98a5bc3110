//! What the keeper tells its controller, as long as the socket takes it.

use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::{AsFd, BorrowedFd};

use super::program::{Keeper, Note};
use super::sys;
use super::wire::{Added, Entry, Field, Id, Notice, PROTOCOL, Welcome};

/// The kernel refuses (too many descriptors in flight, no memory) and does not tell when it would not.
const REFUSED_DELAY: u64 = 2_000_000;

const FIRST_DEPOSIT: Note = Note::Deposits { after: None };

/// A notice, its descriptors, and what is then to be told next.
type Told<'a> = (Notice<'a>, Vec<BorrowedFd<'a>>, Option<Note>);

impl Keeper {
    /// Notes news for the controller; without one there is nobody to tell, and a new one lists.
    pub fn tell(&mut self, note: Note) {
        if self.minder.socket.is_some() {
            self.outbox.push_back(note);
        }
    }

    /// Sends notes until none is left or the socket is full.
    pub fn flush(&mut self) {
        while let (Some(socket), Some(note), false, None) =
            (&self.minder.socket, self.outbox.front(), self.full, self.retry_at)
        {
            let (told, next) = match self.put(note) {
                Some((notice, fds, next)) => (sys::send(socket.as_fd(), &notice.encode(), &fds), next),
                None => (Ok(()), None), // forgotten meanwhile
            };
            match told.as_ref().map_err(sys::errno) {
                Ok(()) => {
                    self.outbox.pop_front();
                    next.into_iter().for_each(|next| self.outbox.push_front(next));
                }
                Err(libc::EAGAIN) => self.full = true,
                Err(errno) if sys::may_pass(errno) => {
                    self.retry_at = Some(sys::now() + REFUSED_DELAY);
                }
                Err(_) => self.outbox.clear(), // it is gone; its pidfd will say so
            }
        }
    }

    fn put<'a>(&'a self, note: &'a Note) -> Option<Told<'a>> {
        let alone = |notice| Some((notice, Vec::new(), None));
        match note {
            Note::Welcome => alone(Notice::Welcome {
                welcome: Welcome {
                    protocol: PROTOCOL,
                    keeper_pid: std::process::id().cast_signed(),
                    controllers_started: self.minder.started,
                    last_end: self.minder.last_end,
                    stop_heard: self.stop_heard,
                    taken_back: self.minder.taken_back,
                },
            }),
            Note::Entries { from } => {
                let Some((number, entry)) = self.table.entries.range(from..).next() else {
                    return self.put(&FIRST_DEPOSIT);
                };
                let (id, blob, exit) = (entry.id(), &*entry.blob, entry.exit);
                let (pid, start_time, spawned_at) = (entry.pid, entry.start_time, entry.spawned_at);
                let reaper = Added(self.reaper_of(number));
                let notice = Notice::Entry { entry: Entry { id, pid, start_time, spawned_at, exit, blob, reaper } };
                Some((notice, entry.logs(), Some(Note::Entries { from: number + 1 })))
            }
            Note::Deposits { after } => {
                let from = after.as_ref().map_or(Unbounded, Excluded);
                let Some((key, fd)) = self.deposits.range::<Box<[u8]>, _>((from, Unbounded)).next() else {
                    return alone(Notice::Listed);
                };
                Some((Notice::Deposited { key }, vec![fd.as_fd()], Some(Note::Deposits { after: Some(key.clone()) })))
            }
            Note::Spawned { number } => {
                let entry = self.table.get(*number)?;
                let reaper = Added(self.reaper_of(number));
                let notice = Notice::Spawned { id: entry.id(), pid: entry.pid, start_time: entry.start_time, reaper };
                Some((notice, entry.logs(), None))
            }
            Note::Failed { key, life, fault } => {
                alone(Notice::SpawnFailed { id: Id { key, life: *life }, fault: *fault })
            }
            Note::Exited { number } => {
                let entry = self.table.get(*number)?;
                alone(Notice::Exited { id: entry.id(), exit: entry.exit? })
            }
            Note::Signal { signal } => alone(Notice::Signal { signal: *signal }),
            Note::Reexecuted { errno } => alone(Notice::Reexecuted { errno: *errno }),
            Note::Ping => alone(Notice::Ping),
        }
    }
}
