//! Text of strangers made harmless: the one place that decides what a terminal may be given.
//!
//! Services, files and peers are not trusted with the terminal of the person who reads of them.
//! What moves a cursor, changes a title, ends a line, turns the writing direction or cannot be seen
//! is written out in visible characters ([`escape`]), or left away where a sentence of a service is
//! repeated inside one of ours ([`strip`]). Files keep the raw bytes; only what is shown is treated.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What becomes of the characters that lay out text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One line within ours: line ends are written out, a tab is a blank.
    Sentence,
    /// A line of a log or of a file: tabs stay where they are.
    Line,
    /// Several lines: line feeds and tabs stay.
    Lines,
    /// A line of JSON on its way to a parser: all stays but what no valid JSON holds.
    Json,
}

/// The text with everything hostile written out: `\n`, `\r`, `\x1b`, `\u{202e}`.
pub fn escape(text: &str, layout: Layout) -> Cow<'_, str> {
    if !text.chars().any(|c| is_hostile(c) && !stays(c, layout)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push(&mut out, c, layout));
    Cow::Owned(out)
}

/// As [`escape`], of bytes that may be no text at all: each that belongs to no character is `\xNN`.
pub fn escape_bytes(bytes: &[u8], layout: Layout) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut out, c, layout));
        push_bytes(&mut out, chunk.invalid());
    }
    out
}

/// [`escape`] for one line within ours.
pub fn clean(text: &str) -> Cow<'_, str> {
    escape(text, Layout::Sentence)
}

/// [`clean`], and at most `limit` bytes, the cut marked.
pub fn clip(text: &str, limit: usize) -> String {
    // Nothing beyond the limit is looked at: cleaning only lengthens.
    let head = &text[..text.floor_char_boundary(limit)];
    let mut out = clean(head).into_owned();
    if head.len() < text.len() || out.len() > limit {
        out.truncate(out.floor_char_boundary(limit.saturating_sub('…'.len_utf8())));
        out.push('…');
    }
    out
}

/// What a service says, without its colours: escape sequences are left away whole (ECMA-48, 5.4),
/// tabs are blanks, and nothing hostile is left.
pub fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push(' '),
            '\u{1b}' => match chars.peek() {
                Some('[') => {
                    chars.next();
                    skip_control_sequence(&mut chars);
                }
                // Titles, links, clipboards: up to BEL or ESC \.
                Some(']' | 'P' | '_' | '^' | 'X') => {
                    chars.next();
                    skip_string(&mut chars);
                }
                // Character sets (`ESC ( B`) and single functions (`ESC c`); a blank is taken for text.
                Some('!'..='~') => {
                    while chars.next_if(|c| matches!(c, '!'..='/')).is_some() {}
                    chars.next_if(|c| matches!(c, '0'..='~'));
                }
                Some(_) | None => {}
            },
            '\u{9b}' => skip_control_sequence(&mut chars),
            c if is_hostile(c) => {}
            c => out.push(c),
        }
    }
    out
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

/// Parameters and intermediates, then one final character.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// One that is never closed ends with the line.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// Control characters of both sets, line ends of Unicode, marks that are not seen or that reverse
/// what is (CVE-2021-42574), and what no text holds. The joiners U+200C and U+200D are not among
/// them: Persian, Hindi and many emoji are written with them.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        // Noncharacters, of every plane.
        || (u32::from(c) & 0xfffe) == 0xfffe
        || matches!(c, '\u{fdd0}'..='\u{fdef}')
}

fn stays(c: char, layout: Layout) -> bool {
    match layout {
        Layout::Sentence => false,
        Layout::Line => c == '\t',
        Layout::Lines => matches!(c, '\t' | '\n'),
        Layout::Json => matches!(c, '\t' | '\r') || !c.is_ascii_control(),
    }
}

fn push(out: &mut String, c: char, layout: Layout) {
    match c {
        c if !is_hostile(c) || stays(c, layout) => out.push(c),
        '\t' => out.push(' '),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\0'..='\x1f' | '\x7f' => push_bytes(out, &[c as u8]),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a String takes all"),
    }
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "\\x{byte:02x}").expect("a String takes all");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is written, what is shown of it in a sentence, and what is left when it is stripped.
    const TABLE: &[(&str, &str, &str)] = &[
        ("plain é 日本 🦀", "plain é 日本 🦀", "plain é 日本 🦀"),
        ("a\tb", "a b", "a b"),
        ("a\nb", "a\\nb", "ab"),
        ("a\r\nstatus: healthy", "a\\r\\nstatus: healthy", "astatus: healthy"),
        ("\u{1b}[31mred\u{1b}[0m", "\\x1b[31mred\\x1b[0m", "red"),
        ("\u{1b}[2J\u{1b}[Hgone", "\\x1b[2J\\x1b[Hgone", "gone"),
        ("\u{1b}[38;5;196mdeep\u{1b}[m", "\\x1b[38;5;196mdeep\\x1b[m", "deep"),
        ("\u{1b}]0;title\u{7}x", "\\x1b]0;title\\x07x", "x"),
        ("\u{1b}]52;c;cm0gLXJm\u{1b}\\x", "\\x1b]52;c;cm0gLXJm\\x1b\\x", "x"),
        ("\u{1b}]8;;http://e\u{1b}\\link\u{1b}]8;;\u{1b}\\", "\\x1b]8;;http://e\\x1b\\link\\x1b]8;;\\x1b\\", "link"),
        ("\u{1b}Pdevice\u{1b}\\x", "\\x1bPdevice\\x1b\\x", "x"),
        ("\u{1b}cx", "\\x1bcx", "x"),
        ("\u{1b}(Bx", "\\x1b(Bx", "x"),
        ("no\u{1b} answer", "no\\x1b answer", "no answer"),
        ("x\u{1b}", "x\\x1b", "x"),
        ("x\u{1b}[", "x\\x1b[", "x"),
        ("never closed \u{1b}]0;title", "never closed \\x1b]0;title", "never closed "),
        ("\u{9b}31mred", "\\u{9b}31mred", "red"),
        ("\u{85}next", "\\u{85}next", "next"),
        ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}", ""),
        ("a\u{202e}cba\u{2066}", "a\\u{202e}cba\\u{2066}", "acba"),
        ("\u{200e}\u{200f}\u{61c}", "\\u{200e}\\u{200f}\\u{61c}", ""),
        ("zero\u{200b}width\u{2060}\u{feff}", "zero\\u{200b}width\\u{2060}\\u{feff}", "zerowidth"),
        ("soft\u{ad}hyphen", "soft\\u{ad}hyphen", "softhyphen"),
        ("tag\u{e0041}", "tag\\u{e0041}", "tag"),
        ("\u{fffe}\u{1ffff}\u{fdd0}", "\\u{fffe}\\u{1ffff}\\u{fdd0}", ""),
        ("nul\0bell\u{7}back\u{8}del\u{7f}", "nul\\x00bell\\x07back\\x08del\\x7f", "nulbellbackdel"),
        ("👩\u{200d}🚒 می\u{200c}خواهم", "👩\u{200d}🚒 می\u{200c}خواهم", "👩\u{200d}🚒 می\u{200c}خواهم"),
    ];

    #[test]
    fn nothing_that_a_terminal_acts_on_comes_through() {
        for (written, shown, stripped) in TABLE {
            assert_eq!(clean(written), *shown, "{written:?}");
            assert_eq!(strip(written), *stripped, "{written:?}");
            assert_eq!(escape_bytes(written.as_bytes(), Layout::Sentence), *shown, "{written:?}");
        }
    }

    #[test]
    fn the_layout_says_what_stays() {
        let text = "a\tb\nc\rd";
        for (layout, shown) in
            [(Layout::Sentence, "a b\\nc\\rd"), (Layout::Line, "a\tb\\nc\\rd"), (Layout::Lines, "a\tb\nc\\rd")]
        {
            assert_eq!(escape(text, layout), shown, "{layout:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_one_by_one() {
        for (bytes, shown) in [
            (&b"\x9b31m"[..], "\\x9b31m"),
            (b"\xff\xfe\xc3", "\\xff\\xfe\\xc3"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
            (b"\xc2\x9b", "\\u{9b}"),
        ] {
            assert_eq!(escape_bytes(bytes, Layout::Line), shown, "{bytes:?}");
        }
    }

    #[test]
    fn no_byte_sequence_of_three_makes_a_control_character() {
        for first in [0x1b, 0x9b, 0xc2, 0xe2, 0xf3, b'a'] {
            for second in 0..=255_u8 {
                for third in [0, 7, 0x1b, 0x80, 0x9b, 0xae, 0xff] {
                    let shown = escape_bytes(&[first, second, third], Layout::Line);
                    assert!(shown.chars().all(|c| c == '\t' || !is_hostile(c)), "{first} {second} {third}");
                }
            }
        }
    }

    #[test]
    fn a_clip_is_never_longer_than_its_limit_and_never_cuts_a_character() {
        assert_eq!(clip("abcdef", 6), "abcdef");
        assert_eq!(clip("abcdefg", 6), "abc…");
        assert_eq!(clip("ééé", 5), "é…");
        assert!(clip(&"\u{1b}".repeat(100), 50).len() <= 50);
    }

    proptest! {
        #[test]
        fn whatever_is_written_nothing_hostile_is_shown(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(is_hostile));
            prop_assert!(!strip(&text).chars().any(is_hostile));
            prop_assert!(escape(&text, Layout::Lines).chars().all(|c| matches!(c, '\t' | '\n') || !is_hostile(c)));
        }
    }
}
