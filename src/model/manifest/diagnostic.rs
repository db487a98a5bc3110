//! What a person wrote wrongly: where it stands, what it is, what to write instead.
//!
//! One line for the status file and for pipes; an excerpt with a caret for a terminal.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use super::Text;
use crate::model::text::clean;
use crate::model::text::harmless::{self, Layout, is_hostile};

/// Diagnostics of one reading that are kept; the rest is counted. Nobody mends more at a time.
pub const DIAGNOSTICS_MAX: usize = 40;

/// Bytes of a line that an excerpt shows around its place; a line may have 64 KiB.
const EXCERPT: usize = 160;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file as it was named by the reader.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub col: usize,
    /// The bytes of the file that are meant.
    pub bytes: Range<usize>,
    pub message: String,
    /// What to write instead, as a clause: ``did you mean `command`?``.
    pub remedy: Option<String>,
}

impl Diagnostic {
    /// ``web.yaml:3:5: unknown field `comand`; did you mean `command`?``
    pub fn one_line(&self) -> String {
        let Diagnostic { file, line, col, message, .. } = self;
        // A file's name may hold any byte.
        let file = harmless::escape(file, Layout::Sentence);
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{file}:{line}:{col}: {message}{remedy}")
    }
}

/// All of them, each with its line and a caret. `sources` are the texts that were read; one that is
/// not among them is shown as its one line. `width` is the terminal's.
pub fn render(diagnostics: &[Diagnostic], sources: &[Text<'_>], color: bool, width: usize) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(width.max(40));
    let blocks: Vec<String> = diagnostics.iter().map(|diagnostic| excerpt(diagnostic, sources, &renderer)).collect();
    blocks.join("\n\n") + "\n"
}

fn excerpt(diagnostic: &Diagnostic, sources: &[Text<'_>], renderer: &Renderer) -> String {
    let Some(source) = sources.iter().find(|source| source.file == diagnostic.file) else {
        return diagnostic.one_line();
    };
    let (before, line) = line_around(source.text, diagnostic.bytes.start);
    let start = diagnostic.bytes.start - before;
    let from = start.saturating_sub(EXCERPT / 2);
    let window = shown_line(&line[from.min(line.len())..line.len().min(start + EXCERPT)]);
    let caret =
        boundary(&window, start - from)..boundary(&window, (diagnostic.bytes.end - before).max(start + 1) - from);
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let snippet = Snippet::source(window).line_start(diagnostic.line).annotation(AnnotationKind::Primary.span(caret));
    // The title carries the place: where a long line was cut, the excerpt alone would count wrongly.
    let title = format!("{}:{}:{}: {}", diagnostic.file, diagnostic.line, diagnostic.col, diagnostic.message);
    let mut group = Group::with_title(level.primary_title(title)).element(snippet);
    if let Some(remedy) = &diagnostic.remedy {
        group = group.element(Level::HELP.message(remedy.as_str()));
    }
    renderer.render(&[group])
}

/// The line that holds this byte, and the byte at which it begins.
fn line_around(text: &[u8], at: usize) -> (usize, &[u8]) {
    let at = at.min(text.len());
    let start = text[..at].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let end = text[at..].iter().position(|&b| b == b'\n').map_or(text.len(), |i| at + i);
    (start, text[start..end].strip_suffix(b"\r").unwrap_or(&text[start..end]))
}

/// The bytes of a line as text of the same length, with nothing in it that a terminal obeys.
fn shown_line(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hostile(c) && c != '\t' { text.extend(std::iter::repeat_n('?', c.len_utf8())) } else { text.push(c) }
        }
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Text of a person inside a message: short, on one line, with nothing that a terminal obeys.
pub fn shown(text: &str) -> String {
    const MAX: usize = 48;
    let head = text.char_indices().nth(MAX).map_or(text, |(end, _)| &text[..end]);
    let mut out = clean(head).into_owned();
    if head.len() < text.len() {
        out.push('…');
    }
    out
}

/// The nearest of some known words: equal but for case and separators, else few typing mistakes.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let word = plain(word);
    let allowed = if word.len() <= 4 {
        1
    } else if word.len() <= 8 {
        2
    } else {
        3
    };
    known
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(mistakes, candidate)| *mistakes <= allowed && *mistakes < candidate.len())
        // Of equals the first of the alphabet, in whatever order they come.
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, two swapped neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_through_typing_mistakes() {
        let known = ["command", "args", "workingDir", "env", "dependsOn", "readinessProbe"];
        for (typed, meant) in [
            ("comand", Some("command")),
            ("cmomand", Some("command")),
            ("working_dir", Some("workingDir")),
            ("depends_on", Some("dependsOn")),
            ("readynessProbe", Some("readinessProbe")),
            ("arg", Some("args")),
            ("x", None),
            ("banana", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }

    #[test]
    fn an_excerpt_shows_the_line_with_a_caret_and_nothing_hostile() {
        let text = b"a: 1\ncomand: \x1b[31mx\n";
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            file: "web.yaml".into(),
            line: 2,
            col: 1,
            bytes: 5..11,
            message: "unknown field `comand`".into(),
            remedy: Some("did you mean `command`?".into()),
        };
        assert_eq!(diagnostic.one_line(), "web.yaml:2:1: unknown field `comand`; did you mean `command`?");
        let shown = render(&[diagnostic], &[Text { file: "web.yaml", text }], false, 80);
        assert!(shown.contains("2 | comand: ?[31mx") && shown.contains("^^^^^^"), "{shown}");
    }
}
