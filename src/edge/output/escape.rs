//! Bytes of services, made safe to show: on a terminal, in a pipe, in a status file.
//!
//! A service is not trusted with the terminal of the person who reads its log: everything that moves
//! a cursor, changes a title, reorders text or is not text at all is written out as `\xNN` or
//! `\u{N}`. Colours go with the rest. Files keep the raw bytes; only what is shown is escaped.

use std::fmt::Write;

/// The longest line that is shown, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// The line as it may be shown; tabs stay, a carriage return at its end (CRLF) goes.
pub fn escape(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            push(&mut text, character);
        }
        push_raw(&mut text, chunk.invalid());
    }
    text
}

/// A line that is probably JSON, for a reader that parses it: only what no valid JSON line can
/// contain is escaped, so valid JSON passes byte for byte.
pub fn escape_json(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' | '\r' => text.push(character),
                '\0'..='\x1f' | '\x7f' => push(&mut text, character),
                _ => text.push(character),
            }
        }
        push_raw(&mut text, chunk.invalid());
    }
    text
}

/// How a cut line ends, so that nobody takes it for whole.
pub fn cut_mark(left_out: u64) -> String {
    format!("… ({left_out} bytes left out)")
}

fn push(text: &mut String, character: char) {
    match character {
        '\t' => text.push('\t'),
        '\0'..='\x1f' | '\x7f' => push_raw(text, &[character as u8]),
        character if is_hostile(character) => {
            let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
        }
        character => text.push(character),
    }
}

fn push_raw(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Characters that act instead of being seen: C1 controls (a terminal's second set of escapes), the
/// bidi controls of Trojan Source (CVE-2021-42574), line separators, and invisible tags.
fn is_hostile(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_comes_through() {
        for (raw, shown) in [
            (&b"plain \xc3\xa9\ttext"[..], "plain é\ttext"),
            (b"crlf\r", "crlf"),
            (b"a\rb", "a\\x0db"),
            (b"\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
            (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            (b"\x1b]52;c;cm0gLXJm\x1b\\", "\\x1b]52;c;cm0gLXJm\\x1b\\"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            (b"\x9b31m", "\\x9b31m"),
            (b"nul\0bell\x07del\x7f", "nul\\x00bell\\x07del\\x7f"),
            (b"\xff\xfe\xc3", "\\xff\\xfe\\xc3"),
            ("a\u{202e}cba\u{2066}".as_bytes(), "a\\u{202e}cba\\u{2066}"),
            ("tag\u{e0041}".as_bytes(), "tag\\u{e0041}"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ] {
            assert_eq!(escape(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn no_byte_sequence_of_three_makes_a_control_character() {
        for first in [0x1b, 0x9b, 0xc2, 0xe2, 0xf3, b'a'] {
            for second in 0..=255_u8 {
                for third in [0, 7, 0x1b, 0x80, 0x9b, 0xae, 0xff] {
                    let shown = escape(&[first, second, third]);
                    assert!(shown.chars().all(|c| c == '\t' || !c.is_control()), "{first} {second} {third}");
                }
            }
        }
    }

    #[test]
    fn valid_json_passes_untouched_and_what_is_not_json_does_not() {
        let json = "{\"a\":\"\u{202e}é\\u001b\",\t\"b\":1}\r";
        assert_eq!(escape_json(json.as_bytes()), json);
        assert_eq!(escape_json(b"{\x1b[2J\xff"), "{\\x1b[2J\\xff");
    }
}
