//! What the loop sees of services, as samples for the memory: verdicts, changes of state, exits.
//!
//! Nothing here waits for a disk: buckets are summed in memory and handed to the store once a minute.

use super::Node;
use crate::controller::{Input, ProbeSlot};
use crate::edge::store::{Checked, Sample};
use crate::model::name::LifeId;
use crate::model::reason::Status;
use crate::model::spec::Check;
use crate::model::time::Now;
use crate::model::view::ServiceView;

impl Node {
    /// A fact that is about to be absorbed.
    pub(super) fn observe(&mut self, input: &Input) {
        let (life, found) = match input {
            // How often a service was asked until it had started tells nothing of how it is.
            Input::Verdict { probe: ProbeSlot::Startup, .. } => return,
            Input::Verdict { life, verdict, .. } if verdict.passed => {
                (life, Checked::Passed(Some(verdict.took).filter(|took| !took.is_zero())))
            }
            Input::Verdict { life, .. } if self.starts(life) => return,
            Input::Verdict { life, .. } => (life, Checked::Failed),
            Input::LogLine { life, pattern } => {
                let judged = self.lives.get(life).and_then(|live| live.spec.readiness.probe());
                if judged.is_none_or(|probe| probe.check != Check::LogLine(pattern.clone())) {
                    return;
                }
                (life, Checked::Passed(None))
            }
            _ => return,
        };
        self.samples.checked(&life.instance.service, found);
    }

    /// It has not been ready yet.
    fn starts(&self, life: &LifeId) -> bool {
        let Some(view) = self.publisher.view(&life.instance.service) else { return true };
        let name = life.instance.to_string();
        let instance = view.instances.iter().find(|known| known.name == name || view.instances.len() == 1);
        instance.is_none_or(|instance| instance.status == Status::Starting)
    }

    /// A view that is announced.
    pub(super) fn observed(&mut self, view: &ServiceView, now: Now) {
        match expects_nothing(view) || self.controller.is_job(&view.service) {
            true => self.samples.rest(&view.service, now),
            false => self.samples.take(sample(view, now)),
        }
        if let Some(count) = self.samples.restarts(&view.service, view.restarts, now) {
            self.store.counted(view.service.clone(), count);
        }
    }

    /// Hands over what was gathered: a minute is over, somebody asks, or this is the end.
    pub(super) fn hand_over_samples(&mut self, now: Now) {
        if let Some(minute) = self.samples.close(now) {
            self.store.minute(minute);
        }
    }

    pub(super) fn hand_over_samples_if_due(&mut self, now: Now) {
        if self.samples.next_due().is_some_and(|due| due <= now.mono) {
            self.hand_over_samples(now);
        }
    }
}

/// Time in which nobody expects it to be usable is neither good nor bad: it ended its work, was stopped
/// on purpose, or cannot run here and need not.
fn expects_nothing(view: &ServiceView) -> bool {
    let aside = match view.status {
        Status::Completed | Status::Stopped | Status::Skipped => true,
        Status::Starting
        | Status::Running
        | Status::Healthy
        | Status::Degraded
        | Status::Unhealthy
        | Status::Waiting
        | Status::Stopping
        | Status::Failed => false,
    };
    aside || (view.settled && !view.available)
}

fn sample(view: &ServiceView, now: Now) -> Sample {
    Sample { at: now, service: view.service.clone(), ready: view.available, score: view.score }
}
