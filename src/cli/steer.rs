//! `start`, `stop`, `restart`, `scale`, `signal`: an order each, and until it is done: `stop` by itself, the
//! others with `--wait`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::values;
use super::args::{OrderArgs, ScaleArgs, SignalArgs, StartArgs, StopArgs};
use super::behind::{self, Behind};
use super::fault::{Code, Fault};
use super::node::Node;
use super::{Session, own_run, row, select, told, wait};
use crate::controller::Order;
use crate::model::name::Name;
use crate::model::ready;
use crate::model::reason::{Reason, Status};
use crate::model::signal;
use crate::model::view::{RunResult, ServiceView, Snapshot};

/// Where a manifest does not say it (manifest.md).
const GRACE: Duration = Duration::from_secs(30);
/// After KILL a tree is empty at once, or stuck: 10 s later its status says so.
const AFTER_GRACE: Duration = Duration::from_secs(15);

pub fn start(args: &StartArgs, session: &Session) -> Result<Code, Fault> {
    order(&args.order, session, if args.no_run { Order::Resume } else { Order::Start })
}

/// Returns when nothing is left: who stops a database goes on to its files.
pub fn stop(args: &StopArgs, session: &Session) -> Result<Code, Fault> {
    let node = session.node()?;
    let before = node.snapshot_with(&args.names)?;
    node.may_be_changed(args.all)?;
    let names = select::names(&before, &args.names, args.all)?;
    let patience = match (args.no_wait, args.timeout) {
        (true, _) => None,
        (false, Some(timeout)) => Some(timeout),
        (false, None) => Some(longest_grace(&node, &names) + AFTER_GRACE),
    };
    let orders: Vec<_> = names.into_iter().map(|name| (name, Order::Stop)).collect();
    let dir = give(&node, &before, &orders)?;
    see_through(&node, &dir, &before, &orders, patience, session)
}

fn longest_grace(node: &Node, names: &[Name]) -> Duration {
    let objects: Vec<Value> = match names {
        [one] => node.object(one).into_iter().collect(),
        _ => {
            let list = node.get("/v1/services?form=object").unwrap_or_default();
            let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            let is_meant = |object: &Value| {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                names.iter().any(|meant| meant.as_str() == name)
            };
            items.into_iter().filter(is_meant).collect()
        }
    };
    let grace = |object: &Value| values::duration(object.pointer("/spec/stop/gracePeriod")?.as_str()?).ok();
    objects.iter().map(|object| grace(object).unwrap_or(GRACE)).max().unwrap_or(GRACE)
}

pub fn restart(args: &OrderArgs, session: &Session) -> Result<Code, Fault> {
    order(args, session, Order::Restart)
}

pub fn scale(args: &ScaleArgs, session: &Session) -> Result<Code, Fault> {
    let node = session.node()?;
    node.may_be_changed(false)?;
    let names: Vec<String> = args.scales.iter().map(|(name, _)| name.clone()).collect();
    node.take_in()?;
    let before = node.snapshot_with(&names)?;
    let mut orders = Vec::new();
    for (name, count) in &args.scales {
        orders.push((select::find(&before, name)?.service.clone(), Order::Scale(*count)));
    }
    let dir = give(&node, &before, &orders)?;
    will_start(&node, &dir, &before, &orders)?;
    see_through(&node, &dir, &before, &orders, args.wait.then_some(args.timeout), session)
}

pub fn signal(args: &SignalArgs, session: &Session) -> Result<Code, Fault> {
    let node = session.node()?;
    node.may_be_changed(false)?;
    let snapshot = node.snapshot_with(&args.names)?;
    for name in &select::plain(&snapshot, &args.names) {
        let (view, instance) = select::find_instance(&snapshot, name)?;
        if !view.process_running {
            return Err(Fault::NotReady {
                service: view.service.to_string(),
                status: row::word(view.status, view.reason),
            });
        }
        node.signal(&view.service, instance, args.signal)?;
    }
    session.done(&format!("{} is sent to {}", signal::name(args.signal), few(args.names.iter().cloned())));
    Ok(Code::Done)
}

fn order(args: &OrderArgs, session: &Session, order: Order) -> Result<Code, Fault> {
    let node = session.node()?;
    node.may_be_changed(args.all)?;
    node.take_in()?;
    let before = node.snapshot_with(&args.names)?;
    let names = select::names(&before, &args.names, args.all)?;
    let is_job = |name: &Name| before.services.get(name).is_none_or(|view| view.schedule.is_some());
    if let Some(name) = names.first().filter(|_| order == Order::Resume && !args.all && !names.iter().any(is_job)) {
        let next = format!("`plugd start {name}` starts it");
        return Err(Fault::no(format!("{name} runs by no schedule that could go on without a run"), next));
    }
    let of = |name: &Name| if order == Order::Resume && !is_job(name) { Order::Start } else { order };
    let orders: Vec<_> = names.iter().map(|name| (name.clone(), of(name))).collect();
    let dir = give(&node, &before, &orders)?;
    // All are those that can.
    if !args.all {
        will_start(&node, &dir, &before, &orders)?;
    }
    see_through(&node, &dir, &before, &orders, args.wait.then_some(args.timeout), session)
}

/// Gives the orders; all names are known by now, so that one wrong name orders nothing.
fn give(node: &Node, before: &Snapshot, orders: &[(Name, Order)]) -> Result<PathBuf, Fault> {
    let mut forgotten = None;
    for (name, order) in orders {
        forgotten = node.order(name, *order)?.or(forgotten);
    }
    let dir = node.dir()?;
    for (name, order) in orders {
        let Some(view) = before.services.get(name) else { continue };
        let told = of_the_one_before(&dir, view, *order).into_iter().chain(of_the_run(node, view, *order));
        told.for_each(|told| super::say(&told));
    }
    if let Some(why) = forgotten {
        super::say(&format!("it holds until plugd or its controller starts anew, and is not remembered: {why}"));
    }
    Ok(dir)
}

/// Of what was named each has to be able to start by it. The order holds all the same: it takes back a `plugd stop`.
fn will_start(node: &Node, dir: &Path, before: &Snapshot, orders: &[(Name, Order)]) -> Result<(), Fault> {
    let faults =
        orders.iter().filter_map(|(name, order)| starts_nothing(node, dir, before.services.get(name)?, *order));
    let mut faults: Vec<Fault> = faults.collect();
    let last = faults.pop();
    faults.iter().for_each(|fault| super::say(&fault.to_string()));
    last.map_or(Ok(()), Err)
}

/// Why an order starts nothing, and what a person does about it.
fn starts_nothing(node: &Node, dir: &Path, view: &ServiceView, order: Order) -> Option<Fault> {
    let begins = match order {
        Order::Start | Order::Restart => true,
        Order::Scale(count) => count > 0,
        Order::Stop | Order::Resume => false,
    };
    let service = &view.service;
    if !begins {
        return None;
    }
    if behind::never_was_valid(view) {
        return Some(wait::verdict(dir, view));
    }
    if view.reason != Some(Reason::Disabled) {
        return None;
    }
    let spec = node.object(service).ok()?;
    let is_disabled = spec.pointer("/spec/enabled") == Some(&Value::Bool(false));
    match order {
        Order::Scale(_) | Order::Stop | Order::Resume if !is_disabled => None,
        // What lies there is refused; the version before is not to run either.
        _ if view.manifest.rejected.is_some() => Some(wait::verdict(dir, view)),
        _ if is_disabled => {
            let file = behind::file_of(dir, view, "enabled");
            let what = format!("{service} does not start: its manifest says `enabled: false`");
            Some(Fault::no(what, format!("remove that from {file}")))
        }
        _ => {
            let what = format!("{service} does not start: its manifest says `replicas: 0`");
            Some(Fault::no(what, format!("`plugd scale {service}=1` gives it one")))
        }
    }
}

/// Until the orders are carried out, where there is patience.
fn see_through(
    node: &Node,
    dir: &Path,
    before: &Snapshot,
    orders: &[(Name, Order)],
    patience: Option<Duration>,
    session: &Session,
) -> Result<Code, Fault> {
    let Some(patience) = patience else {
        session.done(&taken_up(before, orders));
        return Ok(Code::Done);
    };
    let mut open: Vec<&Name> = orders.iter().map(|(name, _)| name).collect();
    let mut watching = node.watch()?;
    let all = |known: &Snapshot| {
        let names = orders.iter().map(|(name, _)| name);
        let words = names.filter_map(|name| known.services.get(name)).map(|view| words(view));
        few(words)
    };
    let stops = orders.iter().any(|(_, order)| *order == Order::Stop);
    let mut ending: BTreeSet<&Name> = BTreeSet::new();
    let mut overtaken: BTreeSet<&Name> = BTreeSet::new();
    let meanwhile =
        |known: &Snapshot| if stops { format!("{}; ^C leaves the order in force", all(known)) } else { all(known) };
    let done = watching.until_lasting(
        Some(Instant::now() + patience),
        |known| {
            if let Some(fault) = orders.iter().find_map(|(name, order)| {
                let (then, now) = (before.services.get(name)?, known.services.get(name)?);
                match own_run::find(then, now).filter(|_| *order == Order::Start) {
                    Some(run) => own_run::lost(dir, run, now),
                    None => is_lost(*order, then, now).then(|| wait::verdict(dir, now)),
                }
            }) {
                return Err(fault);
            }
            // What was to run and is gone has not done what was asked for; what was to stop has.
            let is_gone = |(name, order): &&(Name, Order)| {
                !matches!(order, Order::Stop)
                    && before.services.contains_key(name)
                    && !known.services.contains_key(name)
            };
            if let Some((name, _)) = orders.iter().find(is_gone) {
                return Err(Fault::no(format!("{name} was removed meanwhile"), "`plugd get` lists what is there"));
            }
            let is_open = |name: &Name, order: Order| match (known.services.get(name), before.services.get(name)) {
                (Some(view), Some(before)) => !is_done(order, before, view),
                // Gone while we wait: there is nothing left to order.
                (None, _) | (_, None) => false,
            };
            open = orders.iter().filter(|(name, order)| is_open(name, *order)).map(|(name, _)| name).collect();
            // What was ending and goes on was taken back by somebody; the others are waited for.
            if stops {
                let is_ending = |name: &Name| known.services.get(name).is_some_and(|v| v.status == Status::Stopping);
                let (end, go_on): (Vec<&Name>, Vec<&Name>) = open.iter().partition(|name| is_ending(name));
                overtaken.extend(go_on.into_iter().filter(|name| ending.contains(name)));
                ending.extend(end);
                open.retain(|name| !overtaken.contains(name));
            }
            Ok(open.is_empty().then_some(()))
        },
        meanwhile,
        |known| {
            if stops {
                Vec::new()
            } else {
                orders.iter().filter_map(|(name, _)| known.services.get(name)).cloned().collect()
            }
        },
    )?;
    if done.is_some() {
        if let Some(known) = watching.known() {
            if let Some(first) = overtaken.first() {
                let again = few(overtaken.iter().map(|name| name.to_string()));
                let was = if overtaken.len() == 1 { "was" } else { "were" };
                let what = format!("{again} {was} told to start again meanwhile; {}", all(known));
                return Err(Fault::no(what, format!("`plugd stop {first}` stops it")));
            }
            // Whoever reads the files next finds the same.
            let views = orders.iter().filter_map(|(name, _)| known.services.get(name));
            told::files_tell(dir, views.map(|view| (view.service.as_str(), Some(view.status.as_str()))));
            let own_run = |(name, order): &(Name, Order)| {
                let (then, now) = (before.services.get(name)?, known.services.get(name)?);
                own_run::done(own_run::find(then, now).filter(|_| *order == Order::Start)?, now)
            };
            let results: Vec<String> = orders.iter().filter_map(own_run).collect();
            let stays = if stops { format!("; {}", stays(before, orders)) } else { String::new() };
            let results = if results.is_empty() { String::new() } else { format!("{}; ", few(results.into_iter())) };
            session.done(&format!("{results}{}{stays}", all(known)));
        }
        return Ok(Code::Done);
    }
    let late: Vec<_> = open.iter().filter_map(|name| watching.known()?.services.get(*name)).cloned().collect();
    let (what, next) = wait::in_vain(&late);
    Err(Fault::TimedOut { what, after: patience, next })
}

/// A job that runs is not run a second time, unless its schedule lets runs go side by side.
fn of_the_run(node: &Node, view: &ServiceView, order: Order) -> Option<String> {
    let runs = order == Order::Start && view.runs_to_end && view.process_running;
    let policy = |object: Value| object.pointer("/spec/schedule/concurrencyPolicy").cloned();
    if !runs || node.object(&view.service).ok().and_then(policy) == Some(Value::from("Allow")) {
        return None;
    }
    Some(format!("{} runs already; no other run is begun", view.service))
}

/// Where an edit would not start, the order is of the version before; which may not start again either.
fn of_the_one_before(dir: &Path, view: &ServiceView, order: Order) -> Option<String> {
    let begins = matches!(order, Order::Start | Order::Restart);
    // Where it never was valid there is none, and its status says so.
    if !begins || behind::never_was_valid(view) {
        return None;
    }
    let (service, restarts) = (&view.service, order == Order::Restart && view.process_running);
    let Some(Behind { file, why, next }) = behind::of(dir, view) else {
        let cause = behind::would_not_start_again(view)?;
        let so = match (restarts, view.manifest.in_force) {
            (true, None) => "ends now, and does not start again until that is mended",
            (true, Some(_)) => "is not restarted, because it would not start again",
            (false, _) => "would not start again",
        };
        return Some(format!("{service} {so}: {}", cause.message));
    };
    if view.manifest.in_force.is_none() && view.manifest.rejected.is_none() {
        // There is no other.
        return Some(format!("{service}: {why}; {next}"));
    }
    let goes_on = match (behind::would_not_start_again(view), view.process_running) {
        (Some(_), true) if restarts => "is not restarted, because it would not start again",
        (_, true) => "goes on as that",
        (_, false) => "starts as that",
    };
    Some(format!("{service} is of the version before what {file} says now, and {goes_on}: {why}; {next}"))
}

/// An order was taken up; what comes of it shows in the status.
fn taken_up(before: &Snapshot, orders: &[(Name, Order)]) -> String {
    let Some((first, order)) = orders.first() else { return "there is no service".into() };
    let names = few(orders.iter().map(|(name, _)| name.to_string()));
    let next = match order {
        Order::Start => format!("`plugd status {first}` tells how it goes"),
        Order::Resume => format!("`plugd status {first}` tells the next run"),
        Order::Stop => stays(before, orders),
        Order::Restart => {
            let is_job = before.services.get(first).is_some_and(|view| view.runs_to_end);
            format!("`plugd wait {first}` returns when it {}", if is_job { "has ended" } else { "is ready" })
        }
        Order::Scale(_) => format!("`plugd status {first}` tells how it goes"),
    };
    match order {
        Order::Start => format!("{names}: told to start; {next}"),
        Order::Resume => format!("{names}: the schedule goes on; {next}"),
        Order::Stop => format!("{names}: told to stop; {next}"),
        Order::Restart => format!("{names}: told to restart; {next}"),
        Order::Scale(_) => {
            let counts = orders.iter().map(|(name, order)| match order {
                Order::Scale(count) => format!("{name} to {count}"),
                Order::Start | Order::Resume | Order::Stop | Order::Restart => name.to_string(),
            });
            format!("told to scale {}; {next}", few(counts))
        }
    }
}

fn stays(before: &Snapshot, orders: &[(Name, Order)]) -> String {
    // What holds one beneath the order holds on when that is mended.
    let beneath = |(name, _): &(Name, Order)| {
        let view = before.services.get(name)?;
        match view.reason {
            _ if behind::never_was_valid(view) => Some(format!(", also when {} is mended,", view.manifest.file)),
            Some(Reason::Disabled) => Some(", also when its manifest lets it run,".to_string()),
            _ => None,
        }
    };
    match orders {
        [only] => format!("it stays stopped{} until `plugd start {}`", beneath(only).unwrap_or_default(), only.0),
        _ => {
            let also = if orders.iter().any(|one| beneath(one).is_some()) {
                ", also when their files let them run,"
            } else {
                ""
            };
            format!("they stay stopped{also} until `plugd start` with their names")
        }
    }
}

/// The first few, and how many more.
pub fn few(each: impl Iterator<Item = String>) -> String {
    let each: Vec<String> = each.collect();
    match each.len().saturating_sub(NAMED_MAX) {
        0 => each.join(", "),
        more => format!("{} and {more} more", each[..NAMED_MAX].join(", ")),
    }
}

/// Services named in one sentence.
const NAMED_MAX: usize = 5;

/// `web is stopping`.
fn words(view: &ServiceView) -> String {
    format!("{} is {}", view.service, row::word(view.status, view.reason))
}

/// Whether a view shows that an order is carried out. The order was taken up before, but the view
/// may still be the one from before it.
pub fn is_done(order: Order, before: &ServiceView, now: &ServiceView) -> bool {
    match order {
        Order::Stop => match now.status {
            Status::Stopped => true,
            // It cannot run anyway: there is nothing to stop.
            Status::Failed | Status::Skipped | Status::Completed => !now.process_running,
            Status::Starting
            | Status::Running
            | Status::Healthy
            | Status::Degraded
            | Status::Unhealthy
            | Status::Waiting
            | Status::Stopping => false,
        },
        // Its own run decides, whatever follows that.
        Order::Start if let Some(run) = own_run::find(before, now) => run.result == RunResult::Completed,
        Order::Start => match before.status {
            // It ran to its end once, or waits for its next run; only a new life counts.
            Status::Completed => ready::is_done(now) && has_new_life(before, now),
            _ if before.schedule.is_some() && !before.process_running => {
                ready::is_done(now) && has_new_life(before, now)
            }
            _ => ready::is_done(now) || is_off(now),
        },
        Order::Resume => now.reason != Some(Reason::StoppedByOperator),
        Order::Restart => (ready::is_done(now) && has_new_life(before, now)) || is_off(now),
        // Those that are too many have ended, too.
        Order::Scale(count) => {
            let left = now.instances.len() as u32;
            let ready = now.ready == count && ready::is_ready(now);
            now.desired == count && left <= count && (ready || (count == 0 && !now.process_running))
        }
    }
}

/// Its manifest does not want it to run: of all, that is none to wait for.
fn is_off(view: &ServiceView) -> bool {
    view.status == Status::Stopped && view.reason == Some(Reason::Disabled)
}

/// It was begun and has failed for good since, or there is nothing to begin.
fn is_lost(order: Order, before: &ServiceView, now: &ServiceView) -> bool {
    match order {
        Order::Stop | Order::Resume | Order::Scale(0) => false,
        Order::Start | Order::Restart | Order::Scale(_) => {
            behind::never_was_valid(now) || (ready::has_failed_for_good(now) && has_new_life(before, now))
        }
    }
}

/// No process is left from before, and something ran since.
fn has_new_life(before: &ServiceView, now: &ServiceView) -> bool {
    let lives = |view: &ServiceView| -> Vec<_> {
        view.instances.iter().filter_map(|instance| Some((instance.pid?, instance.started?))).collect()
    };
    let (old, new) = (lives(before), lives(now));
    let ended = |view: &ServiceView| view.last_exit.as_ref().map(|exit| exit.at);
    let ran = !new.is_empty() || ended(now) != ended(before);
    ran && new.iter().all(|life| !old.contains(life))
}
