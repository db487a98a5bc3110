//! `command` and its kin: a list of words, or one line that is split.

use crate::model::words::{self, NotWords};
use crate::model::yaml::{Kind as Node_, Node, Place};

use super::context::Context;
use super::diagnostic::shown;
use super::fields::Field;
use super::given::{Data, Given};

/// A list is taken as it is; it must have a first word, except where words are only added.
pub fn words(ctx: &mut Context<'_>, node: &Node, items: &[Node], path: &str, field: &Field) -> Option<Given> {
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        match &item.kind {
            Node_::Scalar { text, .. } => {
                words.push(Given { place: item.place.clone(), data: Data::Text(text.clone()) })
            }
            Node_::Null => ctx.error(
                &item.place,
                format!("a word of `{path}` is empty"),
                "write \"\" for an empty word, or remove it",
            ),
            Node_::List(_) | Node_::Map(_) => {
                let remedy = if matches!(item.kind, Node_::Map(_)) {
                    "put a word that contains `: ` in quotes"
                } else {
                    "write one flat list"
                };
                ctx.error(&item.place, format!("`{path}` takes a list of words"), remedy);
            }
        }
    }
    let needs_program = field.name != "args";
    if needs_program
        && words.first().is_none_or(|word| word.as_text().is_none_or(str::is_empty))
        && items.iter().all(|item| item.kind != Node_::Null)
    {
        ctx.error(
            &node.place,
            format!("`{path}` names no program"),
            format!("write `{}: {}`", field.name, field.example),
        );
        return None;
    }
    Some(Given { place: node.place.clone(), data: Data::List(words) })
}

/// One string, split as a shell would, with an error for all that only a shell could do.
pub fn line(ctx: &mut Context<'_>, node: &Node, text: &str, path: &str) -> Option<Given> {
    let script = || {
        if path == "command" {
            "for a shell, write `script: |` and the text below it, indented"
        } else {
            "for a shell, write `[sh, -c, \"…\"]`"
        }
    };
    let text = text.trim_end();
    let joined = text.replace("\\\n", "  ");
    if joined.contains('\n') {
        ctx.error(&node.place, format!("`{path}` has several lines"), script());
        return None;
    }
    match words::split(&joined) {
        Ok(words) if words.first().is_none_or(String::is_empty) && path != "args" => {
            ctx.error(&node.place, format!("`{path}` names no program"), "write the program and its arguments");
            None
        }
        Ok(words) => {
            let word = |word| Given { place: node.place.clone(), data: Data::Text(word) };
            Some(Given { place: node.place.clone(), data: Data::List(words.into_iter().map(word).collect()) })
        }
        Err(wrong) => {
            let place = inside(ctx, &node.place, text, wrong.at());
            let remedy = match &wrong {
                NotWords::OpenQuote { .. } => "close it, or write a list: [word, word]".to_owned(),
                NotWords::OpenEscape { .. } => "remove it".to_owned(),
                NotWords::Shell { what, .. } => {
                    match what.strip_prefix('$').map(|name| name.trim_matches(['{', '}'])) {
                        Some(name)
                            if !name.is_empty()
                                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                                && !name.starts_with(|c: char| c.is_ascii_digit()) =>
                        {
                            format!("write `$({name})`; {}", script())
                        }
                        Some(_) | None => script().to_owned(),
                    }
                }
                NotWords::Assignment { what, .. } => format!("write `env: {{{} …}}`", what.replace('=', ":")),
                NotWords::Home { .. } => "write the whole path".to_owned(),
            };
            ctx.error(&place, format!("in `{path}`, {wrong}", path = shown(path)), remedy);
            None
        }
    }
}

/// The place of a byte within a scalar, where the source spells it as it is read.
fn inside(ctx: &Context<'_>, place: &Place, text: &str, at: usize) -> Place {
    let source = ctx.source(place);
    let Some(start) = source.find(text) else {
        return place.clone();
    };
    let before = &source[..start + at];
    if before.contains('\n') {
        return place.clone();
    }
    let from = place.bytes.start + start + at;
    Place { col: place.col + before.chars().count(), bytes: from..from + 1, ..place.clone() }
}
