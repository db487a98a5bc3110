//! What a service keeps for its schedule: its runs, and how far the schedule has come.
//!
//! Data and how it is remembered and told; what happens to it stands in `job.rs` and `runs.rs`.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use jiff::Timestamp;

use super::blob::Mark;
use super::input::{RunMemory, ScheduleMemory};
use super::life::Life;
use super::service::Service;
use crate::model::spec::Schedule;
use crate::model::time::Now;
use crate::model::view::{RunResult, RunView, ScheduleView};
use crate::policy::agenda::{Dealt, Look};

/// One run, from its call to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The moment of its call in microseconds; no two are the same.
    pub id: i64,
    /// None: by hand.
    pub scheduled: Option<Timestamp>,
    /// When its first process was spawned, on both clocks.
    pub began: Option<(Timestamp, Duration)>,
    /// It ends before its time, and as what: the next one waits for its place, or it was stopped and the schedule goes on.
    pub given_up: Option<RunResult>,
}

/// What a service keeps for its schedule.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Expression and zone that the rest is of.
    pub of: String,
    pub dealt: Dealt,
    /// It was not meant to run: what fell due meanwhile was not missed.
    pub paused: bool,
    /// Called, and without a place yet.
    pub waiting: Option<Run>,
    /// `plugd start`.
    pub asked: bool,
    /// Runs that are over, the newest last.
    pub over: VecDeque<RunMemory>,
    pub last_id: i64,
    pub last_success: Option<Timestamp>,
    /// Why the last run that came to an end of its own failed.
    pub failed: Option<String>,
    /// Open runs of an earlier controller that no life has claimed.
    pub found: Vec<RunMemory>,
    /// Runs that an earlier controller has told as over, of which the keeper may still hold a life.
    told: Vec<i64>,
    /// The last look at the clock, and when it was.
    pub look: Option<(Timestamp, Look)>,
}

/// Most services keep no schedule, and its place costs them a pointer.
#[derive(Debug, Default)]
pub(super) struct Place(Option<Box<Agenda>>);

static NOTHING: Agenda = Agenda {
    of: String::new(),
    dealt: Dealt::new(),
    paused: false,
    waiting: None,
    asked: false,
    over: VecDeque::new(),
    last_id: 0,
    last_success: None,
    failed: None,
    found: Vec::new(),
    told: Vec::new(),
    look: None,
};

impl Deref for Place {
    type Target = Agenda;

    fn deref(&self) -> &Agenda {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut Agenda {
        self.0.get_or_insert_default()
    }
}

impl Place {
    pub fn of_memory(memory: Option<&ScheduleMemory>) -> Place {
        Place(memory.map(|memory| Box::new(Agenda::of_memory(memory))))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Agenda {
    fn of_memory(memory: &ScheduleMemory) -> Agenda {
        let (found, over): (Vec<RunMemory>, Vec<RunMemory>) =
            memory.runs.iter().cloned().partition(|run: &RunMemory| run.result.is_none());
        Agenda {
            of: memory.of.clone(),
            dealt: Dealt::of(&memory.dealt),
            paused: memory.paused,
            over: over.into(),
            last_id: memory.runs.iter().map(|run| run.id).max().unwrap_or(0),
            told: memory.told.clone(),
            last_success: memory.last_success.and_then(|at| Timestamp::from_microsecond(at).ok()),
            failed: memory.failed.clone(),
            found,
            ..Agenda::default()
        }
    }

    /// The run that a life of the keeper's list belongs to, which was spawned then; an error if it is over and has
    /// been told.
    pub fn claim(&mut self, mark: &Mark, spawned: (Timestamp, Duration)) -> Result<Run, i64> {
        self.last_id = self.last_id.max(mark.id);
        self.found.retain(|run| run.id != mark.id);
        // Memory knows of what was told, and of a schedule that has begun anew since then.
        if self.told.contains(&mark.id) {
            return Err(mark.id);
        }
        let scheduled = mark.scheduled.and_then(|at| Timestamp::from_second(at).ok());
        if let Some(at) = scheduled {
            self.dealt.cover(at);
        }
        let began = mark.began.and_then(|at| Timestamp::from_microsecond(at).ok()).map(|at| {
            let before = Duration::try_from(spawned.0.duration_since(at)).unwrap_or_default();
            (at, spawned.1.saturating_sub(before))
        });
        Ok(Run { id: mark.id, scheduled, began, given_up: None })
    }

    pub fn next(&self) -> Option<Timestamp> {
        self.look.as_ref().and_then(|(_, look)| look.next)
    }

    pub fn done_until(&self) -> Option<Timestamp> {
        self.look.as_ref().and_then(|(_, look)| look.done_until)
    }

    pub fn has_succeeded(&self) -> bool {
        self.last_success.is_some()
    }

    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    pub fn note_over(&mut self, run: RunMemory, limit: u32) {
        self.over.push_back(run);
        self.keep(limit);
    }

    /// True if there was more than is kept.
    pub fn keep(&mut self, limit: u32) -> bool {
        let more = self.over.len().saturating_sub(limit as usize);
        self.over.drain(..more);
        more > 0
    }

    pub fn new_id(&mut self, now: Now) -> i64 {
        self.last_id = self.last_id.saturating_add(1).max(now.wall.as_microsecond());
        self.last_id
    }
}

impl Service {
    /// Of the version in force: an edit makes a job of it once it has been tried.
    pub fn schedule(&self) -> Option<&Schedule> {
        self.rules().and_then(|spec| spec.schedule.as_ref())
    }

    /// Runs that are called and not over.
    pub fn runs(&self) -> impl Iterator<Item = &Run> + '_ {
        self.instances.iter().filter_map(|instance| instance.run.as_ref()).chain(&self.agenda.waiting)
    }

    /// Its schedule is followed, and what it waits for meanwhile does not matter before a run is due.
    pub fn keeps_schedule(&self) -> bool {
        self.gate.lets_begin() && self.schedule().is_some()
    }

    /// It waits for its next run.
    pub fn is_armed(&self) -> bool {
        self.keeps_schedule() && self.runs().next().is_none() && !self.is_occupied()
    }

    /// It will run again by itself.
    pub fn has_a_future(&self) -> bool {
        self.schedule().is_some() && self.agenda.next().is_some()
    }

    pub fn remember_schedule(&self) -> Option<Box<ScheduleMemory>> {
        let agenda = &self.agenda;
        let told: Vec<i64> = self.instances.iter().filter_map(|instance| instance.told).collect();
        if agenda.of.is_empty() && agenda.over.is_empty() && agenda.found.is_empty() && told.is_empty() {
            return None;
        }
        let open = self.runs().map(|run| RunMemory {
            id: run.id,
            scheduled: run.scheduled.map(Timestamp::as_second),
            began: run.began.map(|(wall, _)| wall.as_microsecond()),
            ..RunMemory::default()
        });
        Some(Box::new(ScheduleMemory {
            of: agenda.of.clone(),
            paused: agenda.paused,
            dealt: agenda.dealt.stretches().to_vec(),
            runs: agenda.over.iter().cloned().chain(agenda.found.iter().cloned()).chain(open).collect(),
            told,
            last_success: agenda.last_success.map(Timestamp::as_microsecond),
            failed: agenda.failed.clone(),
        }))
    }

    pub fn schedule_view(&self) -> Option<Box<ScheduleView>> {
        let schedule = self.schedule()?;
        let agenda = &self.agenda;
        let over = agenda.over.iter().map(RunMemory::view);
        let open = self.runs().map(|run| RunView {
            scheduled: run.scheduled,
            started: run.began.map(|(wall, _)| wall),
            result: if run.began.is_some() { RunResult::Running } else { RunResult::Waiting },
            code: None,
            took_seconds: None,
        });
        // Several at a time lie where there was a place for them.
        let mut open: Vec<RunView> = open.collect();
        open.sort_by_key(|run| (run.started.is_none(), run.started));
        Some(Box::new(ScheduleView {
            cron: schedule.cron.to_string(),
            time_zone: schedule.time_zone.to_string(),
            next_run: agenda.next(),
            last_success: agenda.last_success,
            runs: over.chain(open).collect(),
        }))
    }

    /// The schedule is gone, or the service is a new one of an old name.
    pub fn forget_schedule(&mut self) {
        self.agenda = Place::default();
        for instance in &mut self.instances {
            let Some(run) = instance.run.take() else { continue };
            instance.told = Some(run.id);
            if let Life::Running(running) = &mut instance.life {
                // The keeper is told that it carries out no run.
                running.untold = true;
            }
        }
    }
}

impl RunMemory {
    pub fn view(&self) -> RunView {
        RunView {
            scheduled: self.scheduled.and_then(|at| Timestamp::from_second(at).ok()),
            started: self.began.and_then(|at| Timestamp::from_microsecond(at).ok()),
            result: self.result.unwrap_or(RunResult::Unknown),
            code: self.code,
            took_seconds: self.took.map(|took| took.as_millis() as f64 / 1000.0),
        }
    }
}
