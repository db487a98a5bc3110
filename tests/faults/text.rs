//! Hostile names, pinned wrappers, secrets.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};

use sha2::{Digest, Sha256};

use crate::guard;
use crate::inject::{Tracer, is_root, until};
use crate::world::{World, environment, kill};

/// Whether these bytes lie anywhere in a process's memory that can be written.
fn holds(pid: i32, what: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("ours to read");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("ours to read");
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; usize::try_from(to - from).expect("it fits")];
        memory.read_exact_at(&mut bytes, from).is_ok() && bytes.windows(what.len()).any(|window| window == what)
    })
}

#[test]
fn row_48_hostile_names_are_refused_and_never_a_path_or_an_argument() {
    let world = World::running();
    let long = format!("{}.yaml", "x".repeat(250));
    let names: [&[u8]; 14] = [
        b"-rf.yaml",
        b"--help.yaml",
        b"with space.yaml",
        b"bad\xff\xfe.yaml",
        b"new\nline.yaml",
        b"\x1b[31mred.yaml",
        "\u{202e}lmay.rtl.yaml".as_bytes(),
        b"..yaml",
        b"...yaml",
        b"web.status.yaml",
        b"$(touch pwned).yaml",
        b"`touch pwned`.yaml",
        b"%2e%2e%2fetc.yaml",
        long.as_bytes(),
    ];
    let ran = world.root().join("ran");
    let text = format!("script: |\n  echo x >> {}\n  exec sleep 86400\n", ran.display());
    for name in names {
        fs::write(world.dir().join(std::ffi::OsStr::from_bytes(name)), &text).expect("written");
    }
    // The same as a `name:` inside of an innocent file.
    for (n, name) in ["../../etc/x", "a/b", "-rf", "x.status", "a b", "\\u0000", ""].iter().enumerate() {
        world.put(&format!("inner{n}.yaml"), &format!("name: \"{name}\"\n{text}"));
    }
    guard::put(&world, "sentinel");
    world.wait("each to be counted", |world| world.ask(&["get"]).lines().count() > names.len());
    let files: Vec<_> = fs::read_dir(world.dir()).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    for file in files.iter().filter(|file| file.to_string_lossy().ends_with(".status")) {
        let known = ["sentinel.status", "_controller.status"];
        let stem = file.to_string_lossy().into_owned();
        let bad = !known.contains(&stem.as_str()) && !stem.starts_with("inner");
        assert!(!bad, "{stem} was made of a hostile name");
    }
    assert!(!ran.exists(), "a service of a hostile name was run");
    for output in [world.ask(&["get"]), world.node_status().expect("a status")] {
        let bad = output.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(bad, None, "{output}");
    }
    guard::assert_calm(&world);
}

#[test]
fn row_76_a_pinned_wrapper_that_was_changed_is_told_and_not_started_again() {
    let world = World::running();
    let good = format!("#!/bin/sh\necho good >> {0}/ran\nexec sleep 86400\n", world.root().display());
    let evil = format!("#!/bin/sh\nexec 8>>{0}/evil\nexec sleep 86401\n", world.root().display());
    let hash: String = Sha256::digest(good.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    world.put_script("w.sh", &good);
    world.put("web.yaml", &format!("wrapper: {{path: w.sh, sha256: {hash}}}\nrestart: {{backoff: {{initial: 5ms, max: 5ms}}}}\nstop: {{gracePeriod: 1s}}\n"));
    // That the shell was executed does not say that it has opened the script by now.
    let ran = || fs::read_to_string(world.root().join("ran")).unwrap_or_default();
    world.wait("the pinned script itself", |_| ran().contains("good"));
    // Nor does its word say that plugd has looked by now whether it was changed while it was being started.
    world.wait_status("web", "running");
    world.put_script("w.sh", &evil);
    world.wait("the refusal", |world| world.status_file("web").is_some_and(|text| text.contains("DigestMismatch")));
    let pid = world.pid("web").expect("what runs goes on");
    kill(pid, 9);
    world.wait("it to be down", |world| world.pid("web").is_none());
    assert_eq!(running("86401", &world), 0);
    world.put_script("w.sh", &good);
    world.wait_status("web", "running");
    assert_ne!(world.pid("web"), Some(pid));
    assert!(!world.root().join("evil").exists(), "the other script ran");
}

#[test]
fn row_76_a_pinned_wrapper_that_is_swapped_between_its_hash_and_its_exec_is_killed() {
    if !is_root() {
        return;
    }
    let world = World::running();
    let good = format!("#!/bin/sh\necho good >> {0}/ran\nexec sleep 86400\n", world.root().display());
    let evil = format!("#!/bin/sh\nexec 8>>{0}/evil\nexec sleep 86402\n", world.root().display());
    let hash: String = Sha256::digest(good.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    world.put_script("w.sh", &good);
    let keeper = world.node_pid();
    let unborn = || {
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
        let controller = world.controller_pid().expect("a controller");
        children.split_whitespace().any(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            pid != controller.to_string() && name.trim() == "plugd"
        })
    };
    {
        // Whatever the keeper starts stands before its exec for a while.
        let _late = Tracer::attach(keeper, &["-e", "inject=execve:delay_enter=2000000"]);
        world.put("web.yaml", &format!("wrapper: {{path: w.sh, sha256: {hash}}}\n"));
        until("the child that is about to execute it", unborn);
        world.put_script("w.sh", &evil);
        until("what was swapped in to be executed", || !unborn());
    }
    world.wait("the swap to be told", |world| {
        let events = world.ask(&["events", "web"]);
        events.contains("DigestMismatch") && events.contains("was changed while it was being started")
    });
    until("what ran to be gone", || running("86402", &world) == 0);
    world.wait("it to be down", |world| world.pid("web").is_none());
    assert!(!world.root().join("ran").exists());
    world.put_script("w.sh", &good);
    world.wait_status("web", "running");
}

/// Processes that hold the file which only the evil script opens.
fn running(word: &str, world: &World) -> usize {
    let evil = world.root().join("evil");
    let pids = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word))
            && fs::read_link(format!("/proc/{pid}/fd/8")).is_ok_and(|path| path == evil)
    })
    .count()
}

#[test]
fn row_76_a_pinned_program_may_be_large() {
    let world = World::running();
    let path = world.root().join("large.sh");
    let mut bytes = b"#!/bin/sh\nexec sleep 86400\n".to_vec();
    bytes.resize(70 << 20, b'\n');
    fs::write(&path, &bytes).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    let pin = |hash: &str| format!("wrapper: {{path: {}, sha256: {hash}}}\n", path.display());
    let hash = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    world.put("web.yaml", &pin(&hash));
    world.wait_status("web", "running");
    world.put("other.yaml", &pin(&"0".repeat(64)));
    world.wait("the refusal", |world| world.status_file("other").is_some_and(|text| text.contains(&hash)));
    assert_eq!(world.pid("other"), None);
}

#[test]
fn row_77_a_secret_is_missing_readable_rotated_and_never_told() {
    let mut world = World::empty();
    world.env.push(("PLUGD_LOG", "debug".into()));
    let secret = world.root().join("secret");
    world.run(&[]);
    let text = format!("command: [sleep, '86400']\nenv: {{TOKEN: {{file: {}}}}}\n", secret.display());
    world.put("web.yaml", &text);
    world.wait("the missing secret to be told", |world| {
        world.status_file("web").is_some_and(|text| text.contains("SecretNotFound"))
    });
    assert_eq!(world.pid("web"), None, "not started without it");
    fs::write(&secret, "s3cr3t-one\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("chmod");
    // Nobody else comes to what lies in a folder of one's own.
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).expect("chmod");
    world.ask(&["start", "web"]);
    world.wait_status("web", "running");
    let is_told = |world: &World| world.status_file("web").is_some_and(|text| text.contains("type: SecretReadable"));
    world.wait("that others may read it to be told", is_told);
    let first = world.pid("web");
    world.ask(&["restart", "web"]);
    world.wait("the same file once more", |world| world.pid("web").is_some_and(|pid| Some(pid) != first));
    world.wait_status("web", "running");
    world.wait("that to be told of the next process, too", is_told);
    let warned = |world: &World| world.log().lines().filter(|line| line.contains("reason=SecretReadable")).count();
    world.wait("that to be logged", |world| warned(world) > 0);
    assert_eq!(warned(&world), 1, "{}", world.log());
    // Rotated: it matters at the next start, and not before.
    let pid = world.pid("web").expect("a pid");
    fs::write(&secret, "s3cr3t-two\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    guard::put(&world, "sentinel");
    assert_eq!(world.pid("web"), Some(pid));
    world.ask(&["restart", "web"]);
    world.wait("the next one", |world| world.pid("web").is_some_and(|new| new != pid));
    let new = world.pid("web").expect("a pid");
    assert!(environment(new).contains("TOKEN=s3cr3t-two"));
    world.wait("that nobody else may read it any more", |world| !is_told(world));
    assert!(!fs::read_to_string(format!("/proc/{new}/cmdline")).expect("there").contains("s3cr3t"));
    world.plugd(&["get", "web", "-o", "yaml"]);

    let mut told = vec![];
    for (what, folder) in [("directory", world.dir()), ("state", world.state())] {
        for entry in walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
            if fs::read(entry.path()).is_ok_and(|bytes| bytes.windows(6).any(|window| window == b"s3cr3t")) {
                told.push(format!("{what}: {}", entry.path().display()));
            }
        }
    }
    assert!(!holds(world.node_pid(), b"s3cr3t"), "the keeper forgets what it has handed on");
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.controller_pid().expect("a controller")));
    let limits = limits.expect("ours to read");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    let soft = core.split_whitespace().nth(4).expect("a number");
    assert!(matches!(soft, "0" | "1"), "the controller, which read it, leaves no core: {core}");
    for pid in [world.node_pid(), world.controller_pid().expect("a controller")] {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            if text.windows(6).any(|window| window == b"s3cr3t") {
                told.push(format!("{file} of {pid}"));
            }
        }
    }
    if world.log().contains("s3cr3t") {
        told.push("plugd's own words".into());
    }
    for words in [
        &["get", "web", "-o", "json"][..],
        &["status", "web"],
        &["events"],
        &["get", "web", "-o", "yaml", "--effective"],
        &["check"],
    ] {
        let output = world.plugd(words);
        if [output.stdout, output.stderr].concat().windows(6).any(|window| window == b"s3cr3t") {
            told.push(format!("{words:?}"));
        }
    }
    assert!(told.is_empty(), "{told:?}");
}
