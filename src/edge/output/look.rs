//! Reading along: the `logLine` probe, and the last words of a life.
//!
//! Bytes are read back from the log file after they were moved there, so nothing of this stands in
//! the way of a line that must not be lost.

use std::io::BufRead;

use super::file::{Began, LogFile};
use crate::model::text::harmless::strip;

/// The last output that is told of an ended life: `lastExit.output` in the status file.
const LAST_MAX: usize = 2048;
/// The longest line that the probe's pattern is tried on; the rest of a longer one is not seen.
const LINE_MAX: usize = 16 * 1024;

/// Waits for a line that matches.
#[derive(Debug)]
pub(super) struct Look {
    pattern: regex::bytes::Regex,
    /// What is known of the present line.
    line: Vec<u8>,
    /// The file's bytes before this offset were looked at.
    at: u64,
}

impl Look {
    /// `from` is where the life begins in the file: a line that was written while no controller
    /// lived counts too.
    pub(super) fn new(pattern: &regex::Regex, from: u64) -> Option<Look> {
        let pattern = regex::bytes::Regex::new(pattern.as_str()).ok()?;
        Some(Look { pattern, line: Vec::new(), at: from })
    }

    /// The pattern as it was written.
    pub(super) fn source(&self) -> &str {
        self.pattern.as_str()
    }

    /// For a look at another file.
    pub(super) fn pattern(&self) -> Option<regex::Regex> {
        regex::Regex::new(self.pattern.as_str()).ok()
    }

    /// Looks at what the file has and the look has not seen; true at the first match.
    pub(super) fn advance(&mut self, file: &LogFile, buffer: &mut [u8]) -> bool {
        while self.at < file.size() {
            let count = file.read_at(buffer, self.at);
            if count == 0 {
                break;
            }
            self.at += count as u64;
            if self.see(&buffer[..count]) {
                return true;
            }
        }
        // Never beyond the end: a truncated file grows again from there.
        self.at = self.at.min(file.size());
        false
    }

    /// The file was rotated: what was looked at is in another one now.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    pub(super) fn see(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let mut rest = bytes;
            let length = rest.skip_until(b'\n').unwrap_or(bytes.len());
            let (line, after) = bytes.split_at(length);
            bytes = after;
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&line[..line.len().min(room)]);
            if line.ends_with(b"\n") {
                let whole = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
                let matched = self.pattern.is_match(whole.strip_suffix(b"\r").unwrap_or(whole));
                self.line.clear();
                if matched {
                    return true;
                }
            }
        }
        false
    }
}

/// The last output of the present life in this file.
pub(super) fn last_of(file: &LogFile) -> Vec<u8> {
    let from = match file.began {
        Began::Here(offset) => offset,
        Began::Before(_) | Began::Older => 0,
    };
    let mut last = vec![0; LAST_MAX];
    let start = file.size().saturating_sub(LAST_MAX as u64).max(from.min(file.size()));
    let count = file.read_at(&mut last, start);
    last.truncate(count);
    let missing = LAST_MAX - last.len();
    if let Began::Before(offset) = file.began
        && missing > 0
    {
        let mut before = read_end(file, offset, missing);
        before.append(&mut last);
        last = before;
    }
    last
}

/// The end of `BASE.1`, not before `from`.
fn read_end(file: &LogFile, from: u64, limit: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; limit];
    let Ok(old) = std::fs::File::open(file.place.rotated(1)) else { return Vec::new() };
    let size = old.metadata().map_or(0, |meta| meta.len());
    let count = old.read_at(&mut bytes, size.saturating_sub(limit as u64).max(from)).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// Lines for a status file: harmless, without empty ones, the last 2 KiB.
pub(super) fn last_lines(bytes: &[u8]) -> Vec<String> {
    let mut room = LAST_MAX;
    let mut lines: Vec<String> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').rev().filter(|line| !line.trim_ascii().is_empty()) {
        // A sentence in a status, not evidence: without colours and cursors. The log has the bytes.
        let mut text = strip(&String::from_utf8_lossy(line));
        if text.trim().is_empty() {
            continue;
        }
        if text.len() > room {
            // The end of a message says most.
            let from = (text.len() - room..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            text.drain(..from);
        }
        if text.is_empty() {
            break;
        }
        room -= text.len();
        lines.push(text);
    }
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_seen_in_pieces_and_once_it_is_whole() {
        let pattern = regex::Regex::new("^listening on \\d+$").expect("valid");
        let mut look = Look::new(&pattern, 0).expect("valid");
        assert!(!look.see(b"starting\nlisten"));
        assert!(!look.see(b"ing on 80"));
        assert!(look.see(b"80\r\nmore"));
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_its_limit() {
        let pattern = regex::Regex::new("never").expect("valid");
        let mut look = Look::new(&pattern, 0).expect("valid");
        for _ in 0..100 {
            assert!(!look.see(&[b'x'; 4096]));
        }
        assert_eq!(look.line.len(), LINE_MAX);
    }

    #[test]
    fn last_lines_are_harmless_and_few() {
        assert_eq!(last_lines(b"\x1b[31mbad\n\nend\n"), ["bad", "end"]);
        let long = last_lines(&[0xff; 5000]);
        // Each byte that is no text is one U+FFFD, of three bytes, and none of them is cut.
        assert_eq!(long.iter().map(String::len).sum::<usize>(), 2046);
        assert_eq!(last_lines(b""), Vec::<String>::new());
    }
}
