//! YAML: untrusted text in, one span tree out; values out, text.
//!
//! The only module that knows a YAML crate. Reading is serde-saphyr's parser (granit), driven
//! event by event: a typed reader stops at the first error and turns `010`, `1.10` and `yes` into
//! numbers and booleans, so scalars are kept here as they are spelt, with their place, and mean
//! something only where a field says what it takes. Writing is serde_yaml, which
//! reads only the examples of our own table of fields.
//!
//! Everything is bounded before it is built: bytes, nesting, values, copies by alias.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, Span};

/// Longest text that is read. A manifest of 50 services is about 20 KiB.
pub const TEXT_MAX: usize = 64 * 1024;
/// Deepest nesting; the deepest field of the schema lies at 6 with its envelope.
pub const DEPTH_MAX: usize = 32;
/// Most values (keys included) of one text, those that aliases copy included: 50 ms, ten times over.
pub const NODES_MAX: usize = 10_000;

/// Where something stands: the number of its file in this reading, line and column from 1, bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub file: usize,
    pub line: usize,
    pub col: usize,
    pub bytes: Range<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// As it is spelt; `plain` is one without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

impl Node {
    /// The text that stands under these keys, each within the one before it.
    pub fn text_at(&self, keys: &[&str]) -> Option<&str> {
        let found = keys.iter().try_fold(self, |node, key| match &node.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value),
            Kind::Null | Kind::Scalar { .. } | Kind::List(_) => None,
        });
        match &found?.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

/// Why a text is no YAML that is taken here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub place: Place,
    pub message: String,
    pub remedy: Option<String>,
}

/// The documents of a text; an empty text has none.
pub fn parse(text: &[u8], file: usize) -> Result<Vec<Node>, Fault> {
    let text = readable(text, file)?;
    Builder { file, text, frames: Vec::new(), anchors: BTreeMap::new(), nodes: 0, documents: Vec::new() }.build()
}

/// A value as YAML text, for people and for `get -o yaml`.
pub fn to_yaml(value: &impl serde::Serialize) -> String {
    let text = serde_yaml::to_string(value).expect("values of our own have string keys and no hand-written Serialize");
    // To the writer, which follows YAML 1.1, these end a line. To a reader of 1.2 they do not.
    if !text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let json = |value: &serde_json::Value| value.to_string().chars().map(escaped).collect::<String>();
    match serde_json::to_value(value).expect("what YAML can say JSON can") {
        serde_json::Value::Object(map) => map.iter().map(|(key, value)| format!("{key}: {}\n", json(value))).collect(),
        other => format!("{}\n", json(&other)),
    }
}

/// JSON as YAML takes it: what the one may leave as it is, the other calls unprintable, or a line end.
pub fn escaped(c: char) -> String {
    match c {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.to_string(),
    }
}

/// A short YAML text of our own as a JSON value, by YAML's own idea of numbers and booleans.
pub fn to_json(text: &str) -> Option<serde_json::Value> {
    serde_yaml::from_str(text).ok()
}

/// Checks what the parser need not see: length, encoding, control characters.
fn readable(bytes: &[u8], file: usize) -> Result<&str, Fault> {
    let at = |offset: usize, message: String, remedy: &str| Fault {
        place: place_of(bytes, file, offset),
        message,
        remedy: Some(remedy.into()),
    };
    if bytes.len() > TEXT_MAX {
        return Err(at(0, format!("the file is larger than {} KiB", TEXT_MAX / 1024), "split it into several files"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| at(error.valid_up_to(), "this byte is not UTF-8".into(), "save the file as UTF-8"))?;
    let forbidden =
        |c: char| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || matches!(c, '\u{fffe}' | '\u{ffff}');
    match text.char_indices().find(|&(_, c)| forbidden(c)) {
        Some((offset, '\0')) => {
            Err(at(offset, "a NUL byte".into(), "remove it; was the file saved as UTF-16, or torn by a crash?"))
        }
        Some((offset, c)) => Err(at(
            offset,
            format!("the control character {}", c.escape_unicode()),
            "remove it, or write it as an escape in double quotes",
        )),
        None => Ok(text),
    }
}

/// The place of one byte of a text that may not be UTF-8.
fn place_of(bytes: &[u8], file: usize, offset: usize) -> Place {
    let before = &bytes[..offset.min(bytes.len())];
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    Place {
        file,
        line: before.iter().filter(|&&b| b == b'\n').count() + 1,
        col: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
        bytes: offset..(offset + 1).min(bytes.len()).max(offset),
    }
}

/// A collection that is still open.
struct Frame {
    place: Place,
    anchor: usize,
    map: bool,
    items: Vec<Node>,
    entries: Vec<Entry>,
    keys: BTreeSet<String>,
    key: Option<(String, Place)>,
}

struct Builder<'t> {
    file: usize,
    text: &'t str,
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Option<Node>>,
    nodes: usize,
    documents: Vec<Node>,
}

impl Builder<'_> {
    fn build(mut self) -> Result<Vec<Node>, Fault> {
        let options = granit_parser::options! {
            disallow_directives: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
            emit_comments: false,
        };
        for event in Parser::new_from_str_with_options(self.text, options) {
            let (event, span) = event.map_err(|error| self.syntax(error.kind(), *error.marker()))?;
            self.take(event, span)?;
        }
        Ok(self.documents)
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let place = self.place(span.start, span.end);
        match event {
            Event::UnresolvedAlias(name) => Err(unknown_alias(place, &name)),
            Event::Alias(id) => {
                let Some(Some(node)) = self.anchors.get(&id) else {
                    return Err(fault(place, "this alias refers to what it is itself part of", "write the value out"));
                };
                let copy = Node { place: place.clone(), ..node.clone() };
                self.count(size(&copy), &place)?;
                self.put(copy, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = match tag {
                    None => style != ScalarStyle::Plain,
                    Some(tag) if tag.core_suffix() == Some("str") => true,
                    Some(tag) => return Err(self.tagged(&tag.original(), span)),
                };
                self.count(1, &place)?;
                let kind = match (&*text, quoted) {
                    ("" | "~" | "null" | "Null" | "NULL", false) => Kind::Null,
                    (text, quoted) => Kind::Scalar { text: text.to_owned(), plain: !quoted },
                };
                self.put(Node { place, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(place, anchor, false, tag.map(|tag| tag.original()), span)
            }
            Event::MappingStart(_, anchor, tag) => self.open(place, anchor, true, tag.map(|tag| tag.original()), span),
            Event::SequenceEnd | Event::MappingEnd => {
                let frame = self.frames.pop().expect("the parser closes only what it opened");
                let anchor = frame.anchor;
                let node = self.close(frame, place.bytes.end)?;
                self.put(node, anchor)
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => Ok(()),
            // Comments and names of anchors: nothing that is a value.
            _ => Ok(()),
        }
    }

    fn open(&mut self, place: Place, anchor: usize, map: bool, tag: Option<String>, span: Span) -> Result<(), Fault> {
        if let Some(tag) = tag {
            return Err(self.tagged(&tag, span));
        }
        if self.frames.len() >= DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.count(1, &place)?;
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        let (items, entries, keys) = (Vec::new(), Vec::new(), BTreeSet::new());
        self.frames.push(Frame { place, anchor, map, items, entries, keys, key: None });
        Ok(())
    }

    fn close(&mut self, frame: Frame, end: usize) -> Result<Node, Fault> {
        let mut place = frame.place;
        place.bytes.end = end.max(place.bytes.start);
        if !frame.map {
            return Ok(Node { place, kind: Kind::List(frame.items) });
        }
        // `<<: *base` and `<<: [*a, *b]`: what stands here wins, then the earlier of the list.
        let mut entries = Vec::with_capacity(frame.entries.len());
        let mut merged = Vec::new();
        for entry in frame.entries {
            match (entry.key.as_str(), entry.value.kind) {
                ("<<", Kind::Map(more)) => merged.extend(more),
                ("<<", Kind::List(maps)) if maps.iter().all(|map| matches!(map.kind, Kind::Map(_))) => {
                    merged.extend(maps.into_iter().flat_map(|map| match map.kind {
                        Kind::Map(more) => more,
                        Kind::Null | Kind::Scalar { .. } | Kind::List(_) => Vec::new(),
                    }));
                }
                ("<<", Kind::Null | Kind::Scalar { .. } | Kind::List(_)) => {
                    return Err(fault(entry.key_place, "`<<` merges mappings", "write `<<: *anchor`"));
                }
                (_, kind) => entries.push(Entry { value: Node { place: entry.value.place, kind }, ..entry }),
            }
        }
        let mut keys = frame.keys;
        entries.extend(merged.into_iter().filter(|entry| keys.insert(entry.key.clone())));
        Ok(Node { place, kind: Kind::Map(entries) })
    }

    /// Hands a complete value to the collection around it, as key, value or item.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.count(size(&node), &node.place.clone())?;
            self.anchors.insert(anchor, Some(node.clone()));
        }
        let text = self.text;
        let Some(frame) = self.frames.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        if !frame.map {
            frame.items.push(node);
            return Ok(());
        }
        if let Some((key, key_place)) = frame.key.take() {
            frame.entries.push(Entry { key, key_place, value: node });
            return Ok(());
        }
        let key = match node.kind {
            Kind::Scalar { text, .. } => text,
            Kind::Null if text[node.place.bytes.clone()].is_empty() => {
                return Err(fault(node.place, "a value without a key", "write a name before the `:`"));
            }
            Kind::Null => text[node.place.bytes.clone()].to_owned(),
            Kind::List(_) | Kind::Map(_) => {
                let braces = "in quotes if it is a text such as a template: \"{{ … }}\"";
                return Err(fault(node.place, "a key must be a plain word, not a list or a mapping", braces));
            }
        };
        if !frame.keys.insert(key.clone()) {
            let first = frame.entries.iter().find(|entry| entry.key == key).map_or(0, |entry| entry.key_place.line);
            let message = format!("`{}` is written twice (first on line {first})", crate::model::manifest::shown(&key));
            return Err(fault(node.place, &message, "keep one of the two"));
        }
        frame.key = Some((key, node.place));
        Ok(())
    }

    fn count(&mut self, more: usize, place: &Place) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values, counting those that aliases repeat");
            return Err(fault(place.clone(), &message, "split the file, or move values into a file of `envFrom`"));
        }
        Ok(())
    }

    fn place(&self, start: Marker, end: Marker) -> Place {
        let from = self.offset(start);
        Place {
            file: self.file,
            line: start.line().max(1),
            col: start.col() + 1,
            bytes: from..self.offset(end).max(from),
        }
    }

    fn offset(&self, marker: Marker) -> usize {
        // The parser counts in characters and, over a `&str`, in bytes too.
        let offset = marker.byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        (0..=offset).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }

    fn tagged(&self, tag: &str, span: Span) -> Fault {
        let place =
            span.tag_span().map_or_else(|| self.place(span.start, span.end), |tag| self.place(tag.start, tag.end));
        let message = format!("the tag `{}` is not known here", crate::model::manifest::shown(tag));
        fault(place, &message, "remove it; quote the value if it begins with `!`")
    }

    fn syntax(&self, kind: &ErrorKind, marker: Marker) -> Fault {
        let mut place = self.place(marker, marker);
        let (message, remedy) = explain(kind, self.text, &place);
        if is_tab(kind) {
            at_the_tab(self.text, &mut place);
        }
        Fault { place, message, remedy }
    }
}

fn is_tab(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabInIndentation
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabNotAllowed
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabAtBlockScalarStart
    )
}

/// The parser names where the value began that a tab cuts short; a person looks for the tab.
fn at_the_tab(text: &str, place: &mut Place) {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut start = 0;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let tab = line[..indent(line)].find('\t').filter(|_| at + 1 >= place.line);
        if let Some(tab) = tab {
            if at + 1 > place.line {
                (place.line, place.col) = (at + 1, tab + 1);
                place.bytes = start + tab..start + tab + 1;
            }
            return;
        }
        start += line.len();
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Null | Kind::Scalar { .. } => 1,
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.value)).sum::<usize>(),
    }
}

fn fault(place: Place, message: &str, remedy: &str) -> Fault {
    Fault { place, message: message.into(), remedy: Some(remedy.into()) }
}

fn too_deep(place: Place) -> Fault {
    fault(place, &format!("nested deeper than {DEPTH_MAX} levels"), "no field of a manifest lies deeper than six")
}

fn unknown_alias(place: Place, name: &str) -> Fault {
    let message = format!("`*{}` refers to an anchor that is not defined above", crate::model::manifest::shown(name));
    fault(place, &message, "a value that begins with `*` needs quotes")
}

/// The parser's complaint in words of the person who wrote the line.
fn explain(kind: &ErrorKind, text: &str, place: &Place) -> (String, Option<String>) {
    let line = text.lines().nth(place.line - 1).unwrap_or("");
    let (message, remedy) = match kind {
        kind if is_tab(kind) => ("a tab cannot indent YAML".into(), "use spaces"),
        ErrorKind::UnclosedQuotedScalar => {
            ("a quote that is opened here is never closed".into(), "close it with the same quote")
        }
        ErrorKind::UnclosedFlowCollection { open: '[' } | ErrorKind::UnexpectedEofFlowSequence => {
            ("a `[` is never closed".into(), "close it with `]`")
        }
        ErrorKind::UnclosedFlowCollection { .. } | ErrorKind::UnexpectedEofFlowMapping => {
            ("a `{` is never closed".into(), "close it with `}`")
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            (format!("`{open}` is closed by `{close}`"), "close each bracket with its own kind")
        }
        ErrorKind::ExpectedFlowMappingSeparator => {
            ("a `,` or a `}` is missing before this".into(), "separate the entries with commas, and close each `{`")
        }
        ErrorKind::ExpectedFlowSequenceSeparator => {
            ("a `,` or a `]` is missing before this".into(), "separate the items with commas, and close each `[`")
        }
        ErrorKind::MisplacedFlowCollectionEnd => {
            ("a closing bracket without an opening one".into(), "remove it, or quote the value")
        }
        ErrorKind::RecursionLimitExceeded => {
            let fault = too_deep(place.clone());
            return (fault.message, fault.remedy);
        }
        ErrorKind::UnknownAnchor => {
            let name: String = text[place.bytes.start..].chars().skip(1).take_while(|c| !c.is_whitespace()).collect();
            let fault = unknown_alias(place.clone(), &name);
            return (fault.message, fault.remedy);
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement
            if open_bracket(text, place).is_some_and(|(_, at)| at < place.line) =>
        {
            let (bracket, at) = open_bracket(text, place).unwrap_or(('[', place.line));
            (format!("the `{bracket}` of line {at} is still open here"), "close it with the bracket of its kind")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            ("a `:` that begins a second value on one line".into(), "put the text in quotes, or begin a new line")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey if !line.contains(':') => {
            ("a line without a `:`".into(), "write `field: value`, or indent it under the field that it continues")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey if touching_colon(line).is_some() => {
            let spaced = touching_colon(line).unwrap_or_default();
            let remedy = format!("put a space behind it: `{}`", crate::model::manifest::shown(&spaced));
            return ("a `:` that touches what follows it".into(), Some(remedy));
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("a field name must stand on one line and end in `: `".into(), "write `field: value`")
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::MappingKeyNotAllowed => (
            "the indentation of this line fits nothing above it".into(),
            "align it with the other fields of its block, with spaces",
        ),
        ErrorKind::BlockSequenceEntryNotAllowed | ErrorKind::BlockEntryInFlowCollection => (
            "a `- ` item cannot stand here".into(),
            "begin the list on the line below its field, or write it as [a, b]",
        ),
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("a value cannot begin with `{}`", character.escape_default()), "put the value in quotes")
        }
        ErrorKind::DirectiveDisallowed => ("a line that begins with `%`".into(), "remove it"),
        ErrorKind::UnknownQuotedScalarEscape => {
            ("an unknown escape in double quotes".into(), "write `\\\\` for a backslash, or use single quotes")
        }
        ErrorKind::InvalidTrailingDoubleQuotedScalar | ErrorKind::InvalidTrailingSingleQuotedScalar => {
            ("text behind a closing quote".into(), "put the whole value in one pair of quotes")
        }
        ErrorKind::CommentNotSeparated => {
            ("a `#` that touches the word before it".into(), "put a space before a comment")
        }
        other => (format!("this is not YAML: {other}"), "see the line above it, too"),
    };
    (message, Some(remedy.into()))
}

/// `port:8080`, with the space that it lacks.
fn touching_colon(line: &str) -> Option<String> {
    let (key, value) = line.trim().split_once(':')?;
    let word = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (word && value.starts_with(|c: char| !c.is_whitespace())).then(|| format!("{key}: {value}"))
}

/// The innermost bracket that is open at a place, and its line; quotes and comments are skipped.
fn open_bracket(text: &str, place: &Place) -> Option<(char, usize)> {
    let (mut open, mut line, mut quote, mut before, mut comment) = (Vec::new(), 1, None, ' ', false);
    for c in text[..place.bytes.start.min(text.len())].chars() {
        match (c, quote) {
            ('\n', _) => (line, comment) = (line + 1, false),
            _ if comment => {}
            (c, Some(end)) if c == end => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) if !before.is_alphanumeric() => quote = Some(c),
            ('#', None) if before.is_whitespace() => comment = true,
            ('[' | '{', None) => open.push((c, line)),
            (']' | '}', None) => drop(open.pop()),
            _ => {}
        }
        before = c;
    }
    open.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(text: &str) -> (usize, usize, String) {
        let fault = parse(text.as_bytes(), 0).expect_err(text);
        (fault.place.line, fault.place.col, fault.message)
    }

    #[test]
    fn what_ends_a_line_for_its_writer_alone_is_written_as_an_escape() {
        let said = serde_json::json!({"command": ["a\u{2028}b", "c\u{85}d", "e\u{2029}"], "port": 80});
        let text = to_yaml(&said);
        assert_eq!(text, "command: [\"a\\u2028b\",\"c\\u0085d\",\"e\\u2029\"]\nport: 80\n");
        assert_eq!(to_json(&text), Some(said));
        assert_eq!(to_yaml(&"a\u{2028}b"), "\"a\\u2028b\"\n");
    }

    #[test]
    fn scalars_stay_as_they_are_spelt() {
        let documents = parse(b"a: 010\nb: 1.10\nc: yes\nd: 'true'\ne:\n", 0).expect("valid");
        let Kind::Map(entries) = &documents[0].kind else { panic!("a mapping") };
        let spelt: Vec<_> = entries.iter().map(|entry| entry.value.kind.clone()).collect();
        let plain = |text: &str, plain| Kind::Scalar { text: text.into(), plain };
        assert_eq!(
            spelt,
            [plain("010", true), plain("1.10", true), plain("yes", true), plain("true", false), Kind::Null]
        );
        assert_eq!((entries[2].value.place.line, entries[2].value.place.col), (3, 4));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        assert_eq!(fault_of("a: 1\na: 2\n"), (2, 1, "`a` is written twice (first on line 1)".into()));
        assert_eq!(fault_of("a: b\0\n"), (1, 5, "a NUL byte".into()));
        assert_eq!(fault_of("a: !!python/object x\n").0, 1);
        assert_eq!(fault_of("a:\n\t- b\n").0, 2);
        let fault = parse(b"a: b\nc: \xff\n", 0).expect_err("no UTF-8");
        assert_eq!((fault.place.line, fault.place.col), (2, 4));
    }

    #[test]
    fn bombs_are_refused_before_they_are_built() {
        let laughs = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
            let before = format!("*a{}, ", i - 1).repeat(10);
            format!("{text}a{i}: &a{i} [{before}]\n")
        });
        assert!(fault_of(&laughs).2.contains("values"));
        assert!(fault_of(&"[".repeat(20_000)).2.contains("nested"));
        assert!(fault_of(&"{a: ".repeat(16_000)).2.contains("nested"));
        assert!(fault_of(&"- ".repeat(30_000)).2.contains("nested"));
        assert!(fault_of(&format!("a: [{}]", "x,".repeat(30_000))).2.contains("values"));
        assert!(fault_of("a: &a [*a]").2.contains("itself"));
    }

    #[test]
    fn merge_keys_fill_in_what_is_not_written() {
        let documents = parse(b"base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}\n", 0).expect("valid");
        let Kind::Map(entries) = &documents[0].kind else { panic!("a mapping") };
        let Kind::Map(used) = &entries[1].value.kind else { panic!("a mapping") };
        let keys: Vec<_> = used.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["b", "a"]);
    }
}
