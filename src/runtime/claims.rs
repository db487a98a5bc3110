//! Whether an edit's new port is to be had. A port that somebody else listens on blocks the edit: the version before
//! serves, and the new one would not. Who blocks it is looked at again when a process ends and when another edit may go
//! on, so that services that change ports do it together.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::Node;
use crate::controller::Input;
use crate::edge::probe::{Listener, Sockets};
use crate::model::manifest::instance_port;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::reason::Reason;
use crate::model::spec::{Digest, Spec};

/// A new port on which somebody listens.
struct Claim {
    port: u16,
    listeners: Vec<Listener>,
    /// The services that do not leave it.
    stay: Vec<Name>,
}

/// An edit that has been found good but for its ports.
pub(super) struct Claimant {
    spec: Arc<Spec>,
    digest: Digest,
    look: AbortHandle,
}

impl Node {
    /// A spec has been tried: what is found of its ports is a part of the answer.
    pub(super) fn tried(&mut self, spec: Arc<Spec>, digest: Digest, result: Result<(), (Reason, String)>) {
        let name = spec.name.clone();
        // What was found before is not to come behind what is found now.
        self.drop_claims(&name);
        let before = self.ports_before(&name);
        let claims = if result.is_ok() { self.claims(&spec, &before) } else { Vec::new() };
        if claims.is_empty() {
            self.note(Input::Tried { name, digest, result });
            return;
        }
        let (of, sockets, sender) = (name.clone(), self.sockets.clone(), self.sender.clone());
        let look = tokio::task::spawn_local(async move {
            let mut result = Ok(());
            let meant = bound(&name, &before, &sockets).await;
            for claim in claims {
                if let Some(message) = holder(&name, &claim, &meant, &sockets).await {
                    result = Err((Reason::AddressInUse, message));
                    break;
                }
            }
            // Where the loop is gone nobody is left to be told.
            let _ = sender.send(Input::Tried { name, digest, result }).await;
        });
        self.claimants.insert(of, Claimant { spec, digest, look: look.abort_handle() });
    }

    pub(super) fn drop_claims(&mut self, name: &Name) {
        if let Some(claimant) = self.claimants.remove(name) {
            claimant.look.abort();
        }
    }

    /// A port may have been left, or is about to be.
    pub(super) fn look_at_claims(&mut self) {
        for name in self.claimants.keys().cloned().collect::<Vec<_>>() {
            if let Some(Claimant { spec, digest, .. }) = self.claimants.get(&name) {
                self.tried(spec.clone(), *digest, Ok(()));
            }
        }
    }

    /// The ports of what runs.
    fn ports_before(&self, name: &Name) -> BTreeSet<u16> {
        let running = self.lives_of(name);
        running.flat_map(|(_, live)| live.spec.process.port.into_iter().chain(ports(&live.spec))).collect()
    }

    /// None where nothing with a port runs, which an edit could do harm to. Who writes a port for the first time tells
    /// which it has, perhaps by a process that is not the service's own (docker-proxy).
    fn claims(&self, spec: &Spec, before: &BTreeSet<u16>) -> Vec<Claim> {
        if before.is_empty() || spec.process.on_demand.is_some() {
            // On demand plugd listens itself.
            return Vec::new();
        }
        let new = ports(spec).filter(|port| !before.contains(port));
        let claim = |port: u16| {
            let listeners = self.sockets.listeners(port);
            if listeners.is_empty() {
                return None;
            }
            let has_it = |other: &&Arc<Spec>| ports(other).any(|one| one == port);
            let stays = |other: &&Arc<Spec>| has_it(other) || !self.is_leaving(&other.name, &spec.name);
            let stay = self.specs.values().filter(stays).map(|other| other.name.clone()).collect();
            Some(Claim { port, listeners, stay })
        };
        new.filter_map(claim).collect()
    }

    /// Whether the edit of `owner` is carried out: it does not wait for `name` to be ready, and it is not blocked, or
    /// by nothing but a port that `name` leaves, or one who waits for that.
    fn is_leaving(&self, owner: &Name, name: &Name) -> bool {
        if self.depends(owner, name) {
            return false;
        }
        let mut seen = BTreeSet::from([owner.clone()]);
        let mut open = vec![owner.clone()];
        let mut is_free = true;
        while let Some(at) = open.pop() {
            let view = self.publisher.view(&at);
            let waits = [Reason::UpdateBlocked, Reason::DependencyNotReady];
            let Some(view) = view.filter(|view| waits.iter().any(|reason| view.problem(*reason).is_some())) else {
                continue;
            };
            let wanted: BTreeSet<u16> = self.specs.get(&at).into_iter().flat_map(|spec| ports(spec)).collect();
            let in_the_way = |(life, live): &(&LifeId, &super::live::Live)| {
                life.instance.service != at && ports(&live.spec).any(|port| wanted.contains(&port))
            };
            let others: BTreeSet<Name> =
                self.lives.iter().filter(in_the_way).map(|(life, _)| life.instance.service.clone()).collect();
            if others.contains(name) {
                return true;
            }
            // Nobody of this node is in its way: something else blocks it.
            is_free &= !others.is_empty() && view.problem(Reason::UpdateBlocked).is_some();
            open.extend(others.into_iter().filter(|other| seen.insert(other.clone())));
        }
        is_free
    }

    /// By what is declared, by whichever way.
    fn depends(&self, who: &Name, on: &Name) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![who];
        while let Some(at) = open.pop() {
            for need in self.specs.get(at).into_iter().flat_map(|spec| &spec.depends_on) {
                if need.name == *on {
                    return true;
                }
                if seen.insert(&need.name) {
                    open.push(&need.name);
                }
            }
        }
        false
    }
}

fn ports(spec: &Spec) -> impl Iterator<Item = u16> {
    (0..spec.replicas).map_while(|index| instance_port(&spec.process, index))
}

/// Where what runs of the service listens: what comes after it will bind the same. Where that cannot be seen it is
/// this machine's usual address, which those who bind all need as well.
async fn bound(name: &Name, before: &BTreeSet<u16>, sockets: &Arc<Sockets>) -> BTreeSet<IpAddr> {
    let mut bound = BTreeSet::new();
    for listener in before.iter().flat_map(|port| sockets.listeners(*port)) {
        let owner = sockets.holder(listener.inode).await.and_then(|holder| owner(holder.pid, sockets));
        bound.extend(owner.filter(|owner| owner == name).map(|_| listener.addr));
    }
    if bound.is_empty() {
        bound.insert(Ipv4Addr::LOCALHOST.into());
    }
    bound
}

/// The service that a process belongs to.
fn owner(pid: i32, sockets: &Sockets) -> Option<Name> {
    // Asked by nobody: the instances of the service itself count as others.
    let nobody = Instance { service: Name::parse("nobody").ok()?, index: u32::MAX };
    Some(sockets.neighbours.owner(pid, &LifeId { instance: nobody, life: 0 })?.instance.service)
}

/// Who is in the way, and stays there.
async fn holder(name: &Name, claim: &Claim, meant: &BTreeSet<IpAddr>, sockets: &Arc<Sockets>) -> Option<String> {
    let Claim { port, listeners, stay } = claim;
    for listener in listeners.iter().filter(|one| meant.iter().any(|meant| one.is_in_the_way(*meant))) {
        let Some(holder) = sockets.holder(listener.inode).await else {
            if !sockets.inodes(*port).contains(&listener.inode) {
                // It has gone meanwhile.
                continue;
            }
            return Some(format!("port {port} is held by a process of uid {} that cannot be seen", listener.uid));
        };
        match owner(holder.pid, sockets) {
            Some(owner) if owner == *name => {}
            Some(owner) if stay.contains(&owner) => {
                return Some(format!("port {port} is held by the service {owner}, {holder}"));
            }
            // It is about to leave it: two services may change ports.
            Some(_) => {}
            None => return Some(format!("port {port} is held by {holder}")),
        }
    }
    None
}
