//! The checks of one life: startup first, then readiness and liveness.
//!
//! Holds courses (policy/probe.rs) and what they said last; knows no actions.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::blob::Marks;
use super::explain;
use super::input::{Notification, ProbeSlot, Verdict};
use crate::model::reason::Reason;
use crate::model::spec::{Check, Probe, Readiness, Spec};
use crate::policy::pace::Pace;
use crate::policy::probe::{Counts, Course, Turn, is_active};
use crate::policy::random::Random;

#[derive(Debug, Clone, Default)]
pub(super) struct Checks {
    startup: Option<Course>,
    readiness: Option<Course>,
    liveness: Option<Course>,
    /// The startup probe has passed, or there is none.
    started: bool,
    past: Past,
    /// As it began.
    marks: Marks,
    /// `STOPPING=1` was said.
    leaving: bool,
    /// A passive deadline (notify as startup or liveness); moved by every sign of life.
    silence_ends: Option<Duration>,
    /// The last that a check said.
    pub said: Option<Said>,
    /// Its readiness spoke by itself before its startup probe had passed: it will not say it twice.
    early: bool,
    /// The failure that made it not ready, while it lasts.
    pub failing: Option<String>,
    /// What each that fails answered last, until it passes.
    missed: BTreeMap<ProbeSlot, String>,
    /// How fast it answers.
    pub pace: Pace,
}

/// A probe that fails and has not failed too often yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Missed<'c> {
    pub slot: ProbeSlot,
    pub failures: u32,
    pub threshold: u32,
    pub answered: &'c str,
}

/// What is known of a life whose checks begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Past {
    #[default]
    Unready,
    /// Its startup probe has passed.
    Started,
    /// It was ready, by other checks.
    Ready,
    /// It was ready, and these very checks took it out.
    Lost,
    /// It is ready, as these very checks found.
    Carried,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Said {
    pub message: String,
    pub passed: bool,
    pub reason: Option<Reason>,
}

impl Said {
    /// What is wrong with it beside that it does not pass: a port may be closed for a while, and plugd may be short of
    /// something.
    pub fn fault(&self) -> Option<Reason> {
        self.reason.filter(|reason| !matches!(reason, Reason::PortNotOpen | Reason::ResourceExhausted))
    }
}

/// What the checks ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    Nothing,
    /// A threshold was reached.
    Turned,
    /// Startup or liveness gave up: the process is to be ended.
    GiveUp(String),
}

/// A readiness that nobody can check (yet): ready at exec.
fn is_checkable(check: &Check) -> bool {
    match check {
        Check::Exec { .. }
        | Check::HttpGet { .. }
        | Check::TcpSocket { .. }
        | Check::Grpc { .. }
        | Check::Mcp { .. }
        | Check::Notify
        | Check::Fd(_)
        | Check::LogLine(_) => true,
        Check::Later(_) => false,
    }
}

/// The probe that says whether an instance is ready; none: it is at exec.
pub(super) fn readiness_of(spec: &Spec) -> Option<&Probe> {
    match &spec.readiness {
        Readiness::AtExec => None,
        Readiness::ImpliedPort(probe) | Readiness::Probe(probe) => Some(probe).filter(|p| is_checkable(&p.check)),
    }
}

/// What its readiness says once, by itself.
fn once_said(spec: &Spec) -> Option<&'static str> {
    readiness_of(spec).and_then(|probe| probe.check.once_said())
}

fn checkable(probe: &Option<Probe>) -> Option<&Probe> {
    probe.as_ref().filter(|probe| is_checkable(&probe.check))
}

fn probe_of(spec: &Spec, slot: ProbeSlot) -> Option<&Probe> {
    match slot {
        ProbeSlot::Startup => checkable(&spec.startup_probe),
        ProbeSlot::Readiness => readiness_of(spec),
        ProbeSlot::Liveness => checkable(&spec.liveness_probe),
    }
}

/// Where the line that a service prints counts.
pub(super) fn log_line_slots(spec: &Spec) -> impl Iterator<Item = ProbeSlot> {
    let is_log_line = |slot: &ProbeSlot| probe_of(spec, *slot).is_some_and(|p| matches!(p.check, Check::LogLine(_)));
    [ProbeSlot::Startup, ProbeSlot::Readiness, ProbeSlot::Liveness].into_iter().filter(is_log_line)
}

impl Checks {
    pub fn begin(spec: &Spec, spawned: Duration, now: Duration, past: Past) -> Checks {
        Checks::resume(spec, spawned, now, past, Marks::default())
    }

    /// As they stood.
    pub fn resume(spec: &Spec, spawned: Duration, now: Duration, past: Past, marks: Marks) -> Checks {
        let failing = (past == Past::Lost).then(|| "as an earlier controller found".into());
        let said = once_said(spec).filter(|_| marks.heard && past == Past::Carried);
        let said = said.map(|message| Said { message: message.into(), passed: true, reason: None });
        let mut checks = Checks { past, marks, failing, said, leaving: marks.leaving, ..Checks::default() };
        match checkable(&spec.startup_probe) {
            Some(probe) if past == Past::Unready => {
                checks.startup = Some(Course::eager(probe, spawned, now));
                checks.early = marks.heard;
                if !is_active(&probe.check) {
                    checks.silence_ends = Some(now + probe.initial_delay + probe.period * probe.failure_threshold);
                }
            }
            Some(_) | None => checks.open(spec, spawned, now),
        }
        checks
    }

    /// Startup is over: readiness and liveness begin.
    fn open(&mut self, spec: &Spec, spawned: Duration, now: Duration) {
        self.started = true;
        self.startup = None;
        self.silence_ends = None;
        self.readiness = readiness_of(spec).map(|probe| {
            let course = Course::eager(probe, spawned, now);
            match self.past {
                Past::Unready | Past::Started => course,
                Past::Ready => course.resumed(probe),
                // As often as it may it has failed: what speaks by itself has to speak again.
                Past::Lost => course.carried().failed(self.marks.readiness).lost(),
                Past::Carried => course.carried().failed(self.marks.readiness),
            }
        });
        self.liveness = checkable(&spec.liveness_probe).map(|probe| {
            let mut course = Course::patient(probe, now).failed(self.marks.liveness);
            course.ever = self.marks.alive;
            course
        });
        self.watch(spec, now);
    }

    /// From now on a notify liveness probe wants a sign within `period × failureThreshold`; the
    /// first only after ready.
    fn watch(&mut self, spec: &Spec, now: Duration) {
        if let Some(probe) = checkable(&spec.liveness_probe)
            && probe.check == Check::Notify
            && self.is_ready(spec)
        {
            let end = now + probe.period * probe.failure_threshold;
            self.silence_ends = Some(self.silence_ends.map_or(end, |ends| ends.max(end)));
        }
    }

    /// Startup passed and readiness passing (or nothing to pass).
    pub fn is_ready(&self, spec: &Spec) -> bool {
        self.started
            && !self.leaving
            && (readiness_of(spec).is_none() || self.readiness.as_ref().is_some_and(|course| course.passing))
    }

    /// What a later controller cannot find out by itself.
    pub fn marks(&self, spec: &Spec) -> Marks {
        let failures = |course: &Option<Course>| course.as_ref().map_or(0, Course::failures);
        let is_once = |said: &Said| said.passed && Some(said.message.as_str()) == once_said(spec);
        Marks {
            started: self.started && checkable(&spec.startup_probe).is_some(),
            once: false,
            leaving: self.leaving,
            readiness: failures(&self.readiness),
            liveness: failures(&self.liveness),
            alive: self.liveness.as_ref().is_some_and(|course| course.ever),
            heard: self.early || self.said.as_ref().is_some_and(is_once),
        }
    }

    /// The liveness probe alone was edited.
    pub fn relive(&mut self, spec: &Spec, now: Duration) {
        if self.started {
            self.liveness = checkable(&spec.liveness_probe).map(|probe| Course::patient(probe, now));
            self.silence_ends = None;
            self.watch(spec, now);
        }
    }

    /// What it waits for to be ready: its startup probe, then its readiness.
    pub fn awaited<'s>(&self, spec: &'s Spec) -> Option<&'s Check> {
        let probe = if self.started { readiness_of(spec) } else { checkable(&spec.startup_probe) };
        probe.map(|probe| &probe.check)
    }

    /// It began as what an earlier controller had found.
    pub fn is_carried(&self) -> bool {
        self.past == Past::Carried
    }

    /// A check has had a say. A liveness probe alone makes a service ready at once, and says nothing before
    /// its first answer.
    pub fn is_checked(&self) -> bool {
        let judged = self.liveness.as_ref().is_some_and(|course| course.ever || course.failures() > 0);
        self.readiness.is_some() || self.startup.is_some() || judged
    }

    /// It is ready without a check, and the only one that looks at it has never passed.
    pub fn is_doubtful(&self) -> bool {
        self.readiness.is_none()
            && self.startup.is_none()
            && self.liveness.as_ref().is_some_and(|course| !course.ever && course.failures() > 0)
    }

    /// How often in a row it has failed.
    pub fn failures_of(&self, slot: ProbeSlot) -> u32 {
        self.course_of(slot).map_or(0, Course::failures)
    }

    fn course_of(&self, slot: ProbeSlot) -> Option<&Course> {
        match slot {
            ProbeSlot::Startup => self.startup.as_ref(),
            ProbeSlot::Readiness => self.readiness.as_ref(),
            ProbeSlot::Liveness => self.liveness.as_ref(),
        }
    }

    fn course(&mut self, slot: ProbeSlot) -> &mut Option<Course> {
        match slot {
            ProbeSlot::Startup => &mut self.startup,
            ProbeSlot::Readiness => &mut self.readiness,
            ProbeSlot::Liveness => &mut self.liveness,
        }
    }

    pub fn answer(
        &mut self,
        spec: &Spec,
        slot: ProbeSlot,
        verdict: Verdict,
        spawned: Duration,
        now: Duration,
        random: &mut Random,
    ) -> Finding {
        let Some(probe) = probe_of(spec, slot) else { return Finding::Nothing };
        if slot == ProbeSlot::Readiness && !self.started && verdict.passed && !is_active(&probe.check) {
            self.early = true;
            return Finding::Nothing;
        }
        let Some(course) = self.course(slot).as_mut().filter(|course| course.awaits(probe)) else {
            return Finding::Nothing;
        };
        let counts = match slot {
            // plugd had no place for it: that says nothing of the service.
            _ if verdict.reason == Some(Reason::ResourceExhausted) => Counts::Never,
            ProbeSlot::Readiness => Counts::AfterFirstSuccess,
            ProbeSlot::Startup | ProbeSlot::Liveness => Counts::Always,
        };
        let turn = course.answer(probe, verdict.passed, counts, spawned, now, random.unit());
        let (failures, message) = (course.failures(), verdict.message.clone());
        match (verdict.passed, failures) {
            (true, _) => drop(self.missed.remove(&slot)),
            (false, 0) => {}
            (false, _) => drop(self.missed.insert(slot, message.clone())),
        }
        if let Some(failing) = self.failing.as_mut().filter(|_| slot == ProbeSlot::Readiness && !verdict.passed) {
            failing.clone_from(&message);
        }
        // Of different checks only one can be compared.
        if verdict.passed && (slot == ProbeSlot::Readiness || self.readiness.is_none()) {
            self.pace.took(verdict.took);
        }
        // The word of a readiness probe is not overwritten by what merely lives, nor by another that holds nothing up.
        let tells = match slot {
            ProbeSlot::Startup | ProbeSlot::Readiness => true,
            ProbeSlot::Liveness => self.readiness.is_none() || (!verdict.passed && self.is_ready(spec)),
        };
        if tells {
            self.said = Some(Said { message: verdict.message, passed: verdict.passed, reason: verdict.reason });
        }
        match (slot, turn) {
            (_, Turn::Nothing) => Finding::Nothing,
            (ProbeSlot::Startup, Turn::Passed) => {
                self.open(spec, spawned, now);
                if self.readiness.is_some() {
                    // That one has passed says nothing of what is waited for now.
                    self.said = None;
                }
                if let Some(message) = once_said(spec).filter(|_| std::mem::take(&mut self.early)) {
                    let verdict = Verdict { passed: true, message: message.into(), reason: None, took: Duration::ZERO };
                    self.answer(spec, ProbeSlot::Readiness, verdict, spawned, now, random);
                }
                Finding::Turned
            }
            (ProbeSlot::Startup, Turn::Failed) => {
                Finding::GiveUp(format!("the startup probe failed {}: {message}", explain::times(failures)))
            }
            (ProbeSlot::Readiness, Turn::Passed) => {
                self.failing = None;
                self.watch(spec, now);
                Finding::Turned
            }
            (ProbeSlot::Readiness, Turn::Failed) => {
                self.failing = Some(message);
                Finding::Turned
            }
            (ProbeSlot::Liveness, Turn::Passed) => Finding::Turned,
            (ProbeSlot::Liveness, Turn::Failed) => {
                Finding::GiveUp(format!("the liveness probe failed {}: {message}", explain::times_in_a_row(failures)))
            }
        }
    }

    /// The machine slept, or the loop stood still: what is found within one period proves nothing.
    pub fn forgive(&mut self, spec: &Spec, now: Duration) {
        for slot in [ProbeSlot::Startup, ProbeSlot::Readiness, ProbeSlot::Liveness] {
            if let (Some(probe), Some(course)) = (probe_of(spec, slot), self.course(slot).as_mut()) {
                course.forgive(probe, now);
            }
        }
        let slot = if self.started { ProbeSlot::Liveness } else { ProbeSlot::Startup };
        if let (Some(probe), Some(ends)) = (probe_of(spec, slot), &mut self.silence_ends) {
            *ends = (*ends).max(now + probe.period);
        }
    }

    /// Failed checks in a row, of the probe that has most.
    pub fn failures(&self) -> u32 {
        let courses = [&self.startup, &self.readiness, &self.liveness];
        courses.into_iter().flatten().map(Course::failures).max().unwrap_or(0)
    }

    /// What of it is told, in a number that is another when that is: most answers change nothing.
    pub fn outline(&self, spec: &Spec) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        (&self.said, &self.failing, self.is_checked(), self.missed(spec), self.passes(spec)).hash(&mut hasher);
        hasher.finish()
    }

    /// How often in a row the readiness probe has passed, and how often it must, where that makes a difference.
    pub fn passes(&self, spec: &Spec) -> Option<(u32, u32)> {
        let (probe, course) = (readiness_of(spec)?, self.readiness.as_ref()?);
        let passes = Some(course.successes()).filter(|passes| !course.passing && *passes > 0)?;
        Some((passes, probe.success_threshold))
    }

    /// The probe whose failures these are, and of as many the one that ends the process.
    pub fn missed(&self, spec: &Spec) -> Option<Missed<'_>> {
        let of = |(slot, answered)| {
            let (probe, course) = (probe_of(spec, slot)?, self.course_of(slot)?);
            let failures = Some(course.failures()).filter(|failures| *failures > 0)?;
            Some(Missed { slot, failures, threshold: probe.failure_threshold, answered })
        };
        let each = self.missed.iter().map(|(slot, answered)| (*slot, answered.as_str())).filter_map(of);
        each.max_by_key(|one| (one.failures, one.slot == ProbeSlot::Liveness))
    }

    /// sd_notify: readiness, startup and liveness of the kind `notify`.
    pub fn notified(
        &mut self,
        spec: &Spec,
        message: &Notification,
        spawned: Duration,
        now: Duration,
        random: &mut Random,
    ) {
        if message.ready {
            for slot in [ProbeSlot::Startup, ProbeSlot::Readiness] {
                if probe_of(spec, slot).is_some_and(|probe| probe.check == Check::Notify) {
                    let message = Check::NOTIFIED.into();
                    let said = Verdict { passed: true, message, reason: None, took: Duration::ZERO };
                    self.answer(spec, slot, said, spawned, now, random);
                }
            }
        }
        if message.watchdog || message.ready {
            self.watch(spec, now);
        }
        if let (Some(extension), Some(ends)) = (message.extend_timeout, self.silence_ends) {
            self.silence_ends = Some(ends.max(now.saturating_add(extension)));
        }
        self.leaving |= message.stopping;
    }

    /// The checks that are to be run now.
    pub fn take_due(&mut self, spec: &Spec, now: Duration, mut run: impl FnMut(ProbeSlot)) {
        for slot in [ProbeSlot::Startup, ProbeSlot::Readiness, ProbeSlot::Liveness] {
            if let (Some(probe), Some(course)) = (probe_of(spec, slot), self.course(slot).as_mut())
                && course.take_due(probe, now)
            {
                run(slot);
            }
        }
    }

    /// A passive check that has been silent for too long. The loop's own lateness is forgiven.
    pub fn silence(&mut self, spec: &Spec, now: Duration) -> Finding {
        let Some(ends) = self.silence_ends.filter(|&ends| ends <= now) else { return Finding::Nothing };
        let slot = if self.started { ProbeSlot::Liveness } else { ProbeSlot::Startup };
        let Some(probe) = probe_of(spec, slot) else {
            self.silence_ends = None;
            return Finding::Nothing;
        };
        if now - ends > probe.period {
            self.silence_ends = Some(now + probe.period);
            return Finding::Nothing;
        }
        Finding::GiveUp(match slot {
            ProbeSlot::Liveness => "the watchdog heard nothing in time".into(),
            ProbeSlot::Startup | ProbeSlot::Readiness => "it did not say that it is ready in time".into(),
        })
    }

    /// When a passive check has been silent for too long.
    pub fn deadline(&self) -> Option<Duration> {
        self.silence_ends
    }

    /// When one is to be asked next, or its answer is taken for lost.
    pub fn next_question(&self, spec: &Spec) -> Option<Duration> {
        let of = |slot, course: &Option<Course>| course.as_ref().and_then(|c| c.deadline(probe_of(spec, slot)?));
        [
            of(ProbeSlot::Startup, &self.startup),
            of(ProbeSlot::Readiness, &self.readiness),
            of(ProbeSlot::Liveness, &self.liveness),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
