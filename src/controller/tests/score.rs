//! The health score in the life of a service: what it takes away, what it says, and when it forgives.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Dependency, OnLoss, Probe, Readiness, RestartPolicy, Spec};
use crate::model::view::Serving;

fn probed(name: &str) -> Spec {
    let mut spec = spec(name);
    spec.readiness = Readiness::Probe(tcp(80));
    spec
}

/// It crashes and is ready again, so often.
fn crashes(world: &mut World, service: &str, times: u64) {
    for number in 1..=times {
        world.crash(service, number, 1);
        world.sleep(Duration::from_secs(60));
        world.spawned(service, number + 1);
        world.verdict(service, number + 1, ProbeSlot::Readiness, true);
    }
}

fn events(actions: &[Action], reason: Reason) -> Vec<String> {
    let of = |action: &Action| match action {
        Action::Record(event) if event.reason == reason => Some(event.message.clone()),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn a_service_that_nothing_checks_has_no_score_and_one_that_is_dead_has_none_left() {
    let mut world = World::running(spec("plain"));
    assert_eq!(world.view("plain").score, None);
    world.declare(probed("web"));
    world.spawned("web", 1);
    assert_eq!(world.view("web").score, None, "nothing has been judged yet");
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.view("web").score, Some(100));
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    assert_eq!(world.status("web").1, Some(Reason::BackOff));
    assert_eq!(world.view("web").score, Some(0));
    world.order("web", Order::Stop);
    assert_eq!(world.view("web").score, None, "nothing is expected of it");
}

#[test]
fn three_restarts_in_ten_minutes_are_degraded_and_told_with_their_subtraction_until_they_are_past() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    crashes(&mut world, "web", 2);
    assert_eq!((world.status("web").0, world.view("web").score), (Status::Healthy, Some(80)));
    world.crash("web", 3, 1);
    world.sleep(Duration::from_secs(60));
    world.spawned("web", 4);
    world.verdict("web", 4, ProbeSlot::Readiness, true);
    let view = world.view("web");
    assert_eq!((view.status, view.reason, view.score), (Status::Degraded, Some(Reason::LowScore), Some(70)));
    assert_eq!(view.why, ["its score is low: 3 or more restarts in the last 10 min"]);
    assert!(view.available && view.next.is_some());
    let score = view.instances[0].score.clone().expect("a score");
    assert_eq!((score.points, score.less[0].points), (70, 30));
    assert_eq!(score.less[0].why, "3 or more restarts in the last 10 min");

    let mut actions = Vec::new();
    for _ in 0..12 {
        actions.extend(passing(&mut world, "web", 4, Duration::from_secs(60)));
    }
    assert_eq!((world.status("web"), world.view("web").score), ((Status::Healthy, None), Some(100)));
    assert_eq!(events(&actions, Reason::Recovered), ["web is healthy again: its score is 80"]);
}

/// Checks pass for so long.
fn passing(world: &mut World, service: &str, number: u64, span: Duration) -> Vec<Action> {
    let end = world.now.mono + span;
    let mut actions = Vec::new();
    while world.now.mono < end {
        actions.extend(world.verdict(service, number, ProbeSlot::Readiness, true));
    }
    actions
}

#[test]
fn a_check_that_flaps_at_every_period_changes_the_word_once_and_restarts_nothing() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    let mut words = vec![world.status("web").0];
    let mut actions = Vec::new();
    for round in 0..180 {
        actions.extend(world.verdict("web", 1, ProbeSlot::Readiness, round % 3 == 2));
        words.push(world.status("web").0);
    }
    words.dedup();
    assert_eq!(words, [Status::Healthy, Status::Degraded]);
    assert_eq!(
        events(&actions, Reason::LowScore),
        ["web is degraded: the readiness probe failed 2 of 3 times: tcp 127.0.0.1:80 refused"]
    );
    assert!(!signals(&actions, "web", 15) && world.view("web").available);
    passing(&mut world, "web", 1, Duration::from_secs(20));
    assert_eq!(world.status("web").0, Status::Degraded, "it has to last");
    let actions = passing(&mut world, "web", 1, Duration::from_secs(20));
    assert_eq!(world.status("web").0, Status::Healthy);
    assert_eq!(events(&actions, Reason::Recovered).len(), 1);
}

#[test]
fn what_comes_back_after_it_was_taken_out_is_healthy_at_once() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    for _ in 0..5 {
        world.verdict("web", 1, ProbeSlot::Readiness, false);
    }
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::ProbeFailed)));
    let actions = world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.status("web").0, Status::Healthy);
    assert_eq!(events(&actions, Reason::Recovered), ["web is ready"]);
}

#[test]
fn one_that_is_restarted_by_hand_is_ready_again_and_has_not_recovered() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    world.declare(spec("loop"));
    world.spawned("loop", 1);
    world.crash("loop", 1, 1);
    world.spawned("loop", 2);
    for life in 2..6 {
        world.crash("loop", life, 1);
        world.sleep(Duration::from_secs(20));
        world.spawned("loop", life + 1);
    }
    world.crash("loop", 6, 1);
    let waits = world.view("loop").retry_at;
    world.order("web", Order::Restart);
    world.gone("web", 1, Exit::signal(15));
    world.spawned("web", 2);
    let actions = world.verdict("web", 2, ProbeSlot::Readiness, true);
    assert_eq!(
        (events(&actions, Reason::Recovered), events(&actions, Reason::Ready)),
        (vec![], vec!["web is ready".to_string()])
    );
    assert!(waits.is_some() && world.view("loop").retry_at == waits, "it is no news for others");
}

#[test]
fn an_edit_is_a_new_thing_and_nothing_is_held_against_it() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    crashes(&mut world, "web", 4);
    assert_eq!(world.status("web").1, Some(Reason::LowScore));
    let mut edited = probed("web");
    edited.labels.insert("tier".into(), "front".into());
    world.declare(edited);
    assert_eq!((world.status("web"), world.view("web").score), ((Status::Healthy, None), Some(100)));
}

#[test]
fn the_score_of_several_is_their_mean_and_one_that_is_left_of_four_is_unhealthy_and_available() {
    let mut four = probed("web");
    four.replicas = 4;
    let mut world = World::with(Config { asked_max: 16, exit_on_required: Some(Duration::from_secs(60)), ..config() });
    world.declare(four);
    let of = |index: u32, number: u64| {
        let mut life = life("web", number);
        life.instance.index = index;
        life
    };
    for index in 0..4 {
        world.tell(Input::Spawned { life: of(index, 1), pid: 10 + index as i32, start_time: 1 });
    }
    world.sleep(Duration::from_millis(5));
    let passed = Verdict { passed: true, message: "tcp passed".into(), reason: None, took: Duration::from_millis(1) };
    for index in 0..4 {
        let verdict = passed.clone();
        world.tell(Input::Verdict { life: of(index, 1), probe: ProbeSlot::Readiness, verdict });
    }
    assert_eq!(world.view("web").score, Some(100));
    for (index, number) in [(1, 1), (2, 1), (3, 1)] {
        world.tell(Input::Exited { life: of(index, number), exit: Exit::code(1) });
    }
    let view = world.view("web");
    assert_eq!((view.score, view.ready), (Some(25), 1));
    assert_eq!((view.status, view.available), (Status::Unhealthy, true));
    assert!(view.why.iter().any(|why| why.contains("1 of 4 instances are ready")), "{:?}", view.why);
    let actions = world.sleep(Duration::from_secs(120));
    assert!(!signals(&actions, "web", 15), "a node whose only service still serves goes on");
}

#[test]
fn who_is_not_wanted_any_more_is_not_weighed() {
    let mut world = World::new();
    world.declare(Spec { replicas: 2, ..probed("web") });
    for index in 0..2 {
        let mut one = life("web", 1);
        one.instance.index = index;
        world.tell(Input::Spawned { life: one.clone(), pid: 100 + index as i32, start_time: 7 });
        world.sleep(Duration::from_millis(50));
        let verdict = Verdict { passed: true, message: "well".into(), reason: None, took: Duration::ZERO };
        world.tell(Input::Verdict { life: one, probe: ProbeSlot::Readiness, verdict });
    }
    let mut second = life("web", 1);
    second.instance.index = 1;
    world.tell(Input::Exited { life: second, exit: Exit::code(1) });
    assert_eq!(world.view("web").score, Some(50));
    world.order("web", Order::Scale(1));
    assert_eq!(world.view("web").score, Some(100));
}

#[test]
fn one_that_is_slower_than_its_siblings_is_told_and_loses_ten() {
    let mut three = probed("web");
    three.replicas = 3;
    let mut world = World::with(Config { asked_max: 16, ..config() });
    world.declare(three);
    let of = |index: u32| {
        let mut life = life("web", 1);
        life.instance.index = index;
        life
    };
    for index in 0..3 {
        world.tell(Input::Spawned { life: of(index), pid: 10 + index as i32, start_time: 1 });
    }
    world.sleep(Duration::from_millis(5));
    for index in 0..3 {
        let took = Duration::from_millis(if index == 1 { 400 } else { 10 });
        let verdict = Verdict { passed: true, message: "tcp passed".into(), reason: None, took };
        world.tell(Input::Verdict { life: of(index), probe: ProbeSlot::Readiness, verdict });
    }
    let view = world.view("web");
    assert_eq!((view.status, view.score), (Status::Healthy, Some(97)));
    assert_eq!(view.problems[0].reason, Reason::Slow);
    assert_eq!(view.problems[0].message, "web/1 answers its checks slower than its siblings");
    world.sleep(Duration::from_millis(95));
    let vitals = world.controller.vitals(&name("web"), world.now).expect("known");
    assert_eq!(vitals.instances[1].response_ms, Some(400.0));
    assert_eq!(vitals.availability_percent, Some(95.0), "not in the 5 ms of its start");
    assert!(vitals.availability_since.is_some());
}

#[test]
fn a_later_controller_remembers_the_restarts_of_the_last_ten_minutes() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    crashes(&mut world, "web", 2);
    let actions = world.crash("web", 3, 1);
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    for action in actions.into_iter().chain(world.sleep(Duration::from_secs(60))) {
        if let Action::Spawn { blob, .. } = action {
            blobs.push(blob);
        }
    }
    let blob = blobs.pop().expect("a fourth life");
    let mut next = World::unread(config(), world.now);
    let age = Duration::from_millis(300);
    next.tell(Input::Adopted(Adopted { life: life("web", 4), pid: 104, pre_stop: false, age, exit: None, blob }));
    next.declare(probed("web"));
    next.tell(Input::Scanned);
    next.verdict("web", 4, ProbeSlot::Readiness, true);
    assert_eq!(next.view("web").score, Some(70));
}

#[test]
fn what_fails_within_a_period_after_the_machine_slept_proves_nothing() {
    let mut web = probed("web");
    web.liveness_probe = Some(crate::model::spec::Probe { failure_threshold: 1, ..tcp(81) });
    let mut world = World::running(web);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    world.verdict("web", 1, ProbeSlot::Liveness, true);
    world.until_asked("web", 1, ProbeSlot::Liveness);
    world.tell(Input::Awoke);
    let actions = world.answer("web", 1, ProbeSlot::Liveness, false);
    assert!(!signals(&actions, "web", 15), "it was asked before");
    assert_eq!(world.view("web").score, Some(100));
    world.sleep(Duration::from_secs(1));
    world.tell(Input::Awoke);
    let woke = world.now.mono;
    let actions = world.verdict("web", 1, ProbeSlot::Liveness, false);
    assert!(!signals(&actions, "web", 15), "it was asked within the period");
    let actions = world.verdict("web", 1, ProbeSlot::Liveness, false);
    assert!(signals(&actions, "web", 15) && world.now.mono <= woke + Duration::from_secs(21), "and then it counts");
}

#[test]
fn a_failing_probe_is_named_with_how_often_what_it_answered_and_what_comes_of_it() {
    let mut web = probed("web");
    web.liveness_probe = Some(crate::model::spec::Probe { failure_threshold: 3, ..tcp(80) });
    let mut world = World::running(web);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    for _ in 0..2 {
        world.verdict("web", 1, ProbeSlot::Liveness, false);
    }
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Degraded, Some(Reason::LowScore)));
    assert_eq!(view.why, ["its score is low: the liveness probe failed 2 of 3 times: tcp 127.0.0.1:80 refused"]);
    let next = view.next.clone().expect("a forecast");
    assert!(next.starts_with("restarted if that probe fails 3 times in a row"), "{next}");

    world.verdict("web", 1, ProbeSlot::Liveness, true);
    let view = world.view("web");
    let next = view.next.clone().expect("a forecast");
    assert!(!next.contains("restarted"), "{next}");
    assert_eq!((view.status, view.score), (Status::Degraded, Some(100)));
    assert_eq!(view.why, ["its score was low a moment ago"], "nothing is held against it any more");
    assert_eq!(next, "healthy when its score has stayed above 70 for 30 s");
    for _ in 0..3 {
        world.verdict("web", 1, ProbeSlot::Liveness, false);
    }
    assert_eq!(world.status("web").0, Status::Stopping);
}

#[test]
fn of_one_that_must_pass_several_times_it_is_said_how_often_it_has() {
    let mut spec = spec("web");
    spec.readiness = Readiness::Probe(Probe { success_threshold: 3, failure_threshold: 1, ..tcp(80) });
    let mut world = World::running(spec);
    let whys = |world: &World| world.view("web").why.clone();
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(whys(&world), ["its check has passed 1 of the 3 times in a row that it needs"]);
    for _ in 0..2 {
        world.verdict("web", 1, ProbeSlot::Readiness, true);
    }
    assert_eq!(world.status("web").0, Status::Healthy);
    world.verdict("web", 1, ProbeSlot::Readiness, false);
    assert_eq!(whys(&world), ["its check fails: tcp 127.0.0.1:80 refused"]);
    for passed in 1..3 {
        world.verdict("web", 1, ProbeSlot::Readiness, true);
        let said = format!("its check has passed {passed} of the 3 times in a row that it needs");
        assert_eq!(whys(&world), [said.as_str()]);
        assert_eq!(world.view("web").problems[0].message, said);
    }
    world.verdict("web", 1, ProbeSlot::Readiness, false);
    assert_eq!(whys(&world), ["its check fails: tcp 127.0.0.1:80 refused"]);
}

#[test]
fn only_what_nobody_asked_for_counts_against_the_availability() {
    let serving = |world: &World, service: &str| world.view(service).serving;
    let mut world = World::running(probed("web"));
    assert_eq!(serving(&world, "web"), Serving::Down);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(serving(&world, "web"), Serving::Up);
    world.order("web", Order::Stop);
    assert_eq!((world.status("web").0, serving(&world, "web")), (Status::Stopping, Serving::Aside));
    world.gone("web", 1, Exit::signal(15));
    assert_eq!((world.status("web").0, serving(&world, "web")), (Status::Stopped, Serving::Aside));

    // It goes with what it depends on: nobody's purpose.
    let mut app = spec("app");
    app.depends_on = vec![Dependency { on_loss: OnLoss::Stop, ..needs("db") }];
    world.declare(probed("db"));
    world.spawned("db", 1);
    world.verdict("db", 1, ProbeSlot::Readiness, true);
    world.declare(app);
    world.spawned("app", 1);
    assert_eq!(serving(&world, "app"), Serving::Up);
    world.crash("db", 1, 1);
    world.sleep(Duration::from_secs(30));
    world.gone("app", 1, Exit::signal(15));
    assert_eq!(world.status("app"), (Status::Stopped, Some(Reason::DependencyLost)));
    assert_eq!(serving(&world, "app"), Serving::Down);

    let mut job = spec("job");
    job.restart.policy = RestartPolicy::Never;
    world.declare(job);
    world.spawned("job", 1);
    assert_eq!(serving(&world, "job"), Serving::Aside, "how often it runs says nothing");
}

#[test]
fn each_condition_keeps_the_moment_at_which_it_turned() {
    let mut world = World::running(probed("web"));
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    world.sleep(Duration::from_secs(60));
    let turned = |world: &World| *world.view("web").turned.clone().expect("told");
    let before = turned(&world);
    for _ in 0..3 {
        world.verdict("web", 1, ProbeSlot::Readiness, false);
    }
    let view = world.view("web");
    assert!(!view.conditions().ready && view.conditions().valid);
    let after = turned(&world);
    assert!(after.ready > before.ready && after.available > before.available);
    assert_eq!((after.valid, after.depends), (before.valid, before.depends), "they did not");
}
