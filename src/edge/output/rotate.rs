//! Rotation: `NAME.log` becomes `NAME.log.1`, that `.2`, and the last one goes.
//!
//! Renaming moves no bytes, and a file keeps its inode and so its index. A controller that dies
//! between two renames leaves a gap in the numbers, which the next rotation closes.

use std::io;
use std::time::Duration;

use super::budget::{Budget, Old};
use super::file::{Began, LogFile};
use super::hands;
use super::index::Writer;
use super::pipe::Moment;

/// How long a directory that refuses to rename is left alone.
const RETRY: Duration = Duration::from_secs(1);

impl LogFile {
    /// Puts the present file aside and begins a new one. Where the directory does not let it, the file grows on
    /// to twice its size. An error means that nothing can be written now.
    pub(super) fn rotate(
        &mut self,
        max_files: u32,
        max_size: u64,
        index: &mut Writer,
        budget: &mut Budget,
        now: Moment,
    ) -> io::Result<()> {
        // Somebody moved it away already: only a new one is needed.
        if !self.is_named() {
            return self.compare_name(index, now);
        }
        // The current file counts: `maxFiles: 5` is `NAME.log` and four old ones.
        let old_files = max_files.saturating_sub(1);
        budget.shift(&self.place, old_files, index);
        let Some(path) = self.index().cloned() else { return Ok(()) };
        let aside = hands::with(&self.place, || match old_files {
            0 => std::fs::remove_file(&self.place.base),
            _ => std::fs::rename(&self.place.base, self.place.rotated(1)),
        });
        if let Err(error) = aside {
            if self.size() >= max_size.saturating_mul(2) {
                return Err(io::Error::other(format!("it is full and cannot be rotated: {error}")));
            }
            if self.no_rotation_until.is_none() {
                let log = self.place.base.display();
                tracing::warn!(%log, %error, "the log cannot be rotated; it grows on to twice its size");
            }
            self.no_rotation_until = Some(now.mono + RETRY);
            return Ok(());
        }
        match old_files {
            0 => index.remove(&path),
            _ => {
                budget.add(&self.place, 1, Old { size: self.size(), modified: now.micros / 1_000_000, index: path });
            }
        }
        self.began = match (old_files, self.began) {
            (0, _) => Began::Older,
            (_, Began::Here(offset)) => Began::Before(offset),
            (_, Began::Before(_) | Began::Older) => Began::Older,
        };
        self.no_rotation_until = None;
        self.close();
        self.compare_name(index, now)
    }
}
