//! What is shown: text of strangers for a terminal, and status files, which both readers of YAML must read
//! as the same.

use std::path::Path;

use serde_json::{Value, json};

use crate::model::reason::Reason;
use crate::model::text::harmless::{Layout, clip, escape, escape_bytes, is_hostile, strip};
use crate::model::text::{ControllerInfo, ControllerLine, NodeFile, Places, node_file, status_file, yaml};
use crate::model::view::{FileProblem, NodeView, ServiceView, Snapshot};

/// Lines of a status file with one instance, and its size.
const LINES_MAX: usize = 25;
const SIZE_MAX: usize = 16 * 1024;
const LIMIT: usize = 48;

pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for layout in [Layout::Sentence, Layout::Line, Layout::Lines] {
        for shown in [escape(&text, layout).into_owned(), escape_bytes(bytes, layout)] {
            let stays = |c: char| match layout {
                Layout::Sentence => false,
                Layout::Line => c == '\t',
                Layout::Lines | Layout::Json => c == '\t' || c == '\n',
            };
            assert!(!shown.chars().any(|c| is_hostile(c) && !stays(c)), "{shown:?}");
        }
    }
    assert!(!strip(&text).chars().any(is_hostile));
    let clipped = clip(&text, LIMIT);
    assert!(clipped.len() <= LIMIT && !clipped.chars().any(is_hostile), "{clipped:?}");
    let clean = escape(&text, Layout::Sentence);
    let flow = format!("{{a: {}, b: [{}, {}]}}", yaml::scalar(&text), yaml::quoted(&text), yaml::scalar(&text));
    assert_eq!(read(&format!("key: {flow}\n"))["key"], json!({"a": clean, "b": [clean, clean]}), "{flow}");
    let paragraph = yaml::paragraph(&text, 1024);
    assert!(read(&format!("key: {paragraph}\n"))["key"].is_string(), "{paragraph}");
}

/// A view as JSON, or any text at every place of a view where a stranger's may stand.
pub fn status(bytes: &[u8]) {
    let view: ServiceView = match serde_json::from_slice(bytes) {
        Ok(view) => view,
        Err(_) => filled(&String::from_utf8_lossy(bytes)),
    };
    let controller = ControllerLine { pid: 8, version: "0.1.0".into(), written: view.since };
    let text = status_file(&view, &controller);
    assert!(text.len() <= SIZE_MAX, "{} bytes", text.len());
    assert!(view.instances.len() > 1 || text.lines().count() <= LINES_MAX, "{text}");
    assert!(!text.chars().any(|c| is_hostile(c) && c != '\n'), "{text:?}");
    let value = read(&text);
    assert_eq!(value["service"], view.service.as_str(), "{text}");
    assert_eq!(value["status"], view.status.as_str(), "{text}");
    assert!(value["controller"]["written"].is_string(), "{text}");

    let problem = FileProblem {
        file: view.manifest.file.clone(),
        reason: Reason::ConfigInvalid,
        message: view.why.first().cloned().unwrap_or_default(),
    };
    let since = view.since;
    let dir = Path::new("/services.d").join(&view.manifest.file);
    let node = NodeView { directory_lost: view.next.clone(), problems: vec![problem], ..NodeView::default() };
    let services = [(view.service.clone(), std::sync::Arc::new(view))].into_iter().collect();
    let snapshot = Snapshot { sequence: 1, node, services };
    let info = ControllerInfo { pid: 8, keeper_pid: 1, version: "0.1.0".into(), since, working_dir: dir.clone() };
    let places = Places { logs: Some(dir.clone()), ..Places::default() };
    let file = NodeFile { snapshot: &snapshot, dir: &dir, places: &places, info: &info, heartbeat: since };
    let text = node_file(&file);
    assert!(!text.chars().any(|c| is_hostile(c) && c != '\n'), "{text:?}");
    assert_eq!(read(&text)["controller"]["pid"], 8, "{text}");
}

pub(super) fn filled(text: &str) -> ServiceView {
    let since = "2026-11-23T11:02:44.25Z";
    let view = json!({
        "service": "web", "status": "unhealthy", "reason": "CrashLoopBackOff",
        "why": [text, text], "next": text,
        "available": false, "processRunning": true, "meshRegistration": false, "required": false,
        "ready": 0, "desired": 1, "restarts": 3,
        "address": text, "check": text, "retryAt": since,
        "lastExit": {"code": 1, "signal": text, "at": since, "ranFor": "0.250s", "output": [text, text]},
        "schedule": {"cron": text, "timeZone": text, "runs": []},
        "problems": [{"type": "DependencyNotReady", "message": text, "since": since}],
        "tried": [text], "since": since,
        "instances": [{"name": text, "ready": false, "restarts": 3, "status": "unhealthy"}],
        "manifest": {"file": text, "sha256": text, "generation": 7},
        "killScope": text, "log": text,
        "labels": {text: text}, "capabilities": [text], "dependsOn": [], "settled": false,
    });
    serde_json::from_value(view).expect("a view as the API shows it")
}

/// What both readers of YAML read.
fn read(text: &str) -> Value {
    let one: Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let two: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(one, two, "{text}");
    one
}
