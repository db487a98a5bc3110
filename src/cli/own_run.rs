//! The run of a job that `plugd start --wait` has begun, among those that its schedule begins.

use std::path::Path;
use std::time::Duration;

use super::fault::Fault;
use super::wait;
use crate::model::reason::Status;
use crate::model::text::span;
use crate::model::view::{RunResult, RunView, ServiceView};

/// The one by hand that was not there before; else the one that was open then, which the order is of.
pub fn find<'v>(before: &ServiceView, now: &'v ServiceView) -> Option<&'v RunView> {
    let (before, now) = (before.schedule.as_ref()?, now.schedule.as_ref()?);
    let same = |old: &RunView, run: &RunView| old.scheduled == run.scheduled && old.started == run.started;
    let is_new = |run: &&RunView| run.scheduled.is_none() && !before.runs.iter().any(|old| same(old, run));
    now.runs.iter().rev().find(is_new).or_else(|| {
        let open = before.runs.iter().rev().find(|run| !is_over(run))?;
        // It may have begun since.
        let is_it =
            |run: &&RunView| run.scheduled == open.scheduled && (open.started.is_none() || run.started == open.started);
        now.runs.iter().rev().find(is_it)
    })
}

/// Why it is over and has not done what it was begun for.
pub fn lost(dir: &Path, run: &RunView, now: &ServiceView) -> Option<Fault> {
    let how = match run.result {
        RunResult::Waiting | RunResult::Running | RunResult::Completed => return None,
        RunResult::Failed => run.code.map_or("has failed".to_string(), |code| format!("has failed with {code}")),
        RunResult::Stopped | RunResult::Replaced => format!("was {}", run.result.word()),
        RunResult::Unknown => "was cut off with plugd".to_string(),
    };
    let is_told = now.schedule.as_ref().is_some_and(|schedule| schedule.runs.last() == Some(run));
    if now.status == Status::Failed && is_told {
        return Some(wait::verdict(dir, now));
    }
    let service = &now.service;
    Some(Fault::no(format!("the run of {service} {how}"), format!("`plugd history {service}` tells more")))
}

/// What it came to, where that is what it was begun for.
pub fn done(run: &RunView, now: &ServiceView) -> Option<String> {
    let after = run.took_seconds.map(|took| format!(" after {}", span(Duration::from_secs_f64(took.max(0.0)))));
    let after = after.unwrap_or_default();
    (run.result == RunResult::Completed).then(|| format!("the run of {} has completed{after}", now.service))
}

fn is_over(run: &RunView) -> bool {
    match run.result {
        RunResult::Waiting | RunResult::Running => false,
        RunResult::Completed | RunResult::Failed | RunResult::Stopped | RunResult::Replaced | RunResult::Unknown => {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::text::samples::healthy;
    use crate::model::view::ScheduleView;

    fn run(scheduled: Option<i64>, started: Option<i64>, result: RunResult) -> RunView {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let code = (result == RunResult::Failed).then_some(4);
        RunView { scheduled: scheduled.map(at), started: started.map(at), result, code, took_seconds: None }
    }

    fn job(runs: &[RunView]) -> ServiceView {
        let (cron, time_zone) = ("* * * * *".into(), "UTC".into());
        let schedule = ScheduleView { cron, time_zone, next_run: None, last_success: None, runs: runs.to_vec() };
        ServiceView { schedule: Some(Box::new(schedule)), ..healthy("job") }
    }

    #[test]
    fn the_run_that_was_begun_is_known_whatever_the_schedule_begins_after_it() {
        let (old, next) = (run(None, Some(10), RunResult::Failed), run(Some(60), Some(60), RunResult::Running));
        let own = |result| run(None, Some(20), result);
        let before = job(std::slice::from_ref(&old));
        assert_eq!(find(&before, &before), None, "the view from before the order");
        assert_eq!(find(&before, &job(&[old.clone(), own(RunResult::Running)])), Some(&own(RunResult::Running)));
        let now = job(&[old.clone(), own(RunResult::Failed), next.clone()]);
        let found = find(&before, &now).expect("the second");
        let fault = lost(Path::new("/"), found, &now).expect("it has failed").to_string();
        assert!(fault.contains("the run of job has failed with 4"), "{fault}");
        let now = job(&[old, own(RunResult::Completed), next.clone()]);
        let found = find(&before, &now).expect("the second");
        assert!(lost(Path::new("/"), found, &now).is_none());
        assert_eq!(done(found, &now), Some("the run of job has completed".into()));
        let timed = RunView { took_seconds: Some(2.5), ..found.clone() };
        assert_eq!(done(&timed, &now), Some("the run of job has completed after 2.5s".into()));
        assert_eq!(done(&next, &now), None);

        // One that goes on is begun by nobody else.
        let over = run(Some(60), Some(60), RunResult::Completed);
        assert_eq!(find(&job(&[next]), &job(std::slice::from_ref(&over))), Some(&over));
        let waiting = run(Some(60), None, RunResult::Waiting);
        assert_eq!(find(&job(&[waiting]), &job(std::slice::from_ref(&over))), Some(&over));
    }
}
