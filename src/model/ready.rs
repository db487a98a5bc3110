//! When a service, or the whole node, counts as ready: the one rule behind `/readyz`, `wait`, `--wait` and
//! exit 3.

use std::sync::Arc;

use super::reason::{Reason, Status};
use super::view::{ServiceView, Snapshot};

/// All instances ready, a job that completed, or one that is armed to run on demand or by schedule.
pub fn is_ready(view: &ServiceView) -> bool {
    match view.status {
        Status::Running | Status::Healthy | Status::Completed => true,
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

/// Nothing a person has to look into: ready, or serving in part.
pub fn is_well(view: &ServiceView) -> bool {
    is_ready(view) || (view.status == Status::Degraded && view.available)
}

/// Something is expected of it: not skipped, stopped, completed or armed.
pub fn is_expected(view: &ServiceView) -> bool {
    match view.status {
        Status::Skipped | Status::Stopped | Status::Completed => false,
        Status::Waiting => !view.settled,
        // On its way to where nothing is expected of it.
        Status::Stopping => !matches!(view.reason, Some(Reason::StoppedByOperator | Reason::Disabled)),
        Status::Starting
        | Status::Running
        | Status::Healthy
        | Status::Degraded
        | Status::Unhealthy
        | Status::Failed => true,
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
    let required = snapshot.services.values().any(|view| view.required);
    let counts = |view: &ServiceView| match who {
        Who::Required if required => view.required,
        Who::Required => is_expected(view),
        // A required one that is skipped or stopped is still missing.
        Who::All => is_expected(view) || (view.required && view.status != Status::Completed),
    };
    Some(snapshot.services.values().filter(|view| counts(view) && !is_ready(view)).cloned().collect())
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
    fn a_node_with_fewer_instances_than_are_wanted_is_not_ready() {
        let half = |ready| ServiceView { ready, desired: 2, status: Status::Degraded, required: true, ..healthy("a") };
        assert!(!node_ready(&snapshot([half(1)])));
        assert!(node_ready(&snapshot([half(2)])), "a low score, but all of them serve");
    }
}
