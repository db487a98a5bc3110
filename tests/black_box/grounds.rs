//! Where the directory or all around it is of another kind: a root that nobody can write, an overlay.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::inject::{Disk, is_root, try_tool};
use crate::world::{World, lives};

/// As a container with a read-only root and an ordinary user has it: no place to write but the one that was
/// mounted, no /run, no cgroup.
#[test]
fn an_ordinary_user_on_a_read_only_root_runs_everything_and_says_what_it_cannot_limit() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let program = world.root().join("plugd");
    World::copy_program(&program);
    world.program = program;
    world.put("web.yaml", "command: sleep 86400\n");
    world.put("left.yaml", "script: |\n  setsid sleep 86400 &\n  exec sleep 86400\n");
    world.put("limited.yaml", "command: sleep 86400\nresources: {limits: {memory: 64Mi}}\n");
    world.put("written.yaml", "script: (echo > /usr/written) 2>&1 || exec sleep 86400\n");
    let root = world.root().display().to_string();
    for path in [world.root().to_path_buf(), world.dir()] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        chown(&path, Some(1000), Some(1000)).expect("chown");
    }
    // What lies below has been mounted there already, and each mount is made read-only by itself.
    let shell = format!(
        "mount --make-rprivate / && mount --bind {root} {root} && mount -o remount,bind,ro / && mount -t tmpfs -o ro none /run && mount -t tmpfs -o ro none /sys/fs/cgroup && exec setpriv --reuid=1000 --regid=1000 --clear-groups \"$@\""
    );
    world.under = ["unshare", "--mount", "sh", "-c", &shell, "sh"].map(String::from).into();
    world.env.push(("HOME", "/nonexistent".into()));
    world.run(&[]);

    for name in ["web", "left", "limited", "written"] {
        world.wait_status(name, "running");
    }
    let pid = world.pid("web").expect("a pid");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(status.contains("\nUid:\t1000\t1000\t1000\t1000\n"), "{status}");
    let log = world.state().join("logs/written.log");
    world.wait("the root to be read-only", |_| fs::read_to_string(&log).is_ok_and(|text| text.contains("Read-only")));
    world.wait("what is not limited to be told", |world| {
        world.status_file("limited").is_some_and(|text| text.contains("LimitsNotApplied"))
    });
    assert!(world.stop().success(), "{}", world.log());
    assert!(!lives(pid));
}

#[test]
fn on_an_overlay_what_is_written_to_a_layer_below_is_found_without_any_event() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let root = world.root().to_path_buf();
    // A filesystem of its own below, for the machine's may be an overlay already; the directory is its upper layer,
    // which is where the test goes on writing, past the overlay that plugd sees.
    let disk = Disk::small(&root.join("disk"), "size=4m");
    for name in ["upper", "work", "lower"] {
        fs::create_dir(root.join("disk").join(name)).expect("made");
    }
    fs::write(root.join("disk/lower/below.yaml"), "command: sleep 86400\n").expect("written");
    fs::remove_dir(world.dir()).expect("it is empty");
    std::os::unix::fs::symlink(root.join("disk/upper"), world.dir()).expect("linked");
    // In there the same path leads to all layers.
    let at = root.join("disk").display().to_string();
    let shell = format!(
        "mount --make-rprivate / && mount -t overlay overlay -o lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work {at}/upper && exec \"$@\""
    );
    world.under = ["unshare", "--mount", "sh", "-c", &shell, "sh"].map(String::from).into();
    let probe =
        format!("mount -t overlay overlay -o lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work {at}/upper");
    if !try_tool(&["unshare", "--mount", "sh", "-c", &probe]) {
        eprintln!("    no overlay to be had: not shown");
        return;
    }
    world.run(&[]);
    world.wait_status("below", "running");
    // Whoever writes past the overlay: the host that fills a container's layer. The kernel promises nothing for
    // names that the overlay knows, so what is there already is written in place.
    let write = |path: &str, text: &str| fs::write(root.join("disk").join(path), text).expect("written");
    write("upper/web.yaml", "command: sleep 86400\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    write("upper/web.yaml", "command: sleep 86401\n");
    world
        .wait("the edit", |world| world.pid("web").is_some_and(|next| next != pid) && world.status("web") == "running");
    write("lower/late.yaml", "command: sleep 86400\n");
    world.wait_status("late", "running");
    assert_eq!(world.status("below"), "running");
    assert!(world.stop().success(), "{}", world.log());
    drop(disk);
}
