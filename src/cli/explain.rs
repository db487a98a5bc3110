//! `plugd explain` and `plugd schema`: both come from the one schema of the manifest.

use std::io::Write as _;

use super::args::ExplainArgs;
use super::fault::{Code, Fault};
use super::look::{columns, wrap};
use super::{Session, select};
use crate::model::manifest;

pub fn explain(args: &ExplainArgs, session: &Session) -> Result<Code, Fault> {
    // `service.spec.readinessProbe`, as people of Kubernetes write it, is the same field.
    let field = args.field.trim_start_matches("service.").trim_start_matches("spec.").trim_end_matches('.');
    let field = if matches!(field, "service" | "spec") { "" } else { field };
    match manifest::explain(field) {
        Some(text) => {
            let mut out = session.out();
            for line in text.trim_end().lines() {
                let indent: String = line.chars().take_while(|c| *c == ' ').collect();
                // What stands in columns goes on beneath its own column.
                let hang = line.trim_start().find("  ").map_or(0, |at| {
                    let rest = &line.trim_start()[at..];
                    columns(&line.trim_start()[..at]) + rest.len() - rest.trim_start().len()
                });
                let (head, body) = line[indent.len()..].split_at(hang.min(line.len() - indent.len()));
                let beneath = " ".repeat(indent.len() + columns(head));
                let width = session.look.width.map_or(usize::MAX, |width| width.saturating_sub(beneath.len()).max(20));
                writeln!(out, "{indent}{head}{}", wrap(body, width).join(&format!("\n{beneath}")))?;
            }
            if let Some(verb) = super::grammar().find_subcommand(field).map(clap::Command::get_name) {
                writeln!(out, "\n`plugd {verb}` is a verb, too: `plugd help {verb}` explains it")?;
            }
            out.flush()?;
            Ok(Code::Done)
        }
        None if select::is_kind(field) => {
            Err(Fault::no(format!("there is no kind {field}"), "all are services; `plugd explain` lists their fields"))
        }
        None => {
            Err(Fault::no(format!("there is no field {field}{}", nearest(field)), "`plugd explain` lists the fields"))
        }
    }
}

/// What was probably meant, among the fields that lie beside it.
fn nearest(field: &str) -> String {
    let (parent, last) = field.rsplit_once('.').unwrap_or(("", field));
    let mut fields = manifest::field_names(parent);
    if parent.is_empty() {
        fields.extend(manifest::setting_names());
    }
    let near = manifest::nearest(last, fields.iter().copied());
    let whole = |near: &str| if parent.is_empty() { near.to_string() } else { format!("{parent}.{near}") };
    near.map(|near| format!(" (did you mean {}?)", whole(near))).unwrap_or_default()
}

pub fn schema(session: &Session) -> Result<Code, Fault> {
    let mut out = session.out();
    writeln!(out, "{}", super::json(&manifest::schema()))?;
    out.flush()?;
    Ok(Code::Done)
}
