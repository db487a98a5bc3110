//! What checks mean: thresholds, the watchdog, and lateness that proves nothing.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Check, Probe, Readiness, Spec};

fn probed() -> Spec {
    let mut web = spec("web");
    web.readiness = Readiness::Probe(tcp(80));
    web
}

fn watched() -> Spec {
    let mut web = spec("web");
    web.readiness = Readiness::Probe(Probe { check: Check::Notify, ..tcp(1) });
    web.liveness_probe = Some(Probe { check: Check::Notify, ..tcp(1) });
    web
}

fn ready() -> Notification {
    Notification { ready: true, ..Notification::default() }
}

fn ping() -> Notification {
    Notification { watchdog: true, ..Notification::default() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_address_is_told_while_somebody_is_to_be_reached_there() {
    let mut web = probed();
    web.process.port = Some(80);
    let mut world = World::running(web);
    assert_eq!(world.view("web").address, None, "nobody has been seen there");
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.view("web").address.as_deref(), Some("127.0.0.1:80"));
    for _ in 0..3 {
        world.verdict("web", 1, ProbeSlot::Readiness, false);
    }
    assert_eq!(world.view("web").address, None);
}

#[test]
fn one_failure_fewer_than_the_threshold_keeps_it_ready_and_the_threshold_takes_it_out() {
    let mut world = World::running(probed());
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    for (score, word) in [(85, (Status::Healthy, None)), (70, (Status::Degraded, Some(Reason::LowScore)))] {
        world.verdict("web", 1, ProbeSlot::Readiness, false);
        let view = world.view("web");
        assert_eq!((view.ready, view.available, view.score), (1, true, Some(score)));
        assert_eq!(world.status("web"), word);
    }
    world.verdict("web", 1, ProbeSlot::Readiness, false);
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::ProbeFailed)));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.status("web").0, Status::Healthy, "one success is enough to come back");
}

#[test]
fn a_liveness_probe_that_fails_and_never_passed_is_not_called_running() {
    let mut web = spec("web");
    web.liveness_probe = Some(Probe { failure_threshold: 100, ..tcp(80) });
    let mut world = World::running(web);
    assert_eq!(world.status("web"), (Status::Running, None), "nothing is known yet");
    world.verdict("web", 1, ProbeSlot::Liveness, false);
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Degraded, Some(Reason::ProbeFailed)));
    assert_eq!(view.why, ["its check has never passed: tcp 127.0.0.1:80 refused"]);
    assert_eq!((view.ready, view.score), (1, Some(85)));
    for _ in 0..4 {
        world.verdict("web", 1, ProbeSlot::Liveness, false);
    }
    let view = world.view("web");
    assert_eq!((view.status, view.score), (Status::Degraded, Some(40)), "{:?}", view.why);
    // A better word has to last, as ever.
    for _ in 0..31 {
        world.verdict("web", 1, ProbeSlot::Liveness, true);
    }
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Healthy, None), "{:?}", view.why);
    assert_eq!(view.check.as_deref(), Some("tcp 127.0.0.1:80 passed"));
}

#[test]
fn a_success_between_failures_begins_the_count_anew() {
    let mut world = World::running(probed());
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    for passed in [false, false, true, false, false] {
        world.verdict("web", 1, ProbeSlot::Readiness, passed);
        assert!(world.view("web").available);
    }
    let view = world.view("web");
    assert_eq!((view.status, view.score), (Status::Degraded, Some(70)), "{:?}", view.why);
}

#[test]
fn a_success_threshold_of_two_wants_two_in_a_row() {
    let mut web = spec("web");
    web.readiness = Readiness::Probe(Probe { success_threshold: 2, ..tcp(80) });
    let mut world = World::running(web);
    for passed in [true, false, true] {
        world.verdict("web", 1, ProbeSlot::Readiness, passed);
        assert_eq!(world.status("web").0, Status::Starting);
    }
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.status("web").0, Status::Healthy);
}

#[test]
fn an_answer_that_comes_twice_counts_once() {
    let mut web = spec("web");
    web.liveness_probe = Some(Probe { failure_threshold: 2, ..tcp(80) });
    let mut world = World::running(web);
    world.verdict("web", 1, ProbeSlot::Liveness, false);
    assert!(!signals(&world.answer("web", 1, ProbeSlot::Liveness, false), "web", 15));
    assert!(signals(&world.verdict("web", 1, ProbeSlot::Liveness, false), "web", 15));
}

#[test]
fn a_startup_probe_gives_its_threshold_times_its_period_however_often_it_runs() {
    let mut web = probed();
    web.startup_probe = Some(Probe { failure_threshold: 3, ..tcp(81) });
    let mut world = World::running(web);
    let spawned = world.now.mono;
    let mut runs = 0;
    while !signals(&world.verdict("web", 1, ProbeSlot::Startup, false), "web", 15) {
        runs += 1;
    }
    let lasted = world.now.mono - spawned;
    assert!(runs > 20, "until its first success it runs often: {runs}");
    assert!((20..22).contains(&lasted.as_secs()), "its third failure in step falls after two periods: {lasted:?}");
}

#[test]
fn three_liveness_failures_restart_it_and_say_which_check() {
    let mut web = spec("web");
    web.liveness_probe = Some(tcp(80));
    let mut world = World::running(web);
    world.verdict("web", 1, ProbeSlot::Liveness, false);
    world.verdict("web", 1, ProbeSlot::Liveness, false);
    assert!(signals(&world.verdict("web", 1, ProbeSlot::Liveness, false), "web", 15));
    let why = world.view("web").why.join(" ");
    assert!(why.contains("the liveness probe failed 3 times in a row: tcp 127.0.0.1:80 refused"), "{why}");
}

#[test]
fn a_liveness_probe_alone_makes_it_healthy_as_soon_as_it_has_passed() {
    let mut web = spec("web");
    web.liveness_probe = Some(tcp(80));
    let mut world = World::running(web);
    assert_eq!(world.status("web").0, Status::Running);
    world.verdict("web", 1, ProbeSlot::Liveness, true);
    assert_eq!(world.status("web").0, Status::Healthy);
}

#[test]
fn nothing_is_asked_of_a_life_that_is_being_stopped() {
    let long = 60 * SECOND;
    let checked = || {
        let mut web = spec("web");
        web.readiness = Readiness::Probe(tcp(80));
        web.liveness_probe = Some(tcp(81));
        web.stop.grace_period = 2 * long;
        web
    };
    let asked = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Probe { .. })).count();
    type Stop = fn(&mut World) -> Vec<Action>;
    let stops: [(&str, Stop); 4] = [
        ("an order", |world| world.order("web", Order::Stop)),
        ("a deleted file", |world| world.tell(Input::Withdrawn(name("web")))),
        ("the end of the node", |world| world.tell(Input::Shutdown(Shutdown::Ordered))),
        ("a check that gives up", |world| {
            (0..3).flat_map(|_| world.verdict("web", 1, ProbeSlot::Liveness, false)).collect()
        }),
    ];
    for (what, stop) in stops {
        let mut world = World::running(checked());
        world.verdict("web", 1, ProbeSlot::Readiness, true);
        world.verdict("web", 1, ProbeSlot::Liveness, true);
        assert!(signals(&stop(&mut world), "web", 15), "{what}");
        // An answer that was on its way is no reason to ask again.
        let late = world.answer("web", 1, ProbeSlot::Readiness, true);
        assert_eq!(asked(&late) + asked(&world.sleep(long)), 0, "{what}");
        assert_eq!(world.status("web").0, Status::Stopping, "{what}");
    }
    let mut left_alone = World::running(checked());
    left_alone.verdict("web", 1, ProbeSlot::Readiness, true);
    assert!(asked(&left_alone.sleep(long)) > 0, "who is not stopped is asked");
}

#[test]
fn failures_of_a_loop_that_was_late_prove_nothing() {
    let mut web = spec("web");
    web.liveness_probe = Some(Probe { failure_threshold: 1, ..tcp(80) });
    let mut world = World::running(web);
    world.be_late(30 * SECOND);
    assert!(world.is_asked("web", 1, ProbeSlot::Liveness));
    assert!(!signals(&world.answer("web", 1, ProbeSlot::Liveness, false), "web", 15), "late by more than a period");
    assert!(signals(&world.verdict("web", 1, ProbeSlot::Liveness, false), "web", 15), "in time again");
}

#[test]
fn an_answer_that_was_itself_held_up_proves_nothing() {
    let mut web = spec("web");
    web.liveness_probe = Some(Probe { failure_threshold: 1, timeout: 5 * SECOND, ..tcp(80) });
    let mut world = World::running(web);
    world.until_asked("web", 1, ProbeSlot::Liveness);
    world.now.mono += 15 * SECOND + Duration::from_millis(1);
    assert!(!signals(&world.answer("web", 1, ProbeSlot::Liveness, false), "web", 15), "timeout and a period later");
}

#[test]
fn a_check_that_plugd_had_no_place_for_proves_nothing() {
    let mut web = probed();
    web.liveness_probe = Some(Probe { failure_threshold: 1, ..tcp(81) });
    let mut world = World::running(web);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    for probe in [ProbeSlot::Readiness, ProbeSlot::Liveness].repeat(4) {
        world.until_asked("web", 1, probe);
        let message = "tcp db cannot be looked up: the resolver is busy with 16 other names".into();
        let reason = Some(Reason::ResourceExhausted);
        let verdict = Verdict { passed: false, message, reason, took: Duration::ZERO };
        let actions = world.answer_with("web", 1, probe, verdict);
        assert!(!signals(&actions, "web", 15), "{actions:?}");
        assert_eq!(world.status("web").0, Status::Healthy);
    }
    assert!(signals(&world.verdict("web", 1, ProbeSlot::Liveness, false), "web", 15));
}

#[test]
fn only_failures_that_count_are_noted_for_the_history() {
    let noted = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::NoteMiss(_))).count();
    let mut web = probed();
    web.liveness_probe = Some(Probe { failure_threshold: 3, timeout: 5 * SECOND, ..tcp(81) });
    let mut world = World::running(web);
    assert_eq!(noted(&world.verdict("web", 1, ProbeSlot::Readiness, false)), 0, "it starts");
    assert_eq!(noted(&world.verdict("web", 1, ProbeSlot::Readiness, true)), 0);
    for probe in [ProbeSlot::Readiness, ProbeSlot::Liveness] {
        assert_eq!(noted(&world.verdict("web", 1, probe, false)), 1, "{probe:?}");
        assert_eq!(noted(&world.verdict("web", 1, probe, true)), 0, "{probe:?}");
    }
    world.until_asked("web", 1, ProbeSlot::Liveness);
    world.now.mono += 15 * SECOND + Duration::from_millis(1);
    assert_eq!(noted(&world.answer("web", 1, ProbeSlot::Liveness, false)), 0, "plugd itself was late");
    world.until_asked("web", 1, ProbeSlot::Liveness);
    let (message, reason) = ("the resolver is busy".into(), Some(Reason::ResourceExhausted));
    let verdict = Verdict { passed: false, message, reason, took: Duration::ZERO };
    assert_eq!(noted(&world.answer_with("web", 1, ProbeSlot::Liveness, verdict)), 0);

    let mut slow = probed();
    slow.startup_probe = Some(Probe { failure_threshold: 3, ..tcp(81) });
    let mut world = World::running(slow);
    assert_eq!(noted(&world.verdict("web", 1, ProbeSlot::Startup, false)), 0, "until it has started");
}

#[test]
fn a_machine_that_slept_owes_nobody_a_check() {
    let mut world = World::running(watched());
    world.notify("web", 1, ready());
    world.now.wall = world.now.wall.checked_add(jiff::SignedDuration::from_hours(9)).expect("this century");
    assert!(world.decide().is_empty());
    assert!(!signals(&world.sleep(29 * SECOND), "web", 15), "only its own running time counts");
}

#[test]
fn a_watchdog_that_hears_nothing_for_period_times_threshold_ends_it() {
    let mut world = World::running(watched());
    assert!(
        world.sleep(100 * SECOND).iter().all(|action| !matches!(action, Action::Signal { .. })),
        "not before ready"
    );
    world.notify("web", 1, ready());
    assert_eq!(world.status("web").0, Status::Healthy);
    world.sleep(29 * SECOND);
    world.notify("web", 1, ping());
    assert!(!signals(&world.sleep(29 * SECOND), "web", 15));
    assert!(signals(&world.sleep(SECOND), "web", 15));
    assert!(world.view("web").why[0].contains("the watchdog heard nothing in time"));
}

#[test]
fn extend_timeout_moves_the_watchdog_and_never_backwards() {
    let mut world = World::running(watched());
    world.notify("web", 1, ready());
    let extend = |secs| Notification { extend_timeout: Some(secs * SECOND), ..Notification::default() };
    world.notify("web", 1, extend(60));
    world.notify("web", 1, extend(1));
    assert!(!signals(&world.sleep(59 * SECOND), "web", 15));
    assert!(signals(&world.sleep(SECOND), "web", 15));
}

#[test]
fn a_watchdog_that_is_looked_at_late_is_given_one_more_period() {
    let mut world = World::running(watched());
    world.notify("web", 1, ready());
    assert!(!signals(&world.be_late(90 * SECOND), "web", 15), "its pings may still wait in the socket");
    assert!(!signals(&world.sleep(9 * SECOND), "web", 15));
    assert!(signals(&world.sleep(SECOND), "web", 15));
}

#[test]
fn a_service_that_says_stopping_is_not_ready_any_more() {
    let mut world = World::running(watched());
    world.notify("web", 1, ready());
    world.notify("web", 1, Notification { stopping: true, ..Notification::default() });
    assert!(!world.view("web").available);
}

#[test]
fn a_stop_is_extended_by_extend_timeout_but_not_for_ever() {
    let mut web = watched();
    web.stop.grace_period = 3 * SECOND;
    let mut world = World::running(web);
    world.notify("web", 1, ready());
    world.tell(Input::Withdrawn(name("web")));
    world.notify("web", 1, Notification { extend_timeout: Some(5 * SECOND), ..Notification::default() });
    assert!(!signals(&world.sleep(4_900 * SECOND / 1_000), "web", 9));
    assert!(signals(&world.sleep(SECOND), "web", 9));
}

#[test]
fn checks_that_are_edited_while_it_is_being_spawned_are_in_force() {
    let mut world = World::new();
    world.declare(probed());
    let mut edited = probed();
    edited.readiness = Readiness::Probe(Probe { initial_delay: 7 * SECOND, ..tcp(80) });
    world.declare(edited);
    world.spawned("web", 1);
    world.sleep(6 * SECOND);
    assert!(!world.is_asked("web", 1, ProbeSlot::Readiness));
    world.sleep(SECOND);
    assert!(world.is_asked("web", 1, ProbeSlot::Readiness));
}

#[test]
fn a_thousand_services_without_probes_that_started_together_are_no_wake_ups() {
    let mut world = World::with(Config { asked_max: 20_000, ..config() });
    for n in 0..1_000 {
        world.declare(spec(&format!("s{n}")));
    }
    for n in 0..1_000 {
        world.now.mono += Duration::from_micros(1_700);
        world.spawned(&format!("s{n}"), 1);
    }
    // The start-up report is behind us by then.
    assert!(world.wake_ups(100 * SECOND) <= 2);
}

#[test]
fn a_thousand_services_that_had_trouble_are_over_it_in_few_wake_ups() {
    let mut world = World::with(Config { asked_max: 20_000, ..config() });
    for n in 0..1_000 {
        world.declare(spec(&format!("s{n}")));
    }
    for n in 0..1_000 {
        world.now.mono += Duration::from_micros(1_700);
        let service = format!("s{n}");
        world.spawned(&service, 1);
        world.crash(&service, 1, 1);
        world.spawned(&service, 2);
    }
    let woken = world.wake_ups(100 * SECOND);
    assert!(woken <= 20, "1.7 s of starts are 7 or 8 moments of the grid, twice: {woken}");
}

#[test]
fn a_thousand_routine_checks_meet_on_a_grid() {
    let mut world = World::with(Config { asked_max: 20_000, ..config() });
    for n in 0..1_000 {
        let mut web = spec(&format!("s{n}"));
        web.readiness = Readiness::Probe(tcp(1_000 + n));
        world.declare(web);
        world.spawned(&format!("s{n}"), 1);
        world.verdict(&format!("s{n}"), 1, ProbeSlot::Readiness, true);
    }
    assert!(world.wake_ups(9 * SECOND) <= 9 * 4 + 2);
}

#[test]
fn what_says_that_it_is_ready_before_its_startup_probe_has_passed_is_ready_once_that_has() {
    let mut web = watched();
    web.liveness_probe = None;
    web.startup_probe = Some(tcp(80));
    let mut world = World::running(web.clone());
    world.verdict("web", 1, ProbeSlot::Startup, false);
    let actions = world.notify("web", 1, ready());
    assert_eq!(world.status("web").0, Status::Starting);
    let blob = actions.iter().rev().find_map(|action| match action {
        Action::SetBlob { blob, .. } => Some(blob.clone()),
        _ => None,
    });
    // So it is for the next controller.
    let mut next = World::unread(config(), world.now);
    let (life, blob) = (life("web", 1), blob.expect("it is kept"));
    next.tell(Input::Adopted(Adopted { life, pid: 101, pre_stop: false, age: SECOND, exit: None, blob }));
    next.declare(web.clone());
    next.tell(Input::Scanned);
    for mut world in [world, next] {
        assert_eq!(world.status("web").0, Status::Starting);
        world.verdict("web", 1, ProbeSlot::Startup, true);
        assert_eq!(world.status("web").0, Status::Healthy);
    }
    // Another readiness has not been heard.
    let mut other = web.clone();
    other.readiness = Readiness::Probe(Probe { check: Check::LogLine("up".into()), ..tcp(1) });
    let mut world = World::running(web.clone());
    world.notify("web", 1, ready());
    world.declare(other);
    world.verdict("web", 1, ProbeSlot::Startup, true);
    assert_eq!(world.status("web").0, Status::Starting);
    // One that has said nothing waits for that word, and not for a check that has passed.
    let mut world = World::running(web);
    world.verdict("web", 1, ProbeSlot::Startup, true);
    let view = world.view("web");
    assert_eq!(view.status, Status::Starting);
    assert!(!view.why.iter().any(|why| why.contains("passed")), "{:?}", view.why);
}

#[test]
fn a_liveness_probe_that_fails_is_not_why_one_is_not_ready_yet() {
    let mut web = probed();
    web.liveness_probe = Some(Probe { failure_threshold: 100, period: SECOND, ..tcp(81) });
    let mut world = World::running(web);
    let answer = |world: &mut World, probe, message: &str| {
        world.until_asked("web", 1, probe);
        let verdict = Verdict { passed: false, message: message.into(), reason: None, took: Duration::ZERO };
        world.answer_with("web", 1, probe, verdict);
    };
    answer(&mut world, ProbeSlot::Readiness, "http answered 503");
    answer(&mut world, ProbeSlot::Liveness, "exec lives not");
    let view = world.view("web");
    assert!(view.status == Status::Starting && view.why[0].contains("http answered 503"), "{:?}", view.why);
}
