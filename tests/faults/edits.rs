//! Manifests that change at the worst moment, or are half there.

use std::fs;

use crate::guard;
use crate::inject::until;
use crate::storm::{assert_nothing_of_a_prefix, in_pieces};
use crate::world::{World, lives};

#[test]
fn row_47_a_file_that_flaps_between_good_and_bad_acts_on_no_prefix() {
    let world = World::running();
    let good = guard::stays(&world, "web");
    // Also now it is written slowly, in place: a prefix of it is a whole manifest.
    in_pieces(&world, "web", &good);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    for round in 0..40 {
        // Each lies there closed for a while, and none is a manifest.
        match round % 4 {
            0 => fs::write(world.path("web.yaml"), "").expect("written"),
            1 => fs::write(world.path("web.yaml"), &good[..5]).expect("written"),
            2 => world.put("web.yaml", "command: [\n"),
            _ => fs::File::options().write(true).open(world.path("web.yaml")).expect("there").set_len(3).expect("cut"),
        }
        if round % 10 < 4 {
            world.wait("it to be told as invalid", |world| {
                world.status_file("web").is_some_and(|text| text.contains("type: ConfigInvalid"))
            });
            assert_eq!(world.pid("web"), Some(pid), "the last good version goes on");
        }
        in_pieces(&world, "web", &good);
    }
    guard::put(&world, "sentinel");
    world.wait("the last version to be taken", |world| {
        world.status_file("web").is_some_and(|text| !text.contains("ConfigInvalid"))
    });
    assert_eq!(guard::starts(&world, "web"), [pid], "what lies there is what ran all the time");
    assert!(world.status("web") == "running" && lives(pid), "{}", world.log());
    assert_nothing_of_a_prefix(&world);
}

#[test]
fn row_54_an_edit_while_its_service_starts_stops_or_waits_ends_in_the_newest_alone() {
    let world = World::running();
    let version = |n: usize| guard::script(&world, "web", &format!("exec sleep 86{n:03}"));
    let stubborn =
        |n: usize| guard::deaf(&world, "web", &format!("sleep 0.{:02}", n + 1)) + "stop: {gracePeriod: 3s}\n";
    let failing = |n: usize| guard::script(&world, "web", &format!("sleep 0.0{n:02}; exit 1"));
    let slow = |n: usize| version(n) + "readinessProbe: {exec: {command: ['false']}}\n";
    type Make<'a> = &'a dyn Fn(usize) -> String;
    let moments: [(&str, Make<'_>, &str); 4] = [
        ("starting", &slow, "starting"),
        ("stopping", &stubborn, "running"),
        ("backing off", &failing, "unhealthy"),
        ("running", &version, "running"),
    ];
    for (n, (moment, text, status)) in moments.into_iter().enumerate() {
        let before = guard::starts(&world, "web").len();
        world.put("web.yaml", &text(n));
        world.wait("the version that is to be edited", |world| guard::starts(world, "web").len() > before);
        world.wait_status("web", status);
        let last = 100 + n;
        if moment == "stopping" {
            world.remove("web.yaml");
            world.wait_status("web", "stopping");
        }
        for edit in 0..5 {
            world.put("web.yaml", &version(edit));
        }
        world.put("web.yaml", &version(last));
        // As `sleep` itself, not as the shell that is about to become it: by then its start is noted as well.
        let newest = format!("sleep\086{last}\0");
        until(&format!("the newest after {moment}"), || {
            world.status("web") == "running" && world.pid("web").is_some_and(|pid| command_line(pid) == newest)
        });
        guard::assert_single(&world);
    }
    let alive = guard::starts(&world, "web").into_iter().filter(|pid| lives(*pid)).count();
    assert_eq!(alive, 1);
}

fn command_line(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn row_55_a_thousand_deep_and_then_in_a_circle() {
    let world = World::running();
    const DEEP: usize = 1000;
    for n in 0..DEEP {
        let next = if n + 1 == DEEP { "root".to_string() } else { format!("s{}", n + 1) };
        world.put(&format!("s{n}.yaml"), &format!("command: sleep 86400\ndependsOn: [{next}]\n"));
    }
    world.wait_status("s0", "waiting (DependencyNotReady)");
    world.put("root.yaml", "command: sleep 86400\ndependsOn: [s0]\n");
    world.wait_status("root", "failed (DependencyCycle)");
    world.wait_status("s500", "failed (DependencyCycle)");
    guard::put(&world, "web");
    world.put("self.yaml", "command: sleep 86400\ndependsOn: [self]\n");
    world.wait_status("self", "failed");
    for name in ["root", "s0", "s999"] {
        assert!(world.status_file(name).expect("a status").len() <= 16 * 1024);
    }
    guard::assert_calm(&world);
}
