//! `plugd explain` and `plugd schema`: both come from the one schema of the manifest.

use std::io::Write as _;

use super::Session;
use super::args::ExplainArgs;
use super::fault::{Code, Fault};
use crate::model::manifest;

pub fn explain(args: &ExplainArgs, session: &Session) -> Result<Code, Fault> {
    // `service.spec.readinessProbe`, as people of Kubernetes write it, is the same field.
    let field = args.field.trim_start_matches("service.").trim_start_matches("spec.").trim_end_matches('.');
    let field = if matches!(field, "service" | "spec") { "" } else { field };
    match manifest::explain(field) {
        Some(text) => {
            let mut out = session.out();
            out.write_all(text.trim_end().as_bytes())?;
            writeln!(out)?;
            out.flush()?;
            Ok(Code::Done)
        }
        None => {
            Err(Fault::no(format!("there is no field {field}{}", nearest(field)), "`plugd explain` lists the fields"))
        }
    }
}

/// What was probably meant, among the fields that lie beside it.
fn nearest(field: &str) -> String {
    let (parent, last) = field.rsplit_once('.').unwrap_or(("", field));
    let fields = manifest::field_names(parent);
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
