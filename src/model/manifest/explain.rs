//! `plugd explain`: the table of fields, for people.

use super::fields::{Field, Object, Page};
use super::table::SERVICE;

/// The first page for an empty path; a field and what lies below it for `restart.backoff`.
/// None if there is no such field.
pub fn explain(path: &str) -> Option<String> {
    let path = path.trim().trim_start_matches("spec.").trim_matches('.');
    if path.is_empty() {
        return Some(first_page());
    }
    let mut object: Option<&'static Object> = Some(&SERVICE);
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

fn first_page() -> String {
    let first = SERVICE.fields.iter().filter(|field| field.page == Page::First);
    let rest: Vec<&str> =
        SERVICE.fields.iter().filter(|field| field.page == Page::Advanced).map(|field| field.name).collect();
    format!(
        "A manifest is one YAML file; one line is enough:  command: python3 -m http.server 8080\n\n{}\nmore: {}\n`plugd explain FIELD` tells all about one, `plugd explain restart.backoff` about one inside another\n",
        lines(first),
        rest.join(", ")
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
