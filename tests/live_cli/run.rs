//! `plugd run` itself: one command, one file, its refusals, its places.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::ask::{STAYS, ends, err, out};
use crate::world::{World, copy, free_port, kill};

fn run(world: &World, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugd"));
    command.arg("run").args(words).current_dir(world.root()).stdin(Stdio::null());
    command.env_remove("PLUGD_DIR").env_remove("PLUGD_STATE_DIR").env_remove("PLUGD_LOG");
    command.output().expect("plugd can be started")
}

#[test]
fn one_command_has_its_output_untouched_and_its_code_is_ours() {
    let world = World::empty();
    for (script, code) in [("echo out; exit 7", 7), ("echo out", 0), ("echo out; kill -9 $$", 137)] {
        let output = run(&world, &["--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", err(&output));
        assert_eq!(out(&output), "out\n", "{script}");
    }
    let output = run(&world, &["--", "true"]);
    assert_eq!((out(&output).as_str(), err(&output).as_str()), ("", ""), "plugd stands in for it and says nothing");
    let output = run(&world, &["--", "no-such-program"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(err(&output).contains("no program \"no-such-program\""), "{}", err(&output));
    assert!(!err(&output).contains("one word"), "{}", err(&output));
    let output = run(&world, &["--", "sleep 7"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(err(&output).contains("; it is one word with blanks in it"), "{}", err(&output));
}

#[test]
fn one_file_runs_and_its_mistakes_are_drawn() {
    let world = World::empty();
    std::fs::write(world.root().join("job.yaml"), "command: [sh, -c, 'echo $PLUGD_SERVICE; exit 4']\n")
        .expect("written");
    let output = run(&world, &["job.yaml"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(4), "job\n"));
    std::fs::write(world.root().join("wrong.yaml"), "comand: true\n").expect("written");
    let output = run(&world, &["wrong.yaml"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(err(&output).contains("1 | comand: true\n  | ^^^^^^\n"), "{}", err(&output));
    let output = run(&world, &["nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("there is no file nowhere.yaml"), "{}", err(&output));
}

#[test]
fn a_program_runs_as_the_service_that_its_head_describes() {
    let world = World::empty();
    let program = |name: &str, text: &str, mode: u32| {
        world.put_script(&format!("../{name}"), text);
        std::fs::set_permissions(world.root().join(name), PermissionsExt::from_mode(mode)).expect("chmod");
    };
    program("s.sh", "#!/bin/sh\n# plugd: env: {GREETING: hello}\necho $PLUGD_SERVICE; echo $GREETING; exit 6\n", 0o755);
    for words in [&["./s.sh"][..], &["s.sh"], &["--name", "s", "s.sh"]] {
        let output = run(&world, words);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(6), "s\nhello\n"), "{}", err(&output));
    }
    program("wrong.sh", "#!/bin/sh\n# plugd: prot: 80\n", 0o755);
    let output = run(&world, &["wrong.sh"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(err(&output).contains("did you mean `port`?"), "{}", err(&output));
    program("plain.sh", "#!/bin/sh\nexit 6\n", 0o644);
    let output = run(&world, &["plain.sh"]);
    assert_eq!(output.status.code(), Some(126));
    assert!(err(&output).contains("plain.sh is not executable; run `chmod +x"), "{}", err(&output));
    assert!(!err(&output).contains("wrapper"), "{}", err(&output));
    program("app.py", "print(1)\n", 0o755);
    let output = run(&world, &["app.py"]);
    assert_eq!(output.status.code(), Some(5));
    let told = "if app.py is meant as a program: write `plugd run -- INTERPRETER app.py`, or begin it with `#!";
    assert!(err(&output).contains(told), "{}", err(&output));
    std::fs::write(world.root().join("lacks.yaml"), "wrapper: nowhere.sh\n").expect("written");
    let output = run(&world, &["lacks.yaml"]);
    assert_eq!(output.status.code(), Some(127), "{}", err(&output));
    // An ELF, as a person names it; and what would happen, asked before.
    copy(Path::new("/bin/true"), &world.root().join("truth"));
    assert_eq!(run(&world, &["truth"]).status.code(), Some(0));
    let output = world.plugd(&["check", &world.root().join("s.sh").display().to_string()]);
    assert!(out(&output).contains("would start 1"), "{}{}", out(&output), err(&output));
    assert_eq!(output.status.code(), Some(0));
    // What is no file, or is not there.
    let pipe = world.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let output = run(&world, &["pipe"]);
    assert_eq!(output.status.code(), Some(78), "{}", err(&output));
    assert!(err(&output).contains("pipe cannot be read: it is a pipe, not a regular file"), "{}", err(&output));
    let output = world.plugd(&["check", &pipe.display().to_string()]);
    assert!(out(&output).contains("it is a pipe, and nothing came through it"), "{}{}", out(&output), err(&output));
    // What would wait for ever, for nothing else is watched.
    for (text, why) in [
        ("command: sleep 1000\ndependsOn: [db]\n", "depends on db, and nothing else runs here"),
        ("command: sleep 1000\nenabled: false\n", "says `enabled: false`"),
        ("command: sleep 1000\nreplicas: 0\n", "says `replicas: 0`"),
        ("command: sleep 1000\nmcp: stdio\n", "is not run ("),
    ] {
        std::fs::write(world.root().join("waits.yaml"), text).expect("written");
        let output = run(&world, &["waits.yaml"]);
        assert_eq!(output.status.code(), Some(78), "{text}{}", err(&output));
        assert!(err(&output).contains(why), "{}", err(&output));
    }
    let output = run(&world, &["nosuch.sh"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("there is no file nosuch.sh"), "{}", err(&output));
}

#[test]
fn where_nothing_lies_what_was_probably_meant_is_told() {
    let world = World::empty();
    for (typed, told) in [
        ("nosuch.py", "there is no file nosuch.py; name a manifest, or write a command as `plugd run -- CMD`"),
        ("nosuch.yml", "there is no file nosuch.yml; name a manifest, or write a command as `plugd run -- CMD`"),
        ("sleep 7", "there is no directory \"sleep 7\"; if it is a command, write `plugd run -- sleep 7`"),
        ("sleep", "there is no directory sleep; if it is a command, write `plugd run -- sleep`"),
        ("apps.d", "there is no directory apps.d; make it with `mkdir -p apps.d`, or `plugd init apps.d` for one"),
        ("my/apps", "there is no directory my/apps; make it with `mkdir -p my/apps`, or `plugd init my/apps` for one"),
    ] {
        let output = run(&world, &[typed]);
        assert_eq!(output.status.code(), Some(78), "{typed}: {}", err(&output));
        assert!(err(&output).contains(told), "{typed}: {}", err(&output));
    }
}

/// `VERB /dev/stdin`, into which `text` is piped a moment after it began to read.
fn piped(world: &World, words: &[&str], text: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugd"));
    command.args(words).current_dir(world.root()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.env_remove("PLUGD_DIR").spawn().expect("started");
    let mut pipe = child.stdin.take().expect("a pipe");
    // It may have refused without reading.
    let _ = pipe.write_all(text.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("its end")
}

#[test]
fn a_pipe_is_checked_to_its_end_and_not_run() {
    let world = World::empty();
    let output = piped(&world, &["check", "/dev/stdin"], STAYS);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("would start 1"), "{}", out(&output));
    let output = piped(&world, &["check", "/dev/stdin"], "comand: true\n");
    assert_eq!(output.status.code(), Some(5));
    assert!(out(&output).contains("/dev/stdin:1:1: unknown field `comand`"), "{}", out(&output));
    let output = piped(&world, &["check", "-"], STAYS);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    let output = piped(&world, &["check", "-"], "comand: true\n");
    assert_eq!(output.status.code(), Some(5));
    assert!(out(&output).contains("-:1:1: unknown field `comand`"), "{}", out(&output));
    let output = piped(&world, &["check", "/dev/stdin"], &"# a long story\n".repeat(10_000));
    assert_eq!(output.status.code(), Some(5));
    assert!(out(&output).contains("larger than 64 KiB"), "{}", out(&output));
    let output = piped(&world, &["run", "/dev/stdin"], STAYS);
    assert_eq!(output.status.code(), Some(78));
    let said = "/dev/stdin cannot be read: it is a pipe, not a regular file";
    assert!(err(&output).contains(said), "{}", err(&output));
}

#[test]
fn what_cannot_run_says_why_and_how_to_begin() {
    let world = World::empty();
    let output = run(&world, &["no-such-directory"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("mkdir -p no-such-directory"), "{}", err(&output));
    assert_eq!(run(&world, &["--splendid"]).status.code(), Some(2));
    let empty = world.root().join("empty");
    std::fs::create_dir(&empty).expect("made");
    if !std::path::Path::new("/etc/plugd/services.d").exists() {
        let output =
            Command::new(env!("CARGO_BIN_EXE_plugd")).arg("run").current_dir(&empty).output().expect("started");
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(err(&output).lines().count(), 3, "{}", err(&output));
    }
}

#[test]
fn how_little_fits_under_a_low_limit_of_open_files_is_said_at_the_start() {
    let mut world = World::empty();
    world.put("web.yaml", STAYS);
    let under =
        |limit: &str| ["sh", "-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")].map(String::from).to_vec();
    let sh = under("68");
    let mut none = Command::new(&sh[0]);
    none.args(&sh[1..]).arg(env!("CARGO_BIN_EXE_plugd")).arg("run").arg("--state-dir").arg(world.root().join("none"));
    let output = none.arg(world.path("")).stdin(Stdio::null()).output().expect("started");
    assert_eq!(output.status.code(), Some(78), "{}", err(&output));
    let told = "no service could be started under a limit of 68 open files; raise the hard limit";
    assert!(err(&output).contains(told), "{}", err(&output));

    world.under = under("100");
    world.run(&[]);
    world.wait_status("web", "running");
    world.wait("the little room to be told", |world| {
        world.log().contains("plugd: a limit of 100 open files has room for 8 instances; for more, raise")
    });
}

#[test]
fn a_directory_has_one_owner_and_two_directories_have_two() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    let other = World::running();
    other.put("db.yaml", STAYS);
    world.wait_status("web", "running");
    other.wait_status("db", "running");
    ends(&world, 0, &["get", "web"]);
    ends(&other, 0, &["get", "db"]);
    assert_eq!(ends(&world, 0, &["get", "-o", "name"]).0, "web\n");
    assert_eq!(ends(&other, 0, &["get", "-o", "name"]).0, "db\n");
    let output = run(&world, &["services.d"]);
    assert_eq!(output.status.code(), Some(73));
    assert!(err(&output).contains("belongs to another plugd"), "{}", err(&output));
}

#[test]
fn an_ordinary_user_has_everything_below_its_own_places() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::empty();
    world.put("web.yaml", STAYS);
    let program = world.root().join("plugd");
    World::copy_program(&program);
    for name in ["run", "state"] {
        std::fs::create_dir(world.root().join(name)).expect("made");
    }
    let uid = 54_322;
    for path in
        [world.root().to_path_buf(), world.dir(), world.path("web.yaml"), world.root().join("run"), world.state()]
    {
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown");
    }
    std::fs::set_permissions(world.root().join("run"), PermissionsExt::from_mode(0o700)).expect("chmod");
    let command = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).uid(uid).gid(uid).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", world.root());
        command.env("XDG_RUNTIME_DIR", world.root().join("run")).env("XDG_STATE_HOME", world.state());
        command.current_dir(world.root()).stdin(Stdio::null());
        command
    };
    let mut node = command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    world.wait_status("web", "running");
    let output = command(&["get", "web", "-o", "name"]).output().expect("started");
    assert_eq!(out(&output), "web\n", "{}", err(&output));
    world.wait("the node's own status", |world| world.node_status().is_some());
    let text = world.node_status().expect("there");
    for place in ["state/plugd/services.d-", "run/plugd/services.d-"] {
        assert!(text.contains(&world.root().join(place).display().to_string()), "{place} in\n{text}");
    }
    // A second node of the same user: without a name both are listed, by what --dir takes.
    let second = world.root().join("second");
    std::fs::create_dir(&second).expect("made");
    std::os::unix::fs::chown(&second, Some(uid), Some(uid)).expect("chown");
    let mut other = command(&["run", "second"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    world.wait("the second node", |_| second.join("_controller.status").exists());
    let output = command(&["get"]).current_dir("/").output().expect("started");
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    for dir in [world.dir(), second] {
        assert!(err(&output).contains(&dir.display().to_string()), "{}", err(&output));
    }
    let output = command(&["get", "-o", "name"]).current_dir(world.dir()).output().expect("started");
    assert_eq!(out(&output), "web\n", "asked within one, that is meant: {}", err(&output));
    for node in [&mut node, &mut other] {
        crate::world::kill(node.id() as i32, 15);
        assert!(node.wait().expect("waitable").success());
    }
}

#[test]
fn a_path_of_two_hundred_characters_and_a_narrow_umask_are_no_hindrance() {
    let world = World::empty();
    let dir = world.root().join("d".repeat(200)).join("services.d");
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::write(dir.join("web.yaml"), STAYS).expect("written");
    let state = world.root().join("s".repeat(150));
    let script = "umask 077; exec \"$0\" run --no-tee --state-dir \"$1\" \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_plugd")]).arg(&state).arg(&dir);
    let mut node = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    world.wait("its status", |_| {
        std::fs::read_to_string(dir.join("web.status")).is_ok_and(|text| text.contains("status: running"))
    });
    let output =
        Command::new(env!("CARGO_BIN_EXE_plugd")).arg("--dir").arg(&dir).args(["get", "web", "-o", "name"]).output();
    let output = output.expect("started");
    assert_eq!(out(&output), "web\n", "{}", err(&output));
    crate::world::kill(node.id() as i32, 15);
    assert!(node.wait().expect("waitable").success());
}

#[test]
fn a_read_only_directory_has_its_status_files_elsewhere() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::empty();
    world.put("web.yaml", STAYS);
    // In a mount namespace of its own, so that nothing of it stays.
    let script = "mount --make-rprivate / && mount --bind \"$2\" \"$2\" && mount -o remount,ro,bind \"$2\" && \
                  exec \"$0\" run --no-tee --state-dir \"$1\" \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_plugd")]).arg(world.state()).arg(world.dir());
    let mut node = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let elsewhere = world.state().join("status/web.status");
    world.wait("its status elsewhere", |_| {
        std::fs::read_to_string(&elsewhere).is_ok_and(|text| text.contains("status: running"))
    });
    ends(&world, 0, &["get", "web"]);
    assert!(world.status_file("web").is_none());
    crate::world::kill(node.id() as i32, 15);
    assert!(node.wait().expect("waitable").success());
}

#[test]
fn a_run_directory_of_one_command_that_was_cleaned_away_is_made_again() {
    let world = World::empty();
    let mut one = Command::new(env!("CARGO_BIN_EXE_plugd"))
        .args(["run", "--state-dir"])
        .arg(world.state())
        .args(["--", "sleep", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("plugd can be started");
    let run = world.state().join("run");
    let is_there = |_: &World| ["plugd.sock", "lives"].iter().all(|file| run.join(file).exists());
    world.wait("socket and table of lives", is_there);
    for _ in 0..2 {
        std::fs::remove_dir_all(&run).expect("cleaned");
        world.wait("both to be there again", is_there);
    }
    crate::world::kill(one.id() as i32, 15);
    crate::ask::code_of(&mut one);
}

#[test]
fn the_api_listens_where_it_is_told_to_and_says_where_its_token_is() {
    let mut world = World::empty();
    world.put("web.yaml", crate::ask::STAYS);
    let port = free_port();
    world.put("_plugd.yaml", &format!("listen: 127.0.0.1:{port}\n"));
    world.run(&[]);
    world.wait_status("web", "running");
    let token = world.state().join("token");
    let told = format!("listen: \"127.0.0.1:{port}\", token: {}", token.display());
    world.wait("the node to tell it", |world| world.node_status().is_some_and(|status| status.contains(&told)));
    let text = std::fs::read_to_string(&token).expect("a token");
    let get = |path: &str, token: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n{token}\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    };
    let known = format!("authorization: Bearer {}\r\n", text.trim());
    assert!(get("/readyz", "").starts_with("HTTP/1.1 200 "));
    assert!(get("/v1/services", "").starts_with("HTTP/1.1 401 "));
    assert!(get("/v1/services", &known).contains("\"web\""));

    // The next controller has the same port, and the same token.
    let before = world.controller_pid().expect("it was told");
    kill(before, 9);
    world.wait("the next controller to answer", |world| {
        world.controller_pid() != Some(before)
            && TcpStream::connect(("127.0.0.1", port)).is_ok()
            && get("/v1/services", &known).contains("\"web\"")
    });

    // A port that somebody else has is told, and services run all the same.
    let mut other = World::empty();
    other.put("web.yaml", crate::ask::STAYS);
    other.run(&["--listen", &format!("localhost:{port}")]);
    other.wait_status("web", "running");
    let table = other.ask(&["get"]);
    let why = format!("the API does not listen on 127.0.0.1:{port}: another program has that port");
    assert!(table.contains("AddressInUse") && table.contains(&why), "{table}");
    assert!(other.log().contains(&why), "{}", other.log());
    // Of one command nobody could be told later.
    let output = run(&other, &["--listen", &format!("127.0.0.1:{port}"), "--", "true"]);
    assert!(output.status.code() == Some(78) && err(&output).contains("the API does not listen on"), "{output:?}");

    // An edit moves it at once, and takes it away.
    let next = free_port();
    let is_open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    world.put("_plugd.yaml", &format!("listen: 127.0.0.1:{next}\n"));
    world.wait("the other port", |_| is_open(next) && !is_open(port));
    let told = format!("listen: \"127.0.0.1:{next}\"");
    world.wait("the node to tell it", |world| world.node_status().is_some_and(|status| status.contains(&told)));
    world.put("_plugd.yaml", "logsTotal: 1Gi\n");
    world.wait("no port", |_| !is_open(next));
    world.wait("what is in force later to be told", |world| {
        world.ask(&["get"]).contains("logsTotal as it is now holds")
    });
}

#[test]
fn places_that_are_edited_are_those_of_the_next_start_and_of_no_controller_before_it() {
    let mut world = World::empty();
    world.put("web.yaml", "script: while sleep 0.1; do echo on; done\n");
    world.run(&[]);
    world.wait_status("web", "running");
    let (first, next) = (world.state().join("logs/web.log"), world.root().join("next"));
    world.wait("its first line", |_| first.exists());
    world.put("_plugd.yaml", &format!("logDir: {}\n", next.display()));
    let is_told = |world: &World| world.ask(&["get"]).contains("logDir as it is now holds when plugd is started");
    world.wait("what waits to be told", is_told);
    let before = world.controller_pid().expect("a pid");
    kill(before, 9);
    world.wait("the next controller to tell it", |world| {
        world.controller_pid().is_some_and(|pid| pid != before) && is_told(world)
    });
    let length = || std::fs::metadata(&first).expect("a log").len();
    let long = length();
    world.wait("lines in the same place", |_| length() > long);
    assert!(!next.exists());
    assert_eq!(world.stop().code(), Some(0));
    world.run(&[]);
    world.wait("lines in the other place", |_| next.join("web.log").exists());
    assert!(!is_told(&world));
}

#[test]
fn the_api_listens_to_this_machine_alone() {
    let world = World::empty();
    for (address, remedy) in [
        ("0.0.0.0:7666", "write 127.0.0.1:7666: it is served to this machine alone"),
        ("7666", "write 127.0.0.1:7666"),
        ("127.0.0.1:0", "write a port from 1 to 65535"),
        ("here", "as 127.0.0.1:7666"),
    ] {
        let (_, told) = crate::ask::ends(&world, 2, &["run", "--listen", address]);
        assert!(told.contains(remedy), "{address}: {told}");
    }
}
