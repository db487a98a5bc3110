//! logs, with every flag.

use crate::ask::{begin, ends, logs};
use crate::world::World;

const COUNTS: &str = "command: [sh, -c, 'for i in 1 2 3 4 5; do echo line $i; done; exec sleep 1000']\n";

#[test]
fn a_node_without_a_place_for_logs_says_so_and_where_the_output_goes() {
    // Whatever is tested runs with --no-tee.
    let (mut world, goes) = (World::empty(), "is kept nowhere (--no-tee)");
    std::fs::create_dir_all(world.state()).expect("made");
    std::fs::write(world.state().join("logs"), "").expect("a file where the folder would be");
    world.put("web.yaml", crate::ask::STAYS);
    world.run(&[]);
    world.wait_status("web", "running");
    let so = format!("no place for log files can be written: what services print {goes}; ");
    for words in [&["logs"][..], &["logs", "web"]] {
        let (_, told) = ends(&world, 1, words);
        assert!(told.contains(&so) && told.ends_with("give `plugd run` a --log-dir\n"), "{told}");
    }
    let table = world.ask(&["get"]);
    assert!(table.contains("LogNotWritten") && table.contains(goes), "{table}");
    world.wait("the node to tell it", |world| {
        world.node_status().is_some_and(|status| status.contains("LogNotWritten") && status.contains("--no-tee"))
    });
    // It is a fault of the node, and of no service.
    ends(&world, 0, &["wait", "--all"]);
}

#[test]
fn logs_are_narrowed_by_every_flag() {
    let world = World::running();
    world.put("web.yaml", COUNTS);
    world.wait("five lines", |world| logs(world, &["web"]).lines().count() == 5);
    assert_eq!(ends(&world, 0, &["logs", "web", "--tail", "2"]).0, "line 4\nline 5\n");
    assert_eq!(ends(&world, 0, &["logs", "web", "--grep", "[13]$"]).0, "line 1\nline 3\n");
    assert_eq!(ends(&world, 0, &["logs", "web", "--since", "10m"]).0.lines().count(), 5);
    assert_eq!(ends(&world, 0, &["logs", "web", "--since", "2100-01-01T00:00:00Z"]).0, "");
    let (timed, _) = ends(&world, 0, &["logs", "web", "-t", "--tail", "1"]);
    let (time, line) = timed.split_once(' ').expect("a time");
    assert!(time.parse::<jiff::Timestamp>().is_ok() && line == "line 5\n", "{timed}");
    let (json, _) = ends(&world, 0, &["logs", "web", "-o", "json", "--tail", "1"]);
    let object: serde_json::Value = serde_json::from_str(&json).expect("json");
    assert_eq!((object["service"].as_str(), object["line"].as_str()), (Some("web"), Some("line 5")));
    let (_, told) = ends(&world, 2, &["logs", "web", "--grep", "("]);
    assert!(told.contains("unclosed group"), "{told}");
    ends(&world, 0, &["restart", "web", "--wait"]);
    world.wait("the second life", |world| logs(world, &["web"]).lines().count() == 10);
    assert_eq!(ends(&world, 0, &["logs", "web", "--previous"]).0.lines().count(), 5);
}

#[test]
fn a_log_of_records_is_for_programs_as_it_is_and_for_people_in_words() {
    let world = World::running();
    let said = r#"{"level":"error","msg":"no \u001b[2J disk","port":80}"#;
    let script = format!("script: |\n  printf '%s\\n' '{said}' plain '{said}'\n  exit 3\n");
    world.put("web.yaml", &format!("{script}restart: Never\nlogs: {{format: json}}\n"));
    world.wait("its end, in words", |world| world.ask(&["get", "web"]).contains(r#""ERROR no  disk port=80""#));
    assert_eq!(ends(&world, 0, &["logs", "web"]).0, format!("{said}\nplain\n{said}\n"), "as it was written");
    let words = r"ERROR no \x1b[2J disk port=80";
    let screen = crate::terminal::shown(&world, 80, &[("NO_COLOR", "1")], "$plugd logs web");
    assert_eq!(screen, format!("{words}\nplain\n{words}\n"));
    let (status, _) = ends(&world, 3, &["status", "web"]);
    assert!(status.contains(&format!("\n  {words}\n  plain\n")), "{status}");
    let (json, _) = ends(&world, 0, &["logs", "web", "-o", "json"]);
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!((lines[0]["line"].as_str(), &lines[0]["fields"]["port"]), (Some(said), &80.into()));
    assert_eq!((lines[1]["line"].as_str(), lines[1].get("fields")), (Some("plain"), None));
    // It is shown otherwise from the edit on, and nothing is started anew for it.
    world.put("web.yaml", &script.replace("exit 3", "exec sleep 1000"));
    world.wait_status("web", "running");
    let pid = world.pid("web");
    world.put("web.yaml", &format!("{}logs: {{format: json}}\n", script.replace("exit 3", "exec sleep 1000")));
    world.wait("the edit", |world| {
        crate::terminal::shown(world, 80, &[("NO_COLOR", "1")], "$plugd logs web").starts_with(words)
    });
    assert_eq!(world.pid("web"), pid);
}

#[test]
fn several_logs_are_told_apart() {
    let world = World::running();
    world.put("web.yaml", "command: [sh, -c, 'echo from $PLUGD_INSTANCE; exec sleep 1000']\nreplicas: 2\n");
    world.put("db.yaml", "command: [sh, -c, 'echo from db; exec sleep 1000']\n");
    world.wait("all three", |world| logs(world, &[]).lines().count() == 3);
    let (said, _) = ends(&world, 0, &["logs", "web", "db"]);
    for line in ["web/0 | from web/0", "web/1 | from web/1", "db    | from db"] {
        assert!(said.lines().any(|there| there == line), "{line} in\n{said}");
    }
    assert_eq!(ends(&world, 0, &["logs", "web/1"]).0, "from web/1\n");
    ends(&world, 4, &["logs", "web/9"]);
}

#[test]
fn the_last_lines_are_those_of_each_instance() {
    let world = World::running();
    let lines = "command: [sh, -c, 'for i in 1 2 3 4; do echo line $i of $PLUGD_INSTANCE; done; exec sleep 1000']\n";
    world.put("web.yaml", &format!("{lines}replicas: 3\n"));
    world.wait("all lines", |world| logs(world, &["web"]).lines().count() == 12);
    let of = |said: &str, index: usize| -> Vec<String> {
        let own = format!("web/{index} | ");
        said.lines().filter_map(|line| line.strip_prefix(&own).map(str::to_string)).collect()
    };
    let (last, _) = ends(&world, 0, &["logs", "web", "--tail", "2"]);
    let (matching, _) = ends(&world, 0, &["logs", "web", "--tail", "1", "--grep", "line [12]"]);
    let mut following = begin(&world, &["logs", "-f", "web", "--tail", "2"]);
    let followed: Vec<String> = following.lines().take(6).collect();
    for index in 0..3 {
        let both = [format!("line 3 of web/{index}"), format!("line 4 of web/{index}")];
        assert_eq!(of(&last, index), both, "{last}");
        assert_eq!(of(&followed.join("\n"), index), both, "{followed:?}");
        assert_eq!(of(&matching, index), [format!("line 2 of web/{index}")], "{matching}");
    }
    // A status has room for a few in all.
    let (status, _) = ends(&world, 0, &["status", "web"]);
    assert_eq!(status.lines().skip_while(|line| *line != "last output").count(), 11, "{status}");
}

#[test]
fn who_follows_one_instance_is_told_which_from_the_moment_there_are_several() {
    let world = World::running();
    world.put("web.yaml", "command: [sh, -c, 'while :; do echo from $PLUGD_INSTANCE; sleep 0.02; done']\n");
    world.wait("the first line", |world| logs(world, &["web"]).contains("from"));
    let mut following = begin(&world, &["logs", "-f", "web"]);
    let mut lines = following.lines();
    assert_eq!(lines.next().as_deref(), Some("from web/0"));
    ends(&world, 0, &["scale", "web=2", "--wait"]);
    assert!(lines.any(|line| line == "web/1 | from web/1"));
    let since: Vec<String> = lines.take(50).collect();
    assert_eq!(since.len(), 50);
    assert!(since.iter().all(|line| line.contains(" | ")) && since.iter().any(|line| line == "web/0 | from web/0"));
}

#[test]
fn what_an_instance_wrote_that_is_scaled_away_is_shown() {
    let world = World::running();
    world.put("web.yaml", "command: [sh, -c, 'echo from $PLUGD_INSTANCE; exec sleep 1000']\n");
    world
        .put("own.yaml", "command: [sh, -c, 'echo from $PLUGD_INSTANCE; exec sleep 1000']\nlogs: {path: ../own.log}\n");
    for name in ["web", "own"] {
        let first = format!("{name}/1");
        ends(&world, 0, &["scale", &format!("{name}=2"), "--wait"]);
        world.wait("its line", |world| logs(world, &[&first]).contains("from"));
        ends(&world, 0, &["restart", name, "--wait"]);
        world.wait("its second line", |world| logs(world, &[&first]).lines().count() == 2);
        ends(&world, 0, &["scale", &format!("{name}=1"), "--wait"]);
        let (said, told) = ends(&world, 0, &["logs", &first]);
        assert_eq!(said, format!("from {first}\n").repeat(2));
        assert_eq!(told, format!("plugd: {name} has no instance 1 any more; this is what is kept of its log\n"));
        assert_eq!(ends(&world, 0, &["logs", "-p", &first]).0, format!("from {first}\n"));
        let (_, told) = ends(&world, 4, &["logs", &format!("{name}/2")]);
        assert!(told.contains(&format!("{name} has no instance 2; it has {name}")), "{told}");
    }
}

#[test]
fn follow_shows_what_is_written_from_now_on() {
    let world = World::running();
    world.put(
        "web.yaml",
        "command: [sh, -c, 'echo first; trap \"echo again\" HUP; echo ready; while :; do sleep 0.02; done']\n",
    );
    world.wait("the trap is set", |world| logs(world, &["web"]).contains("ready"));
    let mut following = begin(&world, &["logs", "-f", "web"]);
    let mut lines = following.lines();
    assert_eq!(lines.next().as_deref(), Some("first"));
    assert_eq!(lines.next().as_deref(), Some("ready"));
    ends(&world, 0, &["signal", "HUP", "web"]);
    assert!(lines.any(|line| line == "again"));
}

#[test]
fn a_service_that_wrote_nothing_is_not_answered_with_silence() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 1000\n");
    world.wait_status("web", "running");
    let (said, told) = ends(&world, 0, &["logs", "web"]);
    assert_eq!((said.as_str(), told.as_str()), ("", "plugd: nothing has been written yet\n"));
}

#[test]
fn a_service_that_never_ran_is_not_followed_in_silence() {
    let world = World::running();
    world.put("web.yaml", "comand: sleep 1000\n");
    world.wait_status("web", "failed");
    let why =
        "plugd: nothing has been written yet: web is failed (ConfigInvalid): web.yaml:1:1: unknown field `comand`";
    let (said, told) = ends(&world, 0, &["logs", "web"]);
    assert!(said.is_empty() && told.starts_with(why), "{told}");
    let mut following = crate::ask::begin_hearing(&world, &["logs", "-f", "web"]);
    let mut lines = following.lines();
    let stderr = following.0.stderr.take().expect("a pipe");
    let heard = std::io::BufRead::lines(std::io::BufReader::new(stderr)).next().expect("a line").expect("text");
    assert!(heard.starts_with(why), "{heard}");
    world.put("web.yaml", "command: [sh, -c, 'echo up; exec sleep 1000']\n");
    assert_eq!(lines.next().as_deref(), Some("up"), "it goes on following");
}

#[test]
fn logs_are_read_without_a_controller() {
    let mut world = World::running();
    world.put("web.yaml", COUNTS);
    world.wait("five lines", |world| logs(world, &["web"]).lines().count() == 5);
    world.stop();
    assert_eq!(ends(&world, 0, &["logs", "web", "--tail", "1"]).0, "line 5\n");
    let (said, told) = ends(&world, 6, &["get"]);
    assert!(said.contains("stopped (ControllerStopped)") && told.contains("no controller answers"), "{said}{told}");
}

#[test]
fn following_ends_with_a_line_when_the_service_is_gone() {
    let world = World::running();
    world.put("web.yaml", "command: [sh, -c, 'echo up; exec sleep 1000']\n");
    world.wait("the line", |world| logs(world, &["web"]).contains("up"));
    let mut following = crate::ask::begin_hearing(&world, &["logs", "-f", "web"]);
    assert_eq!(following.lines().next().as_deref(), Some("up"));
    world.remove("web.yaml");
    assert_eq!(crate::ask::code_of(&mut following.0), Some(0));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut following.0.stderr.take().expect("a pipe"), &mut told).expect("text");
    assert!(told.contains("web is gone: its manifest was removed"), "{told}");
}

#[test]
fn a_life_before_this_one_that_was_not_is_said() {
    let world = World::running();
    world.put("web.yaml", "command: [sh, -c, 'echo up; exec sleep 1000']\n");
    world.wait("the line", |world| logs(world, &["web"]).contains("up"));
    let (said, told) = ends(&world, 0, &["logs", "-p", "web"]);
    assert!(said.is_empty() && told.contains("no line is kept of a life before this one"), "{said}{told}");
    let (_, told) = ends(&world, 2, &["logs", "web", "--grep", "("]);
    assert!(told.contains("--grep \"(\" is no regular expression: unclosed group"), "{told}");
}

#[test]
fn a_log_that_can_take_nothing_is_told_before_anything_is_lost() {
    let world = World::empty();
    let place = world.root().join("place");
    let put = |name: &str, path: &str| {
        world.put(&format!("{name}.yaml"), &format!("command: sleep 1000\nlogs: {{path: {path}}}\n"));
    };
    std::fs::create_dir(&place).expect("made");
    std::fs::write(world.root().join("file"), "").expect("written");
    put("folder", "../place");
    put("through", "../file/x.log");
    put("new", "../place/a/new.log");
    put("own", "new.yaml");
    std::fs::write(place.join("notes"), "of mine\n").expect("written");
    put("notes", "../place/notes");
    std::fs::write(place.join("mine.2"), "of mine\n").expect("written");
    put("rotated", "../place/mine");
    let (said, _) = ends(&world, 5, &["check"]);
    assert!(said.contains("error: folder: ") && said.contains("is a directory; name a file in it"), "{said}");
    assert!(said.contains("error: through: `logs.path` leads through ") && said.contains("is no directory"), "{said}");
    assert!(said.contains("warning: new: ") && said.contains("place/a, where `logs.path` puts its log"), "{said}");
    assert!(said.contains("warning: notes: ") && said.contains("and plugd knows nothing of it"), "{said}");
    let told = said.lines().find(|line| line.starts_with("warning: rotated: ")).unwrap_or_default();
    assert!(told.contains("place/mine.2 has the name that a rotation of its log gives"), "{said}");
    assert!(said.contains("new.yaml, where `logs.path` puts its log, is none for a log: plugd reads"), "{said}");

    let mut world = world;
    world.run(&[]);
    for name in ["folder", "through"] {
        world.wait("the trouble to be told", |world| {
            world.status_file(name).is_some_and(|text| text.contains("LogNotWritten"))
        });
        let (said, told) = ends(&world, 0, &["logs", name]);
        assert!(
            said.is_empty() && told.contains("its log cannot be opened: ") && told.contains("correct `logs.path`"),
            "{told}"
        );
        assert!(!told.contains("nothing has been written"), "{told}");
    }
    world.wait("what plugd reads itself to be told", |world| {
        world.status_file("own").is_some_and(|text| text.contains("plugd reads that file or starts it"))
    });
    world.wait("each event", |world| world.log().matches("reason=LogNotWritten").count() == 3);
    assert!(world.status_file("new").is_some_and(|text| !text.contains("LogNotWritten")));

    // Another place takes it back.
    world.put("folder.yaml", "command: sleep 1000\nlogs: {path: ../place/folder.log}\n");
    world.wait("the trouble to go", |world| {
        world.status_file("folder").is_some_and(|text| !text.contains("LogNotWritten"))
    });
    assert_eq!(world.log().matches("reason=LogNotWritten").count(), 3);
}

/// The files that `log` of a status names, as a shell finds them.
fn told_logs(world: &World, name: &str) -> Vec<std::path::PathBuf> {
    let told = world.field(name, "log").unwrap_or_default();
    let found = std::process::Command::new("sh").args(["-c", &format!("ls -d {told}")]).output().expect("a shell");
    let found = String::from_utf8_lossy(&found.stdout).lines().map(std::path::PathBuf::from).collect::<Vec<_>>();
    let within = |path: &std::path::PathBuf| match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.clone()],
    };
    found.iter().flat_map(within).collect()
}

/// Each instance writes now into a file of its own that the status names, and nobody else does.
fn is_written_where_it_says(world: &World, name: &str, instances: usize) {
    let size = |path: &std::path::PathBuf| path.metadata().map_or(0, |there| there.len());
    world.wait("the logs that are told to be those that are written", |world| {
        let told: Vec<_> = told_logs(world, name).into_iter().map(|path| (size(&path), path)).collect();
        let grow = || told.iter().filter(|(before, path)| size(path) > *before).count();
        let until = std::time::Instant::now() + std::time::Duration::from_millis(200);
        while grow() < instances && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        grow() == instances
    });
    for index in 0..instances {
        let own = format!("{name}/{index}");
        world.wait("the log of each instance", |world| logs(world, &[&own]).contains(&format!("from {own} ")));
    }
    let (all, only) = (ends(world, 0, &["logs", name]).0, format!("{name}/0"));
    for line in all.lines() {
        let (label, said) = line.split_once(" | ").map_or((None, line), |(label, said)| (Some(label), said));
        // What was written across a change has its end elsewhere.
        let whose = said.split(' ').nth(1).filter(|_| said.starts_with("from ") && said.ends_with('.'));
        assert!(whose.is_none_or(|whose| whose == label.map_or(only.as_str(), |label| label.trim_end())), "{line}");
    }
}

#[test]
fn the_logs_of_a_service_that_is_scaled_are_where_its_status_says_and_each_has_its_own() {
    let world = World::running();
    const WRITES: &str = "command: [sh, -c, 'while :; do echo from $PLUGD_INSTANCE and no other.; sleep 0.02; done']\n";
    world.put("web.yaml", WRITES);
    world.put("own.yaml", &format!("{WRITES}logs: {{path: ../own.log}}\n"));
    world.wait_status("web", "running");
    is_written_where_it_says(&world, "web", 1);
    for (count, name) in [(2, "web"), (3, "own"), (1, "web"), (1, "own"), (2, "web")] {
        ends(&world, 0, &["scale", &format!("{name}={count}"), "--wait"]);
        is_written_where_it_says(&world, name, count);
    }
    let (before, pid) = (world.controller_pid().expect("a controller"), world.field("web", "instances"));
    crate::world::kill(before, 9);
    world.wait("the next controller", |world| world.controller_pid().is_some_and(|pid| pid != before));
    is_written_where_it_says(&world, "web", 2);
    assert_eq!(world.field("web", "instances"), pid, "nobody was restarted for it");
    world.put("web.yaml", &format!("{WRITES}replicas: 3\n"));
    ends(&world, 0, &["wait", "web"]);
    is_written_where_it_says(&world, "web", 3);
    world.put("web.yaml", WRITES);
    ends(&world, 0, &["wait", "web"]);
    is_written_where_it_says(&world, "web", 1);
    assert_eq!(world.field("web", "log"), Some(world.state().join("logs/web.log").display().to_string()));
}

#[test]
fn who_follows_hears_nothing_of_a_controller_that_is_replaced() {
    let mut world = World::running();
    world.put("web.yaml", "command: [sh, -c, 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done']\n");
    world.wait("the first line", |world| logs(world, &["web"]).contains("line 1"));
    let mut following = crate::ask::begin_hearing(&world, &["logs", "-f", "web"]);
    let mut lines = following.lines();
    assert_eq!(lines.next().as_deref(), Some("line 1"));
    let before = world.controller_pid().expect("a controller");
    crate::world::kill(before, 9);
    world.wait("the next controller", |world| {
        world.controller_pid().is_some_and(|pid| pid != before) && world.status("web") == "running"
    });
    // Longer than it takes to find that nobody comes.
    let more = lines.by_ref().take(70).count();
    assert_eq!(more, 70);
    world.remove("web.yaml");
    assert_eq!(crate::ask::code_of(&mut following.0), Some(0), "the next one is listened to");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut following.0.stderr.take().expect("a pipe"), &mut told).expect("text");
    assert!(told.contains("web is gone") && !told.contains("plugd has ended"), "{told}");
    world.stop();
}

#[test]
fn what_a_blocked_edit_says_of_logs_is_not_in_force_for_the_instances_of_a_scale_either() {
    let world = World::running();
    let place = world.root().join("place");
    std::fs::create_dir(&place).expect("made");
    let says = "script: 'while :; do echo $PLUGD_INSTANCE; sleep 0.05; done'";
    world.put("web.yaml", &format!("logs: {{path: {}/a.log}}\n{says}\n", place.display()));
    world.wait("the first lines", |_| place.join("a.log").exists());
    world.put("web.yaml", &format!("logs: {{path: {}/b.log}}\ncommand: no-such-program\n", place.display()));
    world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));
    world.ask(&["scale", "web=2"]);
    let lines = |name: &str| std::fs::read_to_string(place.join(name)).unwrap_or_default();
    world.wait("lines of both", |_| lines("a.0.log").contains("web/0") && lines("a.1.log").contains("web/1"));
    world.ask(&["scale", "web=1"]);
    let before = lines("a.log").len();
    world.wait("lines of the one", |_| lines("a.log").len() > before);
    let all = std::fs::read_dir(&place).expect("read").flatten().map(|entry| entry.file_name());
    let others: Vec<_> = all.filter(|name| name.to_string_lossy().starts_with('b')).collect();
    assert!(others.is_empty(), "{others:?}");
}
