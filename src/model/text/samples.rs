//! Views for tests: of this folder, and of `tests/`, which include this file, so that users of the
//! library never see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use plugd::model::name::Name;
use plugd::model::reason::{Reason, Status};
use plugd::model::view::{
    InstanceView, LogFormat, ManifestView, NodeView, Problem, ScoreView, ServiceView, Serving, Snapshot,
};

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// One instance that serves.
pub fn healthy(service: &str) -> ServiceView {
    ServiceView {
        service: name(service),
        status: Status::Healthy,
        reason: None,
        why: Vec::new(),
        next: None,
        available: true,
        process_running: true,
        mesh_registration: false,
        required: false,
        ready: 1,
        desired: 1,
        restarts: 0,
        score: Some(100),
        address: Some("127.0.0.1:5432".to_string()),
        check: Some("tcp 127.0.0.1:5432 passed".to_string()),
        retry_at: None,
        schedule: None,
        last_exit: None,
        problems: Vec::new(),
        tried: Vec::new(),
        since: at("2026-11-23T11:02:44.25Z"),
        turned: None,
        serving: Serving::default(),
        instances: vec![instance(service, Some(412))],
        manifest: ManifestView {
            file: format!("{service}.yaml"),
            sha256: "9f86d081884c7d65".to_string(),
            generation: 7,
            in_force: None,
            digest: None,
            declares: None,
            runs: None,
            rejected: None,
        },
        kill_scope: None,
        log_format: LogFormat::Text,
        log: Some(format!("/var/log/plugd/services.d-1f3a9c/{service}.log")),
        labels: BTreeMap::new(),
        capabilities: Vec::new(),
        depends_on: Vec::new(),
        lost: None,
        settled: false,
        pending: false,
        unproven: false,
        on_demand: false,
        runs_to_end: false,
    }
}

pub fn instance(name: &str, pid: Option<i32>) -> InstanceView {
    InstanceView {
        name: name.to_string(),
        pid,
        port: None,
        ready: pid.is_some(),
        restarts: 0,
        score: pid.map(|_| ScoreView { points: 100, less: Vec::new() }),
        status: if pid.is_some() { Status::Healthy } else { Status::Unhealthy },
        reason: None,
        started: None,
    }
}

/// Nothing runs, for this reason.
pub fn down(service: &str, status: Status, reason: Option<Reason>) -> ServiceView {
    ServiceView {
        status,
        reason,
        available: false,
        process_running: false,
        ready: 0,
        score: None,
        address: None,
        check: None,
        instances: Vec::new(),
        ..healthy(service)
    }
}

pub fn problem(reason: Reason, message: &str) -> Problem {
    Problem { reason, message: message.to_string(), since: at("2026-11-23T12:30:02Z"), cause: None }
}

pub fn snapshot(views: impl IntoIterator<Item = ServiceView>) -> Snapshot {
    let services = views.into_iter().map(|view| (view.service.clone(), Arc::new(view))).collect();
    Snapshot { sequence: 1, node: NodeView { settled: true, ..NodeView::default() }, services }
}

/// What both parsers of YAML read, once they agree.
pub fn read(text: &str) -> serde_json::Value {
    let one: serde_json::Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let two: serde_json::Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(one, two, "{text}");
    one
}
