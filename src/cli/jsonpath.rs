//! A small jsonpath: enough for `get -o jsonpath=` and `wait --for=jsonpath=`.
//!
//! Understood: `.key`, `['key']`, `[0]`, `[-1]`, `[*]`, `.*`, with or without `$` and braces, and
//! templates such as `{.service}{"\n"}`. Not understood, and said so: filters, slices, `..`, range.

use serde_json::{Value, json};

/// A template: literal text and paths, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    /// Counted from the end where negative.
    Index(i64),
    All,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("jsonpath {text:?}: {why}")]
pub struct InvalidPath {
    text: String,
    why: &'static str,
}

impl JsonPath {
    pub fn parse(text: &str) -> Result<JsonPath, InvalidPath> {
        let fail = |why| InvalidPath { text: text.into(), why };
        if !text.contains('{') {
            return Ok(JsonPath(vec![Part::Path(steps(text).map_err(fail)?)]));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            let close = rest[open..].find('}').ok_or_else(|| fail("a brace is not closed"))? + open;
            let inner = rest[open + 1..close].trim();
            match inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
                Some(quoted) => parts.push(Part::Text(quoted.replace("\\n", "\n").replace("\\t", "\t"))),
                None => parts.push(Part::Path(steps(inner).map_err(fail)?)),
            }
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(JsonPath(parts))
    }

    /// The text that the template makes of a value; none if one of its paths names nothing.
    pub fn render(&self, value: &Value) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Path(steps) => {
                    let found = walk(value, steps);
                    if found.is_empty() {
                        return None;
                    }
                    text.push_str(&found.iter().map(|value| plain(value)).collect::<Vec<_>>().join(" "));
                }
            }
        }
        Some(text)
    }

    /// The text that the template makes of a full object, or of a list of them. A path that begins with
    /// none of the object's own keys is one of the status file's: `{.restarts}` is
    /// `{.status.restarts}`, and `{.status}` alone is the word.
    pub fn find(&self, object: &Value) -> Option<String> {
        match self.wants_object() {
            true => self.render(object),
            false => self.render(&short(object)).or_else(|| self.render(object)),
        }
    }

    /// Whether it asks for what only the full object has (`metadata`, `spec`, below `status` …).
    fn wants_object(&self) -> bool {
        self.0.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Path(steps) => {
                let keys: Vec<&str> = steps
                    .iter()
                    .filter_map(|step| match step {
                        Step::Key(key) if key != "items" => Some(key.as_str()),
                        Step::Key(_) | Step::Index(_) | Step::All => None,
                    })
                    .collect();
                matches!(keys.as_slice(), ["metadata" | "spec" | "kind" | "apiVersion", ..] | ["status", _, ..])
            }
        })
    }
}

/// What is below `status`, and the name: the words of the status file.
fn short(object: &Value) -> Value {
    if let Some(items) = object.get("items").and_then(Value::as_array) {
        return json!({"items": items.iter().map(short).collect::<Vec<_>>()});
    }
    let mut short = object.get("status").cloned().unwrap_or_default();
    for (key, place) in [
        ("name", "/metadata/name"),
        ("service", "/metadata/name"),
        ("labels", "/metadata/labels"),
        ("ready", "/status/readyReplicas"),
        ("desired", "/status/replicas"),
    ] {
        if let (Some(short), Some(value)) = (short.as_object_mut(), object.pointer(place)) {
            short.insert(key.to_string(), value.clone());
        }
    }
    short
}

fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    let mut rest = text.trim().strip_prefix('$').unwrap_or(text.trim());
    // `items[*]` for `.items[*]`: what people forget.
    let padded;
    if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        padded = format!(".{rest}");
        rest = &padded;
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with("..") {
            return Err("`..` is not understood; write the whole path");
        } else if rest == "." {
            break;
        } else if let Some(after) = rest.strip_prefix('.') {
            let (key, tail) = key(after)?;
            steps.push(if key == "*" { Step::All } else { Step::Key(key) });
            rest = tail;
        } else if let Some(after) = rest.strip_prefix('[') {
            let close = after.find(']').ok_or("a bracket is not closed")?;
            steps.push(bracket(after[..close].trim())?);
            rest = &after[close + 1..];
        } else {
            return Err("expected `.` or `[`");
        }
    }
    Ok(steps)
}

/// A key up to the next `.` or `[`; `\.` is a dot of the key, as labels have them.
fn key(text: &str) -> Result<(String, &str), &'static str> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => key.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' if key.is_empty() => return Err("a key is empty"),
            '.' | '[' => return Ok((key, &text[at..])),
            c => key.push(c),
        }
    }
    if key.is_empty() { Err("a key is empty") } else { Ok((key, "")) }
}

fn bracket(inner: &str) -> Result<Step, &'static str> {
    let quoted = |quote: char| inner.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
    if inner == "*" {
        Ok(Step::All)
    } else if let Some(key) = quoted('\'').or_else(|| quoted('"')) {
        Ok(Step::Key(key.into()))
    } else if inner.starts_with('?') {
        Err("filters are not understood; use `plugd get -l`")
    } else {
        inner.parse().map(Step::Index).map_err(|_| "expected a number, `*` or a quoted key")
    }
}

fn walk<'v>(value: &'v Value, steps: &[Step]) -> Vec<&'v Value> {
    let mut here = vec![value];
    for step in steps {
        here = here.into_iter().flat_map(|value| one(value, step)).collect();
    }
    here.retain(|value| !value.is_null());
    here
}

fn one<'v>(value: &'v Value, step: &Step) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => map.get(key).into_iter().collect(),
        (Step::All, Value::Array(list)) => list.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Index(index), Value::Array(list)) => {
            let at = if *index < 0 { list.len() as i64 + index } else { *index };
            usize::try_from(at).ok().and_then(|at| list.get(at)).into_iter().collect()
        }
        (Step::Key(_) | Step::All | Step::Index(_), _) => Vec::new(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_what_they_name() {
        let list = json!({"items": [
            {"name": "web", "ready": 1, "labels": {"app.io/tier": "front"}, "instances": [{"pid": 7}, {"pid": 8}]},
            {"name": "db", "ready": 0, "labels": {}, "instances": []},
        ]});
        for (path, found) in [
            (".items[*].name", Some("web db")),
            ("{.items[*].name}", Some("web db")),
            ("$.items[0].ready", Some("1")),
            ("items[-1].name", Some("db")),
            ("{.items[0].name}={.items[0].ready}{\"\\n\"}", Some("web=1\n")),
            (".items[0].labels.app\\.io/tier", Some("front")),
            (".items[0].labels['app.io/tier']", Some("front")),
            (".items[*].instances[*].pid", Some("7 8")),
            (".items[0].instances[0]", Some("{\"pid\":7}")),
            (".items[5].name", None),
            (".nothing", None),
        ] {
            assert_eq!(JsonPath::parse(path).expect(path).render(&list).as_deref(), found, "{path}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        for (path, why) in [
            ("..name", "`..`"),
            (".items[?(@.ready)]", "filters"),
            (".items[0", "not closed"),
            ("{.a", "not closed"),
            (".a.[0]", "empty"),
            ("-a", "expected"),
        ] {
            let error = JsonPath::parse(path).expect_err(path).to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
    }

    #[test]
    fn the_words_of_the_status_file_are_found_in_the_object() {
        let web = json!({
            "kind": "Service",
            "metadata": {"name": "web", "labels": {"tier": "front"}},
            "spec": {"command": ["sleep"]},
            "status": {"phase": "Running", "status": "running", "restarts": 3, "readyReplicas": 1, "replicas": 1},
        });
        let list = json!({"items": [web]});
        for (path, found) in [
            ("{.status}", "running"),
            ("{.status.phase}", "Running"),
            ("{.restarts}", "3"),
            ("{.name} {.service} {.ready}/{.desired}", "web web 1/1"),
            ("{.metadata.name}", "web"),
            ("{.spec.command[0]}", "sleep"),
            ("{.labels.tier}", "front"),
            ("{.kind}", "Service"),
        ] {
            assert_eq!(JsonPath::parse(path).expect(path).find(&web).as_deref(), Some(found), "{path}");
        }
        for path in ["{.items[*].name}", "{.items[0].metadata.name}", "{.items[-1].service}"] {
            assert_eq!(JsonPath::parse(path).expect(path).find(&list).as_deref(), Some("web"), "{path}");
        }
        assert_eq!(JsonPath::parse(".nothing").expect("valid").find(&web), None);
    }

    #[test]
    fn kubernetes_paths_ask_for_the_object() {
        for (path, object) in [
            ("{.status}", false),
            ("{.items[*].service}", false),
            ("{.status.ready}", true),
            ("{.items[*].metadata.name}", true),
        ] {
            assert_eq!(JsonPath::parse(path).expect(path).wants_object(), object, "{path}");
        }
    }
}
