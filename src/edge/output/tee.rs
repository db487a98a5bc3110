//! The copy of all output on plugd's own stdout: best effort, never in the way.
//!
//! A thread of its own does the writing and may block; its queue is bounded, and what does not fit is
//! left out and marked. O_NONBLOCK is never set on stdout: its description is shared with the shell
//! and with whoever else has it.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::escape::{self, LINE_MAX};
use super::pump::Tee;
use crate::edge::write_whole;

/// Bytes that may wait for stdout: what a terminal shows in a few seconds.
const WAITING_MAX: usize = 1 << 20;
/// How often a pump that waits for a slow reader looks again.
const ROOM_EVERY: Duration = Duration::from_millis(1);
/// How long the last output may take at the end.
const FLUSH_MAX: Duration = Duration::from_millis(500);
/// Prefixes are padded to the longest name, at most to this.
const PAD_MAX: u32 = 24;

/// Whose output it is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Label {
    /// `orders`, `orders/0`.
    pub text: String,
    pub err: bool,
}

#[derive(Debug)]
struct Piece {
    label: Arc<Label>,
    bytes: Vec<u8>,
    /// Output before this piece was left out.
    missed: u64,
    ended: bool,
}

/// The pump's end of the queue.
#[derive(Debug)]
pub(super) struct Copier {
    queue: mpsc::Sender<Piece>,
    waiting: Arc<AtomicUsize>,
    width: Arc<AtomicU32>,
    dead: Arc<AtomicBool>,
    /// Of the first; the others leave without a look back.
    done: Option<mpsc::Receiver<()>>,
    missed: HashMap<Arc<Label>, u64>,
    /// Of which something was handed on since they began, by whichever of the copiers.
    shown: Arc<Mutex<HashSet<Arc<Label>>>>,
    whole: bool,
}

impl Copier {
    pub(super) fn start(tee: Tee) -> std::io::Result<Copier> {
        let (queue, pieces) = mpsc::channel::<Piece>();
        let (finished, done) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let width = Arc::new(AtomicU32::new(0));
        let dead = Arc::new(AtomicBool::new(false));
        let terminal = rustix::termios::isatty(&tee.to);
        let mut printer = Printer {
            to: tee.to.into(),
            style: Style { terminal, colour: tee.colour, prefix: tee.prefix, raw: tee.whole && !terminal },
            width: width.clone(),
            lines: HashMap::new(),
        };
        let (shared, broken) = (waiting.clone(), dead.clone());
        std::thread::Builder::new().name("tee".into()).spawn(move || {
            for piece in pieces {
                shared.fetch_sub(weight(piece.bytes.len()), Ordering::Relaxed);
                if !broken.load(Ordering::Relaxed) && printer.print(piece).is_err() {
                    // A closed stdout stays closed; services and their files go on.
                    broken.store(true, Ordering::Relaxed);
                }
            }
            let _ = finished.send(());
        })?;
        let done = Some(done);
        Ok(Copier {
            queue,
            waiting,
            width,
            dead,
            done,
            missed: HashMap::new(),
            shown: Arc::default(),
            whole: tee.whole,
        })
    }

    /// Another end of the same queue, for another thread.
    pub(super) fn another(&self) -> Copier {
        Copier {
            queue: self.queue.clone(),
            waiting: self.waiting.clone(),
            width: self.width.clone(),
            dead: self.dead.clone(),
            done: None,
            missed: HashMap::new(),
            shown: self.shown.clone(),
            whole: self.whole,
        }
    }

    pub(super) fn meet(&self, label: &Label) {
        self.width.fetch_max((label.text.len() as u32).min(PAD_MAX), Ordering::Relaxed);
    }

    /// Whether so many bytes may be offered; if not they are counted as left out.
    pub(super) fn takes(&mut self, label: &Arc<Label>, bytes: u64) -> bool {
        if self.dead.load(Ordering::Relaxed) {
            return false;
        }
        while self.whole && self.waiting.load(Ordering::Relaxed) > 0 && !self.has_room(bytes) {
            if self.dead.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(ROOM_EVERY);
        }
        let fits = self.has_room(bytes) || self.whole;
        if !fits {
            *self.missed.entry(label.clone()).or_default() += bytes;
        }
        fits
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.waiting.load(Ordering::Relaxed) as u64 + bytes <= WAITING_MAX as u64
    }

    pub(super) fn offer(&mut self, label: &Arc<Label>, bytes: &[u8]) {
        let missed = self.missed.remove(label).unwrap_or(0);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(label.clone());
        self.waiting.fetch_add(weight(bytes.len()), Ordering::Relaxed);
        let _ = self.queue.send(Piece { label: label.clone(), bytes: bytes.to_vec(), missed, ended: false });
    }

    /// No more comes under this label; a line that has no end is shown now.
    pub(super) fn end(&mut self, label: &Arc<Label>) {
        let missed = self.missed.remove(label).unwrap_or(0);
        if !self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(label) && missed == 0 {
            return;
        }
        self.waiting.fetch_add(weight(0), Ordering::Relaxed);
        let _ = self.queue.send(Piece { label: label.clone(), bytes: Vec::new(), missed, ended: true });
    }

    /// Waits a moment for what is still to be written.
    pub(super) fn finish(self) {
        let Copier { queue, done, whole, dead, .. } = self;
        drop(queue);
        let Some(done) = done else { return };
        while done.recv_timeout(FLUSH_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            if !whole || dead.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// What a piece takes of the queue's room: its own size and that of its envelope.
fn weight(bytes: usize) -> usize {
    bytes + 128
}

#[derive(Debug, Clone, Copy)]
struct Style {
    terminal: bool,
    colour: bool,
    prefix: bool,
    /// Handed on as it came.
    raw: bool,
}

/// A line that is not whole yet.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    left_out: u64,
}

#[derive(Debug)]
struct Printer {
    to: std::fs::File,
    style: Style,
    width: Arc<AtomicU32>,
    lines: HashMap<Arc<Label>, Partial>,
}

impl Printer {
    fn print(&mut self, piece: Piece) -> std::io::Result<()> {
        if self.style.raw {
            return write_whole(&mut self.to, &piece.bytes);
        }
        let width = self.width.load(Ordering::Relaxed) as usize;
        let mut out = Vec::with_capacity(piece.bytes.len() * 5 / 4 + 64);
        let mut partial = self.lines.remove(&piece.label).unwrap_or_default();
        let mut bytes = &piece.bytes[..];
        if piece.missed > 0 {
            if !partial.bytes.is_empty() {
                show(&mut out, &piece.label, &partial, self.style, width);
            }
            let _ = writeln!(out, "… ({} bytes of {} not shown here)", piece.missed, piece.label.text);
            partial = Partial::default();
            // The rest of a line whose beginning was left out would read like a line.
            let _ = bytes.skip_until(b'\n');
        }
        while !bytes.is_empty() {
            let whole = bytes;
            let length = bytes.skip_until(b'\n').unwrap_or(whole.len());
            let line = &whole[..length];
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let room = LINE_MAX.saturating_sub(partial.bytes.len());
            partial.bytes.extend_from_slice(&text[..text.len().min(room)]);
            partial.left_out += text.len().saturating_sub(room) as u64;
            if line.ends_with(b"\n") {
                show(&mut out, &piece.label, &partial, self.style, width);
                partial.bytes.clear();
                partial.left_out = 0;
            }
        }
        if piece.ended && !partial.bytes.is_empty() {
            show(&mut out, &piece.label, &partial, self.style, width);
        } else if !piece.ended && (!partial.bytes.is_empty() || partial.bytes.capacity() > 0) {
            self.lines.insert(piece.label, partial);
        }
        write_whole(&mut self.to, &out)
    }
}

fn show(out: &mut Vec<u8>, label: &Label, line: &Partial, style: Style, width: usize) {
    let json = line.bytes.first() == Some(&b'{') && !style.terminal && line.left_out == 0;
    let text = if json { escape::escape_json(&line.bytes) } else { escape::escape(&line.bytes) };
    if style.prefix && !json {
        let bar = if label.err { '!' } else { '|' };
        let name = &label.text;
        let _ = match style.colour {
            true => write!(out, "\x1b[{}m{name:width$} {bar}\x1b[0m ", colour(name)),
            false => write!(out, "{name:width$} {bar} "),
        };
    }
    out.extend_from_slice(text.as_bytes());
    if line.left_out > 0 {
        out.extend_from_slice(escape::cut_mark(line.left_out).as_bytes());
    }
    out.push(b'\n');
}

/// One of six colours, the same for a name each time; red is left for what is wrong.
fn colour(name: &str) -> u8 {
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    [36, 33, 32, 35, 34, 96][sum as usize % 6]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &[u8], style: Style) -> String {
        let mut out = Vec::new();
        let label = Label { text: "web".into(), err: false };
        show(&mut out, &label, &Partial { bytes: line.to_vec(), left_out: 0 }, style, 5);
        String::from_utf8(out).expect("escaped")
    }

    #[test]
    fn an_end_leaves_the_room_as_it_was() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let tee = Tee { to: write.into(), colour: false, prefix: true, whole: false };
        let mut copier = Copier::start(tee).expect("a thread");
        let gone = Arc::new(Label { text: "gone".into(), err: false });
        let stays = Arc::new(Label { text: "stays".into(), err: false });
        let mut lines = std::io::BufReader::new(read).lines();
        for _ in 0..50 {
            assert!(copier.takes(&gone, 1), "there is room");
            copier.offer(&gone, b"");
            copier.end(&gone);
            assert!(copier.takes(&stays, 7), "an end takes no room for good and gives none that it had not");
            copier.offer(&stays, b"tick 1\n");
            assert_eq!(lines.next().expect("a line").expect("read"), "stays | tick 1");
        }
    }

    #[test]
    fn a_line_that_moves_to_another_thread_stays_one() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let tee = Tee { to: write.into(), colour: false, prefix: true, whole: false };
        let mut first = Copier::start(tee).expect("a thread");
        let mut second = first.another();
        let label = || Arc::new(Label { text: "web".into(), err: false });
        assert!(first.takes(&label(), 3));
        first.offer(&label(), b"abc");
        assert!(second.takes(&label(), 3));
        second.offer(&label(), b"def");
        second.end(&label());
        drop((first, second));
        let lines: Vec<String> = std::io::BufReader::new(read).lines().map_while(Result::ok).collect();
        assert_eq!(lines, ["web | abcdef"]);
    }

    #[test]
    fn lines_have_a_prefix_but_json_stays_json_in_a_pipe() {
        let pipe = Style { terminal: false, colour: false, prefix: true, raw: false };
        let terminal = Style { terminal: true, colour: true, prefix: true, raw: false };
        assert_eq!(shown(b"hello", pipe), "web   | hello\n");
        assert_eq!(shown(b"{\"a\":1}", pipe), "{\"a\":1}\n");
        assert!(shown(b"{\"a\":1}", terminal).contains("web   |"));
        assert_eq!(shown(b"\x1b[2J", Style { prefix: false, ..pipe }), "\\x1b[2J\n");
    }
}
