//! All logs together within one limit.
//!
//! Knows every file that nobody writes to: rotated ones, and those of services that are gone. It
//! is filled by one scan of the log directory and kept up to date by what the pump itself does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hands;
use super::index::Writer;
use super::layout::{Place, number};

/// The most that all logs may take where nothing else is said: a tenth of the filesystem up to this.
const TOTAL_MAX: u64 = 1 << 30;
/// The same on a tmpfs, which is memory.
const TOTAL_TMPFS: u64 = 64 << 20;
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// A current file may always have this much, however many there are.
const SIZE_LEAST: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Old {
    /// Of one that somebody else made: none.
    pub size: u64,
    /// Seconds since the epoch.
    pub modified: i64,
    pub index: PathBuf,
}

#[derive(Debug)]
pub(super) struct Budget {
    dir: Option<PathBuf>,
    total: u64,
    scanned: bool,
    /// By base name and number; number 0 is a current file that no pipe feeds.
    old: HashMap<PathBuf, BTreeMap<u32, Old>>,
    old_bytes: u64,
    /// The files that are being written.
    current: HashSet<PathBuf>,
    max_sizes: u64,
    /// Something was added since the last `enforce`.
    pub grown: bool,
}

impl Budget {
    pub(super) fn new(dir: Option<PathBuf>, total: Option<u64>) -> Budget {
        let total = total.or_else(|| dir.as_deref().and_then(default_total)).unwrap_or(TOTAL_MAX);
        Budget {
            dir,
            total,
            scanned: false,
            old: HashMap::new(),
            old_bytes: 0,
            current: HashSet::new(),
            max_sizes: 0,
            grown: true,
        }
    }

    /// A file is written from now on, up to `max_size`.
    pub(super) fn enter(&mut self, place: &Place, max_size: u64, max_files: u32) {
        self.current.insert(place.base.clone());
        self.max_sizes = self.max_sizes.saturating_add(max_size);
        self.drop_entry(&place.base, 0);
        if place.own {
            for number in 1..=max_files {
                if let Ok(meta) = std::fs::symlink_metadata(place.rotated(number)) {
                    self.add(place, number, old_file(&meta, place.index_of(&meta)));
                }
            }
        }
    }

    /// A file is no longer written.
    pub(super) fn leave(&mut self, place: &Place, max_size: u64, rest: Option<Old>) {
        self.current.remove(&place.base);
        self.max_sizes = self.max_sizes.saturating_sub(max_size);
        if let Some(rest) = rest
            && !place.own
        {
            self.add(place, 0, rest);
        }
    }

    /// The settings of a file that is written have changed.
    pub(super) fn resize(&mut self, before: u64, after: u64) {
        self.max_sizes = self.max_sizes.saturating_sub(before).saturating_add(after);
    }

    /// The size at which a file is rotated: its own `maxSize`, or less where all current files
    /// together would be too much.
    pub(super) fn max_size(&self, wanted: u64) -> u64 {
        let share =
            if self.max_sizes > self.total { self.total / (2 * self.current.len().max(1) as u64) } else { u64::MAX };
        wanted.min(share.max(SIZE_LEAST)).max(1)
    }

    pub(super) fn add(&mut self, place: &Place, number: u32, old: Old) {
        self.drop_entry(&place.base, number);
        self.old_bytes += old.size;
        self.grown = true;
        self.old.entry(place.base.clone()).or_default().insert(number, old);
    }

    /// Makes place for a new number 1, keeping at most `keep` old files of this log.
    pub(super) fn shift(&mut self, place: &Place, keep: u32, index: &mut Writer) {
        self.scan();
        let Some(mut files) = self.old.remove(&place.base) else { return };
        let run = (1..).take_while(|number| files.contains_key(number)).last().unwrap_or(0);
        let mut shifted = BTreeMap::new();
        while let Some((number, old)) = files.pop_last() {
            let moves = (1..=run).contains(&number);
            let target = number + u32::from(moves);
            if target > keep {
                self.old_bytes -= old.size;
                remove(place, number, &old, index);
            } else if !moves
                || hands::with(place, || std::fs::rename(place.rotated(number), place.rotated(target))).is_ok()
            {
                shifted.insert(target, old);
            } else {
                self.old_bytes -= old.size;
            }
        }
        if !shifted.is_empty() {
            self.old.insert(place.base.clone(), shifted);
        }
    }

    /// Removes the old files of one log that were last written before a moment.
    pub(super) fn expire(&mut self, place: &Place, max_age: Duration, now_secs: i64, index: &mut Writer) {
        self.scan();
        let oldest = now_secs.saturating_sub(i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX));
        let Some(files) = self.old.get_mut(&place.base) else { return };
        for (number, old) in files.extract_if(.., |number, old| *number > 0 && old.modified < oldest) {
            self.old_bytes -= old.size;
            remove(place, number, &old, index);
        }
    }

    /// Removes old files, the largest first, until everything fits beside the current ones; rotated
    /// files go before the only log of a service that is gone.
    pub(super) fn enforce(&mut self, current_bytes: u64, index: &mut Writer) {
        self.scan();
        self.grown = false;
        while self.old_bytes.saturating_add(current_bytes) > self.total {
            let all = self.old.iter().flat_map(|(base, files)| files.iter().map(move |file| (base, file)));
            let ours = all.filter(|(_, (_, old))| old.size > 0);
            let largest = ours.max_by_key(|(_, (number, old))| (**number > 0, old.size));
            let Some((base, number)) = largest.map(|(base, (number, _))| (base.clone(), *number)) else { return };
            if let Some(old) = self.drop_entry(&base, number) {
                let own = self.dir.as_deref().is_none_or(|dir| !base.starts_with(dir));
                let place = Place { base, index: PathBuf::new(), own };
                let path = path_of(&place, number);
                tracing::info!(log = %path.display(), bytes = old.size, "removed: all logs together are over logs.total");
                remove(&place, number, &old, index);
            }
        }
    }

    fn drop_entry(&mut self, base: &Path, number: u32) -> Option<Old> {
        let files = self.old.get_mut(base)?;
        let old = files.remove(&number)?;
        if files.is_empty() {
            self.old.remove(base);
        }
        self.old_bytes -= old.size;
        Some(old)
    }

    /// Reads the log directory once; later calls do nothing. Removes indexes whose log is gone.
    fn scan(&mut self) {
        if std::mem::replace(&mut self.scanned, true) {
            return;
        }
        let Some(dir) = self.dir.clone() else { return };
        let mut inodes = HashSet::new();
        for entry in walkdir::WalkDir::new(&dir).min_depth(1).max_depth(2).into_iter().flatten() {
            let Some((base, number)) = split(entry.path()) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            let place = Place { base, index: dir.join(".idx"), own: false };
            let index = place.index_of(&meta);
            let is_ours = is_indexed(&meta, &index);
            if is_ours {
                inodes.insert(meta.ino());
            }
            if meta.is_file() && !self.current.contains(&place.base) | (number > 0) {
                let old = old_file(&meta, index);
                let size = if is_ours { old.size } else { 0 };
                self.add(&place, number, Old { size, ..old });
            }
        }
        for entry in walkdir::WalkDir::new(dir.join(".idx")).min_depth(1).max_depth(1).into_iter().flatten() {
            let inode = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if inode.is_some_and(|inode| !inodes.contains(&inode)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Whether plugd wrote the file: others may have theirs in the same directory. The index is named by an inode, which
/// may have come to be another file's.
fn is_indexed(file: &Metadata, index: &Path) -> bool {
    let Ok(written) = index.symlink_metadata().and_then(|index| index.modified()) else { return false };
    // Where a file system does not tell when a file was made, the number has to do.
    file.created().map_or(true, |made| made <= written)
}

/// The base name and number of a log file's path.
fn split(path: &Path) -> Option<(PathBuf, u32)> {
    let text = path.to_str()?;
    if text.ends_with(".log") || text.ends_with(".err") {
        return Some((path.to_path_buf(), 0));
    }
    let dot = text.rfind('.')?;
    let (base, suffix) = text.split_at(dot);
    let is_log = base.ends_with(".log") || base.ends_with(".err");
    is_log.then(|| number(suffix).map(|number| (PathBuf::from(base), number))).flatten()
}

pub(super) fn old_file(meta: &Metadata, index: PathBuf) -> Old {
    Old { size: meta.len(), modified: meta.mtime(), index }
}

fn path_of(place: &Place, number: u32) -> PathBuf {
    if number == 0 { place.base.clone() } else { place.rotated(number) }
}

fn remove(place: &Place, number: u32, old: &Old, index: &mut Writer) {
    let path = path_of(place, number);
    if let Err(error) = hands::with(place, || std::fs::remove_file(&path)) {
        tracing::debug!(log = %path.display(), %error, "an old log could not be removed");
    }
    index.remove(&old.index);
}

fn default_total(dir: &Path) -> Option<u64> {
    let nearest = dir.ancestors().find(|dir| dir.exists())?;
    let fs = rustix::fs::statfs(nearest).ok()?;
    if u64::try_from(fs.f_type).is_ok_and(|magic| magic == TMPFS_MAGIC) {
        return Some(TOTAL_TMPFS);
    }
    let size = u64::try_from(fs.f_bsize).ok()?.saturating_mul(fs.f_blocks);
    Some((size / 10).clamp(SIZE_LEAST, TOTAL_MAX))
}
