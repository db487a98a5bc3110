//! Whether an edit's new port is to be had. A port that somebody else listens on blocks the edit: the version before
//! serves, and the new one would not.

use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// The services that are to have it, by their manifests.
    declared: Vec<Name>,
}

impl Node {
    /// A spec has been tried: what is found of its ports is a part of the answer.
    pub(super) fn tried(&mut self, spec: &Spec, digest: Digest, result: Result<(), (Reason, String)>) {
        let name = spec.name.clone();
        let claims = if result.is_ok() { self.claims(spec) } else { Vec::new() };
        if claims.is_empty() {
            self.queue.push_back(Input::Tried { name, digest, result });
            return;
        }
        let (sockets, sender) = (self.sockets.clone(), self.sender.clone());
        tokio::task::spawn_local(async move {
            let mut result = Ok(());
            for claim in claims {
                if let Some(message) = holder(&name, &claim, &sockets).await {
                    result = Err((Reason::AddressInUse, message));
                    break;
                }
            }
            // Where the loop is gone nobody is left to be told.
            let _ = sender.send(Input::Tried { name, digest, result }).await;
        });
    }

    /// None where nothing with a port runs, which an edit could do harm to. Who writes a port for the first time tells
    /// which it has, perhaps by a process that is not the service's own (docker-proxy).
    fn claims(&self, spec: &Spec) -> Vec<Claim> {
        let running = self.lives.iter().filter(|(life, _)| life.instance.service == spec.name);
        let before: BTreeSet<u16> =
            running.flat_map(|(_, live)| live.spec.process.port.into_iter().chain(ports(&live.spec))).collect();
        if before.is_empty() || spec.process.on_demand.is_some() {
            // On demand plugd listens itself.
            return Vec::new();
        }
        let new = ports(spec).filter(|port| !before.contains(port));
        let claim = |port: u16| {
            let listeners: Vec<Listener> =
                self.sockets.listeners(port).into_iter().filter(Listener::is_in_the_way).collect();
            let has_it = |other: &&Arc<Spec>| ports(other).any(|one| one == port);
            let declared = self.specs.values().filter(has_it).map(|other| other.name.clone()).collect();
            (!listeners.is_empty()).then_some(Claim { port, listeners, declared })
        };
        new.filter_map(claim).collect()
    }
}

fn ports(spec: &Spec) -> impl Iterator<Item = u16> {
    (0..spec.replicas).map_while(|index| instance_port(&spec.process, index))
}

/// Who is in the way, and stays there.
async fn holder(name: &Name, Claim { port, listeners, declared }: &Claim, sockets: &Arc<Sockets>) -> Option<String> {
    for listener in listeners {
        let Some(holder) = sockets.holder(listener.inode).await else {
            if !sockets.inodes(*port).contains(&listener.inode) {
                // It has gone meanwhile.
                continue;
            }
            return Some(format!("port {port} is held by a process of uid {} that cannot be seen", listener.uid));
        };
        // Of nobody: its own instances count as others.
        let nobody = Instance { service: name.clone(), index: u32::MAX };
        match sockets.neighbours.owner(holder.pid, &LifeId { instance: nobody, life: 0 }) {
            Some(owner) if owner.service == *name => {}
            Some(owner) if declared.contains(&owner.service) => {
                return Some(format!("port {port} is held by the service {}, {holder}", owner.service));
            }
            // It is about to leave it: two services may change ports.
            Some(_) => {}
            None => return Some(format!("port {port} is held by {holder}")),
        }
    }
    None
}
