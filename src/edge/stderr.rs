//! Standard error, without waiting for whoever reads it.
//!
//! A terminal that is stopped by `^S`, or a pipe whose reader sleeps, takes no more bytes; the loop
//! must not stand still with it. Lines go to a thread of their own, so many at most; what comes
//! beyond is counted, and the count is told when there is room again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for a reader: the start lines of 5,000 services.
const WAITING_MAX: usize = 1 << 20;

/// After lines were written the next ones gather so long.
const GATHER: Duration = Duration::from_millis(5);

static WAITING: Mutex<Waiting> = Mutex::new(Waiting::new());
/// Something waits.
static MORE: Condvar = Condvar::new();
/// Nothing waits, and nothing is being written.
static IDLE: Condvar = Condvar::new();

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    has_thread: bool,
    writing: bool,
    /// The thread waits to be told that there is more.
    asleep: bool,
    /// Somebody waits for the last line.
    hurry: bool,
}

impl Waiting {
    const fn new() -> Waiting {
        Waiting {
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            has_thread: false,
            writing: false,
            asleep: false,
            hurry: false,
        }
    }

    /// Takes a line in, or counts it.
    fn take(&mut self, line: Vec<u8>) {
        if self.bytes + line.len() > WAITING_MAX {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let lost = std::mem::take(&mut self.dropped);
            self.push(
                format!("plugd: {lost} lines were not said here: nobody read them; `plugd events` has them\n").into(),
            );
        }
        self.push(line);
    }

    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

fn lock() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on nobody who says something waits. Without a thread lines are written where they are said.
pub fn begin() {
    let mut waiting = lock();
    if !waiting.has_thread {
        waiting.has_thread = std::thread::Builder::new().name("stderr".into()).spawn(run).is_ok();
    }
}

fn run() {
    loop {
        let lines = {
            let mut waiting = lock();
            while waiting.lines.is_empty() {
                waiting.asleep = true;
                waiting = MORE.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.asleep = false;
            waiting.writing = true;
            waiting.bytes = 0;
            std::mem::take(&mut waiting.lines)
        };
        pieces(lines).iter().for_each(|piece| write(piece));
        let mut waiting = lock();
        waiting.writing = false;
        let done = waiting.lines.is_empty();
        drop(waiting);
        if done {
            IDLE.notify_all();
            // The next ones may come in a burst: nobody is woken for each.
            drop(MORE.wait_timeout_while(lock(), GATHER, |waiting| !waiting.hurry));
        }
    }
}

/// Lines that are written with one call: no more than a pipe takes at once, so that nothing that others write to it
/// comes between them (PIPE_BUF). A longer line is a piece of its own.
fn pieces(lines: VecDeque<Vec<u8>>) -> Vec<Vec<u8>> {
    const PIPE_BUF: usize = 4096;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for mut line in lines {
        match pieces.last_mut().filter(|piece| piece.len() + line.len() <= PIPE_BUF) {
            Some(piece) => piece.append(&mut line),
            None => pieces.push(line),
        }
    }
    pieces
}

/// A stderr that was closed is no reason to fail.
fn write(line: &[u8]) {
    let _ = super::write_whole(&mut io::stderr(), line);
}

/// Says one line, its end included.
pub fn say(line: Vec<u8>) {
    let mut waiting = lock();
    if waiting.has_thread {
        waiting.take(line);
        if std::mem::take(&mut waiting.asleep) {
            MORE.notify_one();
        }
    } else {
        drop(waiting);
        write(&line);
    }
}

/// Waits until all is said, but not for ever: before an end.
pub fn finish(limit: Duration) {
    let unsaid = |waiting: &mut Waiting| waiting.has_thread && (waiting.writing || !waiting.lines.is_empty());
    let mut waiting = lock();
    waiting.hurry = true;
    MORE.notify_one();
    waiting = IDLE.wait_timeout_while(waiting, limit, unsaid).unwrap_or_else(PoisonError::into_inner).0;
    waiting.hurry = false;
}

/// For tracing: each record is one line.
#[derive(Debug, Clone, Copy)]
pub struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Vec::new())
    }
}

/// Said when it is dropped.
#[derive(Debug)]
pub struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            say(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_together_as_far_as_nothing_can_come_between_them() {
        let line = |length: usize| vec![b'x'; length];
        let lengths = |lines: &[usize]| -> Vec<usize> {
            pieces(lines.iter().map(|length| line(*length)).collect()).iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[4000, 96, 1, 5000, 10]), [4096, 1, 5000, 10]);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_when_there_is_room() {
        let mut waiting = Waiting::new();
        waiting.take(vec![b'x'; WAITING_MAX]);
        waiting.take(b"one\n".to_vec());
        waiting.take(b"two\n".to_vec());
        assert_eq!((waiting.lines.len(), waiting.dropped), (1, 2));
        (waiting.lines, waiting.bytes) = (VecDeque::new(), 0);
        waiting.take(b"three\n".to_vec());
        assert_eq!(waiting.lines.len(), 2);
        assert!(String::from_utf8_lossy(&waiting.lines[0]).contains("2 lines were not said"));
    }
}
