//! The version that ran when an edit came: it is the service until the edit has been carried out.
//!
//! While an edit is tried, or cannot be carried out, what ran goes on as it was: it is started again when it ends,
//! as many of it run as it said, and its ends and waits are judged by its own rules. It outlives the controller in
//! the memory: as a manifest, so that a new version of plugd reads it as it reads every other.

use std::path::Path;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::Controller;
use super::decide::Want;
use super::declare::dependency_names;
use super::input::{KeptMemory, Scaled};
use super::life::{Cause, Life, Made, Print, Setback};
use super::service::{Gate, Id, Service};
use crate::model::manifest::{self, Reading, Text, print};
use crate::model::spec::{RestartPolicy, Spec};
use crate::model::time::Now;
use crate::model::yaml;

impl Controller {
    /// The version before waits for what it itself depends on, so it hears of that.
    pub(super) fn follow_kept(&mut self, id: Id, service: &mut Service) {
        if service.kept.is_none() && service.kept_needs.is_empty() {
            return;
        }
        let names = |spec: Option<&Arc<Spec>>| spec.map(|spec| dependency_names(spec)).unwrap_or_default();
        let declared = names(service.spec());
        let mut needs = names(service.kept_spec());
        needs.retain(|name| !declared.contains(name));
        if needs != service.kept_needs {
            self.table.unlink(id, &service.kept_needs);
            self.table.link(id, &needs);
            service.kept_needs = needs;
            self.edges_changed.push(id);
        }
    }

    /// What holds up an edit does not hold up the version before, which waits for what it itself depends on.
    pub(super) fn want_of_kept(&self, id: Id, service: &mut Service) -> Option<Want> {
        let is_its_own = service.gate == Gate::Open || service.gate.is_of_the_version();
        let needs = service.kept_spec().filter(|_| is_its_own).map(|spec| self.needs(id, service, spec));
        let gate = needs.map(|needs| if needs.said.is_empty() { Gate::Open } else { Gate::Waiting(needs) });
        service.touched |= service.kept_gate != gate;
        service.kept_gate = gate;
        service.kept_gate.as_ref().map(|gate| if *gate == Gate::Open { Want::Run } else { Want::Keep })
    }
}

impl Service {
    /// An edit came: what `before` made goes on, and runs again if it ends, until the edit has been tried.
    pub fn keep(&mut self, before: Option<Arc<Made>>, spec: &Spec) {
        // What runs by the clock or on demand is begun by somebody else.
        let plain = |old: &Spec| old.schedule.is_none() && old.activation.is_none() && spec.activation.is_none();
        let changes = |old: &Spec| old.process_digest != spec.process_digest || old.depends_on != spec.depends_on;
        let is_other = |made: &Made| made.spec.as_deref().is_some_and(|old| plain(old) && changes(old));
        // It runs, is being started, or has been found good and waits for an older one's end.
        let comes = |life: &Life, print: Print| match life {
            Life::Running(running) => running.made.print == print,
            Life::Preparing(preparing) => preparing.made.print == print,
            Life::Starting(starting) => starting.made.print == print,
            Life::Stopping(stopping) => match stopping.cause {
                Cause::Replaced => self.kept.is_none(),
                // It would be started again.
                Cause::Ended | Cause::CheckFailed(_) | Cause::DependencyLost(_) => {
                    let always = |spec: &Arc<Spec>| spec.restart.policy == RestartPolicy::Always;
                    stopping.made.print == print && stopping.made.spec.as_ref().is_some_and(always)
                }
                Cause::Unwanted | Cause::Told | Cause::Mismatched(_) => false,
            },
            // It has run, and will again.
            Life::BackOff(wait) => wait.kind == Setback::Ended && wait.print == print,
            Life::Idle | Life::Finished(_) => false,
        };
        let runs = |made: &Made| self.instances.iter().any(|one| comes(&one.life, made.print));
        // Of the same process as the one that is kept: then that one runs, and not the edit after it.
        let is_undone = |made: &Made| self.kept.as_ref().is_some_and(|kept| kept.print == made.print);
        let ran = before.filter(|made| is_other(made) && runs(made) && !is_undone(made));
        self.kept = ran.or_else(|| self.kept.take().filter(|kept| is_other(kept)));
    }

    /// No edit is being brought out.
    pub fn call_off_update(&mut self) {
        let was_kept = self.let_go();
        self.touched |= self.trial.take().is_some() | was_kept;
        // What is declared may say otherwise of what has ended.
        self.moved |= was_kept;
    }

    /// What is declared is the service from now on; whether another version was.
    pub fn let_go(&mut self) -> bool {
        let was_kept = self.kept.take().is_some();
        self.end_scale();
        was_kept
    }

    /// `plugd scale` holds until another number of `replicas` is in force than when that was said.
    pub fn end_scale(&mut self) {
        let Some(declared) = self.spec().filter(|_| self.kept.is_none()).map(|spec| spec.replicas) else { return };
        // From now on it is said of these.
        let of = |scaled: Scaled| Scaled { over: Some((declared, declared)), ..scaled };
        let holds = |scaled: &Scaled| scaled.over.is_none_or(|(one, other)| [one, other].contains(&declared));
        self.scaled = self.scaled.filter(holds).map(of);
    }

    /// An earlier controller kept this one: what is made from it is known from now on.
    pub fn recognise(&mut self, made: &Arc<Made>, now: Now) {
        for instance in &mut self.instances {
            match &mut instance.life {
                Life::Running(running) if running.made.is_found_again_in(made) => {
                    let spec = made.spec.as_ref().expect("read from a manifest");
                    let past = running.past(spec);
                    running.made = made.clone();
                    running.rejudged = true;
                    running.take_up(None, spec, past, now);
                }
                Life::Stopping(stopping) if stopping.made.is_found_again_in(made) => stopping.made = made.clone(),
                Life::Idle
                | Life::Preparing(_)
                | Life::Starting(_)
                | Life::Running(_)
                | Life::Stopping(_)
                | Life::BackOff(_)
                | Life::Finished(_) => {}
            }
        }
    }

    pub fn remember_kept(&self) -> Option<Box<KeptMemory>> {
        let kept = self.kept.as_ref().or(self.before.as_ref())?;
        Some(Box::new(KeptMemory {
            spec: kept.spec.clone()?,
            wrapper: kept.wrapper.clone(),
            content: kept.print.content,
            source: kept.print.source,
            generation: kept.generation,
        }))
    }

    /// By which its ends and its waits are judged: of what would start now.
    pub fn rules(&self) -> Option<&Arc<Spec>> {
        self.kept_spec().or_else(|| self.spec())
    }

    pub fn kept_spec(&self) -> Option<&Arc<Spec>> {
        self.kept.as_ref()?.spec.as_ref()
    }

    /// The version that runs, or would run again, where it is an older one than the declared.
    pub fn in_force(&self) -> Option<u64> {
        let runs = self.instances.iter().filter_map(|instance| instance.life.generation()).min();
        let oldest = runs.or(self.kept.as_ref().map(|kept| kept.generation))?;
        (oldest < self.generation).then_some(oldest)
    }

    /// What is declared would not start and stands in no file any more: it is not tried again.
    pub fn is_overtaken(&self) -> bool {
        let would_not = self.has_failed_trial() || self.gate == Gate::Missing;
        self.kept.is_some() && self.rejected.is_some() && would_not
    }
}

impl Made {
    pub fn of_memory(memory: &KeptMemory) -> Made {
        let KeptMemory { spec, wrapper, content, source, generation } = memory;
        Made {
            print: Print { process: spec.process_digest, content: *content, source: *source },
            generation: *generation,
            own: None,
            wrapper: wrapper.clone(),
            signal: spec.stop.signal,
            grace: spec.stop.grace_period,
            spec: Some(spec.clone()),
        }
    }

    /// It was adopted, and is of that version.
    fn is_found_again_in(&self, known: &Made) -> bool {
        self.spec.is_none() && self.print == known.print
    }
}

/// A spec on the disk is the manifest that means it.
pub mod as_manifest {
    use super::*;

    pub fn serialize<S: Serializer>(spec: &Spec, to: S) -> Result<S::Ok, S::Error> {
        print::envelope(spec).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Spec>, D::Error> {
        let text: String = Value::deserialize(from)?.to_string().chars().map(yaml::escaped).collect();
        let main = Text { file: "memory", text: text.as_bytes() };
        let reading = Reading { main, stem: "", dir: Path::new("/"), defaults: None, drop_ins: Vec::new() };
        let document = manifest::read(&reading).ok().and_then(|mut documents| documents.pop());
        document.map(|document| Arc::new(document.spec)).ok_or_else(|| D::Error::custom("not a manifest"))
    }
}

/// What this plugd cannot read (a version before, how a life ended) is left out, not all that stands beside it.
pub fn if_it_can_be_read<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}
