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
        None => Err(Fault::no(format!("there is no field {field}"), "`plugd explain` lists the fields")),
    }
}

pub fn schema(session: &Session) -> Result<Code, Fault> {
    let mut out = session.out();
    writeln!(out, "{}", super::json(&manifest::schema()))?;
    out.flush()?;
    Ok(Code::Done)
}
