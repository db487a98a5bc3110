//! The report over all services: the triple, the counts, one line for the start.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::harmless::clean;
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::view::{ServiceView, Snapshot};

/// Names of one kind that the one line prints: three kinds still fit a wide terminal.
const NAMES_SHOWN: usize = 10;

/// What became of every service, always computed from one snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub summary: Summary,
    /// Why the directory cannot be seen: what runs is told, what is meant is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_lost: Option<String>,
    /// Ready, running, completed, or armed to run on demand or by schedule.
    pub started: Vec<Name>,
    /// On their way to a first verdict: neither started nor failed.
    #[serde(default)]
    pub pending: Vec<Cause>,
    /// All that is in none of the others.
    pub failed: Vec<Cause>,
    /// Cannot run here and need not, disabled, or stopped by the operator.
    pub skipped: Vec<Cause>,
    /// Of the started: nothing checks them, and their last start failed.
    #[serde(skip)]
    pub unproven: BTreeSet<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub name: Name,
    /// The reason; the status word where there is none yet.
    pub reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub total: usize,
    pub starting: usize,
    pub running: usize,
    pub healthy: usize,
    pub degraded: usize,
    pub unhealthy: usize,
    pub waiting: usize,
    pub stopping: usize,
    pub stopped: usize,
    pub skipped: usize,
    pub failed: usize,
    pub completed: usize,
    /// 100 × (healthy + running) / (all but stopped, completed and armed), cut to two decimals, so
    /// that 100 means all; 100 when there are none.
    #[serde(serialize_with = "whole_or_fraction")]
    pub percentage_healthy: f64,
}

enum Place {
    Started,
    Pending,
    Failed,
    Skipped,
}

impl Report {
    pub fn of(snapshot: &Snapshot) -> Report {
        let mut report = Report {
            summary: Summary::of(snapshot),
            directory_lost: snapshot.node.directory_lost.clone(),
            started: Vec::new(),
            pending: Vec::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
            unproven: BTreeSet::new(),
        };
        for view in snapshot.services.values() {
            if view.unproven {
                report.unproven.insert(view.service.clone());
            }
            match place(view) {
                Place::Started => report.started.push(view.service.clone()),
                Place::Pending => report.pending.push(cause(view)),
                Place::Failed => report.failed.push(cause(view)),
                Place::Skipped => report.skipped.push(cause(view)),
            }
        }
        report
    }

    /// Every name, as the event of the start tells them.
    pub fn lists(&self) -> String {
        let reasons = |causes: &[Cause]| {
            causes.iter().map(|cause| format!("{} ({})", cause.name, cause.reason)).collect::<Vec<_>>().join(", ")
        };
        let started = self.started.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let pending = match self.pending.is_empty() {
            true => String::new(),
            false => format!("pending: [{}], ", reasons(&self.pending)),
        };
        let (failed, skipped) = (reasons(&self.failed), reasons(&self.skipped));
        format!("started: [{started}], {pending}failed: [{failed}], skipped: [{skipped}]")
    }

    /// Names and reasons of one of the lists.
    #[cfg(test)]
    pub fn told(causes: &[Cause]) -> Vec<(&str, &str)> {
        causes.iter().map(|cause| (cause.name.as_str(), cause.reason.as_str())).collect()
    }
}

impl Summary {
    pub fn of(snapshot: &Snapshot) -> Summary {
        let mut summary = Summary { total: snapshot.services.len(), ..Summary::default() };
        let mut armed = 0;
        for view in snapshot.services.values() {
            *summary.count_mut(view.status) += 1;
            armed += usize::from(is_armed(view));
        }
        let expected = summary.total - summary.stopped - summary.completed - armed;
        let fine = summary.healthy + summary.running;
        summary.percentage_healthy = (10_000 * fine).checked_div(expected).map_or(100.0, |share| share as f64 / 100.0);
        summary
    }

    pub fn count(&self, status: Status) -> usize {
        *self.clone().count_mut(status)
    }

    fn count_mut(&mut self, status: Status) -> &mut usize {
        match status {
            Status::Starting => &mut self.starting,
            Status::Running => &mut self.running,
            Status::Healthy => &mut self.healthy,
            Status::Degraded => &mut self.degraded,
            Status::Unhealthy => &mut self.unhealthy,
            Status::Waiting => &mut self.waiting,
            Status::Stopping => &mut self.stopping,
            Status::Stopped => &mut self.stopped,
            Status::Skipped => &mut self.skipped,
            Status::Failed => &mut self.failed,
            Status::Completed => &mut self.completed,
        }
    }
}

/// Waits for a call or for its next run, and nothing is wrong with that.
fn is_armed(view: &ServiceView) -> bool {
    view.status == Status::Waiting && view.settled
}

fn place(view: &ServiceView) -> Place {
    match view.status {
        Status::Healthy | Status::Running | Status::Completed => Place::Started,
        Status::Degraded if view.available => Place::Started,
        Status::Waiting if is_armed(view) => Place::Started,
        Status::Skipped => Place::Skipped,
        Status::Starting | Status::Waiting if view.pending => Place::Pending,
        // That it ends is no verdict.
        Status::Stopping => Place::Pending,
        Status::Stopped => match view.reason {
            Some(Reason::StoppedByOperator | Reason::Disabled | Reason::ControllerStopped) => Place::Skipped,
            _ => Place::Failed,
        },
        Status::Starting | Status::Degraded | Status::Unhealthy | Status::Waiting | Status::Failed => Place::Failed,
    }
}

fn cause(view: &ServiceView) -> Cause {
    // A status file or a log that cannot be written makes no service fail.
    let mut problems = view.problems.iter().map(|problem| problem.reason);
    let fails = |reason: &Reason| !matches!(reason, Reason::StatusNotWritten | Reason::LogNotWritten);
    let reason = view.reason.or_else(|| problems.find(fails));
    let reason = reason.map_or(view.status.as_str(), Reason::as_str).to_string();
    Cause { name: view.service.clone(), reason }
}

/// The one line that is printed when every service has had its first verdict.
pub fn start_report(report: &Report) -> String {
    if report.summary.total == 0 {
        return "nothing is declared yet; a manifest that is dropped into the directory starts at once".to_string();
    }
    // That it lives at this moment is true of a crash loop, too: the one line is read once, and by itself.
    let again = |name: &Name| if report.unproven.contains(name) { " (again, after a failed start)" } else { "" };
    let started = names(report.started.iter().map(|name| format!("{name}{}", again(name))), report.started.len());
    let mut parts = vec![match report.started.is_empty() {
        true => "started: none".to_string(),
        false => format!("started: {started}"),
    }];
    for (word, causes) in [("pending", &report.pending), ("failed", &report.failed), ("skipped", &report.skipped)] {
        if !causes.is_empty() {
            let each = causes.iter().map(|cause| format!("{} ({})", cause.name, clean(&cause.reason)));
            parts.push(format!("{word}: {}", names(each, causes.len())));
        }
    }
    parts.join("; ")
}

fn names(each: impl Iterator<Item = String>, total: usize) -> String {
    let shown: Vec<String> = each.take(NAMES_SHOWN).collect();
    match total.saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `100` rather than `100.0`: the same digits in JSON and YAML.
fn whole_or_fraction<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 { serializer.serialize_u64(*value as u64) } else { serializer.serialize_f64(*value) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::text::samples::{down, healthy, snapshot};
    use crate::model::view::Problem;

    fn armed(name: &str) -> ServiceView {
        ServiceView { settled: true, available: true, ..down(name, Status::Waiting, None) }
    }

    #[test]
    fn what_is_on_its_way_to_its_first_verdict_has_neither_started_nor_failed() {
        let pending = |view: ServiceView| ServiceView { pending: true, ..view };
        let report = Report::of(&snapshot([
            healthy("a"),
            pending(down("b", Status::Starting, Some(Reason::ProbeNotPassed))),
            pending(down("c", Status::Waiting, Some(Reason::DependencyNotReady))),
            down("d", Status::Waiting, Some(Reason::DependencyNotReady)),
        ]));
        assert_eq!(
            start_report(&report),
            "started: a; pending: b (ProbeNotPassed), c (DependencyNotReady); failed: d (DependencyNotReady)"
        );
    }

    #[test]
    fn every_service_that_has_had_its_verdict_stands_in_one_of_three_lists() {
        let report = Report::of(&snapshot([
            healthy("a"),
            down("b", Status::Skipped, Some(Reason::WrapperNotFound)),
            down("c", Status::Unhealthy, Some(Reason::BackOff)),
            down("d", Status::Completed, None),
            armed("e"),
            down("f", Status::Waiting, Some(Reason::DependencyNotReady)),
            down("g", Status::Stopped, Some(Reason::StoppedByOperator)),
            down("h", Status::Stopped, Some(Reason::DependencyLost)),
            down("i", Status::Starting, None),
            down("j", Status::Failed, Some(Reason::ConfigInvalid)),
        ]));
        assert_eq!(
            start_report(&report),
            "started: a, d, e; failed: c (BackOff), f (DependencyNotReady), h (DependencyLost), i (starting), \
             j (ConfigInvalid); skipped: b (WrapperNotFound), g (StoppedByOperator)"
        );
    }

    #[test]
    fn what_runs_is_started_in_each_list_and_the_one_line_says_that_it_failed_before() {
        let view = ServiceView { status: Status::Running, unproven: true, ..healthy("a") };
        let report = Report::of(&snapshot([view, healthy("b")]));
        assert_eq!((report.summary.running, report.started.len(), report.failed.len()), (1, 2, 0));
        assert_eq!(start_report(&report), "started: a (again, after a failed start), b");
    }

    #[test]
    fn a_status_file_that_cannot_be_written_is_no_cause() {
        let problem = |reason| Problem { reason, message: String::new(), since: Timestamp::UNIX_EPOCH, cause: None };
        let mut view = down("a", Status::Unhealthy, None);
        view.problems = vec![problem(Reason::StatusNotWritten)];
        assert_eq!(start_report(&Report::of(&snapshot([view.clone()]))), "started: none; failed: a (unhealthy)");
        view.problems.push(problem(Reason::Forked));
        assert_eq!(start_report(&Report::of(&snapshot([view]))), "started: none; failed: a (Forked)");
    }

    #[test]
    fn many_names_stay_one_line() {
        let report = Report::of(&snapshot((0..100).map(|i| healthy(&format!("s{i:02}")))));
        assert_eq!(start_report(&report), "started: s00, s01, s02, s03, s04, s05, s06, s07, s08, s09 and 90 more");
        assert!(start_report(&Report::of(&snapshot([]))).starts_with("nothing is declared yet"));
    }

    #[test]
    fn the_share_counts_what_is_expected_to_serve_and_reaches_100_only_with_all() {
        let percentage = |views: Vec<ServiceView>| Summary::of(&snapshot(views)).percentage_healthy;
        assert_eq!(percentage(vec![]), 100.0);
        assert_eq!(percentage(vec![down("a", Status::Completed, None), armed("b")]), 100.0);
        assert_eq!(percentage(vec![healthy("a"), down("b", Status::Failed, None)]), 50.0);
        assert_eq!(percentage(vec![healthy("a"), healthy("b"), down("c", Status::Skipped, None)]), 66.66);
        let mut many: Vec<ServiceView> = (0..99_999).map(|i| healthy(&format!("s{i}"))).collect();
        many.push(down("x", Status::Failed, None));
        assert_eq!(percentage(many), 99.99);
    }

    #[test]
    fn the_counts_add_up_to_the_total() {
        let views = Status::ALL.iter().map(|status| down(status.as_str(), *status, None));
        let summary = Summary::of(&snapshot(views));
        assert_eq!(Status::ALL.iter().map(|status| summary.count(*status)).sum::<usize>(), summary.total);
        let json = serde_json::to_value(&summary).expect("JSON");
        assert_eq!(json.as_object().map(|fields| fields.len()), Some(2 + Status::ALL.len()));
    }
}
