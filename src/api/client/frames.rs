//! Server-sent events, read line by line from a body.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use super::{ClientError, Result};

/// One frame: a snapshot of 10,000 services is the largest there is.
const FRAME_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) event: String,
    pub(super) data: String,
}

/// The body of a stream, cut into frames.
#[derive(Debug)]
pub(super) struct Frames {
    body: Incoming,
    parser: Parser,
}

impl Frames {
    pub(super) fn new(body: Incoming) -> Frames {
        Frames { body, parser: Parser::default() }
    }

    /// The next frame; none when the server ended the stream. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.parser.take() {
                return Ok(Some(frame));
            }
            match chunk(&mut self.body).await? {
                Some(bytes) => self.parser.push(&bytes)?,
                None => return Ok(None),
            }
        }
    }
}

/// The next piece of data of a body.
pub(super) async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(ClientError::Broken(error.into())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Parser {
    /// Bytes that came; those before `seen` hold no line's end.
    bytes: Vec<u8>,
    frame: Option<Frame>,
    ready: std::collections::VecDeque<Frame>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.bytes.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.bytes);
            self.line(&line);
        }
        self.bytes.extend_from_slice(rest);
        let held = self.bytes.len() + self.frame.as_ref().map_or(0, |frame| frame.data.len());
        if held > FRAME_MAX {
            return Err(ClientError::Dropped(format!("a frame is larger than {FRAME_MAX} bytes")));
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            self.ready.extend(self.frame.take());
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let frame = || Frame { event: String::new(), data: String::new() };
        match field {
            "event" => self.frame.get_or_insert_with(frame).event = value.to_string(),
            "data" => {
                let data = &mut self.frame.get_or_insert_with(frame).data;
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
            }
            // `id`, `retry` and comments tell us nothing.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let text =
            b": hello\n\nevent: a\ndata: 1\ndata: 2\nid: 7\n\nevent: b\r\ndata: {\"x\": \": \"}\r\n\r\nevent: c\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            for piece in text.chunks(size) {
                parser.push(piece).expect("small");
            }
            let frames: Vec<Frame> = std::iter::from_fn(|| parser.take()).collect();
            let frame = |event: &str, data: &str| Frame { event: event.to_string(), data: data.to_string() };
            assert_eq!(frames, [frame("a", "1\n2"), frame("b", "{\"x\": \": \"}")], "pieces of {size}");
        }
    }
}
