//! Jobs that run by the clock. The world begins on a Wednesday at 11:06:40 UTC.

use std::time::Duration;

use jiff::Timestamp;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Concurrency, Condition, RestartPolicy, Schedule, Spec};
use crate::model::time::Now;
use crate::model::view::RunResult;
use crate::model::zone::Zone;

fn at(time: &str) -> Timestamp {
    format!("2026-11-18T{time}Z").parse().expect("a moment")
}

fn with(mut spec: Spec, change: impl FnOnce(&mut Schedule)) -> Spec {
    change(spec.schedule.as_mut().expect("a job"));
    spec
}

/// Lets the clock go on until it shows this, and decides at each deadline on the way.
fn until(world: &mut World, time: &str) -> Vec<Action> {
    let span = at(time).duration_since(world.now.wall);
    world.sleep(Duration::try_from(span).expect("ahead"))
}

/// Somebody sets the clock; nobody tells.
fn set_clock(world: &mut World, to: &str) {
    world.now = Now { wall: to.parse().expect("a moment"), ..world.now };
}

fn said(actions: &[Action], reason: Reason) -> Vec<String> {
    let of = |action: &Action| match action {
        Action::Record(event) if event.reason == reason => Some(event.message.clone()),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn spawned_any(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Spawn { .. }))
}

fn results(world: &World, service: &str) -> Vec<(Option<Timestamp>, RunResult)> {
    let schedule = world.view(service).schedule.clone().expect("a job");
    schedule.runs.iter().map(|run| (run.scheduled, run.result)).collect()
}

fn second_of(service: &str, number: u64) -> crate::model::name::LifeId {
    let mut second = life(service, number);
    second.instance.index = 1;
    second
}

#[test]
fn a_job_waits_for_its_time_runs_to_its_end_and_waits_again() {
    let mut world = World::new();
    assert!(!spawned_any(&world.declare(job("tidy", "*/10 * * * *"))));
    assert_eq!(world.status("tidy"), (Status::Waiting, Some(Reason::NextRun)));
    let view = world.view("tidy");
    assert_eq!(view.why, ["next run at 2026-11-18T11:10:00Z"]);
    assert_eq!(view.next.as_deref(), Some("runs at 2026-11-18T11:10:00Z; at once with `plugd start tidy`"));
    assert!(!view.available && view.settled);

    assert!(!spawned_any(&until(&mut world, "11:09:59")));
    assert!(spawns(&until(&mut world, "11:10:00"), "tidy", 1));
    world.spawned("tidy", 1);
    assert_eq!(world.status("tidy"), (Status::Running, None));
    until(&mut world, "11:10:12");
    world.crash("tidy", 1, 0);

    assert_eq!(world.status("tidy"), (Status::Waiting, Some(Reason::NextRun)));
    let view = world.view("tidy");
    assert_eq!(view.why[0], "next run at 2026-11-18T11:20:00Z");
    assert_eq!(view.why[1], "the last run, of 2026-11-18T11:10:00Z, completed after 12 s");
    let schedule = view.schedule.as_ref().expect("a job");
    assert_eq!((schedule.next_run, schedule.last_success), (Some(at("11:20:00")), Some(at("11:10:12"))));
    assert_eq!((schedule.runs[0].code, schedule.runs[0].took_seconds), (Some(0), Some(12.0)));
    assert_eq!(view.restarts, 0, "a run that was due is no restart");
    assert!(spawns(&until(&mut world, "11:20:00"), "tidy", 2));
}

#[test]
fn its_times_are_those_of_its_zone() {
    let mut world = World::new();
    let berlin = with(job("report", "30 13 * * *"), |schedule| {
        schedule.time_zone = Zone::find("Europe/Berlin").expect("a zone");
    });
    world.declare(berlin);
    assert_eq!(world.view("report").why, ["next run at 2026-11-18T12:30:00Z (13:30 in Europe/Berlin)"]);
    assert!(spawns(&until(&mut world, "12:30:00"), "report", 1));
}

#[test]
fn a_failed_run_is_told_until_one_succeeds() {
    let mut world = World::new();
    world.declare(job("backup", "*/10 * * * *"));
    until(&mut world, "11:10:00");
    world.spawned("backup", 1);
    world.crash("backup", 1, 3);
    assert_eq!(world.status("backup"), (Status::Failed, Some(Reason::Error)));
    let why = world.view("backup").why[0].clone();
    assert!(why.starts_with("its last run, of 2026-11-18T11:10:00Z, failed: exited with 3"), "{why}");
    assert!(world.view("backup").next.as_ref().is_some_and(|next| next.contains("runs at 2026-11-18T11:20:00Z")));
    assert!(spawns(&until(&mut world, "11:20:00"), "backup", 2));
    world.spawned("backup", 2);
    world.crash("backup", 2, 0);
    assert_eq!(world.status("backup"), (Status::Waiting, Some(Reason::NextRun)));
}

#[test]
fn a_failed_run_is_tried_again_by_the_ladder_until_the_next_is_due() {
    let mut world = World::new();
    let mut flaky = job("flaky", "*/10 * * * *");
    flaky.restart.policy = RestartPolicy::OnFailure;
    flaky.restart.backoff.initial = Duration::from_secs(1_000);
    flaky.restart.backoff.max = Duration::from_secs(1_000);
    world.declare(flaky);
    until(&mut world, "11:10:00");
    world.spawned("flaky", 1);
    assert!(spawns(&world.crash("flaky", 1, 1), "flaky", 2), "the first rung: at once");
    world.spawned("flaky", 2);
    world.crash("flaky", 2, 1);
    assert_eq!(world.status("flaky"), (Status::Unhealthy, Some(Reason::BackOff)));

    let actions = until(&mut world, "11:20:00");
    assert!(spawns(&actions, "flaky", 3));
    let told = said(&actions, Reason::FailedRun);
    let what =
        "the run of 2026-11-18T11:10:00Z has failed and is not tried again, for the next one is due: exited with 1";
    assert!(told.len() == 1 && told[0].starts_with(what), "{told:?}");
    assert_eq!(
        results(&world, "flaky"),
        [(Some(at("11:10:00")), RunResult::Failed), (Some(at("11:20:00")), RunResult::Waiting)]
    );
    world.spawned("flaky", 3);
    assert!(spawns(&world.crash("flaky", 3, 1), "flaky", 4), "its ladder is its own");
    assert_eq!(world.view("flaky").restarts, 2);
}

#[test]
fn forbid_skips_the_run_that_would_overlap_and_says_so() {
    let mut world = World::new();
    world.declare(job("slow", "*/10 * * * *"));
    until(&mut world, "11:10:00");
    world.spawned("slow", 1);
    let actions = until(&mut world, "11:20:01");
    assert!(!spawned_any(&actions));
    assert_eq!(
        said(&actions, Reason::SkippedRun),
        ["the run of 2026-11-18T11:20:00Z is skipped: the one before is still going on"]
    );
    assert!(!spawned_any(&world.crash("slow", 1, 0)), "what was skipped is not made up for");
    assert!(spawns(&until(&mut world, "11:30:00"), "slow", 2));
}

#[test]
fn replace_ends_the_old_run_whole_before_the_new_one_begins() {
    let mut world = World::new();
    world.declare(with(job("slow", "*/10 * * * *"), |schedule| {
        schedule.concurrency_policy = Concurrency::Replace;
    }));
    until(&mut world, "11:10:00");
    world.spawned("slow", 1);
    let actions = until(&mut world, "11:20:00");
    assert!(signals(&actions, "slow", 15) && !spawned_any(&actions));
    let actions = world.tell(Input::Exited { life: life("slow", 1), exit: Exit::signal(15) });
    assert!(!spawned_any(&actions));
    let actions = world.tell(Input::Surveyed { life: life("slow", 1), left: vec![] });
    assert!(spawns(&actions, "slow", 2));
    world.spawned("slow", 2);
    assert_eq!(
        results(&world, "slow"),
        [(Some(at("11:10:00")), RunResult::Replaced), (Some(at("11:20:00")), RunResult::Running)]
    );
}

#[test]
fn allow_lets_runs_go_on_side_by_side_up_to_ten() {
    let mut world = World::new();
    world.declare(with(job("slow", "* * * * *"), |schedule| schedule.concurrency_policy = Concurrency::Allow));
    until(&mut world, "11:07:00");
    world.spawned("slow", 1);
    let actions = until(&mut world, "11:08:00");
    assert!(actions.iter().any(|action| matches!(action, Action::Spawn { life, .. } if *life == second_of("slow", 1))));
    world.tell(Input::Spawned { life: second_of("slow", 1), pid: 201, start_time: 7 });
    let counts = |world: &World| (world.view("slow").ready, world.view("slow").desired);
    assert_eq!((world.status("slow"), counts(&world)), ((Status::Running, None), (2, 2)));

    // The first is over: its place is free, and the second goes on.
    world.crash("slow", 1, 0);
    assert_eq!((world.status("slow"), counts(&world)), ((Status::Running, None), (1, 1)));
    assert!(spawns(&until(&mut world, "11:09:00"), "slow", 2));
    world.spawned("slow", 2);
    // In the place of the first, and begun after the second.
    let begun: Vec<_> = results(&world, "slow").into_iter().map(|(at, _)| at).collect();
    assert!(begun.is_sorted() && begun.len() == 3, "{begun:?}");

    let mut skipped = Vec::new();
    for minute in 10..19 {
        let actions = until(&mut world, &format!("11:{minute}:00"));
        for action in &actions {
            if let Action::Spawn { life, .. } = action {
                world.tell(Input::Spawned { life: life.clone(), pid: 300 + minute, start_time: 7 });
            }
        }
        skipped.extend(said(&actions, Reason::SkippedRun));
    }
    assert_eq!(skipped, ["the run of 2026-11-18T11:18:00Z is skipped: 10 are going on, and more are not allowed"]);
}

#[test]
fn a_machine_that_slept_makes_up_for_the_last_run_and_tells_the_others() {
    let mut world = World::new();
    world.declare(job("tidy", "*/10 * * * *"));
    set_clock(&mut world, "2026-11-18T12:42:00Z");
    let actions = world.tell(Input::Awoke);
    assert!(spawns(&actions, "tidy", 1));
    assert_eq!(
        said(&actions, Reason::MissedRun),
        ["9 runs from 2026-11-18T11:10:00Z on were missed; that of 2026-11-18T12:40:00Z is made up for, 2 min late"]
    );
    assert_eq!(world.view("tidy").schedule.as_ref().and_then(|s| s.next_run), Some(at("12:50:00")));
}

#[test]
fn a_run_that_is_later_than_its_deadline_is_missed_and_said() {
    let mut world = World::new();
    world.declare(with(job("tidy", "0 * * * *"), |schedule| {
        schedule.starting_deadline = Some(Duration::from_secs(300));
    }));
    set_clock(&mut world, "2026-11-18T12:06:00Z");
    let actions = world.tell(Input::Awoke);
    assert!(!spawned_any(&actions));
    assert_eq!(
        said(&actions, Reason::MissedRun),
        ["the run of 2026-11-18T12:00:00Z was missed: that was 6 min ago, and a run may be 5 min late"]
    );
    set_clock(&mut world, "2026-11-18T13:04:00Z");
    assert!(spawns(&world.tell(Input::Awoke), "tidy", 1));
}

#[test]
fn a_clock_that_is_set_is_noticed_within_half_a_minute_without_a_word() {
    let mut world = World::new();
    world.declare(job("nightly", "0 3 * * *"));
    set_clock(&mut world, "2026-11-19T03:00:10Z");
    assert!(spawns(&world.sleep(Duration::from_secs(31)), "nightly", 1));
}

#[test]
fn a_clock_that_is_set_back_runs_nothing_twice_and_says_so() {
    let mut world = World::new();
    world.declare(job("hourly", "0 * * * *"));
    assert!(spawns(&until(&mut world, "12:00:00"), "hourly", 1));
    world.spawned("hourly", 1);
    world.crash("hourly", 1, 0);
    set_clock(&mut world, "2026-11-18T11:30:00Z");
    let actions = world.sleep(Duration::from_secs(31));
    assert_eq!(
        said(&actions, Reason::ClockSetBack),
        ["the clock was set back: what is scheduled until 2026-11-18T12:00:00Z has been dealt with; the next is at \
          2026-11-18T13:00:00Z"]
    );
    assert!(world.view("hourly").why.iter().any(|why| why.starts_with("the clock was set back")));
    assert!(!spawned_any(&until(&mut world, "12:30:00")));
    assert!(spawns(&until(&mut world, "13:00:00"), "hourly", 2));
    assert!(!world.view("hourly").why.iter().any(|why| why.starts_with("the clock was set back")));
}

#[test]
fn start_runs_a_job_now_and_moves_no_scheduled_time() {
    let mut world = World::new();
    world.declare(job("tidy", "*/10 * * * *"));
    assert!(spawns(&world.order("tidy", Order::Start), "tidy", 1));
    world.spawned("tidy", 1);
    assert!(!spawned_any(&world.order("tidy", Order::Start)), "it runs already");
    world.crash("tidy", 1, 0);
    assert_eq!(results(&world, "tidy"), [(None, RunResult::Completed)]);
    assert!(world.view("tidy").why[1].starts_with("the last run, by hand, completed"));
    assert!(spawns(&until(&mut world, "11:10:00"), "tidy", 2));
}

#[test]
fn stop_ends_the_run_and_suspends_the_schedule_until_start() {
    let mut world = World::new();
    world.declare(job("tidy", "*/10 * * * *"));
    until(&mut world, "11:10:00");
    world.spawned("tidy", 1);
    assert!(signals(&world.order("tidy", Order::Stop), "tidy", 15));
    let actions = world.gone("tidy", 1, Exit::signal(15));
    assert!(said(&actions, Reason::Stopped)[0].starts_with("tidy is stopped (plugd stop); it was killed by SIGTERM"));
    assert_eq!(world.status("tidy"), (Status::Stopped, Some(Reason::StoppedByOperator)));
    assert_eq!(results(&world, "tidy"), [(Some(at("11:10:00")), RunResult::Stopped)]);
    assert_eq!(world.view("tidy").schedule.as_ref().and_then(|s| s.next_run), None);
    assert!(!spawned_any(&until(&mut world, "11:35:00")));

    let actions = world.order("tidy", Order::Start);
    assert!(spawns(&actions, "tidy", 2));
    assert!(said(&actions, Reason::MissedRun).is_empty(), "nobody wanted what fell due meanwhile");
    world.spawned("tidy", 2);
    world.crash("tidy", 2, 0);
    assert!(spawns(&until(&mut world, "11:40:00"), "tidy", 3));
}

#[test]
fn the_schedule_of_a_job_that_was_stopped_goes_on_without_a_run() {
    let mut world = World::new();
    world.declare(job("tidy", "*/10 * * * *"));
    world.order("tidy", Order::Stop);
    let next = world.view("tidy").next.clone().unwrap_or_default();
    assert!(next.starts_with("its schedule goes on with `plugd start tidy --no-run`"), "{next}");
    until(&mut world, "11:15:00");
    let actions = world.order("tidy", Order::Resume);
    assert!(!spawned_any(&actions) && said(&actions, Reason::MissedRun).is_empty());
    assert_eq!(world.status("tidy"), (Status::Waiting, Some(Reason::NextRun)));
    assert!(spawns(&until(&mut world, "11:20:00"), "tidy", 1));
    world.spawned("tidy", 1);
    assert!(!signals(&world.order("tidy", Order::Resume), "tidy", 15), "what goes on goes on");
    // A run that was stopped does not begin again, also where it takes its time to end.
    assert!(signals(&world.order("tidy", Order::Stop), "tidy", 15));
    let mut actions = world.order("tidy", Order::Resume);
    actions.extend(world.gone("tidy", 1, Exit::signal(15)));
    assert!(!spawned_any(&actions));
    assert_eq!(results(&world, "tidy").last(), Some(&(Some(at("11:20:00")), RunResult::Stopped)));
    assert!(spawns(&until(&mut world, "11:30:00"), "tidy", 2));
}

#[test]
fn an_edit_ends_no_run_and_is_in_force_from_the_next() {
    let mut world = World::new();
    world.declare(job("tidy", "*/10 * * * *"));
    until(&mut world, "11:10:00");
    world.spawned("tidy", 1);
    let mut edited = job("tidy", "*/5 * * * *");
    edited.process.args = vec!["--more".into()];
    let actions = world.declare(edited);
    assert!(!signals(&actions, "tidy", 15));
    assert_eq!(world.status("tidy"), (Status::Running, None));
    assert!(!spawned_any(&world.crash("tidy", 1, 0)), "it has run");
    let actions = until(&mut world, "11:15:00");
    let of_now = |action: &Action| matches!(action, Action::Spawn { spec, .. } if spec.process.args == ["--more"]);
    assert!(actions.iter().any(of_now));
}

#[test]
fn an_edited_schedule_begins_when_it_is_edited() {
    let mut world = World::new();
    world.declare(job("tidy", "0 3 * * *"));
    until(&mut world, "12:30:00");
    let actions = world.declare(job("tidy", "0 12 * * *"));
    assert!(!spawned_any(&actions) && said(&actions, Reason::MissedRun).is_empty());
    assert_eq!(world.view("tidy").why, ["next run at 2026-11-19T12:00:00Z"]);
}

#[test]
fn another_time_zone_alone_is_another_schedule() {
    let mut world = World::new();
    world.declare(job("tidy", "0 12 * * *"));
    until(&mut world, "11:30:00");
    let berlin =
        with(job("tidy", "0 12 * * *"), |schedule| schedule.time_zone = Zone::find("Europe/Berlin").expect("a zone"));
    let actions = world.declare(berlin);
    assert!(!spawned_any(&actions) && said(&actions, Reason::MissedRun).is_empty());
    assert_eq!(world.view("tidy").why, ["next run at 2026-11-19T11:00:00Z (12:00 in Europe/Berlin)"]);
    assert!(!spawned_any(&until(&mut world, "12:30:00")), "noon of Berlin is past");
}

#[test]
fn a_run_that_waits_for_its_place_is_missed_at_its_deadline() {
    let mut world = World::new();
    world.declare(with(job("slow", "*/10 * * * *"), |schedule| {
        schedule.concurrency_policy = Concurrency::Replace;
        schedule.starting_deadline = Some(Duration::from_secs(30));
    }));
    until(&mut world, "11:10:00");
    world.spawned("slow", 1);
    assert!(signals(&until(&mut world, "11:20:00"), "slow", 15));
    let missed = said(&until(&mut world, "11:20:31"), Reason::MissedRun);
    assert_eq!(missed, ["the run of 2026-11-18T11:20:00Z was missed: it could not begin within 30 s"]);
    assert!(!spawned_any(&world.gone("slow", 1, Exit::signal(9))));
    let schedule = world.view("slow").schedule.clone().expect("a job");
    assert_eq!(
        (schedule.runs[0].result, schedule.runs[0].code),
        (RunResult::Replaced, Some(137)),
        "as a shell says it"
    );
}

#[test]
fn a_daemon_that_becomes_a_job_is_ended_and_a_job_that_becomes_a_daemon_runs_on() {
    let mut world = World::running(spec("clock"));
    assert!(signals(&world.declare(job("clock", "*/10 * * * *")), "clock", 15));
    world.gone("clock", 1, Exit::signal(15));
    assert_eq!(world.status("clock"), (Status::Waiting, Some(Reason::NextRun)));
    assert!(spawns(&until(&mut world, "11:10:00"), "clock", 2));
    world.spawned("clock", 2);
    let actions = world.declare(spec("clock"));
    assert!(!signals(&actions, "clock", 15));
    assert_eq!(world.status("clock"), (Status::Running, None));
    assert_eq!(world.view("clock").schedule, None);
    assert!(spawns(&world.crash("clock", 2, 0), "clock", 3));
}

#[test]
fn a_due_run_waits_for_what_it_needs_and_gives_way_to_the_next() {
    let mut world = World::new();
    let mut tidy = job("tidy", "*/10 * * * *");
    tidy.depends_on = vec![needs("db")];
    world.declare(tidy);
    assert_eq!(world.status("tidy"), (Status::Waiting, Some(Reason::NextRun)), "before it is due nothing is missing");
    assert!(!spawned_any(&until(&mut world, "11:10:00")));
    assert_eq!(world.status("tidy"), (Status::Waiting, Some(Reason::DependencyNotReady)));
    let actions = until(&mut world, "11:20:00");
    assert_eq!(said(&actions, Reason::MissedRun), ["the run of 2026-11-18T11:10:00Z was missed: the next one is due"]);
    world.declare(spec("db"));
    assert!(spawns(&world.spawned("db", 1), "tidy", 1));
    world.spawned("tidy", 1);
    assert_eq!(results(&world, "tidy"), [(Some(at("11:20:00")), RunResult::Running)]);
}

#[test]
fn what_needs_a_job_is_held_from_its_first_success_on() {
    let mut world = World::new();
    world.declare(job("seed", "*/10 * * * *"));
    let mut web = spec("web");
    web.depends_on = vec![crate::model::spec::Dependency { condition: Condition::Completed, ..needs("seed") }];
    world.declare(web);
    until(&mut world, "11:10:00");
    world.spawned("seed", 1);
    assert!(!spawns(&world.crash("seed", 1, 1), "web", 1));
    until(&mut world, "11:20:00");
    world.spawned("seed", 2);
    assert!(spawns(&world.crash("seed", 2, 0), "web", 1));
    world.spawned("web", 1);
    until(&mut world, "11:30:00");
    world.spawned("seed", 3);
    world.crash("seed", 3, 1);
    assert_eq!(world.status("web"), (Status::Running, None));
}

#[test]
fn nothing_is_called_while_the_node_ends_and_what_runs_is_told_as_stopped() {
    let mut world = World::new();
    world.declare(job("tidy", "*/10 * * * *"));
    until(&mut world, "11:10:00");
    world.spawned("tidy", 1);
    let actions = world.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(signals(&actions, "tidy", 15));
    assert!(!spawned_any(&until(&mut world, "11:20:10")));
    let actions = world.gone("tidy", 1, Exit::signal(15));
    assert!(actions.contains(&Action::Exit(0)));
    let memory = actions.iter().rev().find_map(|action| match action {
        Action::Remember(_, memory) => memory.schedule.clone(),
        _ => None,
    });
    assert_eq!(memory.expect("remembered").runs[0].result, Some(RunResult::Stopped));
}

#[test]
fn a_container_of_jobs_goes_on_whatever_becomes_of_a_run() {
    let patience = Some(Duration::from_secs(60));
    let mut world = World::with(Config { pid1: true, exit_on_required: patience, ..config() });
    let mut nightly = job("nightly", "0 * * * *");
    nightly.required = true;
    world.declare(nightly);
    until(&mut world, "12:00:00");
    world.spawned("nightly", 1);
    world.crash("nightly", 1, 1);
    assert_eq!(world.status("nightly").0, Status::Failed);
    let actions = until(&mut world, "13:00:00");
    assert!(!actions.iter().any(|action| matches!(action, Action::Exit(_))));
    assert!(spawns(&actions, "nightly", 2));
}

/// What the keeper and the disk hold.
#[derive(Default)]
struct Held {
    blob: Vec<u8>,
    memory: Option<Memory>,
}

impl Held {
    fn take(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Spawn { blob, .. } | Action::SetBlob { blob, .. } => self.blob.clone_from(blob),
                Action::Remember(_, memory) => self.memory = Some(Memory::clone(memory)),
                _ => {}
            }
        }
    }

    /// A new controller, told of the last life if there is one.
    fn next(&self, old: &World, last: Option<(u64, Option<Exit>)>, remembers: bool) -> World {
        let mut next = World::unread(config(), old.now);
        if let Some(memory) = self.memory.clone().filter(|_| remembers) {
            next.tell(Input::Remembered(name("tidy"), Box::new(memory)));
        }
        if let Some((number, exit)) = last {
            let (life, age) = (life("tidy", number), Duration::from_secs(5));
            let blob = self.blob.clone();
            next.tell(Input::Adopted(Adopted { life, pid: 101, pre_stop: false, age, exit, blob }));
        }
        next
    }
}

#[test]
fn a_new_controller_goes_on_with_the_run_and_neither_repeats_nor_forgets_it() {
    for remembers in [true, false] {
        let (mut world, mut held) = (World::new(), Held::default());
        held.take(&world.declare(job("tidy", "*/10 * * * *")));
        held.take(&until(&mut world, "11:10:00"));
        held.take(&world.spawned("tidy", 1));
        held.take(&until(&mut world, "11:10:05"));

        // While it runs.
        let mut next = held.next(&world, Some((1, None)), remembers);
        assert!(!spawned_any(&next.declare(job("tidy", "*/10 * * * *"))));
        next.tell(Input::Scanned);
        assert_eq!(next.status("tidy"), (Status::Running, None));
        assert_eq!(results(&next, "tidy"), [(Some(at("11:10:00")), RunResult::Running)]);

        // It ended while nobody looked.
        let mut next = held.next(&world, Some((1, Some(Exit::code(0)))), remembers);
        next.declare(job("tidy", "*/10 * * * *"));
        next.tell(Input::Scanned);
        assert!(!spawned_any(&next.tell(Input::Surveyed { life: life("tidy", 1), left: vec![] })));
        assert_eq!(results(&next, "tidy"), [(Some(at("11:10:00")), RunResult::Completed)]);
        assert!(spawns(&until(&mut next, "11:20:00"), "tidy", 2));
    }
}

#[test]
fn of_two_runs_that_waited_under_an_earlier_controller_the_older_is_told_as_missed() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.take(&world.declare(job("tidy", "*/10 * * * *")));
    held.take(&until(&mut world, "11:10:00"));
    let open = |id: i64, scheduled: &str| RunMemory {
        id,
        scheduled: Some(at(scheduled).as_second()),
        began: None,
        result: None,
        code: None,
        took: None,
    };
    let mut memory = held.memory.clone().expect("it remembers");
    let schedule = memory.schedule.as_mut().expect("a schedule");
    schedule.runs = vec![open(1, "11:00:00"), open(2, "11:10:00")];
    held.memory = Some(memory);
    let mut next = held.next(&world, None, true);
    let mut actions = next.declare(job("tidy", "*/10 * * * *"));
    actions.extend(next.tell(Input::Scanned));
    let missed = |action: &&Action| matches!(action, Action::Record(event) if event.reason == Reason::MissedRun);
    let told: Vec<&Action> = actions.iter().filter(missed).collect();
    assert_eq!(told.len(), 1, "{actions:?}");
    assert!(format!("{told:?}").contains("11:00:00Z was missed: the next one is due"), "{told:?}");
    assert!(spawns(&actions, "tidy", 2), "{actions:?}");
}

#[test]
fn a_run_that_is_tried_again_by_the_next_controller_began_with_its_first_try() {
    let mut flaky = job("tidy", "*/10 * * * *");
    flaky.restart.policy = RestartPolicy::OnFailure;
    for remembers in [true, false] {
        let (mut world, mut held) = (World::new(), Held::default());
        held.take(&world.declare(flaky.clone()));
        held.take(&until(&mut world, "11:10:00"));
        held.take(&world.spawned("tidy", 1));
        world.sleep(Duration::from_secs(2));
        held.take(&world.crash("tidy", 1, 3));
        held.take(&world.spawned("tidy", 2));
        world.sleep(Duration::from_secs(5));
        held.take(&world.crash("tidy", 2, 3));
        assert_eq!(world.status("tidy"), (Status::Unhealthy, Some(Reason::BackOff)));

        let mut next = held.next(&world, Some((2, Some(Exit::code(3)))), remembers);
        next.declare(flaky.clone());
        next.tell(Input::Scanned);
        next.tell(Input::Surveyed { life: life("tidy", 2), left: vec![] });
        next.sleep(Duration::from_secs(3));
        next.spawned("tidy", 3);
        next.crash("tidy", 3, 0);
        let runs = next.view("tidy").schedule.clone().expect("a job").runs;
        assert_eq!((runs.len(), runs[0].started, runs[0].result), (1, Some(at("11:10:00")), RunResult::Completed));
        assert!(runs[0].took_seconds >= Some(7.0), "{runs:?}");
    }
}

#[test]
fn what_is_over_and_told_is_not_told_again_by_the_next_controller() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.take(&world.declare(job("tidy", "*/10 * * * *")));
    held.take(&until(&mut world, "11:10:00"));
    held.take(&world.spawned("tidy", 1));
    held.take(&world.crash("tidy", 1, 0));
    let mut next = held.next(&world, Some((1, Some(Exit::code(0)))), true);
    let mut actions = next.declare(job("tidy", "*/10 * * * *"));
    actions.extend(next.tell(Input::Scanned));
    actions.extend(next.tell(Input::Surveyed { life: life("tidy", 1), left: vec![] }));
    assert!(!spawned_any(&actions) && said(&actions, Reason::Completed).is_empty());
    assert_eq!(next.status("tidy"), (Status::Waiting, Some(Reason::NextRun)));
    assert_eq!(results(&next, "tidy"), [(Some(at("11:10:00")), RunResult::Completed)]);
    assert!(spawns(&until(&mut next, "11:20:00"), "tidy", 2));
}

#[test]
fn a_run_of_a_schedule_that_is_gone_silences_nothing_of_the_next() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.take(&world.declare(job("tidy", "*/10 * * * *")));
    held.take(&until(&mut world, "11:10:00"));
    held.take(&world.spawned("tidy", 1));
    held.take(&world.crash("tidy", 1, 0));
    set_clock(&mut world, "2026-11-18T10:05:00Z");
    held.take(&world.declare(Spec { schedule: None, enabled: false, ..job("tidy", "*/10 * * * *") }));
    held.take(&world.declare(job("tidy", "*/10 * * * *")));
    let mut next = held.next(&world, Some((1, Some(Exit::code(0)))), true);
    next.declare(job("tidy", "*/10 * * * *"));
    next.tell(Input::Scanned);
    set_clock(&mut next, "2026-11-18T18:47:00Z");
    let told = said(&next.tell(Input::Awoke), Reason::MissedRun);
    assert!(
        told[0].contains(" runs from 2026-11-18T10:10:00Z on were missed; that of 2026-11-18T18:40:00Z"),
        "{told:?}"
    );
}

#[test]
fn what_fell_due_while_plugd_was_down_is_made_up_for_once_and_what_it_took_along_is_unknown() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.take(&world.declare(job("tidy", "*/10 * * * *")));
    held.take(&until(&mut world, "11:10:00"));
    held.take(&world.spawned("tidy", 1));
    set_clock(&mut world, "2026-11-18T11:45:00Z");
    let mut next = held.next(&world, None, true);
    let mut actions = next.declare(job("tidy", "*/10 * * * *"));
    actions.extend(next.tell(Input::Scanned));
    assert!(spawns(&actions, "tidy", 2));
    assert_eq!(
        results(&next, "tidy"),
        [(Some(at("11:10:00")), RunResult::Unknown), (Some(at("11:40:00")), RunResult::Waiting)]
    );
    let told = said(&actions, Reason::MissedRun);
    assert!(told.iter().any(|told| told.contains("2 runs from 2026-11-18T11:20:00Z on were missed")), "{told:?}");
}

#[test]
fn a_job_that_was_stopped_before_plugd_ended_misses_nothing() {
    let (mut world, mut held) = (World::new(), Held::default());
    held.take(&world.declare(job("tidy", "*/10 * * * *")));
    held.take(&world.order("tidy", Order::Stop));
    set_clock(&mut world, "2026-11-18T13:45:00Z");
    let mut next = held.next(&world, None, true);
    next.declare(job("tidy", "*/10 * * * *"));
    next.tell(Input::Scanned);
    assert_eq!(next.status("tidy"), (Status::Stopped, Some(Reason::StoppedByOperator)));
    let actions = next.order("tidy", Order::Start);
    assert!(said(&actions, Reason::MissedRun).is_empty());
    assert_eq!(results(&next, "tidy").len(), 1, "the one that was asked for");
}

#[test]
fn jobs_that_wait_wake_the_node_together_and_seldom() {
    let mut world = World::new();
    for number in 0..50 {
        world.declare(job(&format!("j{number}"), "0 3 * * *"));
    }
    let woken = world.wake_ups(Duration::from_secs(600));
    assert!(woken <= 21, "{woken} times in ten minutes");
}
