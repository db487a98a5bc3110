//! What a start would be refused for: program, user, directory, env files, secrets and priority, looked at as
//! the controller looks at them, but from here.

pub mod logs;
pub mod ports;
mod priority;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::controller::{Declaration, Resolved};
use crate::edge::process::environment::inheritable;
use crate::edge::process::prepare::{self, Ground};
use crate::edge::process::progress::Progress;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::reason::Reason;
use crate::model::spec::{Check, Program, Spec};
use priority::Standing;

/// By name: the reason, and what there is to do about it.
pub type Obstacles = BTreeMap<Name, (Reason, String)>;

/// What stands in the way of each; `told`: what the node says of itself, where one runs.
pub fn obstacles(declared: &[Declaration], told: Option<&Value>) -> Obstacles {
    let (ground, standing) = (ground(told), Standing::of(told));
    let obstacle = |one| obstacle(one, &ground, standing.as_ref());
    declared.iter().filter_map(|one| Some((one.spec.name.clone(), obstacle(one)?))).collect()
}

/// Hooks and exec probes that could not be started, of services that could.
pub fn hooks(declared: &[Declaration], obstacles: &Obstacles, told: Option<&Value>) -> Vec<String> {
    let ground = ground(told);
    let mut found = Vec::new();
    for spec in declared.iter().map(|one| &one.spec).filter(|spec| runs(spec) && !obstacles.contains_key(&spec.name)) {
        let hooks = [("preStart hook", &spec.lifecycle.pre_start), ("preStop hook", &spec.lifecycle.pre_stop)];
        let hooks = hooks.into_iter().filter_map(|(hook, command)| Some((hook, command.as_ref()?)));
        for (hook, command) in hooks.chain(checks(spec)) {
            if let Err(error) = prepare::helper(&ground, spec, &first(spec), command, 1, &Progress::default()) {
                let (name, reason, why) = (&spec.name, error.reason, error.message);
                found.push(format!("{name}: its {hook} would not start: {reason}: {why}"));
            }
        }
    }
    found
}

fn checks(spec: &Spec) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
    spec.probes().filter_map(|(field, probe)| match &probe.check {
        Check::Exec { command } => Some((field, command)),
        _ => None,
    })
}

fn runs(spec: &Spec) -> bool {
    match &spec.process.program {
        Program::Command(_) | Program::Wrapper(_) | Program::Script(_) => spec.enabled,
        Program::External(_) => false,
    }
}

fn first(spec: &Spec) -> LifeId {
    LifeId { instance: Instance { service: spec.name.clone(), index: 0 }, life: 1 }
}

fn obstacle(one: &Declaration, ground: &Ground, standing: Option<&Standing>) -> Option<(Reason, String)> {
    let spec = &one.spec;
    let wrapper = match &one.program {
        Resolved::Found { wrapper, .. } if runs(spec) => wrapper.as_deref(),
        // Told with a reason of its own.
        Resolved::Found { .. } | Resolved::Missing { .. } => return None,
    };
    let life = first(spec);
    match prepare::main_process(ground, spec, &life, wrapper, &Progress::default()) {
        Err(error) => {
            let remedy = remedy(error.reason).map(|remedy| format!("; {remedy}")).unwrap_or_default();
            Some((error.reason, format!("{}{remedy}", error.message)))
        }
        Ok(prepared) => {
            let other = prepared.identity.filter(|user| ground.uid != 0 && user.uid != ground.uid).map(|other| {
                let name = other.name.unwrap_or_else(|| other.uid.to_string());
                format!("only root may run it as {name}; run plugd as root, or remove `user`")
            });
            let why = other.or_else(|| Some(standing?.refuses(&spec.process)?.into()))?;
            Some((Reason::PermissionDenied, why))
        }
    }
}

/// What there is to do, where the message does not say it.
fn remedy(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::ProgramNotFound => Some("install it, or correct `command`"),
        Reason::WorkingDirNotFound => Some("make it, or correct `workingDir`"),
        Reason::EnvFileNotFound => Some("write it, or mark it `optional: true` in `envFrom`"),
        Reason::UserNotFound => Some("add it to this machine, or correct `user`"),
        Reason::SecretNotFound => Some("write that file, or correct `env`"),
        Reason::MissingVariable => Some("set it where plugd is started"),
        _ => None,
    }
}

/// Surroundings as the node has them that runs, else as one has them that is started here.
fn ground(told: Option<&Value>) -> Ground {
    let text = |path: &str| told.and_then(|told| told.pointer(path)?.as_str()).map(PathBuf::from);
    let pid = told.and_then(|told| told.pointer("/controller/pid")?.as_u64());
    let environment = pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok());
    let inherited = match environment {
        Some(bytes) => {
            let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=')?;
                let (name, value) = (pair[..at].to_vec(), pair[at + 1..].to_vec());
                Some((OsString::from_vec(name), OsString::from_vec(value)))
            });
            pairs.filter(|(name, _)| !name.to_string_lossy().starts_with("PLUGD_")).collect()
        }
        None => inheritable(),
    };
    Ground {
        inherited: Arc::new(inherited),
        working_dir: text("/controller/workingDir")
            .or_else(|| std::env::current_dir().ok())
            .unwrap_or_else(|| "/".into()),
        uid: rustix::process::geteuid().as_raw(),
        cgroups: None,
        node: String::new(),
    }
}
