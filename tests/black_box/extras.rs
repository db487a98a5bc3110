//! What a life has besides its process: hooks, checks that it answers itself, its surroundings.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use plugd::edge::process::cgroup::own_group;

use crate::last_good::write_down;
use crate::world::{World, environment, free_port, kill, lives};

const QUICK: &str = "restart: {backoff: {initial: 20ms, max: 50ms}}\n";

fn at(world: &World, file: &str) -> String {
    world.root().join(file).display().to_string()
}

fn text(world: &World, file: &str) -> String {
    std::fs::read_to_string(world.root().join(file)).unwrap_or_default()
}

fn touch(world: &World, file: &str) {
    std::fs::write(world.root().join(file), "").expect("written");
}

fn pids(world: &World, file: &str) -> Vec<i32> {
    text(world, file).split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A script outside of the directory that says its pid, and that of a child in a session of its own,
/// and never ends. Names are those of files in the world's root.
fn put_hanging(world: &World, name: &str, said: &str) -> String {
    let said = at(world, said);
    let child = format!("setsid sh -c 'echo $$ >> {said}; exec sleep 3600' &");
    world.put_script(&format!("../{name}"), &format!("#!/bin/sh\n{child}\necho $$ >> {said}\nsleep 3600\n"));
    at(world, name)
}

/// How many the keeper has open.
fn descriptors(world: &World) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", world.node_pid())).map_or(0, Iterator::count)
}

/// Groups of helpers of a service, of whichever node: the names of services here are used once.
fn helper_groups(service: &str) -> Vec<PathBuf> {
    let Ok(own) = own_group() else { return Vec::new() };
    let below = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let named =
        |path: &PathBuf, start: &str| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    let nodes = below(own).filter(|path| named(path, "plugd-"));
    nodes.flat_map(below).filter(|path| named(path, &format!("helper-{service}.0-"))).collect()
}

#[test]
fn pre_start_runs_before_and_its_failure_holds_up_the_start_and_is_told() {
    let world = World::running();
    let (order, flag) = (at(&world, "order"), at(&world, "flag"));
    world.put(
        "web.yaml",
        &format!(
            concat!(
                "script: |\n  echo main >> {0}\n  exec sleep 3600\n{2}",
                "lifecycle: {{preStart: {{exec: {{command: [sh, -c, ",
                "'echo hook >> {0}; test -e {1} && exit 0; echo no flag yet; exit 3']}}}}}}\n"
            ),
            order, flag, QUICK
        ),
    );
    world.wait("the failure to be told", |world| {
        let status = world.status_file("web").unwrap_or_default();
        status.contains("its preStart hook failed: exited with 3: no flag yet")
            && world.log().contains("did not start: its preStart hook failed: exited with 3: no flag yet")
    });
    assert!(!text(&world, "order").contains("main"), "nothing starts before its hook has ended well");

    touch(&world, "flag");
    world.wait_status("web", "running");
    world.wait("its first word", |world| text(world, "order").ends_with("hook\nmain\n"));
}

#[test]
fn pre_stop_runs_before_the_signal() {
    let world = World::running();
    let order = at(&world, "order");
    world.put(
        "web.yaml",
        &format!(
            concat!(
                "script: |\n  trap 'echo term >> {0}; exit 0' TERM; echo up; while :; do sleep 0.02; done\n",
                "readinessProbe: {{logLine: up}}\n",
                "lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'sleep 0.2; echo hook >> {0}']}}}}}}\n"
            ),
            order
        ),
    );
    world.wait_status("web", "healthy");
    world.remove("web.yaml");
    world.wait("the service to go", |world| world.status_file("web").is_none());
    assert_eq!(text(&world, "order"), "hook\nterm\n");
}

#[test]
fn a_pre_stop_hook_that_fails_is_an_event_with_its_last_line() {
    let world = World::running();
    for (name, hook) in [
        ("fails", "[sh, -c, 'echo no route; exit 3']"),
        ("lacks", "[no-such-hook]"),
        ("hangs", "[sh, -c, 'echo waiting; exec sleep 3600']"),
        ("works", "['true']"),
    ] {
        let stop = format!("stop: {{gracePeriod: 1s}}\nlifecycle: {{preStop: {{exec: {{command: {hook}}}}}}}\n");
        world.put(&format!("{name}.yaml"), &format!("command: sleep 3600\n{stop}"));
        world.wait_status(name, "running");
        world.ask(&["stop", name]);
    }
    for (name, told) in [
        ("fails", "the preStop hook of fails exited with 3: no route"),
        ("lacks", "the preStop hook of lacks could not be started: no program \"no-such-hook\""),
        ("hangs", "the preStop hook of hangs did not end within 1"),
    ] {
        world.wait(told, |world| {
            let events = world.ask(&["events", name]);
            events.contains("FailedPreStopHook") && events.contains(told)
        });
    }
    world.wait_status("works", "stopped (StoppedByOperator)");
    assert!(!world.ask(&["events", "works"]).contains("FailedPreStopHook"));
}

#[test]
fn a_pre_stop_hook_ends_with_the_life_that_it_was_for() {
    let world = World::running();
    let hook = put_hanging(&world, "drain", "hooks");
    world.put(
        "draining.yaml",
        &format!("command: sleep 3600\nlifecycle: {{preStop: {{exec: {{command: [{hook}]}}}}}}\n"),
    );
    world.wait_status("draining", "running");
    let pid = world.pid("draining").expect("a pid");
    world.remove("draining.yaml");
    world.wait("the hook", |world| pids(world, "hooks").len() == 2);

    kill(pid, 9);

    world.wait("the service to go", |world| world.status_file("draining").is_none());
    world.wait("the hook to go", |world| pids(world, "hooks").iter().all(|pid| !lives(*pid)));
    world.wait("its group to go", |_| helper_groups("draining").is_empty());
}

#[test]
fn a_wrapper_whose_selfcheck_fails_is_skipped_with_its_last_line() {
    let world = World::running();
    let flag = at(&world, "flag");
    world.put_script(
        "wrappers/shop.sh",
        &format!(
            "#!/bin/sh\nif [ \"$1\" = --selfcheck ]; then test -e {flag} && exit 0; echo looking; echo no flag here; exit 1; fi\nexec sleep 3600\n"
        ),
    );
    world.put("shop.yaml", "wrapper: {path: shop.sh, selfcheck: true}\n");
    world.wait_status("shop", "skipped (SelfcheckFailed)");
    let status = world.status_file("shop").expect("a status");
    assert!(status.contains("no flag here") && !status.contains("looking"), "{status}");

    touch(&world, "flag");
    world.ask(&["start", "shop"]);
    world.wait_status("shop", "running");
}

#[test]
fn a_pre_start_hook_is_killed_with_all_its_processes_when_the_manifest_goes() {
    let world = World::running();
    let hook = put_hanging(&world, "warm", "hooks");
    world.put(
        "warming.yaml",
        &format!("command: sleep 3600\nlifecycle: {{preStart: {{exec: {{command: [{hook}]}}}}}}\n"),
    );
    world.wait("the hook", |world| pids(world, "hooks").len() == 2);
    world.wait("its status", |world| world.status_file("warming").is_some());
    world.remove("warming.yaml");
    world.wait("the service to go", |world| world.status_file("warming").is_none());
    world.wait("the hook to go", |world| pids(world, "hooks").iter().all(|pid| !lives(*pid)));
    world.wait("its group to go", |_| helper_groups("warming").is_empty());
}

#[test]
fn a_hook_ends_with_the_node_and_with_the_controller_that_asked_for_it() {
    let mut world = World::running();
    // A memory that was written is known to the keeper: a descriptor that stays.
    write_down(&world);
    let hook = put_hanging(&world, "warm", "hooks");
    world.put(
        "heating.yaml",
        &format!("command: sleep 3600\nlifecycle: {{preStart: {{exec: {{command: [{hook}]}}}}}}\n"),
    );
    world.wait("the hook", |world| pids(world, "hooks").len() == 2);
    let held = descriptors(&world);

    kill(world.controller_pid().expect("a controller"), 9);
    world.wait("the hook of the next controller", |world| pids(world, "hooks").len() == 4);
    world.wait("the first to go", |world| pids(world, "hooks")[..2].iter().all(|pid| !lives(*pid)));
    world.wait("its group to go", |_| helper_groups("heating").len() <= 1);
    world.wait("the keeper to forget it", |world| descriptors(world) <= held);

    assert_eq!(world.stop().code(), Some(0));
    assert!(pids(&world, "hooks").iter().all(|pid| !lives(*pid)), "{}", text(&world, "hooks"));
    assert_eq!(helper_groups("heating"), Vec::<PathBuf>::new());
}

#[test]
fn what_never_began_leaves_nothing_with_the_keeper() {
    let world = World::running();
    world.put_script("../noise", "neither a program nor a script\n");
    let command = format!("command: [{}]\n", at(&world, "noise"));
    world.put("web.yaml", &format!("{command}readinessProbe: {{notify: true}}\nstartupProbe: {{fd: 3}}\n{QUICK}"));
    // None of them is a restart: there never was a life.
    let told = |world: &World| world.log().matches("web did not start").count();
    world.wait("the first try", |world| told(world) >= 1);
    world.wait("the reason", |world| world.status_file("web").is_some_and(|status| status.contains("ExecFormat")));
    let held = descriptors(&world);
    // The same refusal is told once a second: in between lie twenty of them.
    world.wait("more of them", |world| told(world) >= 4);
    assert!(descriptors(&world) <= held + 4, "{held} became {}", descriptors(&world));
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"));
}

#[test]
fn a_probe_that_hangs_and_forks_is_killed_as_a_tree_at_its_limit() {
    let world = World::running();
    let probe = put_hanging(&world, "probe", "probes");
    world.put(
        "probed.yaml",
        &format!(
            "command: sleep 3600\nreadinessProbe: {{exec: {{command: [{probe}]}}, timeout: 200ms, period: 300ms}}\n"
        ),
    );
    // It is starting before it has a process, and says so.
    world.wait("a process", |world| world.pid("probed").is_some());
    let pid = world.pid("probed").expect("a pid");
    world.wait("a second probe", |world| pids(world, "probes").len() >= 3);
    world.wait("the first to be gone", |world| pids(world, "probes")[..2].iter().all(|pid| !lives(*pid)));
    world.wait("the limit to be told", |world| {
        world.status_file("probed").is_some_and(|status| status.contains("200ms"))
    });
    assert_eq!(world.pid("probed"), Some(pid), "the service itself is left alone");

    world.remove("probed.yaml");
    world.wait("the service to go", |world| world.status_file("probed").is_none());
    world.wait("all probes to go", |world| pids(world, "probes").iter().all(|pid| !lives(*pid)));
    world.wait("their groups to go", |_| helper_groups("probed").is_empty());
}

/// Speaks sd_notify: `say` sends, `there` looks for a file in the world's root.
fn notifier(world: &World, program: &str) -> String {
    let text = format!(
        concat!(
            "import os, socket, time\n",
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n",
            "a = os.environ['NOTIFY_SOCKET']\n",
            "def say(text): s.sendto(text.encode(), '\\0' + a[1:])\n",
            "def there(name): return os.path.exists('{0}/' + name)\n",
            "def wait(name):\n    while not there(name): time.sleep(0.01)\n",
            "def note(name, text):\n    open('{0}/stage-' + name, 'w').write(text); os.rename('{0}/stage-' + name, '{0}/' + name)\n",
            "{1}"
        ),
        world.root().display(),
        program
    );
    std::fs::write(world.root().join("notifier.py"), text).expect("written");
    format!("command: [python3, {}]\n", at(world, "notifier.py"))
}

#[test]
fn ready_counts_from_its_own_tree_and_not_from_outside() {
    let world = World::running();
    let program =
        "note('address', a)\nwait('warm')\nsay('STATUS=still warming')\nwait('go')\nsay('READY=1')\nwait('never')\n";
    let command = notifier(&world, program);
    world.put("web.yaml", &format!("{command}readinessProbe: {{notify: true}}\n"));
    world.wait("its socket's name", |world| !text(world, "address").is_empty());

    let address = text(&world, "address");
    let address = SocketAddr::from_abstract_name(address.trim_start_matches('@')).expect("a name");
    let stranger = UnixDatagram::unbound().expect("a socket");
    stranger.send_to_addr(b"READY=1", &address).expect("sent");
    touch(&world, "warm");
    // Datagrams are read in order: with this one the stranger's has been read.
    world.wait("what it says itself", |world| {
        world.status_file("web").is_some_and(|status| status.contains("still warming"))
    });
    assert_eq!(world.status("web").split(' ').next(), Some("starting"));

    touch(&world, "go");
    world.wait_status("web", "healthy");
    let check = world.field("web", "check").expect("a check");
    assert!(check.contains("it says: still warming"), "what it said last stands while it is ready: {check}");
}

#[test]
fn a_watchdog_that_falls_silent_is_a_restart() {
    let world = World::running();
    let program = concat!(
        "say('READY=1')\nbeats = 0\n",
        "while True:\n",
        "    if not there('silent'): say('WATCHDOG=1'); beats += 1; note('beats', os.environ['WATCHDOG_USEC'] + ' ' + str(beats))\n",
        "    time.sleep(0.05)\n"
    );
    let command = notifier(&world, program);
    let probes = "readinessProbe: {notify: true}\nlivenessProbe: {notify: true, period: 1s, failureThreshold: 3}\n";
    world.put("dog.yaml", &format!("{command}{probes}{QUICK}"));
    world.wait_status("dog", "healthy");
    let pid = world.pid("dog").expect("a pid");
    let beats = |world: &World| text(world, "beats").split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    world.wait("beats for longer than the limit", |world| beats(world) >= 80);
    assert!(text(&world, "beats").starts_with("3000000 "), "{}", text(&world, "beats"));
    assert_eq!((world.pid("dog"), world.field("dog", "restarts").as_deref()), (Some(pid), Some("0")));

    touch(&world, "silent");
    world.wait("another process", |world| world.pid("dog").is_some_and(|new| new != pid));
    assert!(!lives(pid));
    world.wait("the cause to be an event", |world| world.ask(&["events", "dog"]).contains("watchdog"));
}

#[test]
fn a_newline_on_its_descriptor_makes_it_ready() {
    let world = World::running();
    let go = at(&world, "go");
    world.put(
        "web.yaml",
        &format!(
            "script: |\n  while ! test -e {go}; do sleep 0.02; done; echo >&3; exec sleep 3600\nreadinessProbe: {{fd: 3}}\n"
        ),
    );
    world.wait_status("web", "starting");
    touch(&world, "go");
    world.wait_status("web", "healthy");
}

#[test]
fn logs_are_edited_and_moved_under_a_running_process() {
    let world = World::running();
    let manifest = |file: &str| {
        let path = at(&world, file);
        format!("script: |\n  while :; do echo line; sleep 0.02; done\nlogs: {{path: {path}}}\n")
    };
    world.put("web.yaml", &manifest("a.log"));
    world.wait("output", |world| text(world, "a.log").contains("line"));
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");

    world.put("web.yaml", &manifest("b.log"));
    world.wait("output at its new place", |world| text(world, "b.log").contains("line"));

    std::fs::rename(world.root().join("b.log"), world.root().join("b.old")).expect("moved");
    let length = text(&world, "b.old").len();
    world.wait("output that follows the file", |world| text(world, "b.old").len() > length);
    world.signal_node(10);
    world.wait("a new file", |world| text(world, "b.log").contains("line"));
    assert_eq!((world.pid("web"), world.field("web", "restarts").as_deref()), (Some(pid), Some("0")));
}

#[test]
fn quit_stops_at_once() {
    let mut world = World::running();
    world.put(
        "deaf.yaml",
        "script: |\n  trap '' TERM QUIT; echo up; while :; do sleep 1; done\nreadinessProbe: {logLine: up}\n",
    );
    world.wait_status("deaf", "healthy");
    let pid = world.pid("deaf").expect("a pid");
    let asked = Instant::now();
    world.signal_node(3);
    world.wait_end();
    assert!(asked.elapsed() < Duration::from_secs(20), "its grace of 30 s is not waited for: {:?}", asked.elapsed());
    assert!(!lives(pid));
}

fn line_of(text: &str, key: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().map(str::to_string).collect()
}

#[test]
fn a_service_of_nobody_s_runs_as_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\nuser: nobody\nworkingDir: /\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    assert_eq!(line_of(&status, "Uid:"), ["65534"; 4]);
    assert!(line_of(&status, "Gid:").iter().all(|gid| gid != "0"), "{status}");
    assert!(!line_of(&status, "Groups:").contains(&"0".to_string()), "{status}");
    assert!(environment(pid).split('\0').any(|line| line == "USER=nobody"));
}

#[test]
fn values_from_files_and_from_plugd_s_environment_reach_the_process_and_are_never_told() {
    let mut world = World::empty();
    world.env.push(("SHOP_TOKEN", "told-by-environment".into()));
    std::fs::write(world.root().join("shop.env"), "# for the shop\nLEVEL=told-by-file\n").expect("written");
    std::fs::write(world.root().join("secret"), "told-by-secret\n").expect("written");
    world.run(&[]);
    world.put(
        "shop.yaml",
        &format!(
            "command: sleep 3600\nenvFrom: [{{file: {}}}]\nenv: {{PASSWORD: {{file: {}}}, TOKEN: {{fromEnv: SHOP_TOKEN}}}}\n",
            at(&world, "shop.env"),
            at(&world, "secret")
        ),
    );
    world.wait_status("shop", "running");
    let environment = environment(world.pid("shop").expect("a pid"));
    for line in ["LEVEL=told-by-file", "PASSWORD=told-by-secret", "TOKEN=told-by-environment"] {
        assert!(environment.split('\0').any(|there| there == line), "{line} is missing");
    }

    let mut told = world.status_file("shop").expect("a status") + &world.log();
    for words in [
        &["status", "shop"][..],
        &["get", "shop"],
        &["get", "shop", "-o", "yaml"],
        &["get", "shop", "-o", "json"],
        &["get", "shop", "-o", "yaml", "--effective"],
        &["events", "shop"],
    ] {
        told += &world.ask(words);
    }
    assert!(!told.contains("told-by-"), "{told}");
}

/// Listens on a port and accepts, until it is ended.
fn listening(port: u16) -> String {
    let code = format!(
        "import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); \
         s.bind(('127.0.0.1', {port})); s.listen(9)\nwhile True: s.accept()[0].close()"
    );
    serde_json::to_string(&["python3", "-c", &code]).expect("printable")
}

#[test]
fn of_two_services_that_name_one_port_only_its_holder_is_healthy_and_the_other_names_it() {
    let world = World::running();
    let (port, other) = (free_port(), free_port());
    // Up first, and listens on another port than it says: the port of the second is not its own.
    world.put("second.yaml", &format!("command: {}\nport: {port}\n", listening(other)));
    world.wait_status("second", "starting");
    world.put("first.yaml", &format!("command: {}\nport: {port}\n", listening(port)));
    world.wait_status("first", "healthy");
    world.wait_status("second", "unhealthy (AddressInUse)");
    let holder = world.pid("first").expect("it runs");
    world.wait("the holder to be named", |world| {
        let told = world.status_file("second").unwrap_or_default();
        told.contains(&format!("held by the service first, pid {holder}"))
    });
    world.remove("first.yaml");
    world.wait_status("second", "starting");
}

#[test]
fn a_replica_that_ignores_its_port_is_told_which_of_its_own_holds_it() {
    let world = World::running();
    let port = free_port();
    // Whoever comes second goes on without.
    let code = format!(
        "import socket, time\ns = socket.socket()\ntry:\n s.bind(('127.0.0.1', {port})); s.listen(9)\n\
         except OSError: pass\ntime.sleep(1000)"
    );
    let command = serde_json::to_string(&["python3", "-c", &code]).expect("printable");
    let probe = format!("readinessProbe: {{tcpSocket: {{port: {port}}}}}");
    world.put("web.yaml", &format!("command: {command}\nreplicas: 2\n{probe}\n"));
    world.wait("one to be told of the other", |world| {
        let told = world.status_file("web").unwrap_or_default();
        told.contains("the command ignores $(PORT)") && told.contains(&format!("port {port} is held by web/"))
    });
}
