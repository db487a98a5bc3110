//! Services that are stopped, asleep beyond reach, forking, crashing, or gone while their children stay.

use std::fs;
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Disk, OldGroup, is_root, until};
use crate::soak::times;
use crate::world::{World, free_port, kill, lives};

#[test]
fn row_21_a_controller_or_a_whole_node_that_was_held_up_restarts_nothing() {
    let world = World::running();
    let calm = "livenessProbe: {exec: {command: ['true']}, period: 200ms, timeout: 2s, failureThreshold: 2}\n";
    world.put("web.yaml", &(guard::stays(&world, "web") + calm));
    world.wait_status("web", "healthy");
    let (keeper, controller) = (world.node_pid(), world.controller_pid().expect("a controller"));
    let all = [keeper, controller];
    // Of every push: many periods and two timeouts. A controller that alone answers nothing for 60 s is replaced: that is
    // another rule, which must not strike where the keeper stood still, too.
    let [alone, together] = if times(1) > 1 { [30, 90] } else { [5, 5] };
    for (who, held) in [(&[controller][..], alone), (&all[..], together)] {
        let held = Duration::from_secs(held);
        who.iter().for_each(|pid| kill(*pid, 19));
        std::thread::sleep(held);
        who.iter().rev().for_each(|pid| kill(*pid, 18));
        guard::put(&world, &format!("after{}", who.len()));
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(world.controller_pid(), Some(controller), "the keeper's patience did not count its own sleep");
        assert_eq!(guard::starts(&world, "web").len(), 1, "late checks are no failures\n{}", world.log());
    }
    world.wait_status("web", "healthy");
}

#[test]
fn row_21_a_keeper_alone_that_was_stopped_is_told_to_go_on() {
    let world = World::running();
    guard::put(&world, "web");
    let pid = world.pid("web").expect("a pid");
    kill(world.node_pid(), 19);
    kill(pid, 9);
    world.wait("another process", |world| guard::starts(world, "web").len() == 2);
    // It is told to go on first.
    world.wait("that to be said", |world| world.log().contains("KeeperStopped"));
    guard::assert_single(&world);
}

#[test]
fn row_22_a_service_that_is_stopped_answers_no_check_and_is_ended_and_started_again() {
    let world = World::running();
    let port = free_port();
    let serve = guard::script(&world, "web", &format!("exec python3 -m http.server --bind 127.0.0.1 {port}"));
    let checks = format!(
        concat!(
            "port: {0}\nstop: {{gracePeriod: 500ms}}\n",
            // It may take its time to start, on a busy machine.
            "startupProbe: {{tcpSocket: {{}}, period: 100ms, failureThreshold: 1000}}\n",
            "livenessProbe: {{httpGet: {{path: /}}, period: 300ms, timeout: 1s, failureThreshold: 3}}\n"
        ),
        port
    );
    world.put("web.yaml", &(serve + &checks));
    world.wait_status("web", "healthy");
    let pid = world.pid("web").expect("a pid");
    kill(pid, 19);
    until("the stopped one to be ended", || !lives(pid));
    world.wait("another one", |world| world.pid("web").is_some_and(|new| new != pid));
    world.wait_status("web", "healthy");
    guard::assert_single(&world);
}

#[test]
fn row_23_a_process_that_no_signal_reaches_is_named_and_holds_up_nobody_else() {
    if !is_root() {
        return;
    }
    let mut world = World::running();
    let frozen = world.root().join("frozen");
    let Some(mut disk) = Disk::ext4(&frozen, &world.root().join("image")) else { return };
    let write = format!("while :; do echo x > {}/file; done", frozen.display());
    world.put("deep.yaml", &(guard::script(&world, "deep", &write) + "stop: {gracePeriod: 200ms}\n"));
    world.wait("it to write there", |_| fs::metadata(frozen.join("file")).is_ok_and(|meta| meta.len() > 0));
    world.wait_status("deep", "running");
    let pid = world.pid("deep").expect("a pid");
    disk.freeze();
    until("it to sleep where nobody wakes it", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") D "))
    });
    world.remove("deep.yaml");
    world.wait_status("deep", "stopping (StuckKilling)");
    let status = world.status_file("deep").expect("a status");
    let place = fs::read_to_string(format!("/proc/{pid}/wchan")).expect("the kernel tells root where it waits");
    assert!(place.len() > 1, "{place}");
    let told = format!("pid {pid} (sh) has not ended: it waits in the kernel ({place})");
    assert!(status.contains(&told), "{told}\n{status}");
    // Others go on, and the same resource is not taken a second time.
    guard::put(&world, "other");
    world.put("deep.yaml", &guard::stays(&world, "deep"));
    guard::put(&world, "third");
    assert_eq!(guard::starts(&world, "deep").len(), 1, "a second life beside the one that is stuck");
    disk.thaw();
    world.wait("the new one after the old one's end", |world| guard::starts(world, "deep").len() == 2);
    world.wait_status("deep", "running");
    assert!(!lives(pid));
    guard::assert_single(&world);
    assert!(world.stop().success());
}

#[test]
fn row_25_a_fork_bomb_is_gone_with_its_service() {
    if !is_root() {
        return;
    }
    // Bounded, so that a failure of this test does not take the machine along.
    let Some(group) = OldGroup::make("pids", "plugd-row-25") else { return };
    group.set("pids.max", "300");
    let world = World::running();
    let bomb = format!(
        "script: |\n  echo $$ > {}/cgroup.procs\n  bomb() {{ while :; do (trap '' TERM; bomb) & sleep 0.01; done; }}\n  bomb 2>/dev/null\nstop: {{gracePeriod: 200ms}}\n",
        group.path().display()
    );
    world.put("bomb.yaml", &bomb);
    let inside = || fs::read_to_string(group.path().join("cgroup.procs")).unwrap_or_default().lines().count();
    until("the bomb to fill its bounds", || inside() > 200);
    guard::put(&world, "calm");
    world.remove("bomb.yaml");
    world.wait("its end", |world| world.status_file("bomb").is_none());
    until("the last of it to be reaped", || inside() == 0);
    assert_eq!(guard::starts(&world, "calm").len(), 1);
}

#[test]
fn row_26_one_that_forks_into_the_background_is_told_and_ended_whole() {
    let world = World::running();
    let pids = world.root().join("daemon");
    let daemon = format!(
        "script: |\n  nohup setsid sh -c 'echo $$ >> {}; exec sleep 86400' >/dev/null 2>&1 &\n  while [ ! -s {0} ]; do sleep 0.01; done; exit 0\nstop: {{gracePeriod: 200ms}}\nrestart: {{backoff: {{initial: 200ms, max: 200ms}}}}\n",
        pids.display()
    );
    world.put("daemon.yaml", &daemon);
    world.wait("the fork to be told", |world| world.status_file("daemon").is_some_and(|text| text.contains("Forked")));
    world.remove("daemon.yaml");
    world.wait("its end", |world| world.status_file("daemon").is_none());
    let text = fs::read_to_string(&pids).expect("it said its pid");
    let left: Vec<i32> = text.lines().map(|pid| pid.parse().expect("a number")).filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "{left:?} of {text:?}");
}

#[test]
fn row_28_what_a_leader_leaves_is_gone_before_the_next_life_begins() {
    let world = World::running();
    // The child inherits the lock: a new life that begins while it is there says so.
    let text = guard::script(&world, "web", "sh -c 'trap \"\" TERM; sleep 86400; sleep 86400' & sleep 0.1; exit 1");
    world.put("web.yaml", &(text + "stop: {gracePeriod: 300ms}\nrestart: {backoff: {initial: 0ms, max: 0ms}}\n"));
    world.wait("several lives", |world| guard::starts(world, "web").len() >= 4);
    guard::assert_single(&world);
}

#[test]
fn row_29_thousands_of_ends_within_a_millisecond_are_all_counted_and_cost_little() {
    let world = World::running();
    let wanted = times(2_000);
    world.put("quick.yaml", "command: /bin/true\nrestart: {backoff: {initial: 0ms, max: 0ms}}\n");
    guard::put(&world, "calm");
    let deadline = Instant::now() + Duration::from_secs(120 * times(1) as u64);
    let restarts = || world.field("quick", "restarts").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let began = Instant::now();
    while restarts() < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted}", restarts());
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("    {} ends in {:?}", restarts(), began.elapsed());
    world.remove("quick.yaml");
    world.wait("its end", |world| world.status_file("quick").is_none());
    // With the ladder as it is by default, ten of them are next to nothing.
    for n in 0..10 {
        world.put(&format!("loop{n}.yaml"), "command: /bin/false\n");
    }
    for n in 0..10 {
        world.wait_status(&format!("loop{n}"), "unhealthy");
    }
    let controller = world.controller_pid().expect("a controller");
    let (spent, since) = (processor_time(controller), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let share = (processor_time(controller) - spent).as_secs_f64() / since.elapsed().as_secs_f64();
    eprintln!("    {:.2} % of a processor", share * 100.0);
    // The bar of one, in a release build.
    assert!(share < 0.02, "{:.1} % of a processor", share * 100.0);
    assert_eq!(guard::starts(&world, "calm").len(), 1);
}

fn processor_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let rest = stat.rsplit_once(") ").expect("a name").1.split(' ').collect::<Vec<_>>();
    let ticks: u64 = rest[11].parse::<u64>().expect("a number") + rest[12].parse::<u64>().expect("a number");
    Duration::from_millis(ticks * 10)
}

#[test]
fn row_30_a_program_that_is_busy_or_none_is_told_and_tried_when_it_changes() {
    let world = World::running();
    let busy = world.root().join("busy");
    fs::copy("/bin/sleep", &busy).expect("copied");
    let held = fs::OpenOptions::new().append(true).open(&busy).expect("opened for writing");
    let odd = world.root().join("odd");
    fs::write(&odd, "\0\0 no program\n").expect("written");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).expect("chmod");
    world.put("busy.yaml", &format!("command: [{}, '86400']\n", busy.display()));
    world.put("odd.yaml", &format!("command: {}\n", odd.display()));
    world.put("closed.yaml", "command: /etc/passwd\n");
    for (name, reason) in [("busy", "busy"), ("odd", "ExecFormat"), ("closed", "NotExecutable")] {
        world.wait(&format!("{name} to say {reason}"), |world| {
            world.status_file(name).is_some_and(|text| text.to_lowercase().contains(&reason.to_lowercase()))
        });
    }
    drop(held);
    world.wait_status("busy", "running");
    // A manifest that is edited, and a wrapper that is mended in its place, end a wait of a minute.
    let slow = "restart: {backoff: {initial: 60s, max: 60s}}\n";
    world.put("edited.yaml", &format!("command: {}\n{slow}", odd.display()));
    world.put("mended.yaml", &format!("wrapper: mended.sh\n{slow}"));
    world.put_script("mended.sh", "\0\0 no program\n");
    for name in ["edited", "mended"] {
        world.wait(&format!("{name} to wait"), |world| {
            world.status_file(name).is_some_and(|text| text.contains("ExecFormat") && text.contains("next:"))
        });
    }
    world.put("edited.yaml", &(guard::stays(&world, "edited") + slow));
    world.put_script("mended.sh", "#!/bin/sh\nexec sleep 86400\n");
    for name in ["edited", "mended"] {
        world.wait_status(name, "running");
    }
}

#[test]
fn row_32_a_stranger_that_got_the_number_of_a_service_is_never_signalled() {
    if !is_root() {
        return;
    }
    // In a pid namespace of its own, where the next number can be chosen.
    let world = World::empty();
    let root = world.root().display();
    let script = format!(
        r#"
set -u
plugd run --no-tee --state-dir {root}/state {root}/services.d 2>{root}/log & node=$!
field() {{ sed -n "s/^$2: //p" {root}/services.d/$1.status 2>/dev/null; }}
wait_for() {{ n=0; until eval "$1"; do n=$((n+1)); [ $n -gt 2000 ] && {{ echo "in vain: $1"; cat {root}/log; exit 9; }}; sleep 0.01; done; }}
wait_for '[ -n "$(field web pid)" ]'
old=$(field web pid)
kill -9 $node; wait $node 2>/dev/null
kill -9 $old; wait_for '! kill -0 $old 2>/dev/null'
n=0
while :; do
  echo $((old - 1)) > /proc/sys/kernel/ns_last_pid
  sleep 86400 & stranger=$!
  [ $stranger = $old ] && break
  kill -9 $stranger; n=$((n+1)); [ $n -gt 200 ] && {{ echo "not reused"; exit 8; }}
done
plugd run --no-tee --state-dir {root}/state {root}/services.d 2>{root}/log & node=$!
wait_for '[ "$(field web status)" = running ] && [ "$(field web pid)" != $old ]'
kill -0 $stranger || {{ echo "the stranger was killed at the start"; exit 7; }}
rm {root}/services.d/web.yaml
wait_for '[ ! -e {root}/services.d/web.status ]'
kill -0 $stranger || {{ echo "the stranger was killed at the stop"; exit 6; }}
kill $node; wait $node; exit 0
"#
    );
    world.put("web.yaml", "command: sleep 86400\n");
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_plugd")).parent().expect("a folder").display().to_string();
    let output = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", &script])
        .env("PATH", format!("{bin}:/usr/bin:/bin:/usr/sbin:/sbin"))
        .output()
        .expect("unshare");
    assert!(output.status.success(), "{output:?}");
}
