//! The second table of lives: in the state directory, for when the run directory is taken away.
//!
//! Its lines are written by a thread, a moment after the process is there: nothing between a wish and a
//! start waits for a disk. It matters where both a keeper is killed and the run directory is gone.
//! Where the disk is slower than the starts, lines are left out and then the first table is copied whole.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::strays::{LINES_MAX, shortened};

/// Lines that wait for the disk, of some 100 bytes each.
const WAITING_MAX: usize = 4096;
/// So long lines gather before they are written: 4,096 of them are 400,000 starts a second.
const GATHER: Duration = Duration::from_millis(10);

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub struct Copy {
    lines: SyncSender<String>,
    /// Some found no room.
    missed: Arc<AtomicBool>,
    /// It is cleared: nothing more is written.
    cleared: Arc<AtomicBool>,
    path: PathBuf,
}

impl Copy {
    /// `first`: the table that this is a copy of.
    pub fn start(path: PathBuf, first: Option<PathBuf>) -> Copy {
        let (lines, received) = sync_channel(WAITING_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let cleared = Arc::new(AtomicBool::new(false));
        let (file, gap, over) = (path.clone(), missed.clone(), cleared.clone());
        let work = move || append(&file, &received, first.as_deref(), &gap, &over);
        let thread = std::thread::Builder::new().name("lives".into()).spawn(work);
        if let Err(error) = thread {
            tracing::warn!(%error, "{} is not written", path.display());
        }
        Copy { lines, missed, cleared, path }
    }

    pub fn write(&self, line: String) {
        // Without the thread the first table has to do.
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.missed.store(true, Ordering::Release);
        }
    }

    /// The node ends in order.
    pub fn clear(self) {
        self.cleared.store(true, Ordering::Release);
        let _ = std::fs::remove_file(self.path);
    }
}

fn append(path: &Path, lines: &Receiver<String>, first: Option<&Path>, missed: &AtomicBool, cleared: &AtomicBool) {
    crate::edge::stand_back(crate::edge::FAR);
    let mut written = 0;
    let mut file = None;
    while let Ok(mut text) = lines.recv() {
        // Nobody is woken for each of a burst.
        std::thread::sleep(GATHER);
        text.extend(lines.try_iter());
        if cleared.load(Ordering::Acquire) {
            return;
        }
        written += text.lines().count();
        // Taken away with the state directory: the next line begins another one.
        file = file.filter(|_| path.symlink_metadata().is_ok());
        if file.is_none() {
            file =
                OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path).ok();
        }
        if let Some(file) = &mut file
            && let Err(error) = file.write_all(text.as_bytes())
        {
            tracing::debug!(%error, "{} is not written", path.display());
        }
        if missed.swap(false, Ordering::AcqRel)
            && let Some(Ok(whole)) = first.map(std::fs::read)
            && let Some(file) = &mut file
        {
            // A line that stands there twice is of the same process.
            let _ = file.write_all(&whole);
            written = LINES_MAX + 1;
        }
        if written > LINES_MAX {
            written = 0;
            file = shortened(path).ok();
        }
    }
}
