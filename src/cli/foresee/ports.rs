//! Ports that several services declare: all but the first of them would fail.

use std::collections::BTreeMap;

use crate::controller::Declaration;
use crate::model::manifest::instance_port;
use crate::model::spec::{Program, Spec};

/// One warning for each set of services, with the first port that they share.
pub fn shared(declared: &[Declaration]) -> Vec<String> {
    let mut users: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for spec in declared.iter().map(|one| &*one.spec).filter(|spec| listens(spec)) {
        let mut own: Vec<u16> = (0..spec.replicas).map_while(|index| instance_port(&spec.process, index)).collect();
        // Instances that share a socket have one port.
        own.dedup();
        own.into_iter().for_each(|port| users.entry(port).or_default().push(spec.name.as_str()));
    }
    let mut told: BTreeMap<Vec<&str>, u16> = BTreeMap::new();
    for (port, names) in users.into_iter().filter(|(_, names)| names.len() > 1) {
        told.entry(names).or_insert(port);
    }
    let said = told.into_iter().map(|(names, port)| {
        format!(
            "{} have port {port}: whichever starts first holds it, and the start of another fails; give each a port \
             of its own, unless each listens on another address",
            names.join(" and ")
        )
    });
    said.collect()
}

/// It is to run here, on a port of its own.
fn listens(spec: &Spec) -> bool {
    match spec.process.program {
        Program::Command(_) | Program::Wrapper(_) | Program::Script(_) => spec.enabled,
        // It listens elsewhere.
        Program::External(_) => false,
    }
}
