//! `NAME.status`: one service for `cat`, and for every parser of YAML.
//!
//! Comment lines for people come first, then the five keys of the older mesh, then the rest in a
//! fixed order. What is absent is left out. Everything is bounded: at most 25 lines for one
//! instance, at most 16 KiB in all.

use std::time::Duration;

use jiff::Timestamp;

use super::harmless::clip;
use super::word::span;
use super::yaml::{list, map, paragraph, quoted, scalar};
use crate::model::reason::Status;
use crate::model::view::{ExitView, InstanceView, ManifestView, Problem, RunView, ScheduleView, ServiceView};

/// The size of a file, in bytes: four pages, read in one `read` by whoever watches.
pub const SIZE_MAX: usize = 16 * 1024;
/// Lines of a file with one instance: half a terminal.
const LINES_MAX: usize = 25;
/// Instances that are listed; the API has them all.
const INSTANCES_MAX: usize = 50;
/// Paths of `tried`: the three places, and a few `--wrappers`.
const TRIED_MAX: usize = 10;
/// Problems that are listed, most important first.
const PROBLEMS_MAX: usize = 10;
/// Lines of `lastExit.output`, the newest.
const OUTPUT_MAX: usize = 20;
/// How much of one text is shown, in bytes: the first that keeps the file within `SIZE_MAX`.
const TEXT_LIMITS: [usize; 4] = [1024, 512, 192, 48];

/// The process that wrote the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerLine {
    pub pid: u32,
    pub version: String,
    pub written: Timestamp,
}

/// The whole text of `NAME.status`.
pub fn status_file(view: &ServiceView, controller: &ControllerLine) -> String {
    let mut text = String::new();
    for limit in TEXT_LIMITS {
        text = print(view, controller, limit);
        if text.len() <= SIZE_MAX {
            break;
        }
    }
    text
}

/// The text without the moment of writing: two files that differ in nothing else are equal.
pub fn strip_written(text: &str) -> String {
    let Some(line) = text.rfind("\ncontroller: {") else { return text.to_string() };
    let (before, last) = text.split_at(line);
    let Some(at) = last.find(", written: ") else { return text.to_string() };
    let tail = last[at..].find('}').map_or("", |end| &last[at + end..]);
    format!("{before}{}{tail}", &last[..at])
}

fn print(view: &ServiceView, controller: &ControllerLine, limit: usize) -> String {
    let body = body(view, limit);
    let tail = tail(view, controller, limit);
    let next = view.told_next().map(|next| format!("# next: {}", clip(&next, limit)));
    let problems: Vec<String> = view.problems.iter().take(PROBLEMS_MAX).map(|each| problem(each, limit)).collect();
    let why = view.edit_not_in_force().into_iter().chain(view.why.iter().filter(|line| !line.is_empty()).cloned());
    let why: Vec<String> = why.take(PROBLEMS_MAX).map(|line| clip(&line, limit)).collect();

    // The header, and one line each for `why` and `problems`, are always there; what is left of the
    // 25 lines goes to `why`, then to `problems`.
    let taken = 1 + usize::from(next.is_some()) + body.len() + tail.len();
    let mut spare = LINES_MAX.saturating_sub(taken + usize::from(!why.is_empty()) + usize::from(!problems.is_empty()));
    let mut lines = vec![headline(view)];
    if why.len() <= spare + 1 {
        spare -= why.len().saturating_sub(1);
        lines.extend(
            why.iter().enumerate().map(|(i, line)| format!("# {}{line}", if i == 0 { "why:  " } else { "      " })),
        );
    } else {
        lines.push(format!("# why:  {}", why.join("; ")));
    }
    lines.extend(next);
    lines.extend(body);
    if !problems.is_empty() && problems.len() <= spare {
        lines.push("problems:".to_string());
        lines.extend(problems.into_iter().map(|each| format!("- {each}")));
    } else if !problems.is_empty() {
        lines.push(format!("problems: {}", list(problems)));
    }
    lines.extend(tail);
    lines.join("\n") + "\n"
}

fn headline(view: &ServiceView) -> String {
    let mut parts = vec![view.service.to_string()];
    parts.push(match view.reason {
        Some(reason) => format!("{} ({reason})", view.status),
        None => view.status.to_string(),
    });
    match view.status {
        Status::Skipped => parts.push("optional: nothing else is affected".to_string()),
        Status::Completed | Status::Stopped => parts.push(format!("since {}", moment(view.since))),
        Status::Failed if view.required => parts.push("required: the node is not ready".to_string()),
        Status::Starting
        | Status::Running
        | Status::Healthy
        | Status::Degraded
        | Status::Unhealthy
        | Status::Waiting
        | Status::Stopping
        | Status::Failed => {
            parts.push(format!("{}/{} ready", view.ready, view.desired));
            parts.push(format!("since {}", moment(view.since)));
        }
    }
    format!("# {}", parts.join("  "))
}

/// From `service:` to `tried:`.
fn body(view: &ServiceView, limit: usize) -> Vec<String> {
    let skipped = view.status == Status::Skipped;
    let single = single(view);
    let mut lines = Lines::default();
    lines.put("service", scalar(view.service.as_str()));
    lines.put("status", view.status);
    lines.maybe("reason", view.reason);
    lines.put("available", view.available);
    lines.put("processRunning", view.process_running);
    lines.put("meshRegistration", view.mesh_registration);
    if view.required || skipped {
        lines.put("required", view.required);
    }
    if !skipped {
        lines.put("ready", format_args!("{}/{}", view.ready, view.desired));
        lines.put("restarts", view.restarts);
    }
    lines.maybe("pid", single.and_then(|instance| instance.pid));
    lines.maybe("address", view.address.as_ref().map(|text| scalar(&clip(text, limit))));
    lines.maybe("check", view.check.as_ref().map(|text| scalar(&clip(text, limit))));
    lines.maybe("retryAt", view.retry_at.map(moment));
    lines.maybe("schedule", view.schedule.as_ref().map(|view| schedule(view, limit)));
    lines.maybe("lastExit", view.last_exit.as_ref().map(|exit| last_exit(exit, limit)));
    if !view.tried.is_empty() {
        lines.put("tried", list(view.tried.iter().take(TRIED_MAX).map(|path| scalar(&clip(path, limit)))));
    }
    lines.0
}

/// From `since:` to `controller:`.
fn tail(view: &ServiceView, controller: &ControllerLine, limit: usize) -> Vec<String> {
    let mut lines = Lines::default();
    lines.put("since", moment(view.since));
    lines.put("manifest", manifest(&view.manifest, limit));
    lines.maybe("killScope", view.kill_scope.as_ref().map(|scope| scalar(&clip(scope, limit))));
    lines.maybe("log", view.log.as_ref().map(|path| scalar(&clip(path, limit.max(256)))));
    if single(view).is_none() && !view.instances.is_empty() {
        lines.0.push("instances:".to_string());
        lines.0.extend(view.instances.iter().take(INSTANCES_MAX).map(|each| format!("- {}", instance(each))));
    }
    let written = [
        ("pid", controller.pid.to_string()),
        ("version", scalar(&controller.version)),
        ("written", moment(controller.written)),
    ];
    lines.put("controller", map(written));
    lines.0
}

/// The only instance of a service that wants one.
fn single(view: &ServiceView) -> Option<&InstanceView> {
    match view.instances.as_slice() {
        [only] if view.desired <= 1 => Some(only),
        _ => None,
    }
}

fn instance(view: &InstanceView) -> String {
    let mut entries = vec![("name", scalar(&clip(&view.name, 80)))];
    entries.extend(view.pid.map(|pid| ("pid", pid.to_string())));
    entries.extend(view.port.map(|port| ("port", port.to_string())));
    entries.push(("ready", view.ready.to_string()));
    entries.push(("restarts", view.restarts.to_string()));
    entries.extend(view.reason.map(|reason| ("reason", reason.to_string())));
    map(entries)
}

fn last_exit(exit: &ExitView, limit: usize) -> String {
    let mut entries = Vec::new();
    entries.extend(exit.code.map(|code| ("code", code.to_string())));
    entries.extend(exit.signal.as_ref().map(|signal| ("signal", scalar(&clip(signal, 32)))));
    entries.extend(exit.reason.map(|reason| ("reason", reason.to_string())));
    entries.extend(exit.by.as_ref().map(|by| ("by", scalar(&clip(by, limit)))));
    entries.push(("at", moment(exit.at)));
    entries.push(("ranFor", scalar(&span(exit.ran_for))));
    if !exit.output.is_empty() {
        // The newest lines, as many as fit into the 2 KiB that are promised.
        let mut room = 2 * limit;
        let newest: Vec<String> = exit
            .output
            .iter()
            .rev()
            .take(OUTPUT_MAX)
            .map(|line| quoted(&clip(line, limit)))
            .take_while(|line| {
                let fits = line.len() <= room + 2 * limit && room > 0;
                room = room.saturating_sub(line.len());
                fits
            })
            .collect();
        entries.push(("output", list(newest.into_iter().rev())));
    }
    map(entries)
}

fn schedule(view: &ScheduleView, limit: usize) -> String {
    let mut entries =
        vec![("cron", quoted(&clip(&view.cron, limit))), ("timeZone", scalar(&clip(&view.time_zone, 64)))];
    entries.extend(view.next_run.map(|at| ("nextRun", moment(at))));
    entries.extend(view.runs.last().map(|last| ("lastRun", run(last))));
    map(entries)
}

fn run(view: &RunView) -> String {
    let mut entries = Vec::new();
    entries.extend(view.scheduled.map(|at| ("scheduled", moment(at))));
    entries.extend(view.started.map(|at| ("started", moment(at))));
    entries.push(("result", view.result.word().into()));
    entries.extend(view.code.map(|code| ("code", code.to_string())));
    let took = view.took_seconds.and_then(|took| Duration::try_from_secs_f64(took).ok());
    entries.extend(took.map(|took| ("took", scalar(&span(took)))));
    map(entries)
}

fn problem(problem: &Problem, limit: usize) -> String {
    map([
        ("type", problem.reason.to_string()),
        ("message", paragraph(&problem.message, limit)),
        ("since", moment(problem.since)),
    ])
}

fn manifest(view: &ManifestView, limit: usize) -> String {
    let mut entries = vec![
        ("file", scalar(&clip(&view.file, limit.max(256)))),
        ("sha256", scalar(&clip(&view.sha256, 64))),
        ("generation", view.generation.to_string()),
    ];
    entries.extend(view.in_force.map(|generation| ("inForce", generation.to_string())));
    if let Some(rejected) = &view.rejected {
        let inner = [("sha256", scalar(&clip(&rejected.sha256, 64))), ("at", moment(rejected.at))];
        entries.push(("rejected", map(inner)));
    }
    map(entries)
}

/// Whole seconds: a file is for people, and a moment is no stopwatch.
pub(super) fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// `key: value` lines of a block map.
#[derive(Default)]
pub(super) struct Lines(pub(super) Vec<String>);

impl Lines {
    pub(super) fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.push(format!("{key}: {value}"));
    }

    pub(super) fn maybe(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;
    use crate::model::reason::Reason;
    use crate::model::text::samples::{at, down, healthy, instance as instance_of, problem as problem_of, read};
    use crate::model::view::{RejectedView, RunResult};

    fn controller() -> ControllerLine {
        ControllerLine { pid: 8, version: "0.1.0".to_string(), written: at("2026-11-23T11:02:44.5Z") }
    }

    fn mailer() -> ServiceView {
        ServiceView {
            why: vec![
                "exits with 1 after 0.2 s, 6 times running: \"bind: address already in use\"; port 2525 is held by pid 977 (postfix)"
                    .to_string(),
            ],
            next: Some("tries again at 2026-11-23T12:30:34Z; at once after an edit or `plugd start mailer`".to_string()),
            restarts: 5,
            retry_at: Some(at("2026-11-23T12:30:34Z")),
            last_exit: Some(ExitView {
                code: Some(1),
                signal: None,
                reason: None,
                by: None,
                at: at("2026-11-23T12:30:18Z"),
                ran_for: Duration::from_millis(214),
                output: vec!["bind: address already in use".to_string()],
            }),
            problems: vec![problem_of(Reason::AddressInUse, "port 2525 is held by pid 977 (postfix)")],
            since: at("2026-11-23T12:30:02Z"),
            ..down("mailer", Status::Unhealthy, Some(Reason::CrashLoopBackOff))
        }
    }

    fn nightly(cron: &str) -> ScheduleView {
        let run = |day: &str, code: Option<i32>, result: RunResult| RunView {
            scheduled: Some(at(&format!("{day}T02:00:00Z"))),
            started: Some(at(&format!("{day}T02:00:00.1Z"))),
            result,
            code,
            took_seconds: code.map(|_| 12.3),
        };
        ScheduleView {
            cron: cron.to_string(),
            time_zone: "Europe/Berlin".to_string(),
            next_run: Some(at("2026-11-24T02:00:00Z")),
            last_success: Some(at("2026-11-23T02:00:12Z")),
            runs: vec![run("2026-11-22", Some(1), RunResult::Failed), run("2026-11-23", Some(0), RunResult::Completed)],
        }
    }

    /// Everything that a file can show at once, and more of it than there is room for.
    fn crowded(text: &str, instances: u32) -> ServiceView {
        let mut view = mailer();
        view.why = vec![text.to_string(); 30];
        view.next = Some(text.to_string());
        view.required = true;
        view.address = Some(text.to_string());
        view.check = Some(text.to_string());
        view.tried = vec![text.to_string(); 30];
        view.problems = vec![problem_of(Reason::ProbeFailed, text); 30];
        view.kill_scope = Some("session".to_string());
        view.log = Some(format!("/{text}"));
        view.last_exit.as_mut().expect("there").output = vec![text.to_string(); 60];
        view.last_exit.as_mut().expect("there").by = Some(text.to_string());
        view.last_exit.as_mut().expect("there").signal = Some("SIGKILL".to_string());
        view.manifest.rejected =
            Some(RejectedView { sha256: "0".repeat(16), at: view.since, reason: None, file: None });
        view.schedule = Some(Box::new(nightly(text)));
        view.desired = instances;
        view.instances = (0..instances).map(|i| instance_of(&format!("mailer/{i}"), Some(100_000))).collect();
        view
    }

    #[test]
    fn a_healthy_service_is_told_in_a_few_lines() {
        assert_snapshot!(status_file(&healthy("postgres"), &controller()), @r#"
        # postgres  healthy  1/1 ready  since 2026-11-23T11:02:44Z
        service: postgres
        status: healthy
        available: true
        processRunning: true
        meshRegistration: false
        ready: 1/1
        restarts: 0
        pid: 412
        address: 127.0.0.1:5432
        check: tcp 127.0.0.1:5432 passed
        since: 2026-11-23T11:02:44Z
        manifest: {file: postgres.yaml, sha256: 9f86d081884c7d65, generation: 7}
        log: /var/log/plugd/services.d-1f3a9c/postgres.log
        controller: {pid: 8, version: 0.1.0, written: 2026-11-23T11:02:44Z}
        "#);
    }

    #[test]
    fn a_job_tells_its_next_run_and_its_last() {
        let view = ServiceView {
            why: vec!["next run at 2026-11-24T02:00:00Z (03:00 in Europe/Berlin)".to_string()],
            next: Some(
                "runs at 2026-11-24T02:00:00Z (03:00 in Europe/Berlin); at once with `plugd start backup`".into(),
            ),
            schedule: Some(Box::new(nightly("0 3 * * *"))),
            settled: true,
            ..down("backup", Status::Waiting, Some(Reason::NextRun))
        };
        assert_snapshot!(status_file(&view, &controller()), @r#"
        # backup  waiting (NextRun)  0/1 ready  since 2026-11-23T11:02:44Z
        # why:  next run at 2026-11-24T02:00:00Z (03:00 in Europe/Berlin)
        # next: runs at 2026-11-24T02:00:00Z (03:00 in Europe/Berlin); at once with `plugd start backup`
        service: backup
        status: waiting
        reason: NextRun
        available: false
        processRunning: false
        meshRegistration: false
        ready: 0/1
        restarts: 0
        schedule: {cron: "0 3 * * *", timeZone: Europe/Berlin, nextRun: 2026-11-24T02:00:00Z, lastRun: {scheduled: 2026-11-23T02:00:00Z, started: 2026-11-23T02:00:00Z, result: completed, code: 0, took: 12.3s}}
        since: 2026-11-23T11:02:44Z
        manifest: {file: backup.yaml, sha256: 9f86d081884c7d65, generation: 7}
        log: /var/log/plugd/services.d-1f3a9c/backup.log
        controller: {pid: 8, version: 0.1.0, written: 2026-11-23T11:02:44Z}
        "#);
    }

    #[test]
    fn a_crash_loop_says_why_and_what_comes_next() {
        assert_snapshot!(status_file(&mailer(), &controller()), @r#"
        # mailer  unhealthy (CrashLoopBackOff)  0/1 ready  since 2026-11-23T12:30:02Z
        # why:  exits with 1 after 0.2 s, 6 times running: "bind: address already in use"; port 2525 is held by pid 977 (postfix)
        # next: tries again at 2026-11-23T12:30:34Z; at once after an edit or `plugd start mailer`
        service: mailer
        status: unhealthy
        reason: CrashLoopBackOff
        available: false
        processRunning: false
        meshRegistration: false
        ready: 0/1
        restarts: 5
        retryAt: 2026-11-23T12:30:34Z
        lastExit: {code: 1, at: 2026-11-23T12:30:18Z, ranFor: 0.2s, output: ["bind: address already in use"]}
        problems:
        - {type: AddressInUse, message: "port 2525 is held by pid 977 (postfix)", since: 2026-11-23T12:30:02Z}
        since: 2026-11-23T12:30:02Z
        manifest: {file: mailer.yaml, sha256: 9f86d081884c7d65, generation: 7}
        log: /var/log/plugd/services.d-1f3a9c/mailer.log
        controller: {pid: 8, version: 0.1.0, written: 2026-11-23T11:02:44Z}
        "#);
    }

    #[test]
    fn a_skipped_service_names_the_places_tried() {
        let view = ServiceView {
            why: vec!["wrapper files.sh is in none of the 3 places tried".to_string()],
            next: Some("starts by itself when one of them appears".to_string()),
            tried: ["services.d/files.sh", "services.d/wrappers/files.sh", "/opt/mcp/files.sh"]
                .map(String::from)
                .to_vec(),
            log: None,
            ..down("files-mcp", Status::Skipped, Some(Reason::WrapperNotFound))
        };
        assert_snapshot!(status_file(&view, &controller()), @r#"
        # files-mcp  skipped (WrapperNotFound)  optional: nothing else is affected
        # why:  wrapper files.sh is in none of the 3 places tried
        # next: starts by itself when one of them appears
        service: files-mcp
        status: skipped
        reason: WrapperNotFound
        available: false
        processRunning: false
        meshRegistration: false
        required: false
        tried: [services.d/files.sh, services.d/wrappers/files.sh, /opt/mcp/files.sh]
        since: 2026-11-23T11:02:44Z
        manifest: {file: files-mcp.yaml, sha256: 9f86d081884c7d65, generation: 7}
        controller: {pid: 8, version: 0.1.0, written: 2026-11-23T11:02:44Z}
        "#);
    }

    #[test]
    fn several_instances_have_a_line_each_and_no_pid_of_all() {
        let view = ServiceView {
            ready: 1,
            desired: 2,
            instances: vec![instance_of("orders/0", Some(412)), instance_of("orders/1", None)],
            why: vec!["orders/1 is down".to_string()],
            ..ServiceView { status: Status::Degraded, reason: Some(Reason::InstanceDown), ..healthy("orders") }
        };
        assert_snapshot!(status_file(&view, &controller()), @r#"
        # orders  degraded (InstanceDown)  1/2 ready  since 2026-11-23T11:02:44Z
        # why:  orders/1 is down
        service: orders
        status: degraded
        reason: InstanceDown
        available: true
        processRunning: true
        meshRegistration: false
        ready: 1/2
        restarts: 0
        address: 127.0.0.1:5432
        check: tcp 127.0.0.1:5432 passed
        since: 2026-11-23T11:02:44Z
        manifest: {file: orders.yaml, sha256: 9f86d081884c7d65, generation: 7}
        log: /var/log/plugd/services.d-1f3a9c/orders.log
        instances:
        - {name: orders/0, pid: 412, ready: true, restarts: 0}
        - {name: orders/1, ready: false, restarts: 0}
        controller: {pid: 8, version: 0.1.0, written: 2026-11-23T11:02:44Z}
        "#);
    }

    #[test]
    fn the_five_keys_of_the_older_mesh_come_first() {
        let text = status_file(&healthy("postgres"), &controller());
        let keys: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(':').next())
            .take(5)
            .collect();
        assert_eq!(keys, ["service", "status", "available", "processRunning", "meshRegistration"]);
    }

    #[test]
    fn a_rejected_edit_is_named_beside_what_is_in_force() {
        let mut view = healthy("postgres");
        view.manifest.rejected = Some(RejectedView {
            sha256: "1234567890123456".to_string(),
            at: view.since,
            reason: Some(Reason::ConfigInvalid),
            file: Some("postgres.yaml".into()),
        });
        view.problems.push(Problem {
            reason: Reason::ConfigInvalid,
            message: "postgres.yaml:2:1: unknown field `prt`\nhelp".into(),
            since: view.since,
            cause: None,
        });
        let file = |why: &[&str], next: Option<&str>, reason| {
            let why = why.iter().map(|line| line.to_string()).collect();
            let view = ServiceView { why, next: next.map(String::from), reason, ..view.clone() };
            let file = status_file(&view, &controller());
            file.lines().skip(1).take_while(|line| line.starts_with('#')).map(String::from).collect::<Vec<_>>()
        };
        let block = "# why:  ConfigInvalid: postgres.yaml:2:1: unknown field `prt`";
        assert_eq!(file(&[], None, None), [block, "# next: mend postgres.yaml"]);
        let loops = ["exits with 3"];
        let told = file(&loops, Some("tries again"), Some(Reason::BackOff));
        assert_eq!(told, [block, "#       exits with 3", "# next: mend postgres.yaml; tries again"]);
        // It never was valid, or nothing is in force any more: that is said already.
        assert_eq!(file(&loops, None, Some(Reason::ConfigInvalid)), ["# why:  exits with 3"]);
        assert_eq!(file(&loops, None, Some(Reason::ControllerStopped)), ["# why:  exits with 3"]);
        let value = read(&status_file(&view, &controller()));
        assert_eq!(value["manifest"]["rejected"]["sha256"], "1234567890123456");
        assert_eq!(value["manifest"]["sha256"], "9f86d081884c7d65");
    }

    #[test]
    fn only_the_moment_of_writing_is_stripped() {
        let early = status_file(&mailer(), &controller());
        let late = status_file(&mailer(), &ControllerLine { written: at("2027-01-01T00:00:00Z"), ..controller() });
        assert_ne!(early, late);
        assert_eq!(strip_written(&early), strip_written(&late));
        assert!(strip_written(&early).ends_with("controller: {pid: 8, version: 0.1.0}\n"));
        let other = status_file(&mailer(), &ControllerLine { pid: 9, ..controller() });
        assert_ne!(strip_written(&early), strip_written(&other));
        assert_eq!(strip_written("no file of ours"), "no file of ours");
    }

    #[test]
    fn one_instance_fits_25_lines_and_everything_16_kib() {
        for text in ["short", &"x".repeat(5_000), &"\u{1b}\n\"\\".repeat(2_000), &"é".repeat(3_000)] {
            for instances in [0, 1, 2, 50, 1_000] {
                let file = status_file(&crowded(text, instances), &controller());
                assert!(file.len() <= SIZE_MAX, "{} bytes with {instances}", file.len());
                if instances <= 1 {
                    assert!(file.lines().count() <= 25, "{} lines", file.lines().count());
                }
                let value = read(&file);
                assert_eq!(value["problems"].as_array().map(Vec::len), Some(10));
                assert_eq!(
                    value["instances"].as_array().map_or(0, Vec::len),
                    match instances {
                        0 | 1 => 0,
                        n => n.min(50) as usize,
                    }
                );
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_text_changes_no_other_key(text in any::<String>()) {
            let file = status_file(&crowded(&text, 1), &controller());
            prop_assert!(!file.chars().any(|c| c.is_control() && c != '\n'));
            let value = read(&file);
            prop_assert_eq!(&value["service"], "mailer");
            prop_assert_eq!(&value["status"], "unhealthy");
            prop_assert_eq!(&value["available"], &serde_json::Value::Bool(false));
            prop_assert_eq!(&value["controller"]["pid"], 8);
        }
    }
}
