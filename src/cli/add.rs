//! `plugd add`: writes a manifest and waits until a status names the bytes that were written.
//!
//! What is wrong with the text is said before anything is written. What only the controller can
//! know (a name that another file owns, an owner that is not trusted) comes back from its status.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::{AddArgs, WaitArgs, WaitFor};
use super::check::refuse_invalid;
use super::fault::{Code, Fault};
use super::node::{Node, Watching};
use super::told::{self, Intake, Lying};
use super::{Session, behind, node, row, wait};
use crate::edge::directory;
use crate::edge::put::{Existing, put};
use crate::model::digest;
use crate::model::name::Name;
use crate::model::reason::Status;
use crate::model::register::{self, Refused};
use crate::model::text::clean;
use crate::model::text::yaml::quoted;
use crate::model::view::Snapshot;

/// A manifest is at most 64 KiB; one byte more tells that it is larger.
const MANIFEST_MAX: u64 = 64 * 1024;
/// A file that makes no service is told without a hash, so an older problem of the same file may
/// still stand there: after this long without an answer it is taken for the answer.
const PROBLEM_SETTLES: Duration = Duration::from_millis(500);

pub fn add(args: &AddArgs, session: &Session) -> Result<Code, Fault> {
    let (file, text) = if args.command.is_empty() { from_file(args)? } else { from_command(args)? };
    // A node that runs knows its directory; without one the file is written all the same.
    let node = session.node();
    node.iter().try_for_each(|node| node.may_be_changed(false))?;
    let dir = match (&node, &session.global.dir) {
        (_, Some(dir)) => dir.clone(),
        (Ok(node), None) => node.dir()?,
        (Err(_), None) => node::directory(&session.global)?,
    };
    let known = node.as_ref().ok().map(Node::snapshot).transpose()?;
    let meant = meant(&file, &text);
    let file = target(known.as_ref(), &dir, file, meant.clone(), args)?;
    if let Some(name) = meant {
        register::fits(&name, &file, &text)?;
    }
    refuse_invalid(&file, &text, &dir, session)?;
    let existing = if args.command.is_empty() || args.replace { Existing::Replace } else { Existing::Keep };
    let path = dir.join(&file);
    put(&dir, &file, &text, existing).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Fault::no(
            format!("{} is there already", path.display()),
            "change it with `plugd edit`, or put this in its place with --replace",
        ),
        _ => Fault::path("write", &path, error),
    })?;
    let node =
        node.inspect_err(|_| super::say(&format!("{} is written and waits for a controller", path.display())))?;
    accepted(&node, &file, &digest::short(&text), args, session)
}

/// The file that is written: the one that declares the service now, whatever its ending.
fn target(
    known: Option<&Snapshot>,
    dir: &Path,
    file: String,
    meant: Option<Name>,
    args: &AddArgs,
) -> Result<String, Fault> {
    let Some(name) = meant else { return Ok(file) };
    let Some(known) = known else {
        let there = super::rm::file_of(dir, name.as_str()).filter(|file| register::is_manifest(file));
        let there = there.unwrap_or(file);
        return match super::rm::other_in(dir, &there, std::slice::from_ref(&name.to_string())) {
            Some(other) => Err(Refused::Shared { name, file: there, other }.into()),
            None => Ok(there),
        };
    };
    if !args.command.is_empty() {
        return Ok(register::file_to_write(known, &name, args.replace, &directory::reader(dir))?);
    }
    match known.services.get(&name).map(|view| &view.manifest.file) {
        Some(other) if *other != file => Ok(register::file_to_write(known, &name, true, &directory::reader(dir))?),
        // The file as a whole is what was named.
        Some(_) | None => Ok(file),
    }
}

/// The service that a file declares by its own name; one of several services, or of another name, is what it is.
fn meant(file: &str, text: &[u8]) -> Option<Name> {
    let name = Name::parse(register::stem_of(file)).ok()?;
    (register::names_in(text, name.as_str()) == [name.as_str()]).then_some(name)
}

/// The file of that name and what it holds.
fn from_file(args: &AddArgs) -> Result<(String, Vec<u8>), Fault> {
    let path = PathBuf::from(&args.target);
    let (source, ending): (Box<dyn std::io::Read>, String) = if args.target == "-" {
        if args.name.is_none() {
            return Err(Fault::usage("a manifest from stdin has no name", "give it one with --name"));
        }
        (Box::new(std::io::stdin()), "yaml".into())
    } else {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_string();
        if !matches!(ending.as_str(), "yaml" | "yml" | "json") {
            let next = "name a file that ends in .yaml, .yml or .json, or write `plugd add NAME -- CMD`";
            return Err(Fault::usage(format!("{} is no manifest by its name", path.display()), next));
        }
        (Box::new(std::fs::File::open(&path).map_err(|error| Fault::path("read", &path, error))?), ending)
    };
    let mut text = Vec::new();
    source.take(MANIFEST_MAX + 1).read_to_end(&mut text).map_err(|error| Fault::path("read", &path, error))?;
    if text.len() as u64 > MANIFEST_MAX {
        return Err(Fault::Invalid(format!("{} is larger than 64 KiB; a manifest is not", path.display())));
    }
    let stem = path.file_name().and_then(|name| name.to_str()).map(ToString::to_string);
    let file = match (&args.name, stem) {
        (Some(name), _) => format!("{name}.{ending}"),
        (None, Some(file)) => file,
        (None, None) => return Err(Fault::usage(format!("{} names no file", path.display()), "name a manifest")),
    };
    Ok((file, text))
}

/// A manifest made of a command; every word is quoted, so that none is read as anything else.
fn from_command(args: &AddArgs) -> Result<(String, Vec<u8>), Fault> {
    let target = args.target.to_str().unwrap_or_default();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => Name::parse(target).map_err(|error| {
            let next = match &error.hint {
                Some(hint) => format!("`plugd add {hint} -- CMD` would do"),
                None => "write `plugd add NAME -- CMD`".into(),
            };
            Fault::usage(format!("{target:?} is not a valid name: {}", error.why), next)
        })?,
    };
    let mut text = format!("command: {}\n", words(&args.command)?);
    if let Some(port) = args.port {
        text.push_str(&format!("port: {port}\n"));
    }
    if args.required {
        text.push_str("required: true\n");
    }
    Ok((format!("{name}.yaml"), text.into_bytes()))
}

fn words(command: &[OsString]) -> Result<String, Fault> {
    let words: Option<Vec<String>> =
        command.iter().map(|word| word.to_str().filter(|w| !w.contains('\0')).map(quoted)).collect();
    let words = words.ok_or_else(|| Fault::usage("the command is not UTF-8", "write it into a script and add that"))?;
    Ok(format!("[{}]", words.join(", ")))
}

/// Waits until the controller has taken a stand on these bytes, and with `--wait` until ready.
fn accepted(node: &Node, file: &str, hash: &str, args: &AddArgs, session: &Session) -> Result<Code, Fault> {
    let deadline = Instant::now() + args.timeout;
    let settles = Instant::now() + PROBLEM_SETTLES;
    let dir = node.dir()?;
    let mut watching = node.watch()?;
    loop {
        let problem_counts = Instant::now() >= settles;
        let until = if problem_counts { deadline } else { settles.min(deadline) };
        let stand = watching.until(Some(until), |known| Ok(stand(known, file, hash, problem_counts)))?;
        match stand {
            Some(Stand::Accepted) => break,
            Some(Stand::Rejected(why)) => {
                if is_of_now(&mut watching, &dir, file, deadline)? {
                    return Err(Fault::Invalid(why));
                }
            }
            None if Instant::now() < deadline => {}
            None => {
                return Err(Fault::TimedOut {
                    what: format!("{file} is written but the controller has not taken it up"),
                    after: args.timeout,
                    next: "`plugd get` tells what it is at".into(),
                });
            }
        }
    }
    let mut out = session.out();
    let of_file = |known: &Snapshot| told::of_file(known, file);
    let views = watching.known().map(of_file).unwrap_or_default();
    if args.wait {
        let names = views.iter().map(|view| view.service.to_string()).collect();
        let wait = WaitArgs { names, what: WaitFor::Ready, all: false, timeout: args.timeout };
        wait::as_asked(&wait, node, &mut watching, &dir, deadline)?;
    } else {
        behind::tell_soon(&mut watching, file, hash, &dir)?;
    }
    for view in watching.known().map(of_file).unwrap_or(views) {
        writeln!(out, "{}  {}", view.service, row::word(view.status, view.reason))?;
        // It was taken up, which is all that was asked for; why it is not well is worth a word.
        let bad = matches!(view.status, Status::Failed | Status::Unhealthy | Status::Skipped);
        if let (true, Some(why)) = (bad, view.why.first()) {
            super::say(&format!("{}: {}", view.service, clean(why)));
        }
    }
    out.flush()?;
    Ok(Code::Done)
}

/// Whether what is told of a file is of all that lies there now: a drop-in that was to blame may have been mended a
/// moment ago. Returns once it is, or may be, another.
fn is_of_now(watching: &mut Watching<'_>, dir: &Path, file: &str, deadline: Instant) -> Result<bool, Fault> {
    let of_file = |known: &Snapshot| told::of_file(known, file);
    let Some(known) = watching.known() else { return Ok(true) };
    let lying = Lying::of(dir, of_file(known).iter());
    let is_taken_in = |known: &Snapshot| lying.intake(known, of_file(known).iter()) == Intake::Done;
    // Of its own text these are the bytes; who else has its name, and whom it may come from, only the controller knows.
    if is_taken_in(known) || !of_file(known).iter().any(|view| behind::is_for_another_file(view)) {
        return Ok(true);
    }
    let patience = deadline.min(Instant::now() + wait::TAKEN_IN_WITHIN);
    Ok(watching.until(Some(patience), |known| Ok(is_taken_in(known).then_some(())))?.is_none())
}

/// What the controller holds of a file.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    Accepted,
    Rejected(String),
}

fn stand(known: &Snapshot, file: &str, hash: &str, problem_counts: bool) -> Option<Stand> {
    for view in known.services.values().filter(|view| view.manifest.file == file) {
        if view.manifest.rejected.as_ref().is_some_and(|rejected| rejected.sha256 == hash) {
            let problem = behind::problem(view).map(|problem| format!("{}: {}", problem.reason, problem.message));
            let why = problem.or_else(|| view.why.first().cloned()).unwrap_or_else(|| "no reason is told".into());
            return Some(Stand::Rejected(format!("{} is not taken: {why}", Path::new(file).display())));
        }
        // What was refused before is taken back in a moment.
        if view.manifest.sha256 == hash && view.manifest.rejected.is_none() {
            return Some(Stand::Accepted);
        }
    }
    let problem = known.node.problems.iter().find(|problem| problem.file == file).filter(|_| problem_counts)?;
    Some(Stand::Rejected(format!("{file} makes no service: {}: {}", problem.reason, problem.message)))
}
