//! One life of one instance, as an enum that carries its data.
//!
//! Facts only: the words that people read are computed from it in `status.rs`. What a life may do
//! next is decided in `drive.rs`; what a fact does to it stands in `absorb.rs`. Both match every
//! variant by name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::checks::Checks;
use super::input::{Exit, Hook, Leftover};
use crate::model::digest::comparable;
use crate::model::reason::Reason;
use crate::model::spec::{Digest, Spec};

#[derive(Debug)]
pub(super) enum Life {
    /// Nothing runs, nothing was asked for.
    Idle,
    /// A hook runs before the spawn.
    Preparing(Preparing),
    /// It is prepared, or the keeper was asked; neither has answered.
    Starting(Starting),
    /// The main process lives.
    Running(Box<Running>),
    /// It ends or has ended, and perhaps not all of its tree.
    Stopping(Box<Stopping>),
    /// Nothing runs; the next try waits.
    BackOff(BackOff),
    /// Nothing runs and nothing will by itself.
    Finished(Finished),
}

/// What a life was made from.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub print: Print,
    /// Of the version that it runs.
    pub generation: u64,
    /// Of an adopted one: by what its version is checked, where that is known.
    pub own: Option<super::blob::Own>,
    /// None: adopted, and not declared since.
    pub spec: Option<Arc<Spec>>,
    pub wrapper: Option<PathBuf>,
    pub signal: i32,
    pub grace: Duration,
}

impl Made {
    /// Whether it may use something else than a process that began by `before`; none: nobody knows what
    /// that one was told.
    pub fn is_resized(&self, before: Option<&Spec>) -> bool {
        let limited = |spec: &Spec| spec.process.counted || spec.process.nofile.is_some();
        let spec = self.spec.as_deref().filter(|spec| limited(spec));
        spec.is_some_and(|spec| before.is_none_or(|before| before.resources != spec.resources))
    }
}

/// The identity of what runs: a difference means that only a new process can take it up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Print {
    pub process: Digest,
    pub content: Digest,
    /// Of the manifest's bytes, as `Source` has it.
    pub source: u64,
}

/// A plugd that makes its digests in another way started it: then the same bytes are the same.
impl PartialEq for Print {
    fn eq(&self, other: &Print) -> bool {
        let same = if comparable(self.process, other.process) {
            self.process == other.process
        } else {
            self.source != 0 && self.source == other.source
        };
        same && self.content == other.content
    }
}

impl Print {
    /// One digest of both, to recognise answers by.
    pub fn mixed(&self) -> Digest {
        let mut mixed = self.process.0;
        for (byte, other) in mixed.iter_mut().zip(self.content.0) {
            *byte = byte.rotate_left(3) ^ other;
        }
        Digest(mixed)
    }
}

#[derive(Debug)]
pub(super) struct Preparing {
    pub hook: Hook,
    pub made: Arc<Made>,
    pub ended: Option<Result<(), (Reason, String)>>,
    /// What does not answer, so that its hook has not begun.
    pub held_up: Option<String>,
}

#[derive(Debug)]
pub(super) struct Starting {
    pub made: Arc<Made>,
    /// The keeper's no.
    pub refused: Option<(Reason, String)>,
    /// What does not answer, so that it has not begun. It keeps nobody's place meanwhile.
    pub held_up: Option<String>,
    /// It is not wanted any more, and that was said.
    pub called_off: bool,
}

#[derive(Debug)]
pub(super) struct Running {
    pub made: Arc<Made>,
    pub pid: i32,
    pub spawned: Duration,
    pub spawned_wall: Timestamp,
    pub checks: Checks,
    /// Ready now, since.
    pub ready_since: Option<Duration>,
    /// It was ready once.
    pub was_ready: bool,
    /// It was ready for `minReady`: the start counts as one.
    pub lasted: bool,
    /// It was ready for `resetAfter`.
    pub steady: bool,
    /// Not ready 60 s after the spawn and checked by a port.
    pub port_late: bool,
    /// `STATUS=` of sd_notify.
    pub says: Option<String>,
    /// A check wants it ended.
    pub give_up: Option<String>,
    /// The age at which it became ready in an earlier controller's time.
    pub carried: Option<Duration>,
    /// How its checks stand as the keeper's blob has it.
    pub marks: super::blob::Marks,
    /// The keeper's blob tells of the version before an edit that needed no new process.
    pub untold: bool,
    /// The edge has not been told yet by which spec it is judged now.
    pub rejudged: bool,
    /// Nor what it may use now.
    pub resized: bool,
}

#[derive(Debug)]
pub(super) struct Stopping {
    pub made: Arc<Made>,
    pub pid: Option<i32>,
    pub spawned: Duration,
    pub spawned_wall: Timestamp,
    pub cause: Cause,
    pub phase: Phase,
    pub began: Duration,
    /// When KILL follows.
    pub kill_at: Duration,
    pub hook: Drain,
    /// How the main process ended; none while it lives.
    pub exit: Option<Exit>,
    /// An earlier controller has told that.
    pub known: bool,
    /// What the last survey found; none before the first.
    pub left: Option<Vec<Leftover>>,
    pub survey: Survey,
    pub lasted: bool,
    pub steady: bool,
    pub was_ready: bool,
    pub stuck: bool,
    /// How long it had been ready when it ended.
    pub carried: Option<Duration>,
}

impl Running {
    /// How its checks stand, for a later controller.
    pub fn stands(&self, spec: &Spec) -> super::blob::Marks {
        super::blob::Marks { once: self.was_ready, ..self.checks.marks(spec) }
    }
}

impl Stopping {
    /// Begins to end a running life; the first signal (or hook) follows.
    pub fn of(running: Running, cause: Cause, now: Duration) -> Stopping {
        let hook = running.made.spec.as_ref().is_some_and(|spec| spec.lifecycle.pre_stop.is_some());
        Stopping {
            kill_at: now + running.made.grace,
            pid: Some(running.pid),
            spawned: running.spawned,
            spawned_wall: running.spawned_wall,
            cause,
            phase: Phase::PreStop { asked: !hook, done: !hook },
            began: now,
            hook: Drain::Over,
            exit: None,
            known: false,
            left: None,
            survey: Survey::at(None),
            lasted: running.lasted,
            steady: running.steady,
            was_ready: running.was_ready,
            stuck: false,
            carried: running.ready_since.map(|since| now.saturating_sub(since)),
            made: running.made,
        }
    }
}

/// The preStop hook of a life that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// None was asked for, or it has ended.
    Over,
    Runs,
    /// It used up the grace, which was so long, and may still say why.
    Late(Duration),
}

pub(super) const TERM: i32 = 15;
pub(super) const KILL: i32 = 9;

/// Why a life is ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not wanted any more.
    Unwanted,
    /// A newer version, or `plugd restart`.
    Replaced,
    /// By itself.
    Ended,
    /// A run that an earlier controller has told as over.
    Told,
    /// One of our checks gave up on it: which, and what it said.
    CheckFailed(String),
    /// It may not be what is pinned.
    Mismatched(String),
    /// `onLoss: Restart`: this dependency is not ready any more.
    DependencyLost(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The preStop hook is to be run, runs, or has just ended.
    PreStop { asked: bool, done: bool },
    /// The signal was sent to the group; the main process lives.
    Signalled,
    /// The main process is gone; what else lives was (not yet) told to end.
    Lingering { told: bool },
    /// KILL was sent to the tree at this moment.
    Killing { since: Duration },
}

/// The looks at what is left, ever less often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    pub asked: Option<Duration>,
    pub due: Option<Duration>,
    pub gap: Duration,
}

/// A survey that was not answered for this long is asked again.
pub(super) const SURVEY_LOST: Duration = Duration::from_secs(5);
/// Between two looks at first; doubled up to [`SURVEY_GAP_MAX`].
pub(super) const SURVEY_GAP: Duration = Duration::from_millis(2);
pub(super) const SURVEY_GAP_MAX: Duration = Duration::from_millis(100);
/// A service is looked at when it has not ended this long after the signal, to name who holds it up.
const SIGNALLED_LOOK: Duration = Duration::from_secs(1);

impl Survey {
    pub fn at(due: Option<Duration>) -> Survey {
        Survey { asked: None, due, gap: SURVEY_GAP }
    }

    /// Its answer may come.
    pub fn is_open(&self, now: Duration) -> bool {
        self.asked.is_none_or(|asked| now < asked + SURVEY_LOST)
    }

    /// After a while: who has not ended by then is told by name.
    pub fn after_signal(now: Duration) -> Survey {
        Survey { gap: SIGNALLED_LOOK, ..Survey::at(Some(now + SIGNALLED_LOOK)) }
    }

    /// 2, 5, 10, 20, 40, 80, 100 ms.
    pub fn again(&mut self, now: Duration) {
        self.asked = None;
        self.due = Some(now + self.gap);
        let doubled = if self.gap == SURVEY_GAP { Duration::from_millis(5) } else { self.gap * 2 };
        self.gap = doubled.min(SURVEY_GAP_MAX);
    }
}

#[derive(Debug)]
pub(super) struct BackOff {
    pub until: Duration,
    /// The same, to be shown.
    pub until_wall: Timestamp,
    pub kind: Setback,
    pub message: String,
    pub print: Print,
}

/// Why the next try has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    /// It ran and ended, or a check ended it.
    Ended,
    /// It could not be spawned.
    NotSpawned(Reason),
    /// Something that it needs is missing here: not a crash.
    Missing(Reason),
    /// A hook said no.
    HookFailed,
    /// Ended with what it needs, and had not lasted.
    NeedLost,
}

#[derive(Debug)]
pub(super) struct Finished {
    pub print: Print,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Failed(Reason, String),
}

impl Life {
    /// Something of this life may exist in the keeper's world.
    pub fn is_occupied(&self) -> bool {
        match self {
            Life::Idle | Life::BackOff(_) | Life::Finished(_) => false,
            Life::Preparing(_) | Life::Starting(_) | Life::Running(_) | Life::Stopping(_) => true,
        }
    }

    /// Its process is there, and nobody ends it.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Life::Running(running) => Some(running),
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => None,
        }
    }

    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Of the version that runs, where it is known.
    pub fn spec(&self) -> Option<&Spec> {
        self.running()?.made.spec.as_deref()
    }

    /// Nothing follows by itself.
    pub fn is_finished(&self) -> bool {
        match self {
            Life::Finished(_) => true,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_) => false,
        }
    }

    /// It ran to its end, and that was a success.
    pub fn is_completed(&self) -> bool {
        match self {
            Life::Finished(finished) => finished.outcome == Outcome::Completed,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_) => false,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.running().is_some_and(|running| running.ready_since.is_some())
    }

    /// What the process was made from that is there, or is about to go.
    pub fn process_of(&self) -> Option<&Made> {
        match self {
            Life::Running(running) => Some(&running.made),
            Life::Stopping(stopping) => Some(&stopping.made),
            Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::BackOff(_) | Life::Finished(_) => None,
        }
    }

    /// What the process that runs was made from.
    pub fn print(&self) -> Option<Print> {
        self.running().map(|running| running.made.print)
    }

    /// A process lives that was made from something else.
    pub fn runs_other_than(&self, print: &Print) -> bool {
        self.print().is_some_and(|runs| runs != *print)
    }

    /// Of the version that runs, where it is known.
    pub fn generation(&self) -> Option<u64> {
        self.running().map(|running| running.made.generation).filter(|&generation| generation > 0)
    }

    /// The pid of a main process that lives.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Life::Running(running) => Some(running.pid),
            Life::Stopping(stopping) if stopping.exit.is_none() => stopping.pid,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => None,
        }
    }

    /// Its start is asked for and not answered, and nothing holds it up.
    pub fn is_asked(&self) -> bool {
        match self {
            Life::Starting(starting) => starting.held_up.is_none() && starting.refused.is_none(),
            Life::Idle
            | Life::Preparing(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => false,
        }
    }

    /// Counts towards `--max-starting`.
    pub fn is_starting(&self) -> bool {
        match self {
            // What nothing answers to gives way, or it would hold up all others for ever.
            Life::Preparing(preparing) => preparing.held_up.is_none(),
            Life::Starting(starting) => starting.held_up.is_none(),
            // One that is not ready after a minute must not hold up all others for ever
            // (nor one that nobody checks, as its manifest is not valid).
            Life::Running(running) => !running.was_ready && !running.port_late && running.made.spec.is_some(),
            Life::Idle | Life::Stopping(_) | Life::BackOff(_) | Life::Finished(_) => false,
        }
    }
}
