//! The two forms of a file: flat, or in Kubernetes' envelope. Both become one flat tree per service.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::name::Name;
use crate::model::yaml::{self, Entry, Kind as Node_, Node};

use super::context::Context;
use super::diagnostic::{nearest, shown};
use super::fields::Object;
use super::given::Given;
use super::merge::merge;
use super::table::{METADATA, PROGRAMS, SERVICE};
use super::{Diagnostic, Document, Reading, Refused, Text, assemble, decode, guess};

/// The one version of the schema.
pub const API_VERSION: &str = "plugd/v1";

/// Services of one file; each costs about 0.2 ms, and the whole may take 50 ms.
pub const DOCUMENTS_MAX: usize = 100;

/// `itself` is the file of a discovered script: it is the program.
pub fn read(reading: &Reading<'_>, itself: Option<&Path>) -> Result<Vec<Document>, Refused> {
    let mut files = vec![reading.main];
    files.extend(reading.defaults);
    files.extend(&reading.drop_ins);
    let mut ctx = Context::new(files);
    let mut required = false;
    let mut documents = documents(&mut ctx, reading, itself, &mut required);
    if ctx.failed() {
        let guess = guess::guess(reading);
        return Err(Refused { name: guess.name, required: required || guess.required, diagnostics: ctx.finish() });
    }
    let warnings = ctx.finish();
    if let Some(first) = documents.first_mut() {
        first.warnings = warnings;
    }
    Ok(documents)
}

pub fn check_defaults(defaults: Text<'_>) -> Vec<Diagnostic> {
    let mut ctx = Context::new(vec![defaults]);
    if let Some(node) = layer(&mut ctx, defaults, 0) {
        decode::object(&mut ctx, &node, &SERVICE, "");
    }
    ctx.finish()
}

fn documents(
    ctx: &mut Context<'_>,
    reading: &Reading<'_>,
    itself: Option<&Path>,
    required: &mut bool,
) -> Vec<Document> {
    let mut nodes = match yaml::parse(reading.main.text, 0) {
        Ok(nodes) => nodes,
        Err(_) if is_ini(reading.main.text) => {
            let place = yaml::Place { line: 1, col: 1, ..yaml::Place::default() };
            let remedy = "write what it runs as `command: PROGRAM`, each service in a file of its own";
            ctx.error(&place, "this is an ini file, as supervisord and systemd take them, and not YAML", remedy);
            return Vec::new();
        }
        Err(fault) => {
            ctx.fault(fault);
            return Vec::new();
        }
    };
    let several = nodes.len() > 1;
    if several {
        // A `---` at the beginning or the end makes no service.
        nodes.retain(|node| node.kind != Node_::Null);
    }
    if itself.is_some() && nodes.iter().all(|node| node.kind == Node_::Null) {
        nodes = vec![Node { place: yaml::Place::default(), kind: Node_::Map(Vec::new()) }];
    }
    if nodes.iter().all(|node| node.kind == Node_::Null) {
        let place = yaml::Place { line: 1, col: 1, ..yaml::Place::default() };
        ctx.error(
            &place,
            "the file is empty",
            "write at least `command: PROGRAM`; to stop a service delete its file or write `enabled: false`",
        );
        return Vec::new();
    }
    let several = nodes.len() > 1;
    if let Some(over) = nodes.get(DOCUMENTS_MAX) {
        ctx.error(&over.place, format!("more than {DOCUMENTS_MAX} documents in one file"), "write several files");
        return Vec::new();
    }
    let defaults = reading.defaults.and_then(|text| layer(ctx, text, 1));
    let first_drop_in = 1 + usize::from(reading.defaults.is_some());
    let drop_ins: Vec<Node> =
        reading.drop_ins.iter().enumerate().filter_map(|(i, text)| layer(ctx, *text, first_drop_in + i)).collect();
    let mut names: Vec<Name> = Vec::new();
    let mut documents = Vec::new();
    for node in nodes {
        if several && !is_envelope(&node) {
            let remedy = "write one file for each service, or begin each document with `apiVersion: plugd/v1`";
            ctx.error(&node.place, "several documents in one file need the Kubernetes form", remedy);
            continue;
        }
        let Some(flat) = flat(ctx, node) else { continue };
        let under = match defaults.clone() {
            Some(defaults) => merge(defaults, flat, &SERVICE),
            None => flat,
        };
        let whole = drop_ins.iter().cloned().fold(under, |under, over| merge(under, over, &SERVICE));
        let whole = match itself {
            None => whole,
            Some(path) => the_script_itself(ctx, whole, path),
        };
        let Some(given) = decode::object(ctx, &whole, &SERVICE, "") else { continue };
        *required |= given.flag("required").unwrap_or(false);
        let Some(name) = name(ctx, &given, &whole, reading, several) else { continue };
        if let Some(same) = names.iter().find(|other| other.as_str().eq_ignore_ascii_case(name.as_str())) {
            let message = format!("a second service `{name}` in this file (the first is `{same}`)");
            ctx.error(&assemble::place_of(&given, &["name"]), message, "choose another name");
        }
        names.push(name.clone());
        let spec = assemble::spec(ctx, &given, name, reading.dir);
        documents.push(Document { spec, warnings: Vec::new(), origins: origins(ctx, &whole) });
    }
    documents
}

/// The program is the script that was discovered; its block can only add to that.
fn the_script_itself(ctx: &mut Context<'_>, whole: Node, path: &Path) -> Node {
    if let Node_::Map(entries) = &whole.kind {
        for entry in entries.iter().filter(|entry| PROGRAMS.contains(&entry.key.as_str())) {
            let options =
                matches!(&entry.value.kind, Node_::Map(inner) if inner.iter().all(|inner| inner.key != "path"));
            if !(entry.key == "wrapper" && options) {
                ctx.error(
                    &entry.key_place,
                    format!("`{}` in a script that is itself the program", entry.key),
                    "remove it",
                );
            }
        }
    }
    let entry = |key: &str, kind| Entry {
        key: key.into(),
        key_place: whole.place.clone(),
        value: Node { place: whole.place.clone(), kind },
    };
    let path = entry("path", Node_::Scalar { text: path.to_string_lossy().into_owned(), plain: false });
    let wrapper = entry("wrapper", Node_::Map(vec![path]));
    let itself = Node { place: whole.place.clone(), kind: Node_::Map(vec![wrapper]) };
    merge(itself, whole, &SERVICE)
}

/// `_defaults.yaml` or a drop-in: the same schema, but no name and, where empty, nothing.
fn layer(ctx: &mut Context<'_>, text: Text<'_>, file: usize) -> Option<Node> {
    let mut nodes = match yaml::parse(text.text, file) {
        Ok(nodes) => nodes,
        Err(fault) => {
            ctx.fault(fault);
            return None;
        }
    };
    if let Some(second) = nodes.get(1) {
        ctx.error(&second.place, "several documents in one file of defaults", "write one mapping of fields");
        return None;
    }
    let node = nodes.pop().filter(|node| node.kind != Node_::Null)?;
    let flat = flat(ctx, node)?;
    if let Node_::Map(entries) = &flat.kind
        && let Some(name) = entries.iter().find(|entry| entry.key == "name")
    {
        ctx.error(&name.key_place, "a name cannot come from here", "write `name` in the manifest itself");
        return None;
    }
    Some(flat)
}

fn name(ctx: &mut Context<'_>, given: &Given, whole: &Node, reading: &Reading<'_>, several: bool) -> Option<Name> {
    if let Some(name) = given.text("name") {
        return Name::parse(&name).ok();
    }
    let written = matches!(&whole.kind, Node_::Map(entries) if entries.iter().any(|entry| entry.key == "name"));
    if written {
        // It is written, and what is wrong with it is noted.
        return Name::parse(reading.stem).ok();
    }
    if several {
        ctx.error(&whole.place, "one of several documents needs a name", "write `metadata: {name: …}`");
        return None;
    }
    match Name::parse(reading.stem) {
        Ok(name) => Some(name),
        Err(invalid) => {
            let hint = invalid
                .hint
                .map_or_else(|| "write `name: …`".into(), |hint| format!("rename the file, or write `name: {hint}`"));
            ctx.error(
                &whole.place,
                format!("the file's name `{}` cannot name a service: {}", shown(reading.stem), invalid.why),
                hint,
            );
            None
        }
    }
}

/// Whether it begins with the head of a section: `[program:web]`, `[Service]`.
fn is_ini(text: &[u8]) -> bool {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#") && !line.starts_with(b";"));
    let inside = |line: &'_ [u8]| line.strip_prefix(b"[")?.strip_suffix(b"]").map(<[u8]>::to_vec);
    let is_word =
        |word: &[u8]| !word.is_empty() && word.iter().all(|b| b.is_ascii_alphanumeric() || b"_:.-".contains(b));
    let named = lines.next().and_then(inside).is_some_and(|word| is_word(&word));
    named && lines.next().is_some_and(|line| line.contains(&b'='))
}

fn is_envelope(node: &Node) -> bool {
    matches!(&node.kind, Node_::Map(entries) if entries.iter().any(|entry| entry.key == "apiVersion"))
}

/// The envelope taken off: metadata and spec side by side.
fn flat(ctx: &mut Context<'_>, node: Node) -> Option<Node> {
    if !is_envelope(&node) {
        return Some(node);
    }
    let place = node.place.clone();
    let Node_::Map(entries) = node.kind else { return None };
    let mut fields: Vec<Entry> = Vec::new();
    let mut bodies = 0;
    for entry in entries {
        match entry.key.as_str() {
            "apiVersion" => version(ctx, &entry, API_VERSION)?,
            "kind" => version(ctx, &entry, "Service")?,
            "metadata" => fields.extend(metadata(ctx, entry.value, &METADATA)),
            "spec" => {
                bodies += 1;
                match entry.value.kind {
                    Node_::Map(spec) => fields.extend(spec),
                    Node_::Null | Node_::Scalar { .. } | Node_::List(_) => {
                        ctx.error(
                            &entry.key_place,
                            "`spec` takes the fields of the service",
                            "write them below it, indented",
                        );
                        return None;
                    }
                }
            }
            // What `plugd get -o yaml` adds; it means nothing in a file.
            "status" => {}
            key if key.starts_with("x-") => {}
            key => {
                let remedy = if SERVICE.field(key).is_some() {
                    format!("move `{key}` under `spec:`")
                } else {
                    "fields of the service belong under `spec:`".into()
                };
                ctx.error(&entry.key_place, format!("`{}` stands beside `apiVersion`", shown(key)), remedy);
            }
        }
    }
    if bodies == 0 {
        ctx.error(
            &place,
            "`apiVersion` without `spec`",
            "write the fields of the service below `spec:`, or remove `apiVersion`",
        );
        return None;
    }
    Some(Node { place, kind: Node_::Map(fields) })
}

fn version(ctx: &mut Context<'_>, entry: &Entry, expected: &str) -> Option<()> {
    match &entry.value.kind {
        Node_::Scalar { text, .. } if text == expected => Some(()),
        Node_::Scalar { text, .. } => {
            let foreign = !text.starts_with("plugd") && expected == API_VERSION
                || matches!(text.as_str(), "Deployment" | "Pod" | "StatefulSet" | "Job" | "DaemonSet" | "CronJob");
            let import = if foreign {
                "; of a Kubernetes document take the container's command, env and probes: `plugd explain` lists the fields"
            } else {
                ""
            };
            ctx.error(
                &entry.value.place,
                format!("`{}` cannot be `{}`", entry.key, shown(text)),
                format!("write `{}: {expected}`{import}", entry.key),
            );
            None
        }
        Node_::Null | Node_::List(_) | Node_::Map(_) => {
            ctx.error(
                &entry.key_place,
                format!("`{}` takes a text", entry.key),
                format!("write `{}: {expected}`", entry.key),
            );
            None
        }
    }
}

fn metadata(ctx: &mut Context<'_>, node: Node, object: &'static Object) -> Vec<Entry> {
    let Node_::Map(entries) = node.kind else {
        ctx.error(&node.place, "`metadata` takes name, labels and annotations", "write `metadata: {name: …}`");
        return Vec::new();
    };
    let mut known = Vec::new();
    for entry in entries {
        match entry.key.as_str() {
            key if object.field(key).is_some() => known.push(entry),
            // What a document of Kubernetes carries and nobody writes.
            "namespace" | "uid" | "resourceVersion" | "generation" | "creationTimestamp" | "managedFields" => {}
            key if key.starts_with("x-") => {}
            key => {
                let near = nearest(key, object.fields.iter().map(|field| field.name));
                let remedy = near.map_or_else(
                    || "known here: name, labels, annotations".into(),
                    |near| format!("did you mean `{near}`?"),
                );
                ctx.error(&entry.key_place, format!("unknown field `{}` in `metadata`", shown(key)), remedy);
            }
        }
    }
    known
}

/// Which file each value was written in, by its path.
fn origins(ctx: &Context<'_>, whole: &Node) -> BTreeMap<String, String> {
    fn walk(
        ctx: &Context<'_>,
        prefix: &str,
        node: &Node,
        object: Option<&'static Object>,
        found: &mut BTreeMap<String, String>,
    ) {
        let Node_::Map(entries) = &node.kind else {
            found.insert(prefix.to_owned(), ctx.file(&node.place).to_owned());
            return;
        };
        for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
            let field = object.and_then(|object| object.field(&entry.key)).map(|(field, _)| field);
            let name = field.map_or(entry.key.as_str(), |field| field.name);
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            walk(ctx, &path, &entry.value, field.and_then(|field| field.kind.object()), found);
        }
    }
    let mut found = BTreeMap::new();
    walk(ctx, "", whole, Some(&SERVICE), &mut found);
    found
}
