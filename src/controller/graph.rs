//! Who depends on whom: cycles are found when an edge changes, and only around it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Controller;
use super::service::{Cycle, Id};
use crate::policy::depends;

impl Controller {
    /// Looks anew at the services whose dependencies changed, and at the cycles they were in.
    pub(super) fn settle_cycles(&mut self) {
        if self.edges_changed.is_empty() {
            return;
        }
        let mut open: BTreeSet<Id> = BTreeSet::new();
        for id in std::mem::take(&mut self.edges_changed) {
            open.insert(id);
            if let Some(cycle) = self.table.get(id).and_then(|service| service.cycle.as_ref()) {
                open.extend(&cycle.members);
            }
        }
        while let Some(id) = open.pop_first() {
            let members = if self.may_be_in_a_cycle(id) {
                depends::component(id, |at| self.needs_of(at), |at| self.needed_by(at))
            } else {
                BTreeSet::new()
            };
            self.set_cycle(id, &members);
            for &member in &members {
                open.remove(&member);
                self.set_cycle(member, &members);
            }
        }
    }

    fn may_be_in_a_cycle(&self, id: Id) -> bool {
        self.table.get(id).is_some_and(|service| service.all_needs().next().is_some())
            && self.table.get(id).is_some_and(|service| self.table.dependents(&service.name).next().is_some())
    }

    fn set_cycle(&mut self, id: Id, members: &BTreeSet<Id>) {
        let cycle = members.contains(&id).then(|| {
            let path = depends::cycle(id, members, |at| self.needs_of(at));
            let path = path.iter().filter_map(|&at| Some(self.table.get(at)?.name.clone())).collect();
            Cycle { members: members.clone(), path, is_declared: self.closes(id, members) }
        });
        if let Some(service) = self.table.get_mut(id) {
            if service.cycle.is_none() && cycle.is_none() {
                return;
            }
            service.cycle = cycle;
            service.touched = true;
        }
        self.mark(id);
    }

    /// Whether what is declared leads into the circle; the version in force may do so alone.
    fn closes(&self, id: Id, members: &BTreeSet<Id>) -> bool {
        let declared = self.table.get(id).and_then(|service| service.spec());
        let needs = declared.into_iter().flat_map(|spec| &spec.depends_on);
        needs.filter_map(|need| self.table.id(&need.name)).any(|need| members.contains(&need))
    }

    pub(super) fn needs_of(&self, id: Id) -> Vec<Id> {
        let Some(service) = self.table.get(id) else { return Vec::new() };
        service.all_needs().filter_map(|dependency| self.table.id(&dependency.name)).collect()
    }

    /// Before whom it stops: what runs of it depends on them, or the version in force, or an edit that waits; not that
    /// where it goes round in a circle.
    pub(super) fn leans_on(&self, id: Id) -> Vec<Id> {
        let Some(service) = self.table.get(id) else { return Vec::new() };
        // What is being stopped leans on it until it is gone.
        let run = service.instances.iter().filter_map(|instance| instance.life.process_of()?.spec.as_deref());
        let waits = service.spec().filter(|_| service.cycle.is_none());
        let declared = service.rules().into_iter().chain(waits).map(Arc::as_ref);
        let needs = run.chain(declared).flat_map(|spec| &spec.depends_on);
        let ids: BTreeSet<Id> = needs.filter_map(|need| self.table.id(&need.name)).collect();
        ids.into_iter().collect()
    }

    fn needed_by(&self, id: Id) -> Vec<Id> {
        self.table.get(id).map(|service| self.table.dependents(&service.name).collect()).unwrap_or_default()
    }
}
