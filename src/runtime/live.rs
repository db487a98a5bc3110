//! What the loop holds of one life, from the request to the last word.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::task::AbortHandle;

use crate::controller::ProbeSlot;
use crate::edge::probe::LifeContext;
use crate::edge::probe::notify::NotifySocket;
use crate::edge::process::pin::Pin;
use crate::edge::process::tree::{Scope, Tree};
use crate::model::name::LifeId;
use crate::model::spec::{Check, Spec};

/// Asked of the keeper and not yet answered.
pub struct Pending {
    pub spec: Arc<Spec>,
    /// For messages about a failed exec.
    pub program: PathBuf,
    pub interpreter: Option<String>,
    pub working_dir: PathBuf,
    /// As whom it was to run, where that is somebody else.
    pub user: Option<String>,
    /// To be looked at once more after the exec.
    pub pin: Option<Pin>,
    pub scope: Scope,
    /// Sockets that listened on its ports before it was there.
    pub listened: Vec<u64>,
    pub passive: Passive,
    pub asked: Instant,
    /// That it takes long.
    pub told: bool,
    /// It is not wanted any more, since.
    pub called_off: Option<Instant>,
    /// The keeper was told to end it.
    pub abandoned: bool,
}

/// Ends of what a service speaks on by itself.
#[derive(Default)]
pub struct Passive {
    /// Its NOTIFY_SOCKET.
    pub notify: Option<NotifySocket>,
    /// The read end of the descriptor of a `fd` probe.
    pub ready: Option<OwnedFd>,
}

/// A life that the keeper has: running, or ended and not yet forgotten.
pub struct Live {
    /// What it runs under and is judged by, as the brain says: not always what its file says now.
    pub spec: Arc<Spec>,
    /// Its log is that of one of several.
    pub several: bool,
    pub tree: Tree,
    pub context: Arc<LifeContext>,
    /// Tasks that end with it.
    pub tasks: Vec<AbortHandle>,
    pub whole: Option<WholeWatch>,
    /// Its main process has ended.
    pub ended: bool,
}

/// The task that watches over a life's memory, which ends with this.
pub struct WholeWatch {
    pub task: AbortHandle,
    /// Where the kernel kills one process the others go on.
    pub alone: bool,
}

impl Drop for WholeWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A life of the keeper's list, until the directory says what it is.
pub struct Adoptee {
    pub life: LifeId,
    pub log: OwnedFd,
    pub log_stderr: Option<OwnedFd>,
    pub tree: Tree,
    pub spawned: Timestamp,
    pub ended: bool,
}

/// The slots whose check is of this kind.
pub fn slots(spec: &Spec, kind: impl Fn(&Check) -> bool) -> Vec<ProbeSlot> {
    let of = |slot, probe: Option<&crate::model::spec::Probe>| probe.filter(|probe| kind(&probe.check)).map(|_| slot);
    [
        of(ProbeSlot::Startup, spec.startup_probe.as_ref()),
        of(ProbeSlot::Readiness, spec.readiness.probe()),
        of(ProbeSlot::Liveness, spec.liveness_probe.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The probe in a slot.
pub fn probe_in(spec: &Spec, slot: ProbeSlot) -> Option<&crate::model::spec::Probe> {
    match slot {
        ProbeSlot::Startup => spec.startup_probe.as_ref(),
        ProbeSlot::Readiness => spec.readiness.probe(),
        ProbeSlot::Liveness => spec.liveness_probe.as_ref(),
    }
}
