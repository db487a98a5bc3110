//! What is on its way from an action to the keeper: spawns, tries and helpers that are being prepared.
//!
//! The preparer's threads may take any time, so the loop keeps the books: what was asked for, since
//! when, and whether it is still wanted. An answer to something that was called off is dropped; one
//! that takes long is told (`HeldUp`), and so is an exec that hangs in the keeper's child.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Node;
use super::helpers::Request;
use crate::controller::Input;
use crate::edge::process::prepare::{Ground, Prepared, Unpreparable};
use crate::edge::process::preparer::{Done, Job, Preparer, What};
use crate::keeper::Id;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::reason::Reason;
use crate::model::spec::{Digest, Spec};

/// What takes longer than this is told.
const HELD_UP: Duration = Duration::from_secs(2);
/// An exec that nobody wants any more has this long to come to its end by itself.
const CALLED_OFF: Duration = Duration::from_secs(1);

pub(super) struct Preparing {
    preparer: Preparer,
    pub answers: mpsc::UnboundedReceiver<Done>,
    /// Answers of this turn.
    pub done: VecDeque<Done>,
    /// Jobs of this turn.
    batch: Vec<Job>,
    under_way: BTreeMap<u64, UnderWay>,
    number: u64,
}

struct UnderWay {
    purpose: Purpose,
    /// When it is told.
    tell: Instant,
    told: bool,
}

enum Purpose {
    Spawn { life: LifeId, spec: Arc<Spec>, blob: Vec<u8> },
    Try { spec: Arc<Spec>, digest: Digest },
    Helper(Box<Request>),
}

impl Purpose {
    fn service(&self) -> &Name {
        match self {
            Purpose::Spawn { life, .. } => &life.instance.service,
            Purpose::Try { spec, .. } => &spec.name,
            Purpose::Helper(request) => &request.purpose.life().instance.service,
        }
    }
}

impl UnderWay {
    /// When something is to be said of it, if it was not answered before.
    fn due(&self) -> Option<Instant> {
        let tell = (!self.told).then_some(self.tell);
        match &self.purpose {
            Purpose::Helper(request) => tell.into_iter().chain([request.until()]).min(),
            Purpose::Spawn { .. } | Purpose::Try { .. } => tell,
        }
    }
}

impl Preparing {
    pub fn new(ground: Ground) -> Preparing {
        let (done, answers) = mpsc::unbounded_channel();
        Preparing {
            preparer: Preparer::new(ground, done),
            answers,
            done: VecDeque::new(),
            batch: Vec::new(),
            under_way: BTreeMap::new(),
            number: 0,
        }
    }

    fn submit(&mut self, purpose: Purpose, spec: Arc<Spec>, life: LifeId, what: What) {
        self.number += 1;
        let number = self.number;
        let tell = Instant::now() + HELD_UP;
        self.under_way.insert(number, UnderWay { purpose, tell, told: false });
        self.batch.push(Job { number, spec, life, what });
    }

    /// Takes back what fits; it will be answered by nobody.
    fn take_back(&mut self, fits: impl Fn(&Purpose) -> bool) -> bool {
        let numbers: Vec<u64> =
            self.under_way.iter().filter(|(_, of)| fits(&of.purpose)).map(|(number, _)| *number).collect();
        for number in &numbers {
            self.under_way.remove(number);
            self.batch.retain(|job| job.number != *number);
            self.preparer.cancel(*number);
        }
        !numbers.is_empty()
    }

    /// The jobs of this turn are one message.
    pub fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        // What is to look where another hangs already is told at once: it need not be found out again.
        for job in &self.batch {
            if let Some(under_way) = self.under_way.get_mut(&job.number).filter(|_| self.preparer.would_hang(job)) {
                under_way.tell = Instant::now();
            }
        }
        self.preparer.submit(self.batch.drain(..));
    }

    /// Lives whose spawn is being prepared.
    pub fn spawns(&self) -> impl Iterator<Item = &LifeId> {
        self.under_way.values().filter_map(|under_way| match &under_way.purpose {
            Purpose::Spawn { life, .. } => Some(life),
            Purpose::Try { .. } | Purpose::Helper(_) => None,
        })
    }

    /// When to look after them again.
    pub fn next_look(&self) -> Option<Instant> {
        if self.under_way.is_empty() {
            return None;
        }
        let tend = self.preparer.tend(Instant::now());
        self.under_way.values().filter_map(UnderWay::due).chain(tend).min()
    }

    fn waits_for(&self, number: u64) -> String {
        self.preparer.waits_for(number).unwrap_or_else(|| "its preparation does not end".into())
    }
}

impl Node {
    pub(super) fn prepare_spawn(&mut self, life: LifeId, spec: Arc<Spec>, wrapper: Option<PathBuf>, blob: Vec<u8>) {
        let purpose = Purpose::Spawn { life: life.clone(), spec: spec.clone(), blob };
        self.preparing.submit(purpose, spec, life, What::Main(wrapper));
    }

    pub(super) fn prepare_try(&mut self, name: Name, spec: Arc<Spec>, wrapper: Option<PathBuf>, digest: Digest) {
        self.trials.asked(&name);
        let same = |purpose: &Purpose| match purpose {
            Purpose::Try { spec: of, digest: other } => of.name == name && *other == digest,
            Purpose::Spawn { .. } | Purpose::Helper(_) => false,
        };
        // Asked again because nothing came: the answer is still under way.
        if self.preparing.under_way.values().any(|under_way| same(&under_way.purpose)) {
            return;
        }
        self.preparing.take_back(|purpose| matches!(purpose, Purpose::Try { spec: of, .. } if of.name == name));
        let life = LifeId { instance: Instance { service: name, index: 0 }, life: 0 };
        self.preparing.submit(Purpose::Try { spec: spec.clone(), digest }, spec, life, What::Main(wrapper));
    }

    pub(super) fn prepare_helper(&mut self, request: Request, spec: Arc<Spec>) {
        let life = request.purpose.life().clone();
        let what = What::Helper(request.command.clone(), request.number);
        self.preparing.submit(Purpose::Helper(Box::new(request)), spec, life, what);
    }

    /// A spawn that is not wanted any more. What the keeper was asked for comes to its end first.
    pub(super) fn call_off(&mut self, life: LifeId) {
        let ours = |purpose: &Purpose| matches!(purpose, Purpose::Spawn { life: of, .. } if *of == life);
        if self.preparing.take_back(ours) {
            self.queue.push_back(Input::CalledOff(life));
        } else if let Some(pending) = self.pending.get_mut(&life) {
            pending.called_off.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn drop_helpers_in_preparation(&mut self, life: &LifeId) {
        self.preparing
            .take_back(|purpose| matches!(purpose, Purpose::Helper(request) if request.purpose.life() == life));
    }

    pub(super) fn forget_try(&mut self, name: &Name) {
        self.drop_claims(name);
        self.preparing.take_back(|purpose| matches!(purpose, Purpose::Try { spec: of, .. } if of.name == *name));
    }

    /// What came back from the preparer, after the facts of this turn were decided on: what these call
    /// off is gone from the books.
    pub(super) fn take_prepared(&mut self) {
        if self.leaving.is_some() {
            // Nobody would look after it any more.
            return self.preparing.done.clear();
        }
        while let Some(Done { number, result }) = self.preparing.done.pop_front() {
            let Some(UnderWay { purpose, tell: _, told }) = self.preparing.under_way.remove(&number) else { continue };
            if let Ok(prepared) = &result {
                self.masks.learn(purpose.service(), prepared.environment.secrets());
            }
            match purpose {
                Purpose::Spawn { life, spec, blob } => {
                    if told {
                        self.queue.push_back(Input::HeldUp { life: life.clone(), why: None });
                    }
                    self.spawn_prepared(life, spec, blob, result);
                }
                Purpose::Try { spec, digest } => {
                    self.tried(spec, digest, result.map(drop).map_err(|fault| (fault.reason, fault.message)));
                }
                Purpose::Helper(request) => {
                    if told {
                        self.queue.push_back(Input::HeldUp { life: request.purpose.life().clone(), why: None });
                    }
                    self.start_prepared(*request, result);
                }
            }
        }
    }

    fn spawn_prepared(&mut self, life: LifeId, spec: Arc<Spec>, blob: Vec<u8>, result: Result<Prepared, Unpreparable>) {
        let asked = result.and_then(|prepared| self.request_spawn(&life, &spec, blob, prepared));
        if let Err(fault) = asked {
            self.withdraw(&life);
            self.queue.push_back(Input::SpawnFailed { life, reason: fault.reason, message: fault.message });
        }
    }

    /// Says what takes too long.
    pub(super) fn look_after_preparations(&mut self) {
        let now = Instant::now();
        let late = |under_way: &UnderWay| under_way.due().is_some_and(|due| due <= now);
        let numbers: Vec<u64> =
            self.preparing.under_way.iter().filter(|(_, of)| late(of)).map(|(number, _)| *number).collect();
        for number in numbers {
            let why = self.preparing.waits_for(number);
            let Some(under_way) = self.preparing.under_way.get_mut(&number) else { continue };
            under_way.told = true;
            match &under_way.purpose {
                Purpose::Spawn { life, .. } => {
                    self.queue.push_back(Input::HeldUp { life: life.clone(), why: Some(why) });
                }
                // It is answered once more if it does come.
                Purpose::Try { spec, digest } => self.queue.push_back(Input::Tried {
                    name: spec.name.clone(),
                    digest: *digest,
                    result: Err((Reason::NotAnswering, why)),
                }),
                Purpose::Helper(request) if request.until() > now => {
                    self.queue.push_back(Input::HeldUp { life: request.purpose.life().clone(), why: Some(why) });
                }
                Purpose::Helper(request) => {
                    self.queue.push_back(request.not_started(Reason::NotAnswering, why));
                    self.preparing.under_way.remove(&number);
                    self.preparing.preparer.cancel(number);
                }
            }
        }
        self.look_after_execs(now);
    }

    /// The keeper's child looks at the same paths once more; there it hangs alone.
    fn look_after_execs(&mut self, now: Instant) {
        for (life, pending) in &mut self.pending {
            if !pending.told && pending.asked + HELD_UP <= now {
                pending.told = true;
                let (program, dir) = (pending.program.display(), pending.working_dir.display());
                let why = format!("its program {program} or its working directory {dir} does not answer");
                self.queue.push_back(Input::HeldUp { life: life.clone(), why: Some(why) });
            }
            if let Some(called_off) = pending.called_off
                && !pending.abandoned
                && called_off + CALLED_OFF <= now
            {
                pending.abandoned = true;
                self.keeper.abandon(&Id::from(life));
            }
        }
        self.end_late_helpers(now);
    }

    /// When something that was asked for is to be looked after.
    pub(super) fn next_preparation(&self) -> Option<Instant> {
        let execs = self.pending.values().flat_map(|pending| {
            let told = (!pending.told).then(|| pending.asked + HELD_UP);
            let called_off = pending.called_off.filter(|_| !pending.abandoned).map(|at| at + CALLED_OFF);
            [told, called_off]
        });
        execs.flatten().chain(self.preparing.next_look()).chain(self.next_late_helper()).min()
    }
}
