//! As PID 1, and in the places where containers differ from a machine.
//!
//! Orphans of a few, one docker stop, ConfigMaps, an ordinary user, long paths and read-only
//! directories are in `real_services`, `live_cli` and `black_box`; here is what those leave out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Disk, is_root, tool, until};
use crate::soak::times;
use crate::world::{PATIENCE, World, command, kill, lives};

/// plugd in namespaces of its own. It ends with the test, whatever happens.
struct Container {
    unshare: Child,
    log: std::path::PathBuf,
}

impl Container {
    /// `shell` prepares the place and ends with `exec "$@"`.
    fn run(world: &World, spaces: &[&str], shell: &str, flags: &[&str]) -> Container {
        let path = world.root().join("container.log");
        let log = fs::File::create(&path).expect("a log file");
        let mut command = command("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(spaces).args(["sh", "-c", shell, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_plugd")).arg("run").args(flags);
        if !flags.contains(&"--state-dir") {
            command.arg("--state-dir").arg(world.state());
        }
        command.arg(world.dir()).stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        Container { unshare: command.spawn().expect("unshare is part of util-linux"), log: path }
    }

    fn plain(world: &World, flags: &[&str]) -> Container {
        Container::run(world, &[], "exec \"$@\"", flags)
    }

    fn pid_1(&self) -> i32 {
        let parent = self.unshare.id();
        let mut found = 0;
        until("the first process of the namespace", || {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            found = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            found != 0
        });
        found
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.unshare.try_wait().expect("waitable") {
                return status;
            }
            assert!(Instant::now() < deadline, "the container does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&mut self) -> ExitStatus {
        kill(self.pid_1(), 15);
        self.wait_end()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn zombies_below(parent: i32) -> usize {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let is_zombie =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    children.split_whitespace().filter(is_zombie).count()
}

#[test]
fn row_31_ten_thousand_orphans_leave_no_zombie_and_take_no_exit_code_along() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    let orphans = times(10_000);
    // Each inner shell leaves a child behind and ends: that child falls to PID 1.
    world.put(
        "orphans.yaml",
        &format!("script: |\n  i=0; while [ $i -lt {orphans} ]; do i=$((i+1)); (: & ); done; echo made; exec sleep 86400\nreadinessProbe: {{logLine: made}}\n"),
    );
    for code in [0, 1, 42, 255] {
        world.put(&format!("code{code}.yaml"), &format!("restart: Never\nscript: |\n  sleep 0.5; exit {code}\n"));
    }
    let mut container = Container::plain(&world, &[]);
    let deadline = Instant::now() + Duration::from_secs(120) * times(1) as u32;
    while world.status("orphans") != "healthy" {
        assert!(Instant::now() < deadline, "{}\n{}", world.status("orphans"), container.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = container.pid_1();
    until("no zombie", || zombies_below(first) == 0);
    world.wait_status("code0", "completed");
    for code in [1, 42, 255] {
        let name = format!("code{code}");
        world.wait_status(&name, "failed");
        let exit = world.field(&name, "lastExit").expect("an exit");
        assert!(exit.contains(&format!("code: {code}")), "{exit}");
    }
    assert_eq!(container.stop().code(), Some(0));
}

#[test]
fn every_exit_code_and_every_signal_of_one_command_is_handed_on() {
    let run = |script: &str| {
        let mut command = command(env!("CARGO_BIN_EXE_plugd"));
        command
            .args(["run", "--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().expect("started").code()
    };
    for code in 0..=255 {
        assert_eq!(run(&format!("exit {code}")), Some(code));
    }
    // Those that end a process; the core of one is not wanted here.
    for signal in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31] {
        assert_eq!(run(&format!("ulimit -c 0; kill -{signal} $$; sleep 5")), Some(128 + signal), "signal {signal}");
    }
}

#[test]
fn each_signal_to_pid_1_has_the_effect_that_is_documented() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.put("talks.yaml", &guard::script(&world, "talks", "while :; do echo a word; sleep 0.05; done"));
    let mut container = Container::plain(&world, &[]);
    world.wait_status("web", "running");
    world.wait_status("talks", "running");
    let first = container.pid_1();
    // Its own status comes after those of the services.
    world.wait("the controller to say that it is there", |world| world.controller_pid().is_some());
    let controller = world.controller_pid();
    // Ignored, or of no effect on services: WINCH, CHLD, PIPE, ALRM; HUP rescans; USR1 opens the logs anew.
    for signal in [28, 17, 13, 14, 18] {
        kill(first, signal);
    }
    kill(first, 1);
    let (log, aside) = (world.state().join("logs/talks.log"), world.state().join("logs/talks.old"));
    world.wait("it to talk", |_| fs::metadata(&log).is_ok_and(|meta| meta.len() > 0));
    fs::rename(&log, &aside).expect("renamed");
    kill(first, 10);
    world.wait("its next words in a file of the old name", |_| fs::metadata(&log).is_ok_and(|meta| meta.len() > 0));
    assert_eq!(world.controller_pid(), controller);
    for name in ["web", "talks"] {
        assert_eq!(guard::starts(&world, name).len(), 1, "{name} did not notice");
    }
    kill(first, 12);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| Some(pid) != controller));
    world.wait_status("web", "running");
    assert_eq!(guard::starts(&world, "web").len(), 1);
    kill(first, 2);
    assert_eq!(container.wait_end().code(), Some(0), "INT is an ordered stop");

    world.put("deaf.yaml", &(guard::deaf(&world, "deaf", "sleep 0.05") + "stop: {gracePeriod: 60s}\n"));
    let mut container = Container::plain(&world, &["--shutdown-timeout", "60s"]);
    world.wait("it to be deaf", |world| guard::starts(world, "deaf").len() == 1);
    let asked = Instant::now();
    kill(container.pid_1(), 3);
    assert_eq!(container.wait_end().code(), Some(0), "QUIT is a stop without grace");
    assert!(asked.elapsed() < Duration::from_secs(30), "half of its grace: {:?}", asked.elapsed());
}

#[test]
fn a_root_whose_directory_another_user_owns_and_a_checkout_of_umask_002_run_as_they_are() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    let give = |path: &Path, mode: u32| {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).expect("chown");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.put("tool.yaml", "wrapper: tool.sh\n");
    world.put_script("tool.sh", "#!/bin/sh\nexec sleep 86400\n");
    give(&world.dir(), 0o2775);
    for name in ["web.yaml", "tool.yaml"] {
        give(&world.path(name), 0o664);
    }
    give(&world.path("tool.sh"), 0o775);
    let mut container = Container::plain(&world, &[]);
    world.wait_status("web", "running");
    world.wait_status("tool", "running");
    // What it writes there belongs to whom the manifest belongs.
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(world.path("web.status")).expect("there");
    assert_eq!((meta.uid(), meta.mode() & 0o777), (1000, 0o664));
    assert!(container.stop().success());
}

#[test]
fn a_read_only_root_without_run_and_without_cgroups_runs_all_the_same() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.put("deaf.yaml", "script: |\n  setsid sleep 86400 &\n  exec sleep 86400\n");
    // All is read-only but a tmpfs at the places of this test; nobody may write a cgroup.
    let root = world.root().display().to_string();
    let shell = format!(
        "mount --make-rprivate / && mount --bind {root} {root} && mount -o remount,bind,ro / && mount -t tmpfs -o ro none /run && mount -t tmpfs -o ro none /sys/fs/cgroup && exec \"$@\""
    );
    let mut container = Container::run(&world, &["--mount"], &shell, &[]);
    world.wait_status("web", "running");
    world.wait_status("deaf", "running");
    assert!(container.stop().success(), "{}", container.log());
    guard::assert_single(&world);
}

#[test]
fn without_any_place_of_its_own_a_node_runs_without_memory_and_ends_in_order() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    world.put("web.yaml", &guard::stays(&world, "web"));
    tool(&["mkdir", "-p", &world.state().display().to_string()]);
    let (root, state) = (world.root().display().to_string(), world.state().display().to_string());
    let shell = format!(
        "mount --make-rprivate / && mount --bind {root} {root} && mount -o remount,bind,ro / && mount -t tmpfs -o ro none {state} && mount -t tmpfs -o ro none /tmp/.. 2>/dev/null; exec \"$@\""
    );
    let mut container = Container::run(&world, &["--mount"], &shell, &[]);
    world.wait_status("web", "running");
    world.wait("it to say so", |_| container.log().contains("memory"));
    assert!(container.stop().success(), "{}", container.log());
}

/// What a ConfigMap holds from now on: a folder of a time, and `..data` renamed onto it.
fn swap_config_map(world: &World, time: &str, text: &str) {
    let folder = world.path(&format!("..{time}"));
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("web.yaml"), text).expect("written");
    symlink(format!("..{time}"), world.path("..data_tmp")).expect("linked");
    fs::rename(world.path("..data_tmp"), world.path("..data")).expect("renamed");
}

/// As the kubelet mounts it: root's, for all to write (and yet nobody may, it is read-only), each name a link.
#[test]
fn a_config_map_of_mode_1777_on_a_mount_that_is_read_only_runs_as_it_is() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let disk = Disk::small(&world.dir(), "size=1m,mode=1777");
    swap_config_map(&world, "2026_1", &guard::stays(&world, "web"));
    symlink("..data/web.yaml", world.path("web.yaml")).expect("linked");
    disk.remount("ro");
    let second = guard::script(&world, "web", "exec sleep 86401");
    let started = |world: &World, wanted: usize| guard::starts(world, "web").len() == wanted;
    let state = world.state().join("status");
    // Its status files lie where something can be written.
    let told = |name: &str| fs::read_to_string(state.join(name)).unwrap_or_default();
    world.spawn(&[]);
    world.wait("its start", |world| started(world, 1) && told("web.status").contains("status: running"));
    disk.remount("rw");
    swap_config_map(&world, "2026_2", &second);
    disk.remount("ro");
    world.wait("the swap", |world| started(world, 2) && told("web.status").contains("status: running"));
    guard::assert_single(&world);
    assert!(world.stop().success());
}

#[test]
fn in_a_network_of_its_own_a_port_is_found_by_its_own_kernel_table() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    // Held outside: in there it is another port.
    let outside = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = outside.local_addr().expect("bound").port();
    world.put("web.yaml", &format!("command: python3 -m http.server --bind 127.0.0.1 {port}\nport: {port}\n"));
    let mut container = Container::run(&world, &["--net"], "ip link set lo up 2>/dev/null; exec \"$@\"", &[]);
    let up = Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if up {
        world.wait_status("web", "healthy");
    } else {
        world.wait_status("web", "starting");
        eprintln!("    no ip command: loopback stays down, the healthy half is not shown");
    }
    assert!(!world.status_file("web").expect("a status").contains("AddressInUse"));
    drop(outside);
    assert!(container.stop().success());
}

#[test]
fn of_two_containers_with_one_directory_the_second_ends_with_73_and_touches_nothing() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    world.put("web.yaml", &guard::stays(&world, "web"));
    let mut first = Container::plain(&world, &[]);
    world.wait_status("web", "running");
    let before = world.status_file("web");
    let other = World::empty();
    let log = fs::File::create(other.root().join("log")).expect("created");
    let second = command("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--mount"])
        .arg(env!("CARGO_BIN_EXE_plugd"))
        .args(["run", "--state-dir"])
        .arg(other.state())
        .arg(world.dir())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .status()
        .expect("unshare");
    assert_eq!(second.code(), Some(73), "{}", fs::read_to_string(other.root().join("log")).unwrap_or_default());
    assert_eq!(world.status_file("web"), before);
    // The first is killed as a whole, its services with its namespace: the second takes over.
    let pid = first.pid_1();
    kill(pid, 9);
    first.wait_end();
    until("all of it to be gone", || !lives(pid));
    let mut third = Container::plain(&world, &[]);
    world.wait("its own process", |world| guard::starts(world, "web").len() == 2 && world.status("web") == "running");
    guard::assert_single(&world);
    assert!(third.stop().success());
}

#[test]
fn a_docker_stop_of_many_that_do_not_listen_is_over_in_time_and_names_each() {
    if !is_root() {
        return;
    }
    let world = World::empty();
    for n in 0..6 {
        let depends =
            if n == 0 { String::new() } else { format!("dependsOn: [{{name: d{}, condition: Started}}]\n", n - 1) };
        let name = format!("d{n}");
        world.put(&format!("{name}.yaml"), &(guard::deaf(&world, &name, "sleep 0.1") + &depends));
    }
    let mut container = Container::plain(&world, &[]);
    for n in 0..6 {
        world.wait(&format!("d{n} to be deaf"), |world| guard::starts(world, &format!("d{n}")).len() == 1);
    }
    let asked = Instant::now();
    assert_eq!(container.stop().code(), Some(0));
    // 8 s is the budget, docker kills after 10. The rest is for a machine that others use, too: the grace of each would
    // be 30 s.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    let log = container.log();
    let killed = |name: String| {
        log.lines().any(|line| line.contains("reason=Killed") && line.contains(&format!("service=\"{name}\"")))
    };
    for n in 0..6 {
        assert!(killed(format!("d{n}")), "d{n} is not named\n{log}");
    }
}
