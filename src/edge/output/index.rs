//! The sparse index beside a log: when its bytes were written, and what the bytes cannot say.
//!
//! 16 bytes an entry: one byte of kind and seven of offset, then a value. Entries are appended in
//! the order of their offsets. The index is a help, never a truth: a torn, missing or unwritable one
//! costs precision of times and nothing else, so its errors are not told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) const ENTRY: usize = 16;

/// The largest index that is read: the entries of 24 days with a line each second, or of 128 GiB.
const INDEX_MAX: u64 = 32 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub offset: u64,
    pub mark: Mark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// What follows was written at this time or later: microseconds since the epoch.
    Time(i64),
    /// A life begins.
    Life(u64),
    /// The file ends within a line, which goes on in the next file.
    Cut,
    /// So many bytes are missing here.
    Dropped(u64),
}

impl Entry {
    fn encode(self) -> [u8; ENTRY] {
        let (kind, value) = match self.mark {
            Mark::Time(micros) => (1_u64, micros.cast_unsigned()),
            Mark::Life(life) => (2, life),
            Mark::Cut => (3, 0),
            Mark::Dropped(bytes) => (4, bytes),
        };
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&(kind << 56 | self.offset & (u64::MAX >> 8)).to_le_bytes());
        bytes[8..].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; ENTRY]) -> Option<Entry> {
        let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|at| bytes[from + at]));
        let value = word(8);
        let mark = match word(0) >> 56 {
            1 => Mark::Time(value.cast_signed()),
            2 => Mark::Life(value),
            3 => Mark::Cut,
            4 => Mark::Dropped(value),
            _ => return None,
        };
        Some(Entry { offset: word(0) & (u64::MAX >> 8), mark })
    }
}

/// All entries of an index that can be true of a file of this size; a torn last one is left out.
pub(super) fn load(path: &Path, size: u64) -> Vec<Entry> {
    let Ok(meta) = std::fs::metadata(path) else { return Vec::new() };
    if meta.len() > INDEX_MAX {
        return Vec::new();
    }
    let Ok(bytes) = std::fs::read(path) else { return Vec::new() };
    let mut entries: Vec<Entry> = Vec::with_capacity(bytes.len() / ENTRY);
    for chunk in bytes.as_chunks::<ENTRY>().0 {
        // Offsets never fall; what breaks that is damage and ends what can be trusted.
        let Some(entry) = Entry::decode(*chunk) else { break };
        if entry.offset > size || entries.last().is_some_and(|last| last.offset > entry.offset) {
            break;
        }
        entries.push(entry);
    }
    entries
}

/// Appends to indexes. One file is kept open, that of the busiest log: two descriptors a service are
/// enough, and a quiet one is marked at most once a second.
#[derive(Debug, Default)]
pub(super) struct Writer {
    open: Option<(PathBuf, File)>,
}

impl Writer {
    pub(super) fn append(&mut self, path: &Path, entries: &[Entry]) {
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            self.open = create(path, false).map(|file| (path.to_path_buf(), file)).ok();
        }
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.encode()).collect();
        if let Some((_, file)) = &mut self.open
            && file.write_all(&bytes).is_err()
        {
            // Perhaps half an entry stands there now. The next open cuts it off.
            self.open = None;
        }
    }

    /// Writes an index anew: for a new file (its inode may have been another's before), after a
    /// truncation, and in place of a damaged one.
    pub(super) fn replace(&mut self, path: &Path, entries: &[Entry]) {
        self.open = create(path, true).map(|file| (path.to_path_buf(), file)).ok();
        self.append(path, entries);
    }

    pub(super) fn remove(&mut self, path: &Path) {
        if self.open.as_ref().is_some_and(|(open, _)| open == path) {
            self.open = None;
        }
        let _ = std::fs::remove_file(path);
    }
}

fn create(path: &Path, anew: bool) -> std::io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        options.open(path)
    };
    let file = match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
            }
            open()?
        }
        other => other?,
    };
    let length = file.metadata()?.len();
    let whole = if anew { 0 } else { length - length % ENTRY as u64 };
    if whole != length {
        file.set_len(whole)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back_and_a_torn_one_is_left_out_and_overwritten() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(".idx/7");
        let entries = [
            Entry { offset: 0, mark: Mark::Life(3) },
            Entry { offset: 0, mark: Mark::Time(-5) },
            Entry { offset: 9, mark: Mark::Dropped(u64::MAX) },
            Entry { offset: 12, mark: Mark::Cut },
        ];
        Writer::default().append(&path, &entries[..3]);
        let mut torn = OpenOptions::new().append(true).open(&path).expect("it is there");
        torn.write_all(b"half").expect("room");
        assert_eq!(load(&path, 100), entries[..3]);
        Writer::default().append(&path, &entries[3..]);
        assert_eq!(load(&path, 100), entries);
        assert_eq!(load(&path, 8), entries[..2], "a truncated log has no entries beyond its end");
    }
}
