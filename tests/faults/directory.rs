//! The watched directory taken away, covered, flooded, closed, or lying.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Disk, Stage, Tracer, is_root, tool, until};
use crate::world::{World, command, kill, lives};

#[test]
fn row_12_a_queue_of_events_that_overflows_is_made_good_by_one_look_at_all() {
    let world = World::running();
    for name in ["kept", "edited", "removed"] {
        guard::put(&world, name);
    }
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 19);
    // Twice 20,000 events; the kernel keeps 16,384, so that what comes now is told by nobody.
    for n in 0..20_000 {
        let path = world.path(&format!("{n}.tmp"));
        fs::write(&path, "").expect("written");
        fs::remove_file(&path).expect("removed");
    }
    world.put("edited.yaml", &guard::script(&world, "edited", "exec sleep 86401"));
    world.remove("removed.yaml");
    world.put("added.yaml", &guard::stays(&world, "added"));
    kill(controller, 18);

    world.wait_status("added", "running");
    world.wait("the edit", |world| guard::starts(world, "edited").len() == 2);
    world.wait("the removal", |world| world.status_file("removed").is_none());
    assert_eq!(guard::starts(&world, "kept").len(), 1);
    assert_eq!(guard::starts(&world, "added").len(), 1);
    assert_eq!(world.controller_pid(), Some(controller), "nobody had to be replaced for it");
}

#[test]
fn row_13_without_inotify_changes_are_found_by_looking_and_that_is_said_once() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    world.under = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"].map(String::from).to_vec();
    world.put("first.yaml", &guard::stays(&world, "first"));
    world.run(&[]);
    world.wait_status("first", "running");
    // Where no events are to be had it looks each second.
    const FOUND: Duration = Duration::from_secs(15);
    guard::put(&world, "second");
    let asked = Instant::now();
    world.put("first.yaml", &guard::script(&world, "first", "exec sleep 86401"));
    world.wait("the edit", |world| guard::starts(world, "first").len() == 2);
    assert!(asked.elapsed() < FOUND, "an edit is found after {:?}", asked.elapsed());
    let asked = Instant::now();
    world.remove("second.yaml");
    world.wait("the removal", |world| world.status_file("second").is_none());
    assert!(asked.elapsed() < FOUND, "a removal is found after {:?}", asked.elapsed());
    let told = world.log().lines().filter(|line| line.to_lowercase().contains("inotify")).count();
    assert_eq!(told, 1, "{}", world.log());
    // Where there is none, and as somebody is told who asks there.
    let mut doctor = command(&world.under[0]);
    let doctor = doctor.args(&world.under[1..]).arg(&world.program).arg("doctor").output().expect("unshare");
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains("user.max_inotify_instances: 0 of 0") && told.contains("may have to be polled"), "{told}");
}

#[test]
fn row_42_a_link_is_followed_as_far_as_its_target_is_trusted() {
    if !is_root() {
        return;
    }
    let world = World::running();
    let outside = world.root().join("outside");
    fs::create_dir(&outside).expect("made");
    for (name, owner) in [("ours", 0), ("theirs", 54_324)] {
        let target = outside.join(format!("{name}.txt"));
        fs::write(&target, guard::stays(&world, name)).expect("written");
        std::os::unix::fs::chown(&target, Some(owner), Some(owner)).expect("chown");
        symlink(&target, world.path(&format!("{name}.yaml"))).expect("linked");
    }
    world.wait_status("ours", "running");
    world.wait("the other one to be refused", |world| {
        world.node_status().is_some_and(|text| text.contains("UntrustedFile"))
            || world.status("theirs").contains("UntrustedFile")
    });
    assert!(guard::starts(&world, "theirs").is_empty());
}

#[test]
fn row_43_links_in_a_circle_and_links_to_nothing_take_nothing_down() {
    let world = World::running();
    guard::put(&world, "web");
    guard::put(&world, "other");
    for (name, target) in [("web.yaml", "web.yaml"), ("other.yaml", "nowhere.txt")] {
        let stage = world.root().join("link");
        symlink(target, &stage).expect("linked");
        fs::rename(&stage, world.path(name)).expect("renamed");
    }
    symlink("b.yaml", world.path("a.yaml")).expect("linked");
    symlink("a.yaml", world.path("b.yaml")).expect("linked");
    guard::put(&world, "sentinel");
    world.wait("all to be told", |world| {
        let text = world.node_status().unwrap_or_default();
        let told = |file: &str| {
            let stem = file.trim_end_matches(".yaml");
            text.contains(file) || world.status_file(stem).is_some_and(|status| status.contains("problems"))
        };
        ["web.yaml", "other.yaml", "a.yaml", "b.yaml"].into_iter().all(told)
    });
    for name in ["web", "other"] {
        assert_eq!(guard::starts(&world, name).len(), 1);
        assert!(lives(guard::starts(&world, name)[0]), "{name} was taken for deleted");
    }
}

#[test]
fn row_44_what_is_no_file_is_not_opened() {
    let world = World::running();
    let _listener = std::os::unix::net::UnixListener::bind(world.path("socket.yaml")).expect("bound");
    tool(&["mkfifo", &world.path("pipe.yaml").display().to_string()]);
    let mut names = vec!["socket.yaml", "pipe.yaml"];
    for (name, target) in [("memory.yaml", "/proc/self/mem"), ("zero.yaml", "/dev/zero"), ("tty.yaml", "/dev/tty")] {
        symlink(target, world.path(name)).expect("linked");
        names.push(name);
    }
    if is_root() {
        tool(&["mknod", &world.path("device.yaml").display().to_string(), "c", "1", "5"]);
        names.push("device.yaml");
    }
    guard::put(&world, "web");
    world.wait("each to be named", |world| {
        let text = world.node_status().unwrap_or_default() + &world.status_file("memory").unwrap_or_default();
        names.iter().all(|name| text.contains(name))
    });
}

#[test]
fn row_50_a_directory_that_is_covered_emptied_and_uncovered_is_held_and_found_again() {
    if !is_root() {
        return;
    }
    let world = World::running();
    guard::put(&world, "web");
    let log = |word: &str| world.log().matches(word).count();
    let cover = Disk::small(&world.dir(), "size=1m");
    until("the loss to be told", || log("DirectoryLost") > 0);
    assert!(lives(guard::starts(&world, "web")[0]));
    for words in [&["get"][..], &["get", "--summary"], &["status", "web"], &["wait", "--timeout", "0s"]] {
        let told = world.plugd(words);
        let told = String::from_utf8_lossy(&told.stderr);
        assert!(told.contains("the directory is lost (DirectoryLost)"), "{words:?}: {told}");
    }
    assert!(world.ask(&["get", "--summary", "-o", "json"]).contains("\"directoryLost\""));
    drop(cover);
    guard::put(&world, "second");
    assert_eq!(guard::starts(&world, "web").len(), 1);

    // Deleted as a whole: every manifest has gone before the directory, by hand and seen.
    // A status file that is written meanwhile may stand in the way.
    until("the end of the directory", || fs::remove_dir_all(world.dir()).is_ok());
    until("a wish or a loss", || log("DirectoryLost") > 1 || !lives(guard::starts(&world, "web")[0]));
    fs::create_dir(world.dir()).expect("made again");
    guard::put(&world, "third");
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.wait_status("web", "running");
    guard::assert_single(&world);
}

#[test]
fn row_50_a_controller_that_begins_while_the_directory_is_covered_stops_nothing() {
    if !is_root() {
        return;
    }
    let world = World::running();
    world.put("_plugd.yaml", "shutdownTimeout: 7s\n");
    guard::put(&world, "web");
    let controller = world.controller_pid().expect("a controller");
    let log = |word: &str| world.log().matches(word).count();
    let cover = Disk::small(&world.dir(), "size=1m");
    until("the loss to be told", || log("DirectoryLost") > 0);
    kill(controller, 9);
    until("its successor to say the same", || log("a new controller takes over") > 0 && log("DirectoryLost") > 1);
    until("it to tell of the services", || {
        String::from_utf8_lossy(&world.plugd(&["get"]).stderr).contains("DirectoryLost")
    });
    assert_eq!(fs::read_dir(world.dir()).expect("the cover").count(), 0, "nothing is written into what covers it");
    drop(cover);
    guard::put(&world, "second");
    let starts = guard::starts(&world, "web");
    assert!(starts.len() == 1 && lives(starts[0]), "{}", world.log());
    assert!(world.controller_pid().is_some_and(|pid| pid != controller && lives(pid)));
    guard::assert_single(&world);
}

#[test]
fn row_51_a_directory_or_a_file_that_may_not_be_read_any_more_is_not_gone() {
    if !is_root() {
        return;
    }
    let uid = 54_323;
    let mut world = World::empty();
    let program = world.root().join("plugd");
    World::copy_program(&program);
    world.program = program;
    world.under = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()].to_vec();
    world.under.insert(0, "setpriv".into());
    for path in [world.root().to_path_buf(), world.dir()] {
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown");
    }
    let put = |world: &World, name: &str| {
        world.put(&format!("{name}.yaml"), &guard::stays(world, name));
        std::os::unix::fs::chown(world.path(&format!("{name}.yaml")), Some(uid), Some(uid)).expect("chown");
    };
    put(&world, "web");
    put(&world, "other");
    world.run(&[]);
    world.wait_status("web", "running");
    world.wait_status("other", "running");
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");

    mode(&world.path("web.yaml"), 0o000);
    world.wait("the file that may not be read to be told", |world| {
        world.status_file("web").is_some_and(|text| text.contains("problems:"))
    });
    mode(&world.dir(), 0o000);
    // What it holds open it may still list; over more than one of its looks nothing is taken for gone.
    std::thread::sleep(Duration::from_secs(6));
    mode(&world.dir(), 0o755);
    mode(&world.path("web.yaml"), 0o644);
    put(&world, "third");
    world.wait_status("third", "running");
    world.wait("the problem to go", |world| world.status_file("web").is_some_and(|text| !text.contains("problems:")));
    // That it was executed does not say that it has come to note it.
    world.wait("the third to note its start", |world| !guard::starts(world, "third").is_empty());
    for name in ["web", "other", "third"] {
        assert_eq!(guard::starts(&world, name).len(), 1, "{name}");
    }
}

#[test]
fn row_52_a_listing_that_fails_is_not_an_empty_one() {
    if !is_root() {
        return;
    }
    let world = World::running();
    for name in ["a", "b", "c"] {
        guard::put(&world, name);
    }
    for errno in ["ESTALE", "EIO", "ENOENT"] {
        for call in ["getdents64", "statx,newfstatat", "openat"] {
            let controller = world.controller_pid().expect("a controller");
            let fault = format!("inject={call}:error={errno}");
            let _lies = Tracer::attach(controller, &["-e", &fault]);
            // Both make it look at everything.
            world.signal_node(1);
            fs::write(world.path(".touch"), "").expect("written");
            std::thread::sleep(Duration::from_millis(400));
        }
    }
    guard::put(&world, "sentinel");
    for name in ["a", "b", "c"] {
        assert_eq!(guard::starts(&world, name).len(), 1, "{name}\n{}", world.log());
        assert_eq!(world.status(name), "running");
    }
    guard::assert_calm(&world);
}

#[test]
fn row_52_a_listing_that_ends_in_the_middle_is_not_a_whole_one() {
    if !is_root() {
        return;
    }
    let world = World::running();
    // More names than one call tells, the services among the first and the last of them.
    let pad = |from: usize| {
        (from..from + 1_500).for_each(|n| fs::write(world.path(&format!(".pad-{n}")), "").expect("written"))
    };
    guard::put(&world, "a");
    pad(0);
    guard::put(&world, "b");
    pad(1_500);
    guard::put(&world, "c");
    // With an error in its second part, or without any word.
    for how in ["error=EIO", "error=ESTALE", "retval=0"] {
        let controller = world.controller_pid().expect("a controller");
        let lies = Tracer::attach(controller, &["-e", &format!("inject=getdents64:{how}:when=2+")]);
        world.signal_node(1);
        std::thread::sleep(Duration::from_millis(500));
        drop(lies);
        for name in ["a", "b", "c"] {
            assert_eq!(guard::starts(&world, name).len(), 1, "{name} after {how}\n{}", world.log());
            assert_eq!(world.status(name), "running", "after {how}");
        }
    }
    guard::put(&world, "sentinel");
    guard::assert_calm(&world);
}

#[test]
fn row_52_a_new_controller_whose_first_look_fails_stops_nothing() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let stage = Stage::set(&mut world);
    for name in ["a", "b", "c"] {
        guard::put(&world, name);
    }
    for (call, errno) in [("openat", "EIO"), ("openat", "ESTALE"), ("getdents64", "EIO"), ("statx", "EIO")] {
        // The first call of every thread: also of the one that reads the directory.
        let before = world.controller_pid().expect("a controller");
        stage.begin(&world, &format!("-e trace={call} -e inject={call}:error={errno}:when=1"));
        world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != before && lives(pid)));
        guard::put(&world, &format!("after-{call}-{}", errno.to_lowercase()));
    }
    for name in ["a", "b", "c"] {
        assert_eq!(guard::starts(&world, name).len(), 1, "{name} was stopped\n{}", world.log());
    }
}
