//! While an edit waits, who depends on whom, who is woken, who goes first and what is awaited is asked of the version
//! that runs.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Activation, Pass, Readiness, Spec};

fn on(service: &str, other: &str) -> Spec {
    Spec { depends_on: vec![needs(other)], ..spec(service) }
}

/// The edit would not start.
fn block(world: &mut World, edit: Spec) -> Vec<Action> {
    let who = edit.name.clone();
    let actions = world.declare(edit);
    let tried = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    let result = Err((Reason::ProgramNotFound, "no program nosuch".into()));
    world.tell(Input::Tried { name: who, digest: tried.expect("it is tried"), result })
}

fn other(service: &str) -> Spec {
    let mut other = spec(service);
    other.process.args = vec!["--other".into()];
    other
}

/// db runs, and web that needs it.
fn pair() -> World {
    let mut world = World::running(spec("db"));
    world.declare(on("web", "db"));
    world.spawned("web", 1);
    world
}

fn blocked_by(world: &World, service: &str) -> String {
    let view = world.view(service);
    let problem = view.problems.iter().find(|problem| problem.reason == Reason::UpdateBlocked);
    problem.map(|problem| problem.message.clone()).unwrap_or_default()
}

#[test]
fn the_node_stops_in_the_order_of_what_runs() {
    for edit in [other("web"), on("web", "bd")] {
        let mut world = pair();
        match edit.depends_on.is_empty() {
            true => drop(block(&mut world, edit)),
            false => drop(world.declare(edit)),
        }
        let actions = world.tell(Input::Shutdown(Shutdown::Ordered));
        assert!(signals(&actions, "web", 15) && !signals(&actions, "db", 15), "{actions:?}");
        assert!(signals(&world.gone("web", 1, Exit::signal(15)), "db", 15));
    }
}

#[test]
fn an_edit_that_closes_a_circle_with_what_runs_waits_until_that_is_replaced() {
    let mut world = pair();
    block(&mut world, other("web"));
    world.declare(on("db", "web"));
    assert!(blocked_by(&world, "db").contains("db → web → db"), "{}", blocked_by(&world, "db"));

    let mut actions = world.crash("db", 1, 1);
    actions.extend(world.crash("web", 1, 1));
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "db", 2) && !spawns(&actions, "web", 2), "{actions:?}");
    let mut actions = world.spawned("db", 2);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "web", 2), "{actions:?}");
    world.spawned("web", 2);
    // And what stops first is what runs on the other.
    let mut mended = other("web");
    mended.process.args.push("--mended".into());
    let actions = try_well(&mut world, mended);
    assert!(signals(&actions, "web", 15), "{actions:?}");
    world.gone("web", 2, Exit::signal(15));
    world.spawned("web", 3);
    assert_eq!(blocked_by(&world, "db"), "");
    assert_eq!((world.status("db").0, world.view("db").manifest.in_force), (Status::Running, None));
}

#[test]
fn what_the_version_before_needs_is_woken_for_it() {
    let mut cache = spec("cache");
    cache.process.port = Some(8080);
    cache.process.on_demand = Some(Pass::Proxy);
    let idle = Duration::from_secs(600);
    cache.activation = Some(Activation { idle_stop: Some(idle), hold_requests: Duration::from_secs(30) });
    let mut world = World::new();
    world.declare(cache);
    assert!(spawns(&world.declare(on("web", "cache")), "cache", 1), "called by who depends on it");
    world.spawned("cache", 1);
    world.spawned("web", 1);
    assert!(signals(&world.sleep(idle), "cache", 15));
    world.gone("cache", 1, Exit::signal(15));
    block(&mut world, other("web"));

    let mut actions = world.crash("web", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "cache", 2), "{actions:?}");
    let mut actions = world.spawned("cache", 2);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "web", 2), "{actions:?}");
}

#[test]
fn what_fails_the_check_of_what_runs_is_not_healthy() {
    let mut checked = spec("web");
    checked.readiness = Readiness::Probe(tcp(80));
    let mut world = World::running(checked);
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    block(&mut world, other("web"));
    for _ in 0..2 {
        world.until_asked("web", 1, ProbeSlot::Readiness);
        world.answer("web", 1, ProbeSlot::Readiness, false);
    }
    assert_eq!(world.status("web"), (Status::Degraded, Some(Reason::LowScore)));
}
