//! The node: its end, its budget, its exit code, its limits, and what `check` foretells.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Digest, Readiness, RestartPolicy, Spec};

const SECOND: Duration = Duration::from_secs(1);

/// `web` needs `db`; both run.
fn chain(budget: Option<Duration>) -> World {
    let mut world = World::with(Config { shutdown_timeout: budget, ..config() });
    world.declare(spec("db"));
    world.spawned("db", 1);
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(web);
    world.spawned("web", 1);
    world
}

#[test]
fn each_level_leaves_a_second_for_the_one_below_and_the_culprit_is_named() {
    let mut world = chain(Some(8 * SECOND));
    world.tell(Input::Shutdown(Shutdown::Ordered));
    let left = vec![Leftover { pid: 101, command: "sleep".into(), held: None }];
    world.sleep(2 * SECOND);
    world.tell(Input::Surveyed { life: life("web", 1), left });
    let actions = world.sleep(5 * SECOND);
    assert!(signals(&actions, "web", 9), "a second before the budget ends");
    let killed = actions.iter().find_map(|action| match action {
        Action::Record(event) if event.reason == Reason::Killed => Some(event.message.clone()),
        _ => None,
    });
    assert_eq!(killed.as_deref(), Some("web was killed: pid 101 (sleep) has not ended (its grace is 30 s)"));
    assert!(signals(&world.sleep(SECOND), "db", 15), "what does not die is passed over");
}

#[test]
fn what_is_told_of_the_kill_is_the_end_of_the_budget_where_that_comes_before_the_grace() {
    let mut world = chain(Some(8 * SECOND));
    world.tell(Input::Shutdown(Shutdown::Ordered));
    let next = |world: &World, name: &str| world.view(name).next.clone();
    assert_eq!(
        next(&world, "web").as_deref(),
        Some("done when nothing of it is left; killed 7 s after it was told to stop")
    );
    world.sleep(2 * SECOND);
    world.gone("web", 1, Exit::signal(15));
    let next = next(&world, "db");
    assert_eq!(next.as_deref(), Some("done when nothing of it is left; killed 6 s after it was told to stop"));
}

#[test]
fn at_the_end_of_the_budget_the_node_leaves_whatever_is_left() {
    let mut world = chain(Some(8 * SECOND));
    world.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(!world.sleep(8 * SECOND).contains(&Action::Exit(0)));
    assert!(world.sleep(SECOND).contains(&Action::Exit(0)));
}

#[test]
fn a_loop_that_was_late_beyond_the_budget_kills_before_it_leaves() {
    let mut world = chain(Some(8 * SECOND));
    world.tell(Input::Shutdown(Shutdown::Ordered));
    let actions = world.be_late(60 * SECOND);
    assert!(signals(&actions, "web", 9) && signals(&actions, "db", 9), "{actions:?}");
    assert!(actions.contains(&Action::Exit(0)));
}

#[test]
fn a_second_order_is_without_grace_and_a_third_leaves() {
    let mut world = chain(None);
    assert!(!signals(&world.tell(Input::Shutdown(Shutdown::Ordered)), "db", 15));
    let actions = world.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(signals(&actions, "web", 9) && signals(&actions, "db", 9), "{actions:?}");
    assert!(world.tell(Input::Shutdown(Shutdown::Ordered)).contains(&Action::Exit(0)));
}

/// A node that ends when its one required service has not become ready for a minute; that runs.
fn never_ready() -> World {
    let mut world = World::with(Config { exit_on_required: Some(60 * SECOND), pid1: true, ..config() });
    let mut web = spec("web");
    web.required = true;
    web.readiness = Readiness::ImpliedPort(tcp(80));
    world.declare(web);
    world.spawned("web", 1);
    world
}

#[test]
fn the_first_order_to_a_node_that_ends_by_itself_cuts_no_grace() {
    let mut world = never_ready();
    assert!(signals(&world.sleep(61 * SECOND), "web", 15), "it was never ready");
    assert!(!signals(&world.tell(Input::Shutdown(Shutdown::Ordered)), "web", 9));
    assert!(signals(&world.tell(Input::Shutdown(Shutdown::Ordered)), "web", 9), "a second one does");
}

#[test]
fn what_waits_for_its_next_try_is_stopped_at_once_when_the_node_ends() {
    let mut world = chain(None);
    world.crash("db", 1, 1);
    world.spawned("db", 2);
    world.crash("db", 2, 1);
    assert_eq!(world.status("db").1, Some(Reason::BackOff));
    world.tell(Input::Shutdown(Shutdown::Ordered));
    assert_eq!(world.status("db"), (Status::Stopped, Some(Reason::ControllerStopped)));
    assert_eq!(world.view("db").instances[0].status, Status::Stopped);
}

#[test]
fn a_required_service_that_always_ends_with_0_is_no_success_of_the_node() {
    let mut world = never_ready();
    world.crash("web", 1, 0);
    world.spawned("web", 2);
    assert!(signals(&world.sleep(61 * SECOND), "web", 15), "it was never ready");
    let actions = world.gone("web", 2, Exit::signal(15));
    assert!(actions.contains(&Action::Exit(1)), "{actions:?}");
}

#[test]
fn a_required_service_that_is_scaled_to_nothing_by_hand_does_not_end_the_node() {
    let mut world = World::with(Config { exit_on_required: Some(60 * SECOND), pid1: true, ..config() });
    let mut web = spec("web");
    web.required = true;
    world.declare(web);
    world.declare(spec("other"));
    world.spawned("web", 1);
    world.spawned("other", 1);
    world.order("web", Order::Scale(0));
    world.gone("web", 1, Exit::signal(15));
    assert!(!signals(&world.sleep(600 * SECOND), "other", 15));
}

#[test]
fn a_node_that_is_to_end_by_itself_ends_when_its_only_job_is_done_whoever_its_parent_is() {
    let mut job = spec("job");
    job.restart.policy = RestartPolicy::Never;
    for (limit, ends) in [(Some(2 * SECOND), true), (None, false)] {
        let mut world = World::with(Config { exit_on_required: limit, ..config() });
        world.declare(job.clone());
        world.spawned("job", 1);
        let actions = world.gone("job", 1, Exit::code(0));
        assert_eq!(actions.contains(&Action::Exit(0)), ends, "{actions:?}");
    }
}

#[test]
fn when_the_wall_clock_is_set_the_next_try_is_told_by_the_new_one() {
    let mut world = World::running(spec("web"));
    for number in 1..=3 {
        world.crash("web", number, 1);
        if number < 3 {
            world.sleep(4 * SECOND);
            world.spawned("web", number + 1);
        }
    }
    let told = world.view("web").retry_at.expect("a wait");
    world.now.wall += jiff::SignedDuration::from_hours(1);
    world.decide();
    let view = world.view("web");
    let later = view.retry_at.expect("a wait").duration_since(told);
    assert_eq!(later, jiff::SignedDuration::from_hours(1));
    assert!(
        view.next
            .as_ref()
            .is_some_and(|next| next.contains(&view.retry_at.expect("a wait").strftime("%H:%M").to_string()))
    );
    assert!(world.decide().is_empty());
}

#[test]
fn max_starting_bounds_those_that_are_not_ready_yet() {
    let mut world = World::with(Config { max_starting: Some(1), ..config() });
    let checked = |service: &str, port| {
        let mut spec = spec(service);
        spec.readiness = Readiness::ImpliedPort(tcp(port));
        spec
    };
    assert!(spawns(&world.declare(checked("a", 1)), "a", 1));
    assert!(!spawns(&world.declare(checked("b", 2)), "b", 1));
    assert_eq!(world.status("b"), (Status::Waiting, Some(Reason::StartLimit)));
    assert!(!spawns(&world.spawned("a", 1), "b", 1));
    assert!(spawns(&world.verdict("a", 1, ProbeSlot::Readiness, true), "b", 1));
}

#[test]
fn one_that_never_gets_ready_gives_way_to_the_next_after_a_minute() {
    let mut world = World::with(Config { max_starting: Some(1), ..config() });
    let mut stuck = spec("a");
    stuck.readiness = Readiness::ImpliedPort(tcp(1));
    world.declare(stuck);
    world.declare(spec("b"));
    world.spawned("a", 1);
    assert!(!spawns(&world.sleep(59 * SECOND), "b", 1));
    assert!(spawns(&world.sleep(2 * SECOND), "b", 1));
}

#[test]
fn no_more_spawns_are_asked_of_the_keeper_than_it_may_have() {
    let mut world = World::new();
    let asked = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Spawn { .. })).count();
    let begun: usize = (0..10).map(|n| asked(&world.declare(spec(&format!("s{n}"))))).sum();
    assert_eq!(begun, 4);
    assert_eq!(asked(&world.spawned("s0", 1)), 1);
}

#[test]
fn what_check_foretells_is_what_would_be_done() {
    let same = spec("same");
    let mut outside = spec("same");
    outside.labels.insert("team".into(), "data".into());
    let mut inside = spec("same");
    inside.process.args = vec!["--new".into()];
    let mut separate = spec("same");
    separate.process.separate_logs = true;
    let found = |wrapper: u8| Resolved::Found { wrapper: None, content: Digest([wrapper; 16]) };
    let with = |spec: &Spec, program: Resolved| Declaration { program, ..declare(spec.clone()) };
    let cases = [
        (with(&same, found(0)), Change::Nothing),
        (with(&outside, found(0)), Change::Live),
        (with(&inside, found(0)), Change::Process),
        (with(&separate, found(0)), Change::Process),
        (with(&same, found(1)), Change::Process),
    ];
    for (new, foretold) in cases {
        let mut world = World::new();
        world.tell(Input::Declared(with(&same, found(0))));
        world.spawned("same", 1);
        assert_eq!(change(&new, &world.view("same")), foretold, "{new:?}");
        let actions = world.tell(Input::Declared(new.clone()));
        let replaced = actions.iter().any(|action| matches!(action, Action::Signal { .. } | Action::Try { .. }));
        assert_eq!(replaced, foretold == Change::Process, "{new:?}: {actions:?}");
    }
}

#[test]
fn settings_are_in_force_as_soon_as_they_are_edited() {
    let rules = Rules { shutdown_timeout: None, exit_on_required: None, max_starting: None, require_user: false };
    let mut web = spec("web");
    web.required = true;
    web.restart.policy = RestartPolicy::Never;
    let mut world = World::running(web);
    world.crash("web", 1, 3);
    let exits = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Exit(_)));
    assert!(!exits(&world.sleep(600 * SECOND)));
    assert!(exits(&world.tell(Input::Rules(Rules { exit_on_required: Some(60 * SECOND), ..rules }))));

    let mut world = World::new();
    world.tell(Input::Rules(Rules { require_user: true, ..rules }));
    assert!(!spawns(&world.declare(spec("db")), "db", 1));
    assert_eq!(world.status("db"), (Status::Failed, Some(Reason::RunsAsRoot)));
    assert!(spawns(&world.tell(Input::Rules(rules)), "db", 1));
}
