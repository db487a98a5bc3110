//! What would happen if the directory were run as it is: the plan of `plugd check`.
//!
//! A pure comparison of what is declared with what a node last said of itself. It knows nothing of
//! back-off or probes; it tells what a change of files changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::foresee::Obstacles;
use super::look::wrap;
use crate::controller::{Change, Declaration, Rejection, Resolved, change, nothing_to_run};
use crate::edge::named::Named;
use crate::model::manifest::{nearest, print};
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Program, Spec};
use crate::model::text::span;
use crate::model::view::{FileProblem, Snapshot};
use crate::policy::{depends, update};

/// Everything that a directory declares, read once.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    pub declared: Vec<Declaration>,
    pub rejected: Vec<Rejection>,
    pub problems: Vec<FileProblem>,
    /// What a start of these would be refused for, on this machine.
    pub obstacles: Obstacles,
    /// All files that these read or start.
    pub named: Arc<Named>,
}

impl Declared {
    /// No file says anything.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty() && self.rejected.is_empty() && self.problems.is_empty()
    }
}

/// What runs now: nothing, where no controller answers.
#[derive(Debug, Clone, Default)]
pub struct Running {
    pub snapshot: Option<Snapshot>,
    /// The `spec` of each full object, for telling what changed.
    pub specs: BTreeMap<Name, Value>,
}

/// One line of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: String,
    pub why: String,
}

/// The plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    pub start: Vec<Step>,
    pub restart: Vec<Step>,
    /// Changes that need no new process.
    pub apply: Vec<Step>,
    pub skip: Vec<Step>,
    pub stop: Vec<Step>,
    pub unchanged: Vec<String>,
    /// Changed, but the new version cannot start: what runs goes on.
    pub blocked: Vec<Step>,
    /// Would be failed: a required service that cannot start, a cycle.
    pub fail: Vec<Step>,
    /// Optional, and would not start either; tried again until it can.
    pub cannot: Vec<Step>,
    pub warnings: Vec<String>,
}

impl Forecast {
    pub fn differs(&self) -> bool {
        let quiet = [&self.start, &self.restart, &self.apply, &self.stop, &self.blocked];
        quiet.iter().any(|steps| !steps.is_empty())
    }
}

/// Compares. `whole`: the declared are all there are, so what else runs would be stopped.
/// `budget`: the time in which all must be stopped.
pub fn forecast(found: &Declared, running: &Running, whole: bool, budget: Option<Duration>) -> Forecast {
    let mut plan = Forecast::default();
    let specs: BTreeMap<&Name, &Spec> = found.declared.iter().map(|one| (&one.spec.name, &*one.spec)).collect();
    let cycles = cycles(&specs);
    for one in &found.declared {
        place(&mut plan, one, found, running, &cycles);
        for (reason, message) in &one.problems {
            let each = message.lines().map(|line| format!("{}: {reason}: {line}", one.source.file));
            plan.warnings.extend(each);
        }
        for what in &one.spec.not_yet_supported {
            plan.warnings.push(format!("{}: {what} is understood but not acted on yet", one.source.file));
        }
    }
    for rejection in &found.rejected {
        let last = running.snapshot.as_ref().and_then(|snapshot| snapshot.services.get(&rejection.name));
        if last.is_some_and(|view| view.status != Status::Failed) {
            plan.unchanged.push(format!("{} (its file is invalid, what runs stays)", rejection.name));
        }
    }
    if whole {
        let kept: BTreeSet<&Name> =
            found.declared.iter().map(|one| &one.spec.name).chain(found.rejected.iter().map(|one| &one.name)).collect();
        let services = running.snapshot.iter().flat_map(|snapshot| snapshot.services.keys());
        for name in services.filter(|name| !kept.contains(name)) {
            plan.stop.push(Step { name: name.to_string(), why: "no manifest declares it".into() });
        }
    }
    for (name, spec) in &specs {
        for needed in spec.depends_on.iter().filter(|needed| !is_known(&needed.name, found, running)) {
            let so = if needed.optional { "it starts without it" } else { "it waits until one does" };
            let meant = meant(&needed.name, name, found, running);
            plan.warnings.push(format!("{name} depends on {}, which no manifest declares{meant}; {so}", needed.name));
        }
    }
    if let Some(budget) = budget {
        plan.warnings.extend(grace(&specs, budget));
    }
    plan
}

fn is_known(name: &Name, found: &Declared, running: &Running) -> bool {
    found.declared.iter().any(|one| one.spec.name == *name)
        || found.rejected.iter().any(|one| one.name == *name)
        || running.snapshot.as_ref().is_some_and(|snapshot| snapshot.services.contains_key(name))
}

/// ` (did you mean db?)`, or nothing.
fn meant(name: &Name, who: &Name, found: &Declared, running: &Running) -> String {
    let declared = found.declared.iter().map(|one| &one.spec.name).chain(found.rejected.iter().map(|one| &one.name));
    let known = declared.chain(running.snapshot.iter().flat_map(|snapshot| snapshot.services.keys()));
    let near = nearest(name.as_str(), known.filter(|known| *known != who).map(Name::as_str));
    near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// A dependency that nobody declares and that is not optional.
fn misspelt(spec: &Spec, found: &Declared, running: &Running) -> Option<String> {
    let needed = spec.depends_on.iter().find(|needed| !needed.optional && !is_known(&needed.name, found, running))?;
    let meant = meant(&needed.name, &spec.name, found, running);
    Some(format!("there is no service {}{meant}", needed.name))
}

/// Puts one declared service where it belongs.
fn place(plan: &mut Forecast, one: &Declaration, found: &Declared, running: &Running, cycles: &BTreeMap<Name, String>) {
    let spec = &one.spec;
    let name = spec.name.to_string();
    let view = running.snapshot.as_ref().and_then(|snapshot| snapshot.services.get(&spec.name)).map(|view| &**view);
    let lives = view.is_some_and(|view| view.process_running);
    let becomes = view.map_or(Change::Process, |view| change(one, view));
    let changes = becomes != Change::Nothing;
    if let Some(path) = cycles.get(&spec.name) {
        let step = Step { name, why: format!("{}: {path}", Reason::DependencyCycle) };
        if lives {
            plan.blocked.push(step.clone());
        }
        plan.fail.push(step);
        return;
    }
    match &one.program {
        Resolved::Missing { reason, message, .. } if !lives => {
            let step = Step { name, why: format!("{reason}: {message}") };
            if spec.required {
                plan.fail.push(step)
            } else {
                plan.skip.push(step)
            }
            return;
        }
        Resolved::Missing { reason, message, .. } if changes => {
            plan.blocked.push(Step { name, why: format!("{reason}: {message}") });
            return;
        }
        Resolved::Missing { reason, message, .. } => {
            plan.warnings.push(format!("{name}: {reason}: {message}; what runs goes on"));
        }
        Resolved::Found { .. } => {}
    }
    if !spec.enabled {
        let step = Step { name, why: "enabled: false".into() };
        if lives {
            plan.stop.push(step)
        } else {
            plan.skip.push(step)
        }
        return;
    }
    if let Some(what) = nothing_to_run(spec).filter(|_| !lives) {
        let why = format!("{}: nothing to run here: {what}", Reason::NotYetSupported);
        plan.skip.push(Step { name, why });
        return;
    }
    // The controller has the file already and has tried it.
    let tried = view.filter(|_| lives && !changes).and_then(|view| view.problem(Reason::UpdateBlocked));
    if let Some(problem) = tried {
        plan.blocked.push(Step { name, why: problem.message.clone() });
        return;
    }
    if let Some((reason, message)) = found.obstacles.get(&spec.name) {
        let step = Step { name: name.clone(), why: format!("{reason}: {message}") };
        let settled = view.is_some_and(|view| matches!(view.status, Status::Completed | Status::Stopped));
        match (lives, changes) {
            (true, true) => plan.blocked.push(step),
            (true, false) => {
                plan.warnings.push(format!("{name}: {}; what runs goes on, but would not start again", step.why));
                plan.unchanged.push(name);
            }
            (false, false) if settled => plan.unchanged.push(name),
            (false, _) if spec.required => plan.fail.push(step),
            (false, _) => plan.cannot.push(step),
        }
        return;
    }
    if let Some(needed) = misspelt(spec, found, running).filter(|_| lives && changes) {
        plan.blocked.push(Step { name, why: format!("{}: {needed}", Reason::DependencyNotReady) });
        return;
    }
    let Some(view) = view else {
        plan.start.push(Step { name, why: how_many(spec) });
        return;
    };
    if !changes {
        plan.unchanged.push(name);
        return;
    }
    if view.status == Status::Stopped && view.reason == Some(Reason::StoppedByOperator) {
        plan.skip
            .push(Step { why: format!("stopped by an operator; `plugd start {name}` runs what is written"), name });
        return;
    }
    let what = what_changes(running.specs.get(&spec.name), spec);
    match becomes {
        // A run that goes on is not ended for it.
        Change::Process if spec.schedule.is_some() && view.schedule.is_some() => {
            plan.apply.push(Step { name, why: format!("{what}; from its next run on") });
        }
        Change::Process if view.reason == Some(Reason::OnDemand) => {
            plan.apply.push(Step { name, why: format!("{what}; from its next start on") });
        }
        Change::Process => plan.restart.push(Step { name, why: format!("{what}; {}", update::explain(spec)) }),
        Change::Live | Change::Nothing => plan.apply.push(Step { name, why: what }),
    }
}

/// The top fields that are not equal, in words. It only tells; what follows is judged by digests.
fn what_changes(old: Option<&Value>, new: &Spec) -> String {
    let Some(Value::Object(old)) = old else { return "its manifest changed".into() };
    let new = print::fields(new);
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let fields: Vec<&str> = keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(String::as_str).collect();
    match fields.is_empty() {
        true => "what it is made of changed".into(),
        false => format!("{} changed", fields.join(", ")),
    }
}

fn how_many(spec: &Spec) -> String {
    if let Some(schedule) = &spec.schedule {
        return format!("runs by its schedule, {} in {}", schedule.cron, schedule.time_zone);
    }
    if let (Some(_), Some(port)) = (&spec.activation, spec.process.port) {
        return format!("runs on demand: plugd listens on port {port}, the first connection starts it");
    }
    let what = match &spec.process.program {
        Program::Command(words) => words.first().cloned().unwrap_or_default(),
        Program::Wrapper(wrapper) => wrapper.path.display().to_string(),
        Program::Script(_) => "a script".into(),
        Program::External(address) => address.clone(),
    };
    if spec.replicas == 1 { what } else { format!("{what}, {} instances", spec.replicas) }
}

/// Every service that is part of a cycle, with the whole path.
fn cycles(specs: &BTreeMap<&Name, &Spec>) -> BTreeMap<Name, String> {
    let names: Vec<&Name> = specs.keys().copied().collect();
    let place = |name: &Name| names.binary_search(&name).ok().and_then(|place| u32::try_from(place).ok());
    let needs: Vec<Vec<u32>> =
        specs.values().map(|spec| spec.depends_on.iter().filter_map(|needed| place(&needed.name)).collect()).collect();
    let mut needed_by = vec![Vec::new(); needs.len()];
    for (at, needed) in (0..).zip(&needs) {
        needed.iter().for_each(|&needed| needed_by[needed as usize].push(at));
    }
    let forward = |at: u32| needs[at as usize].clone();
    let mut found = BTreeMap::new();
    for (at, name) in (0..).zip(&names) {
        let members = depends::component(at, forward, |at| needed_by[at as usize].clone());
        if members.contains(&at) {
            let path = depends::cycle(at, &members, forward);
            let path: Vec<&str> = path.iter().map(|&at| names[at as usize].as_str()).collect();
            found.insert((*name).clone(), path.join(" → "));
        }
    }
    found
}

/// The chain of dependencies whose graces add up to most, where that is more than the budget. All
/// of a chain is stopped one after the other, dependents first.
fn grace(specs: &BTreeMap<&Name, &Spec>, budget: Duration) -> Option<String> {
    let mut longest: BTreeMap<&Name, (Duration, Vec<&Name>)> = BTreeMap::new();
    // Relaxed as often as a chain can be long; cycles end with it, and are told elsewhere.
    for _ in 0..specs.len().min(1000) {
        let mut grew = false;
        for (name, spec) in specs {
            let below =
                spec.depends_on.iter().filter_map(|needed| longest.get(&needed.name)).max_by_key(|(sum, _)| *sum);
            let (mut sum, mut path) = (spec.stop.grace_period, vec![*name]);
            if let Some((deeper, rest)) = below
                && !rest.contains(name)
            {
                sum += *deeper;
                path.extend(rest);
            }
            if longest.get(name).is_none_or(|(known, _)| *known < sum) {
                longest.insert(name, (sum, path));
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let (sum, path) = longest.into_values().max_by_key(|(sum, _)| *sum)?;
    (sum > budget).then(|| {
        let names: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
        format!(
            "stopping {} may take {}, but all must be stopped within {}; what is left then is killed. Shorten \
             stop.gracePeriod or raise --shutdown-timeout",
            names.join(", then "),
            span(sum),
            span(budget)
        )
    })
}

/// A line that is too long goes on beneath itself, so many columns in; in a pipe it stays whole.
pub fn folded(line: &str, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return line.to_string() };
    let lines = wrap(line, width.saturating_sub(indent).max(FOLDED_MIN));
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// Words are not broken, and no line is less than this.
const FOLDED_MIN: usize = 20;
/// What stands before the name of a step.
const STEP: usize = 11;

/// The plan as text.
pub fn text(plan: &Forecast, width: Option<usize>) -> String {
    let mut head = format!(
        "would start {}, restart {}, apply live {}, skip {}, stop {}; unchanged {}",
        plan.start.len(),
        plan.restart.len(),
        plan.apply.len(),
        plan.skip.len(),
        plan.stop.len(),
        plan.unchanged.len()
    );
    for (word, count) in
        [("blocked", plan.blocked.len()), ("would not start", plan.cannot.len()), ("would fail", plan.fail.len())]
    {
        if count > 0 {
            head.push_str(&format!("; {word} {count}"));
        }
    }
    let mut text = folded(&head, 2, width) + "\n";
    for (word, steps) in [
        ("fail", &plan.fail),
        ("cannot", &plan.cannot),
        ("blocked", &plan.blocked),
        ("start", &plan.start),
        ("restart", &plan.restart),
        ("apply", &plan.apply),
        ("skip", &plan.skip),
        ("stop", &plan.stop),
    ] {
        for step in steps {
            let told = format!("{}  {}", step.name, crate::model::text::clean(&step.why));
            text.push_str(&format!("  {word:<8} {}\n", folded(&told, STEP, width)));
        }
    }
    text
}
