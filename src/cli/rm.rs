//! `plugd rm`: removes manifests and waits until their services are gone.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::args::RmArgs;
use super::fault::{Code, Fault};
use super::node::Node;
use super::steer::few;
use super::{Session, behind, last, node, row, select, told};
use crate::edge::directory;
use crate::model::manifest;
use crate::model::name::Name;
use crate::model::register::{self, Refused};
use crate::model::view::{ServiceView, Snapshot};

pub fn rm(args: &RmArgs, session: &Session) -> Result<Code, Fault> {
    let node = match session.node() {
        Ok(node) => node,
        Err(fault) if fault.is_unreachable() && !args.missing => return without_controller(args, session),
        Err(fault) => return Err(fault),
    };
    node.may_be_changed(false)?;
    if args.missing {
        node.confirm_missing()?;
        return Ok(Code::Done);
    }
    let snapshot = node.snapshot_with(&args.names)?;
    let dir = node.dir()?;
    let names = select::names(&snapshot, &args.names, false)?;
    let files = register::files_to_remove(&snapshot, &names, &directory::reader(&dir))?;
    if let Some(warning) = left_behind(&names, &snapshot, &node)
        && !goes_on(&warning, args)?
    {
        return Err(Fault::no("nothing was removed", "`plugd rm --yes` does not ask"));
    }
    for file in &files {
        remove(&dir, file)?;
    }
    if args.no_wait {
        session.done(&format!("{} removed; what it declared is being stopped", few(files.iter().cloned())));
        return Ok(Code::Done);
    }
    let mut watching = node.watch()?;
    let left = |known: &Snapshot| {
        let left = names.iter().filter_map(|name| known.services.get(name));
        let words = left.map(|view| format!("{} is {}", view.service, row::word(view.status, view.reason)));
        words.collect::<Vec<_>>().join(", ")
    };
    // A second file that declares it takes over.
    let taken = |known: &Snapshot| -> Vec<Arc<ServiceView>> {
        let views = names.iter().filter_map(|name| known.services.get(name));
        // Of what no file declares any more the next controller knows none.
        let is_another = |view: &&Arc<ServiceView>| {
            let file = &view.manifest.file;
            !file.is_empty() && !files.contains(file)
        };
        views.filter(is_another).cloned().collect()
    };
    let is_over = |known: &Snapshot| {
        let left = names.iter().filter(|name| known.services.contains_key(*name)).count();
        left == taken(known).len()
    };
    let gone = watching.until_telling(
        Some(Instant::now() + args.timeout),
        |known| Ok(is_over(known).then(|| taken(known))),
        left,
    )?;
    if let Some(first) = gone.as_ref().and_then(|taken| taken.first()) {
        let (name, file) = (&first.service, &first.manifest.file);
        let (removed, are) = (few(files.iter().cloned()), if files.len() == 1 { "is" } else { "are" });
        let has = if first.manifest.rejected.is_some() { "has the name" } else { "declares" };
        let wrong = behind::problem(first).filter(|_| first.manifest.rejected.is_some());
        let wrong =
            wrong.map(|problem| format!(": it is refused, and the version before goes on: {}", problem.message));
        let wrong = wrong.unwrap_or_default();
        let what = format!("{removed} {are} removed; {file} {has} {name} too, and is the one that counts now{wrong}");
        return Err(Fault::no(what, format!("`plugd rm {name}` removes {file} as well")));
    }
    if gone.is_some() {
        told::files_tell(&dir, names.iter().map(|name| (name.as_str(), None)));
        session.done(&format!("{}: stopped and gone", few(names.iter().map(Name::to_string))));
        return Ok(Code::Done);
    }
    let left = names.iter().filter_map(|name| watching.known()?.services.get(name)).next();
    Err(Fault::TimedOut {
        what: left.map_or_else(
            || "the services are not gone".into(),
            |view| format!("{} is {}", view.service, row::word(view.status, view.reason)),
        ),
        after: args.timeout,
        next: "`plugd status` tells what holds it up".into(),
    })
}

/// Who depends on what goes, and would not start again without it.
fn left_behind(names: &[Name], snapshot: &Snapshot, node: &Node) -> Option<String> {
    let needs = |view: &&Arc<ServiceView>| {
        !names.contains(&view.service)
            && view.depends_on.iter().any(|needed| names.contains(needed))
            && needs_one_of(node, &view.service, names)
    };
    let left: Vec<String> = snapshot.services.values().filter(needs).map(|view| view.service.to_string()).collect();
    let gone = few(names.iter().map(Name::to_string));
    let verb = if left.len() == 1 { "depends" } else { "depend" };
    (!left.is_empty()).then(|| {
        format!(
            "{} {verb} on {gone} and cannot start again without; what runs of it goes on, or follows its `onLoss`",
            few(left.into_iter())
        )
    })
}

/// Not only for the order of starting.
fn needs_one_of(node: &Node, dependent: &Name, names: &[Name]) -> bool {
    let object = node.object(dependent).unwrap_or_default();
    let Some(each) = object.pointer("/spec/dependsOn").and_then(Value::as_array) else { return true };
    let optional = |one: &Value| one.get("optional").and_then(Value::as_bool).unwrap_or(false);
    let name = |one: &Value| one.as_str().or_else(|| one.get("name")?.as_str()).map(str::to_string);
    each.iter().any(|one| !optional(one) && name(one).is_some_and(|name| names.iter().any(|n| n.as_str() == name)))
}

/// A person is asked; a script is told and goes on.
fn goes_on(warning: &str, args: &RmArgs) -> Result<bool, Fault> {
    let stdin = std::io::stdin();
    super::say(warning);
    if args.yes || !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    let _ = write!(std::io::stderr(), "remove it all the same? [y/N] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(|error| Fault::path("read", "stdin", error))?;
    Ok(answer.trim().to_ascii_lowercase().starts_with('y'))
}

/// The files are what counts: without a controller they are removed all the same, by what the
/// status files last said.
fn without_controller(args: &RmArgs, session: &Session) -> Result<Code, Fault> {
    let dir = node::directory(&session.global)?;
    let mut files = Vec::new();
    for name in &args.names {
        let Some(file) = file_of(&dir, name) else {
            let rows = last::read(&dir);
            let nearest = manifest::nearest(name, rows.iter().map(|row| row.name.as_str())).map(Into::into);
            return Err(Fault::NoSuchService { name: name.clone(), nearest });
        };
        let parsed = || Name::parse(name).map_err(|_| Fault::NoSuchService { name: name.clone(), nearest: None });
        if !register::is_manifest(&file) {
            return Err(Refused::Script { name: parsed()?, file }.into());
        }
        if let Some(other) = other_in(&dir, &file, &args.names) {
            return Err(Refused::Shared { name: parsed()?, file, other }.into());
        }
        files.push(file);
    }
    for file in &files {
        remove(&dir, file)?;
    }
    let manifests = if args.names.len() == 1 { "its manifest is" } else { "the manifests are" };
    super::say(&format!(
        "{}: {manifests} removed from {}; no controller answers, so nothing was stopped",
        args.names.join(", "),
        dir.display()
    ));
    Ok(Code::Unreachable)
}

/// Without a controller: the file that declared the service when one ran, else one of its name.
pub(super) fn file_of(dir: &Path, name: &str) -> Option<String> {
    let said = last::read(dir).into_iter().find(|row| row.name == name).map(|row| row.file);
    let usual = ["yaml", "yml", "json"].map(|ending| format!("{name}.{ending}"));
    said.into_iter().chain(usual).find(|file| !file.is_empty() && dir.join(file).is_file())
}

/// A service that the file declares and that is not meant.
pub(super) fn other_in(dir: &Path, file: &str, meant: &[String]) -> Option<Name> {
    let text = std::fs::read(dir.join(file)).ok()?;
    let other = register::names_in(&text, register::stem_of(file)).into_iter().find(|held| !meant.contains(held))?;
    Name::parse(&other).ok()
}

fn remove(dir: &Path, file: &str) -> Result<(), Fault> {
    let path = dir.join(file);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::path("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
