//! The full object of a service, in the shapes that Kubernetes' tools know.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::reason::{Reason, Status};
use crate::model::view::{InstanceView, ServiceView};

/// apiVersion, kind, metadata, spec (where one was ever valid) and status.
pub(super) fn object(view: &ServiceView, spec: Option<Value>) -> Value {
    let mut object = json!({
        "apiVersion": "plugd/v1",
        "kind": "Service",
        "metadata": {
            "name": view.service,
            "labels": view.labels,
            "generation": view.manifest.generation,
        },
    });
    if let Some(spec) = spec {
        object["spec"] = spec;
    }
    object["status"] = status(view);
    object
}

fn status(view: &ServiceView) -> Value {
    let mut status = json!({
        "phase": phase(view.status),
        "observedGeneration": view.manifest.in_force.unwrap_or(view.manifest.generation),
        "replicas": view.desired,
        "readyReplicas": view.ready,
        "conditions": conditions(view),
        "instances": view.instances.iter().map(instance).collect::<Vec<_>>(),
    });
    // Our own words, beside the borrowed ones.
    if let (Some(status), Ok(Value::Object(own))) = (status.as_object_mut(), serde_json::to_value(view)) {
        for (key, value) in own {
            if !matches!(key.as_str(), "service" | "labels" | "instances" | "ready" | "desired") {
                status.insert(key, value);
            }
        }
        status.insert("message".to_string(), Value::String(view.why.join("; ")));
    }
    status
}

/// PodPhase. A crash loop is `Running`, as there; what may start later is `Pending`.
fn phase(status: Status) -> &'static str {
    match status {
        Status::Running | Status::Healthy | Status::Degraded | Status::Unhealthy | Status::Stopping => "Running",
        Status::Starting | Status::Waiting | Status::Stopped | Status::Skipped => "Pending",
        Status::Failed => "Failed",
        Status::Completed => "Succeeded",
    }
}

/// metav1.Condition, one of each type.
fn conditions(view: &ServiceView) -> Vec<Value> {
    let armed = view.reason.filter(|reason| matches!(reason, Reason::NextRun | Reason::OnDemand));
    let ready = armed.is_some() || view.status == Status::Completed || (view.desired > 0 && view.ready >= view.desired);
    let invalid = fault(
        view,
        &[Reason::ConfigInvalid, Reason::NameInvalid, Reason::NameConflict, Reason::UntrustedFile, Reason::Unreadable],
    );
    let waits = fault(view, &[Reason::DependencyNotReady, Reason::DependencyCycle, Reason::DependencyLost]);
    let own = || match view.reason {
        Some(reason) => (reason.as_str(), view.why.join("; "), view.since),
        None => ("NotReady", view.why.join("; "), view.since),
    };
    vec![
        condition("Ready", ready, armed.map_or("InstancesReady", Reason::as_str), own(), view.since),
        condition("Available", view.available, "MayBeUsed", own(), view.since),
        condition("Valid", invalid.is_none(), "ManifestValid", invalid.unwrap_or_else(own), view.since),
        condition("DependenciesReady", waits.is_none(), "DependenciesReady", waits.unwrap_or_else(own), view.since),
        condition(
            "Registered",
            view.mesh_registration,
            "InEndpointTable",
            ("NotInEndpointTable", String::new(), view.since),
            view.since,
        ),
    ]
}

type Fault = (&'static str, String, Timestamp);

/// The first of these that the status or a problem names.
fn fault(view: &ServiceView, reasons: &[Reason]) -> Option<Fault> {
    let listed = view.problems.iter().find(|problem| reasons.contains(&problem.reason));
    match listed {
        Some(problem) => Some((problem.reason.as_str(), problem.message.clone(), problem.since)),
        None => view
            .reason
            .filter(|reason| reasons.contains(reason))
            .map(|reason| (reason.as_str(), view.why.join("; "), view.since)),
    }
}

fn condition(kind: &str, holds: bool, fine: &str, fault: Fault, since: Timestamp) -> Value {
    let (reason, message, at) = if holds { (fine, String::new(), since) } else { fault };
    json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "reason": reason,
        "message": message,
        "lastTransitionTime": at,
    })
}

/// ContainerStatus.
fn instance(view: &InstanceView) -> Value {
    let mut status = json!({ "name": view.name, "ready": view.ready, "restartCount": view.restarts });
    let reason = view.reason.map_or(view.status.as_str(), Reason::as_str);
    status["state"] = match (view.pid, view.started) {
        (Some(_), Some(started)) => json!({ "running": { "startedAt": started } }),
        (Some(_), None) => json!({ "running": {} }),
        (None, _) if view.status == Status::Completed => {
            json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })
        }
        (None, _) => json!({ "waiting": { "reason": reason } }),
    };
    if let Some(pid) = view.pid {
        status["pid"] = json!(pid);
    }
    if let Some(score) = &view.score {
        status["score"] = json!(score);
    }
    if let Some(port) = view.port {
        status["port"] = json!(port);
    }
    status
}
