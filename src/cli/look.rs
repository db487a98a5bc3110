//! How to print: colour, width, and text cut to it.
//!
//! Everything that prints takes a [`Look`], so that tests choose one. Colour is never the only
//! carrier: each coloured word stands there as a word.

use std::borrow::Cow;
use std::io::IsTerminal;

use super::args::ColorChoice;
use crate::model::reason::Status;
use crate::model::text::Charset;

/// What the other end of stdout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub terminal: bool,
    pub color: bool,
    /// Columns to keep to; none in a pipe, where nothing is cut.
    pub width: Option<usize>,
    pub charset: Charset,
}

impl Look {
    /// A pipe: no colour, no width.
    pub const PLAIN: Look = Look { terminal: false, color: false, width: None, charset: Charset::Unicode };

    pub fn of_stdout(choice: ColorChoice) -> Look {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto => forced || (terminal && !dumb),
        };
        let width = terminal.then(|| width_of(&stdout)).flatten();
        Look { terminal, color, width, charset: charset() }
    }

    pub fn paint(&self, color: Color, text: &str) -> String {
        if self.color { format!("\x1b[{}m{text}\x1b[0m", color.code()) } else { text.to_string() }
    }

    pub fn ellipsis(&self) -> &'static str {
        match self.charset {
            Charset::Unicode => "…",
            Charset::Ascii => "...",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    Green,
    Yellow,
    Red,
    Dim,
    Bold,
}

impl Color {
    fn code(self) -> &'static str {
        match self {
            Color::Green => "32",
            Color::Yellow => "33",
            Color::Red => "31",
            Color::Dim => "2",
            Color::Bold => "1",
        }
    }

    pub fn of(status: Status) -> Color {
        use Status::*;
        match status {
            Running | Healthy | Completed => Color::Green,
            Degraded | Starting | Waiting | Stopping => Color::Yellow,
            Failed | Unhealthy => Color::Red,
            Skipped | Stopped => Color::Dim,
        }
    }
}

/// COLUMNS wins, as everywhere; a terminal that says 0 does not know.
fn width_of(stdout: &std::io::Stdout) -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    let asked = || rustix::termios::tcgetwinsize(stdout).ok().map(|size| usize::from(size.ws_col));
    said.or_else(asked).filter(|width| *width > 0)
}

/// Columns of a terminal that nobody told its size (one of a fresh `docker exec -t`, of `expect`).
const WIDTH_UNKNOWN: usize = 80;

/// Columns of the terminal that messages go to; none where it is none.
pub fn width_of_stderr() -> Option<usize> {
    let stderr = std::io::stderr();
    let asked = || rustix::termios::tcgetwinsize(&stderr).ok().map(|size| usize::from(size.ws_col));
    stderr.is_terminal().then(|| asked().filter(|width| *width > 2).unwrap_or(WIDTH_UNKNOWN))
}

/// The first of the three that is set decides (locale(7)).
fn charset() -> Charset {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_ascii_lowercase();
    if locale.contains("utf-8") || locale.contains("utf8") { Charset::Unicode } else { Charset::Ascii }
}

/// Columns that a text takes: East Asian wide ones two, combining marks none. A short list of
/// ranges rather than a crate: names are ASCII, only `why` may hold others.
pub fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

fn column(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// At most so many columns, the last of them an ellipsis where something was cut.
pub fn cut<'a>(text: &'a str, width: usize, ellipsis: &str) -> Cow<'a, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let room = width.saturating_sub(columns(ellipsis));
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += column(c);
        if used > room {
            break;
        }
        kept.push(c);
    }
    Cow::Owned(format!("{}{ellipsis}", kept.trim_end()))
}

/// Broken between words, a command in backticks counts as one; a word that is too long (a path, say)
/// stays whole, so that it can be copied. What a text is indented by holds for all its lines.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let indent = &text[..text.len() - text.trim_start().len()];
    let mut lines = vec![indent.to_string()];
    // Single blanks only: what stands in columns (`sha256 …  generation 1`) keeps its gaps.
    let mut quoted = false;
    let is_gap = |c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    };
    for word in text.trim().split(is_gap) {
        let Some(line) = lines.last_mut() else { break };
        if line.len() == indent.len() {
            line.push_str(word);
        } else if columns(line) + 1 + columns(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_never_within_a_command() {
        assert_eq!(wrap("write it as `plugd run DIR` now", 20), ["write it as", "`plugd run DIR` now"]);
        assert_eq!(wrap("  cause is a/very/long/path/of/one", 12), ["  cause is", "  a/very/long/path/of/one"]);
        assert_eq!(wrap("never `closed at all", 8), ["never", "`closed at all"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn text_is_cut_at_columns_and_says_so() {
        assert_eq!(cut("short", 10, "…"), "short");
        assert_eq!(cut("exits with 1 after 0.2 s", 12, "…"), "exits with…");
        assert_eq!(columns("日本"), 4);
        assert_eq!(columns(&cut("日本語です", 5, "…")), 5);
    }
}
