//! A port that goes from one service to another (a manifest that was renamed): who comes after waits until who had it
//! has gone, instead of failing against it.

use std::time::Duration;

use super::Controller;
use super::life::{Life, Made};
use super::service::{Id, Service};
use super::waits::port_of;
use crate::model::name::Name;
use crate::model::time::Now;

/// Under its new name a renamed file is seen at once, under the old one it is missed 100 ms later, for an editor may put
/// it there again. Longer nobody who stays is waited for.
pub const MISSED: Duration = Duration::from_millis(150);
/// Who was about to leave may have been told to stay.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a service waits for that is to have the port of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heir {
    pub of: Name,
    pub port: u16,
    pub leaves: bool,
    since: Duration,
}

impl Controller {
    /// Until when it does not start, because a service of this node has its port and leaves.
    pub(super) fn inherits(&mut self, id: Id, service: &mut Service, at: usize, now: Now) -> Option<Duration> {
        let before = service.heir.take();
        let Some((holder, port, leaves)) = self.holder_before(id, service) else {
            self.heirs.remove(&id);
            return None;
        };
        let since = before.as_ref().map_or(now.mono, |heir| heir.since);
        let until = match leaves {
            true => now.mono + LOOK_AGAIN,
            // Only who begins may be the same service under another name.
            false if service.instances[at].last_try.is_none() => since + MISSED,
            false => now.mono,
        };
        if until <= now.mono {
            self.heirs.remove(&id);
            return None;
        }
        let heir = Some(Heir { of: holder, port, leaves, since });
        service.touched |= before != heir;
        service.heir = heir;
        self.heirs.insert(id);
        Some(until)
    }

    /// The service that has the port that this one is to have, and whether it leaves.
    fn holder_before(&self, id: Id, service: &Service) -> Option<(Name, u16, bool)> {
        let port = own_port(&*service.next()?)?;
        let holders = self.ports_had.get(&port)?.iter().filter(|holder| **holder != id);
        let mut holders = holders.filter_map(|holder| self.table.get(*holder));
        let first = holders.next()?;
        // Who stays is in the way whoever else leaves.
        let holder = holders.find(|holder| !leaves(holder)).unwrap_or(first);
        Some((holder.name.clone(), port, leaves(holder)))
    }

    /// Whether it is being ended, and nothing of it is to start again.
    pub fn leaves(&self, name: &Name) -> bool {
        self.table.id(name).and_then(|id| self.table.get(id)).is_some_and(leaves)
    }

    /// Keeps who has which port; who waits for one looks again when it is free.
    pub(super) fn note_port(&mut self, id: Id, service: &mut Service) {
        let has = port_had(service);
        if has == service.port_had {
            return;
        }
        if let Some(old) = std::mem::replace(&mut service.port_had, has) {
            if let Some(holders) = self.ports_had.get_mut(&old) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.ports_had.remove(&old);
                }
            }
            for heir in self.heirs.iter().copied().collect::<Vec<_>>() {
                self.mark(heir);
            }
        }
        if let Some(port) = has {
            self.ports_had.entry(port).or_default().insert(id);
        }
    }

    /// The service is gone.
    pub(super) fn leave_ports(&mut self, id: Id, service: &mut Service) {
        self.heirs.remove(&id);
        service.instances.clear();
        self.note_port(id, service);
    }
}

/// Where a process of it listens, or is about to.
fn port_had(service: &Service) -> Option<u16> {
    let made = service.instances.iter().find_map(|instance| match &instance.life {
        Life::Starting(starting) => Some(&starting.made),
        Life::Running(running) => Some(&running.made),
        Life::Stopping(stopping) => Some(&stopping.made),
        Life::Idle | Life::Preparing(_) | Life::BackOff(_) | Life::Finished(_) => None,
    });
    own_port(made?)
}

/// None where plugd itself listens.
fn own_port(made: &Made) -> Option<u16> {
    made.spec.as_deref().filter(|spec| spec.process.on_demand.is_none()).and_then(port_of)
}

/// It is being ended, and nothing of it is to start again.
fn leaves(service: &Service) -> bool {
    service.gate.ends_all()
        && service.instances.iter().any(|instance| match instance.life {
            Life::Stopping(_) => true,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::BackOff(_)
            | Life::Finished(_) => false,
        })
}
