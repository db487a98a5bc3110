//! The ladder of one instance, climbed a second time: which wait it owes, and what may cut it.

use std::time::Duration;

use plugd::controller::Exit;
use plugd::model::spec::{Digest, RestartPolicy, Spec};
use plugd::policy::backoff;

/// How a try came to its end.
#[derive(Clone, Copy)]
pub enum End {
    ByItself(Exit),
    /// A check gave up.
    ByOurChecks,
    /// By an order or an edit.
    AskedFor,
    /// For more than one reason.
    Unclear,
    /// No process came of it.
    NeverRan,
    /// Nor of this, for want of room for one.
    NoRoom,
}

#[derive(Default)]
pub struct Rungs {
    /// The last try.
    pub number: u64,
    /// And what it was made from.
    pub print: Digest,
    step: u32,
    last_try: Option<Duration>,
    wait: Option<Wait>,
    /// Edited or ordered while its last life ended.
    fresh: bool,
    /// Ran to its end, or failed for good.
    finished: bool,
    /// A job that could not be started: over for good, or tried again, by why.
    perhaps: bool,
    /// An earlier controller climbed too: the brain may stand higher, as far as disk and keeper know.
    hearsay: bool,
    ends: Vec<Duration>,
    cut_by_neighbour: Option<Duration>,
}

struct Wait {
    earliest: Duration,
    delay: Duration,
    /// By which it must be over, once that is known.
    latest: Option<Duration>,
    excused: bool,
    neighbour: bool,
    for_room: bool,
    /// The step was seen from its first end on.
    exact: bool,
}

/// Between two tries, however good the news.
const TRY_GAP: Duration = Duration::from_secs(1);
/// What is left of a life is ended within this, also by a loop that is late.
const EMPTIED_IN: Duration = Duration::from_secs(60);
/// What the keeper's queue may cost.
const SLACK: Duration = Duration::from_secs(3);

impl Rungs {
    /// An end; true if nothing follows by itself.
    pub fn ended(
        &mut self,
        spec: &Spec,
        end: End,
        outdated: bool,
        steady: bool,
        inherited: bool,
        now: Duration,
    ) -> bool {
        self.wait = None;
        self.perhaps = false;
        if steady {
            self.step = 0;
            // Where checks decide, it is steady as far as we know.
            self.hearsay = inherited || spec.readiness.probe().is_some();
        }
        if self.fresh || outdated {
            return false;
        }
        let failed = match end {
            End::AskedFor => return false,
            End::Unclear => {
                self.step = 0;
                self.hearsay = true;
                return false;
            }
            End::ByItself(exit) => exit.status() != 0,
            End::ByOurChecks | End::NeverRan | End::NoRoom => true,
        };
        let again = match (spec.restart.policy, end) {
            (RestartPolicy::Always, _) => true,
            (RestartPolicy::OnFailure, _) => failed,
            // What could not be made may be made later.
            (RestartPolicy::Never, End::NeverRan | End::NoRoom) => true,
            (RestartPolicy::Never, _) => false,
        };
        // A new controller may have seen it ready for longer than we are certain of.
        let sure = !(inherited && steady);
        let delay = backoff::delay(&spec.restart.backoff, self.step);
        self.step += 1;
        if (!again || !failed) && spec.activation.is_some() {
            // The next call is a new beginning; who waits meanwhile is let in by the ladder.
            self.step = if failed { self.step } else { 0 };
            self.hearsay = true;
            self.perhaps = true;
            return false;
        }
        if !again {
            self.finished = true;
            return true;
        }
        let never_ran = matches!(end, End::NeverRan | End::NoRoom);
        if never_ran && spec.restart.policy == RestartPolicy::Never {
            self.perhaps = true;
            return false;
        }
        if let Some(limit) = &spec.restart.limit
            && !matches!(end, End::NeverRan | End::NoRoom)
        {
            self.ends.push(now);
            self.ends.retain(|at| now.saturating_sub(*at) <= limit.within);
            if self.ends.len() > limit.max as usize {
                // The brain counts when nothing is left of it, which may be later.
                let sure = self.ends[0] + limit.within > now + EMPTIED_IN;
                self.finished = sure;
                self.perhaps = !sure;
                return sure;
            }
        }
        self.wait = sure.then(|| Wait {
            earliest: now + delay.mul_f64(0.8),
            delay,
            latest: never_ran.then_some(now + delay),
            excused: false,
            neighbour: false,
            for_room: matches!(end, End::NoRoom),
            exact: !self.hearsay && !inherited && spec.restart.limit.is_none(),
        });
        false
    }

    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Nothing of its last life is left.
    pub fn emptied(&mut self, now: Duration) {
        if let Some(wait) = &mut self.wait {
            wait.latest.get_or_insert(now + wait.delay);
        }
    }

    pub fn anew(&mut self, ending: bool) {
        self.step = 0;
        self.hearsay = false;
        self.wait = None;
        self.fresh |= ending;
        self.finished = false;
        self.ends.clear();
    }

    /// Another version is tried: it has not failed yet.
    pub fn begins_anew(&mut self) {
        self.step = 0;
        self.hearsay = true;
    }

    /// The brain may stand higher than we know.
    pub fn doubt(&mut self) {
        self.hearsay = true;
    }

    /// Not wanted any more; when it is again it may have begun anew, or not.
    pub fn let_go(&mut self) {
        self.anew(false);
        self.hearsay = true;
    }

    pub fn excuse(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.excused = true;
        }
    }

    /// A service has gone, and left its room.
    pub fn room(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.excused |= wait.for_room;
        }
    }

    pub fn neighbour_recovered(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.neighbour = true;
        }
    }

    /// It ended and nobody was told: the next controller judges it by what the keeper knows.
    pub fn forget_step(&mut self) {
        self.step = 0;
    }

    /// A new controller: a try without a process is in no keeper's table, and is forgotten.
    pub fn inherit(&mut self, held: Option<u64>) {
        self.wait = None;
        self.ends.clear();
        self.finished = false;
        self.cut_by_neighbour = None;
        self.last_try = None;
        self.hearsay = true;
        if held != Some(self.number) {
            self.step = 0;
        }
    }

    /// The next try; the error says how it broke its promise.
    pub fn tries(&mut self, number: u64, now: Duration, unlimited: bool) -> Result<(), String> {
        if number == self.number {
            return Ok(());
        }
        if number < self.number {
            return Err(format!("begins after life {}", self.number));
        }
        self.number = number;
        self.fresh = false;
        self.perhaps = false;
        if self.finished {
            return Err("was over for good and is tried again".into());
        }
        let last = self.last_try.replace(now);
        let Some(wait) = self.wait.take() else { return Ok(()) };
        if now >= wait.earliest {
            return Ok(());
        }
        let short = wait.earliest - now;
        if !wait.excused && !wait.neighbour {
            return Err(format!("is tried again {short:?} too early"));
        }
        if last.is_some_and(|last| now < last + TRY_GAP) {
            return Err("is tried twice within a second".into());
        }
        if !wait.excused {
            let cut = self.cut_by_neighbour.replace(now);
            if unlimited && cut.is_some_and(|cut| now < cut + Duration::from_secs(57)) {
                return Err("has its wait cut by a neighbour twice within a minute".into());
            }
        }
        Ok(())
    }

    /// How far a wait has gone beyond its promise.
    pub fn overdue(&self, now: Duration) -> Option<Duration> {
        let wait = self.wait.as_ref().filter(|wait| wait.exact)?;
        let latest = wait.latest? + SLACK;
        (now > latest).then(|| now - latest)
    }

    pub fn is_finished(&self) -> bool {
        self.finished || self.perhaps
    }
}
