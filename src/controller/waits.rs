//! Waits that end early: what failed may work again when something else has changed.
//!
//! An edit and `plugd start` end a wait at once (`declare.rs`). Here are the softer reasons: a
//! dependency that became ready, any service that recovered, a port that became free. They end a
//! wait within 0 to 2 s, at random, so that 50 services do not fall on a database that has just
//! come back; and never make it more than one try a second.

use std::time::Duration;

use super::Controller;
use super::life::{Cause, Life, Setback};
use super::service::{Id, Service};
use crate::model::reason::Reason;
use crate::model::spec::{Check, ProbePort};
use crate::model::time::Now;

/// Within this a wait ends after news.
const SPREAD: Duration = Duration::from_secs(2);
/// Recovery of just any service ends a wait at most this often: a flapping neighbour must not make
/// it hammer.
const NEIGHBOUR: Duration = Duration::from_secs(60);
/// Between two tries, however good the news.
const TRY_GAP: Duration = Duration::from_secs(1);

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Something that it names.
    Own,
    /// Just any service has recovered.
    Neighbour,
    /// A life that is over has left its room.
    Room,
}

impl Controller {
    /// Shortens the waits of a service.
    pub(super) fn cut_wait(&mut self, id: Id, now: Now, news: News) {
        let neighbour = news == News::Neighbour;
        let Some(service) = self.table.get_mut(id) else { return };
        let mut cut = false;
        for instance in &mut service.instances {
            let Life::BackOff(wait) = &mut instance.life else { continue };
            // That what it needs is there again is what it waits out.
            if wait.kind == Setback::NeedLost {
                continue;
            }
            if news == News::Room && wait.kind != Setback::Missing(Reason::ResourceExhausted) {
                continue;
            }
            if neighbour && instance.cut_at.is_some_and(|at| now.mono < at + NEIGHBOUR) {
                continue;
            }
            let earliest = instance.last_try.map_or(now.mono, |at| (at + TRY_GAP).max(now.mono));
            let until = earliest.max(now.mono + self.random.within(SPREAD));
            if until < wait.until {
                wait.until = until;
                wait.until_wall = now.wall_at(until);
                cut = true;
                if neighbour {
                    instance.cut_at = Some(now.mono);
                }
            }
        }
        if cut {
            service.touched = true;
            self.mark(id);
        }
    }

    /// A wait is told as a moment of the wall clock, which was set.
    pub(super) fn tell_waits_anew(&mut self, now: Now) {
        for id in self.backing_off.iter().copied().collect::<Vec<_>>() {
            let Some(service) = self.table.get_mut(id) else { continue };
            for instance in &mut service.instances {
                if let Life::BackOff(wait) = &mut instance.life {
                    wait.until_wall = now.wall_at(wait.until);
                }
            }
            service.touched = true;
            self.mark(id);
        }
    }

    /// Tells everybody who waits that somebody has recovered.
    pub(super) fn spread_recovery(&mut self, now: Now) {
        for recovered in std::mem::take(&mut self.recovered) {
            for id in self.backing_off.iter().copied().filter(|&id| id != recovered).collect::<Vec<_>>() {
                self.cut_wait(id, now, News::Neighbour);
            }
        }
    }

    /// What ended and does not come again leaves room for those that found none.
    pub(super) fn spread_room(&mut self, now: Now) {
        if std::mem::take(&mut self.room) {
            for id in self.backing_off.iter().copied().collect::<Vec<_>>() {
                self.cut_wait(id, now, News::Room);
            }
        }
    }

    pub(super) fn port_free(&mut self, port: u16, now: Now) {
        for id in self.ports.remove(&port).unwrap_or_default() {
            if let Some(service) = self.table.get_mut(id) {
                service.instances.iter_mut().for_each(|instance| instance.blamed = None);
                service.touched = true;
                self.mark(id);
            }
            self.cut_wait(id, now, News::Own);
        }
    }

    /// Learnt once it had ended: many end sooner than a check can look.
    pub(super) fn port_held(&mut self, id: Option<Id>, service: &mut Service, at: usize, message: String) {
        let waits = match &service.instances[at].life {
            Life::Stopping(stopping) if stopping.cause == Cause::Ended => false,
            Life::BackOff(wait) if wait.kind == Setback::Ended => true,
            Life::Finished(_) => false,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_) => return,
        };
        service.instances[at].blamed = Some((Reason::AddressInUse, message));
        service.touched = true;
        if let Some(id) = id.filter(|_| waits) {
            self.await_port(id, service, at);
        }
    }

    /// Keeps the set of those who wait, after a wait began or ended.
    pub(super) fn note_back_off(&mut self, id: Id, service: &Service) {
        let waits = service.instances.iter().any(|instance| match &instance.life {
            Life::BackOff(_) => true,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::Finished(_) => false,
        });
        if waits {
            self.backing_off.insert(id);
        } else {
            self.backing_off.remove(&id);
        }
    }

    /// A wait that begins after `AddressInUse` asks to be told when the port is free.
    pub(super) fn await_port(&mut self, id: Id, service: &Service, at: usize) {
        if service.instances[at].port_holder().is_none() {
            return;
        }
        if let Some(port) = service.rules().and_then(|spec| port_of(spec)) {
            let waiters = self.ports.entry(port).or_default();
            if waiters.is_empty() {
                self.port_asks.push(port);
            }
            waiters.insert(id);
        }
    }
}

/// The port that the readiness of a service is about.
pub(super) fn port_of(spec: &crate::model::spec::Spec) -> Option<u16> {
    let checked = spec.readiness.probe().and_then(|probe| match &probe.check {
        Check::TcpSocket { port: ProbePort::Number(port), .. }
        | Check::HttpGet { port: ProbePort::Number(port), .. }
        | Check::Grpc { port: ProbePort::Number(port), .. }
        | Check::Mcp { port: ProbePort::Number(port), .. } => Some(*port),
        Check::TcpSocket { port: ProbePort::Instance, .. }
        | Check::HttpGet { port: ProbePort::Instance, .. }
        | Check::Grpc { port: ProbePort::Instance, .. }
        | Check::Mcp { port: ProbePort::Instance, .. }
        | Check::Exec { .. }
        | Check::Notify
        | Check::Fd(_)
        | Check::LogLine(_)
        | Check::Later(_) => None,
    });
    checked.or(spec.process.port)
}

/// The port that a running life is checked by.
pub(super) fn port_of_made(running: &super::life::Running) -> Option<u16> {
    running.made.spec.as_ref().and_then(|spec| port_of(spec))
}
