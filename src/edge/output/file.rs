//! One log file that is being written: opened carefully, watched for what others do to it.
//!
//! It is opened without O_APPEND (splice refuses that) and has one writer, so the pump gives the
//! offset itself. Before each move fstat tells whether somebody truncated or removed the file; once a
//! second its name is compared too, which finds a file that was moved away or replaced by a link.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::pipe::{SpliceFlags, splice};

use super::hands;
use super::index::{self, Entry, Mark, Writer};
use super::layout::Place;
use super::off_limits::OffLimits;
use super::pipe::Moment;

/// How much output one entry of the index covers: a reader that looks for a time reads at most this.
const MARK_BYTES: u64 = 64 * 1024;
/// How long one entry covers, in microseconds: times are right to the second.
const MARK_MICROS: i64 = 1_000_000;
/// How often the name of a busy file is compared.
const NAME_EVERY: Duration = Duration::from_secs(1);

/// Where the present life begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Began {
    Here(u64),
    /// In `BASE.1`.
    Before(u64),
    Older,
}

#[derive(Debug)]
pub(super) struct LogFile {
    pub place: Place,
    off_limits: Arc<OffLimits>,
    /// What was named when it was found to be free.
    free_at: u64,
    pub began: Began,
    life: Option<u64>,
    /// The life that writes now; noted as soon as there is a file.
    wanted: Option<u64>,
    open: Option<Open>,
    named: Instant,
    marked: (u64, i64),
    /// After a rotation that failed: no other before this moment.
    pub no_rotation_until: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    dev: u64,
    ino: u64,
    size: u64,
    index: PathBuf,
}

impl LogFile {
    pub(super) fn new(place: Place, off_limits: Arc<OffLimits>, now: Moment) -> LogFile {
        LogFile {
            place,
            off_limits,
            free_at: 0,
            began: Began::Older,
            life: None,
            wanted: None,
            open: None,
            named: now.mono,
            marked: (0, 0),
            no_rotation_until: None,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.size)
    }

    pub(super) fn index(&self) -> Option<&PathBuf> {
        self.open.as_ref().map(|open| &open.index)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// For who wants to read: opens what is there already, and makes nothing.
    pub(super) fn look_up(&mut self, index: &mut Writer, now: Moment) {
        if self.open.is_none() && std::fs::symlink_metadata(&self.place.base).is_ok() {
            // A file that cannot be opened shows nothing.
            let _ = self.reopen(index, now);
        }
    }

    /// Makes the file ready for a write at its end, whatever happened to it since the last one.
    pub(super) fn ready(&mut self, index: &mut Writer, now: Moment) -> io::Result<()> {
        self.keep_off()?;
        let Some(open) = &mut self.open else { return self.reopen(index, now) };
        let meta = open.file.metadata()?;
        if meta.nlink() == 0 {
            return self.reopen(index, now);
        }
        if meta.len() != open.size {
            tracing::warn!(log = %self.place.base.display(), expected = open.size, found = meta.len(), "the log was changed by somebody else; going on at its end");
            let kept = index::load(&open.index, meta.len());
            if meta.len() < open.size {
                index.replace(&open.index, &kept);
                self.began = Began::Here(0);
            }
            open.size = meta.len();
            self.marked = (0, 0);
        }
        if now.mono.duration_since(self.named) >= NAME_EVERY {
            return self.compare_name(index, now);
        }
        Ok(())
    }

    /// A manifest that came since may name it.
    fn keep_off(&mut self) -> io::Result<()> {
        let version = self.off_limits.named.version();
        let Some(open) = self.open.as_ref().filter(|_| self.place.own && version != self.free_at) else {
            return Ok(());
        };
        let why = self.off_limits.why_place(&self.place.base);
        if let Some(why) = why.or_else(|| self.off_limits.why_file(&open.file.metadata().ok()?)) {
            self.open = None;
            return refuse(Some(why));
        }
        self.free_at = version;
        Ok(())
    }

    /// Opens the file anew if its name no longer leads to it.
    pub(super) fn compare_name(&mut self, index: &mut Writer, now: Moment) -> io::Result<()> {
        self.named = now.mono;
        if self.is_named() { Ok(()) } else { self.reopen(index, now) }
    }

    pub(super) fn is_named(&self) -> bool {
        let Some(open) = &self.open else { return false };
        std::fs::symlink_metadata(&self.place.base)
            .is_ok_and(|meta| meta.is_file() && meta.ino() == open.ino && meta.dev() == open.dev)
    }

    fn reopen(&mut self, index: &mut Writer, now: Moment) -> io::Result<()> {
        self.open = None;
        if self.place.own && self.is_foreign() {
            self.off_limits.named.wait();
        }
        self.free_at = self.off_limits.named.version();
        if self.place.own {
            // Opened for writing, a program could not be started for a moment.
            refuse(self.off_limits.why(&self.place.base))?;
        }
        let file = hands::with(&self.place, || open(&self.place))?;
        let meta = file.metadata()?;
        if self.place.own {
            refuse(self.off_limits.why_file(&meta))?;
        }
        let size = meta.len();
        let path = self.place.index_of(&meta);
        let entries = if size == 0 { Vec::new() } else { index::load(&path, size) };
        let began = entries.iter().rev().find_map(|entry| match entry.mark {
            Mark::Life(life) => Some((life, Began::Here(entry.offset))),
            Mark::Time(_) | Mark::Cut | Mark::Dropped(_) => None,
        });
        if self.life.is_none() {
            (self.life, self.began) = match began.or_else(|| self.began_before()) {
                Some((life, began)) => (Some(life), began),
                None => (None, Began::Older),
            };
        }
        let start = if entries.is_empty() { first_entries(&meta) } else { Vec::new() };
        if entries.is_empty() {
            // A file without an index, or a new one whose inode was another's: nothing old may stay.
            index.replace(&path, &start);
        }
        index.append(&path, &[Entry { offset: size, mark: Mark::Time(now.micros) }]);
        self.marked = (size, now.micros);
        self.named = now.mono;
        self.open = Some(Open { file, dev: meta.dev(), ino: meta.ino(), size, index: path });
        if let Some(life) = self.wanted {
            self.begin_life(life, index, now);
        }
        Ok(())
    }

    /// Something is there that no pump has written.
    fn is_foreign(&self) -> bool {
        let there = std::fs::symlink_metadata(&self.place.base);
        there.is_ok_and(|there| there.len() > 0 && index::load(&self.place.index_of(&there), there.len()).is_empty())
    }

    /// The newest life of the rotated files.
    fn began_before(&self) -> Option<(u64, Began)> {
        (1..)
            .map_while(|number| std::fs::symlink_metadata(self.place.rotated(number)).ok().map(|meta| (number, meta)))
            .find_map(|(number, meta)| {
                let entries = index::load(&self.place.index_of(&meta), meta.len());
                let (life, offset) = entries.iter().rev().find_map(|entry| match entry.mark {
                    Mark::Life(life) => Some((life, entry.offset)),
                    Mark::Time(_) | Mark::Cut | Mark::Dropped(_) => None,
                })?;
                Some((life, if number == 1 { Began::Before(offset) } else { Began::Older }))
            })
    }

    /// Notes where a life begins, and when: what it writes was not written before. One that a controller before us has
    /// noted is not noted twice.
    pub(super) fn begin_life(&mut self, life: u64, index: &mut Writer, now: Moment) {
        self.wanted = Some(life);
        if self.life == Some(life) || self.open.is_none() {
            return;
        }
        self.life = Some(life);
        self.began = Began::Here(self.size());
        self.mark(Mark::Life(life), index);
        let begins = (self.size(), now.micros);
        if self.marked != begins {
            self.mark(Mark::Time(now.micros), index);
            self.marked = begins;
        }
    }

    /// Notes something at the present end of the file.
    pub(super) fn mark(&self, mark: Mark, index: &mut Writer) {
        if let Some(open) = &self.open {
            index.append(&open.index, &[Entry { offset: open.size, mark }]);
        }
    }

    /// Moves at most `limit` bytes from the pipe to the end of the file.
    pub(super) fn take(&mut self, pipe: impl AsFd, limit: usize) -> rustix::io::Result<usize> {
        let Some(open) = &mut self.open else { return Err(rustix::io::Errno::BADF) };
        let mut end = open.size;
        let moved = splice(pipe, None, &open.file, Some(&mut end), limit, SpliceFlags::NONBLOCK)?;
        open.size += moved as u64;
        Ok(moved)
    }

    /// Notes when the bytes since `from` were written, if the last such note is far away.
    pub(super) fn note_time(&mut self, from: u64, index: &mut Writer, now: Moment) {
        let (offset, micros) = self.marked;
        let near = from.saturating_sub(offset) < MARK_BYTES && (0..MARK_MICROS).contains(&(now.micros - micros));
        if !near && let Some(open) = &self.open {
            index.append(&open.index, &[Entry { offset: from, mark: Mark::Time(now.micros) }]);
            self.marked = (from, now.micros);
        }
    }

    /// Whether the file ends at a line's end; an empty one does.
    pub(super) fn ends_line(&self) -> bool {
        let mut last = [b'\n'];
        match &self.open {
            Some(open) if open.size > 0 => {
                open.file.read_exact_at(&mut last, open.size - 1).is_err() || last == [b'\n']
            }
            _ => true,
        }
    }

    /// Whether the disk would take a write now: asked for without writing.
    pub(super) fn has_room(&self) -> io::Result<()> {
        let Some(open) = &self.open else { return Err(ErrorKind::NotFound.into()) };
        match rustix::fs::fallocate(&open.file, rustix::fs::FallocateFlags::KEEP_SIZE, open.size, 4096) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        self.open.as_ref().and_then(|open| open.file.read_at(buffer, offset).ok()).unwrap_or(0)
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

fn refuse(why: Option<String>) -> io::Result<()> {
    why.map_or(Ok(()), |why| Err(io::Error::other(why)))
}

fn first_entries(meta: &Metadata) -> Vec<Entry> {
    let Ok(written) = meta.created().or_else(|_| meta.modified()) else { return Vec::new() };
    match jiff::Timestamp::try_from(written) {
        Ok(time) if meta.len() > 0 => vec![Entry { offset: 0, mark: Mark::Time(time.as_microsecond()) }],
        _ => Vec::new(),
    }
}

/// Opens or creates the file. A link is never followed; in our own directory it is replaced.
fn open(place: &Place) -> io::Result<File> {
    let path = &place.base;
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o640);
        options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK);
        options.open(path)
    };
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
            }
            open()?
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) && !place.own => {
            tracing::warn!(log = %path.display(), "the log was replaced by a symbolic link; the link is removed");
            std::fs::remove_file(path)?;
            open()?
        }
        other => other?,
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}
