//! Services that run on demand: who calls them, and when they may sleep again.
//!
//! A service is awake from the moment somebody wants it: a connection at its door, `plugd start`, somebody who
//! depends on it and wants to start. It falls asleep once nobody has wanted it for `idleStop`. Somebody who
//! depends on it and runs does not keep it awake: what that one needs of it comes by a connection, and wakes it.
//!
//! Awake it is like any other service: a crash is waited out on the ladder, however many wait at its door. Where its
//! restart policy lets nothing follow an end, the next call does (of somebody who depends on it, too): at once, or on the
//! ladder for who waits already. One that ends well while nobody is there sleeps, whatever its policy is: so do servers
//! that leave when they are idle. One that ends before anybody could be let in has failed to start, however it ends.

use std::time::Duration;

use super::Controller;
use super::end::AT_ONCE;
use super::explain;
use super::input::{Block, Demand};
use super::life::Life;
use super::service::{Gate, Id, Instance, Service};
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Activation, Dependency};
use crate::model::time::Now;
use crate::model::view::ServiceView;

/// What is told of a service (`Input::Problem`) at whose port plugd cannot listen.
pub const SHUT: [Reason; 4] =
    [Reason::AddressInUse, Reason::PermissionDenied, Reason::ResourceExhausted, Reason::Error];

/// What calls a service.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub demand: Demand,
    /// Plugd listens for it.
    listens: bool,
    pub awake: bool,
    /// All of it ended well while nobody waited for it to be ready: it has completed, and sleeps.
    pub left: bool,
    /// Somebody started it by hand since it was looked at.
    pub called: bool,
    /// When somebody wanted it last.
    pub used: Duration,
    /// It was told that plugd cannot listen on this port for it.
    told_shut: Option<u16>,
}

impl Service {
    pub fn activation(&self) -> Option<&Activation> {
        self.spec().and_then(|spec| spec.activation.as_ref())
    }

    /// Nobody wants it now.
    pub fn is_asleep(&self) -> bool {
        self.activation().is_some() && !self.call.awake
    }

    /// Nobody can call it: why not.
    pub fn shut(&self) -> Option<(Reason, &str)> {
        self.activation()?;
        SHUT.into_iter().find_map(|reason| Some((reason, self.edge_problems.get(&reason)?.as_str())))
    }

    /// What keeps its callers waiting although something of it is ready.
    pub fn blocked_at_door(&self) -> Option<(Reason, String)> {
        Some(match self.call.demand.block? {
            Block::Full(count) => (Reason::ResourceExhausted, crowded(count, "for one service")),
            Block::NodeFull(count) => (Reason::ResourceExhausted, crowded(count, "at a time")),
            Block::Taken => {
                let message = "another process listens on the port that was given to it: who calls it waits";
                (Reason::AddressInUse, message.into())
            }
        })
    }

    /// Nothing of it runs, and it starts as soon as somebody wants it.
    pub fn waits_for_demand(&self) -> bool {
        self.is_asleep() && !self.is_occupied() && self.may_be_called()
    }

    /// It has ended more often than it may: that is final.
    fn is_spent(&self) -> bool {
        self.instances.iter().any(|instance| instance.recent.is_spent())
    }

    /// Somebody waits at its door: whatever its restart policy says, it is wanted.
    pub fn is_waited_for(&self) -> bool {
        self.activation().is_some() && self.call.demand.waiting
    }

    /// It runs on demand, and one of it that has just ended is missed by nobody.
    pub fn is_left_alone(&self) -> bool {
        self.activation().is_some() && !self.call.demand.waiting && !self.is_in_use()
    }

    /// Others of it serve somebody. (Who was connected to the only one is so no more, whether that has been told or not.)
    pub fn is_in_use(&self) -> bool {
        self.activation().is_some() && self.is_occupied() && self.call.demand.connected
    }

    /// A call starts it, unless it runs.
    pub fn may_be_called(&self) -> bool {
        self.is_to_be_called() && !self.is_spent()
    }

    /// All of it has ended, and its restart policy lets nothing follow.
    pub fn is_over(&self) -> bool {
        let over =
            |instance: &Instance| instance.life.is_finished() && instance.run.is_none() && !instance.recent.is_spent();
        let wanted = self.desired() as usize;
        wanted > 0 && self.instances.len() >= wanted && self.instances.iter().take(wanted).all(over)
    }

    /// Whoever depends on it waits for it. (What completed is what was waited for.)
    fn has_failed_for_good(&self) -> bool {
        let failed = |life: &Life| life.is_finished() && !life.is_completed();
        self.instances.iter().any(|instance| failed(&instance.life))
    }

    /// What has ended may be called again.
    fn forget_ends(&mut self) {
        let ends = self.instances.iter_mut().filter(|instance| !instance.recent.is_spent());
        for instance in ends.filter(|instance| instance.life.is_finished()) {
            instance.life = Life::Idle;
            self.touched = true;
        }
    }

    /// Those that left after they had served for a while may be started again beside the others. What ends at once would
    /// be started by each call.
    fn miss_again(&mut self) {
        let lasted = |one: &Instance| one.last_exit.as_ref().is_some_and(|last| last.ran_for >= AT_ONCE);
        for instance in self.instances.iter_mut().filter(|one| one.life.is_completed() && lasted(one)) {
            instance.life = Life::Idle;
            self.touched = true;
        }
    }

    /// Its last start was none: who calls it next will most likely not be answered, either.
    pub fn failed_last(&self) -> Option<&Instance> {
        self.instances.first().filter(|instance| instance.ladder.failed_starts > 0)
    }

    /// It waits for demand, and callers reach it.
    pub fn can_be_called(&self) -> bool {
        self.waits_for_demand() && self.call.listens && self.shut().is_none()
    }

    /// Whether plugd can listen for it is found out in this moment. (Where the version before the edit that says so runs
    /// on, that one may have the port.)
    pub fn awaits_door(&self) -> bool {
        self.may_be_called() && self.kept.is_none() && !self.call.listens && self.shut().is_none()
    }

    /// It sleeps, and whoever calls it will most likely be answered.
    pub fn would_answer(&self) -> bool {
        self.can_be_called() && self.failed_last().is_none()
    }

    /// An instance of it is ready, and callers reach it. `ready`: how many are.
    pub fn serves(&self, ready: usize) -> bool {
        ready > 0 && self.shut().is_none()
    }

    /// Whether plugd listens for it or not: it should, all the time.
    pub fn is_to_be_called(&self) -> bool {
        self.activation().is_some() && self.gate.lets_begin() && self.desired() > 0
    }
}

/// Who is not meant to run, or cannot, is not listened for: a caller is better refused than kept waiting.
pub fn is_listened_for(view: &ServiceView) -> bool {
    match view.status {
        Status::Stopped | Status::Skipped => false,
        // However it ended, the next call is a new beginning.
        Status::Failed | Status::Completed => view.on_demand,
        Status::Starting
        | Status::Running
        | Status::Healthy
        | Status::Degraded
        | Status::Unhealthy
        | Status::Waiting
        | Status::Stopping => true,
    }
}

fn crowded(count: usize, whose: &str) -> String {
    format!(
        "all {count} connections that plugd passes on {whose} were taken, and less than an eighth of them is free again: \
         who calls it waits while none is"
    )
}

impl Controller {
    pub(super) fn listened(&mut self, id: Id, listens: bool) {
        let Some(service) = self.table.get_mut(id) else { return };
        service.touched |= std::mem::replace(&mut service.call.listens, listens) != listens;
        self.mark(id);
    }

    pub(super) fn demanded(&mut self, id: Id, demand: Demand, sent_away: u32, now: Now) {
        let Some(service) = self.table.get_mut(id) else { return };
        let before = std::mem::replace(&mut service.call.demand, demand);
        service.touched |= before.block != demand.block;
        // One of several that left while nobody was there is missed again. (Where all of it is over only who waits is
        // a call: `follow_demand`.)
        if demand.calls_after(before) && service.may_be_called() && !service.is_over() {
            service.miss_again();
        }
        service.call.used = now.mono;
        let hold = service.activation().map(|activation| activation.hold_requests);
        if let (1.., Some(hold)) = (sent_away, hold) {
            let waited = explain::span(hold);
            let why = match demand.block.or(before.block) {
                None => "nothing of it was ready",
                Some(Block::Full(_) | Block::NodeFull(_)) => "there was no room for more",
                Some(Block::Taken) => "another process listens on its port",
            };
            let message = match sent_away {
                1 => format!("a connection had waited {waited} and was closed: {why}"),
                many => format!("{many} connections had waited {waited} and were closed: {why}"),
            };
            self.record_of(id, Reason::HoldExpired, true, message, now);
        }
        self.mark(id);
    }

    /// Whether callers reach its port is told when it changes.
    pub(super) fn follow_door(&mut self, service: &mut Service, now: Now) {
        if !service.is_to_be_called() {
            service.call.told_shut = None;
            return;
        }
        let port = service.spec().and_then(|spec| spec.process.port);
        let name = &service.name;
        let found = service.shut().map(|(reason, why)| (reason, format!("{name} cannot be called: {why}")));
        let told = service.call.told_shut;
        service.call.told_shut = port.filter(|_| found.is_some());
        let (reason, message) = match (told, found) {
            // The controller before this one has told it.
            (None, Some((reason, _))) if service.recalled.is_some_and(|told| told.reason == Some(reason)) => return,
            (None, Some(found)) => found,
            // An edit of the port says nothing of the new one.
            (Some(told), None) if port == Some(told) => {
                (Reason::Recovered, format!("{name} can be called again: plugd listens on port {told} for it"))
            }
            (Some(_) | None, _) => return,
        };
        self.events.push(super::event_of(service, reason, reason != Reason::Recovered, message, now));
    }

    /// Wakes it or lets it sleep; gives the moment to look again.
    pub(super) fn follow_demand(&mut self, service: &mut Service, now: Now) -> Option<Duration> {
        // Who goes when the node ends is settled.
        if self.ending.is_some() {
            return None;
        }
        if service.gate.ends_all() {
            // What called it then does not call it when it may run again.
            service.touched |= service.call.awake;
            (service.call.awake, service.call.called, service.call.left) = (false, false, false);
            return None;
        }
        // Whether it runs on demand its manifest will tell.
        service.declared.as_ref()?;
        let Some(idle_stop) = service.activation().map(|activation| activation.idle_stop) else {
            (service.call.awake, service.call.called, service.call.left) = (false, false, false);
            return None;
        };
        let called = std::mem::take(&mut service.call.called);
        service.call.left &= service.is_over();
        if service.is_over() {
            let needed = (service.has_failed_for_good() || service.call.left) && self.is_called_for(service);
            if !called && !service.is_waited_for() && !needed {
                // The next call is a new beginning; who is still connected, to nobody, is none.
                service.touched |= std::mem::take(&mut service.call.awake);
                // Who waits for it now has had it ready, and waits for something else: one that leaves again and again is
                // not called without end.
                service.call.left |= !service.has_failed_for_good() && !self.is_called_for(service);
                return None;
            }
            service.forget_ends();
            service.call.left = false;
        }
        let at_door = service.call.demand.waiting || service.call.demand.connected;
        let wanted = called || at_door || (!service.call.awake && self.is_called_for(service));
        if wanted {
            service.touched |= !service.call.awake;
            (service.call.awake, service.call.used) = (true, now.mono);
        }
        if !service.call.awake || at_door {
            return None;
        }
        // Who called it is to find it ready, however long that takes.
        let starts = service.instances.iter().any(|instance| instance.life.is_starting());
        let comes = starts || self.is_coming(service);
        if comes && !service.instances.iter().any(|instance| instance.life.is_ready()) {
            service.call.used = now.mono;
            return None;
        }
        let idle_stop = idle_stop?;
        let until = service.call.used + idle_stop;
        if now.mono < until {
            return Some(until);
        }
        // Somebody waits for it to be ready; it does not come and go meanwhile.
        if self.is_called_for(service) {
            service.call.used = now.mono;
            return Some(now.mono + idle_stop);
        }
        service.call.awake = false;
        service.touched = true;
        service.forget_ends();
        for served in service.instances.iter_mut().filter(|instance| instance.life.is_ready()) {
            // However briefly it ran, nobody missed it.
            served.ladder.failed_starts = 0;
        }
        if service.is_occupied() {
            let message =
                format!("nobody was connected for {}; it sleeps until the next connection", explain::span(idle_stop));
            self.record(service, 0, Reason::IdleStopped, false, message, now);
        }
        None
    }

    /// Who wants to start wakes what it depends on; who has started lets what left meanwhile sleep.
    pub(super) fn call_dependencies(&mut self, service: &mut Service) {
        let of = |dependency: &Dependency| self.table.id(&dependency.name);
        let mut looks: Vec<Id> = calls(service).filter_map(of).collect();
        let calls_on = !looks.is_empty();
        if std::mem::replace(&mut service.calls, calls_on) && !calls_on {
            looks = service.all_needs().filter_map(of).collect();
        }
        for id in looks {
            if self.table.get(id).is_some_and(Service::is_asleep) {
                self.mark(id);
            }
        }
    }

    /// Somebody who depends on it wants to start.
    pub(super) fn is_called_for(&self, service: &Service) -> bool {
        let mut dependents = self.table.dependents(&service.name).filter_map(|id| self.table.get(id));
        dependents.any(|other| calls(other).any(|dependency| dependency.name == service.name))
    }
}

/// What is to come for it to start: what it waits for by the version that would start, and by an edit that is to take
/// its place. (One that waits on the ladder does not want to start yet.)
fn calls(service: &Service) -> impl Iterator<Item = &Dependency> {
    let print = service.next().map(|made| made.print);
    let to_start = |life: &Life| match life {
        Life::Idle => true,
        Life::Finished(finished) => print.is_some_and(|print| print != finished.print),
        Life::Preparing(_) | Life::Starting(_) | Life::Running(_) | Life::Stopping(_) | Life::BackOff(_) => false,
    };
    let is_up = !service.is_asleep() && !service.is_armed();
    let starts = service.instances.iter().take(service.desired() as usize).any(|one| to_start(&one.life));
    let waits = matches!(service.gate, Gate::Waiting(_)) && (starts || service.is_outdated());
    let declared = service.spec().filter(|_| is_up && waits);
    let goes_on = service.gate == Gate::Open || service.gate.is_of_the_version();
    let kept = service.kept_spec().filter(|_| is_up && starts && goes_on);
    declared.into_iter().chain(kept).flat_map(|spec| &spec.depends_on)
}
