//! `plugd explain`: the table of fields, for people.

use super::fields::{Field, Object, Page};
use super::table::{SERVICE, SETTINGS};

/// The settings of the node, as a page of their own.
const OF_THE_NODE: &[&str] = &["settings", "_plugd.yaml"];

/// The first page for an empty path; a field and what lies below it for `restart.backoff`.
/// None if there is no such field.
pub fn explain(path: &str) -> Option<String> {
    let path = path.trim().trim_start_matches("spec.").trim_matches('.');
    if path.is_empty() {
        return Some(first_page());
    }
    if OF_THE_NODE.contains(&path) {
        return Some(settings_page());
    }
    of_field(path, &SERVICE).or_else(|| {
        let text = of_field(path, &SETTINGS)?;
        Some(format!("{text}  note      a setting of the node, in `_plugd.yaml`, not of a service\n"))
    })
}

fn of_field(path: &str, of: &'static Object) -> Option<String> {
    let mut object: Option<&'static Object> = Some(of);
    let mut found: Option<&'static Field> = None;
    let mut canonical = Vec::new();
    for name in path.split('.') {
        let (field, _) = object?.field(name)?;
        canonical.push(field.name);
        object = field.kind.object();
        found = Some(field);
    }
    let field = found?;
    let path = canonical.join(".");
    let mut text = format!("{path}\n  {}\n\n", field.text);
    text.push_str(&format!(
        "  takes     {}\n  default   {}\n  example   {}: {}\n",
        field.kind.takes(),
        field.default,
        field.name,
        field.example
    ));
    if !field.aliases.is_empty() {
        text.push_str(&format!("  also      {}\n", field.aliases.join(", ")));
    }
    if field.later {
        text.push_str("  note      understood and checked; acted on by a later version\n");
    }
    if let Some(object) = object {
        text.push_str(&format!("\nfields of {path}:\n"));
        text.push_str(&lines(object.fields.iter()));
    }
    Some(text)
}

/// The fields inside the field at a path, of the service for an empty one; none where there are none.
pub fn field_names(path: &str) -> Vec<&'static str> {
    let inside = |object: &'static Object, name: &str| object.field(name).and_then(|(field, _)| field.kind.object());
    let object = path.split('.').filter(|name| !name.is_empty()).try_fold(&SERVICE, inside);
    object.map(|object| object.fields.iter().map(|field| field.name).collect()).unwrap_or_default()
}

/// The settings of the node.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.fields.iter().map(|field| field.name)
}

fn first_page() -> String {
    let first = SERVICE.fields.iter().filter(|field| field.page == Page::First);
    let rest: Vec<&str> =
        SERVICE.fields.iter().filter(|field| field.page == Page::Advanced).map(|field| field.name).collect();
    format!(
        "A manifest is one YAML file; one line is enough:  command: python3 -m http.server 8080\n\n{}\nmore: {}\n`plugd explain FIELD` tells all about one, `plugd explain restart.backoff` about one inside another; `plugd explain settings` tells those of the node\n",
        lines(first),
        rest.join(", ")
    )
}

fn settings_page() -> String {
    format!(
        "_plugd.yaml in the directory holds what concerns the node; a flag of `plugd run` (--shutdown-timeout) and a \
         variable (PLUGD_SHUTDOWN_TIMEOUT) win over it\n\n{}\n`plugd explain SETTING` tells all about one\n",
        lines(SETTINGS.fields.iter()),
    )
}

fn lines(fields: impl Iterator<Item = &'static Field> + Clone) -> String {
    let width = fields.clone().map(|field| field.name.len()).max().unwrap_or(0);
    fields
        .map(|field| {
            format!(
                "  {:width$}  {}\n  {:width$}  e.g. {}: {}\n",
                field.name, field.text, "", field.name, field.example
            )
        })
        .collect()
}
