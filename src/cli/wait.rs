//! `plugd wait`: returns as soon as the fact is there, by the watch stream, never by polling.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::{WaitArgs, WaitFor};
use super::fault::{Code, Fault};
use super::node::{Node, Watching};
use super::told::{self, Intake, Lying};
use super::{Session, behind, row, select};
use crate::model::name::Instance;
use crate::model::ready::{self, Who};
use crate::model::reason::{Reason, Status};
use crate::model::text::clean;
use crate::model::view::{InstanceView, ServiceView, Snapshot};

/// Services named in a message about who is not ready.
const NAMED_MAX: usize = 5;

pub fn wait(args: &WaitArgs, session: &Session) -> Result<Code, Fault> {
    let deadline = Instant::now() + args.timeout;
    if args.names.is_empty() && args.what != WaitFor::Ready {
        return Err(Fault::usage(
            "only --for=ready can be asked of the whole node",
            "name the services that are meant",
        ));
    }
    let node = Node::open_until(&session.global, deadline)?;
    let dir = node.dir()?;
    // Freed with the process: a thousand services one by one take a millisecond.
    let mut watching = ManuallyDrop::new(node.watch()?);
    let names = watching.until(Some(deadline), |known| Ok(Some(select::plain(known, &args.names))))?;
    let args = &WaitArgs { names: names.unwrap_or_else(|| args.names.clone()), ..args.clone() };
    if let Some(fault) = unknown(args, &mut watching, &dir, deadline)? {
        return Err(fault);
    }
    as_asked(args, &node, &mut watching, &dir, deadline)
}

/// Waits for it, whoever asks.
pub fn as_asked<'n>(
    args: &WaitArgs,
    node: &'n Node,
    watching: &mut Watching<'n>,
    dir: &Path,
    deadline: Instant,
) -> Result<Code, Fault> {
    // What was missing may have been put there since it was looked at last: only its own tries tell.
    if is_strict(args) && watching.known().is_some_and(|known| meant(known, args).iter().any(|view| is_refused(view))) {
        // Who may not ask for that is answered by what is known.
        if node.take_in().is_ok() {
            *watching = node.watch()?;
            watching.until(Some(deadline), |_| Ok(Some(())))?;
        }
    }
    let is_seen = std::io::stderr().is_terminal();
    // What is on its way does not make the node unready.
    let serves = |known: &Snapshot| !is_strict(args) && is_ready(known, &[], false);
    // A health check of a node that serves does not stand for as long as an edit waits.
    let is_asked_for_health = args.what == WaitFor::Ready && watching.known().is_some_and(serves);
    let deadline = if is_asked_for_health { deadline.min(Instant::now() + TAKEN_IN_WITHIN) } else { deadline };
    let is_there = |watching: &mut Watching<'_>, until: Instant| {
        watching.until_lasting(
            Some(until),
            |known| {
                lost(known, args, dir, Intake::Done)?;
                let all = match &args.what {
                    WaitFor::Ready => is_ready(known, &args.names, args.all) && !is_behind(known, args, dir),
                    what => args.names.iter().all(|name| is_so(what, known, name, node)),
                };
                Ok(all.then_some(()))
            },
            |known| match is_seen {
                true => format!("waiting: {}", list(&missing(args, known))),
                // A health check keeps all that is said: its last line says who is missing.
                false => String::new(),
            },
            |known| if args.what == WaitFor::Ready { meant(known, args) } else { Vec::new() },
        )
    };
    // What may be on its way is waited for for a moment before what is known counts.
    let mut done = is_there(watching, deadline.min(Instant::now() + TAKEN_IN_WITHIN))?;
    if let (None, Some(known)) = (done, watching.known()) {
        lost(known, args, dir, Intake::Doubtful)?;
        done = is_there(watching, deadline)?;
    }
    // What was true of the version before says nothing of an edit that was written before the question.
    let is_of_a_version = !matches!(args.what, WaitFor::Created | WaitFor::Deleted);
    if done.is_some() && is_of_a_version && is_strict(args) {
        done = match taken_in(args, watching, dir, deadline)? {
            Taken::AtOnce => done,
            Taken::Later => match unknown(args, watching, dir, deadline)? {
                Some(fault) => return Err(fault),
                None => is_there(watching, deadline)?,
            },
            Taken::Never => None,
        };
    }
    match (done, watching.known()) {
        (Some(()), Some(known)) if args.what == WaitFor::Ready => answer(known, args, dir),
        (None, Some(known)) if serves(known) => answer(known, args, dir),
        (Some(()), _) => Ok(Code::Done),
        (None, Some(known)) => Err(late(args, known)),
        (None, None) => Err(Fault::none_runs()),
    }
}

/// What failed for good, or is not what its files say, becomes nothing any more, unless they say something new: `taken` as
/// far as this.
fn lost(known: &Snapshot, args: &WaitArgs, dir: &Path, taken: Intake) -> Result<(), Fault> {
    let must_run = match &args.what {
        WaitFor::Ready => true,
        WaitFor::Status(status) => matches!(status, Status::Completed | Status::Running | Status::Healthy),
        WaitFor::Created | WaitFor::Deleted | WaitFor::Condition(..) | WaitFor::JsonPath(..) => false,
    };
    if !must_run || args.timeout.is_zero() || !is_strict(args) {
        return Ok(());
    }
    // The version before may well become ready: it is not what was asked for.
    let is_behind =
        |view: &ServiceView| args.what == WaitFor::Ready && !ready::is_ready(view) && behind::problem(view).is_some();
    // What runs by the clock begins again, however its last run ended.
    let begins = |view: &ServiceView| {
        view.schedule.is_some() && matches!(args.what, WaitFor::Status(Status::Running | Status::Healthy))
    };
    let has_failed = |view: &Arc<ServiceView>| {
        let for_good = ready::has_failed_for_good(view) && !begins(view);
        for_good || behind::never_was_valid(view) || is_behind(view)
    };
    for view in meant(known, args).iter().filter(|view| has_failed(view)) {
        let only = std::iter::once(view);
        if !told::is_unread(dir, view) && Lying::of(dir, only.clone()).intake(known, only) <= taken {
            return Err(verdict(dir, view));
        }
    }
    Ok(())
}

/// It is valid, was tried, and would not start.
fn is_refused(view: &ServiceView) -> bool {
    view.manifest.rejected.is_none() && behind::problem(view).is_some()
}

/// Why nothing comes of one any more, and what a person does about it.
pub fn verdict(dir: &Path, view: &ServiceView) -> Fault {
    if let Some(behind) = behind::of(dir, view) {
        return Fault::no(behind.sentence(view), behind.next);
    }
    let (service, word) = (&view.service, row::word(view.status, view.reason));
    let why = view.why.first().map(|why| format!(": {}", clean(why))).unwrap_or_default();
    match view.schedule.is_some() || view.on_demand {
        true => Fault::no(format!("{service} is {word}{why}"), format!("`plugd start {service}` runs it now")),
        false => Fault::no(
            format!("{service} is {word} and does not run again by itself{why}"),
            format!("`plugd start {service}` runs it again"),
        ),
    }
}

/// A name that no service has and no file suggests is a slip of the pen: who waits for one that is to
/// come says so with `--for=created`.
fn unknown(
    args: &WaitArgs,
    watching: &mut Watching<'_>,
    dir: &Path,
    deadline: Instant,
) -> Result<Option<Fault>, Fault> {
    let waits_for_it = match args.what {
        WaitFor::Created | WaitFor::Deleted => true,
        WaitFor::Ready | WaitFor::Status(_) | WaitFor::Condition(..) | WaitFor::JsonPath(..) => false,
    };
    if waits_for_it || args.names.is_empty() || args.timeout.is_zero() {
        return Ok(None);
    }
    let all_known = |known: &Snapshot| args.names.iter().all(|name| find(known, name).0.is_some());
    // A controller that has just begun has not read its directory yet.
    let is_read = |known: &Snapshot| known.node.settled || !known.services.is_empty();
    watching.until(Some(deadline), |known| Ok((is_read(known) || all_known(known)).then_some(())))?;
    let patience = deadline.min(Instant::now() + TAKEN_IN_WITHIN);
    if watching.until(Some(patience), |known| Ok(all_known(known).then_some(())))?.is_some() {
        return Ok(None);
    }
    let Some(known) = watching.known() else { return Ok(None) };
    let is_file =
        |name: &str| ["yaml", "yml", "json", "sh"].iter().any(|end| dir.join(format!("{name}.{end}")).exists());
    let lost = args.names.iter().find(|name| {
        let service = name.split_once('/').map_or(name.as_str(), |(service, _)| service);
        find(known, name).0.is_none() && !is_file(service)
    });
    Ok(lost.and_then(|name| {
        let nearest = match select::find_instance(known, name).err()? {
            Fault::NoSuchService { nearest, .. } => nearest,
            _ => None,
        };
        let meant = nearest.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        Some(Fault::Missing {
            what: format!("no service is named {name}{meant} and no file of that name lies in {}", dir.display()),
            next: format!("`plugd wait --for=created {name}` waits for it"),
        })
    }))
}

/// What was just written is taken in within this time.
pub const TAKEN_IN_WITHIN: Duration = Duration::from_secs(2);

/// The services of these names.
fn views<'k>(known: &'k Snapshot, names: &'k [String]) -> impl Iterator<Item = &'k Arc<ServiceView>> {
    names.iter().filter_map(|name| find(known, name).0)
}

/// A manifest lies there that the controller has not taken in yet: what is ready is of the one before.
fn is_behind(known: &Snapshot, args: &WaitArgs, dir: &Path) -> bool {
    // A version before the declared one runs, and that one is on its way: not where it is blocked.
    let comes = |view: &ServiceView| {
        let blocked = view.problem(Reason::UpdateBlocked).is_some();
        view.manifest.in_force.is_some() && view.manifest.rejected.is_none() && !blocked
    };
    // What a service seems to have edited itself is taken up later.
    let comes_later = |view: &ServiceView| view.problem(Reason::ChangesItself).is_some();
    let is_open = |view: &Arc<ServiceView>| told::is_unread(dir, view) || behind::is_tried(view) || comes_later(view);
    meant(known, args).iter().any(|view| comes(view)) || of_files(known, args).iter().any(is_open)
}

/// When all that lies there was taken in.
enum Taken {
    AtOnce,
    Later,
    Never,
}

/// A drop-in, the defaults, a wrapper or another file that is part of a service was rewritten, perhaps a moment ago.
/// What the files do not tell for certain is not waited for for long.
fn taken_in(args: &WaitArgs, watching: &mut Watching<'_>, dir: &Path, deadline: Instant) -> Result<Taken, Fault> {
    let Some(known) = watching.known() else { return Ok(Taken::AtOnce) };
    let lying = if args.all { Lying::of_all(dir) } else { Lying::of(dir, views(known, &args.names)) };
    let intake = |known: &Snapshot| lying.intake(known, of_files(known, args).iter());
    if intake(known) == Intake::Done {
        return Ok(Taken::AtOnce);
    }
    let patience = deadline.min(Instant::now() + TAKEN_IN_WITHIN);
    watching.until(Some(patience), |known| Ok((intake(known) == Intake::Done).then_some(())))?;
    let taken = watching.until(Some(deadline), |known| Ok((intake(known) <= Intake::Doubtful).then_some(())))?;
    Ok(if taken.is_some() { Taken::Later } else { Taken::Never })
}

/// All are ready, and the files say so; but what lies in the directory may be refused or blocked. Where the node was
/// asked for, it is ready as it is: a bad file makes no health check fail.
fn answer(known: &Snapshot, args: &WaitArgs, dir: &Path) -> Result<Code, Fault> {
    let views = of_files(known, args);
    // Of a whole node some file is always a moment behind.
    if !args.names.is_empty() {
        told::files_tell(dir, views.iter().map(|view| (view.service.as_str(), Some(view.status.as_str()))));
    }
    let held = |view: &Arc<ServiceView>| {
        let behind = behind::of(dir, view)?;
        Some((behind.sentence(view), behind.next))
    };
    let refused = |file: &str| told::refused_own(known, file);
    let own = || {
        // They are the defaults of all: said of the first. What the node is told is no matter of a single service.
        let settings = || refused(told::SETTINGS).filter(|_| args.names.is_empty());
        let problem = refused(told::DEFAULTS).or_else(settings)?;
        let (file, why) = (&problem.file, &problem.message);
        let whose = views.first().filter(|_| file == told::DEFAULTS);
        let whose = whose.map(|view| format!("{} is {}, but ", view.service, view.status)).unwrap_or_default();
        Some((format!("{whose}what {file} says now is not in force: {why}"), format!("mend {file}")))
    };
    match views.iter().find_map(held).or_else(own) {
        Some((what, next)) if is_strict(args) => Err(Fault::no(what, next)),
        Some((what, next)) => {
            super::say(&format!("{what}; {next}"));
            Ok(Code::Done)
        }
        None => Ok(Code::Done),
    }
}

/// What is declared has to be ready. Who asks for the node alone is answered as by `/readyz`: its version before serves.
fn is_strict(args: &WaitArgs) -> bool {
    !args.names.is_empty() || args.all
}

/// Whether one name is as it is waited for.
fn is_so(what: &WaitFor, known: &Snapshot, name: &str, node: &Node) -> bool {
    let (view, instance) = find(known, name);
    let object = || -> Option<Value> { node.object(&view?.service).ok() };
    match what {
        WaitFor::Ready => is_ready(known, &[name.to_string()], false),
        WaitFor::Created => view.is_some() && instance.is_none_or(|instance| instance.is_some()),
        WaitFor::Deleted => match instance {
            None => view.is_none(),
            Some(instance) => instance.is_none(),
        },
        WaitFor::Status(status) => match instance {
            None if *status == Status::Completed => view.is_some_and(|view| ready::has_completed(view)),
            None => view.is_some_and(|view| view.status == *status),
            Some(instance) => instance.is_some_and(|instance| instance.status == *status),
        },
        WaitFor::Condition(kind, wanted) => object().is_some_and(|object| {
            let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
            let one =
                conditions.into_iter().flatten().find(|one| one.get("type").and_then(Value::as_str) == Some(kind));
            let wanted = if *wanted { "True" } else { "False" };
            one.is_some_and(|one| one.get("status").and_then(Value::as_str) == Some(wanted))
        }),
        WaitFor::JsonPath(path, value) => {
            let found = object().and_then(|object| path.find(&object));
            match value {
                Some(value) => found.as_ref() == Some(value),
                None => found.is_some(),
            }
        }
    }
}

/// The service of a name, and the instance where the name is one's (there or not).
fn find<'k>(known: &'k Snapshot, name: &str) -> (Option<&'k Arc<ServiceView>>, Option<Option<&'k InstanceView>>) {
    match Instance::parse(name) {
        None => (known.services.get(name), None),
        Some(one) => {
            let view = known.services.get(&one.service);
            // The one instance of a service has the service's name.
            let is_it = |instance: &&InstanceView| {
                instance.name == name || (one.index == 0 && instance.name == one.service.as_str())
            };
            (view, Some(view.and_then(|view| view.instances.iter().find(is_it))))
        }
    }
}

/// Named ones, or the whole node by its rule.
pub fn is_ready(known: &Snapshot, names: &[String], all: bool) -> bool {
    if names.is_empty() {
        let who = if all { Who::All } else { Who::Required };
        return ready::missing(known, who).is_some_and(|missing| missing.is_empty());
    }
    names.iter().all(|name| match find(known, name) {
        (view, None) => view.is_some_and(|view| ready::is_done(view)),
        // An only one is what its service is.
        (Some(view), Some(Some(_))) if view.instances.len() == 1 => ready::is_done(view),
        (_, Some(instance)) => instance.is_some_and(|instance| instance.ready || instance.status == Status::Completed),
    })
}

/// Those whose readiness is waited for.
fn meant(known: &Snapshot, args: &WaitArgs) -> Vec<Arc<ServiceView>> {
    if args.names.is_empty() {
        return ready::counted(known, if args.all { Who::All } else { Who::Required });
    }
    views(known, &args.names).cloned().collect()
}

/// Those whose files are to be in force: also of what sleeps, or was stopped.
fn of_files(known: &Snapshot, args: &WaitArgs) -> Vec<Arc<ServiceView>> {
    if args.all { known.services.values().cloned().collect() } else { meant(known, args) }
}

/// Where no service is to blame.
fn not_ready(known: &Snapshot) -> String {
    told::lost_directory(known).unwrap_or_else(|| "the node is not ready".to_string())
}

/// Those that are not there yet, each with what it is.
fn missing(args: &WaitArgs, known: &Snapshot) -> Vec<String> {
    let word = |view: &ServiceView| format!("{} is {}", view.service, row::word(view.status, view.reason));
    if args.names.is_empty() {
        let who = if args.all { Who::All } else { Who::Required };
        let missing = ready::missing(known, who).unwrap_or_default();
        if missing.is_empty() {
            return vec![not_ready(known)];
        }
        return missing.iter().map(|view| word(view)).collect();
    }
    let of_name = |name: &String| match find(known, name) {
        (Some(view), None) => word(view),
        (_, Some(Some(one))) => format!("{name} is {}", row::word(one.status, one.reason)),
        (_, Some(None)) | (None, None) => format!("{name} is not there yet"),
    };
    let is_open = |name: &&String| match args.what {
        WaitFor::Ready => !is_ready(known, std::slice::from_ref(*name), false),
        WaitFor::Created => find(known, name).0.is_none(),
        WaitFor::Deleted => matches!(find(known, name), (Some(_), None) | (_, Some(Some(_)))),
        WaitFor::Status(_) | WaitFor::Condition(..) | WaitFor::JsonPath(..) => true,
    };
    args.names.iter().filter(is_open).map(of_name).collect()
}

/// The first few, and how many more.
fn list(each: &[String]) -> String {
    match each.len().saturating_sub(NAMED_MAX) {
        0 => each.join(", "),
        more => format!("{}, {more} more", each[..NAMED_MAX].join(", ")),
    }
}

/// The time is up: who is missing, and why. Asked to look once (`--timeout 0`), that is no timeout.
fn late(args: &WaitArgs, known: &Snapshot) -> Fault {
    if args.what != WaitFor::Deleted
        && let Some(fault) = args.names.iter().find_map(|name| select::find_instance(known, name).err())
    {
        return fault;
    }
    let views: Vec<_> = if args.names.is_empty() {
        // Where it is too early to say nobody is to blame.
        let known_by = ready::missing(known, Who::All).map(|_| meant(known, args));
        known_by.unwrap_or_default()
    } else {
        let service = |name: &String| find(known, name).0.map(|view| view.service.clone());
        let named: Vec<_> = args.names.iter().filter_map(service).collect();
        known.services.values().filter(|view| named.contains(&view.service)).cloned().collect()
    };
    let is_it = if args.names.is_empty() { ready::is_ready } else { ready::is_done };
    let open: Vec<_> = views.iter().filter(|view| args.what != WaitFor::Ready || !is_it(view)).cloned().collect();
    let after = args.timeout;
    let Some(first) = open.first() else {
        let comes = views.iter().find(|view| view.manifest.in_force.is_some());
        let what = match comes.or(views.first().filter(|_| !args.names.is_empty())) {
            Some(view) => {
                let why = cause(view).map(|why| format!(": {why}")).unwrap_or_default();
                format!("{}'s files are not in force yet{why}", view.service)
            }
            None => not_ready(known),
        };
        return Fault::TimedOut { what, after, next: "`plugd get` tells why".into() };
    };
    if args.timeout.is_zero() {
        return Fault::NotReady { service: first.service.to_string(), status: row::word(first.status, first.reason) };
    }
    let (what, next) = in_vain(&open);
    let next = match args.what {
        WaitFor::Deleted => format!("`plugd rm {}` removes its manifest", first.service),
        WaitFor::Ready | WaitFor::Created | WaitFor::Status(_) | WaitFor::Condition(..) | WaitFor::JsonPath(..) => next,
    };
    Fault::TimedOut { what, after, next }
}

/// What those are that were waited for in vain, with the cause of the first, and who tells more.
pub fn in_vain(open: &[Arc<ServiceView>]) -> (String, String) {
    let Some(first) = open.first() else { return (String::new(), String::new()) };
    let said: Vec<String> =
        open.iter().map(|view| format!("{} is {}", view.service, row::word(view.status, view.reason))).collect();
    let what = match (cause(first), open.len()) {
        (None, _) => list(&said),
        (Some(why), 1) => format!("{}: {why}", list(&said)),
        (Some(why), _) => format!("{}; {}: {why}", list(&said), first.service),
    };
    // A job that is well, and has not ended.
    if ready::is_ready(first) && !ready::is_done(first) {
        let next =
            format!("it goes on; --timeout waits longer, `plugd wait --for=running {}` not for its end", first.service);
        return (format!("{what}, a job that has not ended"), next);
    }
    let tells = if cause(first).is_some() { "more" } else { "why" };
    (what, format!("`plugd status {}` tells {tells}", first.service))
}

/// What it waits for, as far as that is known; where a version before serves, what holds the new one up.
fn cause(view: &ServiceView) -> Option<Cow<'_, str>> {
    let held = [Reason::DependencyNotReady, Reason::RollStuck].iter().find_map(|reason| view.problem(*reason));
    let why = view.why.first().or(held.map(|problem| &problem.message)).filter(|why| !why.is_empty())?;
    Some(clean(why.lines().next().unwrap_or_default()))
}
