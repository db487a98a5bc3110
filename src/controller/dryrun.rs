//! What would become of a declaration, for `plugd check`: judged by the digests by which the brain
//! decides, and by nothing else.

use super::input::{Declaration, Resolved};
use crate::model::digest::comparable;
use crate::model::manifest::no_stdio_mcp;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Program, RestartPolicy, Spec};
use crate::model::view::{PrintView, ServiceView};

/// What a declaration changes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is declared like that already.
    Nothing,
    /// What runs, or ran to its end, takes it up: probes, labels and the like.
    Live,
    /// Only a new process can take it up.
    Process,
}

/// Held against what a controller tells of the service.
pub fn change(new: &Declaration, view: &ServiceView) -> Change {
    let told = &view.manifest;
    let Some(digest) = told.digest else { return Change::Process };
    // A controller that makes its digests in another way compares the bytes.
    if !comparable(digest, new.spec.digest) {
        return if told.sha256 == new.source.sha256 { Change::Nothing } else { Change::Process };
    }
    let print = match &new.program {
        Resolved::Found { content, .. } => Some(PrintView { process: new.spec.process_digest, content: *content }),
        Resolved::Missing { .. } => None,
    };
    if digest == new.spec.digest && told.declares == print {
        return Change::Nothing;
    }
    let over = view.status == Status::Completed && new.spec.restart.policy != RestartPolicy::Always;
    let made_from = match view.process_running {
        true => told.runs,
        false => told.declares.filter(|_| over || waits_to_be_called(view)),
    };
    if print.is_some() && made_from == print { Change::Live } else { Change::Process }
}

/// Nothing of it runs, and it is called when it is wanted.
fn waits_to_be_called(view: &ServiceView) -> bool {
    match view.status {
        Status::Waiting => matches!(view.reason, Some(Reason::NextRun | Reason::OnDemand)),
        // The last time it did not go well.
        Status::Failed => view.on_demand || view.schedule.is_some(),
        Status::Starting
        | Status::Running
        | Status::Healthy
        | Status::Degraded
        | Status::Unhealthy
        | Status::Stopping
        | Status::Stopped
        | Status::Skipped
        | Status::Completed => false,
    }
}

/// Why this version starts no process for it, however valid it is.
pub fn nothing_to_run(spec: &Spec) -> Option<&str> {
    match &spec.process.program {
        Program::External(address) => Some(address),
        Program::Command(_) | Program::Wrapper(_) | Program::Script(_) => {
            spec.process.stdio_mcp.then_some(no_stdio_mcp!())
        }
    }
}
