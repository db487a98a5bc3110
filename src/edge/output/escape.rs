//! Bytes of services, made safe to show: on a terminal, in a pipe, in a status file.
//!
//! What is hostile is decided in `model::text::harmless`; here are the rules of lines. Files keep the
//! raw bytes; only what is shown is escaped, colours too.

use crate::model::text::harmless::{Layout, escape_bytes};

/// The longest line that is shown, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// The line as it may be shown; tabs stay, a carriage return at its end (CRLF) goes.
pub fn escape(line: &[u8]) -> String {
    escape_bytes(line.strip_suffix(b"\r").unwrap_or(line), Layout::Line)
}

/// A line that is probably JSON, for a reader that parses it: only what no valid JSON line can
/// contain is escaped, so valid JSON passes byte for byte.
pub fn escape_json(line: &[u8]) -> String {
    escape_bytes(line, Layout::Json)
}

/// How a cut line ends, so that nobody takes it for whole.
pub fn cut_mark(left_out: u64) -> String {
    format!("… ({left_out} bytes left out)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carriage_return_at_the_end_goes_and_any_other_is_told() {
        for (raw, shown) in [
            (&b"plain \xc3\xa9\ttext"[..], "plain é\ttext"),
            (b"crlf\r", "crlf"),
            (b"a\rb", "a\\rb"),
            (b"\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ] {
            assert_eq!(escape(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn valid_json_passes_untouched_and_what_is_not_json_does_not() {
        let json = "{\"a\":\"\u{202e}é\\u001b\",\t\"b\":1}\r";
        assert_eq!(escape_json(json.as_bytes()), json);
        assert_eq!(escape_json(b"{\x1b[2J\xff"), "{\\x1b[2J\\xff");
    }
}
