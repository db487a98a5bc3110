//! A service that is restarted by its `watchFiles` just after each of its starts: most likely it writes itself what it
//! has watched. From the third such edit in a row on its next restart waits, as long as its own ladder says.

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

/// Edits of watched files.
#[derive(Debug, Default)]
pub(super) struct Churn {
    /// So many in a row came just after a start.
    times: u32,
    /// Until then the last one waits.
    until: Option<Duration>,
    until_wall: jiff::Timestamp,
    files: String,
}

impl Churn {
    /// When what was edited is taken up; none where that is now.
    pub fn held(&self, now: Now) -> Option<Duration> {
        self.until.filter(|until| now.mono < *until)
    }
}

impl Service {
    /// `files`: watched ones were edited, and nothing else.
    pub fn note_edit(&mut self, files: Option<&str>, now: Now, random: &mut Random) {
        let Some(files) = files else {
            self.churn = Churn::default();
            return;
        };
        if self.churn.held(now).is_some() {
            return;
        }
        let begins = |one: &Instance| match &one.life {
            Life::Running(running) => now.mono.saturating_sub(running.spawned) < AT_ONCE,
            Life::Preparing(_) | Life::Starting(_) => true,
            Life::Idle | Life::Stopping(_) | Life::BackOff(_) | Life::Finished(_) => false,
        };
        if !self.instances.iter().any(begins) {
            self.churn = Churn::default();
            return;
        }
        let times = self.churn.times.saturating_add(1);
        let rule = self.spec().map(|spec| spec.restart.backoff.clone());
        let wait = rule.filter(|_| times > FREE).map(|rule| {
            let delay = backoff::delay(&rule, times - FREE);
            backoff::shortened(delay, rule.jitter, random.unit())
        });
        let until = wait.map(|wait| now.mono + wait);
        let until_wall = until.map_or(now.wall, |until| now.wall_at(until));
        self.churn = Churn { times, until, until_wall, files: files.into() };
    }

    /// What is said while a restart waits.
    pub fn churns(&self, now: Now) -> Option<String> {
        let churn = &self.churn;
        churn.held(now).filter(|_| self.is_outdated())?;
        Some(format!(
            "{}, {} times in a row within {} after a start: what a service writes itself does not belong into its \
             `watchFiles`; restarted for it at {}",
            churn.files,
            churn.times,
            explain::span(AT_ONCE),
            explain::moment(churn.until_wall)
        ))
    }
}
