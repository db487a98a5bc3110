//! Jobs that run by the clock: when something is due, it is called.
//!
//! What is due is judged by `policy/agenda.rs`; what becomes of a run that is called stands in `runs.rs`.
//! A run by hand and a run that fails move no scheduled time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Controller;
use super::explain;
use super::runs::{may_run_by_hand, seat};
use super::service::{Gate, Id, Service};
use crate::model::reason::Reason;
use crate::model::spec::{Concurrency, Schedule, Spec};
use crate::model::time::Now;
use crate::policy::agenda::{Due, Look, MISSED_COUNTED};
use crate::policy::calendar::Calendar;
use crate::policy::wake;

/// The wall clock is looked at so often at least: nobody tells when it is set.
const RELOOK: Duration = Duration::from_secs(30);
/// Clocks that part by less are disciplined, not set; a run is at most so much late for it.
const PARTED: SignedDuration = SignedDuration::from_millis(500);
/// A run that begins later than this was missed and is made up for.
const LATE: Duration = Duration::from_secs(60);

/// What of its schedule a service may do now.
pub(super) enum Standing {
    /// Nothing is known.
    Unread,
    /// It is not meant to run.
    Paused,
    Ending,
    Awake,
}

fn standing(gate: &Gate) -> Standing {
    match gate {
        Gate::Unknown | Gate::Gone | Gate::NeverValid => Standing::Unread,
        Gate::Disabled | Gate::StoppedByOperator | Gate::DependencyLost(_) | Gate::External(_) => Standing::Paused,
        Gate::ShuttingDown => Standing::Ending,
        Gate::Open | Gate::NeedsUser | Gate::Missing | Gate::Waiting(_) | Gate::Cycle => Standing::Awake,
    }
}

/// How the two clocks go together.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// What the wall clock showed when the monotonic one began, as of the last time they parted.
    origin: Option<Timestamp>,
    /// When they are compared next.
    relook: Duration,
    /// Who keeps a schedule.
    keepers: BTreeSet<Id>,
}

impl Clocks {
    pub fn keeps(&mut self, id: Id, schedule: bool) {
        if schedule {
            self.keepers.insert(id);
        } else {
            self.keepers.remove(&id);
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        (!self.keepers.is_empty()).then_some(self.relook)
    }
}

impl Controller {
    /// A wall clock that was set concerns everybody who goes by it.
    pub(super) fn compare_clocks(&mut self, now: Now) {
        if now.mono >= self.clocks.relook {
            self.clocks.relook = wake::gathered(now.mono + Duration::from_millis(1), RELOOK);
        }
        let origin = now.wall_at(Duration::ZERO);
        if self.clocks.origin.is_none_or(|before| origin.duration_since(before).abs() >= PARTED) {
            self.clocks.origin = Some(origin);
            for id in self.clocks.keepers.iter().copied().collect::<Vec<_>>() {
                self.mark(id);
            }
            self.tell_waits_anew(now);
        }
    }

    /// What is over is told, what is due is called; gives the moment to look again.
    pub(super) fn follow_schedule(&mut self, service: &mut Service, now: Now) -> Option<Duration> {
        let spec: Arc<Spec> = service.rules().cloned()?;
        let Some(schedule) = &spec.schedule else {
            if !service.agenda.is_empty() {
                service.forget_schedule();
            }
            return None;
        };
        let standing = standing(&service.gate);
        if let Standing::Unread = standing {
            return None;
        }
        self.close_runs(service, schedule, &standing, now);
        match standing {
            Standing::Unread | Standing::Ending => {
                service.touched |= service.agenda.look.take().is_some();
                return None;
            }
            Standing::Paused => {
                self.take_up_found(service, now);
                let agenda = &mut service.agenda;
                service.touched |= agenda.look.take().is_some();
                (agenda.paused, agenda.asked, agenda.waiting) = (true, false, None);
                return None;
            }
            Standing::Awake => {}
        }
        self.begin_schedule(service, schedule, now);
        self.take_up_found(service, now);
        let calendar = Calendar::of(schedule);
        while let Some(due) = self.look(service, &calendar, now).due {
            service.agenda.dealt.deal(due);
            service.agenda.look = None;
            self.due(service, schedule, due, now);
        }
        if std::mem::take(&mut service.agenda.asked) && may_run_by_hand(service, schedule) {
            self.call(service, schedule, None, now);
        }
        let expires = self.expire(service, schedule, now);
        if service.agenda.waiting.is_some() && schedule.concurrency_policy != Concurrency::Allow {
            self.give_way(service, now);
        }
        seat(service, schedule);
        let next = service.agenda.next().map(|next| until(next, now));
        next.into_iter().chain(expires).min()
    }

    /// A schedule that is new, was edited or was not followed for a while begins now.
    fn begin_schedule(&mut self, service: &mut Service, schedule: &Schedule, now: Now) {
        let of = format!("{} {}", schedule.cron, schedule.time_zone);
        let agenda = &mut service.agenda;
        let anew = agenda.dealt.is_new_at(now.wall);
        // Without memory the keeper's lives tell how far it had come.
        if agenda.of.is_empty() && !anew {
            agenda.of.clone_from(&of);
        }
        if agenda.of == of && !agenda.paused && !anew {
            return;
        }
        let set_back = agenda.of == of && !agenda.paused && !agenda.dealt.stretches().is_empty();
        agenda.dealt.begin(now.wall);
        (agenda.of, agenda.paused, agenda.look) = (of, false, None);
        service.touched = true;
        if set_back {
            let message = "the clock was set back to before its schedule began; it begins anew".to_string();
            self.tell(service, Reason::ClockSetBack, message, now);
        }
    }

    /// What the clock asks for; told when it was set back.
    fn look(&mut self, service: &mut Service, calendar: &Calendar<'_>, now: Now) -> Look {
        let agenda = &mut service.agenda;
        if let Some((at, look)) = &agenda.look
            && *at <= now.wall
            && look.done_until.is_none()
            && look.next.is_none_or(|next| now.wall < next)
        {
            return *look;
        }
        let before = agenda.look.as_ref().map(|(_, look)| *look);
        let look = agenda.dealt.look(calendar, now.wall);
        agenda.look = Some((now.wall, look));
        service.touched |= before != Some(look);
        let news = before.is_none_or(|before| before.done_until.is_none());
        if let Some(until) = look.done_until.filter(|_| news && before.is_some()) {
            let next = look.next.map_or(String::new(), |next| format!("; the next is at {}", explain::moment(next)));
            let message = format!(
                "the clock was set back: what is scheduled until {} has been dealt with{next}",
                explain::moment(until)
            );
            self.tell(service, Reason::ClockSetBack, message, now);
        }
        look
    }

    fn due(&mut self, service: &mut Service, schedule: &Schedule, due: Due, now: Now) {
        let Due { at, missed } = due;
        let late = Duration::try_from(now.wall.duration_since(at)).unwrap_or_default();
        let deadline = schedule.starting_deadline.filter(|deadline| late >= *deadline);
        let told = explain::moment(at);
        let before = missed.map(|(first, count)| {
            let many = if count > MISSED_COUNTED { format!("more than {MISSED_COUNTED}") } else { count.to_string() };
            let runs = if count == 1 { "run" } else { "runs" };
            format!("{many} {runs} from {} on", explain::moment(first))
        });
        let ago = explain::span(late);
        let message = match (before, deadline) {
            (Some(before), None) => Some(format!("{before} were missed; that of {told} is made up for, {ago} late")),
            (None, None) if late > LATE => Some(format!("the run of {told} was missed and is made up for, {ago} late")),
            (None, None) => None,
            (before, Some(deadline)) => {
                let may = explain::span(deadline);
                let were = before
                    .map_or(format!("the run of {told} was"), |before| format!("{before} and that of {told} were"));
                Some(format!("{were} missed: that was {ago} ago, and a run may be {may} late"))
            }
        };
        if let Some(message) = message {
            self.tell(service, Reason::MissedRun, message, now);
        }
        if deadline.is_none() {
            self.call(service, schedule, Some(at), now);
        }
    }

    pub(super) fn tell(&mut self, service: &mut Service, reason: Reason, message: String, now: Now) {
        service.touched = true;
        self.events.push(super::event_of(service, reason, true, message, now));
    }
}

/// The moment on the monotonic clock at which the wall clock shows this, if nobody sets it.
pub(super) fn until(at: Timestamp, now: Now) -> Duration {
    now.mono + Duration::try_from(at.duration_since(now.wall)).unwrap_or_default()
}
