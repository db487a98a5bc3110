//! What is waited for, while it is waited for: in place on a terminal, else a line per change.
//!
//! It is told on stderr, so that data stays data, and only after a moment: what is there at once
//! needs no word.

use std::io::Write;
use std::time::{Duration, Instant};

use super::look::{self, columns, cut};

/// What takes less than this is not worth a line.
const SILENT: Duration = Duration::from_millis(300);

/// The line that tells what is waited for; gone from a terminal with its owner.
#[derive(Debug)]
pub struct Progress {
    /// Columns of the terminal; none where stderr is none.
    width: Option<usize>,
    silent_until: Instant,
    told: String,
}

impl Progress {
    pub fn begin() -> Progress {
        Progress { width: look::width_of_stderr(), silent_until: Instant::now() + SILENT, told: String::new() }
    }

    /// When to look again although nothing changed: at the end of the silence.
    pub fn next_look(&self) -> Option<Instant> {
        self.told.is_empty().then_some(self.silent_until)
    }

    /// Tells what is waited for now; the same is not told twice.
    pub fn tell(&mut self, text: &str) {
        if text == self.told || text.is_empty() || Instant::now() < self.silent_until {
            return;
        }
        self.told = text.to_string();
        let mut stderr = std::io::stderr().lock();
        // A stderr that nobody reads is no reason to fail.
        let _ = match self.width {
            // One column is left free: a full line would wrap.
            Some(width) => write!(stderr, "\r\x1b[K{}", cut(text, width.saturating_sub(1).max(columns("…")), "…")),
            None => writeln!(stderr, "plugd: {text}"),
        };
        let _ = stderr.flush();
    }

    fn clear(&mut self) {
        if self.width.is_some() && !self.told.is_empty() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
