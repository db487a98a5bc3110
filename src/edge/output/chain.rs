//! The files of one log as one run of lines: rotated ones first, oldest to newest.
//!
//! A line may begin in one file and end in the next (where one was cut because it was longer than a
//! file); it is put together again. A reader holds open descriptors, so a rotation or removal while
//! it reads takes nothing away from it.

use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::SystemTime;

use jiff::Timestamp;

use super::escape::LINE_MAX;
use super::index::{self, Entry, Mark};
use super::layout::{Place, Side, number};
use super::read::Line;

/// Which file it is. An inode number alone is used again as soon as its file is removed.
pub(super) type Identity = (u64, u64, Option<SystemTime>);

pub(super) fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino(), meta.created().ok())
}

/// One file of a log, opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: File,
    pub identity: Identity,
    pub entries: Vec<Entry>,
    /// What of it is read.
    pub start: u64,
    /// None: as far as it goes, also when it grows.
    pub end: Option<u64>,
    pub size: u64,
}

/// All files of a log as they are now, the newest last.
pub(super) fn open_all(place: &Place) -> io::Result<Vec<Opened>> {
    let mut numbers = vec![];
    let (Some(dir), Some(base)) = (place.base.parent(), place.base.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries.flatten() {
                let name = entry.file_name();
                numbers.extend(name.to_str().and_then(|name| name.strip_prefix(base)).and_then(number));
            }
        }
    }
    numbers.sort_unstable();
    // One more than there are: a rotation may happen between the listing and the opening.
    numbers.push(numbers.last().map_or(1, |last| last.saturating_add(1)));
    let mut files: VecDeque<Opened> = VecDeque::new();
    let paths = std::iter::once(place.base.clone()).chain(numbers.into_iter().map(|number| place.rotated(number)));
    for path in paths {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK);
        let file = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ELOOP) => continue,
            other => other?,
        };
        let meta = file.metadata()?;
        let identity = identity(&meta);
        if !meta.is_file() || files.iter().any(|known| known.identity == identity) {
            continue;
        }
        let entries = index::load(&place.index_of(&meta), meta.len());
        files.push_front(Opened { file, identity, entries, start: 0, end: None, size: meta.len() });
    }
    Ok(files.into())
}

/// A run of lines.
#[derive(Debug)]
pub(super) struct Chain {
    instance: u32,
    side: Side,
    files: VecDeque<Opened>,
    /// Where the first of `files` is read, and what of it is in `buffer[at..]`.
    offset: u64,
    buffer: Vec<u8>,
    at: usize,
    marks: VecDeque<Entry>,
    time: Option<Timestamp>,
    line: Option<Line>,
    dropped: u64,
    /// The first line is only part of one: it began before what is wanted.
    skip: bool,
}

impl Chain {
    pub(super) fn new(instance: u32, side: Side, files: Vec<Opened>) -> Chain {
        let mut chain = Chain {
            instance,
            side,
            files: files.into(),
            offset: 0,
            buffer: Vec::new(),
            at: 0,
            marks: VecDeque::new(),
            time: None,
            line: None,
            dropped: 0,
            skip: false,
        };
        chain.begin_file();
        chain.skip = chain.begins_within_line();
        chain
    }

    fn begin_file(&mut self) {
        (self.buffer, self.at) = (Vec::new(), 0);
        if let Some(first) = self.files.front_mut() {
            self.offset = first.start;
            self.marks = std::mem::take(&mut first.entries).into();
        }
    }

    fn begins_within_line(&self) -> bool {
        let mut before = [b'\n'];
        match self.files.front() {
            Some(first) if first.start > 0 => {
                first.file.read_exact_at(&mut before, first.start - 1).is_ok() && before != [b'\n']
            }
            _ => false,
        }
    }

    /// The next whole line; none at the end of what there is now.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.pass_marks() {
                return Ok(Some(line));
            }
            if self.at == self.buffer.len() && !self.fill()? {
                if self.files.len() <= 1 {
                    return Ok(None);
                }
                self.files.pop_front();
                self.begin_file();
                continue;
            }
            // Up to the next place where bytes are missing, which ends a line too.
            let gap = self.marks.iter().find(|entry| matches!(entry.mark, Mark::Dropped(_)));
            let until = gap.map_or(u64::MAX, |entry| entry.offset - self.offset);
            let rest = &self.buffer[self.at..];
            let rest = &rest[..rest.len().min(usize::try_from(until).unwrap_or(usize::MAX))];
            let mut after = rest;
            let length = after.skip_until(b'\n')?;
            let piece = rest[..length].to_vec();
            (self.at, self.offset) = (self.at + length, self.offset + length as u64);
            if self.take(&piece)
                && let Some(line) = self.line.take()
                && !std::mem::take(&mut self.skip)
            {
                return Ok(Some(line));
            }
        }
    }

    /// What is left when nothing more comes: a line without an end.
    pub(super) fn rest(&mut self) -> Option<Line> {
        self.line.take().filter(|_| !self.skip)
    }

    /// Adds to the present line; true when that is its end.
    fn take(&mut self, piece: &[u8]) -> bool {
        let line = self.line.get_or_insert_with(|| Line {
            instance: self.instance,
            side: self.side,
            time: self.time,
            bytes: Vec::new(),
            left_out: 0,
            dropped: std::mem::take(&mut self.dropped),
        });
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        let room = LINE_MAX.saturating_sub(line.bytes.len()).min(text.len());
        line.bytes.extend_from_slice(&text[..room]);
        line.left_out += (text.len() - room) as u64;
        piece.ends_with(b"\n")
    }

    /// Takes up what the index says of the bytes before the present offset; a line that ends because
    /// bytes are missing after it.
    fn pass_marks(&mut self) -> Option<Line> {
        while let Some(entry) = self.marks.pop_front_if(|entry| entry.offset <= self.offset) {
            match entry.mark {
                Mark::Time(micros) => self.time = Timestamp::from_microsecond(micros).ok(),
                Mark::Life(_) | Mark::Cut => {}
                Mark::Dropped(bytes) => {
                    self.dropped += bytes;
                    self.skip = false;
                    if let Some(line) = self.line.take() {
                        return Some(line);
                    }
                }
            }
        }
        None
    }

    fn fill(&mut self) -> io::Result<bool> {
        let Some(first) = self.files.front() else { return Ok(false) };
        let end = first.end.unwrap_or(u64::MAX);
        let wanted = end.saturating_sub(self.offset).min(LINE_MAX as u64) as usize;
        self.buffer.resize(wanted, 0);
        let count = first.file.read_at(&mut self.buffer, self.offset)?;
        self.buffer.truncate(count);
        self.at = 0;
        Ok(count > 0)
    }

    /// The file that is read last, and how much of it was read.
    pub(super) fn newest(&self) -> Option<(&Opened, u64)> {
        let newest = self.files.back()?;
        Some((newest, if self.files.len() == 1 { self.offset } else { 0 }))
    }

    pub(super) fn push(&mut self, file: Opened) {
        let was_empty = self.files.is_empty();
        self.files.push_back(file);
        if was_empty {
            self.begin_file();
        }
    }

    /// The file was truncated: it is read from its beginning.
    pub(super) fn restart(&mut self) {
        self.line = None;
        self.skip = false;
        self.marks.clear();
        self.begin_file();
        self.offset = 0;
        self.files.iter_mut().for_each(|file| file.size = 0);
    }

    /// What was not there when the file was opened is being written now.
    pub(super) fn set_time(&mut self, now: Timestamp) {
        if self.files.front().is_some_and(|first| self.offset >= first.size) {
            self.time = Some(now);
        }
    }
}
