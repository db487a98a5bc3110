//! What people wish: manifests that come, change or are refused, and orders.
//!
//! Part of absorbing. Here a wish only changes what is desired; lives are started and ended later, in
//! `decide.rs`, by comparing. What is changed at once: a new wish ends waits, and what runs learns by which
//! version it is judged.

use std::sync::Arc;

use super::Controller;
use super::blob::Marks;
use super::checks::{Checks, Past, readiness_of};
use super::churn::Churn;
use super::input::{Declaration, Order, Rejection, Resolved, Scaled, Watched};
use super::life::{Life, Made, Outcome, Running};
use super::service::{Gate, Id, Instance, Service};
use crate::model::digest::comparable;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::{RestartPolicy, Spec};
use crate::model::time::Now;
use crate::model::view::RunResult;

pub(super) fn dependency_names(spec: &Spec) -> Vec<Name> {
    spec.depends_on.iter().map(|dependency| dependency.name.clone()).collect()
}

/// Where no watched file was.
const PARTS_EDITED: &str = "its wrapper or what else it is made of was edited";

/// `conf/x.toml was edited`, with how many others; nothing where no watched file was.
fn edited_files(before: &Watched, now: &Watched) -> Option<String> {
    let first = now.edited.first().filter(|_| before.changes != now.changes)?;
    Some(match now.edited.len() - 1 {
        0 => format!("{first} was edited"),
        1 => format!("{first} and 1 other were edited"),
        others => format!("{first} and {others} others were edited"),
    })
}

impl Controller {
    pub(super) fn declared(&mut self, declaration: Declaration, now: Now) {
        let id = self.table.enter(&declaration.spec.name, now.wall);
        let Some(mut service) = self.table.take(id) else { return };
        let spec = declaration.spec.clone();
        let made_before = service.made().map(Arc::new);
        let was_outdated = service.is_outdated();
        let before = service.declared.take();
        // One of another encoding says nothing, and a new plugd is no edit.
        let known = service.digest.map(|old| if comparable(old, spec.digest) { old } else { spec.digest });
        let print_before = before.as_ref().map(|old| (old.spec.process_digest, old.program.clone()));
        let before_found = before.as_ref().is_some_and(|old| matches!(old.program, Resolved::Found { .. }));
        let same_program = print_before.as_ref() == Some(&(spec.process_digest, declaration.program.clone()));
        let moved = known.is_some_and(|digest| digest != spec.digest);
        // A watched file that was away is back: what came to nothing without it begins anew.
        let is_back = before.as_ref().is_some_and(|old| old.watched.lacks) && !declaration.watched.lacks;
        let edited = moved || is_back || (before.is_some() && !same_program);
        let files = before.as_ref().and_then(|old| edited_files(&old.watched, &declaration.watched));

        if service.gate == Gate::Gone {
            // A new service of an old name: what is told of the one that ends is not told of it.
            service.forget_orders();
            service.forget_schedule();
            service.before = None;
            service.restarts = 0;
            service.instances.iter_mut().for_each(|instance| instance.restarts = 0);
        }
        if known != Some(spec.digest) {
            service.generation += 1;
        }
        service.digest = Some(spec.digest);
        service.rejected = None;
        service.missing = false;
        service.touched = true;

        self.table.unlink(id, &std::mem::take(&mut service.kept_needs));
        let old_names = before.as_ref().map(|old| dependency_names(&old.spec));
        if before.as_ref().is_none_or(|old| old.spec.depends_on != spec.depends_on) {
            self.table.unlink(id, &old_names.unwrap_or_default());
            self.table.link(id, &dependency_names(&spec));
            self.edges_changed.push(id);
        }
        let adopted = before.is_none() && service.is_occupied();
        let direct = before.as_ref().is_some_and(|old| old.spec.activation.is_none());
        if direct && service.gate != Gate::Gone && service.is_occupied() {
            // It ran until now: from now on only while somebody wants it.
            (service.call.awake, service.call.used) = (true, now.mono);
        }
        service.declared = Some(declaration);
        // At once, for the next declaration of this turn may bring another.
        if spec.schedule.is_none() {
            service.forget_schedule();
        }
        let made = service.made().map(Arc::new);
        if let Some(kept) = service.before.take() {
            service.recognise(&kept, now);
            service.kept = Some(kept);
        }
        service.keep(made_before, &spec);
        service.end_scale();
        self.follow_kept(id, &mut service);
        let next = service.kept.clone().or_else(|| made.clone());
        let held_before = service.churn.held(now).is_some();
        if edited && (moved || !same_program) {
            let what = (!moved).then(|| files.as_deref().unwrap_or(PARTS_EDITED));
            service.note_edit(what, was_outdated, now, &mut self.random);
        }
        // What was away is back as it was: nobody has edited anything.
        let is_row = service.churn.is_row() && !(is_back && same_program);
        match (edited && !is_row, same_program) {
            (true, false) => service.begin_anew(),
            (true, true) => service.begin_gently(),
            (false, true | false) => {}
        }
        if let Some(key) = made.as_ref().map(|made| made.print.mixed())
            && service.trial.as_ref().is_some_and(|trial| trial.key != key || trial.result.is_some())
        {
            // Asked again where it still matters: an edit or a new file may have cured it.
            service.trial = None;
        }
        // What an edit of this moment adds it was not begun with. Where nothing is remembered the text has to tell.
        let source = made.as_ref().map(|made| made.print.source).filter(|source| *source != 0);
        let of_it = |one: &Instance| one.life.process_of().is_some_and(|old| Some(old.print.source) == source);
        let unmoved = if known.is_some() { !moved } else { service.instances.iter().any(of_it) };
        service.take_up(now);
        service.begun_before = match before {
            None => unmoved && service.instances.iter().any(|one| one.life.is_running()),
            Some(_) => service.begun_before && !edited,
        };
        for instance in &mut service.instances {
            match &mut instance.life {
                // A run that is over, to be told.
                Life::Finished(_) if instance.run.is_some() => {}
                // Whether and when it runs again is looked at with its wait.
                Life::Finished(_) if is_row && !moved => {}
                Life::Finished(finished) => {
                    let print = next.as_ref().is_none_or(|made| made.print == finished.print);
                    let rules = next.as_ref().and_then(|made| made.spec.as_ref()).unwrap_or(&spec);
                    let again = match &finished.outcome {
                        Outcome::Completed => rules.restart.policy == RestartPolicy::Always,
                        Outcome::Failed(..) => edited,
                    };
                    if !print || again {
                        instance.life = Life::Idle;
                        instance.begin_anew();
                    }
                }
                Life::BackOff(_)
                | Life::Idle
                | Life::Preparing(_)
                | Life::Starting(_)
                | Life::Running(_)
                | Life::Stopping(_) => {}
            }
        }
        // As the controller before it told.
        let is_told = self.config.takes_over && service.view.is_none() && known.is_some() && !moved;
        let news = match (before.is_some(), edited) {
            (false, _) if adopted || is_told => None,
            (false, _) => Some((Reason::Declared, "its manifest is in force".into())),
            (true, true) if moved => Some((Reason::Updated, "its manifest was edited".into())),
            // The first one that waits is told.
            (true, true) if held_before => None,
            // What was away is back as it was.
            (true, true) if same_program => None,
            // Same manifest, another program.
            (true, true) => match (before_found, &service.declared.as_ref().map(|new| &new.program)) {
                (_, Some(Resolved::Missing { .. })) => None,
                (false, _) => Some((Reason::Updated, "its wrapper can be run now".into())),
                (true, _) => Some((Reason::Updated, files.unwrap_or_else(|| PARTS_EDITED.into()))),
            },
            (true, false) => None,
        };
        self.table.put(id, service);
        if let Some((reason, message)) = news {
            self.record_of(id, reason, false, message, now);
        }
        self.mark(id);
    }

    pub(super) fn rejected(&mut self, rejection: Rejection, now: Now) {
        let id = self.table.enter(&rejection.name, now.wall);
        let message = rejection.message.clone();
        let reason = rejection.reason;
        let mut news = true;
        if let Some(service) = self.table.get_mut(id) {
            news = service
                .rejected
                .as_ref()
                .is_none_or(|(old, _)| old.source != rejection.source || old.message != message);
            if news {
                service.rejected = Some((rejection, now.wall));
            }
            if service.gate == Gate::Gone {
                service.forget_orders();
            }
            service.missing = false;
            service.touched = true;
            service.forget_conflict();
        }
        if news {
            self.record_of(id, reason, true, message, now);
        }
        self.mark(id);
    }

    pub(super) fn ordered(&mut self, id: Id, order: Order) {
        let Some(service) = self.table.get_mut(id) else { return };
        service.touched = true;
        match order {
            // A service that is going takes with it what is said of it.
            Order::Stop | Order::Scale(_) if service.gate == Gate::Gone => {}
            Order::Stop => service.stopped = true,
            Order::Resume if service.spec().is_none_or(|spec| spec.schedule.is_none()) => {}
            Order::Resume => {
                // A run that is just being stopped does not begin again with its schedule.
                if service.stopped {
                    let runs = service.instances.iter_mut().filter_map(|instance| instance.run.as_mut());
                    runs.for_each(|run| run.given_up = run.given_up.or(Some(RunResult::Stopped)));
                }
                (service.stopped, service.bereft) = (false, None);
            }
            // How many run is its schedule's business; of an edit that will make a job of it, too.
            Order::Scale(_) if service.spec().is_some_and(|spec| spec.schedule.is_some()) => {}
            Order::Scale(count) => {
                let over = service.spec().zip(service.rules()).map(|(spec, rules)| (spec.replicas, rules.replicas));
                service.scaled = Some(Scaled { to: count.min(super::INSTANCES_MAX), over });
            }
            Order::Start | Order::Restart => {
                service.stopped = false;
                // Scaled to nothing is stopped, too.
                service.scaled = service.scaled.filter(|scaled| scaled.to > 0);
                service.call.called = true;
                service.trial = None;
                service.churn = Churn::default();
                service.begin_anew();
                // A restart is of the run that goes on, where one does.
                if service.schedule().is_some() || !service.agenda.is_empty() {
                    service.agenda.asked = order == Order::Start || service.runs().next().is_none();
                }
                for instance in &mut service.instances {
                    match &instance.life {
                        Life::Finished(_) if instance.run.is_none() => instance.life = Life::Idle,
                        Life::Running(_) | Life::Starting(_) if order == Order::Restart => {
                            instance.must_restart = true;
                        }
                        Life::Running(_)
                        | Life::Starting(_)
                        | Life::Idle
                        | Life::Preparing(_)
                        | Life::Stopping(_)
                        | Life::BackOff(_)
                        | Life::Finished(_) => {}
                    }
                }
            }
        }
        self.mark(id);
    }
}

impl Service {
    /// Its file is gone, and the one that is refused now had its name in vain.
    fn forget_conflict(&mut self) {
        let (Some(declared), Some((rejection, _))) = (&mut self.declared, &self.rejected) else { return };
        if declared.source.file != rejection.source.file {
            declared.problems.retain(|(reason, _)| *reason != Reason::NameConflict);
        }
    }

    /// What runs takes up of the declared version what needs no new process; nothing while an edit waits.
    pub fn take_up(&mut self, now: Now) {
        let Some(spec) = self.spec().cloned() else { return };
        let made = self.made();
        let waits = self.kept.as_ref().map(|kept| kept.print);
        let generation = self.generation;
        for instance in &mut self.instances {
            let Life::Running(running) = &mut instance.life else { continue };
            let print = running.made.print;
            let is_of_it = made.as_ref().map_or(spec.process_digest == print.process, |made| made.print == print);
            if is_of_it && waits != Some(print) {
                let old = running.made.spec.clone();
                let past = running.past(&spec);
                // What was said to another check says nothing to this one.
                let is_judged_as_before = || running.made.own.as_ref().is_some_and(|own| own.is_of(&spec));
                running.marks.heard &= running.made.spec.is_some() || is_judged_as_before();
                running.untold |= running.made.generation != generation;
                running.made = Arc::new(Made {
                    print: made.as_ref().map_or(print, |made| made.print),
                    generation,
                    own: None,
                    spec: Some(spec.clone()),
                    wrapper: made.as_ref().map_or_else(|| running.made.wrapper.clone(), |made| made.wrapper.clone()),
                    signal: spec.stop.signal,
                    grace: spec.stop.grace_period,
                });
                running.rejudged |= old.as_ref() != Some(&spec);
                running.resized |= running.made.is_resized(old.as_deref());
                running.take_up(old.as_deref(), &spec, past, now);
            } else if running.made.spec.is_none() {
                // Adopted and outdated: until it is replaced it is checked as its own version said,
                // and by nothing where that is not known.
                let mut made = (*running.made).clone();
                let own = made.own.take().unwrap_or_default();
                let mut spec = own.checks_in(&spec);
                (spec.stop.signal, spec.stop.grace_period) = (made.signal, made.grace);
                let spec = Arc::new(spec);
                let past = match own.judges_nothing() {
                    true => Past::Started,
                    false => running.past_of_an_earlier_controller(true),
                };
                made.spec = Some(spec.clone());
                running.made = Arc::new(made);
                running.rejudged = true;
                running.take_up(None, &spec, past, now);
            }
        }
    }
}

/// The times of its readiness may have been edited, not what is asked.
fn is_asked_the_same(old: &Spec, new: &Spec) -> bool {
    let check = |spec| readiness_of(spec).map(|probe| &probe.check);
    check(old) == check(new)
}

impl Running {
    /// What is known of it when it is judged by `new` from now on.
    pub fn past(&self, new: &Spec) -> Past {
        let Some(old) = self.made.spec.as_deref() else {
            return self.past_of_an_earlier_controller(self.made.own.as_ref().is_some_and(|own| own.is_of(new)));
        };
        match self.was_ready {
            true if self.checks.is_ready(old) && is_asked_the_same(old, new) => Past::Carried,
            true => Past::Ready,
            false => Past::Unready,
        }
    }

    /// `same`: it is judged as it was then.
    fn past_of_an_earlier_controller(&self, same: bool) -> Past {
        match (self.carried.is_some(), self.marks.once) {
            (true, _) if same => Past::Carried,
            (false, true) if same => Past::Lost,
            (true, _) | (_, true) => Past::Ready,
            (false, false) if self.marks.started => Past::Started,
            (false, false) => Past::Unready,
        }
    }

    /// Takes up a spec that needs no new process.
    pub fn take_up(&mut self, old: Option<&Spec>, new: &Spec, past: Past, now: Now) {
        let same = |old: &Spec| old.readiness == new.readiness && old.startup_probe == new.startup_probe;
        match old {
            Some(old) if same(old) && old.liveness_probe == new.liveness_probe => {}
            Some(old) if same(old) => self.checks.relive(new, now.mono),
            Some(old) => {
                let Marks { leaving, heard, .. } = self.checks.marks(old);
                let heard = heard && is_asked_the_same(old, new);
                let marks = Marks { leaving, heard, ..Marks::default() };
                self.checks = Checks::resume(new, self.spawned, now.mono, past, marks);
            }
            None => self.checks = Checks::resume(new, self.spawned, now.mono, past, self.marks),
        }
    }
}
