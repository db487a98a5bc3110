//! The last good version of a manifest outlives the controller, the keeper and a bad file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{World, environment, kill, lives};

const GOOD: &str = "command: sleep 3600\nreadinessProbe: {exec: {command: ['true']}, period: 1s}\n";
const BAD: &str = "command: sleep 3600\nreplica: two\n";

fn is_rejected(world: &World) -> bool {
    world.status_file("web").is_some_and(|text| text.contains("rejected") && text.contains("web.yaml:2:1"))
}

pub fn replace_controller(world: &World) {
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
}

/// An order is written before it is answered, and with it what was to be remembered before.
pub fn write_down(world: &World) {
    world.put("other.yaml", "command: sleep 3600\n");
    world.wait_status("other", "running");
    world.ask(&["stop", "other"]);
}

/// The controller that is there now has written its status.
pub fn is_told(world: &World, name: &str) -> bool {
    let written = world.field(name, "controller").unwrap_or_default();
    world.controller_pid().is_some_and(|pid| written.contains(&pid.to_string()))
}

#[test]
fn a_bad_file_and_a_killed_controller_leave_the_service_checked_and_restarted() {
    let world = World::running();
    world.put("web.yaml", GOOD);
    world.wait_status("web", "healthy");
    let pid = world.pid("web").expect("a pid");
    wait_kept(&world, "period: 1s");
    world.put("web.yaml", BAD);
    world.wait("the rejection", is_rejected);

    replace_controller(&world);

    world.wait("the same process to be healthy under the new controller", |world| {
        is_told(world, "web") && world.status("web") == "healthy" && is_rejected(world)
    });
    assert_eq!(world.pid("web"), Some(pid));
    assert_eq!(world.field("web", "ready").as_deref(), Some("1/1"));
    assert!(world.field("web", "manifest").expect("manifest").contains("generation: 1"));
    kill(pid, 9);
    world.wait("its restart", |world| world.pid("web").is_some_and(|new| new != pid));
    world.wait_status("web", "healthy");
    assert_eq!(world.field("web", "restarts").as_deref(), Some("1"));
}

#[test]
fn a_bad_file_that_is_renamed_and_a_killed_controller_leave_the_last_good_version_in_force() {
    let world = World::running();
    world.put("web.yaml", &format!("name: web\n{GOOD}"));
    world.wait_status("web", "healthy");
    let pid = world.pid("web").expect("a pid");
    wait_kept(&world, "period: 1s");
    world.put("web.yaml", "name: web\nreplica: two\n");
    world.wait("the rejection", |world| world.status_file("web").is_some_and(|text| text.contains("web.yaml:2:1")));
    let told = |file: &'static str| {
        move |world: &World| {
            let written = world.field("web", "controller").unwrap_or_default();
            let ours = world.controller_pid().is_some_and(|pid| written.contains(&pid.to_string()));
            ours && world.status_file("web").is_some_and(|text| text.contains(&format!("{file}:2:1")))
        }
    };
    // Twice to a new name, then away and back before it was missed.
    let names = ["web.yaml", "site.yaml", "other.yaml", "site.yaml", "other.yaml"];
    for (before, file) in names.into_iter().zip(names.into_iter().skip(1)) {
        fs::rename(world.path(before), world.path(file)).expect("renamed");
        world.wait("the new name to be told", told(file));
    }
    // It answers when all that is to be remembered is written.
    world.ask(&["history", "web"]);

    replace_controller(&world);

    world.wait("the same of the next controller", told("other.yaml"));
    world.wait_status("web", "healthy");
    assert_eq!(world.pid("web"), Some(pid));
    // Only the last good version tells what to start.
    kill(pid, 9);
    world.wait("its restart", |world| world.pid("web").is_some_and(|new| new != pid));
    world.wait_status("web", "healthy");
}

#[test]
fn a_bad_file_and_a_new_run_start_the_last_good_version_until_it_is_mended_or_removed() {
    let mut world = World::running();
    world.put("_defaults.yaml", "env: {FROM: defaults}\n");
    world.put("web.yaml", GOOD);
    world.put("web.yaml.d/10.yaml", "labels: {tier: front}\n");
    world.wait_status("web", "healthy");
    world.put("web.yaml", BAD);
    world.wait("the rejection", is_rejected);
    world.stop();

    world.run(&[]);

    world.wait_status("web", "healthy");
    world.wait("the rejection to be told again", is_rejected);
    let environment = environment(world.pid("web").expect("a pid"));
    assert!(environment.contains("FROM=defaults"), "the defaults of then");
    let generation = |world: &World| {
        let manifest = world.field("web", "manifest").expect("manifest");
        manifest.lines().find(|line| line.starts_with("generation")).map(str::to_string)
    };
    let before = generation(&world);
    world.put("web.yaml", GOOD);
    world.wait("the mended file", |world| !is_rejected(world));
    assert_eq!(generation(&world), before);
    let pid = world.pid("web").expect("a pid");
    world.put("web.yaml", BAD);
    world.wait("the rejection", is_rejected);
    world.remove("web.yaml");
    world.wait("the service to go", |world| world.status_file("web").is_none());
    assert!(!lives(pid));
    world.put("web.yaml", BAD);
    world.wait_status("web", "failed (ConfigInvalid)");
    world.stop();
    world.run(&[]);
    world.wait_status("web", "failed (ConfigInvalid)");
}

#[test]
fn an_update_that_is_blocked_is_still_told_by_the_next_controller() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");
    world.put("web.yaml", "command: /nowhere/at/all\n");
    world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));

    replace_controller(&world);

    world.wait("the block to be told by the new controller", |world| {
        is_told(world, "web") && world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked"))
    });
    assert_eq!((world.pid("web"), world.status("web").as_str()), (pid, "running"));
}

#[test]
fn what_a_blocked_edit_says_ends_nothing_under_the_next_controller() {
    for edit in [
        "command: /nowhere/at/all\nreplicas: 0\n",
        "command: /nowhere/at/all\nschedule: '0 0 * * *'\nrestart: Never\n",
        "command: sleep 3600\ndependsOn: [nobody]\nenabled: true\nreplicas: 0\n",
    ] {
        let world = World::running();
        world.put("web.yaml", "command: sleep 3600\n");
        world.wait_status("web", "running");
        let pid = world.pid("web").expect("a pid");
        world.put("web.yaml", edit);
        world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));
        wait_kept(&world, "\"kept\"");

        replace_controller(&world);
        world.wait("the block to be told by the new controller", |world| {
            let written = world.field("web", "controller").unwrap_or_default();
            let ours = world.controller_pid().is_some_and(|pid| written.contains(&pid.to_string()));
            ours && world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked"))
        });
        assert_eq!((world.pid("web"), world.status("web").as_str()), (Some(pid), "running"), "{edit}");

        kill(pid, 9);
        world.wait("the version before to run again", |world| {
            world.pid("web").is_some_and(|new| new != pid) && world.status("web") == "running"
        });
        let before = world.pid("web").expect("a pid");
        let told = world.plugd(&["restart", "web"]);
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("the version before"), "{told}");
        world.wait("the restart", |world| {
            world.pid("web").is_some_and(|new| new != before) && world.status("web") == "running"
        });
        let again = world.pid("web").expect("a pid");
        environment(again);
        let command = fs::read(format!("/proc/{again}/cmdline")).expect("it lives");
        assert!(command.starts_with(b"sleep"), "{edit}");

        world.put("web.yaml", "command: sleep 3601\n");
        world.wait("the mended edit", |world| {
            world
                .pid("web")
                .is_some_and(|new| fs::read(format!("/proc/{new}/cmdline")).is_ok_and(|told| told.ends_with(b"3601\0")))
        });
    }
}

/// A text that was accepted reaches the database a moment behind the facts.
pub fn wait_kept(world: &World, text: &str) {
    let database = world.state().join("state.db");
    let has = |suffix: &str| {
        let bytes = fs::read(format!("{}{suffix}", database.display())).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    world.wait("the accepted text to be kept", |_| has("") || has("-wal"));
}

#[test]
fn what_is_kept_of_manifests_is_closed_to_others() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\nenv: {PASSWORD: hunter2}\n");
    world.wait_status("web", "running");
    wait_kept(&world, "hunter2");
    let database = world.state().join("state.db");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&world.state()), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        let path = std::path::PathBuf::from(format!("{}{suffix}", database.display()));
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_file_that_was_renamed_and_broken_while_nothing_ran_keeps_its_last_good_version() {
    let mut world = World::running();
    let named = |text: &str| format!("name: web\n{text}");
    world.put("web.yaml", &named(GOOD));
    world.wait_status("web", "healthy");
    world.stop();
    world.remove("web.yaml");
    world.put("site.yaml", &named(BAD));

    world.run(&[]);

    world.wait_status("web", "healthy");
    let told = world.status_file("web").unwrap_or_default();
    assert!(told.contains("rejected") && told.contains("site.yaml"), "{told}");
    // Kept under its new name: once more.
    world.stop();
    world.run(&[]);
    world.wait_status("web", "healthy");
}

const SETTINGS: &str = "requireUser: true\n";
const BAD_SETTINGS: &str = "requireUser: true\nshutdownTimout: 5s\n";

fn variable(world: &World, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{}/environ", world.pid("web")?)).ok()?;
    let prefix = format!("{name}=");
    let found = environment.split(|byte| *byte == 0).find(|line| line.starts_with(prefix.as_bytes()))?;
    Some(String::from_utf8_lossy(&found[prefix.len()..]).into_owned())
}

fn node_tells(world: &World, file: &str) -> bool {
    world
        .node_status()
        .is_some_and(|text| text.contains(&format!("file: \"{file}\"")) && text.contains("ConfigInvalid"))
}

#[test]
fn a_typo_in_the_defaults_leaves_the_last_good_ones_to_the_next_controller_and_the_next_run() {
    let mut world = World::empty();
    world.put("_defaults.yaml", "env: {AS: \"4321\"}\n");
    world.put("web.yaml", "command: sleep 3600\n");
    world.run(&[]);
    world.wait_status("web", "running");
    let pid = world.pid("web");
    wait_kept(&world, "_defaults.yaml");
    world.put("_defaults.yaml", "env: {AS: \"4321\"}\nlabls: {}\n");
    world.wait("the typo to be told", |world| node_tells(world, "_defaults.yaml"));

    replace_controller(&world);

    world.wait("the new controller's word", |world| {
        let written = world.field("web", "controller").unwrap_or_default();
        world.controller_pid().is_some_and(|pid| written.contains(&pid.to_string()))
            && node_tells(world, "_defaults.yaml")
    });
    assert_eq!((world.pid("web"), world.status("web").as_str()), (pid, "running"));
    world.put("late.yaml", "command: sleep 3600\n");
    world.wait_status("late", "running");
    world.stop();
    world.run(&[]);
    world.wait_status("web", "running");
    world.wait("the defaults of then", |world| variable(world, "AS").as_deref() == Some("4321"));
    // Without the file nothing of it is left.
    world.remove("_defaults.yaml");
    world.wait("the service without defaults", |world| {
        variable(world, "PLUGD_SERVICE").is_some() && variable(world, "AS").is_none()
    });
}

#[test]
fn defaults_that_were_never_good_let_nothing_new_start_until_they_are_mended_or_removed() {
    let mut world = World::empty();
    world.put("_defaults.yaml", "users: \"4321\"\n");
    world.put("web.yaml", "name: site\ncommand: sleep 3600\n");
    world.put_script("job.sh", "#!/bin/sh\nexec sleep 3600\n");
    world.run(&[]);
    world.wait_status("site", "failed (ConfigInvalid)");
    world.wait_status("job", "failed (ConfigInvalid)");
    assert!(world.status_file("site").expect("its status").contains("_defaults.yaml"));
    world.put("_defaults.yaml", "labels: {a: b}\n");
    world.wait_status("site", "running");
    world.wait_status("job", "running");
    world.put("late.yaml", "command: sleep 3600\n");
    world.wait_status("late", "running");

    let mut world = World::empty();
    world.put("_defaults.yaml", "users: \"4321\"\n");
    world.put("web.yaml", "command: sleep 3600\n");
    world.run(&[]);
    world.wait_status("web", "failed (ConfigInvalid)");
    world.remove("_defaults.yaml");
    world.wait_status("web", "running");
}

#[test]
fn a_typo_in_the_settings_loses_none_of_them_to_the_next_controller_or_run() {
    let mut world = World::empty();
    world.put("_plugd.yaml", SETTINGS);
    world.put("web.yaml", "command: sleep 3600\n");
    world.run(&[]);
    let root = rustix::process::geteuid().is_root();
    world.wait_status("web", if root { "failed (RunsAsRoot)" } else { "running" });
    wait_kept(&world, "_plugd.yaml");
    world.put("_plugd.yaml", BAD_SETTINGS);
    world.wait("the typo to be told", |world| node_tells(world, "_plugd.yaml"));
    let as_before = |world: &World| {
        world.put("late.yaml", "command: sleep 3600\n");
        world.wait("a verdict of the new one", |world| world.status("late") != "absent");
        world.wait_status("late", "failed (RunsAsRoot)");
        world.remove("late.yaml");
        world.wait("it to go", |world| world.status("late") == "absent");
    };

    for _ in 0..2 {
        replace_controller(&world);
        world.wait("the typo to be told again", |world| node_tells(world, "_plugd.yaml"));
        if root {
            as_before(&world);
        }
    }
    world.stop();
    world.run(&[]);
    let told = |world: &World| world.log().contains("_plugd.yaml:2:1") && world.log().contains("last good version");
    world.wait("the typo to be told by the next run", told);
    if root {
        as_before(&world);
        replace_controller(&world);
        as_before(&world);
    }
}

#[test]
fn settings_that_were_never_good_are_no_reason_to_begin_without_them() {
    let mut world = World::empty();
    world.put("_plugd.yaml", BAD_SETTINGS);
    world.spawn(&[]);
    assert_eq!(world.wait_end().code(), Some(78), "{}", world.log());
    assert!(world.log().contains("_plugd.yaml:2:1") && world.log().contains("mend it"), "{}", world.log());
}

#[test]
fn a_script_whose_first_line_is_spoilt_goes_on_as_it_was_until_it_is_mended_or_deleted() {
    let world = World::running();
    let target = world.root().join("target");
    fs::write(&target, "#!/bin/sh\nexec sleep 3600\n").expect("written");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("chmod");
    std::os::unix::fs::symlink(&target, world.path("linked.sh")).expect("linked");
    for file in ["above.sh", "empty.sh", "bare"] {
        world.put_script(file, "#!/bin/sh\nexec sleep 3600\n");
    }
    let names = ["above", "bare", "empty", "linked"];
    names.iter().for_each(|name| world.wait_status(name, "running"));
    let pids = names.map(|name| world.pid(name));
    // Its shell has read it when it has become what it says.
    let reads = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"sleep\0"));
    world.wait("each shell to have read it", |_| pids.iter().flatten().all(|pid| reads(*pid)));

    world.put_script("above.sh", "\n#!/bin/sh\nexec sleep 3601\n");
    world.put_script("bare", "# a comment above\n#!/bin/sh\nexec sleep 3601\n");
    world.put_script("empty.sh", "");
    fs::remove_file(&target).expect("removed");
    for (name, reason) in names.iter().zip(["ExecFormat", "ExecFormat", "ExecFormat", "WrapperNotFound"]) {
        world.wait("it to be told", |world| world.status_file(name).is_some_and(|text| text.contains(reason)));
    }
    assert_eq!(names.map(|name| world.pid(name)), pids);
    assert!(names.iter().all(|name| world.status(name) == "running"));

    // So they do under the next controller, which has never read them otherwise.
    write_down(&world);
    replace_controller(&world);
    for (name, reason) in names.iter().zip(["ExecFormat", "ExecFormat", "ExecFormat", "WrapperNotFound"]) {
        world.wait("it to be told by the next", |world| {
            is_told(world, name) && world.status_file(name).is_some_and(|text| text.contains(reason))
        });
    }
    assert_eq!(names.map(|name| world.pid(name)), pids);
    assert!(names.iter().all(|name| world.status(name) == "running"));

    world.put_script("above.sh", "#!/bin/sh\nexec sleep 3601\n");
    world.wait("the mended one", |world| world.pid("above").is_some_and(|pid| Some(pid) != pids[0]));
    world.remove("empty.sh");
    world.wait("the deleted one to go", |world| world.status_file("empty").is_none());
}
