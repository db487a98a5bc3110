//! The checks of one life, told a second time: thresholds counted on one's fingers.

use std::time::Duration;

use plugd::controller::{Notification, ProbeSlot};
use plugd::model::spec::{Check, Probe, Spec};

#[derive(Default, Clone)]
pub struct Slots {
    slots: [Slot; 3],
    started: bool,
    leaving: bool,
    was_ready: bool,
    /// The last sign of life of a passive check.
    pub sign: Duration,
}

#[derive(Default, Clone)]
struct Slot {
    asked: Option<Duration>,
    successes: u32,
    /// Failures in a row that nothing forgives, and all of them.
    certain: u32,
    all: u32,
    passing: bool,
}

fn at(slot: ProbeSlot) -> usize {
    match slot {
        ProbeSlot::Startup => 0,
        ProbeSlot::Readiness => 1,
        ProbeSlot::Liveness => 2,
    }
}

pub fn probe_of(spec: &Spec, slot: ProbeSlot) -> Option<&Probe> {
    match slot {
        ProbeSlot::Startup => spec.startup_probe.as_ref(),
        ProbeSlot::Readiness => spec.readiness.probe(),
        ProbeSlot::Liveness => spec.liveness_probe.as_ref(),
    }
}

fn is_asked_for(check: &Check) -> bool {
    plugd::policy::probe::is_active(check)
}

impl Slots {
    pub fn begin(spec: &Spec, now: Duration) -> Slots {
        Slots { started: spec.startup_probe.is_none(), sign: now, ..Slots::default() }
    }

    /// Of a life that had been ready: no startup probe any more, and what speaks by itself has spoken.
    pub fn resumed(mut self, was_ready: bool) -> Slots {
        self.started |= was_ready;
        self.was_ready = was_ready;
        self
    }

    pub fn for_spec(mut self, spec: &Spec) -> Slots {
        self.slots[1].passing |= self.was_ready && Slots::speaks_by_itself(spec);
        self
    }

    fn speaks_by_itself(spec: &Spec) -> bool {
        spec.readiness.probe().is_some_and(|probe| !is_asked_for(&probe.check))
    }

    /// What a keeper holds of it: `old` is the spec by which it stood so.
    pub fn held(&self, old: &Spec) -> Slots {
        let counts = |slot: &Slot| Slot { certain: slot.certain, all: slot.all, ..Slot::default() };
        Slots {
            slots: [Slot::default(), counts(&self.slots[1]), counts(&self.slots[2])],
            started: self.started && old.startup_probe.is_some(),
            leaving: self.leaving,
            was_ready: self.was_ready,
            sign: self.sign,
        }
    }

    /// A later controller goes on from there; `same`: by the same checks, by which it is `ready`.
    pub fn handed_over(held: &Slots, spec: &Spec, now: Duration, ready: bool, same: bool) -> Slots {
        let mut slots = Slots::begin(spec, now).resumed(ready || held.was_ready);
        slots.started |= held.started;
        slots.leaving = held.leaving;
        slots.slots[2] = held.slots[2].clone();
        if same && slots.was_ready {
            slots.slots[1] = Slot { passing: ready, ..held.slots[1].clone() };
            return slots;
        }
        slots.for_spec(spec)
    }

    /// Its liveness probe alone was edited.
    pub fn relive(&mut self, now: Duration) {
        self.slots[2] = Slot::default();
        self.sign = now;
    }

    /// It said that it is stopping, whatever is edited.
    pub fn leaving(mut self, before: &Slots) -> Slots {
        self.leaving = before.leaving;
        self
    }

    /// The times of its readiness probe were edited, or its startup probe; it is ready.
    pub fn go_on(mut self) -> Slots {
        self.slots[1].passing = true;
        self
    }

    pub fn was_ready(&self) -> bool {
        self.was_ready
    }

    pub fn asked(&mut self, slot: ProbeSlot, now: Duration) {
        self.slots[at(slot)].asked = Some(now);
    }

    pub fn ready(&self, spec: &Spec) -> bool {
        self.started && !self.leaving && (spec.readiness.probe().is_none() || self.slots[1].passing)
    }

    /// No failure that may or may not be forgiven could have taken it out.
    pub fn surely_ready(&self, spec: &Spec) -> bool {
        let probe = spec.readiness.probe();
        self.ready(spec) && probe.is_none_or(|probe| self.slots[1].all < probe.failure_threshold)
    }

    /// A pass so soon after a failure that it may have brought it back.
    pub fn is_news(&self, spec: &Spec, which: ProbeSlot) -> bool {
        probe_of(spec, which).is_some_and(|probe| self.slots[at(which)].successes <= probe.success_threshold)
    }

    pub fn verdict(&mut self, spec: &Spec, which: ProbeSlot, passed: bool, now: Duration, late_until: Duration) {
        let Some(probe) = probe_of(spec, which) else { return };
        if (which == ProbeSlot::Startup) == self.started {
            return;
        }
        let slot = &mut self.slots[at(which)];
        let asked = slot.asked.take();
        if is_asked_for(&probe.check) && asked.is_none() {
            return;
        }
        if passed {
            slot.successes += 1;
            (slot.certain, slot.all) = (0, 0);
            slot.passing |= slot.successes >= probe.success_threshold;
            if which == ProbeSlot::Startup && slot.passing {
                self.started = true;
                self.slots[1] = Slot::default();
                self.slots[2] = Slot::default();
            }
            self.was_ready |= self.ready(spec);
            return;
        }
        slot.successes = 0;
        slot.all += 1;
        let prompt = asked.is_none_or(|asked| now - asked <= probe.timeout + probe.period && asked > late_until);
        slot.certain += u32::from(prompt);
        if slot.certain >= probe.failure_threshold {
            slot.passing = false;
        }
    }

    pub fn notified(&mut self, spec: &Spec, message: &Notification, now: Duration) {
        if message.ready {
            for which in [ProbeSlot::Startup, ProbeSlot::Readiness] {
                if probe_of(spec, which).is_some_and(|probe| probe.check == Check::Notify) {
                    self.verdict(spec, which, true, now, Duration::ZERO);
                }
            }
        }
        if message.ready || message.watchdog {
            self.sign = now;
        }
        self.leaving |= message.stopping;
    }

    /// Whether a check has given up on it, or may have.
    pub fn gave_up(&self, spec: &Spec, now: Duration) -> bool {
        let failed = |which: ProbeSlot| {
            probe_of(spec, which).is_some_and(|probe| self.slots[at(which)].all >= probe.failure_threshold)
        };
        let silent = [ProbeSlot::Startup, ProbeSlot::Liveness].into_iter().any(|which| {
            probe_of(spec, which).is_some_and(|probe| {
                probe.check == Check::Notify && now >= self.sign + probe.period * probe.failure_threshold
            })
        });
        failed(ProbeSlot::Liveness) || (!self.started && failed(ProbeSlot::Startup)) || silent
    }
}
