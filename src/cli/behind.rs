//! What the files of a service say and is not in force: in which of them, why, and what comes next.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::node::Watching;
use super::told;
use super::{effective, say};
use crate::edge::directory;
use crate::edge::store::Store;
use crate::model::ready;
use crate::model::reason::Reason;
use crate::model::view::{BlockView, Problem, ServiceView, Snapshot};

/// Whether an edit can be carried out is known within milliseconds; where a path hangs it is not waited for.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);

/// A version is declared that is refused, or would not start.
#[derive(Debug)]
pub struct Behind<'v> {
    /// Its manifest, or the drop-in or the defaults that say what is wrong.
    pub file: String,
    pub why: &'v str,
    /// What a person does about it.
    pub next: String,
}

impl Behind<'_> {
    /// `web is running, but by the version before: …`.
    pub fn sentence(&self, view: &ServiceView) -> String {
        let Behind { file, why, next: _ } = self;
        if is_asleep(view) {
            return format!("{} is {}, but {why}", view.service, view.status);
        }
        let before = match (never_was_valid(view), ready::is_ready(view)) {
            (true, _) => ": ",
            (false, true) => ", but by the version before: ",
            (false, false) => ", and that is the version before: ",
        };
        format!("{} is {}{before}what {file} says now is not in force: {why}", view.service, view.status)
    }
}

/// Who wrote this text into a file is told within a moment which of its services goes on as the version before, and
/// what for.
pub fn tell_soon(watching: &mut Watching<'_>, file: &str, hash: &str, dir: &Path) -> Result<(), Fault> {
    let of_file = |known: &Snapshot| told::of_file(known, file);
    let is_open = |view: &Arc<ServiceView>| {
        let told = &view.manifest;
        // What was refused before is taken back in a moment.
        let last = told.rejected.as_ref().map_or(&told.sha256, |rejected| &rejected.sha256);
        let waits = told.in_force.is_some() && problem(view).or(waits(view)).is_none();
        last != hash || waits || is_tried(view)
    };
    let patience = Instant::now() + KNOWN_WITHIN;
    watching.until(Some(patience), |known| Ok((!of_file(known).iter().any(is_open)).then_some(())))?;
    for view in watching.known().map(of_file).unwrap_or_default() {
        match (of(dir, &view), waits(&view)) {
            (Some(behind), _) => say(&format!("{}; {}", behind.sentence(&view), behind.next)),
            (None, Some(waits)) => say(&format!("{}: {}", view.service, waits.message)),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Of one whose version before goes on meanwhile; none where what is declared is in force, or on its way.
pub fn of<'v>(dir: &Path, view: &'v ServiceView) -> Option<Behind<'v>> {
    let problem = problem(view)?;
    let cause = problem.cause.as_ref().map(|cause| cause.reason);
    let says = || cause.and_then(field).and_then(|field| says(dir, view, field));
    let file = refused_in(view).map(str::to_string).or_else(says).unwrap_or_else(|| view.manifest.file.clone());
    let next = match cause {
        Some(Reason::AddressInUse) => format!("free the port, or mend {file}"),
        Some(_) | None => format!("mend {file}"),
    };
    Some(Behind { file, why: &problem.message, next })
}

/// As the controller tells it.
pub fn problem(view: &ServiceView) -> Option<&Problem> {
    match is_asleep(view) {
        true => view.problems.iter().find(|problem| problem.cause.is_some()),
        false => view.not_in_force(),
    }
}

/// There is no version before: what is declared starts at a call, or would not.
fn is_asleep(view: &ServiceView) -> bool {
    view.manifest.rejected.is_none() && view.reason == Some(Reason::OnDemand)
}

/// It sleeps, and whether a call would start it is known in a moment.
pub fn is_tried(view: &ServiceView) -> bool {
    view.pending && is_asleep(view)
}

/// An edit that waits for others, and is carried out when they are ready.
pub fn waits(view: &ServiceView) -> Option<&Problem> {
    let told = view.problem(Reason::DependencyNotReady).filter(|problem| problem.cause.is_some());
    told.filter(|_| view.manifest.in_force.is_some())
}

/// What runs is not started again if it ends: what is missing.
pub fn would_not_start_again(view: &ServiceView) -> Option<&BlockView> {
    let causes = view.problems.iter().filter_map(|problem| problem.cause.as_ref());
    let mut last = causes.filter(|cause| view.process_running && !cause.starts_again);
    last.next()
}

/// What lies there was refused, and nothing was valid before it.
pub fn never_was_valid(view: &ServiceView) -> bool {
    view.manifest.sha256.is_empty() && view.manifest.rejected.is_some()
}

/// The file that is wrong.
fn refused_in(view: &ServiceView) -> Option<&str> {
    view.manifest.rejected.as_ref()?.file.as_deref()
}

/// The field of the manifest that is to be mended.
fn field(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::DependencyNotReady | Reason::DependencyCycle => "dependsOn",
        Reason::AddressInUse => "port",
        Reason::WrapperNotFound | Reason::NotExecutable | Reason::BadInterpreter | Reason::DigestMismatch => "wrapper",
        Reason::ProgramNotFound => "command",
        Reason::WorkingDirNotFound => "workingDir",
        Reason::UserNotFound => "user",
        Reason::EnvFileNotFound => "envFrom",
        _ => return None,
    })
}

/// The file in which this field of a service is to be mended.
pub fn file_of(dir: &Path, view: &ServiceView, field: &str) -> String {
    says(dir, view, field).unwrap_or_else(|| view.manifest.file.clone())
}

/// The file that says this field of a service: only the files themselves know.
fn says(dir: &Path, view: &ServiceView, field: &str) -> Option<String> {
    let only = BTreeSet::from([view.manifest.file.as_str()]);
    let loaded = directory::load_some(dir, &effective::written(dir), Store::none(), Some(&only)).ok()?;
    let mut origins = loaded.origins.get(&view.service)?.iter();
    let is_it = |path: &str| path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    origins.find(|(path, _)| is_it(path)).map(|(_, file)| file.clone())
}

/// What is refused is so for a drop-in or the defaults, which may have been written since.
pub fn is_for_another_file(view: &ServiceView) -> bool {
    refused_in(view).is_some_and(|file| file != view.manifest.file)
}
