//! Looking at what is in a pipe without taking it.
//!
//! tee(2) copies references to the pipe's pages into a scratch pipe, which is then read empty. The
//! bytes stay in the service's pipe, so a kill at any moment loses and doubles nothing.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

/// The largest look: as much as a default pipe holds, 16 pages of 4 KiB.
pub(super) const LOOK_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
    buffer: Vec<u8>,
    null: OwnedFd,
}

impl Scratch {
    pub(super) fn new() -> std::io::Result<Scratch> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // As many slots as a grown service pipe has; where that is refused looks are only shorter.
        let _ = fcntl_setpipe_size(&writer, 256 * 1024);
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?.into();
        Ok(Scratch { reader, writer, buffer: vec![0; LOOK_MAX], null })
    }

    /// The first bytes of the pipe, at most `limit` and [`LOOK_MAX`]; empty at end-of-file.
    /// `AGAIN` when there is nothing now.
    pub(super) fn look(&mut self, pipe: impl AsFd, limit: u64) -> Result<&[u8]> {
        let limit = limit.min(LOOK_MAX as u64) as usize;
        let seen = tee(pipe, &self.writer, limit, SpliceFlags::NONBLOCK)?;
        let mut filled = 0;
        while filled < seen {
            match rustix::io::read(&self.reader, &mut self.buffer[filled..seen]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(&self.buffer[..filled])
    }

    /// Throws the first bytes of the pipe away; at most `limit`.
    pub(super) fn discard(&self, pipe: impl AsFd, limit: usize) -> Result<usize> {
        splice(pipe, None, &self.null, None, limit, SpliceFlags::NONBLOCK)
    }

    /// Takes bytes out of the pipe for looking only, where there is no file to keep them in.
    pub(super) fn take(&mut self, pipe: impl AsFd) -> Result<&[u8]> {
        let count = rustix::io::read(pipe, self.buffer.as_mut_slice())?;
        Ok(&self.buffer[..count])
    }
}
