//! Lives that began below a reaper (`launch::reaper`): they are no children of the keeper, and what
//! becomes of them is told through a pipe, which closes when nothing of the life is left.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;

use super::launch::reaper::{BORN, EXITED, KILLED, RECORD};
use super::program::Keeper;
use super::sys;
use super::table::Entry;
use super::wire::field::{Field, Read, record};
use super::wire::{Exit, How, Reaper};

record! {
    #[derive(Debug)]
    pub struct Told {
        pub pid: i32,
        pub start_time: u64,
        pub told: OwnedFd,
    }
}

impl Keeper {
    pub fn enter_reaper(&mut self, number: u64, reaper: Told) {
        self.watch_reaper(number, &reaper);
        self.reapers.insert(number, reaper);
    }

    /// One that cannot be watched is heard when its life is asked about.
    pub fn watch_reaper(&self, number: u64, reaper: &Told) {
        let _heard_later = self.poll.add(&reaper.told, number << 2 | 3, EventFlags::IN);
    }

    pub fn reaper_of(&self, number: &u64) -> Option<Reaper> {
        self.reapers.get(number).map(|reaper| Reaper { pid: reaper.pid, start_time: reaper.start_time })
    }

    /// The main process is not known yet: what the keeper has made for this life is its reaper.
    pub fn is_unborn(&self, number: u64) -> bool {
        let reaper = self.reapers.get(&number).map(|reaper| reaper.pid);
        reaper.is_some() && reaper == self.table.get(number).map(|entry| entry.pid)
    }

    /// Who has told of itself since.
    pub fn hear_the_unborn(&mut self) {
        let unborn: Vec<u64> = self.reapers.keys().copied().filter(|number| self.is_unborn(*number)).collect();
        unborn.into_iter().for_each(|number| self.hear_reaper_by_now(number));
    }

    /// Takes up whatever has been told, if anything: it may have been heard since it was known to be there.
    pub fn hear_reaper_by_now(&mut self, number: u64) {
        while self.reapers.get(&number).is_some_and(|reaper| sys::is_readable(reaper.told.as_fd(), 0)) {
            self.hear_reaper(number);
        }
    }

    /// There is something to be read, or the end.
    fn hear_reaper(&mut self, number: u64) {
        let Some(reaper) = self.reapers.get(&number) else { return };
        let mut records = [0; RECORD * 4];
        let length = rustix::io::read(&reaper.told, &mut records).unwrap_or(0);
        if length == 0 {
            let unborn = self.is_unborn(number);
            let _closed = self.reapers.remove(&number).map(|reaper| self.poll.remove(&reaper.told));
            if unborn {
                self.ended(number, Exit { how: How::Signal(libc::SIGKILL), at: sys::now() });
            }
        }
        for mut record in records.get(..length).unwrap_or(&[]).chunks_exact(RECORD) {
            let Ok((kind, value, start_time)) = <(u8, i32, u64)>::read(&mut record) else { continue };
            match kind {
                BORN => self.table.born(number, value, start_time),
                EXITED => self.ended(number, Exit { how: How::Code(value), at: sys::now() }),
                KILLED => self.ended(number, Exit { how: How::Signal(value), at: sys::now() }),
                // Its number is free from now on.
                _ => drop(self.table.get_mut(number).map(Entry::lives)),
            }
        }
    }
}
