//! A port that goes from one service to another.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Pass, Spec};

const MOMENT: Duration = Duration::from_millis(100);

fn at_port(service: &str) -> Spec {
    let mut spec = spec(service);
    spec.process.port = Some(8080);
    spec
}

fn withdraw(world: &mut World, service: &str) -> Vec<Action> {
    world.tell(Input::Withdrawn(name(service)))
}

/// Both names of a file that is renamed: the new one is seen first.
fn renamed() -> World {
    let mut world = World::running(at_port("old"));
    assert!(!spawns(&world.declare(at_port("new")), "new", 1), "it may be the same one");
    assert!(!spawns(&world.sleep(MOMENT), "new", 1));
    let view = world.view("new");
    assert_eq!((view.status, view.reason), (Status::Waiting, Some(Reason::AddressInUse)));
    assert_eq!(view.why, ["port 8080 is still that of old"]);
    withdraw(&mut world, "old");
    world
}

#[test]
fn a_renamed_service_starts_when_its_port_is_left_and_not_before() {
    let mut world = renamed();
    assert!(!spawns(&world.sleep(Duration::from_secs(5)), "new", 1));
    let view = world.view("new");
    assert_eq!(view.why, ["port 8080 is still that of old, which is being stopped"]);
    assert_eq!(view.next.as_deref(), Some("starts as soon as that has left it"));
    assert!(spawns(&world.crash("old", 1, 0), "new", 1), "at once");
    assert_eq!(world.view("new").restarts, 0);
}

#[test]
fn who_stays_is_waited_for_no_longer_than_a_file_is_missed() {
    let mut world = World::running(at_port("web"));
    assert!(!spawns(&world.declare(at_port("twin")), "twin", 1));
    assert!(spawns(&world.sleep(Duration::from_millis(150)), "twin", 1), "the check will tell who is in the way");
    world.spawned("twin", 1);
    let actions = [world.crash("twin", 1, 1), world.sleep(Duration::from_secs(3))].concat();
    assert!(spawns(&actions, "twin", 2), "nor is its next try put off");
}

#[test]
fn who_stays_is_in_the_way_whoever_else_leaves() {
    let mut world = World::running(at_port("web"));
    world.declare(at_port("twin"));
    world.sleep(Duration::from_secs(1));
    world.spawned("twin", 1);
    world.order("web", Order::Stop);
    assert!(!spawns(&world.declare(at_port("new")), "new", 1));
    assert_eq!(world.view("new").why, ["port 8080 is still that of twin"]);
    assert!(spawns(&world.sleep(Duration::from_millis(150)), "new", 1), "it is not waited for that the other has left");
}

#[test]
fn who_was_to_leave_and_stays_after_all_keeps_nobody_waiting() {
    let mut world = World::running(at_port("web"));
    world.order("web", Order::Stop);
    world.declare(at_port("twin"));
    assert!(!spawns(&world.sleep(Duration::from_secs(2)), "twin", 1));
    world.order("web", Order::Start);
    assert!(spawns(&world.sleep(Duration::from_secs(2)), "twin", 1));
}

#[test]
fn another_port_and_one_at_which_plugd_listens_are_nobodys() {
    let mut world = renamed();
    let mut other = at_port("other");
    other.process.port = Some(8081);
    assert!(spawns(&world.declare(other), "other", 1));
    let mut lazy = at_port("lazy");
    lazy.process.on_demand = Some(Pass::Proxy);
    try_well(&mut world, lazy);
    assert_ne!(world.status("lazy").1, Some(Reason::AddressInUse));
}
