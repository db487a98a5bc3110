//! The second table of lives: in the state directory, for when the run directory is taken away.
//!
//! Its lines are written by a thread, a moment after the process is there: nothing between a wish and a
//! start waits for a disk. It matters where both a keeper is killed and the run directory is gone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::strays::{LINES_MAX, shortened};

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub struct Copy {
    lines: Sender<String>,
    path: PathBuf,
}

impl Copy {
    pub fn start(path: PathBuf) -> Copy {
        let (lines, received) = channel();
        let file = path.clone();
        let thread = std::thread::Builder::new().name("lives".into()).spawn(move || append(&file, &received));
        if let Err(error) = thread {
            tracing::warn!(%error, "{} is not written", path.display());
        }
        Copy { lines, path }
    }

    pub fn write(&self, line: String) {
        // Without the thread the first table has to do.
        let _ = self.lines.send(line);
    }

    /// The node ends in order.
    pub fn clear(self) {
        let _ = std::fs::remove_file(self.path);
    }
}

fn append(path: &Path, lines: &Receiver<String>) {
    crate::edge::stand_back();
    let mut written = 0;
    let mut file = None;
    while let Ok(mut text) = lines.recv() {
        text.extend(lines.try_iter());
        written += text.lines().count();
        // Taken away with the state directory: the next line begins another one.
        file = file.filter(|_| path.symlink_metadata().is_ok());
        if file.is_none() {
            file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).ok();
        }
        if let Some(file) = &mut file
            && let Err(error) = file.write_all(text.as_bytes())
        {
            tracing::debug!(%error, "{} is not written", path.display());
        }
        if written > LINES_MAX {
            written = 0;
            file = shortened(path).ok();
        }
    }
}
