//! The full object of a service, in the shapes that Kubernetes' tools know.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::reason::{Reason, Status};
use crate::model::view::{INVALID, InstanceView, ServiceView, Turned, WAITS};

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
            if !matches!(key.as_str(), "service" | "labels" | "instances" | "ready" | "desired" | "turned") {
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
    let holds = view.conditions();
    let turned = view.turned.as_deref().copied().unwrap_or_else(|| Turned::all(view.since));
    let own = || (view.reason.map_or("NotReady", Reason::as_str), view.why.join("; "));
    // The first of these that the status or a problem names.
    let named = |reasons: &[Reason]| {
        let listed = view.problems.iter().find(|problem| reasons.contains(&problem.reason));
        listed.map_or_else(own, |problem| (problem.reason.as_str(), problem.message.clone()))
    };
    let nowhere = || ("NotInEndpointTable", String::new());
    let ready = armed.map_or("InstancesReady", Reason::as_str);
    vec![
        condition("Ready", holds.ready, turned.ready, ready, own),
        condition("Available", holds.available, turned.available, "MayBeUsed", own),
        condition("Valid", holds.valid, turned.valid, "ManifestValid", || named(INVALID)),
        condition("DependenciesReady", holds.depends, turned.depends, "DependenciesReady", || named(WAITS)),
        condition("Registered", holds.registered, turned.registered, "InEndpointTable", nowhere),
    ]
}

fn condition(kind: &str, holds: bool, at: Timestamp, fine: &str, fault: impl Fn() -> (&'static str, String)) -> Value {
    let (reason, message) = if holds { (fine, String::new()) } else { fault() };
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
