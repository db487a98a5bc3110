//! The command line as a person meets it: help, tables and texts made of hand-made snapshots, and
//! the built binary where no controller runs.
#![expect(clippy::disallowed_methods, reason = "the built program is started, and files are made for it")]

#[expect(dead_code, reason = "each suite uses its part of the samples")]
#[path = "../src/model/text/samples.rs"]
mod samples;

#[path = "cli/history.rs"]
mod history;
#[path = "cli/top.rs"]
mod top;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use plugd::cli::args::GetOutput;
use plugd::cli::look::{Look, columns};
use plugd::cli::row::{self, Row};
use plugd::cli::table::{Shape, table};
use plugd::cli::{get, help, status, steer, wait};
use plugd::controller::Order;
use plugd::model::name::Name;
use plugd::model::ready;
use plugd::model::reason::{Reason, Status};
use plugd::model::text::Charset;
use plugd::model::view::{ExitView, FileProblem, InstanceView, ServiceView, Snapshot};
use samples::{at, snapshot};

const TERMINAL: Look = Look { terminal: true, color: false, width: Some(80), charset: Charset::Unicode };

fn now() -> Timestamp {
    at("2026-11-23T12:33:02Z")
}

/// A healthy service with one instance; tests change what they are about.
fn view(name: &str) -> ServiceView {
    ServiceView {
        since: at("2026-11-23T11:02:44Z"),
        instances: vec![instance(name, 412)],
        kill_scope: Some("session".into()),
        ..samples::healthy(name)
    }
}

fn instance(name: &str, pid: i32) -> InstanceView {
    InstanceView { started: Some(at("2026-11-23T11:02:43Z")), ..samples::instance(name, Some(pid)) }
}

fn down(name: &str, status: Status, reason: Reason, why: &str) -> ServiceView {
    ServiceView {
        why: vec![why.into()],
        since: at("2026-11-23T12:30:02Z"),
        kill_scope: Some("session".into()),
        ..samples::down(name, status, Some(reason))
    }
}

fn mailer() -> ServiceView {
    ServiceView {
        restarts: 5,
        next: Some("tries again at 2026-11-23T12:30:34Z; at once after an edit or `plugd start mailer`".into()),
        schedule: None,
        last_exit: Some(ExitView {
            code: Some(1),
            signal: None,
            reason: None,
            by: None,
            at: at("2026-11-23T12:30:18Z"),
            ran_for: std::time::Duration::from_millis(200),
            output: vec!["bind: \x1b[31maddress already in use".into()],
        }),
        problems: vec![samples::problem(Reason::AddressInUse, "port 2525 is held by pid 977 (postfix)")],
        ..down(
            "mailer",
            Status::Unhealthy,
            Reason::CrashLoopBackOff,
            "exits with 1 after 0.2 s, 6 times running: \"bind: address already in use\"; port 2525 is held by pid 977",
        )
    }
}

fn some() -> Snapshot {
    let mut some = snapshot(vec![
        view("postgres"),
        mailer(),
        down(
            "files-mcp",
            Status::Skipped,
            Reason::WrapperNotFound,
            "wrapper files.sh is in none of the 3 places tried",
        ),
        ServiceView {
            depends_on: vec![Name::parse("mailer").expect("valid")],
            ..down("orders", Status::Waiting, Reason::DependencyNotReady, "waits for mailer to be ready")
        },
    ]);
    some.node.problems = vec![FileProblem {
        file: "orders-copy.yaml".into(),
        reason: Reason::NameConflict,
        message: "orders belongs to orders.yaml".into(),
    }];
    some
}

// ── help ──

#[test]
fn the_first_screen_fits_80_by_24_and_shows_the_verbs_of_every_day() {
    let text = help::short();
    assert!(text.lines().count() < 24, "a prompt needs a line, too");
    for line in text.lines().chain(help::all().lines()) {
        assert!(columns(line) <= 80, "{line}");
    }
    // Twelve, of which `mcp` is not built yet.
    assert_eq!(help::LINES.iter().filter(|line| line.first).count(), 11);
    assert!(!help::all().contains("mcp"));
    insta::assert_snapshot!("help", text);
    insta::assert_snapshot!("help_all", help::all());
}

#[test]
fn every_verb_explains_itself_in_the_width_of_a_terminal() {
    for line in help::LINES {
        let verb = line.usage.split(' ').next().expect("a verb");
        let output = plugd(Path::new("/"), &["help", verb]);
        assert_eq!(output.status.code(), Some(0), "{verb}");
        assert!(out(&output).contains("Usage: plugd"), "{verb}");
        for line in out(&output).lines() {
            assert!(columns(line) <= 100, "{verb}: {line}");
        }
    }
}

// ── the table ──

#[test]
fn a_terminal_gets_trouble_first_with_signs_and_cut_to_its_width() {
    let mut rows = row::all(&some());
    row::sort_by_trouble(&mut rows);
    let text = table(&rows, Shape::Normal, true, &TERMINAL, now());
    insta::assert_snapshot!("table_terminal", text);
    for line in text.lines() {
        assert!(columns(line) <= 80, "{line}");
    }
}

#[test]
fn a_pipe_gets_words_alone_and_nothing_is_cut() {
    let rows: Vec<Row> = some().services.values().map(|view| Row::of(view)).collect();
    insta::assert_snapshot!("table_pipe", table(&rows, Shape::Normal, true, &Look::PLAIN, now()));
    insta::assert_snapshot!("table_wide", table(&rows, Shape::Wide, true, &Look::PLAIN, now()));
}

#[test]
fn colour_never_stands_alone() {
    let look = Look { color: true, charset: Charset::Ascii, ..TERMINAL };
    let text = table(&[Row::of(&mailer())], Shape::Normal, false, &look, now());
    assert!(text.contains("\x1b[31mx unhealthy (CrashLoopBackOff)\x1b[0m"), "{text:?}");
}

#[test]
fn hostile_text_cannot_reach_the_terminal() {
    let bad = down("bad", Status::Failed, Reason::Error, "\x1b]0;title\x07\u{202e}gone\nnext line");
    let shown = table(&[Row::of(&bad)], Shape::Wide, true, &TERMINAL, now())
        + &status::text(&bad, &snapshot(vec![bad.clone()]), &TERMINAL, now());
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(!shown.contains('\u{202e}'));
}

#[test]
fn a_long_name_or_a_narrow_terminal_breaks_no_table() {
    let long = "a".repeat(63);
    let mut some = some();
    some.services.insert(Name::parse(&long).expect("valid"), view(&long).into());
    let mut rows = row::all(&some);
    row::sort_by_trouble(&mut rows);
    for width in [80, 40] {
        let look = Look { width: Some(width), ..TERMINAL };
        let text = table(&rows, Shape::Normal, true, &look, now());
        insta::assert_snapshot!(format!("table_{width}_columns"), text);
        for line in text.lines().filter(|line| !line.contains(&long)) {
            assert!(columns(line) <= width, "{line}");
        }
        for line in status::text(&mailer(), &some, &look, now()).lines() {
            assert!(columns(line) <= width || !line.trim().contains(' ') || line.contains("log"), "{line}");
        }
    }
}

// ── status ──

#[test]
fn status_tells_the_cause_and_the_next_step_first() {
    insta::assert_snapshot!("status_mailer", status::text(&mailer(), &some(), &TERMINAL, now()));
}

#[test]
fn status_follows_the_dependencies_to_the_one_with_a_cause_of_its_own() {
    let some = some();
    let orders = some.services.get("orders").expect("there");
    insta::assert_snapshot!("status_orders", status::text(orders, &some, &TERMINAL, now()));
}

#[test]
fn status_tells_of_the_dependency_that_was_lost_and_of_no_other() {
    let name = |name: &str| Name::parse(name).expect("valid");
    let causes = |lost: &str| {
        let some = some();
        let dep = ServiceView {
            depends_on: vec![name("mailer"), name("files-mcp"), name("postgres")],
            lost: Some(name(lost)),
            ..down("dep", Status::Stopped, Reason::DependencyLost, "it was not ready any more")
        };
        let text = status::text(&dep, &some, &Look { width: None, ..TERMINAL }, now());
        let rows = text.lines().skip_while(|line| !line.starts_with("  cause")).take_while(|line| !line.is_empty());
        rows.map(|line| line.trim().to_string()).collect::<Vec<_>>().join("\n")
    };
    let told = causes("mailer");
    assert!(told.contains("mailer is unhealthy (CrashLoopBackOff)") && !told.contains("files-mcp"), "{told}");
    assert_eq!(causes("postgres"), "", "it is well again");
}

// ── data ──

#[test]
fn the_summary_counts_and_names() {
    insta::assert_snapshot!("summary", get::summary(&some(), &GetOutput::Table, &Look::PLAIN));
    let data: serde_json::Value =
        serde_json::from_str(&get::summary(&some(), &GetOutput::Json, &Look::PLAIN)).expect("JSON");
    assert_eq!(data["summary"]["total"], 4);
    assert_eq!(data["started"], serde_json::json!(["postgres"]));
    assert_eq!(data["skipped"][0]["reason"], "WrapperNotFound");
}

// ── when something is ready ──

#[test]
fn the_node_is_ready_when_its_required_services_are() {
    let required = |view: ServiceView| ServiceView { required: true, ..view };
    let ready = |views: Vec<ServiceView>, all: bool| wait::is_ready(&snapshot(views), &[], all);

    assert!(ready(vec![required(view("db")), mailer()], false), "only the required count");
    assert!(!ready(vec![required(view("db")), mailer()], true), "--all means the others, too");
    assert!(!ready(vec![view("db"), required(mailer())], false));
    assert!(!ready(vec![view("db"), mailer()], false), "none is required: all that should run");

    let skipped = down("x", Status::Skipped, Reason::WrapperNotFound, "");
    let stopped = down("y", Status::Stopped, Reason::StoppedByOperator, "");
    let job = required(ServiceView { status: Status::Completed, settled: true, ..view("job") });
    assert!(ready(vec![view("db"), skipped.clone(), stopped], false), "skipped and stopped are not waited for");
    assert!(ready(vec![job, skipped], true), "a job that completed is ready");

    let mut early = snapshot(Vec::new());
    early.node.settled = false;
    assert!(!wait::is_ready(&early, &[], false), "before the first scan an empty node is not ready");
    assert!(ready(Vec::new(), false), "a settled empty node is");
}

#[test]
fn an_order_is_done_when_the_view_shows_it_and_not_before() {
    let before = view("web");
    let newer = ServiceView { instances: vec![instance("web", 500)], ..view("web") };
    assert!(!steer::is_done(Order::Restart, &before, &before), "the view from before says nothing");
    assert!(steer::is_done(Order::Restart, &before, &newer));
    assert!(!steer::is_done(Order::Stop, &before, &before));
    assert!(steer::is_done(Order::Stop, &before, &down("web", Status::Stopped, Reason::StoppedByOperator, "")));
    assert!(!steer::is_done(Order::Scale(3), &before, &before));
    assert!(ready::is_ready(&newer));
}

// ── the binary, where no controller runs ──

fn plugd(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plugd"))
        .args(words)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("COLUMNS", "80")
        .env("PLUGD_RUN_DIR", dir.join("no-run"))
        .stdin(Stdio::null())
        .output()
        .expect("plugd can be started")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with an empty `services.d`.
fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().expect("a temp folder");
    std::fs::create_dir(world.path().join("services.d")).expect("services.d");
    world
}

#[test]
fn verbs_that_need_a_controller_say_so_with_6() {
    let world = world();
    for words in [
        &["get"][..],
        &["status", "web"],
        &["start", "web"],
        &["stop", "web"],
        &["restart", "web"],
        &["scale", "web=2"],
        &["signal", "HUP", "web"],
        &["exec", "web", "--", "true"],
        &["events"],
        &["rm", "--missing"],
        &["wait", "--timeout", "50ms"],
    ] {
        let output = plugd(world.path(), words);
        assert_eq!(output.status.code(), Some(6), "{words:?}: {}", err(&output));
        assert!(err(&output).starts_with("plugd: no controller answers for services.d; "), "{}", err(&output));
        assert!(out(&output).is_empty(), "{words:?} prints no data");
    }
}

#[test]
fn without_a_controller_get_tells_what_the_status_files_last_said() {
    let world = world();
    let text = "# web  healthy  1/1 ready\nservice: web\nstatus: healthy\nready: 1/1\nrestarts: 2\n";
    std::fs::write(world.path().join("services.d/web.status"), text).expect("written");

    let output = plugd(world.path(), &["get"]);

    assert_eq!(output.status.code(), Some(6));
    assert!(out(&output).lines().any(|line| line.starts_with("web   1/1    healthy  2")), "{}", out(&output));
    assert!(err(&output).contains("last said"));
}

#[test]
fn wrong_usage_is_2_and_says_what_to_write() {
    let world = world();
    for (words, hint) in [
        (&["frobnicate"][..], "there is no verb frobnicate; `plugd help --all`"),
        (&["wait", "--timeout", "10"], "10s"),
        (&["get", "-o", "xml"], "jsonpath"),
        (&["scale", "web"], "web=3"),
        (&["logs", "--grep", "("], "regular expression"),
        (&["add", "web"], "-- CMD"),
        (&["help", "frobnicate"], "help --all"),
        (&["run", "--trust", "nobody"], "strict"),
        (&[], "kubelet"),
    ] {
        let mut words = words.to_vec();
        if words.first() == Some(&"logs") {
            words.extend(["web", "--state-dir", "."]);
        }
        let output = plugd(world.path(), &words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", err(&output));
        assert!(err(&output).contains(hint), "{words:?}: {}", err(&output));
    }
}

#[test]
fn check_tells_what_looks_like_a_service_and_is_none() {
    let world = world();
    std::fs::write(world.path().join("services.d/web.conf"), "[program:web]\ncommand=true\n").expect("written");
    let output = plugd(world.path(), &["check"]);
    let told = out(&output) + &err(&output);
    assert!(
        told.contains("web.conf is not read, and not by another name alone: write what it runs as `command: "),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(0), "{told}");
}

#[test]
fn check_tells_of_folders_whose_manifests_are_not_read() {
    let world = world();
    let services = world.path().join("services.d");
    for (folder, file, text) in [
        ("team", "in.yaml", "command: sleep 1000\n"),
        ("prometheus", "prometheus.yml", "global: {scrape_interval: 15s}\n"),
        ("wrappers", "w.yaml", "command: sleep 1000\n"),
        (".git", "g.yaml", "command: sleep 1000\n"),
    ] {
        std::fs::create_dir_all(services.join(folder)).expect("made");
        std::fs::write(services.join(folder).join(file), text).expect("written");
    }
    let output = plugd(world.path(), &["check"]);
    let told = out(&output);
    assert!(told.contains("warning: team/ is not read: manifests lie directly in the directory\n"), "{told}");
    assert_eq!(told.matches("is not read").count(), 1, "{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
}

#[test]
fn check_warns_of_hooks_whose_program_is_not_there() {
    let world = world();
    let hooks = "{preStart: {exec: {command: [no-such-hook]}}, preStop: {exec: {command: ['true']}}}";
    std::fs::write(world.path().join("services.d/web.yaml"), format!("command: sleep 1000\nlifecycle: {hooks}\n"))
        .expect("written");
    let output = plugd(world.path(), &["check"]);
    let told = out(&output);
    let warnings: Vec<&str> = told.lines().filter(|line| line.contains(" hook ")).collect();
    assert_eq!(warnings.len(), 1, "{told}");
    assert!(warnings[0].starts_with("warning: web: its preStart hook would not start: ProgramNotFound: "), "{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
}

#[test]
fn of_several_doubts_about_one_file_each_has_a_line() {
    let world = world();
    let text = "command: sleep 1\nport: 8080\nschedule: '@daily'\nreplicas: 3\nactivation: {onDemand: true}\n";
    std::fs::write(world.path().join("services.d/web.yaml"), text).expect("written");
    let told = out(&plugd(world.path(), &["check"]));
    let doubts = told.lines().filter(|line| line.starts_with("warning: web.yaml: ConfigSuspicious: "));
    assert_eq!(doubts.count(), 2, "{told}");
    assert!(!told.contains("\\n"), "{told}");
}

#[test]
fn check_tells_of_drop_ins_that_no_manifest_has() {
    let world = world();
    let services = world.path().join("services.d");
    for folder in ["web.yaml.d", "lost.yaml.d", "web.yml.d"] {
        std::fs::create_dir(services.join(folder)).expect("made");
    }
    std::fs::write(services.join("web.yml"), "command: sleep 1000\n").expect("written");
    let output = plugd(world.path(), &["check"]);
    let told = out(&output);
    let warnings: Vec<&str> = told.lines().filter(|line| line.contains("is not read")).collect();
    assert_eq!(
        warnings,
        [
            "warning: lost.yaml.d is not read: there is no lost.yaml that it could be laid over",
            "warning: web.yml.d is not read: drop-ins lie in web.yaml.d, whatever the manifest's ending",
        ],
        "{told}"
    );
    assert_eq!(output.status.code(), Some(0), "{told}");
}

#[test]
fn check_says_that_it_did_not_read_what_stands_on_stdin_and_of_nothing_says_nothing() {
    let world = world();
    let check = |stdin: Stdio, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugd"));
        let output = command.arg("check").args(words).current_dir(world.path()).stdin(stdin).output().expect("it runs");
        (output.status.code(), err(&output).contains("`plugd check -` checks it"))
    };
    let file = world.path().join("wrong.yaml");
    std::fs::write(&file, "comand: true\n").expect("written");
    let text = || Stdio::from(std::fs::File::open(&file).expect("there"));
    assert_eq!(check(text(), &[]), (Some(0), true));
    assert_eq!(check(text(), &["-"]), (Some(5), false));
    let piped = |text: &str| {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, text.as_bytes()).expect("written");
        Stdio::from(reader)
    };
    assert_eq!(check(piped("comand: true\n"), &[]), (Some(0), true));
    assert_eq!(check(piped(""), &[]), (Some(0), false));
    assert_eq!(check(Stdio::null(), &[]), (Some(0), false));
}

#[test]
fn a_file_in_the_place_of_the_directory_is_told_with_the_directory() {
    let world = world();
    std::fs::write(world.path().join("services.d/web.yaml"), "command: sleep 1000\n").expect("written");
    for words in [&["get"][..], &["check"], &["add", "x", "--", "true"], &["edit", "web"]] {
        let output = plugd(world.path(), &[&["--dir", "services.d/web.yaml"], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", err(&output));
        let told = "--dir names a directory, and services.d/web.yaml is a file; write --dir services.d";
        assert!(err(&output).contains(told), "{words:?}: {}", err(&output));
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let world = world();
    for name in ["PLUGD_DIR", "PLUGD_STATE_DIR", "PLUGD_RUN_DIR"] {
        let output = Command::new(env!("CARGO_BIN_EXE_plugd"))
            .arg("check")
            .current_dir(world.path())
            .env(name, "")
            .output()
            .expect("plugd can be started");
        assert_eq!(output.status.code(), Some(0), "{name}: {}", err(&output));
    }
    assert_eq!(plugd(world.path(), &["check", "--dir", ""]).status.code(), Some(2), "what is written counts");
}

#[test]
fn nothing_to_name_is_said_with_the_way_to_begin() {
    let empty = tempfile::tempdir().expect("a temp folder");
    let output = plugd(empty.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("plugd init"), "{}", err(&output));
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plugd"))
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("plugd can be started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

#[test]
fn init_writes_what_is_missing_and_keeps_what_is_there() {
    let world = tempfile::tempdir().expect("a temp folder");
    let first = plugd(world.path(), &["init"]);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    std::fs::write(world.path().join("services.d/hello.yaml"), "command: 'true'\n").expect("written");

    let second = plugd(world.path(), &["init"]);

    assert!(out(&second).contains("kept services.d/hello.yaml"), "{}", out(&second));
    let kept = std::fs::read_to_string(world.path().join("services.d/hello.yaml")).expect("read");
    assert_eq!(kept, "command: 'true'\n");
}

#[test]
fn version_and_completions_are_data_on_stdout() {
    let root = Path::new("/");
    let version: serde_json::Value =
        serde_json::from_str(&out(&plugd(root, &["version", "-o", "json"]))).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&plugd(root, &["completion", shell])).contains("plugd"), "{shell}");
    }
    assert!(out(&plugd(root, &["man"])).contains(".TH plugd 1"));
}
