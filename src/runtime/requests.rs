//! What people ask by the local socket.

use super::Node;
use crate::api::context::{OrderError, Request, Written};
use crate::controller::{Input, Target};
use crate::edge::directory::Directory;
use crate::model::manifest::print;
use crate::model::name::{Instance, LifeId, Name};

/// How long an answer waits for the disk.
const SETTLE_MAX: std::time::Duration = std::time::Duration::from_secs(2);
/// What lies in the directory is looked at, and what was refused tried again, within this time, or not waited for.
const LOOK_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Node {
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Order { name, order, reply } => match self.known(&name) {
                Err(error) => drop(reply.send(Err(error))),
                Ok(()) => {
                    self.queue.push_back(Input::Order { name, order });
                    // What the brain wants remembered of it is handed to the store first.
                    self.turn();
                    let (settled, store) = (self.store.settled(), self.store.clone());
                    tokio::task::spawn_local(async move {
                        // A disk that hangs must not hang the person too.
                        let forgotten = match tokio::time::timeout(SETTLE_MAX, settled).await {
                            Ok(Ok(true)) => None,
                            Ok(Ok(false)) => Some(store.trouble().unwrap_or_else(|| "it cannot be written".into())),
                            Ok(Err(_)) => Some("this plugd has no place for a memory".into()),
                            Err(_) => Some("the disk does not answer".into()),
                        };
                        let _ = reply.send(Ok(forgotten));
                    });
                }
            },
            Request::Signal { name, instance, signal, reply } => {
                let result = self.known(&name).and_then(|()| self.signal_service(&name, instance, signal));
                let _ = reply.send(result);
            }
            Request::ConfirmMissing { reply } => {
                if let Some(directory) = &self.directory {
                    directory.confirm_missing();
                }
                self.queue.push_back(Input::ConfirmMissing);
                let _ = reply.send(Ok(()));
            }
            Request::Effective { name, reply } => {
                let result = self.known(&name).and_then(|()| {
                    self.specs.get(name.as_str()).map(|spec| serde_json::Value::Object(print::fields(spec))).ok_or_else(
                        || {
                            OrderError::Refused(format!(
                                "{name} has no valid manifest yet; `plugd status {name}` says why"
                            ))
                        },
                    )
                });
                let _ = reply.send(result);
            }
            Request::Cover { name, lines, reply } => {
                let declared = self.specs.get(name.as_str());
                let declares = declared.is_some_and(|spec| spec.process.env.iter().any(|(_, value)| value.is_secret()));
                let covered = |Written { instance: index, at, text }: Written| {
                    let instance = Instance { service: name.clone(), index };
                    self.masks.covered(&instance, at, &text, declares)
                };
                let _ = reply.send(Ok(lines.into_iter().map(covered).collect()));
            }
            Request::Vitals { name, reply } => {
                let vitals = self.controller.vitals(&name, self.now());
                let _ = reply.send(vitals.ok_or_else(|| OrderError::NoSuchService(name.to_string())));
            }
            Request::Gathered { reply } => {
                let now = self.now();
                self.hand_over_samples(now);
                let _ = reply.send(Ok(now.wall));
            }
            Request::Rescan { reply } => {
                let looked = self.directory.as_ref().map(Directory::rescan);
                let tried = self.trials.answers();
                self.queue.push_back(Input::TryAgain);
                self.turn();
                tokio::task::spawn_local(async move {
                    let both = async {
                        if let Some(looked) = looked {
                            let _ = looked.await;
                        }
                        let _ = tried.await;
                    };
                    // A directory that does not answer holds up nobody who asks for more than a look.
                    let _ = tokio::time::timeout(LOOK_WITHIN, both).await;
                    let _ = reply.send(Ok(()));
                });
            }
        }
    }

    fn known(&self, name: &Name) -> Result<(), OrderError> {
        match self.publisher.knows(name) {
            true => Ok(()),
            false => Err(OrderError::NoSuchService(name.to_string())),
        }
    }

    fn signal_service(&mut self, name: &Name, instance: Option<u32>, signal: i32) -> Result<(), OrderError> {
        let running: Vec<LifeId> = self
            .lives_of(name)
            .filter(|(_, live)| !live.ended)
            .filter(|(life, _)| instance.is_none_or(|index| life.instance.index == index))
            .map(|(life, _)| life.clone())
            .collect();
        if running.is_empty() {
            return Err(match instance {
                Some(index) => OrderError::NoSuchInstance(format!("{name}/{index}")),
                None => OrderError::NotRunning(name.to_string()),
            });
        }
        for life in running {
            let tree = self.lives.get(&life).map(|live| live.tree.clone());
            if let Some(tree) = tree {
                self.trees
                    .signal(&tree, signal, Target::Group)
                    .map_err(|error| OrderError::Failed(error.to_string()))?;
            }
        }
        Ok(())
    }
}
