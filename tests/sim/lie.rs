//! Deliberately broken worlds: for each law a lie that makes the brain, or what stands for it, break
//! it. A law that no lie can break would prove nothing.

use std::sync::Arc;
use std::time::Duration;

use plugd::controller::testing::{declare, name};
use plugd::controller::*;
use plugd::model::cron::Cron;
use plugd::model::spec::{Readiness, Spec};

use crate::stimulus::{self, STIMULI};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Law 1: a survey finds nothing, whatever is left.
    NothingIsLeft,
    /// Law 1: hooks are not killed.
    HooksRunOn,
    /// Law 2: services without a check are said to have one that passes at once.
    ReadyAtOnce,
    /// Law 3: before the end the brain is told that nobody needs anybody.
    NobodyNeedsAnybody,
    /// Law 4: the brain is told of another back-off than the manifest's.
    NoBackOff,
    LongBackOff,
    /// Law 5: something is told between two decisions.
    NeverQuiet,
    /// Law 6: the last edits are swallowed.
    DeafToEdits,
    /// Law 7: a status is not written.
    Unannounced,
    /// Law 8.
    Panics,
    /// Law 9: a refused spawn is told as a process.
    GhostProcess,
    /// Law 10: a bad edit is told as a deleted file.
    BadEditIsDeletion,
    /// Law 10: a directory that is lost is told as an empty one.
    LostIsEmpty,
    /// The clock: a new controller is told nothing of runs.
    ForgetsRuns,
    /// The clock: the brain is told of another schedule than the manifest's.
    AnotherSchedule,
    /// Law 6: nobody is told to be at a door.
    DeafToCallers,
    /// Of demand: somebody is told to be at every door.
    AlwaysCalled,
    /// Of demand: a new controller is told that all were called for.
    WakesAll,
    /// Law 10: who is connected is not told.
    NobodyIsConnected,
    /// The required: the brain is told that nothing is.
    NothingIsRequired,
    /// Of checks: what the brain plans for a life that ends has a check besides.
    AsksOn,
}

impl Lie {
    /// What the brain hears instead.
    pub fn told(self, input: Input, ending: bool) -> Input {
        match (self, input) {
            (Lie::NothingIsLeft, Input::Surveyed { life, .. }) => Input::Surveyed { life, left: Vec::new() },
            (Lie::ReadyAtOnce, Input::Declared(declaration)) => {
                respec(declaration, |spec| spec.readiness = Readiness::AtExec)
            }
            (Lie::NobodyNeedsAnybody, Input::Declared(declaration)) if ending => {
                respec(declaration, |spec| spec.depends_on.clear())
            }
            (Lie::NoBackOff, Input::Declared(declaration)) => respec(declaration, |spec| {
                spec.restart.backoff.initial = Duration::ZERO;
                spec.restart.backoff.max = Duration::ZERO;
            }),
            (Lie::LongBackOff, Input::Declared(declaration)) => respec(declaration, |spec| {
                spec.restart.backoff.initial = Duration::from_secs(30);
            }),
            (Lie::GhostProcess, Input::SpawnFailed { life, .. }) => Input::Spawned { life, pid: 7, start_time: 1 },
            (Lie::BadEditIsDeletion, Input::Rejected(rejection)) => Input::Withdrawn(rejection.name),
            (Lie::LostIsEmpty, Input::DirectoryLost(_)) => Input::Withdrawn(name("s0")),
            (Lie::AnotherSchedule, Input::Declared(declaration)) => respec(declaration, |spec| {
                if let Some(schedule) = &mut spec.schedule {
                    schedule.cron = Cron::parse("0 0 1 1 *").expect("a schedule");
                }
            }),
            (Lie::NothingIsRequired, Input::Declared(declaration)) => respec(declaration, |spec| spec.required = false),
            (Lie::DeafToCallers, Input::Demand { name, .. }) => {
                Input::Demand { name, demand: Demand::default(), sent_away: 0 }
            }
            (Lie::AlwaysCalled, Input::Demand { name, .. }) => {
                let demand = Demand { waiting: true, connected: false, block: None };
                Input::Demand { name, demand, sent_away: 0 }
            }
            (Lie::NobodyIsConnected, Input::Demand { name, demand, sent_away }) => {
                Input::Demand { name, demand: Demand { connected: false, ..demand }, sent_away }
            }
            (_, input) => input,
        }
    }
}

/// The same declaration, of another meaning, with the process that the directory declares.
fn respec(declaration: Declaration, change: impl FnOnce(&mut Spec)) -> Input {
    let mut spec = (*declaration.spec).clone();
    let print = spec.process_digest;
    change(&mut spec);
    let mut told = declare(spec);
    let mut spec = (*told.spec).clone();
    spec.process_digest = print;
    told.spec = Arc::new(spec);
    Input::Declared(Declaration { program: declaration.program, ..told })
}

/// Seeds in which a lie has to be found out.
const SEEDS: u64 = 400;
/// A failure is shrunk to no more than this.
const FEW: usize = 20;

fn found_out(lie: Lie, law: &str) {
    for seed in 0..SEEDS {
        let stimuli = stimulus::plan(seed, STIMULI);
        let Err(said) = crate::play(seed, &stimuli, Some(lie)) else { continue };
        // A lie may lead to worse before it breaks the law that it is about.
        if !said.starts_with(&format!("{law}:")) {
            continue;
        }
        let few = crate::shrink(seed, stimuli, Some(lie));
        assert!(few.len() <= FEW, "seed {seed}: {} stimuli are left of {lie:?}", few.len());
        return;
    }
    panic!("nobody finds out that {lie:?}");
}

#[test]
fn a_life_that_begins_among_the_remains_of_another_breaks_law_1() {
    found_out(Lie::NothingIsLeft, "law 1");
}

#[test]
fn a_cancelled_hook_that_runs_on_breaks_law_1() {
    found_out(Lie::HooksRunOn, "law 1");
}

#[test]
fn a_start_before_what_it_waits_for_is_ready_breaks_law_2() {
    found_out(Lie::ReadyAtOnce, "law 2");
}

#[test]
fn a_stop_in_the_wrong_order_breaks_law_3() {
    found_out(Lie::NobodyNeedsAnybody, "law 3");
}

#[test]
fn a_restart_without_its_delay_breaks_law_4() {
    found_out(Lie::NoBackOff, "law 4");
}

#[test]
fn a_delay_beyond_its_promise_breaks_law_4() {
    found_out(Lie::LongBackOff, "law 4");
}

#[test]
fn a_decision_without_news_breaks_law_5() {
    found_out(Lie::NeverQuiet, "law 5");
}

#[test]
fn an_edit_that_is_not_taken_up_breaks_law_6() {
    found_out(Lie::DeafToEdits, "law 6");
}

#[test]
fn a_status_that_is_not_told_breaks_law_7() {
    found_out(Lie::Unannounced, "law 7");
}

#[test]
fn a_panic_breaks_law_8() {
    found_out(Lie::Panics, "law 8");
}

#[test]
fn a_process_that_nobody_saw_breaks_law_9() {
    found_out(Lie::GhostProcess, "law 9");
}

#[test]
fn a_bad_edit_that_stops_a_service_breaks_law_10() {
    found_out(Lie::BadEditIsDeletion, "law 10");
}

#[test]
fn a_lost_directory_that_stops_a_service_breaks_law_10() {
    found_out(Lie::LostIsEmpty, "law 10");
}

#[test]
fn a_caller_whom_nobody_hears_breaks_law_6() {
    found_out(Lie::DeafToCallers, "law 6");
}

#[test]
fn a_start_that_nobody_asked_for_breaks_the_law_of_demand() {
    found_out(Lie::AlwaysCalled, "law of demand");
}

#[test]
fn a_stop_under_an_open_connection_breaks_law_10() {
    found_out(Lie::NobodyIsConnected, "law 10");
}

#[test]
fn a_required_service_that_is_forgotten_breaks_the_law_of_the_required() {
    found_out(Lie::NothingIsRequired, "law of the required");
}

#[test]
fn a_check_of_a_life_that_is_being_stopped_breaks_the_law_of_checks() {
    found_out(Lie::AsksOn, "law of checks");
}

#[test]
fn a_run_that_is_forgotten_and_runs_once_more_breaks_the_law_of_the_clock() {
    found_out(Lie::ForgetsRuns, "law of the clock");
}

#[test]
fn a_time_that_passes_without_a_run_and_without_a_word_breaks_the_law_of_the_clock() {
    found_out(Lie::AnotherSchedule, "law of the clock");
}

#[test]
fn a_new_controller_that_wakes_what_slept_breaks_the_law_of_demand() {
    found_out(Lie::WakesAll, "law of demand");
}
