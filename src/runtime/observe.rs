//! What the loop sees of services, as samples for the memory: verdicts, changes of state, exits.
//!
//! Nothing here waits for a disk: buckets are summed in memory and handed to the store once a minute.

use super::Node;
use crate::controller::{Input, ProbeSlot};
use crate::edge::store::{Checked, Sample};
use crate::model::name::LifeId;
use crate::model::spec::Check;
use crate::model::time::Now;
use crate::model::view::{ServiceView, Serving};

impl Node {
    /// A fact that is about to be absorbed.
    pub(super) fn observe(&mut self, input: &Input) {
        let line = |life: &LifeId| match &self.lives.get(life)?.spec.readiness.probe()?.check {
            Check::LogLine(pattern) => Some(pattern.clone()),
            _ => None,
        };
        if let Some((life, found)) = passed(input, line) {
            self.samples.checked(&life.instance.service, found);
        }
    }

    /// A view that is announced.
    pub(super) fn observed(&mut self, view: &ServiceView, now: Now) {
        match view.serving {
            Serving::Aside => self.samples.rest(&view.service, now),
            Serving::Up | Serving::Down => self.samples.take(sample(view, now)),
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

/// A check that passed. (Which failures count the brain says: [`Action::NoteMiss`](crate::controller::Action).) `line`:
/// what makes a life ready, where that is a line of its log.
fn passed(input: &Input, line: impl FnOnce(&LifeId) -> Option<String>) -> Option<(&LifeId, Checked)> {
    match input {
        // How often a service was asked until it had started tells nothing of how it is.
        Input::Verdict { probe: ProbeSlot::Startup, .. } => None,
        Input::Verdict { life, verdict, .. } if verdict.passed => {
            Some((life, Checked::Passed(Some(verdict.took).filter(|took| !took.is_zero()))))
        }
        Input::LogLine { life, pattern } => {
            line(life).is_some_and(|judged| judged == *pattern).then_some((life, Checked::Passed(None)))
        }
        _ => None,
    }
}

fn sample(view: &ServiceView, now: Now) -> Sample {
    Sample { at: now, service: view.service.clone(), ready: view.serving == Serving::Up, score: view.score }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::controller::Verdict;
    use crate::controller::testing::life;

    fn verdict(probe: ProbeSlot, passed: bool, took: Duration) -> Input {
        let verdict = Verdict { passed, message: String::new(), reason: None, took };
        Input::Verdict { life: life("web", 1), probe, verdict }
    }

    #[test]
    fn what_was_asked_until_it_had_started_counts_for_nothing_but_the_check_that_found_it_ready() {
        const TOOK: Duration = Duration::from_millis(3);
        let passed = Some(Checked::Passed(Some(TOOK)));
        for (probe, did_pass, counts) in [
            (ProbeSlot::Startup, true, None),
            (ProbeSlot::Startup, false, None),
            (ProbeSlot::Readiness, true, passed),
            (ProbeSlot::Readiness, false, None),
            (ProbeSlot::Liveness, true, passed),
            (ProbeSlot::Liveness, false, None),
        ] {
            let input = verdict(probe, did_pass, TOOK);
            let found = super::passed(&input, |_| None).map(|(_, found)| found);
            assert_eq!(found, counts, "{probe:?} {did_pass}");
        }
    }

    #[test]
    fn what_a_service_says_by_itself_has_no_latency_and_a_line_counts_where_it_is_the_one_that_is_waited_for() {
        let passed = Some(Checked::Passed(None));
        let said = verdict(ProbeSlot::Readiness, true, Duration::ZERO);
        assert_eq!(super::passed(&said, |_| None).map(|(_, found)| found), passed);
        let line = Input::LogLine { life: life("web", 1), pattern: "listening".into() };
        for (judged, counts) in [(Some("listening"), passed), (Some("ready"), None), (None, None)] {
            let found = super::passed(&line, |_| judged.map(str::to_string));
            assert_eq!(found.map(|(_, found)| found), counts, "{judged:?}");
        }
    }
}
