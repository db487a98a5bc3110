//! Who a service is and what it may do: user, group, capabilities, umask, niceness.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use crate::world::World;

const NOBODY: u32 = 65_534;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_RESOURCE: u64 = 1 << 24;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A node of an ordinary user: of the one that runs the tests, or of nobody.
pub fn ordinary() -> World {
    let mut world = World::empty();
    if is_root() {
        for path in [world.root().to_path_buf(), world.dir()] {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        // A build's folder may be closed to others.
        world.program = world.root().join("plugd");
        World::copy_program(&world.program);
        world.under = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(String::from).into();
    }
    world
}

/// A line of /proc/PID/status.
fn line(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn set(pid: i32, name: &str) -> u64 {
    u64::from_str_radix(&line(pid, name), 16).expect("hex digits")
}

/// Permitted, effective, inheritable, bounding, ambient.
fn sets(pid: i32) -> [u64; 5] {
    ["CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"].map(|name| set(pid, name))
}

fn running(world: &World, name: &str) -> i32 {
    world.wait_status(name, "running");
    world.pid(name).expect("a pid")
}

#[test]
fn capabilities_are_those_of_the_manifest_for_root_and_for_others() {
    let mut world = if is_root() { World::empty() } else { ordinary() };
    world.put("plain.yaml", "command: sleep 86400\n");
    let bind = "capabilities: {drop: [ALL], add: [CAP_NET_BIND_SERVICE]}";
    world.put("bind.yaml", &format!("command: sleep 86400\nuser: '65534'\nsecurityContext: {{{bind}}}\n"));
    world.put("none.yaml", "command: sleep 86400\nsecurityContext: {capabilities: {drop: [ALL]}}\n");
    world.put("less.yaml", "command: sleep 86400\nsecurityContext: {capabilities: {drop: [net_bind_service]}}\n");
    world.run(&[]);
    let own = sets(running(&world, "plain"));
    if !is_root() {
        world.wait("what cannot be given to be told", |world| {
            world.status_file("bind").is_some_and(|text| text.contains("PermissionDenied"))
        });
        assert_eq!(line(running(&world, "none"), "NoNewPrivs"), "1");
        return;
    }
    let only = NET_BIND_SERVICE;
    assert_eq!(sets(running(&world, "bind")), [only, only, only, only, only]);
    assert_eq!(line(running(&world, "bind"), "NoNewPrivs"), "0");
    assert_eq!(sets(running(&world, "none")), [0; 5]);
    let [permitted, _, _, bounding, _] = own;
    assert_eq!(sets(running(&world, "less")), [permitted & !only, permitted & !only, 0, bounding & !only, 0]);

    // Hooks and checks are what the service is.
    let check = "readinessProbe: {exec: {command: [sh, -c, 'grep -q CapEff:.0000000000000400 /proc/self/status']}}";
    world.put("bind.yaml", &format!("command: sleep 86400\nuser: '65534'\nsecurityContext: {{{bind}}}\n{check}\n"));
    world.wait_status("bind", "healthy");
}

#[test]
fn what_plugd_does_not_have_it_cannot_give() {
    let world = World::running();
    let own = set(world.node_pid(), "CapPrm");
    world.put("all.yaml", "command: sleep 86400\nsecurityContext: {capabilities: {add: [SYS_RESOURCE]}}\n");
    match own & SYS_RESOURCE {
        0 => {
            world.wait("the lack to be told", |world| {
                let status = world.status_file("all").unwrap_or_default();
                status.contains("PermissionDenied") && status.contains("cannot be given SYS_RESOURCE")
            });
        }
        _ => drop(running(&world, "all")),
    }
}

#[test]
fn check_foretells_which_priority_the_node_is_refused() {
    let mut world = ordinary();
    world.put("nice.yaml", "command: sleep 86400\nsecurityContext: {nice: -5}\n");
    world.put("oom.yaml", "command: sleep 86400\nsecurityContext: {oomScoreAdj: -100}\n");
    world.put("fine.yaml", "command: sleep 86400\nsecurityContext: {nice: 15, oomScoreAdj: 900}\n");
    world.run(&[]);
    running(&world, "fine");
    for name in ["nice", "oom"] {
        world
            .wait("the refusal", |world| world.status_file(name).is_some_and(|text| text.contains("PermissionDenied")));
    }
    // By its own user, who may ask the node.
    let words = [world.program.clone(), "--dir".into(), world.dir(), "check".into()];
    let mut words = world.under.iter().map(PathBuf::from).chain(words);
    let mut check = Command::new(words.next().expect("a program"));
    check.args(words).env("PLUGD_STATE_DIR", world.state()).current_dir(world.root());
    let said = String::from_utf8_lossy(&check.output().expect("started").stdout).into_owned();
    assert!(said.contains("  cannot   nice  PermissionDenied: its nice is below plugd's own"), "{said}");
    assert!(said.contains("  cannot   oom  PermissionDenied: its oomScoreAdj is below plugd's own"), "{said}");
    assert!(said.contains("would start 0,") && said.contains("; would not start 2"), "{said}");
}

#[test]
fn an_ordinary_user_s_services_lose_what_they_drop_for_good() {
    let mut world = ordinary();
    world.put("none.yaml", "command: sleep 86400\nsecurityContext: {capabilities: {drop: [ALL]}}\n");
    world.put("bind.yaml", "command: sleep 86400\nsecurityContext: {capabilities: {add: [NET_BIND_SERVICE]}}\n");
    world.run(&[]);
    let pid = running(&world, "none");
    let [permitted, effective, inheritable, _, ambient] = sets(pid);
    assert_eq!([permitted, effective, inheritable, ambient], [0; 4]);
    assert_eq!(line(pid, "NoNewPrivs"), "1", "its bounding set cannot be made smaller");
    world.wait("what cannot be given to be told", |world| {
        world.status_file("bind").is_some_and(|text| text.contains("cannot be given NET_BIND_SERVICE"))
    });
}

#[test]
fn user_group_umask_niceness_and_score_are_those_of_the_manifest() {
    let mut world = if is_root() { World::empty() } else { ordinary() };
    let rest = "umask: \"0027\", nice: 5, oomScoreAdj: 700, allowPrivilegeEscalation: false";
    let who = if is_root() { "runAsUser: 65533, runAsGroup: 65532, " } else { "" };
    world.put("web.yaml", &format!("command: sleep 86400\nsecurityContext: {{{who}{rest}}}\n"));
    world.put("other.yaml", "command: sleep 86400\nsecurityContext: {runAsUser: 65533}\n");
    world.run(&[]);
    let pid = running(&world, "web");
    assert_eq!((line(pid, "Umask"), line(pid, "NoNewPrivs")), ("0027".into(), "1".into()));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let niceness = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(16).map(str::to_string));
    assert_eq!(niceness.as_deref(), Some("5"));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives").trim(), "700");
    if is_root() {
        assert_eq!(line(pid, "Uid"), "65533 65533 65533 65533");
        assert_eq!((line(pid, "Gid"), line(pid, "Groups")), ("65532 65532 65532 65532".into(), "65532".into()));
    } else {
        world.wait("the user to be refused", |world| {
            world.status_file("other").is_some_and(|text| text.contains("PermissionDenied"))
        });
    }
}

#[test]
fn what_an_ordinary_user_may_not_lower_is_told() {
    let mut world = ordinary();
    world.put("nice.yaml", "command: sleep 86400\nsecurityContext: {nice: -5}\n");
    world.put("score.yaml", "command: sleep 86400\nsecurityContext: {oomScoreAdj: -500}\n");
    world.run(&[]);
    for (name, says) in [("nice", "CAP_SYS_NICE"), ("score", "CAP_SYS_RESOURCE")] {
        world.wait(&format!("{name} to be told"), |world| {
            let status = world.status_file(name).unwrap_or_default();
            status.contains("PermissionDenied") && status.contains(says)
        });
    }
}

/// The trial looks with the eyes of the user that the new version will have.
#[test]
fn what_its_user_may_not_run_or_enter_blocks_an_edit_and_is_foretold() {
    if !is_root() {
        return;
    }
    let world = World::running();
    let closed = world.root().join("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("closed");
    fs::copy("/bin/sleep", closed.join("sleep")).expect("copied");
    let good = "command: sleep 3600\nuser: nobody\nworkingDir: /\n";
    world.put("web.yaml", good);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let closed = closed.display();
    for (edit, why) in [
        (format!("command: {closed}/sleep 3600\nuser: nobody\nworkingDir: /\n"), "cannot be reached by nobody"),
        (format!("command: sleep 3600\nuser: nobody\nworkingDir: {closed}\n"), "cannot be entered by nobody"),
    ] {
        world.put("web.yaml", &edit);
        world.wait("the block", |world| {
            world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked") && text.contains(why))
        });
        assert_eq!(world.pid("web"), Some(pid), "the version before runs on");
        let check = world.plugd(&["check"]);
        let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
        assert!(said.contains(why), "{said}");
        world.put("web.yaml", good);
        world.wait("the mending", |world| world.status_file("web").is_some_and(|text| !text.contains("UpdateBlocked")));
    }
    // What hides in a directory that its user cannot enter is not the one that a shell of his would find.
    let path = format!("env: {{PATH: '{closed}:/usr/bin:/bin'}}\n");
    world.put("web.yaml", &format!("{good}{path}"));
    world.wait("the next version", |world| world.pid("web").is_some_and(|now| now != pid));
    world.wait_status("web", "running");
}

/// With capabilities of its own, too, a service finds on PATH what it may run; so do its hooks and checks.
#[test]
fn what_may_not_be_run_is_passed_by_on_path_with_capabilities_as_without() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let [roots, nobodys] = ["roots", "nobodys"].map(|name| {
        let closed = world.root().join(name);
        fs::create_dir(&closed).expect("made");
        for program in ["sleep", "true"] {
            fs::copy(PathBuf::from("/bin").join(program), closed.join(program)).expect("copied");
        }
        fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("closed");
        closed
    });
    chown(&nobodys, Some(NOBODY), Some(NOBODY)).expect("given away");
    let cases = [
        ("dropped", "user: nobody\n", "drop: [ALL]", false),
        ("added", "user: nobody\n", "add: [NET_BIND_SERVICE]", false),
        ("mighty", "user: nobody\n", "add: [DAC_OVERRIDE]", true),
        ("meek", "", "drop: [ALL]", true),
        ("meeker", "", "drop: [ALL]", false),
    ];
    for (name, user, capabilities, _) in cases {
        let first = if name == "meeker" { &nobodys } else { &roots }.display();
        let rest = "lifecycle: {preStart: {exec: {command: ['true']}}}\nreadinessProbe: {exec: {command: ['true']}}\n";
        let manifest = format!(
            "command: sleep 3600\n{user}workingDir: /\nenv: {{PATH: '{first}:/usr/bin:/bin'}}\nsecurityContext: {{capabilities: {{{capabilities}}}}}\n{rest}"
        );
        world.put(&format!("{name}.yaml"), &manifest);
    }
    let check = world.plugd(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("would start 5"), "{said}");
    world.run(&[]);
    for (name, _, _, is_first) in cases {
        world.wait_status(name, "healthy");
        let program = fs::read_link(format!("/proc/{}/exe", world.pid(name).expect("a pid"))).expect("it lives");
        assert_eq!(program.starts_with(world.root()), is_first, "{name}: {}", program.display());
    }
}
