//! `_controller.status`: the node, its triple, and where everything lies.

use core::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::harmless::clip;
use super::report::{Cause, Report};
use super::service::{Lines, moment};
use super::yaml::{list, map, paragraph, quoted, scalar};
use crate::model::ready::node_ready;
use crate::model::reason::{Reason, Status};
use crate::model::view::{ServiceView, Snapshot};

/// Names listed of each kind. A node of 10,000 services must not write megabytes at each change;
/// `/v1/health` has them all.
const NAMES_MAX: usize = 500;
/// Files that make no service: what a person can look through.
const PROBLEMS_MAX: usize = 50;
/// Bytes of one message.
const TEXT_MAX: usize = 512;

/// Where the controller keeps what does not lie in the watched directory; none: it runs without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Where the API listens over TCP, and the file of its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
}

/// Who speaks, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerInfo {
    pub pid: u32,
    pub keeper_pid: u32,
    pub version: String,
    pub since: Timestamp,
    /// Where plugd was started, and services start.
    pub working_dir: PathBuf,
}

/// Everything that the file tells.
#[derive(Debug, Clone)]
pub struct NodeFile<'a> {
    pub snapshot: &'a Snapshot,
    /// The watched directory.
    pub dir: &'a Path,
    pub places: &'a Places,
    pub info: &'a ControllerInfo,
    /// Moved every 60 s.
    pub heartbeat: Timestamp,
}

/// The whole text of `_controller.status`.
pub fn node_file(file: &NodeFile<'_>) -> String {
    let report = Report::of(file.snapshot);
    let node = &file.snapshot.node;
    let ready = node_ready(file.snapshot);
    let mut lines = Lines(vec![headline(file.dir, &report, ready)]);
    if let Some(lost) = &node.directory_lost {
        lines.0.push(format!("# why:  DirectoryLost: {}", clip(lost, TEXT_MAX)));
        lines.0.push(
            "# next: everything is held until a manifest appears, or `plugd rm --missing` lets it go".to_string(),
        );
    }
    if let Some(why) = &node.ends_for {
        lines.0.push(format!("# why:  {}", clip(why, TEXT_MAX)));
    }
    if node.shutting_down {
        let is_over = |view: &ServiceView| view.reason == Some(Reason::ControllerStopped);
        let all_stopped = file.snapshot.services.values().all(|view| is_over(view));
        lines.0.push(match all_stopped {
            true => "# next: the next `plugd run` starts what is declared here".to_string(),
            false => "# next: all services are being stopped, then plugd ends".to_string(),
        });
    }
    if !node.shutting_down {
        lines.0.push(format!("# stop: `kill {}` stops all services in order, and plugd", file.info.keeper_pid));
    }
    lines.put("ready", ready);
    lines.put("settled", node.settled);
    if node.shutting_down {
        lines.put("shuttingDown", true);
    }
    lines.maybe("endsFor", node.ends_for.as_ref().map(|why| quoted(&clip(why, TEXT_MAX))));
    lines.maybe("directoryLost", node.directory_lost.as_ref().map(|why| quoted(&clip(why, TEXT_MAX))));

    // Before what may be long: a file is cut at its limit, and a reader finds the node by this.
    lines.put("directory", path(file.dir));
    lines.put("workingDirectory", path(&file.info.working_dir));
    let places = [
        ("state", &file.places.state),
        ("logs", &file.places.logs),
        ("run", &file.places.run),
        ("socket", &file.places.socket),
    ];
    let listen = file.places.listen.map(|at| ("listen", quoted(&at.to_string())));
    let token = file.places.token.as_ref().map(|file| ("token", path(file)));
    let places = places.into_iter().filter_map(|(key, place)| Some((key, path(place.as_ref()?))));
    lines.put("places", map(places.chain(listen).chain(token)));
    let controller = [
        ("pid", file.info.pid.to_string()),
        ("keeperPid", file.info.keeper_pid.to_string()),
        ("version", scalar(&file.info.version)),
        ("since", moment(file.info.since)),
    ];
    lines.put("controller", map(controller));
    lines.put("summary", summary(&report));

    lines.put("started", list(report.started.iter().take(NAMES_MAX).map(|name| scalar(name.as_str()))));
    if !report.pending.is_empty() {
        put_block(&mut lines, "pending", report.pending.iter().take(NAMES_MAX).map(cause));
    }
    put_block(&mut lines, "failed", report.failed.iter().take(NAMES_MAX).map(cause));
    put_block(&mut lines, "skipped", report.skipped.iter().take(NAMES_MAX).map(cause));
    let left_out = [
        ("started", report.started.len()),
        ("pending", report.pending.len()),
        ("failed", report.failed.len()),
        ("skipped", report.skipped.len()),
    ];
    let left_out: Vec<(&str, String)> = left_out
        .into_iter()
        .filter(|(_, total)| *total > NAMES_MAX)
        .map(|(key, total)| (key, (total - NAMES_MAX).to_string()))
        .collect();
    if !left_out.is_empty() {
        lines.put("leftOut", map(left_out));
    }
    if !node.problems.is_empty() {
        let each = node.problems.iter().take(PROBLEMS_MAX).map(|problem| {
            map([
                ("file", scalar(&clip(&problem.file, 256))),
                ("type", problem.reason.to_string()),
                ("message", paragraph(&problem.message, TEXT_MAX)),
            ])
        });
        put_block(&mut lines, "problems", each);
    }
    // The last of a whole file.
    lines.put("heartbeat", moment(file.heartbeat));
    lines.0.join("\n") + "\n"
}

fn headline(dir: &Path, report: &Report, ready: bool) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let word = if ready { "ready" } else { "not ready" };
    let summary = &report.summary;
    let counts: Vec<String> = Status::ALL
        .iter()
        .map(|status| (status, summary.count(*status)))
        .filter(|(_, count)| *count > 0)
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    let counts = if counts.is_empty() { "no services".to_string() } else { counts.join(", ") };
    format!("# plugd  {}  {word}  {counts}", clip(&name, 255))
}

/// The counts that are not zero, and the share.
fn summary(report: &Report) -> String {
    let summary = &report.summary;
    let mut entries = vec![("total", summary.total.to_string())];
    entries.extend(Status::ALL.iter().map(|status| (status.as_str(), summary.count(*status).to_string())));
    entries.push(("percentageHealthy", summary.percentage_healthy.to_string()));
    map(entries)
}

fn cause(cause: &Cause) -> String {
    map([("name", scalar(cause.name.as_str())), ("reason", scalar(&cause.reason))])
}

/// A list with one entry a line; `[]` where it is empty.
fn put_block(lines: &mut Lines, key: &str, entries: impl Iterator<Item = String>) {
    let entries: Vec<String> = entries.map(|entry| format!("- {entry}")).collect();
    if entries.is_empty() {
        lines.put(key, "[]");
    } else {
        lines.0.push(format!("{key}:"));
        lines.0.extend(entries);
    }
}

/// A path in full: a reader opens it.
fn path(path: &Path) -> String {
    scalar(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::model::reason::Reason;
    use crate::model::text::samples::{at, down, healthy, read, snapshot};
    use crate::model::view::FileProblem;

    fn file(snapshot: &Snapshot) -> String {
        let places = Places {
            state: Some("/var/lib/plugd/services.d-1f3a9c".into()),
            logs: Some("/var/log/plugd/services.d-1f3a9c".into()),
            run: None,
            socket: None,
            ..Places::default()
        };
        let info = ControllerInfo {
            pid: 8,
            keeper_pid: 1,
            version: "0.1.0".to_string(),
            since: at("2026-11-23T11:02:40Z"),
            working_dir: "/app".into(),
        };
        let heartbeat = at("2026-11-23T11:03:40Z");
        node_file(&NodeFile { snapshot, dir: Path::new("/app/services.d"), places: &places, info: &info, heartbeat })
    }

    #[test]
    fn the_node_names_what_started_failed_and_was_skipped() {
        let mut snapshot = snapshot([
            healthy("a"),
            down("b", Status::Skipped, Some(Reason::WrapperNotFound)),
            down("c", Status::Unhealthy, Some(Reason::BackOff)),
        ]);
        snapshot.node.problems = vec![FileProblem {
            file: "d: e.yaml".to_string(),
            reason: Reason::NameInvalid,
            message: "no \"name\"".to_string(),
        }];
        assert_snapshot!(file(&snapshot), @r#"
        # plugd  services.d  not ready  1 healthy, 1 unhealthy, 1 skipped
        # stop: `kill 1` stops all services in order, and plugd
        ready: false
        settled: true
        directory: /app/services.d
        workingDirectory: /app
        places: {state: /var/lib/plugd/services.d-1f3a9c, logs: /var/log/plugd/services.d-1f3a9c}
        controller: {pid: 8, keeperPid: 1, version: 0.1.0, since: 2026-11-23T11:02:40Z}
        summary: {total: 3, starting: 0, running: 0, healthy: 1, degraded: 0, unhealthy: 1, waiting: 0, stopping: 0, stopped: 0, skipped: 1, failed: 0, completed: 0, percentageHealthy: 33.33}
        started: [a]
        failed:
        - {name: c, reason: BackOff}
        skipped:
        - {name: b, reason: WrapperNotFound}
        problems:
        - {file: "d: e.yaml", type: NameInvalid, message: "no \"name\""}
        heartbeat: 2026-11-23T11:03:40Z
        "#);
    }

    #[test]
    fn a_node_that_ends_without_services_says_what_comes_next_as_one_with_some() {
        let mut ended = snapshot([down("a", Status::Stopped, Some(Reason::ControllerStopped))]);
        let mut empty = snapshot([]);
        let mut ends = snapshot([healthy("a")]);
        for (known, next) in [
            (&mut ended, "# next: the next `plugd run` starts what is declared here"),
            (&mut empty, "# next: the next `plugd run` starts what is declared here"),
            (&mut ends, "# next: all services are being stopped, then plugd ends"),
        ] {
            known.node.shutting_down = true;
            assert_eq!(file(known).lines().nth(1), Some(next));
        }
    }

    #[test]
    fn where_everything_lies_stands_before_what_may_be_long() {
        let names: Vec<String> = (0..1_000).map(|number| format!("a-service-with-a-long-name-{number}")).collect();
        let text = file(&snapshot(names.iter().map(|name| down(name, Status::Failed, Some(Reason::ConfigInvalid)))));
        let at = |key: &str| text.find(key).expect(key);
        assert!(text.len() > 16 * 1024 && at("\nplaces:") < 4_096 && at("keeperPid:") < 4_096, "{text}");
    }

    #[test]
    fn an_empty_node_is_ready() {
        let value = read(&file(&snapshot([])));
        assert_eq!(value["ready"], true);
        assert_eq!(value["started"], serde_json::json!([]));
        assert_eq!(value["failed"], serde_json::json!([]));
        assert_eq!(value["summary"]["percentageHealthy"], 100);
    }

    #[test]
    fn a_lost_directory_is_said_first_and_makes_the_node_not_ready() {
        let mut snapshot = snapshot([healthy("a")]);
        snapshot.node.directory_lost = Some("it is gone\nready: true".to_string());
        let text = file(&snapshot);
        assert!(
            text.starts_with(
                "# plugd  services.d  not ready  1 healthy\n# why:  DirectoryLost: it is gone\\nready: true\n# next: "
            ),
            "{text}"
        );
        assert_eq!(read(&text)["ready"], false);
    }

    #[test]
    fn a_large_node_lists_500_names_of_each_kind_and_counts_the_rest() {
        let views = (0..1_200).map(|i| healthy(&format!("service-with-a-rather-long-name-{i}")));
        let value = read(&file(&snapshot(views)));
        assert_eq!(value["started"].as_array().map(Vec::len), Some(500));
        assert_eq!(value["leftOut"]["started"], 700);
        assert_eq!(value["summary"]["total"], 1_200);
    }

    #[test]
    fn the_places_are_read_back_by_a_client() {
        #[derive(Deserialize)]
        struct File {
            places: Places,
        }
        let file: File = serde_yaml::from_str(&file(&snapshot([]))).expect("valid");
        assert_eq!(file.places.logs.as_deref(), Some(Path::new("/var/log/plugd/services.d-1f3a9c")));
        assert_eq!(file.places.socket, None);
    }
}
