//! The law of the clock: no scheduled time runs twice, however the clock is set and whoever dies; and none
//! passes without a run, a word, or one that waits.
//!
//! Which run a life carries out is read from the keeper's blob; what is said, from the events. Not held
//! against the brain: what passes while it is not meant to run, or while the clock is set by more than a day
//! (of that only a count is told); nor what passes after an edit of the schedule where the clock is set as well,
//! for what the schedule before has dealt with stays dealt with.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use plugd::controller::Action;
use plugd::model::name::Name;
use plugd::model::reason::Reason;
use plugd::model::spec::OnLoss;
use plugd::model::view::RunResult;
use plugd::policy::calendar::Calendar;

use crate::world::World;

/// A jump beyond this is not walked through.
const WALKED: i64 = 90_000;

#[derive(Default)]
pub struct Clock {
    jobs: BTreeMap<Name, Job>,
}

/// One job, since it was declared anew.
#[derive(Default)]
struct Job {
    /// Which run each scheduled time had.
    runs: BTreeMap<i64, i64>,
    /// Times that were named in an event, and stretches of them.
    told: Vec<(Timestamp, Timestamp)>,
    /// Called, as it was told last, and not begun.
    waiting: BTreeSet<i64>,
    /// A hook before a start runs: what waits is tried, whatever comes of it.
    hooked: bool,
    tried: BTreeSet<i64>,
    /// All schedules that it had.
    schedules: BTreeSet<String>,
    /// The wall clock less the monotonic one, and whether that has changed.
    offset: Option<i128>,
    clock_set: bool,
    /// Its schedule, and up to when it has been followed.
    followed: Option<(String, Timestamp)>,
    /// When it was begun; what lies before is not missed, also when the clock comes to it once more.
    begun: Vec<Timestamp>,
}

impl Clock {
    pub fn hear(&mut self, actions: &[Action]) -> Result<(), String> {
        for action in actions {
            match action {
                Action::Spawn { life, blob, .. } => {
                    let Some((id, Some(at))) = run(blob) else { continue };
                    let job = self.jobs.entry(life.instance.service.clone()).or_default();
                    let first = *job.runs.entry(at).or_insert(id);
                    if first != id {
                        let at = Timestamp::from_second(at).unwrap_or_default();
                        return Err(format!("law of the clock: {life} runs what was scheduled for {at} once more"));
                    }
                }
                Action::Record(event) if matches!(event.reason, Reason::MissedRun | Reason::SkippedRun) => {
                    let Some(Ok(name)) = event.service.as_deref().map(Name::parse) else { continue };
                    let stamps = stamps(&event.message);
                    if let (Some(first), Some(last)) = (stamps.iter().min(), stamps.iter().max()) {
                        self.jobs.entry(name).or_default().told.push((*first, *last));
                    }
                }
                Action::RunHook { life, .. } => {
                    self.jobs.entry(life.instance.service.clone()).or_default().hooked = true;
                }
                Action::Retire(name) => drop(self.jobs.remove(name)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A new service of an old name.
    pub fn forget(&mut self, name: &Name) {
        self.jobs.remove(name);
    }
}

/// `2026-11-23T03:00:00Z` wherever it stands.
fn stamps(message: &str) -> Vec<Timestamp> {
    let bytes = message.as_bytes();
    (0..bytes.len())
        .filter(|&at| bytes[at] == b'Z' && at >= 19)
        .filter_map(|at| message.get(at - 19..=at)?.parse().ok())
        .collect()
}

/// The run of a life, and for when it was scheduled.
fn run(blob: &[u8]) -> Option<(i64, Option<i64>)> {
    let blob: serde_json::Value = serde_json::from_slice(blob.get(1..)?).ok()?;
    let run = blob.get("j")?;
    Some((run.get("i")?.as_i64()?, run.get("a").and_then(serde_json::Value::as_i64)))
}

pub fn without_run(blob: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&blob[1..]) else { return blob.to_vec() };
    value.as_object_mut().map(|fields| fields.remove("j"));
    [&blob[..1], value.to_string().as_bytes()].concat()
}

/// What was scheduled since the last decision has had its answer.
pub fn passed(world: &mut World) -> Result<(), String> {
    let now = world.now.wall;
    let ending = world.facts.shutdown.is_some() || world.controller.node().shutting_down;
    world.clock.jobs.retain(|name, _| !world.facts.gone.contains(name));
    let names: Vec<Name> = world.facts.wishes.keys().cloned().collect();
    for name in names {
        let wish = &world.facts.wishes[&name];
        let job = world.clock.jobs.entry(name.clone()).or_default();
        let Some(schedule) = &wish.spec.schedule else {
            *job = Job::default();
            continue;
        };
        let is = format!("{} {}", schedule.cron, schedule.time_zone);
        job.schedules.insert(is.clone());
        let offset = now.as_nanosecond() - world.now.mono.as_nanos() as i128;
        job.clock_set |= job.offset.replace(offset).is_some_and(|before| (before - offset).abs() > 1_000_000_000);
        // Whether what it needs was lost, and whether an edit is in force, only the brain can say for certain.
        let vague = wish
            .versions()
            .any(|spec| spec.schedule.is_none() || spec.depends_on.iter().any(|need| need.on_loss == OnLoss::Stop));
        let paused = vague || !wish.spec.enabled || wish.stopped;
        if paused || ending {
            // It may have begun all the same.
            if job.begun.iter().all(|begun| now < *begun) {
                job.begun.push(now);
            }
            job.followed = None;
            job.waiting.clear();
            continue;
        }
        let Some(view) = world.controller.view(&name) else { continue };
        let told = view.schedule.iter().flat_map(|schedule| &schedule.runs);
        let waits = told.filter(|run| run.result == RunResult::Waiting).filter_map(|run| run.scheduled);
        let waiting: BTreeSet<i64> = waits.map(Timestamp::as_second).collect();
        if std::mem::take(&mut job.hooked) {
            job.tried.extend(&waiting);
        }
        let answered = |job: &Job, at: i64| {
            let moment = Timestamp::from_second(at).unwrap_or_default();
            job.runs.contains_key(&at)
                || job.tried.contains(&at)
                || waiting.contains(&at)
                || job.told.iter().any(|(first, last)| *first <= moment && moment <= *last)
        };
        if let Some(at) = job.waiting.iter().copied().find(|at| !answered(job, *at)) {
            let at = Timestamp::from_second(at).unwrap_or_default();
            return Err(format!(
                "law of the clock: {name} was to run at {at}, waited, and nobody says why it does not"
            ));
        }
        let from = job.followed.take().filter(|(was, _)| *was == is).map(|(_, from)| from);
        if from.is_none() || job.begun.iter().all(|begun| now < *begun) {
            job.begun.push(now);
        }
        let walked = |from: &Timestamp| {
            (0..WALKED).contains(&now.duration_since(*from).as_secs())
                && !job.begun.iter().any(|begun| from < begun && *begun <= now)
        };
        let taken_over = job.clock_set && job.schedules.len() > 1;
        if let Some(from) = from.filter(walked).filter(|_| !taken_over) {
            let calendar = Calendar::of(schedule);
            let mut next = calendar.next(from);
            while let Some(at) = next.filter(|at| *at <= now) {
                if !answered(job, at.as_second()) {
                    return Err(format!("law of the clock: {name} was to run at {at}, and nobody says why it did not"));
                }
                next = calendar.next(at);
            }
        }
        job.followed = Some((is, now));
        job.waiting = waiting;
    }
    Ok(())
}
