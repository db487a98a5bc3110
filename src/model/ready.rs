//! When a service, or the whole node, counts as ready: the one rule behind `/readyz`, `wait`, `--wait` and
//! exit 3.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::reason::{Reason, Status};
use super::view::{RunResult, ServiceView, Snapshot};

/// All instances ready, a job that completed, or one that is armed to run on demand or by schedule.
pub fn is_ready(view: &ServiceView) -> bool {
    match view.status {
        // Of a crash loop that nothing checks another start is no sign of life.
        Status::Running => !view.unproven,
        Status::Healthy | Status::Completed => true,
        // A roll or a low score, but as many ready as are wanted.
        Status::Degraded => view.available && view.ready >= view.desired,
        Status::Waiting => view.available || view.settled,
        Status::Starting
        | Status::Unhealthy
        | Status::Stopping
        | Status::Stopped
        | Status::Skipped
        | Status::Failed => false,
    }
}

/// What somebody who named it waits for: that it is ready, and of a job that it has ended. The node does not wait for a
/// job that runs: a long one would be no reason to end it.
pub fn is_done(view: &ServiceView) -> bool {
    let runs = match view.status {
        Status::Running => view.runs_to_end,
        // One that is checked and has no schedule is a server that is never restarted.
        Status::Healthy | Status::Degraded => view.runs_to_end && view.schedule.is_some(),
        Status::Starting
        | Status::Unhealthy
        | Status::Waiting
        | Status::Stopping
        | Status::Stopped
        | Status::Skipped
        | Status::Failed
        | Status::Completed => false,
    };
    is_ready(view) && !runs
}

/// A program that ends at once has ended by then.
const LASTS: Duration = Duration::from_millis(250);

/// How much longer a service that nothing checks has to run before whoever waits for it may believe that it does; none
/// for the starts after which it was `waited` for already.
pub fn too_young(view: &ServiceView, now: Timestamp, waited: &[Timestamp]) -> Option<Duration> {
    if view.status != Status::Running {
        return None;
    }
    let youngest = starts(view).filter(|start| !waited.contains(start)).max()?;
    // Where the clock was set back meanwhile the age is not known.
    let age = Duration::try_from(now.duration_since(youngest)).unwrap_or_default();
    LASTS.checked_sub(age).filter(|rest| !rest.is_zero())
}

/// When its instances were started.
pub fn starts(view: &ServiceView) -> impl Iterator<Item = Timestamp> {
    view.instances.iter().filter_map(|instance| instance.started)
}

/// It ran, ended with a failure, and begins again only if somebody edits, starts or calls it; or when its next run is due.
pub fn has_failed_for_good(view: &ServiceView) -> bool {
    let comes_again = view.retry_at.is_some() || view.process_running;
    view.status == Status::Failed && view.last_exit.is_some() && !comes_again
}

/// It ran to its end; one by the clock, in its last run.
pub fn has_completed(view: &ServiceView) -> bool {
    let last = view.schedule.as_ref().and_then(|schedule| schedule.runs.last());
    view.status == Status::Completed || last.is_some_and(|run| run.result == RunResult::Completed)
}

/// Nothing a person has to look into: ready, or serving in part. What runs and is checked by nothing is as well as can
/// be told, also after a failed start: only whoever waits for it has reason to doubt.
pub fn is_well(view: &ServiceView) -> bool {
    is_ready(view) || view.status == Status::Running || (view.status == Status::Degraded && view.available)
}

/// Something is expected of it: not skipped, stopped, completed or armed.
pub fn is_expected(view: &ServiceView) -> bool {
    match view.status {
        Status::Skipped | Status::Stopped | Status::Completed => false,
        // Of one that sleeps the next call is another try: the node does not wait for that.
        Status::Waiting | Status::Failed => !view.settled,
        // On its way to where nothing is expected of it.
        Status::Stopping => !matches!(view.reason, Some(Reason::StoppedByOperator | Reason::Disabled)),
        Status::Starting | Status::Running | Status::Healthy | Status::Degraded | Status::Unhealthy => true,
    }
}

/// Who is waited for when nobody was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Every required one; if none is required, every one of which something is expected.
    Required,
    /// Every one of which something is expected.
    All,
}

/// Those that are not ready yet; empty means that the node is. None: too early to say.
pub fn missing(snapshot: &Snapshot, who: Who) -> Option<Vec<Arc<ServiceView>>> {
    let node = &snapshot.node;
    // Before the first scan an empty table says nothing; a lost directory hides what is meant.
    let unread = node.reading || (snapshot.services.is_empty() && !node.settled);
    if node.shutting_down || node.directory_lost.is_some() || unread {
        return None;
    }
    Some(counted(snapshot, who).into_iter().filter(|view| !is_ready(view)).collect())
}

/// Those whose readiness is the node's.
pub fn counted(snapshot: &Snapshot, who: Who) -> Vec<Arc<ServiceView>> {
    let required = snapshot.services.values().any(|view| view.required);
    let counts = |view: &&Arc<ServiceView>| match who {
        Who::Required if required => view.required,
        Who::Required => is_expected(view),
        // A required one that is skipped or stopped is still missing.
        Who::All => is_expected(view) || (view.required && view.status != Status::Completed),
    };
    snapshot.services.values().filter(counts).cloned().collect()
}

/// Whether the node serves: every service has had its first verdict, its directory is there, it is not
/// leaving, and nobody is missing.
pub fn node_ready(snapshot: &Snapshot) -> bool {
    snapshot.node.settled && missing(snapshot, Who::Required).is_some_and(|missing| missing.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::samples::{down, healthy, snapshot};
    use crate::model::view::ExitView;

    fn armed(name: &str) -> ServiceView {
        ServiceView { settled: true, available: true, ..down(name, Status::Waiting, None) }
    }

    #[test]
    fn the_node_is_ready_by_its_required_services_or_else_by_all_that_are_expected() {
        let required = |view: ServiceView| ServiceView { required: true, ..view };
        let bad = || down("b", Status::Unhealthy, None);
        assert!(node_ready(&snapshot([required(healthy("a")), bad()])));
        assert!(!node_ready(&snapshot([healthy("a"), required(bad())])));
        assert!(!node_ready(&snapshot([healthy("a"), bad()])));
        assert!(node_ready(&snapshot([healthy("a"), down("b", Status::Skipped, None), armed("c")])));
        assert!(node_ready(&snapshot([required(down("a", Status::Completed, None))])));
        assert!(!node_ready(&snapshot([required(down("a", Status::Skipped, None))])));

        let mut leaving = snapshot([healthy("a")]);
        leaving.node.shutting_down = true;
        assert!(!node_ready(&leaving));
        let mut early = snapshot([healthy("a")]);
        early.node.settled = false;
        assert!(!node_ready(&early));
    }

    #[test]
    fn what_nothing_checks_is_believed_when_it_has_run_for_a_moment_and_after_failed_starts_for_long() {
        let started = Timestamp::UNIX_EPOCH;
        let mut running = ServiceView { status: Status::Running, ..healthy("a") };
        running.instances[0].started = Some(started);
        assert!(is_ready(&running));
        let unproven = ServiceView { unproven: true, ..running.clone() };
        assert!(!is_ready(&unproven), "nobody's wait ends with it");
        assert!(is_well(&unproven), "yet it runs, and its status says so");
        let after = |millis| too_young(&running, started + Duration::from_millis(millis), &[]);
        assert_eq!(
            [0, 100, 250, 9_000].map(after),
            [Some(250), Some(150), None, None].map(|ms| ms.map(Duration::from_millis))
        );
        assert_eq!(too_young(&healthy("a"), started, &[]), None, "its check has passed");
    }

    #[test]
    fn where_the_clock_was_set_back_each_start_is_waited_for_once() {
        let started = Timestamp::UNIX_EPOCH;
        let mut running = ServiceView { status: Status::Running, ..healthy("a") };
        running.instances[0].started = Some(started);
        let earlier = started - Duration::from_secs(60);
        assert_eq!(too_young(&running, earlier, &[]), Some(LASTS), "never longer than that");
        let waited: Vec<_> = starts(&running).collect();
        assert_eq!(too_young(&running, earlier, &waited), None);
        running.instances[0].started = Some(earlier);
        assert_eq!(too_young(&running, earlier, &waited), Some(LASTS), "it was started again meanwhile");
    }

    #[test]
    fn what_failed_and_does_not_run_again_is_nothing_to_wait_for() {
        let failed = ServiceView { last_exit: None, ..down("a", Status::Failed, None) };
        assert!(!has_failed_for_good(&failed), "it never ran");
        let exit = ExitView {
            code: Some(1),
            signal: None,
            reason: None,
            by: None,
            at: Timestamp::UNIX_EPOCH,
            ran_for: Duration::ZERO,
            output: Vec::new(),
        };
        let failed = ServiceView { last_exit: Some(exit), ..failed };
        assert!(has_failed_for_good(&failed));
        assert!(!has_failed_for_good(&ServiceView { retry_at: Some(Timestamp::UNIX_EPOCH), ..failed.clone() }));
        assert!(!has_failed_for_good(&ServiceView { status: Status::Unhealthy, ..failed }));
    }

    #[test]
    fn a_node_with_fewer_instances_than_are_wanted_is_not_ready() {
        let half = |ready| ServiceView { ready, desired: 2, status: Status::Degraded, required: true, ..healthy("a") };
        assert!(!node_ready(&snapshot([half(1)])));
        assert!(node_ready(&snapshot([half(2)])), "a low score, but all of them serve");
    }
}
