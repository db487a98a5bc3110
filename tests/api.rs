//! The local socket from outside: every route, every no, and peers that mean no good.
#![expect(clippy::disallowed_methods, reason = "tests look at the disk")]

#[expect(dead_code, reason = "each suite uses its part of the samples")]
#[path = "../src/model/text/samples.rs"]
mod samples;

#[path = "api/world.rs"]
mod world;

#[path = "api/abuse.rs"]
mod abuse;
#[path = "api/streams.rs"]
mod streams;
#[path = "api/tcp.rs"]
mod tcp;

use std::os::unix::fs::PermissionsExt;

use plugd::api::ROUTES;
use plugd::api::client::{Client, ClientError};
use plugd::api::context::{OrderError, Request};
use plugd::api::wire::{Health, List, Node, Register};
use plugd::controller::Order;
use plugd::model::view::{InstanceVitals, ServiceView, Snapshot, VitalsView};
use world::{World, broken, name, snapshot, view};

fn agree(request: Request) {
    match request {
        Request::Order { reply, .. } => drop(reply.send(Ok(None))),
        Request::Signal { reply, .. } | Request::ConfirmMissing { reply } | Request::Rescan { reply } => {
            drop(reply.send(Ok(())))
        }
        Request::Vitals { name, reply } => {
            let instance = InstanceVitals { name: name.to_string(), consecutive_failures: 0, response_ms: Some(0.4) };
            let vitals =
                VitalsView { availability_percent: Some(99.9), availability_since: None, instances: vec![instance] };
            drop(reply.send(Ok(vitals)));
        }
        Request::Cover { lines, reply, .. } => {
            drop(reply.send(Ok(lines.into_iter().map(|line| Some(line.text)).collect())))
        }
        Request::Gathered { reply } => drop(reply.send(Ok(samples::at("2026-11-23T12:00:00Z")))),
        Request::Effective { reply, .. } => drop(reply.send(Ok(serde_json::json!({ "replicas": 1 })))),
    }
}

#[tokio::test]
async fn every_route_of_the_table_answers_and_stands_in_the_description() {
    let mut world = World::new([view("web")]);
    world.answer(agree);
    let (_, openapi) = world.ask("GET", "/v1/openapi.json", "").await;
    for route in ROUTES {
        let operation = &openapi["paths"][route.path][route.method.to_lowercase()];
        assert_eq!(operation["summary"], route.summary, "{} {}", route.method, route.path);
        let path = route.path.replace("{name}", "web");
        let body = match route.path {
            "/v1/services" => r#"{"name": "other", "manifest": "command: [sleep, \"1\"]"}"#,
            "/v1/services/{name}/scale" => r#"{"replicas": 2}"#,
            "/v1/services/{name}/signal" => r#"{"signal": "HUP"}"#,
            _ => "",
        };
        if route.path == "/v1/watch" {
            continue; // never ends; see `streams`
        }
        let path = if route.path == "/v1/events" { format!("{path}?follow=false") } else { path };
        std::fs::write(world.services_d().join("web.yaml"), "command: [sleep]").expect("written");
        let (status, answer) = world.ask(route.method, &path, body).await;
        // It has no schedule that could go on.
        let fits = if path.ends_with("/resume") { status == 409 } else { (200..300).contains(&status) };
        assert!(fits, "{} {path}: {status} {answer}", route.method);
    }
    let listed: usize = openapi["paths"]
        .as_object()
        .expect("paths")
        .values()
        .map(|path| path.as_object().expect("methods").len())
        .sum();
    assert_eq!(listed, ROUTES.len());
}

#[tokio::test]
async fn services_are_listed_and_shown_one_by_one() {
    let world = World::new([view("web"), broken("db")]);
    let client = world.client().await;
    let list: List<ServiceView> = client.get("/v1/services").await.expect("a list");
    assert_eq!(list.items, [broken("db"), view("web")]);
    let one: ServiceView = client.get("/v1/services/db?form=view").await.expect("one");
    assert_eq!(one, broken("db"));
}

#[tokio::test]
async fn a_snapshot_goes_over_the_wire_and_back() {
    let world = World::new([view("web"), broken("db")]);
    let read: Snapshot = world.client().await.snapshot().await.expect("a snapshot");
    let sent = world.board.load();
    assert_eq!(read.sequence, sent.sequence);
    assert_eq!(read.node, sent.node);
    assert_eq!(read.services, sent.services);
}

#[tokio::test]
async fn the_full_object_has_the_shapes_of_kubernetes() {
    let mut world = World::new([view("web"), broken("db")]);
    world.answer(agree);
    let client = world.client().await;
    let web: serde_json::Value = client.get("/v1/services/web").await.expect("the full object");
    assert_eq!(web["apiVersion"], "plugd/v1");
    assert_eq!(web["kind"], "Service");
    assert_eq!(web["metadata"]["labels"]["tier"], "front");
    assert_eq!(web["spec"]["replicas"], 1);
    assert_eq!(web["status"]["phase"], "Running");
    assert_eq!(web["status"]["observedGeneration"], 7);
    assert_eq!(web["status"]["instances"][0]["state"]["running"]["startedAt"], "2026-11-23T11:02:43Z");
    let db: serde_json::Value = client.get("/v1/services/db?form=object").await.expect("an object");
    let condition = |kind: &str| {
        let conditions = db["status"]["conditions"].as_array().expect("a list");
        conditions.iter().find(|condition| condition["type"] == kind).expect(kind).clone()
    };
    assert_eq!(condition("Ready")["status"], "False");
    assert_eq!(condition("Ready")["reason"], "CrashLoopBackOff");
    assert_eq!(condition("Valid")["status"], "True");
    assert_eq!(condition("DependenciesReady")["message"], "waits for db");
    let (status, answer) = world.ask("GET", "/v1/services/db?form=cube", "").await;
    assert_eq!((status, &answer["error"]), (400, &"BadRequest".into()));
}

#[tokio::test]
async fn the_full_object_is_frozen() {
    let mut world = World::new([view("web"), broken("db")]);
    world.answer(agree);
    let client = world.client().await;
    for name in ["web", "db"] {
        let object: serde_json::Value = client.get(&format!("/v1/services/{name}?form=object")).await.expect("one");
        insta::assert_snapshot!(format!("object_{name}"), serde_json::to_string_pretty(&object).expect("JSON"));
    }
}

#[tokio::test]
async fn a_list_of_full_objects_is_a_list_of_the_same_objects() {
    let mut world = World::new([view("web"), broken("db")]);
    world.answer(agree);
    let client = world.client().await;
    let list: serde_json::Value = client.get("/v1/services?form=object").await.expect("a list");
    assert_eq!((&list["apiVersion"], &list["kind"]), (&"plugd/v1".into(), &"List".into()));
    for (at, name) in ["db", "web"].iter().enumerate() {
        let one: serde_json::Value = client.get(&format!("/v1/services/{name}?form=object")).await.expect("an object");
        assert_eq!(list["items"][at], one, "{name}");
    }
    let (status, _) = world.ask("GET", "/v1/services?form=cube", "").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_report_counts_and_names_everything() {
    let world = World::new([view("web"), broken("db")]);
    let client = world.client().await;
    let health: Health = client.get("/v1/health").await.expect("a report");
    assert_eq!(health.report.summary.total, 2);
    assert_eq!(health.report.summary.percentage_healthy, 50.0);
    assert_eq!(health.report.started, [name("web")]);
    assert_eq!(health.report.failed[0].reason, "CrashLoopBackOff");
    assert_eq!(health.services.len(), 2);
    let node: Node = client.get("/v1/node").await.expect("a node");
    assert_eq!(node.controller.pid, 8);
    assert!(!node.ready);
}

#[tokio::test]
async fn health_checks_get_a_bare_word() {
    let world = World::new([view("web")]);
    assert_eq!(world.ask("GET", "/livez", "").await, (200, "ok\n".into()));
    assert_eq!(world.ask("GET", "/readyz", "").await, (200, "ok\n".into()));
    world.publish(|snapshot| snapshot.node.directory_lost = Some("gone".to_string()));
    assert_eq!(world.ask("GET", "/readyz", "").await, (503, "not ready\n".into()));
    assert_eq!(world.ask("GET", "/livez", "").await, (200, "ok\n".into()));
}

#[tokio::test]
async fn a_list_of_ten_thousand_arrives_whole() {
    let world = World::new((0..10_000).map(|i| view(&format!("s{i}"))));
    let read = world.client().await.snapshot().await.expect("a snapshot");
    assert_eq!(read.services, world.board.load().services);
}

#[tokio::test]
async fn orders_reach_the_loop_and_its_no_comes_back() {
    let mut world = World::new([view("web")]);
    let mut requests = world.requests.take().expect("there");
    let client = world.client().await;
    let web = name("web");
    for order in [Order::Start, Order::Stop, Order::Restart, Order::Scale(3)] {
        let taken = async {
            let request = requests.recv().await;
            let Some(Request::Order { name, order, .. }) = request else { panic!("{request:?}") };
            // The reply is dropped unanswered: the loop is leaving.
            (name, order)
        };
        let (answer, taken) = tokio::join!(client.order(&web, order), taken);
        assert_eq!(taken, (name("web"), order));
        let Err(ClientError::Refused(problem)) = answer else { panic!("{answer:?}") };
        assert_eq!(problem.error, "ShuttingDown");
    }
    let answers = async {
        while let Some(Request::Signal { signal, instance, reply, .. }) = requests.recv().await {
            let result =
                if (signal, instance) == (1, Some(0)) { Ok(()) } else { Err(OrderError::NotRunning("web".into())) };
            reply.send(result).expect("somebody waits");
        }
    };
    let asks = async {
        client.signal(&name("web"), Some(0), "SIGHUP").await.expect("sent");
        let error = client.signal(&name("web"), None, "9").await.expect_err("refused");
        assert!(
            matches!(&error, ClientError::Refused(problem) if problem.error == "NotRunning" && problem.status == 409)
        );
        assert_eq!(error.to_string(), "web has no running process");
    };
    tokio::select! { () = answers => panic!("ended"), () = asks => {} }
}

#[tokio::test]
async fn a_rescan_and_a_confirmation_go_the_same_way() {
    let mut world = World::new([view("web")]);
    world.answer(agree);
    let client = world.client().await;
    client.rescan().await.expect("taken up");
    client.confirm_missing().await.expect("taken up");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_does_not_answer_is_told_as_such() {
    let world = World::new([view("web")]);
    let (status, answer) = world.ask("POST", "/v1/services/web/stop", "").await;
    assert_eq!((status, &answer["error"]), (504, &"Late".into()));
    // One of the four places of the channel is taken; three more and it is full.
    for _ in 0..3 {
        assert_eq!(world.ask("POST", "/v1/rescan", "").await.0, 504);
    }
    let (status, answer) = world.ask("POST", "/v1/rescan", "").await;
    assert_eq!((status, &answer["error"]), (503, &"Busy".into()));
}

#[tokio::test]
async fn a_manifest_is_written_into_the_directory_and_removed_again() {
    let world = World::new([view("web")]);
    let client = world.client().await;
    let register =
        |name: &str, manifest: &str, replace| Register { name: name.into(), manifest: manifest.into(), replace };
    let file = world.services_d().join("db.yaml");

    let done = client.register(&register("db", "command: [db]\n", false)).await.expect("written");
    assert_eq!((done.file.as_str(), done.sha256.as_str()), ("db.yaml", "fbda1ac8a20e88b1"));
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "command: [db]\n");
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o644);
    assert_eq!(std::fs::read_dir(world.services_d()).expect("there").count(), 1, "nothing is left beside it");

    let again = client.register(&register("db", "command: [other]\n", false)).await;
    assert!(
        matches!(again, Err(ClientError::Refused(problem)) if problem.status == 409 && problem.next.contains("replace"))
    );
    client.register(&register("db", "command: [other]\n", true)).await.expect("replaced");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "command: [other]\n");

    world.publish(|snapshot| drop(snapshot.services.insert(name("db"), view("db").into())));
    client.remove(&name("db")).await.expect("removed");
    assert!(!file.exists());
    let gone = client.remove(&name("db")).await;
    assert!(matches!(gone, Err(ClientError::Refused(problem)) if problem.status == 409));
}

#[tokio::test]
async fn what_is_not_one_services_own_file_is_left_alone() {
    let mut script = view("backup");
    script.manifest.file = "backup.sh".to_string();
    let [mut one, mut two] = [view("one"), view("two")];
    one.manifest.file = "mcp.json".to_string();
    two.manifest.file = "mcp.json".to_string();
    let world = World::new([script, one, two]);
    std::fs::write(world.services_d().join("backup.sh"), "#!/bin/sh").expect("written");
    std::fs::write(world.services_d().join("mcp.json"), "{}").expect("written");
    for (method, path, body) in [
        ("DELETE", "/v1/services/backup", ""),
        ("DELETE", "/v1/services/one", ""),
        ("POST", "/v1/services", r#"{"name": "one", "manifest": "command: [x]", "replace": true}"#),
    ] {
        let (status, answer) = world.ask(method, path, body).await;
        assert_eq!(status, 409, "{method} {path} {answer}");
    }
    // A manifest beside a discovered script takes over its name; the script stays.
    let body = r#"{"name": "backup", "manifest": "wrapper: backup.sh", "replace": true}"#;
    assert_eq!(world.ask("POST", "/v1/services", body).await.0, 201);
    assert_eq!(std::fs::read_to_string(world.services_d().join("backup.sh")).expect("there"), "#!/bin/sh");
}

#[tokio::test]
async fn a_manifest_that_cannot_be_meant_is_refused_before_it_is_written() {
    let world = World::new([]);
    let large = format!(r#"{{"name": "web", "manifest": "{}"}}"#, "x".repeat(70_000));
    for body in [
        r#"{"name": "../web", "manifest": "command: [x]"}"#,
        r#"{"name": "web.status", "manifest": "command: [x]"}"#,
        r#"{"name": "web", "manifest": "name: other\ncommand: [x]"}"#,
        r#"{"name": "web", "manifest": "  \n"}"#,
        r#"{"name": "web"}"#,
        r#"{"name": "web", "manifest": "command: [x]", "force": true}"#,
        "not json",
        "",
        &large,
    ] {
        let (status, answer) = world.ask("POST", "/v1/services", body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["next"].as_str().is_some_and(|next| !next.is_empty()));
    }
    assert_eq!(std::fs::read_dir(world.services_d()).expect("there").count(), 0);
}

#[tokio::test]
async fn logs_are_refused_where_there_are_none_and_asked_with_care() {
    let world = World::with([view("web")], |ctx| ctx.places.logs = None);
    let (status, answer) = world.ask("GET", "/v1/services/web/logs", "").await;
    assert_eq!(status, 409);
    assert!(answer["next"].as_str().is_some_and(|next| next.contains("--log-dir")));
    for query in ["tail=many", "since=yesterday", "grep=x"] {
        assert_eq!(world.ask("GET", &format!("/v1/services/web/logs?{query}"), "").await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn logs_come_as_text_that_is_safe_to_show() {
    let world = World::new([view("web"), view("silent")]);
    let logs = world.dir.path().join("logs");
    std::fs::create_dir(&logs).expect("a folder");
    std::fs::write(logs.join("web.log"), "one\ntwo\x1b[2J\nthree\n").expect("written");
    let (status, text) = world.ask("GET", "/v1/services/web/logs", "").await;
    assert_eq!((status, text), (200, "one\ntwo\\x1b[2J\nthree\n".into()));
    let (_, text) = world.ask("GET", "/v1/services/web/logs?tail=1", "").await;
    assert_eq!(text, "three\n");
    // Nothing was written yet: an empty log is no error.
    assert_eq!(world.ask("GET", "/v1/services/silent/logs", "").await, (200, "".into()));
}

#[tokio::test]
async fn a_long_log_arrives_whole() {
    let world = World::new([view("web")]);
    let logs = world.dir.path().join("logs");
    std::fs::create_dir(&logs).expect("a folder");
    let lines: String = (0..50_000).map(|i| format!("line {i} of a log that is longer than any buffer\n")).collect();
    std::fs::write(logs.join("web.log"), &lines).expect("written");
    let (status, text) = world.ask("GET", "/v1/services/web/logs", "").await;
    assert_eq!((status, text == lines.as_str()), (200, true));
}

#[tokio::test]
async fn a_followed_log_grows_with_the_file() {
    use std::io::Write;
    let world = World::new([view("web")]);
    let logs = world.dir.path().join("logs");
    std::fs::create_dir(&logs).expect("a folder");
    let mut file = std::fs::File::create(logs.join("web.log")).expect("a file");
    file.write_all(b"one\n").expect("written");
    let mut follow = world.client().await.follow("/v1/services/web/logs?follow=true&tail=10").await.expect("a stream");
    assert_eq!(follow.next().await.expect("open").as_deref(), Some(&b"one\n"[..]));
    file.write_all(b"two\n").expect("written");
    assert_eq!(follow.next().await.expect("open").as_deref(), Some(&b"two\n"[..]));
}

#[tokio::test]
async fn a_socket_is_bound_for_its_owner_alone_and_at_any_length_of_path() {
    let dir = tempfile::tempdir().expect("a temp folder");
    let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
    std::fs::create_dir_all(&deep).expect("folders");
    let path = deep.join("plugd.sock");
    for _ in 0..2 {
        // The second takes the place of what a dead controller left.
        let _listener = plugd::api::socket::bind(&path).expect("bound");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        Client::connect(&path).await.expect("reached");
    }
    std::fs::write(dir.path().join("file"), "precious").expect("written");
    plugd::api::socket::bind(&dir.path().join("file")).expect_err("no socket lies there");
}

#[tokio::test]
async fn a_client_says_what_is_wrong_with_the_other_end() {
    let dir = tempfile::tempdir().expect("a temp folder");
    let path = dir.path().join("plugd.sock");
    let nobody = Client::connect(&path).await.expect_err("nothing there");
    assert!(matches!(nobody, ClientError::NotReachable { .. }));
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let dead = Client::connect(&path).await.expect_err("nobody listens");
    assert!(matches!(dead, ClientError::NotReachable { .. }));

    let world = World::new([]);
    let client = world.client().await;
    let unknown = client.get::<ServiceView>("/v1/services/web?form=view").await.expect_err("unknown");
    assert!(matches!(&unknown, ClientError::Refused(problem) if problem.status == 404));
    assert_eq!(unknown.to_string(), "no service is named `web`");
    let other = client.get::<ServiceView>("/v1/services").await.expect_err("a list");
    assert!(matches!(other, ClientError::NotUnderstood { .. }));
    assert_eq!(snapshot(1, []).services.len(), 0);
}
