//! The decoder: a span tree and the table of fields in, given values out, every mistake noted.
//!
//! It does not stop at a mistake: a field that is wrong is left out and the next one is read, so
//! that one look at a file finds them all. What fields mean together is `assemble`'s business.

use crate::model::cron::Cron;
use crate::model::name::Name;
use crate::model::yaml::{Entry, Kind as Node_, Node, Place};
use crate::model::zone::Zone;
use crate::model::{capability, duration, glob, quantity, settings, signal};

use super::command;
use super::context::Context;
use super::diagnostic::{nearest, shown};
use super::fields::{Field, Keys, Kind, Object, Short};
use super::given::{Data, Given};
use super::table::{FOREIGN, FOREIGN_LOGS, FOREIGN_PROBE, FOREIGN_STOP, PORT_MAX, SERVICE};

/// Words of neighbouring tools in the place of an enum's.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("no", "Never"),
    ("unless-stopped", "Always"),
    ("rollingupdate", "Rolling"),
    ("healthy", "Ready"),
    ("service_healthy", "Ready"),
    ("service_started", "Started"),
    ("service_completed_successfully", "Completed"),
    ("process", "Session"),
    ("mixed", "Session"),
    ("control-group", "Session"),
    ("sse", "http"),
    ("streamable-http", "http"),
];

/// Reads a node as an object of named fields; what is wrong is noted in the context and left out.
pub fn object(ctx: &mut Context<'_>, node: &Node, object: &'static Object, path: &str) -> Option<Given> {
    let Node_::Map(entries) = &node.kind else {
        let what = if path.is_empty() { "a manifest".into() } else { format!("`{path}`") };
        ctx.error(&node.place, format!("{what} takes fields, not {}", kind_of(node)), fields_remedy(node, path));
        return None;
    };
    let mut given: Vec<(String, Given)> = Vec::new();
    let mut keys: Vec<(&str, &Place)> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
        let Some((field, seconds)) = object.field(&entry.key) else {
            unknown(ctx, entry, object, path);
            continue;
        };
        if let Some((_, first)) = keys.iter().find(|(name, _)| *name == field.name) {
            let message = format!(
                "`{}` is written twice, here as `{}` (first on line {})",
                field.name,
                shown(&entry.key),
                first.line
            );
            ctx.error(&entry.key_place, message, "keep one of the two");
            continue;
        }
        keys.push((field.name, &entry.key_place));
        let path = join(path, field.name);
        let value = if seconds {
            in_seconds(ctx, entry, field.name)
        } else {
            value(ctx, &entry.value, &field.kind, &path, field, Some(&entry.key_place))
        };
        given.extend(value.map(|value| (field.name.to_owned(), value)));
    }
    for group in object.exclusive {
        let written: Vec<_> = keys.iter().filter(|(name, _)| group.contains(name)).collect();
        if let [first, second, ..] = written.as_slice() {
            let message = format!("`{}` and `{}` cannot both be written", first.0, second.0);
            ctx.error(second.1, message, "keep one of the two");
        }
    }
    for field in object.fields.iter().filter(|field| field.required) {
        if !keys.iter().any(|(name, _)| *name == field.name) {
            let remedy = format!("write `{}: {}`", field.name, field.example);
            ctx.error(&node.place, format!("`{path}` needs `{}`", field.name), remedy);
        }
    }
    Some(Given { place: node.place.clone(), data: Data::Map(given) })
}

/// A short form written out: the scalar or list in the place of an object.
pub fn written_out(node: &Node, object: &Object) -> Option<Node> {
    let entry = |key: &str, value: Node| {
        let entry = Entry { key: key.into(), key_place: node.place.clone(), value };
        Node { place: node.place.clone(), kind: Node_::Map(vec![entry]) }
    };
    match (&node.kind, object.short) {
        (Node_::Null | Node_::Map(_), _) | (_, Short::None) => None,
        (Node_::Scalar { .. }, Short::Field(name)) => Some(entry(name, node.clone())),
        (Node_::List(_), Short::Field(name)) => {
            let takes_lists = object.field(name).is_some_and(|(field, _)| matches!(field.kind, Kind::Command));
            takes_lists.then(|| entry(name, node.clone()))
        }
        (Node_::List(_), Short::Probe) => None,
        (Node_::Scalar { text, .. }, Short::Probe) => {
            let empty = Node { place: node.place.clone(), kind: Node_::Map(Vec::new()) };
            let yes = Node { place: node.place.clone(), kind: Node_::Scalar { text: "true".into(), plain: true } };
            match text.as_str() {
                "tcp" => Some(entry("tcpSocket", empty)),
                "http" => Some(entry("httpGet", empty)),
                "notify" => Some(entry("notify", yes)),
                "mcp" => Some(entry("mcp", yes)),
                path if path.starts_with('/') => Some(entry("httpGet", node.clone())),
                _ => None,
            }
        }
    }
}

pub fn value(
    ctx: &mut Context<'_>,
    node: &Node,
    kind: &'static Kind,
    path: &str,
    field: &'static Field,
    key: Option<&Place>,
) -> Option<Given> {
    let given = |data| Some(Given { place: node.place.clone(), data });
    if let Kind::Object(inner) = kind {
        if let Short::Probe = inner.short
            && let Node_::Scalar { text, .. } = &node.kind
        {
            if text == "none" {
                return given(Data::Text("none".into()));
            }
            if written_out(node, inner).is_none() {
                let remedy = probe_remedy(text, field.name);
                ctx.error(&node.place, format!("`{path}` cannot be `{}`", shown(text)), remedy);
                return None;
            }
        }
        if let (Some(written), Short::Field(name)) = (written_out(node, inner), inner.short) {
            return short_field(ctx, &written, inner, name, path);
        }
        let written = written_out(node, inner);
        let node = written.as_ref().unwrap_or(node);
        if let Node_::Map(_) = node.kind {
            return object(ctx, node, inner, path);
        }
    }
    match (kind, &node.kind) {
        (_, Node_::Null) => {
            let remedy = if path.starts_with("env.") {
                "write \"\" for an empty text, or `{fromEnv: NAME}`".into()
            } else {
                format!("write one, such as `{}: {}`, or remove the line", field.name, field.example)
            };
            ctx.error(key.unwrap_or(&node.place), format!("`{}` has no value", shown(path)), remedy);
            None
        }
        (Kind::List(inner), Node_::List(items)) => {
            let items = items.iter().filter_map(|item| value(ctx, item, inner, path, field, None)).collect();
            given(Data::List(items))
        }
        (Kind::BoolOrNames, Node_::List(items)) => {
            let items = items.iter().filter_map(|item| value(ctx, item, &Kind::Word, path, field, None)).collect();
            given(Data::List(items))
        }
        (Kind::Map(keys, inner), Node_::Map(entries)) => {
            let mut values = Vec::with_capacity(entries.len());
            for entry in entries {
                if *keys == Keys::Variables && !is_variable(&entry.key) {
                    let message = format!("`{}` cannot be the name of a variable", shown(&entry.key));
                    ctx.error(&entry.key_place, message, "use letters, digits and _");
                    continue;
                }
                if *keys == Keys::Variables && matches!(entry.key.as_str(), "PLUGD_SERVICE" | "PLUGD_INSTANCE") {
                    ctx.error(
                        &entry.key_place,
                        format!("`{}` is set by plugd itself", entry.key),
                        "choose another name",
                    );
                    continue;
                }
                let path = join(path, &entry.key);
                let value = value(ctx, &entry.value, inner, &path, field, Some(&entry.key_place));
                values.extend(value.map(|value| (entry.key.clone(), value)));
            }
            given(Data::Map(values))
        }
        (Kind::Command, Node_::List(items)) => command::words(ctx, node, items, path, field),
        (Kind::Command, Node_::Scalar { text, .. }) => command::line(ctx, node, text, path),
        (Kind::Free, Node_::List(_) | Node_::Map(_)) => given(Data::Text(plain_json(node).to_string())),
        (_, Node_::Scalar { text, plain }) if is_scalar(kind) => match scalar(kind, text, *plain) {
            Ok(data) => given(data),
            Err(wrong) => {
                ctx.error(&node.place, format!("`{}` cannot be `{}`", shown(path), shown(text)), wrong);
                None
            }
        },
        (_, Node_::Scalar { .. } | Node_::List(_) | Node_::Map(_)) => {
            let message = format!("`{}` takes {}, not {}", shown(path), kind.takes(), kind_of(node));
            ctx.error(&node.place, message, shape_remedy(node, kind, field));
            None
        }
    }
}

/// The value of a short form, under the name that the person wrote.
fn short_field(ctx: &mut Context<'_>, written: &Node, inner: &'static Object, name: &str, path: &str) -> Option<Given> {
    let (field, _) = inner.field(name)?;
    let Node_::Map(entries) = &written.kind else { return None };
    let value = value(ctx, &entries.first()?.value, &field.kind, path, field, None)?;
    Some(Given { place: written.place.clone(), data: Data::Map(vec![(field.name.to_owned(), value)]) })
}

/// `xSeconds: 10` is `x: 10s`.
fn in_seconds(ctx: &mut Context<'_>, entry: &Entry, name: &str) -> Option<Given> {
    let text = if let Node_::Scalar { text, .. } = &entry.value.kind { text.as_str() } else { "" };
    let number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.is_empty();
    match duration::parse(&format!("{text}s")) {
        Ok(duration) if number => Some(Given { place: entry.value.place.clone(), data: Data::Duration(duration) }),
        Ok(_) | Err(_) => {
            let remedy = format!("write `{}: 10` or `{name}: 10s`", entry.key);
            ctx.error(&entry.value.place, format!("`{}` takes a number of seconds", entry.key), remedy);
            None
        }
    }
}

fn is_scalar(kind: &Kind) -> bool {
    match kind {
        Kind::Text | Kind::Word | Kind::Free | Kind::Name | Kind::Path | Kind::Bool | Kind::Int(..) => true,
        Kind::Number(..) | Kind::Duration | Kind::Size | Kind::Cpu | Kind::Enum(_) | Kind::Signal | Kind::Umask => true,
        Kind::Regex | Kind::Cron | Kind::TimeZone | Kind::PortRef | Kind::User | Kind::Sha256 => true,
        Kind::BoolOrNames | Kind::DurationOrBool | Kind::Glob | Kind::Capability | Kind::Listen => true,
        Kind::Command | Kind::List(_) | Kind::Map(..) | Kind::Object(_) => false,
    }
}

/// One scalar of a kind, or the remedy.
pub fn scalar(kind: &Kind, text: &str, plain: bool) -> Result<Data, String> {
    match kind {
        Kind::Text | Kind::Free => Ok(Data::Text(text.into())),
        Kind::Word if text.trim().is_empty() => Err("write something".into()),
        Kind::Word => Ok(Data::Text(text.into())),
        Kind::Name => match Name::parse(text) {
            Ok(name) => Ok(Data::Text(name.as_str().into())),
            Err(invalid) => Err(format!(
                "{}{}",
                invalid.why,
                invalid.hint.map(|hint| format!("; try `{hint}`")).unwrap_or_default()
            )),
        },
        Kind::Path if text.is_empty() => Err("write a path".into()),
        Kind::Path if text.starts_with("~/") || text == "~" => {
            Err("nobody expands `~` here; write the whole path".into())
        }
        Kind::Path if text.contains("$(") || text.contains("${") || text.starts_with('$') => {
            Err("variables are expanded in `command`, `args` and `env` only; write the path".into())
        }
        Kind::Path => Ok(Data::Text(text.into())),
        Kind::Glob => {
            scalar(&Kind::Path, text, plain)?;
            glob::check(text).map(|()| Data::Text(text.into()))
        }
        Kind::Bool => boolean(text, plain),
        Kind::BoolOrNames => boolean(text, plain).map_err(|_| format!("write true, false or a list: [{text}]")),
        Kind::DurationOrBool => boolean(text, plain).or_else(|_| duration::parse(text).map(Data::Duration)),
        Kind::Int(min, max) => integer(text, *min, *max),
        Kind::Number(min, max) => match text.parse::<f64>() {
            Ok(number) if number >= *min && number <= *max => Ok(Data::Number(number)),
            Ok(_) | Err(_) => Err(format!("write a number from {min} to {max}")),
        },
        Kind::Duration => duration::parse(text).map(Data::Duration),
        Kind::Size => {
            let bytes = quantity::bytes(text)?;
            i64::try_from(bytes).map(Data::Int).map_err(|_| "a size beyond 8 EiB".into())
        }
        Kind::Cpu => quantity::millicores(text).map(|millis| Data::Text(format!("{millis}m"))),
        Kind::Enum(words) => word(words, text),
        Kind::Signal => signal::parse(text).map(|number| Data::Int(number.into())).ok_or_else(|| {
            let name = text.trim_start_matches("SIG").trim_start_matches("sig");
            let near = nearest(name, signal::names()).map(|near| format!("did you mean SIG{near}?"));
            near.unwrap_or_else(|| "write a name such as SIGTERM, SIGINT, SIGQUIT, or its number".into())
        }),
        Kind::Umask => match u32::from_str_radix(text, 8) {
            Ok(mask) if mask <= 0o777 && !text.starts_with('+') => Ok(Data::Int(mask.into())),
            Ok(_) | Err(_) => Err("write three octal digits, such as \"027\"".into()),
        },
        Kind::Regex => match regex::RegexBuilder::new(text).size_limit(1 << 19).nest_limit(50).build() {
            Ok(_) => Ok(Data::Text(text.into())),
            Err(regex::Error::CompiledTooBig(_)) => Err("this pattern is too large; make it simpler".into()),
            Err(error) => {
                let last =
                    error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(format!("as a regular expression: {last}; a `\\` before a special character makes it plain"))
            }
        },
        Kind::Capability => match capability::parse(text) {
            Some((name, _)) => Ok(Data::Text(name.into())),
            None => {
                let name = text.to_ascii_uppercase();
                let name = name.strip_prefix("CAP_").unwrap_or(&name);
                let mut longer = capability::names().filter(|known| !name.is_empty() && known.starts_with(name));
                let only = longer.next().filter(|_| longer.next().is_none());
                let near = nearest(name, capability::names()).or(only);
                let near = near.map(|near| format!("did you mean {near}?"));
                Err(near.unwrap_or_else(|| {
                    "write a name such as NET_BIND_SERVICE, or ALL; capabilities(7) lists them".into()
                }))
            }
        },
        Kind::Listen => settings::listen(text).map(|address| Data::Text(address.to_string())),
        Kind::Cron => Cron::parse(text).map(|cron| Data::Text(cron.as_str().into())),
        Kind::TimeZone => Zone::find(text).map(|zone| Data::Text(zone.name().into())),
        Kind::PortRef => match text {
            "$(instance.port)" => Ok(Data::Text(text.into())),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => integer(digits, 1, 65_535),
            name if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
                Ok(Data::Text(name.into()))
            }
            _ => Err("write a number, a name in `ports`, or $(instance.port)".into()),
        },
        Kind::User => match text.split(':').collect::<Vec<_>>().as_slice() {
            [user] | [user, _] if user.is_empty() => Err("write name or name:group".into()),
            [_, ""] => Err("write the group behind the `:`, or remove it".into()),
            [_] | [_, _] if !text.contains(char::is_whitespace) => Ok(Data::Text(text.into())),
            _ => Err("write name or name:group".into()),
        },
        Kind::Sha256 => {
            let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
            let valid = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            if valid { Ok(Data::Text(hex)) } else { Err("write the 64 hex digits that `sha256sum FILE` prints".into()) }
        }
        Kind::Command | Kind::List(_) | Kind::Map(..) | Kind::Object(_) => Err(format!("it takes {}", kind.takes())),
    }
}

fn boolean(text: &str, plain: bool) -> Result<Data, String> {
    match (text, text.to_ascii_lowercase().as_str()) {
        ("true", _) if plain => Ok(Data::Bool(true)),
        ("false", _) if plain => Ok(Data::Bool(false)),
        ("true" | "false", _) => Err(format!("write {text} without quotes")),
        (_, "true" | "yes" | "on" | "y" | "1") => Err("write true".into()),
        (_, "false" | "no" | "off" | "n" | "0") => Err("write false".into()),
        _ => Err("write true or false".into()),
    }
}

fn integer(text: &str, min: i64, max: i64) -> Result<Data, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        let plain = digits.trim_start_matches('0');
        return Err(format!(
            "a leading zero means octal to some; write {}",
            if plain.is_empty() { "0" } else { plain }
        ));
    }
    match text.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) && !text.starts_with('+') => Ok(Data::Int(number)),
        Err(_) if max == PORT_MAX && is_mapping(text) => {
            Err("ports are not mapped here; write the one number that the process listens on".into())
        }
        Ok(_) | Err(_) => Err(format!("write a whole number from {min} to {max}")),
    }
}

/// `8080:80`, as containers map ports.
fn is_mapping(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':').is_some_and(|(host, own)| number(host) && number(own))
}

/// An enum's word in any case, canonical.
fn word(words: &[&'static str], text: &str) -> Result<Data, String> {
    if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
        return Ok(Data::Text((*word).into()));
    }
    let foreign =
        FOREIGN_WORDS.iter().find(|(foreign, here)| foreign.eq_ignore_ascii_case(text) && words.contains(here));
    let near = foreign.map(|(_, here)| *here).or_else(|| nearest(text, words.iter().copied()));
    let choices = match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    };
    Err(near.map_or(format!("write {choices}"), |near| format!("did you mean `{near}`? (it takes {choices})")))
}

fn is_variable(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic() && c != '=' && c != '$')
}

fn unknown(ctx: &mut Context<'_>, entry: &Entry, object: &'static Object, path: &str) {
    if ctx.is_full() {
        return ctx.error(&entry.key_place, "", "");
    }
    let plain: String = entry.key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let near = nearest(&entry.key, object.fields.iter().map(|field| field.name));
    let near_seconds = || {
        let base = plain
            .strip_suffix("seconds")
            .or_else(|| plain.strip_suffix("secs"))
            .or_else(|| plain.strip_suffix("ms"))?;
        nearest(base, object.fields.iter().filter(|field| matches!(field.kind, Kind::Duration)).map(|field| field.name))
    };
    let words = match path {
        "logs" => FOREIGN_LOGS,
        "stop" => FOREIGN_STOP,
        path if path.ends_with("Probe") => FOREIGN_PROBE,
        _ => FOREIGN,
    };
    let meant = nearest(&plain, words.iter().map(|(foreign, _)| *foreign))
        .filter(|foreign| *foreign == plain || near.is_none());
    let foreign = words.iter().find(|(foreign, _)| meant == Some(*foreign)).map(|(_, instead)| (*instead).to_owned());
    let has_words = ["", "lifecycle", "logs", "schedule", "stop"].contains(&path) || path.ends_with("Probe");
    let foreign = foreign.filter(|_| has_words).map(|remedy| with_its_seconds(remedy, &plain, &entry.value));
    let remedy = if entry.value.kind == Node_::Null && entry.key.contains(':') {
        // `port:8080` is one word to YAML.
        Some(format!("put a space behind the colon: `{}`", shown(&entry.key.replacen(':', ": ", 1))))
    } else if foreign.is_some() && near.is_none_or(|near| !near.eq_ignore_ascii_case(&plain)) {
        foreign
    } else if let Some(near) = near {
        Some(format!("did you mean `{near}`?"))
    } else if let Some(near) = near_seconds() {
        Some(format!("write `{near}: 10s`"))
    } else {
        elsewhere(&plain, path).or_else(|| {
            let names: Vec<&str> = object.fields.iter().map(|field| field.name).collect();
            let known = if names.len() > 16 {
                "`plugd explain` lists the fields".into()
            } else {
                format!("known here: {}", names.join(", "))
            };
            Some(known)
        })
    };
    let within = if path.is_empty() { String::new() } else { format!(" in `{}`", shown(path)) };
    ctx.error(&entry.key_place, format!("unknown field `{}`{within}", shown(&entry.key)), remedy.unwrap_or_default());
}

/// Who wrote `stopwaitsecs: 10` is told of `10s`, not of an example.
fn with_its_seconds(remedy: String, plain: &str, value: &Node) -> String {
    const DIGITS_MAX: usize = 6;
    let Node_::Scalar { text, .. } = &value.kind else { return remedy };
    let digits = text.strip_suffix('s').unwrap_or(text);
    let is_number = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let of_seconds = ["sec", "secs", "seconds"].iter().any(|unit| plain.ends_with(unit));
    match ["30s", "1s"].iter().find(|example| remedy.contains(**example)) {
        Some(example) if is_number && of_seconds => remedy.replacen(example, &format!("{digits}s"), 1),
        Some(_) | None => remedy,
    }
}

/// A field of that name in another place of the schema.
fn elsewhere(plain: &str, path: &str) -> Option<String> {
    let mut found: Option<String> = None;
    super::table::walk(&mut |at, field| {
        if found.is_none() && field.name.eq_ignore_ascii_case(plain) && at != join(path, field.name) {
            found = Some(match at.rsplit_once('.') {
                Some((parent, _)) => format!("`{}` belongs under `{parent}`", field.name),
                None => format!("`{}` belongs at the top, not under `{path}`", field.name),
            });
        }
    });
    found
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind_of(node: &Node) -> String {
    match &node.kind {
        Node_::Null => "nothing".into(),
        Node_::Scalar { text, .. } => format!("the text `{}`", shown(text)),
        Node_::List(_) => "a list".into(),
        Node_::Map(_) => "a mapping".into(),
    }
}

/// What to write where the shape is wrong: the same content in the right shape, else an example.
fn shape_remedy(node: &Node, kind: &Kind, field: &Field) -> String {
    match (kind, &node.kind) {
        (Kind::List(_), Node_::Scalar { text, .. }) => format!("write `{}: [{}]`", field.name, shown(text)),
        (Kind::Object(_), Node_::Scalar { text, .. }) if field.name == "logs" && text.contains('/') => {
            format!("write `logs: {{path: {}}}`", shown(text))
        }
        (Kind::Map(..), Node_::List(items)) => match items.first().map(|item| &item.kind) {
            Some(Node_::Scalar { text, .. }) if text.contains('=') => {
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                format!("write `{}: {{{}: {}}}`", field.name, shown(name), shown(value))
            }
            Some(Node_::Map(entries)) => {
                let text = |key: &str| {
                    entries.iter().find(|entry| entry.key == key).and_then(|entry| match &entry.value.kind {
                        Node_::Scalar { text, .. } => Some(shown(text)),
                        Node_::Null | Node_::List(_) | Node_::Map(_) => None,
                    })
                };
                match (text("name"), text("value")) {
                    (Some(name), Some(value)) => format!("write `{}: {{{name}: {value}}}`", field.name),
                    _ => format!("write `{}: {}`", field.name, field.example),
                }
            }
            Some(_) | None => format!("write `{}: {}`", field.name, field.example),
        },
        _ => format!("write `{}: {}`", field.name, field.example),
    }
}

/// `command:bin/web`; what else has colons is no manifest that lacks a space.
fn begins_with_a_field(text: &str) -> bool {
    text.split_once(':').is_some_and(|(field, _)| SERVICE.field(field).is_some())
}

fn fields_remedy(node: &Node, path: &str) -> String {
    match &node.kind {
        Node_::Scalar { text, .. } if path.is_empty() && begins_with_a_field(text) => {
            format!("put a space behind the colon: `{}`", shown(&text.replacen(':', ": ", 1)))
        }
        Node_::Scalar { text, .. } if path.is_empty() && !text.contains(':') => {
            format!("write `command: {}`", shown(text))
        }
        Node_::List(_) if path.is_empty() => "one file is one service; remove the `- ` and write `command: …`".into(),
        Node_::Null | Node_::Scalar { .. } | Node_::List(_) | Node_::Map(_) => "write `field: value` lines".into(),
    }
}

fn probe_remedy(text: &str, name: &str) -> String {
    if text.contains("://") {
        let path = text.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or("/".into());
        return format!("write `{name}: {{httpGet: {{path: {}}}}}`", shown(&path));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return format!("write `{name}: {{tcpSocket: {}}}`", shown(text));
    }
    "write tcp, /path, `exec: cmd`, none, or a mapping".into()
}

fn plain_json(node: &Node) -> serde_json::Value {
    match &node.kind {
        Node_::Null => serde_json::Value::Null,
        Node_::Scalar { text, .. } => serde_json::Value::String(text.clone()),
        Node_::List(items) => items.iter().map(plain_json).collect(),
        Node_::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), plain_json(&entry.value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}
