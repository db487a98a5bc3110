//! What a service may use: limits that are kept where this machine can keep them, and said where not.

use std::fs;
use std::path::PathBuf;

use crate::privileges::ordinary;
use crate::world::{World, kill};

const LIMITS: &str = "command: sleep 86400\nresources: {limits: {cpu: 500m, memory: 64Mi, pids: 40, nofile: 200}}\n";

/// A file of the group that a process is in by this controller.
fn file(pid: i32, controller: &str, by: &str, file: &str) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is told");
    let legacy = by == "cgroup v1";
    let is_it = |names: &str| names.split(',').any(|name| name == if legacy { controller } else { "" });
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        is_it(names).then(|| path.to_string())
    });
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let fits = match legacy {
            true => kind.starts_with("cgroup ") && kind.rsplit(' ').next()?.split(',').any(|name| name == controller),
            false => kind.starts_with("cgroup2 "),
        };
        let mut place = place.split(' ').skip(3);
        fits.then(|| Some((place.next()?.to_string(), place.next()?.to_string())))?
    });
    let (root, point) = mount.expect("it is mounted");
    let path = path.expect("it is in a group");
    PathBuf::from(point)
        .join(path.strip_prefix(root.trim_end_matches('/')).unwrap_or(&path).trim_start_matches('/'))
        .join(file)
}

/// Holds 100 MB until USR1.
const HOLDS: &str = "
import os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: os.execvp('sleep', ['sleep', '86400']))
held = b'x' * (100 << 20)
while True: time.sleep(0.1)
";

#[test]
fn memory_that_was_lowered_below_what_is_in_use_is_limited_once_there_is_room() {
    let world = World::running();
    let Some(by) = world.limited_by("memory") else { return };
    let [limit, used] = match by.as_str() {
        "cgroup v1" => ["memory.limit_in_bytes", "memory.usage_in_bytes"],
        _ => ["memory.max", "memory.current"],
    };
    let script = HOLDS.trim().replace('\n', "\n      ");
    let text =
        format!("command:\n  - python3\n  - -c\n  - |\n      {script}\nresources: {{limits: {{memory: 300Mi}}}}\n");
    world.put("web.yaml", &text);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let number = |name: &str| {
        let text = fs::read_to_string(file(pid, "memory", &by, name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    world.wait("its memory", |_| number(used).is_some_and(|bytes| bytes > 90 << 20));
    world.put("web.yaml", &text.replace("300Mi", "50Mi"));
    let told = |world: &World| {
        let status = world.status_file("web").unwrap_or_default();
        status.lines().filter(|line| line.contains("LimitsNotApplied")).map(str::to_string).collect::<Vec<_>>()
    };
    world.wait("the refusal", |world| !told(world).is_empty());
    let words = told(&world).join("");
    assert!(words.contains("limits.memory 50Mi is not applied: it uses more than that"), "{words}");
    assert!(words.contains("`plugd restart web`") && words.matches("applied").count() == 1, "{words}");
    assert_eq!(number(limit), Some(300 << 20));
    if let Some(with_swap) = number("memory.memsw.limit_in_bytes") {
        assert_eq!(with_swap, 300 << 20, "what was in force stays in force");
    }
    kill(pid, 10);
    world.wait("the limit", |_| number(limit) == Some(50 << 20));
    world.wait("nothing to be said", |world| told(world).is_empty());
    assert_eq!(world.pid("web"), Some(pid));
}

/// (controller, name in the manifest, file by v2, file by v1)
const FILES: [(&str, &str, &str, &str); 3] = [
    ("cpu", "limits.cpu", "cpu.max", "cpu.cfs_quota_us"),
    ("memory", "limits.memory", "memory.max", "memory.limit_in_bytes"),
    ("pids", "limits.pids", "pids.max", "pids.max"),
];

/// Each limit has its number in the kernel, or is said not to be applied: as the doctor foretold.
fn assert_limits(world: &World, name: &str, numbers: [&str; 3]) {
    let pid = world.pid(name).expect("a pid");
    for ((controller, field, unified, legacy), number) in FILES.into_iter().zip(numbers) {
        let said = || {
            let status = world.status_file(name).expect("a status");
            status.lines().any(|line| line.contains("LimitsNotApplied") && line.contains(field))
        };
        match world.limited_by(controller) {
            Some(by) => {
                let path = file(pid, controller, &by, if by == "cgroup v1" { legacy } else { unified });
                world.wait(&format!("{} in {}", number, path.display()), |_| {
                    fs::read_to_string(&path).is_ok_and(|text| text.split_whitespace().next() == Some(number))
                });
                assert!(!said(), "{field} is kept and said not to be");
            }
            None => world.wait(&format!("{field} to be said"), |_| said()),
        }
    }
}

fn open_files(pid: i32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is listed");
    line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn limits_are_kept_or_said_as_the_doctor_foretold_and_other_numbers_take_effect_at_once() {
    let world = World::running();
    world.put("web.yaml", LIMITS);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    assert_limits(&world, "web", ["50000", "67108864", "40"]);
    assert_eq!(open_files(pid), "200 200");

    world.put("web.yaml", &LIMITS.replace("500m", "1").replace("64Mi", "96Mi").replace("pids: 40", "pids: 50"));
    world.wait("the edit", |world| world.field("web", "manifest").is_some_and(|text| text.contains("generation: 2")));
    assert_limits(&world, "web", ["100000", "100663296", "50"]);
    assert_eq!(world.pid("web"), Some(pid), "the kernel takes other numbers from what runs");

    // What only a new process can take up.
    world.put("web.yaml", &LIMITS.replace("nofile: 200", "nofile: 300"));
    world.wait("a new process", |world| world.pid("web").is_some_and(|new| new != pid));
    assert_eq!(open_files(world.pid("web").expect("a pid")), "300 300");
    assert_limits(&world, "web", ["50000", "67108864", "40"]);
}

#[test]
fn a_new_controller_keeps_the_limits_and_takes_up_an_edit_that_it_was_not_told_of() {
    let world = World::running();
    world.put("web.yaml", LIMITS);
    world.put("odd.yaml", "command: sleep 86400\nresources: {limits: {nofile: 4000000000}}\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");
    let first = world.controller_pid().expect("a controller");
    kill(first, 19);
    world.put("web.yaml", &LIMITS.replace("64Mi", "80Mi"));
    kill(first, 9);
    world.wait("another controller", |world| world.controller_pid() != Some(first));
    assert_limits(&world, "web", ["50000", "83886080", "40"]);
    assert_eq!(world.pid("web"), pid);
    // A limit above plugd's own is told by each controller.
    world.wait("what is not applied", |world| {
        let status = world.status_file("odd").unwrap_or_default();
        world.controller_pid() != Some(first) && status.contains("LimitsNotApplied") && status.contains("limits.nofile")
    });
}

#[test]
fn the_first_limit_needs_a_new_process_and_nothing_is_left_of_groups_at_the_end() {
    let mut world = World::running();
    world.put("web.yaml", "command: sleep 86400\n");
    world.wait_status("web", "running");
    let before = world.pid("web").expect("a pid");
    world.put("web.yaml", LIMITS);
    world.wait("a new process", |world| world.pid("web").is_some_and(|pid| pid != before));
    assert_limits(&world, "web", ["50000", "67108864", "40"]);
    let pid = world.pid("web").expect("a pid");
    let folders: Vec<PathBuf> = FILES
        .iter()
        .filter_map(|(controller, ..)| Some(file(pid, controller, &world.limited_by(controller)?, "")))
        .filter_map(|group| Some(group.parent()?.to_path_buf()))
        .collect();
    assert!(folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
    assert!(world.stop().success());
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
}

#[test]
fn an_ordinary_user_s_services_run_and_say_which_limits_they_lack() {
    let mut world = ordinary();
    world.put("web.yaml", LIMITS);
    world.run(&[]);
    world.wait_status("web", "running");
    assert_limits(&world, "web", ["50000", "67108864", "40"]);
    assert_eq!(open_files(world.pid("web").expect("a pid")), "200 200");
}
