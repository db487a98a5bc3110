//! The node as a whole: its counts, its start-up report, and when it should end by itself.

use std::time::Duration;

use super::Controller;
use super::input::Shutdown;
use super::life::{Life, Outcome};
use super::plan::{Action, Plan};
use super::service::Service;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::text::Report;
use crate::model::time::Now;
use crate::model::view::{Event, FileProblem, NodeView, Snapshot};
use crate::policy::required::{self, Census};

/// The start-up report is given after this at latest.
const REPORT_AT_LATEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Node {
    census: Census,
    /// Services without a first verdict.
    undecided: u32,
    settled: bool,
    all_bad_since: Option<Duration>,
    /// Required services that are not ready, and since when.
    unready: std::collections::BTreeSet<(Duration, Name)>,
    /// A required service ended for good with a failure.
    fatal: Option<Name>,
}

/// What one service adds to the census.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub present: bool,
    pub required: bool,
    pub bad: bool,
    pub for_good: bool,
    pub aside: bool,
    pub over: bool,
    pub undecided: bool,
}

impl Node {
    fn count(&mut self, share: Share, sign: i64) {
        let add = |counter: &mut u32, yes: bool| {
            if yes {
                *counter = counter.saturating_add_signed(sign as i32);
            }
        };
        add(&mut self.census.total, share.present);
        add(&mut self.census.required, share.required);
        add(&mut self.census.bad, share.bad);
        add(&mut self.census.bad_for_good, share.bad && share.for_good);
        add(&mut self.census.aside, share.aside);
        add(&mut self.census.over, share.over);
        add(&mut self.undecided, share.undecided);
    }

    pub fn recount(&mut self, old: Share, new: Share) {
        if old != new {
            self.count(old, -1);
            self.count(new, 1);
        }
    }
}

impl Controller {
    /// Keeps the counts of instances that are starting, and of starts that are asked for.
    pub(super) fn retally(&mut self, service: &mut Service) {
        let count = |is_so: fn(&Life) -> bool| {
            let those = service.instances.iter().filter(|instance| is_so(&instance.life)).count();
            u32::try_from(those).unwrap_or(u32::MAX)
        };
        let (starting, asked) = (count(Life::is_starting), count(Life::is_asked));
        self.starting = self.starting + starting - service.starting;
        self.asked = self.asked + asked - service.asked;
        (service.starting, service.asked) = (starting, asked);
    }

    pub(super) fn discount(&mut self, service: &Service) {
        self.node.recount(service.share, Share::default());
        if let Some(since) = service.unready_since {
            self.node.unready.remove(&(since, service.name.clone()));
        }
        if self.node.fatal.as_ref() == Some(&service.name) {
            self.node.fatal = None;
        }
    }

    /// Follows how long a required service has not been ready.
    pub(super) fn requirement(&mut self, service: &mut Service, now: Now) {
        if service.required() {
            // Scaled to nothing is stopped by hand too.
            let at_rest = service.desired() == 0
                || match service.gate {
                    super::service::Gate::Disabled
                    | super::service::Gate::StoppedByOperator
                    | super::service::Gate::DependencyLost(_) => true,
                    super::service::Gate::Open
                    | super::service::Gate::Unknown
                    | super::service::Gate::Gone
                    | super::service::Gate::NeverValid
                    | super::service::Gate::External(_)
                    | super::service::Gate::NeedsUser
                    | super::service::Gate::Missing
                    | super::service::Gate::Waiting(_)
                    | super::service::Gate::Cycle
                    | super::service::Gate::ShuttingDown => false,
                };
            // Executed is all that `ready` means where nothing checks it: in a crash loop that counts for
            // nothing until the start has lasted.
            let checked = service.rules().is_some_and(|spec| super::decide::is_checked(spec));
            // It is ready for its next run, whatever became of the last.
            let fine = service.is_armed()
                || service.would_answer()
                || service.instances.iter().any(|instance| {
                    let steady = checked || instance.ladder.failed_starts == 0;
                    let serves = service.serves(usize::from(instance.life.is_ready()));
                    (serves && steady) || instance.life.is_completed()
                });
            if ends_for_good(service) && self.node.fatal.is_none() {
                self.node.fatal = Some(service.name.clone());
            } else if !ends_for_good(service) && self.node.fatal.as_ref() == Some(&service.name) {
                self.node.fatal = None;
            }
            if !fine && !at_rest {
                let since = *service.unready_since.get_or_insert(now.mono);
                self.node.unready.insert((since, service.name.clone()));
                return;
            }
        } else if self.node.fatal.as_ref() == Some(&service.name) {
            self.node.fatal = None;
        }
        if let Some(since) = service.unready_since.take() {
            self.node.unready.remove(&(since, service.name.clone()));
        }
    }

    /// What concerns no single service. True if services are to be visited again.
    pub(super) fn decide_node(&mut self, now: Now, plan: &mut Plan) -> bool {
        if self.ending.is_some() {
            let again = self.end_on(now, plan);
            if std::mem::take(&mut self.node_touched) && !self.is_over() {
                plan.actions.push(Action::AnnounceNode);
            }
            return again;
        }
        let all_bad = required::all_bad(&self.node.census);
        match (all_bad, self.node.all_bad_since) {
            (true, None) => self.node.all_bad_since = Some(now.mono),
            (false, Some(_)) => self.node.all_bad_since = None,
            (true, Some(_)) | (false, None) => {}
        }
        if let Some((code, why)) = self.should_end(now) {
            // An end that is a success has no cause to be told of.
            let ends_for = Some(why.clone()).filter(|_| code != 0 && !self.config.single);
            self.events.push(Event {
                at: now.wall,
                service: None,
                instance: None,
                reason: Reason::Stopped,
                // The end of the only service is no news beside its own.
                warning: code != 0 && !self.config.single,
                message: why,
            });
            self.begin_ending(Shutdown::Ordered, code, ends_for, now);
            return true;
        }
        let late = now.mono >= self.config.started.mono + REPORT_AT_LATEST;
        if !self.node.settled && ((self.scanned && self.node.undecided == 0) || late) {
            self.node.settled = true;
            self.node_touched = true;
            let report = self.report();
            self.events.push(Event {
                at: now.wall,
                service: None,
                instance: None,
                reason: Reason::StartupReport,
                warning: !report.failed.is_empty(),
                message: report.lists(),
            });
        }
        if std::mem::take(&mut self.node_touched) {
            plan.actions.push(Action::AnnounceNode);
        }
        false
    }

    fn should_end(&self, now: Now) -> Option<(i32, String)> {
        if !self.scanned || self.lost.is_some() {
            return None;
        }
        if self.config.single
            && let Some(service) = self.table.iter().next()
            && service.instances.iter().all(|instance| instance.life.is_finished())
            && !service.instances.is_empty()
        {
            return Some((last_code(service), format!("{} has ended", service.name)));
        }
        if let Some(limit) = self.config.exit_on_required {
            if let Some(service) = self.node.fatal.as_ref().and_then(|name| self.table.by_name(name)) {
                let why = format!("{} is required and has ended for good", service.name);
                return Some((failure_code(service), why));
            }
            if let Some((since, name)) = self.node.unready.first()
                && now.mono >= required::patience_ends(*since, limit)
                && let Some(service) = self.table.by_name(name)
            {
                let why = format!("{name} is required and has not been ready for {}", super::explain::span(limit));
                return Some((failure_code(service), why));
            }
            let patience = self.node.all_bad_since.map(|since| required::patience_ends(since, limit));
            if required::all_bad_for_good(&self.node.census) || patience.is_some_and(|at| now.mono >= at) {
                let worst = self.table.iter().find(|service| service.share.bad)?;
                return Some((failure_code(worst), "every service has failed or is unhealthy".into()));
            }
        }
        let may_end = self.config.pid1 || self.config.single || self.config.exit_on_required.is_some();
        if may_end && required::nothing_left(&self.node.census) {
            return Some((0, "nothing is left that runs or may run again".into()));
        }
        None
    }

    pub(super) fn node_deadline(&self) -> Option<Duration> {
        if self.ending.is_some() {
            return self.ending_deadline();
        }
        if self.ends_unread.is_some() {
            return self.ends_unread;
        }
        let report = (!self.node.settled).then(|| self.config.started.mono + REPORT_AT_LATEST);
        let limit = self.config.exit_on_required.filter(|_| self.scanned && self.lost.is_none());
        let unready = limit.and_then(|limit| Some(required::patience_ends(self.node.unready.first()?.0, limit)));
        let bad = limit.and_then(|limit| Some(required::patience_ends(self.node.all_bad_since?, limit)));
        report.into_iter().chain(unready).chain(bad).min()
    }

    /// In single mode: how the only service ended last.
    pub(super) fn single_code(&self) -> Option<i32> {
        let service = self.table.iter().next().filter(|_| self.config.single)?;
        service.instances.first()?.last_exit.as_ref()?;
        Some(last_code(service))
    }

    pub(super) fn node_view(&self) -> NodeView {
        let of_memory =
            |reason, message: &String| FileProblem { file: "state.db".into(), reason, message: message.clone() };
        let memory = self.memory.iter().map(|why| of_memory(Reason::WithoutMemory, why));
        let memory = memory.chain(self.memory_lost.iter().map(|what| of_memory(Reason::MemoryLost, what)));
        NodeView {
            settled: self.node.settled,
            directory_lost: self.lost.clone(),
            reading: !self.scanned,
            shutting_down: self.ending.is_some(),
            alone: self.config.single,
            ends_for: self.ending.as_ref().and_then(|ending| ending.why.clone()),
            problems: self.file_problems.iter().chain(&self.own_problems).cloned().chain(memory).collect(),
        }
    }

    /// The start-up triple and the summary, of the last decision.
    pub fn report(&self) -> Report {
        Report::of(&Snapshot { sequence: 0, node: self.node_view(), services: self.views() })
    }
}

/// It ended with a failure and will not be tried again by itself.
fn ends_for_good(service: &Service) -> bool {
    service.instances.iter().any(|instance| match &instance.life {
        Life::Finished(finished) => match &finished.outcome {
            Outcome::Failed(..) => true,
            Outcome::Completed => false,
        },
        Life::Idle
        | Life::Preparing(_)
        | Life::Starting(_)
        | Life::Running(_)
        | Life::Stopping(_)
        | Life::BackOff(_) => false,
    })
}

/// The code of a node that ends for its sake: a failure is never told as success.
fn failure_code(service: &Service) -> i32 {
    match last_code(service) {
        0 => 1,
        code => code,
    }
}

/// Its last exit code, 128 + signal; 1 if it never ran. A completed job's is its success: 0.
fn last_code(service: &Service) -> i32 {
    let failed = service.instances.iter().find(|instance| !instance.life.is_completed());
    let Some(instance) = failed.or(service.instances.first()) else { return 1 };
    if let Life::Finished(finished) = &instance.life {
        match &finished.outcome {
            Outcome::Failed(Reason::ProgramNotFound, _) => return 127,
            Outcome::Failed(
                Reason::PermissionDenied | Reason::NotExecutable | Reason::ExecFormat | Reason::BadInterpreter,
                _,
            ) => return 126,
            Outcome::Failed(..) | Outcome::Completed => {}
        }
    }
    match instance.last_exit.as_ref().map(|exit| (exit.code, exit.signal)) {
        Some((Some(code), _)) => code,
        Some((None, Some(signal))) => 128 + signal,
        Some((None, None)) | None => 1,
    }
}
