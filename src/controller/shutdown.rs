//! The node stops: level by level, dependents first, within one budget.
//!
//! Each level leaves 1 s for every level below it. At the budget all that is left is killed and
//! named. A second order cuts every grace to nothing; a third leaves at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Controller;
use super::input::Shutdown;
use super::plan::{Action, Plan};
use super::service::{Id, Service};
use crate::model::reason::Status;
use crate::model::time::Now;
use crate::model::view::ServiceView;
use crate::policy::depends;

/// What a level leaves for each level below it.
const LEVEL_SHARE: Duration = Duration::from_secs(1);
/// After the budget, for KILL to take effect and the last words to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A new controller that is told to end reads the directory first; where that does not answer it goes without.
const UNREAD_MAX: Duration = Duration::from_secs(1);
/// What KILL has not ended in this long (sleeping in the kernel) is left where there is no budget.
const GIVE_UP: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Ending {
    kind: Shutdown,
    /// Somebody asked for it.
    ordered: bool,
    code: i32,
    /// Why it ends by itself.
    pub why: Option<String>,
    began: Duration,
    budget: Option<Duration>,
    /// How many services of each level may still hold something.
    levels: u32,
    level: u32,
    open: BTreeMap<u32, Vec<Id>>,
    leave: bool,
    pub done: bool,
}

impl Controller {
    pub(super) fn shut_down(&mut self, kind: Shutdown, now: Now) {
        let unread = kind == Shutdown::Ordered && !self.scanned && self.ends_unread.is_none() && self.is_occupied();
        match &mut self.ending {
            Some(ending) if ending.kind == Shutdown::Now => ending.leave = true,
            // It ends by itself already: the first order is no second.
            Some(ending) if !ending.ordered && kind == Shutdown::Ordered => ending.ordered = true,
            Some(ending) => ending.kind = Shutdown::Now,
            // Who needs whom, and what runs before it is told to end, stands in manifests that were not read yet.
            None if unread => self.ends_unread = Some(now.mono + UNREAD_MAX),
            None => {
                self.ends_unread = None;
                self.begin_ending(kind, 0, None, now);
                self.ending.iter_mut().for_each(|ending| ending.ordered = true);
            }
        }
        self.node_touched = true;
        self.mark_occupied();
    }

    fn is_occupied(&self) -> bool {
        self.table.iter().any(|service| service.is_occupied())
    }

    /// The end that waited for the manifests begins.
    pub(super) fn end_what_is_read(&mut self, now: Now) {
        let Some(until) = self.ends_unread.filter(|until| self.scanned || *until <= now.mono) else { return };
        // Not the first order any more, so that it does not wait again. Its time began with the first.
        self.shut_down(Shutdown::Ordered, now);
        if let Some(ending) = &mut self.ending {
            ending.began = until.saturating_sub(UNREAD_MAX);
        }
    }

    /// Begins the end, with the code that we leave with.
    pub(super) fn begin_ending(&mut self, kind: Shutdown, code: i32, why: Option<String>, now: Now) {
        for id in self.table.ids().collect::<Vec<_>>() {
            if let Some(service) = self.table.get_mut(id) {
                service.before_the_end = service.view.as_deref().and_then(trouble);
            }
        }
        let needs: BTreeMap<Id, Vec<Id>> = self.table.ids().map(|id| (id, self.leans_on(id))).collect();
        let levels = depends::stop_levels(&needs);
        let mut open: BTreeMap<u32, Vec<Id>> = BTreeMap::new();
        for (&id, &level) in &levels {
            if let Some(service) = self.table.get_mut(id) {
                service.stop_level = level;
                if service.is_occupied() {
                    open.entry(level).or_default().push(id);
                }
            }
        }
        // Only levels that hold something count.
        let open: BTreeMap<u32, Vec<Id>> = (0..).zip(open.into_values()).collect();
        for (&level, ids) in &open {
            for &id in ids {
                if let Some(service) = self.table.get_mut(id) {
                    service.stop_level = level;
                }
            }
        }
        self.ending = Some(Ending {
            kind,
            ordered: false,
            code,
            why,
            began: now.mono,
            budget: self.config.shutdown_timeout,
            levels: u32::try_from(open.len()).unwrap_or(u32::MAX),
            level: 0,
            open,
            leave: false,
            done: false,
        });
        self.node_touched = true;
        for id in self.table.ids().collect::<Vec<_>>() {
            self.mark(id);
        }
    }

    fn mark_occupied(&mut self) {
        let ids: Vec<Id> = self.ending.iter().flat_map(|ending| ending.open.values().flatten().copied()).collect();
        for id in ids {
            self.mark(id);
        }
    }

    pub(super) fn may_stop_now(&self, service: &Service) -> bool {
        // What only waits for its next try need not wait for its turn to stop.
        !service.is_occupied()
            || self
                .ending
                .as_ref()
                .is_none_or(|ending| ending.kind == Shutdown::Now || service.stop_level <= ending.level)
    }

    /// While the node stops: the moment at which KILL follows at the latest.
    pub(super) fn grace_now(&self, service: &Service) -> Option<Duration> {
        let ending = self.ending.as_ref()?;
        match ending.kind {
            Shutdown::Now => Some(Duration::ZERO),
            Shutdown::Ordered => ending.ends_at(service.stop_level),
        }
    }

    /// Goes on to the next level, or leaves. True if something is to be visited again.
    pub(super) fn end_on(&mut self, now: Now, plan: &mut Plan) -> bool {
        let Some(ending) = &mut self.ending else { return false };
        if ending.done {
            return false;
        }
        let mut next: Vec<Id> = Vec::new();
        loop {
            let level = ending.level;
            let over = ending.level_over(now);
            let Some(ids) = ending.open.get_mut(&level) else { break };
            ids.retain(|&id| self.table.get(id).is_some_and(Service::is_occupied));
            if !ids.is_empty() && !over {
                break;
            }
            if ending.level + 1 >= ending.levels {
                break;
            }
            ending.level += 1;
            next.extend(ending.open.get(&ending.level).into_iter().flatten().copied());
        }
        let empty = ending
            .open
            .values()
            .all(|ids| ids.iter().all(|&id| self.table.get(id).is_none_or(|service| !service.is_occupied())));
        let late = ending.gives_up_at().is_some_and(|at| now.mono >= at);
        // A loop that was late may find the budget gone: KILL comes first all the same.
        let unheard = late && !empty && !ending.leave && !next.is_empty();
        if !unheard && (empty || late || ending.leave) {
            ending.done = true;
            let code = ending.code;
            let code = match self.single_code() {
                Some(last) if code == 0 => last,
                // Asked to stop before it ever ran: as a shell tells a command that TERM ended.
                None if code == 0 && self.config.single => 128 + 15,
                Some(_) | None => code,
            };
            plan.actions.push(Action::AnnounceNode);
            plan.actions.push(Action::Exit(code));
            return false;
        }
        let again = !next.is_empty();
        for id in next {
            self.mark(id);
        }
        again
    }

    pub(super) fn ending_deadline(&self) -> Option<Duration> {
        let ending = self.ending.as_ref().filter(|ending| !ending.done)?;
        ending
            .ends_at(ending.level)
            .map(|at| at + LAST_WORDS / 2)
            .filter(|_| ending.level + 1 < ending.levels)
            .into_iter()
            .chain(ending.gives_up_at())
            .min()
    }

    pub(super) fn is_over(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.done)
    }
}

/// What was wrong with a service when the end began: `stopped` alone would hide it.
fn trouble(view: &ServiceView) -> Option<String> {
    let word = match view.reason {
        Some(reason) => format!("{} ({reason})", view.status),
        None => view.status.to_string(),
    };
    let wrong = match view.status {
        Status::Failed | Status::Unhealthy | Status::Degraded | Status::Starting | Status::Waiting => true,
        Status::Running
        | Status::Healthy
        | Status::Stopping
        | Status::Stopped
        | Status::Skipped
        | Status::Completed => false,
    };
    let why = view.why.first().filter(|why| !why.is_empty());
    wrong.then(|| why.map_or_else(|| format!("it was {word}"), |why| format!("it was {word}: {why}")))
}

impl Ending {
    /// When the last of a level is killed, so that those below have their second.
    fn ends_at(&self, level: u32) -> Option<Duration> {
        let below = self.levels.saturating_sub(level + 1);
        let end = self.began + self.budget?;
        Some(end.saturating_sub(LEVEL_SHARE * below).max(self.began))
    }

    /// KILL has had its time too.
    fn level_over(&self, now: Now) -> bool {
        self.ends_at(self.level).is_some_and(|at| now.mono >= at + LAST_WORDS / 2)
    }

    fn gives_up_at(&self) -> Option<Duration> {
        match (self.kind, self.budget) {
            (_, Some(budget)) => Some(self.began + budget + LAST_WORDS),
            (Shutdown::Now, None) => Some(self.began + GIVE_UP),
            (Shutdown::Ordered, None) => None,
        }
    }
}
