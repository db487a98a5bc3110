//! The watched directory: hot-plug, edits, deletions, bad files, editors, lost directories.

use std::fs;
use std::io::Write;

use crate::world::{World, kill, lives};

fn sleeper(marker: &str) -> String {
    format!("command: [sleep, '3600']\nenv: {{MARK: {marker}}}\n")
}

#[test]
fn a_manifest_renamed_in_runs_and_its_status_names_pid_generation_and_hash() {
    let world = World::running();

    world.put("web.yaml", "command: sleep 3600\n");

    world.wait_status("web", "running");
    assert!(lives(world.pid("web").expect("a pid")));
    let manifest = world.field("web", "manifest").expect("manifest");
    assert!(manifest.contains("generation: 1") && manifest.contains("sha256:"), "{manifest}");
}

#[test]
fn a_removed_manifest_stops_the_service_and_takes_its_status_along() {
    let world = World::running();
    world.put("web.yaml", "script: |\n  sleep 3600 & sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");

    world.remove("web.yaml");

    world.wait("the status file to go", |world| world.status_file("web").is_none());
    assert!(!lives(pid));
}

#[test]
fn the_same_bytes_a_touch_or_a_comment_keep_the_pid() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\nlabels: {a: b}\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");

    world.put("web.yaml", "command: sleep 3600\nlabels: {a: b}\n");
    fs::write(world.path("web.yaml"), "# a comment\nlabels: {a: b}\ncommand: [sleep, '3600']\n").expect("written");
    // A later file is seen after the earlier ones: its status is the sentinel.
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");
    let hash = sha256_of(&world, "web.yaml");
    world.wait("the comment to be read", |world| world.field("web", "manifest").is_some_and(|m| m.contains(&hash)));

    assert_eq!(world.pid("web"), pid);
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"));
}

fn sha256_of(world: &World, file: &str) -> String {
    use sha2::{Digest, Sha256};
    let bytes = fs::read(world.path(file)).expect("readable");
    Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_edit_of_the_process_replaces_it_once() {
    let world = World::running();
    world.put("web.yaml", &sleeper("one"));
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");

    world.put("web.yaml", &sleeper("two"));

    world.wait("a new process", |world| world.pid("web").is_some_and(|new| new != pid));
    world.wait_status("web", "running");
    assert!(!lives(pid));
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"), "an edit is no restart");
    assert!(world.field("web", "manifest").expect("manifest").contains("generation: 2"));
}

#[test]
fn a_bad_edit_keeps_the_last_good_version_and_says_where_the_mistake_is() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");

    world.put("web.yaml", "command: sleep 3600\nreplica: two\n");

    world.wait("the rejection", |world| world.field("web", "manifest").is_some_and(|m| m.contains("rejected")));
    assert_eq!(world.pid("web"), pid);
    assert_eq!(world.status("web"), "running");
    let status = world.status_file("web").expect("a status");
    assert!(status.contains("ConfigInvalid") && status.contains("web.yaml:2:1"), "{status}");
    assert!(status.contains("replicas"), "the nearest name is proposed: {status}");

    world.put("web.yaml", &sleeper("mended"));
    world.wait("the mended version", |world| world.pid("web").is_some_and(|new| Some(new) != pid));
    world.wait("the problem to go", |world| {
        world.status_file("web").is_some_and(|status| !status.contains("ConfigInvalid"))
    });
}

#[test]
fn a_file_truncated_to_nothing_is_invalid_not_deleted() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");

    fs::write(world.path("web.yaml"), "").expect("truncated");

    world.wait("the rejection", |world| world.status_file("web").is_some_and(|s| s.contains("ConfigInvalid")));
    assert_eq!(world.pid("web"), pid);
}

#[test]
fn a_renamed_manifest_that_keeps_its_name_restarts_nothing() {
    let world = World::running();
    world.put("a.yaml", "name: web\ncommand: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");

    fs::rename(world.path("a.yaml"), world.path("b.yaml")).expect("renamed");

    world.wait("the new owner", |world| world.field("web", "manifest").is_some_and(|m| m.contains("b.yaml")));
    assert_eq!(world.pid("web"), pid);
}

#[test]
fn every_editor_s_way_to_save_is_one_update() {
    let world = World::running();
    let path = world.path("web.yaml");
    world.put("web.yaml", &sleeper("v0"));
    world.wait_status("web", "running");
    type Way<'a> = (&'a str, &'a dyn Fn(&str));
    let ways: [Way<'_>; 5] = [
        ("cat >", &|text| fs::write(&path, text).expect("written")),
        ("sed -i", &|text| {
            let stage = world.path("sedAbC123");
            fs::write(&stage, text).expect("written");
            fs::rename(&stage, &path).expect("renamed");
        }),
        ("vim", &|text| {
            let backup = world.path("web.yaml~");
            fs::rename(&path, &backup).expect("moved away");
            fs::write(&path, text).expect("written");
            fs::remove_file(&backup).expect("removed");
        }),
        ("cp --remove-destination", &|text| {
            fs::remove_file(&path).expect("removed");
            fs::write(&path, text).expect("written");
        }),
        ("mv", &|text| world.put("web.yaml", text)),
    ];
    let mut generation = 1;
    for (way, save) in ways {
        let pid = world.pid("web").expect("a pid");
        generation += 1;

        // In one look: a machine that is busy may take longer for it than a file may be away.
        let controller = world.controller_pid().expect("a controller");
        kill(controller, libc::SIGSTOP);
        save(&sleeper(&format!("v{generation}")));
        kill(controller, libc::SIGCONT);

        world.wait(&format!("the version that {way} saved"), |world| {
            world.pid("web").is_some_and(|new| new != pid) && world.status("web") == "running"
        });
        let manifest = world.field("web", "manifest").expect("manifest");
        assert!(manifest.contains(&format!("generation: {generation}")), "{way}: {manifest}");
        assert_eq!(world.field("web", "restarts").as_deref(), Some("0"), "{way}");
    }
}

#[test]
fn editors_leavings_are_ignored() {
    let world = World::running();
    for name in ["x.yaml~", ".x.yaml.swp", "4913", "#x#", "x.yaml.bak", "x.yaml.orig", "sedAbC123", "x.status"] {
        fs::write(world.path(name), "command: sleep 3600\n").expect("written");
    }
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");

    let names = world.ask(&["get", "-o", "name"]);
    assert_eq!(names.trim(), "sentinel");
}

#[test]
fn of_two_files_with_one_name_the_first_stays_and_the_second_takes_over() {
    let world = World::running();
    world.put("a.yaml", "name: web\ncommand: sleep 3600\n");
    world.wait_status("web", "running");

    world.put("b.yaml", "name: web\ncommand: sleep 3601\n");

    world.wait("the conflict to be told", |world| {
        world.node_status().is_some_and(|text| text.contains("NameConflict"))
            && world.status_file("web").is_some_and(|text| text.contains("NameConflict"))
    });
    assert!(world.field("web", "manifest").expect("manifest").contains("a.yaml"));

    world.remove("a.yaml");
    world.wait("the second to take over", |world| {
        world.field("web", "manifest").is_some_and(|manifest| manifest.contains("b.yaml"))
            && world.status("web") == "running"
    });
}

#[test]
fn a_lost_directory_holds_everything() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let away = world.root().join("away");

    fs::rename(world.dir(), &away).expect("moved away");
    std::thread::scope(|_| {
        // The node looks at the directory's identity every five seconds at the latest.
        let deadline = std::time::Instant::now() + crate::world::PATIENCE;
        while !fs::read_to_string(away.join("_controller.status")).unwrap_or_default().contains("DirectoryLost") {
            assert!(std::time::Instant::now() < deadline, "DirectoryLost is never told\n{}", world.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    assert!(lives(pid), "what ran is held");

    fs::rename(&away, world.dir()).expect("moved back");
    world.wait("the directory to be found", |world| {
        world.node_status().is_some_and(|text| !text.contains("DirectoryLost"))
    });
    assert_eq!(world.pid("web"), Some(pid));
}

#[test]
fn all_manifests_removed_at_once_is_a_wish() {
    let world = World::running();
    for name in ["a", "b", "c"] {
        world.put(&format!("{name}.yaml"), "command: sleep 3600\n");
    }
    for name in ["a", "b", "c"] {
        world.wait_status(name, "running");
    }

    for name in ["a", "b", "c"] {
        world.remove(&format!("{name}.yaml"));
    }

    for name in ["a", "b", "c"] {
        world.wait("its status to go", |world| world.status_file(name).is_none());
    }
}

#[test]
fn a_script_is_a_service_by_being_there() {
    let world = World::running();
    world.put_script("ticker.sh", "#!/bin/sh\nexec sleep 3600\n");
    world.wait_status("ticker", "running");

    world.remove("ticker.sh");
    world.wait("the service to go", |world| world.status_file("ticker").is_none());
}

#[test]
fn a_script_without_the_x_bit_is_skipped_with_the_chmod() {
    let world = World::running();
    world.put("job.sh", "#!/bin/sh\nexec sleep 3600\n");
    world.wait_status("job", "skipped (NotExecutable)");
    assert!(world.status_file("job").expect("a status").contains("chmod +x"));
}

#[test]
fn deleting_a_manifest_does_not_let_its_wrapper_start_by_discovery() {
    let world = World::running();
    world.put_script("postgres.sh", "#!/bin/sh\nexec sleep 3600\n");
    world.put("postgres.yaml", "wrapper: postgres.sh\n");
    world.wait_status("postgres", "running");
    world.wait("the manifest to own it", |world| {
        world.field("postgres", "manifest").is_some_and(|manifest| manifest.contains("postgres.yaml"))
    });

    world.remove("postgres.yaml");
    world.wait("the service to go", |world| world.status_file("postgres").is_none());
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");
    let names = world.ask(&["get", "-o", "name"]);
    assert_eq!(names.trim(), "sentinel");
}

#[test]
fn a_fifo_and_a_huge_file_are_refused_without_being_opened_for_long() {
    let world = World::running();
    let made = std::process::Command::new("mkfifo").arg(world.path("pipe.yaml")).status().expect("mkfifo");
    assert!(made.success());
    let huge = fs::File::create(world.path("huge.yaml")).expect("created");
    huge.set_len(10 << 30).expect("sparse");
    drop(huge);
    // The border: what is just as large as a manifest may be, and a byte more.
    let filled = |size: usize| format!("command: sleep 3600\n# {}\n", "x".repeat(size - 23));
    world.put("largest.yaml", &filled(64 * 1024));
    world.put("larger.yaml", &filled(64 * 1024 + 1));
    world.put("web.yaml", "command: sleep 3600\n");

    world.wait_status("web", "running");
    world.wait("both to be told", |world| {
        world.node_status().is_some_and(|text| text.contains("pipe.yaml") && text.contains("huge.yaml"))
    });
    assert_eq!(fs::metadata(world.path("largest.yaml")).expect("there").len(), 64 * 1024);
    world.wait_status("largest", "running");
    world.wait("the byte more to be told", |world| {
        let text = [world.node_status(), world.status_file("larger")].into_iter().flatten().collect::<String>();
        text.contains("larger") && text.contains("TooLarge") && world.pid("larger").is_none()
    });
}

#[test]
fn an_edited_wrapper_restarts_its_service() {
    let world = World::running();
    world.put_script("w.sh", "#!/bin/sh\nexec sleep 3600\n");
    world.put("svc.yaml", "wrapper: w.sh\n");
    world.wait_status("svc", "running");
    let pid = world.pid("svc").expect("a pid");

    world.put_script("w.sh", "#!/bin/sh\nexec sleep 3601\n");
    world.wait("a new process", |world| world.pid("svc").is_some_and(|new| new != pid));

    let pid = world.pid("svc").expect("a pid");
    // Its shell has read it when it has become what it says.
    world.wait("the shell to have read it", |_| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"sleep"))
    });
    world.remove("w.sh");
    world.wait("the problem", |world| world.status_file("svc").is_some_and(|s| s.contains("WrapperNotFound")));
    assert!(lives(pid), "a wrapper that is gone changes nothing for what runs");
}

#[test]
fn a_fifo_as_env_file_or_secret_holds_up_nobody() {
    let world = World::running();
    let made = std::process::Command::new("mkfifo").arg(world.path("ff")).status().expect("mkfifo");
    assert!(made.success());
    world.put("env.yaml", "command: sleep 3600\nenvFrom: [{file: ff}]\n");
    world.put("secret.yaml", "command: sleep 3600\nenv: {X: {file: ff}}\n");
    world.put("fine.yaml", "command: sleep 3600\n");

    world.wait_status("fine", "running");
    for name in ["env", "secret"] {
        world.wait(&format!("{name} to be told"), |world| {
            world.status_file(name).is_some_and(|text| text.contains("not a regular file"))
        });
    }
}

#[test]
fn a_cleaned_folder_for_temporary_files_is_made_again() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");

    // What is written in there at this moment may stand in the way.
    world.wait("the folder to be removed", |world| fs::remove_dir_all(world.path(".plugd")).is_ok());
    kill(pid, 9);

    world.wait("the new process to be told", |world| world.pid("web").is_some_and(|new| new != pid));
}

#[test]
fn what_writes_the_files_that_it_has_watched_is_restarted_ever_more_seldom_and_crashes_as_others_do() {
    let world = World::running();
    let data = world.root().join("data");
    fs::create_dir(&data).expect("made");
    for (name, then) in [("stays", "exec sleep 86400"), ("crashes", "exit 1")] {
        let script = format!("date +%s.%N > {}/{name}; sleep 0.1; {then}", data.display());
        world.put(&format!("{name}.yaml"), &format!("script: {script}\nwatchFiles: [../data/{name}]\n"));
    }
    let migration = format!("date +%N > {}/job; echo ran >> {}/runs", data.display(), data.display());
    world.put("job.yaml", &format!("script: {migration}\nrestart: Never\nwatchFiles: [../data/job]\n"));
    let said = |world: &World| world.ask(&["events", "stays"]).contains("ChangesItself");
    world.wait("the word of it", said);
    world.wait_status("crashes", "unhealthy (CrashLoopBackOff)");
    world.wait_status("job", "completed");
    let runs = fs::read_to_string(data.join("runs")).expect("it ran").lines().count();
    assert!(runs <= 3, "{runs} runs");
}

#[test]
fn a_watched_file_that_changes_restarts_its_service_and_a_new_controller_does_not() {
    let world = World::running();
    let (config, seen) = (world.root().join("config"), world.root().join("seen"));
    fs::create_dir(&config).expect("made");
    fs::write(config.join("app.toml"), "one\n").expect("written");
    let text = format!(
        "script: cat {}/*.toml >> {}; exec sleep 86400\nwatchFiles: ['../config/*.toml', ../config/app.toml]\n",
        config.display(),
        seen.display()
    );
    world.put("web.yaml", &text);
    world.wait_status("web", "running");
    let read = || fs::read_to_string(&seen).unwrap_or_default();
    world.wait("the first start", |_| read() == "one\n");
    let first = world.pid("web");
    fs::write(config.join("app.toml"), "two\n").expect("written");
    world.wait("the second start", |world| {
        read() == "one\ntwo\n" && world.pid("web").is_some_and(|pid| Some(pid) != first)
    });
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"), "somebody asked for it");

    let pid = world.pid("web");
    let told = |world: &World| world.status_file("web").is_some_and(|text| text.contains("WatchFileNotFound"));
    fs::remove_file(config.join("app.toml")).expect("removed");
    world.wait("what is away to be told", told);
    fs::write(config.join("app.toml"), "two\n").expect("written");
    world.wait("what is back to be told", |world| !told(world));
    assert_eq!(world.pid("web"), pid);
    let events = world.ask(&["events", "web"]);
    assert!(events.contains("config/app.toml was edited"), "{events}");
    assert_eq!(events.matches("Updated").count(), 1, "nothing changed when it came back: {events}");

    // Away while nobody looks, and as long as the next controller lives.
    let next = |world: &World| {
        let controller = world.controller_pid().expect("a controller");
        kill(controller, 9);
        world.wait("the next controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    };
    fs::rename(&config, world.root().join("away")).expect("moved");
    next(&world);
    world.wait("what is away to be told again", told);
    next(&world);
    fs::rename(world.root().join("away"), &config).expect("moved back");
    world.wait("what is back to be told", |world| !told(world));
    assert_eq!((world.pid("web"), read().as_str()), (pid, "one\ntwo\n"));

    kill(world.controller_pid().expect("a controller"), 9);
    fs::write(config.join("new.toml"), "three\n").expect("written");
    // Had the new controller started it for its own sake, "two" would stand there once more.
    world.wait("the third start", |_| read() == "one\ntwo\ntwo\nthree\n");
}

#[test]
fn a_script_that_was_just_written_is_waited_for_by_the_start_and_by_all_who_ask() {
    let mut world = World::empty();
    world.put("migrate.yaml", "command: 'true'\nrestart: Never\n");
    world.put_script("web.sh", "#!/bin/sh\n# plugd: required: true\nexec sleep 1000\n");
    world.run(&["--exit-on-required"]);
    let asked = world.plugd(&["wait", "--timeout", "20s"]);
    assert_eq!(asked.status.code(), Some(0), "{}", String::from_utf8_lossy(&asked.stderr));
    world.wait_status("web", "running");
    world.wait("the report", |world| world.log().contains("plugd: started: "));
    assert!(world.log().contains("plugd: started: migrate, web"), "{}", world.log());
}

#[test]
fn a_file_that_stays_open_for_writing_hides_no_service_from_the_next_controller() {
    let world = World::running();
    let (data, vars) = (world.root().join("data.db"), world.root().join("vars.env"));
    std::fs::write(&data, "x").expect("written");
    std::fs::write(&vars, "A=1\n").expect("written");
    world.put("db.yaml", &format!("command: sleep 1000\nwatchFiles: [{}]\n", data.display()));
    world.put("web.yaml", &format!("command: sleep 1000\nenvFrom: [{{file: {}}}]\n", vars.display()));
    let before = ["db", "web"].map(|name| {
        world.wait_status(name, "running");
        world.pid(name).expect("a pid")
    });
    let open = |path: &std::path::Path| std::fs::OpenOptions::new().append(true).open(path).expect("opened");
    let mut held = [open(&data), open(&vars)];
    held[0].write_all(b"y").expect("written");
    let controller = world.controller_pid().expect("a pid");
    kill(controller, 9);
    world.wait("both to be known to the next", |world| {
        world.controller_pid().is_some_and(|pid| pid != controller)
            && world.plugd(&["get", "db", "web"]).status.success()
    });
    assert_eq!([world.pid("db"), world.pid("web")], before.map(Some));
    world.wait("that somebody writes to be told", |world| {
        let told = world.ask(&["status", "web"]);
        told.contains("StillWriting") && told.contains("vars.env")
    });
    // A new one that watches it starts all the same, and what ends is started again.
    world.put("late.yaml", &format!("command: sleep 1000\nwatchFiles: [{}]\n", data.display()));
    world.wait_status("late", "running");
    kill(before[0], 9);
    world.wait("its next life", |world| world.pid("db").is_some_and(|pid| pid != before[0]));
    drop(held);
    world.wait("the file to be read", |world| !world.ask(&["status", "web"]).contains("StillWriting"));
    assert_eq!(world.pid("web"), Some(before[1]));
}
