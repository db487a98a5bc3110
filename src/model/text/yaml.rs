//! The one place that prints YAML: scalars, one-line maps and one-line lists.
//!
//! A scalar stands plain only if every reader of YAML 1.1 and 1.2 takes it for the same string;
//! everything else is double-quoted with the escapes that JSON and YAML share. A serializer is not
//! used, since none of them prints flow maps; tests hold two parsers to the same reading.

use super::harmless::{clean, clip};

/// A string as a YAML scalar, plain where that is safe in block and flow alike.
pub fn scalar(text: &str) -> String {
    let text = clean(text);
    if is_plain(&text) { text.into_owned() } else { quoted(&text) }
}

/// A string as a double-quoted scalar.
pub fn quoted(text: &str) -> String {
    let text = clean(text);
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Lines of a message as one double-quoted scalar: a reader gets its line ends back. At most `limit`
/// bytes, the cut marked.
pub fn paragraph(text: &str, limit: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut room = limit;
    for line in text.lines() {
        let clipped = clip(line, room.max('…'.len_utf8()));
        let cut = clipped.ends_with('…') && !line.ends_with('…');
        room = room.saturating_sub(clipped.len() + 1);
        let quoted = quoted(&clipped);
        lines.push(quoted[1..quoted.len() - 1].to_string());
        if cut || room == 0 {
            break;
        }
    }
    format!("\"{}\"", lines.join("\\n"))
}

/// `{a: 1, b: "x"}`; the values are scalars, maps or lists already printed.
pub fn map<'a>(entries: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

/// `[a, "b"]`; the values are already printed.
pub fn list(values: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", values.into_iter().collect::<Vec<_>>().join(", "))
}

fn is_plain(text: &str) -> bool {
    let first = text.chars().next();
    let begins_well = first.is_some_and(|c| c.is_ascii_alphanumeric() || c == '/' || c == '…');
    let ends_well = !text.ends_with([' ', ':']);
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-/+=@()$ :;…".contains(c);
    begins_well
        && ends_well
        && text.chars().all(inside)
        && !text.contains(": ")
        && !text.starts_with("---")
        && !is_word_of_yaml(text)
        && !may_be_number(text)
}

/// What one of the two versions takes for a boolean or for nothing.
fn is_word_of_yaml(text: &str) -> bool {
    ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "infinity"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// What some reader may take for a number, a date or a sexagesimal: begins with a digit and has no
/// letter that no notation of a number uses. Dotted quads and versions are let through.
fn may_be_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let dotted = bytes.iter().all(|b| b.is_ascii_digit() || *b == b'.') && !text.ends_with('.');
    if dotted && bytes.iter().filter(|b| **b == b'.').count() >= 2 {
        return false;
    }
    let radix = bytes.len() > 1 && bytes[0] == b'0' && b"xXoObB".contains(&bytes[1]);
    let foreign = |b: &u8| (b.is_ascii_alphabetic() && !b"eEtTzZ".contains(b)) || b"/()@=$; ".contains(b);
    let address = text.matches('.').count() == 3 && text.contains(':');
    radix || !(bytes.iter().any(foreign) || address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::text::harmless::is_hostile;
    use crate::model::text::samples::read;

    fn holds(text: &str) {
        let want = clean(text).into_owned();
        let printed = scalar(text);
        assert_eq!(read(&format!("key: {printed}\n"))["key"], want, "{printed}");
        assert_eq!(read(&format!("key: {{a: {printed}, b: 1}}\n"))["key"]["a"], want, "{printed}");
        assert_eq!(read(&format!("key: [{printed}, 1]\n"))["key"][0], want, "{printed}");
        assert!(!printed.chars().any(is_hostile), "{printed:?}");
    }

    #[test]
    fn a_paragraph_is_read_back_with_its_lines_and_is_cut_where_it_is_too_long() {
        let text = "web.yaml:2:1: unknown field `replica`; did you mean \"replicas\"?\nand C:\\x\u{1b}[2J";
        let printed = paragraph(text, 200);
        assert!(!printed.contains('\n') && !printed.chars().any(is_hostile), "{printed}");
        let want = "web.yaml:2:1: unknown field `replica`; did you mean \"replicas\"?\nand C:\\x\\x1b[2J";
        assert_eq!(read(&format!("key: {printed}\n"))["key"], want, "{printed}");
        let cut = paragraph(&"line\n".repeat(100), 50);
        assert!(cut.len() <= 100 && read(&format!("key: {cut}\n"))["key"].is_string(), "{cut}");
        assert_eq!(paragraph("", 9), "\"\"");
    }

    #[test]
    fn hostile_text_is_read_back_as_one_string() {
        for text in [
            "",
            " ",
            "a: b",
            "a #b",
            "# a",
            "- a",
            "? a",
            "x, y",
            "}",
            "]",
            "{",
            "[",
            "&a",
            "*a",
            "!!str",
            "|",
            ">",
            "%",
            "@",
            "`",
            "'",
            "\"",
            "\\",
            "\\x",
            "a\nb: c",
            "a\r\nstatus: healthy",
            "\u{1b}[31mred\u{1b}[0m",
            "\u{0}",
            "\u{85}",
            "\u{2028}",
            "\u{202e}evil",
            "\u{feff}",
            "\u{fffe}",
            "---",
            "...",
            "null",
            "~",
            "yes",
            "No",
            "ON",
            "y",
            "true",
            "1",
            "1.5",
            "1e3",
            "0x1f",
            "0o17",
            "017",
            "1_000",
            "12345678e9012345",
            "1234567890123456",
            "9f86d081884c7d65",
            "2026-11-23",
            "2026-11-23T11:02:44Z",
            "1:20",
            "190:20:30",
            ".inf",
            ".NaN",
            "+1",
            "-1",
            "=",
            "<<",
            "0.1.0",
            "127.0.0.1:5432",
            "[::1]:80",
            "tcp 127.0.0.1:5432 passed",
            "/var/log/x.log",
            "…",
            "naïve",
            "日本",
            "🦀",
            "ends with colon:",
            "ends with space ",
            "a:b",
            "a::b",
            "1.",
            "1.e",
            "12e03",
            "0b1",
            "5e",
            "1z",
            "0.2s",
            "3m",
        ] {
            holds(text);
        }
    }

    #[test]
    fn ordinary_values_stand_plain() {
        for text in
            ["postgres", "1/1", "127.0.0.1:5432", "tcp 127.0.0.1:5432 passed", "0.1.0", "0.2s", "9f86d081884c7d65"]
        {
            assert_eq!(scalar(text), text);
        }
        for text in ["1234567890123456", "12345678e9012345", "yes", "2026-11-23", "0x12"] {
            assert_eq!(scalar(text), format!("\"{text}\""));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_one_string(text in any::<String>()) { holds(&text) }

        #[test]
        fn what_looks_like_yaml_is_read_back_as_one_string(text in "[0-9eExXob_:.+\\-TZ /#,\\[\\]{}&*!|>'\"%@`~yn]{0,12}") {
            holds(&text)
        }
    }
}
