//! What fell together with the change of controllers, or was final before it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::demand::{door, lazy};
use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Check, Dependency, OnLoss, Readiness, RestartLimit, Spec};

/// What the keeper and the disk hold.
#[derive(Default)]
struct Held {
    blobs: BTreeMap<Name, Vec<u8>>,
    memories: BTreeMap<Name, Memory>,
}

impl Held {
    fn note(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Spawn { life, blob, .. } | Action::SetBlob { life, blob } => {
                    self.blobs.insert(life.instance.service.clone(), blob.clone());
                }
                Action::Remember(name, memory) => {
                    // As it is written down and read.
                    let memory = serde_json::to_string(memory).expect("plain");
                    self.memories.insert(name.clone(), serde_json::from_str(&memory).expect("read back"));
                }
                _ => {}
            }
        }
    }

    /// The next controller, told of the lives that are named, and of those of them that have ended.
    fn next(&self, world: &World, lives: &[(&str, u64, Option<Exit>)]) -> World {
        let mut next = World::unread(Config { takes_over: true, ..config() }, world.now);
        for (name, memory) in &self.memories {
            next.tell(Input::Remembered(name.clone(), Box::new(memory.clone())));
        }
        for (service, number, exit) in lives {
            let (age, blob) = (Duration::from_secs(3), self.blobs[&name(service)].clone());
            let life = life(service, *number);
            next.tell(Input::Adopted(Adopted { life, pid: 101, pre_stop: false, age, exit: *exit, blob }));
        }
        next
    }
}

fn db() -> Spec {
    Spec { readiness: Readiness::ImpliedPort(tcp(5432)), ..spec("db") }
}

fn app(on_loss: OnLoss) -> Spec {
    Spec { depends_on: vec![Dependency { on_loss, ..needs("db") }], ..spec("app") }
}

/// Both run, and what is held of them.
fn both(on_loss: OnLoss) -> (World, Held) {
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(db()));
    held.note(&world.spawned("db", 1));
    held.note(&world.verdict("db", 1, ProbeSlot::Readiness, true));
    held.note(&world.declare(app(on_loss)));
    held.note(&world.spawned("app", 1));
    assert_eq!(world.status("app").0, Status::Running);
    (world, held)
}

/// What the next controller does with `app` once it has read everything.
fn read(next: &mut World, app: Spec) -> Vec<Action> {
    let mut actions = next.declare(app);
    actions.extend(next.declare(db()));
    actions.extend(next.tell(Input::Scanned));
    actions
}

#[test]
fn a_dependency_that_is_lost_with_the_controller_is_lost_for_the_next_one_too() {
    for on_loss in [OnLoss::Restart, OnLoss::Stop] {
        // It ended meanwhile.
        let (world, held) = both(on_loss);
        let mut next = held.next(&world, &[("app", 1, None), ("db", 1, Some(Exit::signal(9)))]);
        assert!(signals(&read(&mut next, app(on_loss)), "app", 15), "{on_loss:?}");

        // It lives, and is not what it was: that is known when the check has failed as often as it may.
        let mut next = held.next(&world, &[("app", 1, None), ("db", 1, None)]);
        let mut actions = read(&mut next, app(on_loss));
        actions.extend(next.verdict("db", 1, ProbeSlot::Readiness, false));
        actions.extend(next.verdict("db", 1, ProbeSlot::Readiness, false));
        assert!(!signals(&actions, "app", 15), "{on_loss:?}: {actions:?}");
        assert!(signals(&next.verdict("db", 1, ProbeSlot::Readiness, false), "app", 15), "{on_loss:?}");
        if on_loss == OnLoss::Stop {
            assert_eq!(next.gone("app", 1, Exit::signal(15)).iter().filter(|it| is_spawn(it)).count(), 0);
            assert_eq!(next.status("app"), (Status::Stopped, Some(Reason::DependencyLost)));
        }
    }
}

fn is_spawn(action: &Action) -> bool {
    matches!(action, Action::Spawn { .. })
}

#[test]
fn a_dependency_that_goes_on_and_one_that_nobody_minds_cost_nothing_at_a_takeover() {
    for on_loss in [OnLoss::Restart, OnLoss::Stop] {
        let (world, held) = both(on_loss);
        let mut next = held.next(&world, &[("app", 1, None), ("db", 1, None)]);
        let mut actions = read(&mut next, app(on_loss));
        actions.extend(next.verdict("db", 1, ProbeSlot::Readiness, true));
        actions.extend(next.sleep(Duration::from_secs(5)));
        assert!(!signals(&actions, "app", 15), "{actions:?}");
    }
    let (world, held) = both(OnLoss::Ignore);
    let mut next = held.next(&world, &[("app", 1, None), ("db", 1, Some(Exit::signal(9)))]);
    assert!(!signals(&read(&mut next, app(OnLoss::Ignore)), "app", 15));

    // What it came to needs with the edit of this very moment it was not begun with.
    let (world, held) = both(OnLoss::Ignore);
    let mut next = held.next(&world, &[("app", 1, None), ("db", 1, Some(Exit::signal(9)))]);
    assert!(!signals(&read(&mut next, app(OnLoss::Stop)), "app", 15));
}

#[test]
fn a_dependency_whose_manifest_was_broken_meanwhile_is_not_lost() {
    let (world, held) = both(OnLoss::Stop);
    let mut next = held.next(&world, &[("app", 1, None), ("db", 1, None)]);
    let mut actions = next.declare(app(OnLoss::Stop));
    actions.extend(next.refuse("db", "db.yaml:3:1: unknown field"));
    actions.extend(next.tell(Input::Scanned));
    actions.extend(next.sleep(Duration::from_secs(60)));
    assert!(!signals(&actions, "app", 15), "{actions:?}");
}

#[test]
fn what_stopped_with_its_dependency_is_stopped_under_the_next_controller_until_an_edit() {
    let (mut world, mut held) = both(OnLoss::Stop);
    held.note(&world.crash("db", 1, 1));
    held.note(&world.gone("app", 1, Exit::signal(15)));
    assert_eq!(world.status("app"), (Status::Stopped, Some(Reason::DependencyLost)));
    held.note(&world.spawned("db", 2));
    held.note(&world.verdict("db", 2, ProbeSlot::Readiness, true));

    let lives = [("app", 1, Some(Exit::signal(15))), ("db", 2, None)];
    let mut edited = app(OnLoss::Stop);
    edited.labels.insert("tier".into(), "front".into());
    for (spec, starts) in [(app(OnLoss::Stop), false), (edited, true)] {
        let mut next = held.next(&world, &lives);
        let mut actions = read(&mut next, spec);
        actions.extend(next.tell(Input::Surveyed { life: life("app", 1), left: vec![] }));
        actions.extend(next.verdict("db", 2, ProbeSlot::Readiness, true));
        actions.extend(next.sleep(Duration::from_secs(60)));
        assert_eq!(spawns(&actions, "app", 2), starts, "{:?}", next.status("app"));
        if !starts {
            assert_eq!(next.status("app"), (Status::Stopped, Some(Reason::DependencyLost)));
            assert!(spawns(&next.order("app", Order::Start), "app", 2));
        }
    }
}

#[test]
fn a_restart_limit_is_final_under_the_next_controller_until_an_edit() {
    let mut web = spec("web");
    web.restart.limit = Some(RestartLimit { max: 1, within: Duration::from_secs(600) });
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.crash("web", 1, 1));
    held.note(&world.spawned("web", 2));
    held.note(&world.crash("web", 2, 1));
    assert_eq!(world.status("web"), (Status::Failed, Some(Reason::RestartLimit)));

    let mut edited = web.clone();
    edited.labels.insert("tier".into(), "front".into());
    for (spec, starts) in [(web, false), (edited, true)] {
        let mut next = held.next(&world, &[("web", 2, Some(Exit::code(1)))]);
        let mut actions = next.declare(spec);
        actions.extend(next.tell(Input::Scanned));
        actions.extend(next.tell(Input::Surveyed { life: life("web", 2), left: vec![] }));
        actions.extend(next.sleep(Duration::from_secs(120)));
        assert_eq!(spawns(&actions, "web", 3), starts, "{:?}", next.status("web"));
        if !starts {
            assert_eq!(next.status("web"), (Status::Failed, Some(Reason::RestartLimit)));
            assert!(spawns(&next.order("web", Order::Start), "web", 3));
            next.spawned("web", 3);
            assert!(spawns(&next.crash("web", 3, 1), "web", 4), "and has all its tries again");
        }
    }
}

fn adopted(number: u64, age: u64, exit: Option<Exit>, pre_stop: bool, held: &Held) -> Input {
    let (age, blob) = (Duration::from_secs(age), held.blobs[&name("web")].clone());
    Input::Adopted(Adopted { life: life("web", number), pid: 101, pre_stop, age, exit, blob })
}

fn told(actions: &[Action]) -> Vec<Reason> {
    let reason = |action: &Action| match action {
        Action::Record(event) => Some(event.reason),
        _ => None,
    };
    actions.iter().filter_map(reason).collect()
}

#[test]
fn what_was_ready_is_ready_under_the_next_controller_until_its_checks_say_otherwise() {
    let web = Spec { readiness: Readiness::ImpliedPort(tcp(80)), ..spec("web") };
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.verdict("web", 1, ProbeSlot::Readiness, true));
    held.note(&world.sleep(Duration::from_secs(5)));
    let since = world.view("web").since;

    let next = |spec: &Spec| {
        let mut next = World::unread(config(), world.now);
        next.tell(Input::Remembered(name("web"), Box::new(held.memories[&name("web")].clone())));
        next.tell(adopted(1, 5, None, false, &held));
        let mut actions = next.declare(spec.clone());
        actions.extend(next.tell(Input::Scanned));
        (next, actions)
    };
    let (mut next_one, actions) = next(&web);
    assert_eq!((next_one.status("web").0, next_one.view("web").since), (Status::Healthy, since));
    assert!(!told(&actions).contains(&Reason::Ready), "{actions:?}");
    assert_eq!(probes(&actions, ProbeSlot::Readiness), 1, "it is looked at at once");
    for _ in 0..2 {
        next_one.verdict("web", 1, ProbeSlot::Readiness, false);
        assert_eq!(next_one.view("web").ready, 1);
    }
    next_one.verdict("web", 1, ProbeSlot::Readiness, false);
    assert_eq!(next_one.status("web").0, Status::Unhealthy);

    // What was edited meanwhile is another check, which has to pass itself.
    let (mut next_one, _) = next(&Spec { readiness: Readiness::Probe(tcp(81)), ..web.clone() });
    assert_eq!(next_one.status("web").0, Status::Starting);
    next_one.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(next_one.status("web").0, Status::Healthy);
}

#[test]
fn a_stop_goes_on_under_the_next_controller_where_it_was() {
    let mut web = spec("web");
    web.stop.grace_period = Duration::from_secs(10);
    let mut hooked = web.clone();
    hooked.lifecycle.pre_stop = Some(vec!["drain".into()]);
    let after = |spec: &Spec, wait: u64, pre_stop: bool| {
        let (mut world, mut held) = (World::new(), Held::default());
        held.note(&world.declare(spec.clone()));
        held.note(&world.spawned("web", 1));
        held.note(&world.sleep(Duration::from_secs(60)));
        held.note(&world.order("web", Order::Stop));
        held.note(&world.sleep(Duration::from_secs(wait)));
        let mut next = World::unread(config(), world.now);
        next.tell(Input::Remembered(name("web"), Box::new(held.memories[&name("web")].clone())));
        next.tell(adopted(1, 60 + wait, None, pre_stop, &held));
        let mut actions = next.declare(spec.clone());
        actions.extend(next.tell(Input::Scanned));
        assert_eq!(next.status("web").0, Status::Stopping);
        (next, actions)
    };
    // Told once, and killed when its grace is over, not a grace later.
    let (mut next, actions) = after(&web, 4, false);
    assert!(!signals(&actions, "web", 15), "{actions:?}");
    assert!(!signals(&next.sleep(Duration::from_millis(5_900)), "web", 9));
    assert!(signals(&next.sleep(Duration::from_millis(200)), "web", 9));

    // Its hook is waited for; its signal follows.
    let (mut next, actions) = after(&hooked, 4, true);
    assert!(!signals(&actions, "web", 15), "{actions:?}");
    let ended = Input::HookEnded { life: life("web", 1), hook: Hook::PreStop, result: Ok(()) };
    assert!(signals(&next.tell(ended), "web", 15));
    // A hook that is not there any more is not waited for.
    assert!(signals(&after(&hooked, 4, false).1, "web", 15));
    // One that does not end has the rest of the grace.
    let (mut next, _) = after(&hooked, 4, true);
    assert!(signals(&next.sleep(Duration::from_millis(6_100)), "web", 15));
}

#[test]
fn what_ended_long_ago_and_left_nothing_is_not_killed_by_the_next_controller() {
    let mut web = spec("web");
    web.stop.grace_period = Duration::from_secs(2);
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.sleep(Duration::from_secs(60)));
    held.note(&world.order("web", Order::Stop));
    held.note(&world.gone("web", 1, Exit::signal(15)));
    held.note(&world.sleep(Duration::from_secs(100)));
    let next = || {
        let mut next = World::unread(Config { started: world.now, ..config() }, world.now);
        next.tell(Input::Remembered(name("web"), Box::new(held.memories[&name("web")].clone())));
        next.tell(adopted(1, 60, Some(Exit::signal(15)), false, &held));
        // The directory is slow.
        let mut actions = next.sleep(Duration::from_secs(8));
        actions.extend(next.declare(web.clone()));
        actions.extend(next.tell(Input::Scanned));
        (next, actions)
    };
    let (mut settled, mut actions) = next();
    assert!(!told(&actions).contains(&Reason::StartupReport), "it is not known yet how it is");
    actions.extend(settled.tell(Input::Surveyed { life: life("web", 1), left: vec![] }));
    assert_eq!(settled.status("web"), (Status::Stopped, Some(Reason::StoppedByOperator)));
    assert!(!signals(&actions, "web", 9), "{actions:?}");
    assert_eq!(told(&actions), [Reason::StartupReport]);
    // What is still there has had its time.
    let (mut left, _) = next();
    let actions = left.tell(Input::Surveyed {
        life: life("web", 1),
        left: vec![Leftover { pid: 7, command: "sleep".into(), held: None }],
    });
    assert!(signals(&actions, "web", 9) && told(&actions).contains(&Reason::Killed), "{actions:?}");
}

#[test]
fn what_a_check_ended_is_told_as_that_by_the_next_controller() {
    let mut web = spec("web");
    web.liveness_probe = Some(crate::model::spec::Probe { failure_threshold: 1, ..tcp(80) });
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.verdict("web", 1, ProbeSlot::Liveness, false));
    assert_eq!(world.status("web").0, Status::Stopping);
    for exit in [None, Some(Exit::signal(15))] {
        let mut next = World::unread(config(), world.now);
        next.tell(adopted(1, 60, exit, false, &held));
        let mut actions = next.declare(web.clone());
        actions.extend(next.tell(Input::Scanned));
        assert!(!signals(&actions, "web", 15) && !spawns(&actions, "web", 2), "{exit:?}: {actions:?}");
        match exit {
            None => drop(next.gone("web", 1, Exit::signal(15))),
            Some(_) => drop(next.tell(Input::Surveyed { life: life("web", 1), left: vec![] })),
        }
        let told = next.view("web").last_exit.clone().expect("an exit");
        assert!(told.by.as_ref().is_some_and(|by| by.contains("liveness probe")), "{exit:?}: {told:?}");
        assert_eq!(next.view("web").restarts, 1, "{exit:?}");
    }
}

#[test]
fn an_end_that_memory_has_is_no_event_once_more() {
    let mut web = spec("web");
    web.restart.policy = crate::model::spec::RestartPolicy::Never;
    let warning = Config { warn_root: true, ..config() };
    let (mut world, mut held) = (World::with(warning.clone()), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    world.sleep(Duration::from_secs(3));
    held.note(&world.crash("web", 1, 5));
    assert_eq!(world.status("web"), (Status::Failed, Some(Reason::Error)));
    world.sleep(Duration::from_secs(5));

    let again = |memory: bool| {
        let mut next = World::unread(Config { started: world.now, ..warning.clone() }, world.now);
        if memory {
            next.tell(Input::Remembered(name("web"), Box::new(held.memories[&name("web")].clone())));
        }
        next.tell(adopted(1, 3, Some(Exit::code(5)), false, &held));
        let mut actions = next.declare(web.clone());
        actions.extend(next.tell(Input::Scanned));
        actions.extend(next.tell(Input::Surveyed { life: life("web", 1), left: vec![] }));
        assert_eq!(next.status("web"), (Status::Failed, Some(Reason::Error)));
        told(&actions)
    };
    let known = again(true);
    assert!(!known.contains(&Reason::Exited) && !known.contains(&Reason::RunsAsRoot), "{known:?}");
    assert!(again(false).contains(&Reason::Exited), "what nobody remembers is told");
}

/// The next controller of a world that runs `web`, once everything is read.
fn next_of(world: &World, held: &Held, spec: &Spec) -> World {
    let mut next = World::unread(config(), world.now);
    next.tell(adopted(1, 60, None, false, held));
    next.declare(spec.clone());
    next.tell(Input::Scanned);
    next
}

#[test]
fn what_said_once_that_it_is_ready_has_said_it_for_the_next_controller_too() {
    let mut web = Spec { readiness: Readiness::Probe(tcp(80)), ..spec("web") };
    if let Readiness::Probe(probe) = &mut web.readiness {
        probe.check = Check::Notify;
    }
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    let ready = Notification { ready: true, ..Notification::default() };
    held.note(&world.tell(Input::Notified { life: life("web", 1), message: ready }));
    assert_eq!(world.view("web").check.as_deref(), Some(Check::NOTIFIED));
    let view = next_of(&world, &held, &web).view("web");
    assert_eq!((view.status, view.check.as_deref()), (Status::Healthy, Some(Check::NOTIFIED)));
    // Ready by another check, and never heard by this one.
    let (mut world, mut held) = (World::new(), Held::default());
    web.readiness = Readiness::Probe(tcp(80));
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.verdict("web", 1, ProbeSlot::Readiness, true));
    if let Readiness::Probe(probe) = &mut web.readiness {
        probe.check = Check::LogLine("ready".into());
    }
    held.note(&world.declare(web.clone()));
    assert_eq!(next_of(&world, &held, &web).view("web").check, None);
}

#[test]
fn how_its_checks_stand_goes_with_a_life_that_is_not_ready() {
    let mut web = Spec { readiness: Readiness::ImpliedPort(tcp(80)), ..spec("web") };
    web.startup_probe = Some(tcp(81));
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.verdict("web", 1, ProbeSlot::Startup, true));
    held.note(&world.sleep(Duration::from_millis(1)));
    let mut next = next_of(&world, &held, &web);
    assert!(probes(&next.sleep(Duration::from_secs(2)), ProbeSlot::Startup) == 0, "it has started long since");

    // Ready, and two checks of three have failed.
    held.note(&world.verdict("web", 1, ProbeSlot::Readiness, true));
    for _ in 0..2 {
        held.note(&world.verdict("web", 1, ProbeSlot::Readiness, false));
    }
    assert_eq!(world.view("web").ready, 1);
    let mut next = next_of(&world, &held, &web);
    assert_eq!(next.view("web").ready, 1);
    next.verdict("web", 1, ProbeSlot::Readiness, false);
    assert_eq!(next.status("web"), (Status::Unhealthy, Some(Reason::ProbeFailed)), "the third in a row");

    // Not ready any more: it is not starting once more.
    held.note(&world.verdict("web", 1, ProbeSlot::Readiness, false));
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::ProbeFailed)));
    let mut next = next_of(&world, &held, &web);
    assert_eq!(next.status("web"), (Status::Unhealthy, Some(Reason::ProbeFailed)));
    assert_eq!(probes(&next.sleep(Duration::from_secs(2)), ProbeSlot::Startup), 0);
    assert!(told(&next.verdict("web", 1, ProbeSlot::Readiness, true)).contains(&Reason::Recovered));
}

#[test]
fn what_said_that_it_is_stopping_is_not_ready_for_the_next_controller() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(spec("web")));
    held.note(&world.spawned("web", 1));
    held.note(&world.notify("web", 1, Notification { stopping: true, ..Notification::default() }));
    assert_eq!(world.view("web").ready, 0);
    assert_eq!(next_of(&world, &held, &spec("web")).view("web").ready, 0);
}

#[test]
fn an_end_that_nobody_wrote_down_is_told_by_the_blob_of_the_life_after_it() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(spec("web")));
    held.note(&world.spawned("web", 1));
    let before = held.memories[&name("web")].clone();
    held.note(&world.crash("web", 1, 7));
    held.note(&world.spawned("web", 2));

    let mut next = World::unread(config(), world.now);
    next.tell(Input::Remembered(name("web"), Box::new(before)));
    let mut actions = next.tell(adopted(2, 1, None, false, &held));
    actions.extend(next.declare(spec("web")));
    actions.extend(next.tell(Input::Scanned));
    assert!(told(&actions).contains(&Reason::Exited), "{actions:?}");
    assert_eq!(next.view("web").last_exit.as_ref().and_then(|exit| exit.code), Some(7));

    // Where memory has it, it is no news.
    let mut next = held.next(&world, &[("web", 2, None)]);
    let mut actions = next.declare(spec("web"));
    actions.extend(next.tell(Input::Scanned));
    assert!(!told(&actions).contains(&Reason::Exited), "{actions:?}");
}

#[test]
fn a_new_controller_that_is_told_to_end_reads_first_who_needs_whom() {
    let (world, held) = both(OnLoss::Ignore);
    let mut next = held.next(&world, &[("app", 1, None), ("db", 1, None)]);
    let actions = next.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(!signals(&actions, "db", 15) && !signals(&actions, "app", 15), "{actions:?}");
    let actions = read(&mut next, app(OnLoss::Ignore));
    assert!(signals(&actions, "app", 15) && !signals(&actions, "db", 15), "{actions:?}");
    assert!(signals(&next.gone("app", 1, Exit::signal(15)), "db", 15));

    // A directory that does not answer holds the end up for a second.
    let mut next = held.next(&world, &[("app", 1, None), ("db", 1, None)]);
    next.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(signals(&next.sleep(Duration::from_millis(1_100)), "app", 15));
}

#[test]
fn other_times_for_a_check_make_nothing_unready() {
    let mut web = Spec { readiness: Readiness::ImpliedPort(tcp(80)), ..spec("web") };
    web.liveness_probe = Some(tcp(80));
    let mut world = World::running(web.clone());
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    let slower =
        |probe: crate::model::spec::Probe| crate::model::spec::Probe { period: Duration::from_secs(7), ..probe };
    web.liveness_probe = web.liveness_probe.map(slower);
    world.declare(web.clone());
    assert_eq!(world.status("web").0, Status::Healthy);
    web.readiness = Readiness::ImpliedPort(slower(tcp(80)));
    world.declare(web);
    assert_eq!(world.status("web").0, Status::Healthy);
}

#[test]
fn a_liveness_check_that_has_passed_is_not_told_as_one_that_never_did() {
    let mut web = spec("web");
    web.liveness_probe = Some(tcp(80));
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(web.clone()));
    held.note(&world.spawned("web", 1));
    held.note(&world.verdict("web", 1, ProbeSlot::Liveness, true));
    held.note(&world.verdict("web", 1, ProbeSlot::Liveness, false));
    let mut next = World::unread(config(), world.now);
    next.tell(adopted(1, 60, None, false, &held));
    next.declare(web);
    next.tell(Input::Scanned);
    next.verdict("web", 1, ProbeSlot::Liveness, false);
    let why = next.view("web").why.join("; ");
    assert!(why.contains("the liveness probe failed 2 of 3 times") && !why.contains("never"), "{why}");
}

#[test]
fn what_was_told_of_a_service_that_has_not_run_is_not_told_by_the_next_controller() {
    let warning = Config { warn_root: true, ..config() };
    let (mut world, mut held) = (World::with(warning.clone()), Held::default());
    let told_of_it = |actions: &[Action]| -> Vec<Reason> {
        told(actions).into_iter().filter(|reason| matches!(reason, Reason::Declared | Reason::RunsAsRoot)).collect()
    };
    let both = [Reason::Declared, Reason::RunsAsRoot];
    let actions = world.declare(spec("web"));
    held.note(&actions);
    assert_eq!(told_of_it(&actions), both);

    let again = |takes_over: bool, spec: Spec| {
        let mut next = World::unread(Config { takes_over, started: world.now, ..warning.clone() }, world.now);
        next.tell(Input::Remembered(name("web"), Box::new(held.memories[&name("web")].clone())));
        let mut actions = next.declare(spec);
        actions.extend(next.tell(Input::Scanned));
        told_of_it(&actions)
    };
    assert_eq!(again(true, spec("web")), []);
    let mut edited = spec("web");
    edited.description = Some("another".into());
    assert_eq!(again(true, edited), [Reason::Declared], "it was edited meanwhile");
    assert_eq!(again(false, spec("web")), both, "another run of the node");
}

/// It was called for, let its caller in, and crashes.
fn called_and_crashed() -> (World, Held) {
    let (mut world, mut held) = (World::new(), Held::default());
    held.note(&world.declare(lazy("web")));
    held.note(&door(&mut world, "web", true, false));
    held.note(&world.spawned("web", 1));
    held.note(&door(&mut world, "web", false, false));
    held.note(&world.crash("web", 1, 1));
    held.note(&world.spawned("web", 2));
    held.note(&world.crash("web", 2, 1));
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::BackOff)));
    (world, held)
}

#[test]
fn what_was_called_for_and_crashes_is_tried_on_by_the_next_controller() {
    let (world, held) = called_and_crashed();
    // The keeper holds its end, or has forgotten it.
    for lives in [&[("web", 2, Some(Exit::code(1)))][..], &[]] {
        let mut next = held.next(&world, lives);
        next.declare(lazy("web"));
        next.tell(Input::Scanned);
        next.tell(Input::Surveyed { life: life("web", 2), left: vec![] });
        for number in 3..=5 {
            next.sleep(Duration::from_secs(10));
            next.spawned("web", number);
            next.crash("web", number, 1);
            assert_eq!(next.status("web").0, Status::Unhealthy, "try {number}");
        }
        assert_eq!(next.status("web"), (Status::Unhealthy, Some(Reason::CrashLoopBackOff)));
    }
}

#[test]
fn what_sleeps_sleeps_on_under_the_next_controller() {
    let (mut world, mut held) = called_and_crashed();
    held.note(&world.declare(Spec { enabled: false, ..lazy("web") }));
    held.note(&world.declare(lazy("web")));
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::OnDemand)));
    let mut next = held.next(&world, &[]);
    let mut actions = next.declare(lazy("web"));
    actions.extend(next.tell(Input::Scanned));
    actions.extend(next.sleep(Duration::from_secs(3600)));
    assert!(!actions.iter().any(is_spawn), "{actions:?}");
    assert!(spawns(&door(&mut next, "web", true, false), "web", 3));
}

#[test]
fn nobody_waits_at_the_doors_of_another_keeper_or_boot_and_what_was_called_for_before_sleeps() {
    let (world, held) = called_and_crashed();
    let mut next = World::unread(Config { takes_over: false, ..config() }, world.now);
    next.tell(Input::Remembered(name("web"), Box::new(held.memories[&name("web")].clone())));
    let mut actions = next.declare(lazy("web"));
    actions.extend(next.tell(Input::Scanned));
    actions.extend(next.sleep(Duration::from_secs(3600)));
    assert!(!actions.iter().any(is_spawn), "{actions:?}");
    assert_eq!(next.status("web"), (Status::Failed, Some(Reason::Error)), "its last start failed");
    assert!(spawns(&door(&mut next, "web", true, false), "web", 3));
}

#[test]
fn where_the_memory_is_gone_an_end_of_long_ago_is_told_by_nobody_again() {
    for (away, is_told) in [(2, true), (60, false)] {
        let (mut world, mut held) = (World::new(), Held::default());
        held.note(&world.declare(spec("web")));
        held.note(&world.spawned("web", 1));
        held.note(&world.sleep(Duration::from_secs(5)));
        held.note(&world.crash("web", 1, 1));
        held.note(&world.sleep(Duration::from_secs(1)));
        held.note(&world.spawned("web", 2));
        held.note(&world.sleep(Duration::from_secs(away)));
        let mut next = World::unread(Config { takes_over: true, ..config() }, world.now);
        let actions = next.tell(adopted(2, away, None, false, &held));
        assert_eq!(told(&actions).contains(&Reason::Exited), is_told, "{away} s later: {actions:?}");
        // One that has ended, and was dealt with.
        let mut ended = World::unread(Config { takes_over: true, ..config() }, world.now);
        let mut actions = ended.tell(adopted(2, 1, Some(Exit::code(3)), false, &held));
        actions.extend(ended.declare(spec("web")));
        let ends = told(&actions).iter().filter(|reason| **reason == Reason::Exited).count();
        assert_eq!(ends > 0, is_told, "{away} s later: {actions:?}");
    }
}

#[test]
fn a_restart_is_held_against_it_for_ten_minutes_by_the_next_controller_too() {
    for (away, points) in [(60, 90), (700, 100)] {
        let web = Spec { readiness: Readiness::ImpliedPort(tcp(80)), ..spec("web") };
        let (mut world, mut held) = (World::new(), Held::default());
        held.note(&world.declare(web.clone()));
        held.note(&world.spawned("web", 1));
        held.note(&world.verdict("web", 1, ProbeSlot::Readiness, true));
        held.note(&world.crash("web", 1, 1));
        held.note(&world.sleep(Duration::from_secs(2)));
        held.note(&world.spawned("web", 2));
        held.note(&world.verdict("web", 2, ProbeSlot::Readiness, true));
        held.note(&world.sleep(Duration::from_secs(away)));
        let mut next = World::unread(Config { takes_over: true, ..config() }, world.now);
        next.tell(adopted(2, away, None, false, &held));
        next.declare(web);
        next.tell(Input::Scanned);
        next.verdict("web", 2, ProbeSlot::Readiness, true);
        assert_eq!(next.view("web").score, Some(points), "{away} s later");
    }
}

#[test]
fn where_the_memory_is_begun_anew_all_that_is_known_is_said_to_it_again() {
    let mut world = World::running(spec("web"));
    world.declare(spec("db"));
    world.order("web", Order::Stop);
    world.gone("web", 1, Exit::signal(15));
    assert!(world.decide().is_empty());
    let actions = world.tell(Input::MemoryLost("its pages were torn".into()));
    let said: Vec<(String, bool)> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Remember(name, memory) => Some((name.to_string(), memory.stopped_by_operator)),
            _ => None,
        })
        .collect();
    assert_eq!(said, [("web".into(), true), ("db".into(), false)], "{actions:?}");
    assert!(world.decide().is_empty(), "once");
}
