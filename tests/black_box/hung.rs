//! File systems that answer nothing, as a dead NFS server leaves them: what names one waits alone.
//!
//! The injector is a FUSE mount whose descriptor nobody reads: every look below it hangs until the
//! descriptor is closed. That takes root and /dev/fuse; where they are missing these tests say so.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, kill, lives};

/// A mount point below which nothing answers.
struct Hung {
    path: PathBuf,
    server: Option<File>,
}

impl Hung {
    /// None, and said, where this cannot be made here.
    fn at(path: PathBuf) -> Option<Hung> {
        let server = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(server) if rustix::process::geteuid().is_root() => server,
            Ok(_) => {
                eprintln!("NOT TESTED: a file system that hangs can only be mounted by root");
                return None;
            }
            Err(error) => {
                eprintln!("NOT TESTED: /dev/fuse cannot be opened ({error})");
                return None;
            }
        };
        std::fs::create_dir_all(&path).expect("a mount point");
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "dead"]).arg(&path);
        let mounted = mount.stdin(Stdio::from(server.try_clone().expect("a copy"))).output().expect("mount(8)");
        if !mounted.status.success() {
            eprintln!("NOT TESTED: no FUSE mount here: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        Some(Hung { path, server: Some(server) })
    }

    /// Everything that waits is answered with an error, and what was below the mount is seen again.
    fn end(&mut self) {
        if self.server.take().is_some() {
            let unmounted = Command::new("umount").args(["-i", "-l"]).arg(&self.path).status().expect("umount(8)");
            assert!(unmounted.success(), "{} stays mounted", self.path.display());
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.end();
    }
}

/// What other services and people do meanwhile, and how fast: none of it may wait for what never answers.
fn others_go_on(world: &World, name: &str) {
    let asked = Instant::now();
    world.put(&format!("{name}.yaml"), "command: sleep 3600\n");
    world.wait_status(name, "running");
    assert!(world.ask(&["get"]).contains(name));
    world.remove(&format!("{name}.yaml"));
    world.wait("it to go", |world| world.status_file(name).is_none());
    assert!(asked.elapsed() < Duration::from_secs(10), "{name} took {:?}", asked.elapsed());
}

fn says(world: &World, name: &str, what: &str) {
    world.wait(&format!("{name} to say {what:?}"), |world| {
        world.status_file(name).is_some_and(|text| text.contains(what))
    });
}

#[test]
fn a_start_whose_paths_do_not_answer_waits_alone_and_says_for_what() {
    let mut world = World::empty();
    let Some(mut hung) = Hung::at(world.root().join("dead")) else { return };
    world.run(&["--max-starting", "2"]);
    let dead = hung.path.display().to_string();
    let manifests = [
        ("dir", format!("command: sleep 3600\nworkingDir: {dead}/w\n"), format!("its working directory {dead}/w")),
        ("program", format!("command: [{dead}/bin/run]\n"), format!("its program {dead}/bin/run")),
        ("secret", format!("command: sleep 3600\nenv: {{KEY: {{file: {dead}/key}}}}\n"), format!("{dead}/key")),
        (
            "hook",
            format!("command: sleep 3600\nlifecycle: {{preStart: {{exec: {{command: [{dead}/hook]}}}}}}\n"),
            format!("{dead}/hook"),
        ),
    ];
    for (name, text, _) in &manifests {
        world.put(&format!("{name}.yaml"), text);
    }
    others_go_on(&world, "first");
    for (name, _, what) in &manifests {
        says(&world, name, &format!("{what} does not answer"));
        assert_eq!(world.status(name), "starting (NotAnswering)", "{:?}", world.status_file(name));
    }
    // They keep no place of the two that may start at a time.
    others_go_on(&world, "second");

    // Deleted or edited: that takes effect, and nothing of the old wish is ever started.
    world.remove("secret.yaml");
    world.wait("the deleted one to go", |world| world.status_file("secret").is_none());
    world.put("program.yaml", "command: sleep 3600\n");
    world.wait_status("program", "running");

    // The server is back, or gone for good: what waited goes on by itself.
    hung.end();
    std::fs::create_dir(hung.path.join("w")).expect("made");
    world.wait_status("dir", "running");
    world.wait("what was deleted stays away", |world| world.status_file("secret").is_none());
    assert!(!world.ask(&["get"]).contains("secret"));
    assert!(world.stop().success());
}

#[test]
fn many_services_on_a_dead_file_system_take_no_threads_and_hold_up_no_stop() {
    let mut world = World::empty();
    let Some(hung) = Hung::at(world.root().join("dead")) else { return };
    world.run(&[]);
    for number in 0..30 {
        let text = format!("command: sleep 3600\nworkingDir: {}/{number}\n", hung.path.display());
        world.put(&format!("dead{number}.yaml"), &text);
    }
    others_go_on(&world, "good");
    says(&world, "dead29", "/29 does not answer");
    let controller = world.controller_pid().expect("a controller");
    let names = std::fs::read_dir(format!("/proc/{controller}/task")).expect("its threads").flatten();
    let preparing = names
        .filter(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "prepare"))
        .count();
    assert!(preparing <= 8, "{preparing} threads prepare");
    let asked = Instant::now();
    assert!(world.stop().success());
    assert!(asked.elapsed() < Duration::from_secs(10), "the stop took {:?}", asked.elapsed());
}

#[test]
fn an_edit_whose_working_directory_does_not_answer_leaves_the_old_process_alone() {
    let mut world = World::empty();
    let Some(mut hung) = Hung::at(world.root().join("dead")) else { return };
    world.run(&[]);
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    world.put("web.yaml", &format!("command: sleep 3601\nworkingDir: {}\n", hung.path.display()));
    says(&world, "web", "does not answer");
    others_go_on(&world, "good");
    assert_eq!(world.pid("web"), Some(pid));
    assert!(lives(pid));
    hung.end();
    world.wait("the new process", |world| world.pid("web").is_some_and(|now| now != pid));
    assert!(world.stop().success());
}

#[test]
fn an_exec_probe_whose_program_does_not_answer_is_a_failed_probe() {
    let mut world = World::empty();
    let Some(hung) = Hung::at(world.root().join("dead")) else { return };
    world.run(&[]);
    let probe = format!("readinessProbe: {{exec: [{}/probe], period: 1s, timeout: 1s}}\n", hung.path.display());
    world.put("web.yaml", &format!("command: sleep 3600\n{probe}"));
    says(&world, "web", "does not answer");
    others_go_on(&world, "good");
    assert!(world.stop().success());
}

#[test]
fn a_hung_env_file_or_wrapper_or_link_keeps_no_other_file_from_being_seen() {
    let mut world = World::empty();
    let Some(mut hung) = Hung::at(world.root().join("dead")) else { return };
    world.run(&[]);
    let dead = hung.path.display().to_string();
    world.put("env.yaml", &format!("command: sleep 3600\nenvFrom: [{{file: {dead}/env}}]\n"));
    others_go_on(&world, "first");
    world.put("wrapped.yaml", &format!("wrapper: {dead}/run.sh\n"));
    others_go_on(&world, "second");
    std::os::unix::fs::symlink(hung.path.join("linked.yaml"), world.path("linked.yaml")).expect("linked");
    others_go_on(&world, "third");
    for name in ["env", "wrapped"] {
        says(&world, name, "does not answer");
    }
    hung.end();
    std::fs::write(Path::new(&dead).join("env"), "COLOUR=green\n").expect("written");
    world.wait_status("env", "running");
    assert!(world.stop().success());
}

#[test]
fn an_env_file_that_stops_answering_restarts_nobody() {
    let mut world = World::empty();
    let place = world.root().join("mounted");
    std::fs::create_dir(&place).expect("made");
    std::fs::write(place.join("env"), "COLOUR=green\n").expect("written");
    world.run(&[]);
    world.put("web.yaml", &format!("command: sleep 3600\nenvFrom: [{{file: {}/env}}]\n", place.display()));
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let Some(mut hung) = Hung::at(place) else { return };
    world.signal_node(libc::SIGHUP);
    others_go_on(&world, "good");
    hung.end();
    world.signal_node(libc::SIGHUP);
    others_go_on(&world, "better");
    assert_eq!(world.pid("web"), Some(pid));
    assert!(world.stop().success());
}

#[test]
fn a_log_of_ones_own_that_does_not_answer_holds_up_no_other_log() {
    let mut world = World::empty();
    let Some(hung) = Hung::at(world.root().join("dead")) else { return };
    world.run(&[]);
    let script = "script: |\n  echo here I am\n  exec sleep 3600\n";
    world.put("deaf.yaml", &format!("{script}logs: {{path: {}/deaf.log}}\n", hung.path.display()));
    world.wait_status("deaf", "running");
    world.put("web.yaml", script);
    world.wait("the line of the other", |world| world.ask(&["logs", "web"]).contains("here I am"));
    // Edited towards it while it runs, too.
    world.put("moved.yaml", script);
    world.wait_status("moved", "running");
    world.put("moved.yaml", &format!("{script}logs: {{path: {}/moved.log}}\n", hung.path.display()));
    world.put("late.yaml", script);
    world.wait("the line of the last", |world| world.ask(&["logs", "late"]).contains("here I am"));
    let asked = Instant::now();
    world.stop();
    assert!(asked.elapsed() < Duration::from_secs(15), "the stop took {:?}", asked.elapsed());
}

#[test]
fn a_database_that_does_not_answer_keeps_no_controller_from_starting() {
    let mut world = World::empty();
    let Some(mut hung) = Hung::at(world.root().join("dead")) else { return };
    std::fs::create_dir_all(world.state()).expect("made");
    std::os::unix::fs::symlink(hung.path.join("state.db"), world.state().join("state.db")).expect("linked");
    world.put("web.yaml", "command: sleep 3600\n");
    world.run(&[]);
    world.wait_status("web", "running");
    others_go_on(&world, "good");
    hung.end();
    assert!(world.stop().success());
}

#[test]
fn a_locked_database_is_waited_for_beside_the_start_and_written_when_it_is_free() {
    let mut world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    assert!(world.stop().success());
    let db = rusqlite::Connection::open(world.state().join("state.db")).expect("opened");
    db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").expect("locked");
    let asked = Instant::now();
    world.run(&[]);
    world.wait_status("web", "running");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    world.ask(&["stop", "web"]);
    drop(db);
    world.wait("what was ordered meanwhile to be remembered", |world| remembers(world, "web"));
    assert!(world.stop().success());
    world.run(&[]);
    world.wait_status("web", "stopped");
}

/// That `plugd stop` of a service is in the database.
fn remembers(world: &World, name: &str) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(world.state().join("state.db"), flags);
    db.and_then(|db| db.query_row("SELECT json FROM memory WHERE name = ?1", [name], |row| row.get::<_, String>(0)))
        .is_ok_and(|json| json.contains("\"stopped_by_operator\":true"))
}

#[test]
fn a_database_that_is_taken_away_is_made_again_with_all_that_is_known() {
    let mut world = World::running();
    for name in ["web", "kept"] {
        world.put(&format!("{name}.yaml"), "command: sleep 3600\n");
        world.wait_status(name, "running");
    }
    world.ask(&["stop", "web"]);
    world.wait("it to be remembered", |world| remembers(world, "web"));
    for ending in ["", "-wal", "-shm"] {
        // The journals come and go.
        let _ = std::fs::remove_file(world.state().join(format!("state.db{ending}")));
    }
    world.wait("the database to be there again", |world| remembers(world, "web"));

    // Something else in its place is put aside.
    let stage = world.root().join("stage");
    std::fs::write(&stage, "not a database").expect("written");
    std::fs::rename(&stage, world.state().join("state.db")).expect("replaced");
    world.wait("the database to be there once more", |world| remembers(world, "web"));

    // What is said afterwards goes into the new one.
    world.ask(&["stop", "kept"]);
    world.wait("the later word", |world| remembers(world, "kept"));
    let controller = world.controller_pid().expect("a controller");
    kill(controller, libc::SIGKILL);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    world.wait_status("web", "stopped");
    assert!(world.stop().success());
    world.run(&[]);
    world.wait_status("web", "stopped");
    world.wait_status("kept", "stopped");
}
