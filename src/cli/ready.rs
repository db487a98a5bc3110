//! When a service, or the whole node, counts as ready: the rule behind `wait`, `--wait` and exit 3.

use std::sync::Arc;

use crate::model::reason::Status;
use crate::model::view::{ServiceView, Snapshot};

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
        Status::Starting
        | Status::Running
        | Status::Healthy
        | Status::Degraded
        | Status::Unhealthy
        | Status::Stopping
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
    if node.shutting_down || node.directory_lost.is_some() || (snapshot.services.is_empty() && !node.settled) {
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
