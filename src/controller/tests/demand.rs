//! Services that run only while somebody wants them.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::name::{Instance, LifeId};
use crate::model::reason::{Reason, Status};
use crate::model::spec::{
    Activation, Condition, Dependency, OnLoss, Pass, Readiness, RestartLimit, RestartPolicy, Spec,
};
use crate::model::view::{InstanceView, Serving};

const IDLE: Duration = Duration::from_secs(600);

pub fn lazy(service: &str) -> Spec {
    let mut spec = spec(service);
    spec.process.port = Some(8080);
    spec.process.on_demand = Some(Pass::Proxy);
    spec.activation = Some(Activation { idle_stop: Some(IDLE), hold_requests: Duration::from_secs(30) });
    spec
}

pub fn door(world: &mut World, service: &str, waiting: bool, connected: bool) -> Vec<Action> {
    world.tell(Input::Demand { name: name(service), demand: Demand { waiting, connected, block: None }, sent_away: 0 })
}

fn spawned_any(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Spawn { .. }))
}

fn said(actions: &[Action], reason: Reason) -> Vec<String> {
    let of = |action: &Action| match action {
        Action::Record(event) if event.reason == reason => Some(event.message.clone()),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn the_first_connection_starts_it_and_it_sleeps_again_when_nobody_was_connected() {
    let mut world = World::new();
    assert!(!spawned_any(&try_well(&mut world, lazy("web"))));
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)));
    let view = world.view("web");
    assert!(view.available && view.settled && !view.pending);
    assert_eq!(view.why, ["plugd listens on port 8080 for it"]);
    assert_eq!(view.next.as_deref(), Some("starts at the first connection; at once with `plugd start web`"));
    assert_eq!(world.wake_ups(Duration::from_secs(3600)), 0, "sleeping costs nothing");

    assert!(spawns(&door(&mut world, "web", true, false), "web", 1));
    world.spawned("web", 1);
    door(&mut world, "web", false, true);
    assert!(!signals(&world.sleep(IDLE * 3), "web", 15), "an open connection is use, however long");
    door(&mut world, "web", false, false);
    assert!(!signals(&world.sleep(IDLE - Duration::from_secs(1)), "web", 15));
    let actions = world.sleep(Duration::from_secs(1));
    assert!(signals(&actions, "web", 15));
    assert_eq!(
        said(&actions, Reason::IdleStopped),
        ["nobody was connected for 10 min; it sleeps until the next connection"]
    );
    world.gone("web", 1, Exit::signal(15));
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)));
    assert_eq!(world.view("web").restarts, 0);
    let by = world.view("web").last_exit.clone().and_then(|exit| exit.by);
    assert_eq!(by.as_deref(), Some("nobody was connected"));
    assert!(spawns(&door(&mut world, "web", true, false), "web", 2));
}

#[test]
fn sleep_is_no_outage_and_waking_no_recovery() {
    let mut world = World::new();
    let mut lazy = lazy("web");
    lazy.readiness = Readiness::Probe(tcp(8080));
    world.declare(lazy);
    for number in 1..=2 {
        world.sleep(IDLE);
        door(&mut world, "web", true, false);
        world.spawned("web", number);
        let actions = world.verdict("web", number, ProbeSlot::Readiness, true);
        assert_eq!(said(&actions, Reason::Ready), ["web is ready"]);
        door(&mut world, "web", false, false);
        world.sleep(IDLE);
        world.gone("web", number, Exit::signal(15));
    }
    let vitals = world.controller.vitals(&name("web"), world.now).expect("known");
    assert!(vitals.availability_percent.is_some_and(|percent| percent > 99.9), "all but its starts");
    assert_eq!(world.view("web").serving, Serving::Up, "who calls it is answered");
}

#[test]
fn who_comes_while_it_is_stopped_for_idleness_gets_the_next_life() {
    let mut world = World::new();
    world.declare(lazy("web"));
    world.order("web", Order::Start);
    world.spawned("web", 1);
    assert!(signals(&world.sleep(IDLE), "web", 15));
    assert!(!spawned_any(&door(&mut world, "web", true, false)), "the first life is not gone");
    assert!(spawns(&world.gone("web", 1, Exit::signal(15)), "web", 2));
}

#[test]
fn a_crash_loop_is_waited_out_however_many_call() {
    let mut world = World::new();
    world.declare(lazy("web"));
    assert!(spawns(&door(&mut world, "web", true, false), "web", 1));
    let mut starts = 1;
    for second in 0..600 {
        let mut actions = door(&mut world, "web", second % 2 == 0, false);
        actions.extend(world.sleep(Duration::from_secs(1)));
        if spawned_any(&actions) {
            starts += 1;
        }
        if world.view("web").process_running || spawned_any(&actions) {
            world.spawned("web", starts);
            world.crash("web", starts, 1);
        }
    }
    assert!(starts < 25, "{starts} starts in ten minutes");
    let actions = world.tell(Input::Demand { name: name("web"), demand: Demand::default(), sent_away: 3 });
    assert_eq!(
        said(&actions, Reason::HoldExpired),
        ["3 connections had waited 30 s and were closed: nothing of it was ready"]
    );
}

#[test]
fn where_its_policy_lets_nothing_follow_an_end_the_next_call_does() {
    for (policy, code) in [(RestartPolicy::OnFailure, 0), (RestartPolicy::Never, 0), (RestartPolicy::Never, 3)] {
        let mut world = World::new();
        let mut web = lazy("web");
        web.restart.policy = policy;
        world.declare(web);
        assert!(spawns(&door(&mut world, "web", true, false), "web", 1));
        world.spawned("web", 1);
        door(&mut world, "web", false, false);
        assert!(!spawned_any(&world.crash("web", 1, code)) && !spawned_any(&world.sleep(IDLE)));
        let word = if code == 0 { (Status::Waiting, Reason::OnDemand) } else { (Status::Failed, Reason::Error) };
        assert_eq!(world.status("web"), (word.0, Some(word.1)));
        assert!(spawns(&door(&mut world, "web", true, false), "web", 2));
        // Who waits while it ends is let in by the next: on the ladder, so that nothing spins.
        let tries = tries_in_half_a_minute(&mut world, 2, |world, life| {
            let mut actions = world.spawned("web", life);
            actions.extend(world.crash("web", life, code));
            actions
        });
        assert_eq!((20..=35).contains(&tries), code == 0, "{tries} after {code}");
        assert!((3..=35).contains(&tries), "{tries} after {code}");
    }
}

/// While somebody waits at the door of `web`, of which life `first` was asked for.
fn tries_in_half_a_minute(world: &mut World, first: u64, mut end: impl FnMut(&mut World, u64) -> Vec<Action>) -> u64 {
    let (mut life, until) = (first, world.now.mono + Duration::from_secs(30));
    loop {
        let mut actions = end(world, life);
        actions.extend(world.sleep(Duration::from_millis(100)));
        while !spawned_any(&actions) {
            actions = world.sleep(Duration::from_millis(100));
            if world.now.mono > until {
                return life - first;
            }
        }
        life += 1;
        assert!(life < 10_000, "it spins");
    }
}

#[test]
fn a_server_that_leaves_when_it_is_idle_sleeps_and_has_not_failed() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        let mut world = World::new();
        let mut web = lazy("web");
        web.restart.policy = policy;
        world.declare(web);
        for life in 1..8 {
            assert!(spawns(&door(&mut world, "web", true, false), "web", life), "{policy:?} {life}");
            world.spawned("web", life);
            // Somebody's end of the connection stays open, or that it is closed is told later.
            door(&mut world, "web", false, true);
            let actions = world.crash("web", life, 0);
            assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)), "{policy:?} {life}");
            assert!(world.view("web").available && world.view("web").problems.is_empty(), "{:?}", world.view("web"));
            assert_eq!(said(&actions, Reason::Completed), [""; 0], "it is no job");
            assert!(!spawned_any(&world.sleep(Duration::from_secs(30))));
            door(&mut world, "web", false, false);
        }
    }
}

/// Somebody calls `web`, and both of it are spawned; gives the second one's life.
fn both_called(world: &mut World) -> LifeId {
    door(world, "web", true, false);
    let second = LifeId { instance: Instance { service: name("web"), index: 1 }, life: 1 };
    world.spawned("web", 1);
    world.tell(Input::Spawned { life: second.clone(), pid: 102, start_time: 1 });
    second
}

#[test]
fn one_of_two_that_leaves_comes_again_while_somebody_is_connected() {
    let mut world = World::new();
    world.declare(Spec { replicas: 2, ..lazy("web") });
    both_called(&mut world);
    door(&mut world, "web", false, true);
    assert!(spawns(&world.crash("web", 1, 0), "web", 2), "perhaps to the other, perhaps to this one");
    // And once nobody is, it sleeps.
    world.spawned("web", 2);
    door(&mut world, "web", false, false);
    assert!(!spawned_any(&world.crash("web", 2, 0)));
}

#[test]
fn one_of_two_that_left_while_nobody_was_there_comes_again_with_the_next_call() {
    let mut world = World::new();
    world.declare(Spec { replicas: 2, ..lazy("web") });
    both_called(&mut world);
    door(&mut world, "web", false, false);
    world.sleep(Duration::from_secs(20));
    assert!(!spawned_any(&world.crash("web", 1, 0)));
    assert!(!spawned_any(&world.sleep(Duration::from_secs(30))));
    assert!(spawns(&door(&mut world, "web", false, true), "web", 2), "the other one is there, and two are wanted");
    // What ends at once is not started by each call.
    world.spawned("web", 2);
    door(&mut world, "web", false, false);
    assert!(!spawned_any(&world.crash("web", 2, 0)));
    assert!(!spawned_any(&door(&mut world, "web", false, true)));
}

#[test]
fn one_of_two_that_leaves_well_is_no_fault_of_the_service_and_is_told_as_asleep() {
    let mut world = World::new();
    let mut web = lazy("web");
    (web.replicas, web.readiness, web.restart.policy) = (2, Readiness::Probe(tcp(80)), RestartPolicy::OnFailure);
    web.process.private_port = Some(20_100);
    world.declare(web);
    let words = |world: &World| {
        let one = |one: &InstanceView| (one.status, one.reason, one.port);
        world.view("web").instances.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(words(&world), [(Status::Waiting, Some(Reason::OnDemand), None); 2]);
    let second = both_called(&mut world);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    let verdict = Verdict { passed: true, message: "well".into(), reason: None, took: Duration::ZERO };
    world.sleep(Duration::from_millis(50));
    world.tell(Input::Verdict { life: second.clone(), probe: ProbeSlot::Readiness, verdict });
    assert_eq!(world.status("web").0, Status::Healthy);
    door(&mut world, "web", false, false);
    let mut actions = world.tell(Input::Exited { life: second.clone(), exit: Exit::code(0) });
    assert_eq!(world.view("web").score, Some(100), "it did what it is meant to do");
    actions.extend(world.tell(Input::Surveyed { life: second, left: vec![] }));
    assert_eq!(said(&actions, Reason::LowScore), [""; 0]);
    assert_eq!((world.status("web").0, world.view("web").ready), (Status::Healthy, 1));
    assert_eq!(words(&world)[1], (Status::Waiting, Some(Reason::OnDemand), None));
}

#[test]
fn as_many_as_are_wanted_serve_while_somebody_is_there() {
    for pass in [Pass::Proxy, Pass::Socket] {
        for policy in [RestartPolicy::Always, RestartPolicy::OnFailure] {
            let mut world = World::new();
            let mut web = lazy("web");
            (web.replicas, web.restart.policy, web.process.on_demand) = (2, policy, Some(pass));
            world.declare(web);
            both_called(&mut world);
            door(&mut world, "web", false, true);
            let tries = tries_in_half_a_minute(&mut world, 1, |world, life| {
                if life > 1 {
                    world.spawned("web", life);
                }
                world.crash("web", life, 0)
            });
            assert!((3..=8).contains(&tries), "{pass:?} {policy:?}: {tries}, by the ladder");
        }
    }
}

#[test]
fn who_is_left_by_what_shares_their_socket_is_let_in_on_the_ladder() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        let mut world = World::new();
        let mut web = lazy("web");
        (web.process.on_demand, web.restart.policy) = (Some(Pass::Socket), policy);
        web.activation.as_mut().expect("on demand").idle_stop = None;
        world.declare(web);
        assert!(spawns(&door(&mut world, "web", true, false), "web", 1));
        let tries = tries_in_half_a_minute(&mut world, 1, |world, life| {
            world.spawned("web", life);
            // Who waits at it while it runs nobody looks at.
            door(world, "web", false, false);
            let exit = Exit { left_callers: true, ..Exit::code(0) };
            let mut actions = world.gone("web", life, exit);
            actions.extend(door(world, "web", true, false));
            actions
        });
        assert!((2..=35).contains(&tries), "{policy:?}: {tries}");
        let problems = &world.view("web").problems;
        assert!(problems.iter().any(|problem| problem.reason == Reason::EndsAtOnce), "{policy:?}: {problems:?}");
    }
}

#[test]
fn who_was_let_in_and_found_nobody_is_waited_for_as_soon_as_that_is_told() {
    let mut world = World::new();
    world.declare(lazy("web"));
    door(&mut world, "web", true, false);
    world.spawned("web", 1);
    door(&mut world, "web", false, true);
    assert!(!spawned_any(&world.crash("web", 1, 0)));
    assert!(spawns(&door(&mut world, "web", true, false), "web", 2));
}

#[test]
fn who_sleeps_after_a_failed_start_ends_no_node_and_is_awaited_by_none() {
    let mut world = World::with(Config { exit_on_required: Some(Duration::from_secs(300)), ..config() });
    let mut web = lazy("web");
    web.restart.policy = RestartPolicy::Never;
    world.declare(web);
    door(&mut world, "web", true, false);
    door(&mut world, "web", false, false);
    world.spawned("web", 1);
    world.crash("web", 1, 3);
    let view = world.view("web");
    assert_eq!((view.status, view.available, view.settled), (Status::Failed, false, true));
    assert!(view.on_demand && !crate::model::ready::is_expected(&view));
    world.sleep(Duration::from_secs(3600));
    assert!(!world.controller.node().shutting_down);
    assert!(spawns(&door(&mut world, "web", true, false), "web", 2));
}

#[test]
fn what_has_ended_more_often_than_it_may_is_not_told_to_wait_for_a_call() {
    let mut world = World::new();
    let mut web = lazy("web");
    web.restart.limit = Some(RestartLimit { max: 1, within: Duration::from_secs(600) });
    world.declare(web);
    door(&mut world, "web", true, false);
    for life in 1..=2 {
        world.spawned("web", life);
        world.crash("web", life, 1);
        world.sleep(Duration::from_secs(5));
    }
    door(&mut world, "web", false, false);
    world.sleep(IDLE * 2);
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Failed, Some(Reason::RestartLimit)));
    assert!(!view.on_demand && !view.available);
    assert!(!spawned_any(&door(&mut world, "web", true, false)));
}

#[test]
fn a_program_that_cannot_be_spawned_is_tried_on_the_ladder_for_who_waits() {
    let mut world = World::new();
    let mut web = lazy("web");
    web.restart.policy = RestartPolicy::Never;
    world.declare(web);
    assert!(spawns(&door(&mut world, "web", true, false), "web", 1));
    let tries = tries_in_half_a_minute(&mut world, 1, |world, number| {
        world.tell(Input::SpawnFailed { life: life("web", number), reason: Reason::ExecFormat, message: "no".into() })
    });
    assert!((3..=6).contains(&tries), "{tries} tries");
}

#[test]
fn one_that_has_served_and_ends_did_not_fail_to_start() {
    let mut world = World::new();
    let mut web = lazy("web");
    (web.readiness, web.restart.policy) = (Readiness::Probe(tcp(80)), RestartPolicy::Never);
    world.declare(web);
    for life in 1..3 {
        assert!(spawns(&door(&mut world, "web", true, false), "web", life));
        world.spawned("web", life);
        world.verdict("web", life, ProbeSlot::Readiness, true);
        door(&mut world, "web", false, false);
        world.crash("web", life, 1);
        assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)), "{life}");
    }
    door(&mut world, "web", true, false);
    world.spawned("web", 3);
    door(&mut world, "web", false, false);
    world.crash("web", 3, 1);
    assert_eq!(world.status("web"), (Status::Failed, Some(Reason::Error)), "it was never ready");
}

#[test]
fn stopped_by_hand_it_is_not_started_by_callers_and_start_wakes_it() {
    let mut world = World::new();
    world.declare(lazy("web"));
    world.order("web", Order::Stop);
    assert!(!spawned_any(&door(&mut world, "web", true, false)));
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::StoppedByOperator)));
    door(&mut world, "web", false, false);
    assert!(spawns(&world.order("web", Order::Start), "web", 1));
}

#[test]
fn a_dependent_that_wants_to_start_wakes_it_and_waits_for_it_and_its_sleep_is_no_loss() {
    let mut world = World::new();
    world.declare(lazy("db"));
    let mut app = spec("app");
    app.depends_on = vec![needs("db")];
    app.depends_on[0].on_loss = OnLoss::Restart;
    let actions = world.declare(app);
    assert!(spawns(&actions, "db", 1) && !spawns(&actions, "app", 1));
    assert!(spawns(&world.spawned("db", 1), "app", 1));
    world.spawned("app", 1);
    assert!(signals(&world.sleep(IDLE), "db", 15), "who runs does not keep it awake");
    let actions = world.gone("db", 1, Exit::signal(15));
    assert!(!signals(&actions, "app", 15), "its sleep is no loss");
    assert_eq!(world.status("app"), (Status::Running, None));
    // It starts again: then it wants it again.
    world.sleep(Duration::from_secs(120));
    let mut actions = world.crash("app", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "db", 2) && !spawns(&actions, "app", 2));
    assert!(spawns(&world.spawned("db", 2), "app", 2));
}

#[test]
fn that_it_is_woken_is_no_loss_either_and_that_it_does_not_come_up_is_one() {
    let mut world = World::new();
    world.declare(lazy("db"));
    let dependent = |name: &str| {
        let mut app = spec(name);
        app.depends_on = vec![needs("db")];
        app.depends_on[0].on_loss = OnLoss::Restart;
        app
    };
    world.declare(dependent("one"));
    world.declare(dependent("two"));
    world.spawned("db", 1);
    world.spawned("one", 1);
    world.spawned("two", 1);
    assert!(signals(&world.sleep(IDLE), "db", 15));
    // One starts again while it still ends: it is wanted, and comes.
    let mut actions = world.crash("one", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(5)));
    actions.extend(world.gone("db", 1, Exit::signal(15)));
    assert!(spawns(&actions, "db", 2) && !signals(&actions, "two", 15));
    assert!(signals(&world.gone("db", 2, Exit::code(1)), "two", 15));
}

#[test]
fn a_sleeping_service_wakes_nothing_that_it_depends_on() {
    let mut world = World::new();
    world.declare(lazy("db"));
    let mut web = lazy("web");
    web.depends_on = vec![needs("db")];
    assert!(!spawned_any(&world.declare(web)));
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)));
    assert!(spawns(&door(&mut world, "web", true, false), "db", 1));
    assert!(spawns(&world.spawned("db", 1), "web", 1));
}

#[test]
fn a_new_controller_keeps_awake_what_runs_and_what_was_direct_sleeps_only_after_its_time() {
    let mut direct = lazy("web");
    (direct.activation, direct.process.on_demand) = (None, None);
    let mut world = World::running(direct);
    // The edit needs a new process: its port is another.
    world.declare(lazy("web"));
    let tried = world.controller.view(&name("web")).expect("a view");
    assert!(tried.process_running);
    assert!(world.view("web").status != Status::Stopping, "nothing is stopped before the new version was tried");

    let blob = Vec::new();
    let mut next = World::unread(config(), start());
    next.tell(Input::Adopted(Adopted {
        life: life("web", 4),
        pid: 9,
        pre_stop: false,
        age: IDLE * 2,
        exit: None,
        blob,
    }));
    next.declare(lazy("web"));
    next.tell(Input::Scanned);
    assert!(next.view("web").process_running);
}

#[test]
fn what_sleeps_goes_on_sleeping_under_a_new_controller() {
    let mut next = World::unread(config(), start());
    let (age, exit, blob) = (IDLE, Some(Exit::signal(15)), Vec::new());
    next.tell(Input::Adopted(Adopted { life: life("web", 4), pid: 9, pre_stop: false, age, exit, blob }));
    let mut actions = next.declare(lazy("web"));
    actions.extend(next.tell(Input::Scanned));
    actions.extend(next.tell(Input::Surveyed { life: life("web", 4), left: vec![] }));
    actions.extend(next.sleep(IDLE));
    assert!(!spawned_any(&actions), "{actions:?}");
    assert_eq!(next.status("web"), (Status::Waiting, Some(Reason::OnDemand)));
    assert!(spawns(&door(&mut next, "web", true, false), "web", 5));
}

#[test]
fn where_plugd_cannot_listen_nobody_can_call_it_and_that_is_said() {
    let mut world = World::new();
    world.declare(lazy("web"));
    let problem = |message: Option<&str>| Input::Problem {
        name: name("web"),
        reason: Reason::AddressInUse,
        message: message.map(String::from),
    };
    let held = "port 8080 is held by pid 7 (nginx)";
    let actions = world.tell(problem(Some(held)));
    assert_eq!(said(&actions, Reason::AddressInUse), [format!("web cannot be called: {held}")]);
    assert!(said(&world.tell(problem(Some(held))), Reason::AddressInUse).is_empty(), "told once");
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::AddressInUse)));
    let view = world.view("web");
    assert!(!view.available && !view.settled);
    assert_eq!(view.serving, Serving::Down);
    assert_eq!(view.next.as_deref(), Some("listens as soon as the port is free"));
    assert_eq!(view.why, ["port 8080 is held by pid 7 (nginx)"]);
    // Also while it runs.
    world.order("web", Order::Start);
    world.spawned("web", 1);
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::AddressInUse)));
    let actions = world.tell(problem(None));
    let again = "web can be called again: plugd listens on port 8080 for it";
    assert_eq!(said(&actions, Reason::Recovered), [again]);
    assert_eq!(world.status("web"), (Status::Running, None));
    assert_eq!(world.view("web").serving, Serving::Up);

    // What is not to be called is not missed; and an edit of the port says nothing of the new one.
    for edit in [Order::Stop, Order::Start] {
        world.tell(problem(Some(held)));
        world.order("web", edit);
        let mut other = lazy("web");
        other.process.port = Some(8081);
        world.controller.absorb(problem(None), world.now);
        let actions = world.declare(other);
        assert!(said(&actions, Reason::Recovered).is_empty(), "{edit:?}: {actions:?}");
        world.declare(lazy("web"));
    }
}

#[test]
fn what_ends_before_anybody_could_be_let_in_has_failed_to_start_whatever_its_code() {
    for (policy, code) in [(RestartPolicy::Always, 0), (RestartPolicy::OnFailure, 0), (RestartPolicy::OnFailure, 1)] {
        let mut web = lazy("web");
        web.readiness = Readiness::ImpliedPort(tcp(8080));
        web.restart.policy = policy;
        let mut world = World::new();
        try_well(&mut world, web);
        door(&mut world, "web", true, false);
        world.spawned("web", 1);
        // Nobody waits any more when it ends.
        door(&mut world, "web", false, false);
        world.sleep(Duration::from_secs(5));
        world.crash("web", 1, code);
        let view = world.view("web");
        assert!(!view.available, "{policy:?} {code}: {view:?}");
        assert_ne!(view.reason, Some(Reason::OnDemand), "{policy:?} {code}");
        assert_eq!(view.serving, Serving::Down, "{policy:?} {code}");
    }
    // One that has served somebody may leave.
    let mut web = lazy("web");
    web.readiness = Readiness::ImpliedPort(tcp(8080));
    let mut world = World::new();
    try_well(&mut world, web);
    door(&mut world, "web", true, false);
    world.spawned("web", 1);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    door(&mut world, "web", false, false);
    // Also where it says that it is not ready any more before it goes.
    for _ in 0..3 {
        world.verdict("web", 1, ProbeSlot::Readiness, false);
    }
    assert_eq!(world.view("web").ready, 0);
    world.crash("web", 1, 0);
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)));
}

#[test]
fn what_keeps_callers_waiting_though_it_is_ready_is_said_as_long_as_it_does() {
    let mut world = World::new();
    world.declare(lazy("web"));
    door(&mut world, "web", true, false);
    world.spawned("web", 1);
    for (block, reason, closed) in [
        (Block::Full(512), Reason::ResourceExhausted, "there was no room for more"),
        (Block::NodeFull(1024), Reason::ResourceExhausted, "there was no room for more"),
        (Block::Taken, Reason::AddressInUse, "another process listens on its port"),
    ] {
        let demand = Demand { waiting: true, connected: true, block: Some(block) };
        let actions = world.tell(Input::Demand { name: name("web"), demand, sent_away: 1 });
        let waited = format!("a connection had waited 30 s and was closed: {closed}");
        assert_eq!(said(&actions, Reason::HoldExpired), [waited]);
        let problems: Vec<Reason> = world.view("web").problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(problems, [reason]);
        // It is told for some time after one of them has become free.
        let words = &world.view("web").problems[0].message;
        let so_far = words.contains("were taken, and less than an eighth of them is free again");
        assert_eq!(so_far, reason == Reason::ResourceExhausted, "{words}");
        assert!(world.view("web").process_running);
        door(&mut world, "web", false, true);
        assert!(world.view("web").problems.is_empty());
    }
}

#[test]
fn the_next_process_is_given_the_port_that_was_chosen_anew() {
    let mut world = World::new();
    world.declare(lazy("web"));
    world.tell(Input::PrivatePort { name: name("web"), port: 61_007 });
    let actions = door(&mut world, "web", true, false);
    let given = actions.iter().find_map(|action| match action {
        Action::Spawn { spec, .. } => spec.process.private_port,
        _ => None,
    });
    assert_eq!(given, Some(61_007));
    world.spawned("web", 1);
    assert_eq!(world.view("web").instances[0].port, Some(61_007));
}

#[test]
fn who_waits_for_it_to_be_ready_keeps_it_awake() {
    let mut world = World::new();
    world.declare(lazy("db"));
    let mut app = spec("app");
    app.depends_on = vec![needs("db")];
    app.depends_on[0].condition = Condition::Completed;
    assert!(spawns(&world.declare(app), "db", 1));
    world.spawned("db", 1);
    assert!(!signals(&world.sleep(IDLE * 5), "db", 15));
}

#[test]
fn who_depends_on_one_that_has_failed_for_good_calls_it_on_its_ladder() {
    let mut db = lazy("db");
    (db.readiness, db.restart.policy) = (Readiness::Probe(tcp(80)), RestartPolicy::Never);
    let mut world = World::new();
    world.declare(db);
    door(&mut world, "db", true, false);
    world.spawned("db", 1);
    door(&mut world, "db", false, false);
    world.crash("db", 1, 1);
    assert_eq!(world.status("db"), (Status::Failed, Some(Reason::Error)));
    let mut app = spec("app");
    app.depends_on = vec![needs("db")];
    assert!(spawns(&world.declare(app), "db", 2), "at once");
    world.spawned("db", 2);
    assert!(!spawned_any(&world.crash("db", 2, 1)));
    assert_eq!(world.status("db"), (Status::Unhealthy, Some(Reason::BackOff)));
    assert!(spawns(&world.sleep(Duration::from_secs(2)), "db", 3));
}

#[test]
fn who_calls_while_it_falls_asleep_does_not_change_why_it_was_stopped() {
    let mut world = World::new();
    try_well(&mut world, lazy("web"));
    door(&mut world, "web", true, false);
    world.spawned("web", 1);
    door(&mut world, "web", false, false);
    assert!(signals(&world.sleep(IDLE), "web", 15));
    door(&mut world, "web", true, false);
    let actions = world.gone("web", 1, Exit::signal(15));
    assert!(spawns(&actions, "web", 2), "{actions:?}");
    let view = world.view("web");
    assert_eq!(view.last_exit.as_ref().and_then(|exit| exit.by.as_deref()), Some("nobody was connected"));
}

#[test]
fn one_that_served_for_a_moment_after_a_failed_start_sleeps_as_one_that_answers() {
    let mut web = lazy("web");
    let idle_stop = Some(Duration::from_millis(500));
    web.activation = Some(Activation { idle_stop, hold_requests: Duration::from_secs(30) });
    web.min_ready = Duration::from_secs(5);
    let mut world = World::new();
    try_well(&mut world, web);
    door(&mut world, "web", true, false);
    world.spawned("web", 1);
    world.crash("web", 1, 3);
    world.sleep(Duration::from_secs(2));
    world.spawned("web", 2);
    door(&mut world, "web", false, false);
    assert!(signals(&world.sleep(Duration::from_secs(1)), "web", 15), "nobody was connected");
    world.gone("web", 2, Exit::signal(15));
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)), "{:?}", world.view("web").why);
    assert!(world.view("web").available);
}

#[test]
fn until_its_port_is_listened_on_it_is_on_its_way_and_then_it_can_be_called_or_not() {
    let mut world = World::unread(config(), start());
    world.doors_stay = true;
    try_well(&mut world, lazy("web"));
    world.tell(Input::Scanned);
    let view = world.view("web");
    assert_eq!((view.pending, view.available, view.settled, view.address.clone()), (true, false, false, None));
    assert_eq!(view.why, ["plugd is about to listen on port 8080 for it"]);
    assert_eq!((view.status, view.reason, view.serving), (Status::Waiting, Some(Reason::OnDemand), Serving::Aside));
    assert!(!world.controller.node().settled, "nobody knows yet");

    world.tell(Input::Door { name: name("web"), listens: true });
    let view = world.view("web");
    assert_eq!((view.pending, view.available, view.settled, view.address.is_some()), (false, true, true, true));
    assert!(world.controller.node().settled);

    world.tell(Input::Door { name: name("web"), listens: false });
    let held = Some("port 8080 is held by pid 7 (nginx)".to_string());
    world.tell(Input::Problem { name: name("web"), reason: Reason::AddressInUse, message: held });
    let view = world.view("web");
    assert_eq!((view.pending, view.available, view.settled, view.address.clone()), (false, false, false, None));
}

#[test]
fn one_that_left_by_itself_is_woken_by_who_needs_it_and_not_again_and_again() {
    let mut world = World::new();
    let leave = |world: &mut World, number: u64| {
        world.spawned("db", number);
        world.sleep(Duration::from_secs(5));
        world.gone("db", number, Exit::code(0))
    };
    try_well(&mut world, lazy("db"));
    door(&mut world, "db", true, false);
    door(&mut world, "db", false, false);
    leave(&mut world, 1);
    assert_eq!(world.status("db"), (Status::Waiting, Some(Reason::OnDemand)));

    let mut app = spec("app");
    app.depends_on = vec![needs("db"), needs("cache")];
    let actions = world.declare(app);
    assert!(spawns(&actions, "db", 2) && !spawns(&actions, "app", 1), "{actions:?}");
    // Of two things that are needed one leaves while the other does not come: it was there.
    leave(&mut world, 2);
    assert!(!spawned_any(&world.sleep(Duration::from_secs(3600))));
    world.declare(spec("cache"));
    assert!(spawns(&world.spawned("cache", 1), "app", 1));

    // With the next start of who needs it that is over.
    world.spawned("app", 1);
    world.sleep(Duration::from_secs(60));
    let mut actions = world.crash("app", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "db", 3) && !spawns(&actions, "app", 2), "{actions:?}");
    assert!(spawns(&world.spawned("db", 3), "app", 2));
}

#[test]
fn that_it_leaves_by_itself_is_no_loss_to_who_depends_on_it() {
    for on_loss in [OnLoss::Restart, OnLoss::Stop] {
        let mut world = World::new();
        try_well(&mut world, lazy("db"));
        let mut app = spec("app");
        app.depends_on = vec![Dependency { on_loss, ..needs("db") }];
        world.declare(app);
        world.spawned("db", 1);
        world.spawned("app", 1);
        world.sleep(Duration::from_secs(20));
        // It was called, and that it is no more is told a moment behind.
        door(&mut world, "db", false, true);
        let mut actions = world.tell(Input::Exited { life: life("db", 1), exit: Exit::code(0) });
        let child = Leftover { pid: 7, command: "sh".into(), held: None };
        actions.extend(world.tell(Input::Surveyed { life: life("db", 1), left: vec![child] }));
        actions.extend(world.tell(Input::Surveyed { life: life("db", 1), left: Vec::new() }));
        assert!(!signals(&actions, "app", 15), "{on_loss:?}: {actions:?}");
        assert_eq!((world.status("app").0, world.status("db").0), (Status::Running, Status::Waiting), "{on_loss:?}");
        // That it crashes is one.
        door(&mut world, "db", true, false);
        world.spawned("db", 2);
        door(&mut world, "db", false, false);
        assert!(signals(&world.tell(Input::Exited { life: life("db", 2), exit: Exit::code(1) }), "app", 15));
    }
}

#[test]
fn the_last_of_several_that_leave_is_no_loss_either() {
    let mut world = World::new();
    let mut db = lazy("db");
    db.replicas = 2;
    try_well(&mut world, db);
    let mut app = spec("app");
    app.depends_on = vec![Dependency { on_loss: OnLoss::Stop, ..needs("db") }];
    world.declare(app);
    for index in 0..2 {
        let instance = Instance { service: name("db"), index };
        world.tell(Input::Spawned { life: LifeId { instance, life: 1 }, pid: 200 + index as i32, start_time: 7 });
    }
    world.spawned("app", 1);
    world.sleep(Duration::from_secs(20));
    for index in 0..2 {
        let life = LifeId { instance: Instance { service: name("db"), index }, life: 1 };
        let mut actions = world.tell(Input::Exited { life: life.clone(), exit: Exit::code(0) });
        actions.extend(world.tell(Input::Surveyed { life, left: Vec::new() }));
        assert!(!signals(&actions, "app", 15), "{index}: {actions:?}");
    }
    assert_eq!((world.status("app").0, world.status("db").0), (Status::Running, Status::Waiting));
}

#[test]
fn one_that_left_by_itself_has_nothing_to_recover_from() {
    let mut web = lazy("web");
    web.readiness = Readiness::Probe(tcp(80));
    let mut world = World::new();
    try_well(&mut world, web);
    for number in 1..=2 {
        door(&mut world, "web", true, false);
        world.spawned("web", number);
        let actions = world.verdict("web", number, ProbeSlot::Readiness, true);
        assert_eq!(said(&actions, Reason::Ready), ["web is ready"], "{actions:?}");
        door(&mut world, "web", false, false);
        world.sleep(Duration::from_secs(20));
        world.gone("web", number, Exit::code(0));
    }
}

#[test]
fn one_that_ran_to_its_end_for_who_needs_just_that_has_done_so_until_it_is_called() {
    let mut world = World::new();
    try_well(&mut world, lazy("setup"));
    let mut app = spec("app");
    app.depends_on = vec![Dependency { condition: Condition::Completed, ..needs("setup") }];
    assert!(spawns(&world.declare(app), "setup", 1));
    world.spawned("setup", 1);
    world.sleep(Duration::from_secs(15));
    assert!(spawns(&world.gone("setup", 1, Exit::code(0)), "app", 1));
    world.spawned("app", 1);
    let mut actions = world.crash("app", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "app", 2) && !spawns(&actions, "setup", 2), "{actions:?}");
    assert!(spawns(&door(&mut world, "setup", true, false), "setup", 2));
}

#[test]
fn who_depends_on_one_that_nobody_can_call_waits_and_is_given_no_address() {
    let mut world = World::new();
    world.declare(lazy("db"));
    let held = Some("port 8080 is held by pid 7 (nginx)".to_string());
    world.tell(Input::Problem { name: name("db"), reason: Reason::AddressInUse, message: held });
    let mut app = spec("app");
    app.depends_on = vec![needs("db")];
    assert!(spawns(&world.declare(app), "db", 1));
    assert!(!spawned_any(&world.spawned("db", 1)));
    assert_eq!(world.status("app"), (Status::Waiting, Some(Reason::DependencyNotReady)));
    assert_eq!((world.view("db").ready, world.view("db").address.clone()), (1, None));
    let free = Input::Problem { name: name("db"), reason: Reason::AddressInUse, message: None };
    assert!(spawns(&world.tell(free), "app", 1));
}

#[test]
fn a_required_one_whose_last_start_failed_ends_the_node_in_its_time() {
    let mut world = World::with(Config { exit_on_required: Some(Duration::from_secs(300)), ..config() });
    let mut web = lazy("web");
    (web.required, web.restart.policy) = (true, RestartPolicy::Never);
    world.declare(web);
    world.sleep(Duration::from_secs(3600));
    assert!(!world.controller.node().shutting_down, "it sleeps, and can be called");
    door(&mut world, "web", true, false);
    door(&mut world, "web", false, false);
    world.spawned("web", 1);
    world.crash("web", 1, 3);
    world.sleep(Duration::from_secs(301));
    assert!(world.controller.node().shutting_down);
}
