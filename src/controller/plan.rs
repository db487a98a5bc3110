//! What the brain wants done, as plain values.

use std::sync::Arc;

use super::input::{Hook, Memory, ProbeSlot};
use crate::model::name::{LifeId, Name};
use crate::model::spec::{Digest, Spec};
use crate::model::view::{Event, ExitView};

/// The actions of one decision, in order. Empty means that the world is as desired or that
/// everything waits for a deadline or an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Prepare and spawn; answered by `Spawned` or `SpawnFailed`.
    Spawn {
        life: LifeId,
        spec: Arc<Spec>,
        wrapper: Option<std::path::PathBuf>,
        blob: Vec<u8>,
    },
    /// A life that is not wanted any more and whose spawn was not answered. Where it is still being
    /// prepared, it never begins and the answer is `CalledOff`; else what the keeper says comes first.
    CallOff {
        life: LifeId,
    },
    /// Replace the blob that the keeper holds for a life.
    SetBlob {
        life: LifeId,
        blob: Vec<u8>,
    },
    /// Send a signal; an empty target is no error.
    Signal {
        life: LifeId,
        signal: i32,
        to: Target,
    },
    /// Look at what is left of a life's tree; answered by `Surveyed`.
    Survey {
        life: LifeId,
    },
    /// The life is over and nothing of it is left or wanted: drop the keeper's entry, close its log.
    Forget {
        life: LifeId,
    },
    /// See whether the spec could be started, without starting it; answered by `Tried`.
    Try {
        name: Name,
        spec: Arc<Spec>,
        wrapper: Option<std::path::PathBuf>,
        digest: Digest,
    },
    /// Answered by `HookEnded`; the edge keeps the hook's time limit (`limit`).
    RunHook {
        life: LifeId,
        hook: Hook,
        spec: Arc<Spec>,
        wrapper: Option<std::path::PathBuf>,
        limit: std::time::Duration,
    },
    /// Whatever still runs beside the life (hooks, exec probes) is killed; nobody waits for its answer.
    CancelHooks {
        life: LifeId,
    },
    /// Run one check now; answered by `Verdict`. Only for those that ask (exec, httpGet, tcpSocket, grpc, mcp):
    /// the passive kinds are set up by the edge at the spawn and speak by themselves.
    Probe {
        life: LifeId,
        probe: ProbeSlot,
        spec: Arc<Spec>,
    },
    /// From now on the life is judged by this spec, as an edit that needed no new process says: what it
    /// says by itself is listened for anew, also in what it has said.
    Judge {
        life: LifeId,
        spec: Arc<Spec>,
    },
    /// The life runs by this spec: its limits are the ones that stand there.
    Resize {
        life: LifeId,
        spec: Arc<Spec>,
    },
    /// Say `PortFree(port)` once nobody listens on it any more.
    AwaitPort(u16),
    /// The view of these services changed: write their status files, publish the snapshot.
    Announce(Name),
    /// The service is gone: remove its status file, its memory and its logs' open files.
    Retire(Name),
    /// The node's own view changed.
    AnnounceNode,
    /// To be remembered by `state.db`.
    Remember(Name, Box<Memory>),
    Record(Event),
    /// How a life of the service ended. Told once more when its last words come, whenever that is: the same end
    /// has the same `at`, and no other of the service has it.
    NoteExit(Name, Box<ExitView>),
    /// A check of the service failed, and that counts.
    NoteMiss(Name),
    /// Everything is stopped: write the last words and leave with this code.
    Exit(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The process group of the main process, as a terminal would.
    Group,
    /// Every process of the tree; for KILL by cgroup.kill where there is one, repeated until empty.
    Tree,
}
