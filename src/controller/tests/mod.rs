//! Rules as sentences: a world, an event, what is now true.

mod world;

use std::time::Duration;

use self::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};

#[test]
fn a_declared_service_is_spawned_and_runs() {
    let mut world = World::new();
    let actions = world.declare(spec("web"));
    assert!(spawns(&actions, "web", 1));
    world.spawned("web", 1);
    assert_eq!(world.status("web"), (Status::Running, None));
    assert!(world.view("web").process_running);
}

#[test]
fn a_second_decision_without_news_is_empty() {
    let mut world = World::new();
    world.declare(spec("web"));
    assert!(world.decide().is_empty());
    world.spawned("web", 1);
    assert!(world.decide().is_empty());
}

#[test]
fn the_first_crash_is_answered_at_once_and_the_second_after_a_second() {
    let mut world = World::running(spec("web"));
    let actions = world.crash("web", 1, 1);
    assert!(spawns(&actions, "web", 2), "{actions:?}");
    world.spawned("web", 2);
    let actions = world.crash("web", 2, 1);
    assert!(!spawns(&actions, "web", 3));
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::BackOff)));
    assert!(world.sleep(Duration::from_millis(799)).is_empty());
    assert!(spawns(&world.sleep(Duration::from_millis(201)), "web", 3));
    assert_eq!(world.view("web").restarts, 2);
}

#[test]
fn a_withdrawn_service_is_told_to_stop_and_retired_when_nothing_is_left() {
    let mut world = World::running(spec("web"));
    let actions = world.tell(Input::Withdrawn(name("web")));
    assert!(signals(&actions, "web", 15));
    assert_eq!(world.status("web").0, Status::Stopping);
    world.tell(Input::Exited { life: life("web", 1), exit: Exit::signal(15) });
    let actions = world.tell(Input::Surveyed { life: life("web", 1), left: vec![] });
    assert!(actions.contains(&Action::Forget { life: life("web", 1) }));
    assert!(actions.contains(&Action::Retire(name("web"))));
    assert!(world.controller.view(&name("web"), world.now).is_none());
}

#[test]
fn the_node_stops_in_order_and_leaves_with_0() {
    let mut world = World::running(spec("db"));
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(web);
    world.spawned("web", 1);
    let actions = world.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(signals(&actions, "web", 15) && !signals(&actions, "db", 15), "dependents first");
    let actions = world.gone("web", 1, Exit::signal(15));
    assert!(signals(&actions, "db", 15));
    let actions = world.gone("db", 1, Exit::signal(15));
    assert!(actions.contains(&Action::Exit(0)));
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::ControllerStopped)));
}

#[test]
fn an_edit_is_told_when_it_was_tried_so_that_no_new_generation_has_an_old_process() {
    let mut old = spec("db");
    old.process.port = Some(5432);
    let mut world = World::running(old.clone());
    let mut new = old.clone();
    new.process.port = Some(55432);
    new.process.args = vec!["-p".into()];

    let actions = world.declare(new);
    let key = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    assert_eq!(world.view("db").manifest.generation, 1);
    assert_eq!(world.view("db").address.as_deref(), Some("127.0.0.1:5432"));

    let digest = key.expect("the new version is tried first");
    world.tell(Input::Tried { name: name("db"), digest, result: Ok(()) });
    let view = world.view("db");
    assert_eq!((view.manifest.generation, view.status), (2, Status::Stopping));
    assert_eq!(view.address, None, "neither the old address nor the new one is served");
    assert_eq!(
        view.next.as_deref(),
        Some("the new version starts when it has ended; killed 30 s after it was told to stop")
    );
}

#[test]
fn an_edit_that_is_tried_for_long_is_told_with_the_address_of_the_process_that_runs() {
    let mut old = spec("db");
    old.process.port = Some(5432);
    let mut world = World::running(old.clone());
    let mut new = old.clone();
    new.process.port = Some(55432);
    world.declare(new);

    world.sleep(Duration::from_millis(100));

    let view = world.view("db");
    assert_eq!(view.manifest.generation, 2);
    assert_eq!(view.address.as_deref(), Some("127.0.0.1:5432"));
}

#[test]
fn a_service_whose_manifest_is_gone_says_so_and_names_it_until_it_has_ended() {
    let mut world = World::running(spec("web"));
    let file = world.view("web").manifest.file.clone();
    world.tell(Input::Withdrawn(name("web")));
    let view = world.view("web");
    assert_eq!(view.manifest.file, file);
    assert_eq!(view.why, ["its manifest is gone; it is being stopped"]);
}

#[test]
fn each_instance_is_told_with_its_own_port() {
    let mut web = spec("web");
    web.replicas = 2;
    web.process.port = Some(8080);
    let world = World::running(web);
    let ports: Vec<_> = world.view("web").instances.iter().map(|instance| instance.port).collect();
    assert_eq!(ports, [Some(8080), Some(8081)]);
}
