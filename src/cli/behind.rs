//! What the files of a service say and is not in force: in which of them, why, and what comes next.

use std::path::Path;

use super::effective;
use super::told::DEFAULTS;
use crate::edge::directory;
use crate::edge::store::Store;
use crate::model::reason::Reason;
use crate::model::view::{Problem, ServiceView};

/// A version is declared that is refused, or would not start.
#[derive(Debug)]
pub struct Behind<'v> {
    /// Its manifest, or the drop-in or the defaults that say what is wrong.
    pub file: String,
    pub why: &'v str,
    /// What a person does about it.
    pub next: String,
}

/// Of one whose version before goes on meanwhile; none where what is declared is in force, or on its way.
pub fn of<'v>(dir: &Path, view: &'v ServiceView) -> Option<Behind<'v>> {
    let problem = problem(view)?;
    let why = problem.message.as_str();
    let reason = blocked_by(problem);
    let file = match reason.and_then(field) {
        Some(field) => says(dir, view, field),
        None => quoted(&view.manifest.file, why).map(str::to_string),
    };
    let file = file.unwrap_or_else(|| view.manifest.file.clone());
    let next = match reason {
        Some("AddressInUse") => format!("free the port, or mend {file}"),
        Some(_) | None => format!("mend {file}"),
    };
    Some(Behind { file, why, next })
}

/// As the controller tells it. What lies there is refused: whatever was declared before that counts no more.
pub fn problem(view: &ServiceView) -> Option<&Problem> {
    match view.manifest.rejected {
        Some(_) => view.problem(Reason::ConfigInvalid).or_else(|| view.problems.first()),
        None => view.problem(Reason::UpdateBlocked),
    }
}

/// `DependencyNotReady` of `the new version would not start (DependencyNotReady): …`.
fn blocked_by(problem: &Problem) -> Option<&str> {
    let said = problem.message.split_once('(').filter(|_| problem.reason == Reason::UpdateBlocked)?.1;
    said.split_once(')').map(|(reason, _)| reason)
}

/// The field of the manifest that is to be mended.
fn field(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "DependencyNotReady" | "DependencyCycle" => "dependsOn",
        "AddressInUse" => "port",
        "WrapperNotFound" | "NotExecutable" | "BadInterpreter" | "DigestMismatch" => "wrapper",
        "ProgramNotFound" => "command",
        "WorkingDirNotFound" => "workingDir",
        "UserNotFound" => "user",
        "EnvFileNotFound" => "envFrom",
        _ => return None,
    })
}

/// The file that says this field of a service: only the files themselves know.
fn says(dir: &Path, view: &ServiceView, field: &str) -> Option<String> {
    let wanted = |file: &str| file == view.manifest.file;
    let loaded = directory::load_some(dir, &effective::written(dir), Store::none(), wanted).ok()?;
    let mut origins = loaded.origins.get(&view.service)?.iter();
    let is_it = |path: &str| path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    origins.find(|(path, _)| is_it(path)).map(|(_, file)| file.clone())
}

/// The drop-in that a message begins with, or the defaults.
fn quoted<'m>(manifest: &str, message: &'m str) -> Option<&'m str> {
    let file = message.split([':', ' ']).next()?;
    let stem = Path::new(manifest).file_stem().and_then(|stem| stem.to_str())?;
    (file == DEFAULTS || file.starts_with(&format!("{stem}.yaml.d/"))).then_some(file)
}
