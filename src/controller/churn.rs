//! A service that is edited just after each of its starts, in files that are not its manifest: most likely it writes
//! itself what it has watched, its env file or its own script.
//!
//! From the third such edit in a row on none of them is a new beginning: what runs is replaced, and what waits is tried
//! again, only after a wait that grows; what ends goes on its ladder, and what ran to its end does not run again. The row
//! ends with an edit of the manifest, with an order, or with an edit that comes long after its last start and end.

use std::time::Duration;

use super::end::AT_ONCE;
use super::explain;
use super::life::Life;
use super::service::{Instance, Service};
use crate::model::time::Now;
use crate::policy::backoff;
use crate::policy::random::Random;

/// As often as a person saves twice because of a slip of the pen.
const FREE: u32 = 2;
/// Also where a manifest wants no wait at all.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Edits in a row.
#[derive(Debug, Default)]
pub(super) struct Churn {
    times: u32,
    /// The last one waits.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    until: Duration,
    until_wall: jiff::Timestamp,
    /// `conf/x was edited`.
    what: String,
}

impl Churn {
    /// When what was edited is taken up; none where that is now.
    pub fn held(&self, now: Now) -> Option<Duration> {
        self.held.as_ref().map(|held| held.until).filter(|until| now.mono < *until)
    }

    /// What waited runs.
    pub fn take_up(&mut self) {
        self.held = None;
    }

    /// An edit is no new beginning.
    pub fn is_row(&self) -> bool {
        self.times > FREE
    }
}

/// It has begun or ended a moment ago, or is about to.
fn is_young(one: &Instance, now: Now) -> bool {
    let began = one.last_try.into_iter().chain(one.life.running().map(|running| running.spawned)).max();
    let ended = one.last_exit.as_ref().map(|exit| now.wall.as_microsecond().saturating_sub(exit.at));
    began.is_some_and(|began| now.mono < began + AT_ONCE)
        || ended.is_some_and(|ago| u128::try_from(ago).is_ok_and(|ago| ago < AT_ONCE.as_micros()))
        || matches!(one.life, Life::Stopping(_))
}

impl Service {
    /// An edit. `what`: of a file that is not its manifest. `waits`: one of before is still to be taken up.
    pub fn note_edit(&mut self, what: Option<&str>, waits: bool, now: Now, random: &mut Random) {
        let Some(what) = what else {
            self.churn = Churn::default();
            return;
        };
        if self.churn.held(now).is_some() || (waits && self.churn.is_row()) {
            return;
        }
        if !self.instances.iter().any(|one| is_young(one, now)) {
            self.churn = Churn::default();
            return;
        }
        self.churn.times = self.churn.times.saturating_add(1);
        self.churn.held = self.rules().filter(|_| self.churn.is_row()).map(|spec| {
            let rule = &spec.restart.backoff;
            let delay = backoff::delay(rule, self.churn.times - FREE);
            let until = now.mono + backoff::shortened(delay, rule.jitter, random.unit()).max(WAIT_MIN);
            Held { until, until_wall: now.wall_at(until), what: what.into() }
        });
        let Some(Held { until, until_wall, .. }) = &self.churn.held else { return };
        for instance in &mut self.instances {
            if let Life::BackOff(wait) = &mut instance.life
                && *until < wait.until
            {
                (wait.until, wait.until_wall) = (*until, *until_wall);
            }
        }
    }

    /// What is said while an edit waits.
    pub fn churns(&self, now: Now) -> Option<String> {
        let Churn { times, held } = &self.churn;
        let held = held.as_ref()?;
        let print = self.next().map(|made| made.print);
        let is_old = |life: &Life| matches!(life, Life::Finished(finished) if Some(finished.print) != print);
        let stays = self.instances.iter().any(|one| one.life.is_completed() && is_old(&one.life));
        let waits = |one: &Instance| matches!(one.life, Life::BackOff(_)) || is_old(&one.life);
        let is_open = self.is_outdated() || self.instances.iter().any(waits);
        let then = match (stays, is_open && now.mono < held.until) {
            (true, _) => format!("`plugd start {}` runs it again", self.name),
            (false, true) => format!("restarted for it not before {}", explain::moment(held.until_wall)),
            (false, false) => return None,
        };
        let within = explain::span(AT_ONCE);
        Some(format!(
            "{}, {times} times in a row within {within} of its start or end: what a service writes itself does not belong \
             into its `watchFiles`, `envFrom` or script; {then}",
            held.what
        ))
    }
}
