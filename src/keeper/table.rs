//! The lives that the keeper knows, and the first law: never two lives of one instance at a time.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys;
use super::wire::field::{Field, Read, record};
use super::wire::{Exit, Fault, Id};

record! {
    /// One life, from its spawn until it is forgotten.
    #[derive(Debug)]
    pub struct Entry {
        pub key: Box<[u8]>,
        pub life: u64,
        pub pid: i32,
        pub start_time: u64,
        /// CLOCK_MONOTONIC, nanoseconds.
        pub spawned_at: u64,
        /// Until it is reaped.
        pub pidfd: Option<OwnedFd>,
        pub log: OwnedFd,
        pub log_stderr: Option<OwnedFd>,
        /// Until the exec of a plain copy is over.
        pub verdict: Option<OwnedFd>,
        /// What the verdict said.
        pub fault: Option<Fault>,
        pub blob: Box<[u8]>,
        pub exit: Option<Exit>,
        /// Its process group was seen empty after its exit: from then on the number may be a stranger's.
        pub group_gone: bool,
        pub stop_signal: i32,
        pub stop_grace_ms: u64,
    }
}

impl Entry {
    pub fn id(&self) -> Id<'_> {
        Id { key: &self.key, life: self.life }
    }

    /// What the controller is given.
    pub fn logs(&self) -> Vec<BorrowedFd<'_>> {
        [Some(&self.log), self.log_stderr.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect()
    }

    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        let own = [self.pidfd.as_ref(), Some(&self.log), self.log_stderr.as_ref(), self.verdict.as_ref()];
        own.into_iter().flatten()
    }

    /// The process or another of its group is there. An ended process's number stays taken as long as its
    /// group has members, so it is no stranger's before the group was seen empty.
    pub fn lives(&mut self) -> bool {
        let no_such_group = |error: std::io::Error| error.raw_os_error() == Some(libc::ESRCH);
        self.group_gone = self.group_gone || self.exit.is_some() && sys::kill(-self.pid, 0).is_err_and(no_such_group);
        !self.group_gone
    }

    /// The same, once those of its group that have ended already are reaped. They are the keeper's children,
    /// for whoever had them is gone too; the look for strangers would only come to them in a while.
    fn outlives(&mut self) -> bool {
        while self.lives() && self.exit.is_some() && matches!(sys::reap(-self.pid, false), Ok(Some(_))) {}
        self.lives()
    }
}

/// All entries, by a number that counts spawns; it is also their tag in epoll.
#[derive(Debug, Default)]
pub struct Table {
    pub entries: BTreeMap<u64, Box<Entry>>,
    of_key: BTreeMap<Box<[u8]>, Vec<u64>>,
    running: BTreeMap<i32, u64>,
    last: u64,
}

impl<'a> Field<'a> for Table {
    fn write(&self, to: &mut Vec<u8>) {
        self.entries.write(to);
    }

    fn read(from: &mut &'a [u8]) -> Read<Self> {
        let mut table = Table::default();
        for (number, entry) in BTreeMap::<u64, Entry>::read(from)? {
            table.last = number.saturating_sub(1);
            table.insert(entry);
        }
        Ok(table)
    }
}

impl Table {
    /// Whether this life may begin, as the errno that refuses it. `tree_known_empty`: a cgroup says that
    /// nothing is left of former lives, so their groups need no look.
    pub fn refuse(&mut self, id: Id<'_>, tree_known_empty: bool) -> Result<(), i32> {
        for number in self.of_key.get(id.key).into_iter().flatten() {
            let Some(entry) = self.entries.get_mut(number) else { continue };
            if entry.life == id.life {
                return Err(libc::EEXIST);
            }
            if entry.exit.is_none() || !tree_known_empty && entry.outlives() {
                return Err(libc::EBUSY);
            }
        }
        Ok(())
    }

    pub fn insert(&mut self, entry: Entry) -> u64 {
        self.last += 1;
        if entry.exit.is_none() {
            self.running.insert(entry.pid, self.last);
        }
        self.of_key.entry(entry.key.clone()).or_default().push(self.last);
        self.entries.insert(self.last, Box::new(entry));
        self.last
    }

    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number).map(|entry| &**entry)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&number).map(|entry| &mut **entry)
    }

    pub fn number_of(&self, id: Id<'_>) -> Option<u64> {
        let numbers = self.of_key.get(id.key)?;
        numbers.iter().copied().find(|number| self.get(*number).is_some_and(|entry| entry.life == id.life))
    }

    /// The running life with this pid.
    pub fn number_of_pid(&self, pid: i32) -> Option<u64> {
        self.running.get(&pid).copied()
    }

    /// The life is this process, which is known only now.
    pub fn born(&mut self, number: u64, pid: i32, start_time: u64) {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.exit.is_none()) else { return };
        self.running.remove(&entry.pid);
        self.running.insert(pid, number);
        (entry.pid, entry.start_time) = (pid, start_time);
    }

    pub fn end(&mut self, number: u64, exit: Exit) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        self.running.remove(&entry.pid);
        entry.exit = Some(exit);
        entry.lives(); // notes an empty group while its number cannot be a stranger's yet
        entry.pidfd = None;
    }

    pub fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        if let Some(numbers) = self.of_key.get_mut(&entry.key) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.of_key.remove(&entry.key);
            }
        }
        Some(*entry)
    }
}
