//! An action, handed to its edge.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::{notify_key, ready_key};
use super::live::{Passive, Pending, probe_in};
use super::{Leave, Node, helpers};
use crate::controller::{Action, Input, ProbeSlot, Target};
use crate::edge::probe::{self, notify::NotifySocket};
use crate::edge::process::prepare::{self, Prepared, Unpreparable};
use crate::keeper::{Id, Identity, SpawnRequest, Stdin};
use crate::model::manifest::instance_port;
use crate::model::name::LifeId;
use crate::model::reason::Reason;
use crate::model::spec::{Check, ProbePort, Spec};
use crate::model::time::Now;

impl Node {
    pub(super) fn apply(&mut self, action: Action, now: Now) {
        match action {
            Action::Spawn { life, spec, wrapper, blob } => self.spawn(life, spec, wrapper.as_deref(), blob),
            Action::SetBlob { life, blob } => self.keeper.set_blob(&Id::from(&life), &blob),
            Action::Signal { life, signal, to } => self.signal(&life, signal, to),
            Action::Survey { life } => self.survey(life),
            Action::Forget { life } => self.forget(life),
            Action::Try { name, spec, wrapper, digest } => {
                let life =
                    LifeId { instance: crate::model::name::Instance { service: name.clone(), index: 0 }, life: 0 };
                let result = prepare::main_process(&self.ground, &spec, &life, wrapper.as_deref())
                    .map(|_| ())
                    .map_err(|fault| (fault.reason, fault.message));
                self.queue.push_back(Input::Tried { name, digest, result });
            }
            Action::RunHook { life, hook, spec, wrapper, limit } => {
                self.run_hook(life, hook, &spec, wrapper.as_deref(), limit);
            }
            Action::CancelHooks { life } => self.end_helpers_of(&life),
            Action::Probe { life, probe, spec } => self.probe(life, probe, spec),
            Action::AwaitPort(port) => self.await_port(port),
            Action::Announce(name) => {
                if let Some(view) = self.controller.view(&name, now) {
                    self.publisher.announce(view, now);
                }
            }
            Action::Retire(name) => {
                self.publisher.retire(&name);
                self.specs.remove(name.as_str());
                self.chatter.forget(name.as_str());
                self.store.forget(name);
            }
            Action::AnnounceNode => self.publisher.node(self.controller.node()),
            Action::Remember(name, memory) => self.store.remember(name, memory),
            Action::Record(event) => {
                let Some(event) = self.chatter.admit(event, now.mono) else { return };
                helpers::log_event(&event);
                self.publisher.record(&event);
                self.store.record(event);
            }
            Action::Exit(code) => self.leaving = Some(Leave::Node(code)),
        }
    }

    fn spawn(&mut self, life: LifeId, spec: Arc<Spec>, wrapper: Option<&Path>, blob: Vec<u8>) {
        if let Err(fault) = self.request_spawn(&life, &spec, wrapper, blob) {
            self.withdraw(&life);
            self.queue.push_back(Input::SpawnFailed { life, reason: fault.reason, message: fault.message });
        }
    }

    fn request_spawn(
        &mut self,
        life: &LifeId,
        spec: &Arc<Spec>,
        wrapper: Option<&Path>,
        blob: Vec<u8>,
    ) -> Result<(), Unpreparable> {
        let mut prepared = prepare::main_process(&self.ground, spec, life, wrapper)?;
        let mut passive = Passive::default();
        let mut extra_fds = Vec::new();
        if spec.process.notify {
            let socket = NotifySocket::bind().map_err(|error| {
                prepare::fault(Reason::ResourceExhausted, format!("its NOTIFY_SOCKET cannot be made: {error}"))
            })?;
            prepared.environment.set("NOTIFY_SOCKET".into(), socket.env().into());
            if let Some(watchdog) = spec.process.watchdog {
                prepared.environment.set("WATCHDOG_USEC".into(), watchdog.as_micros().to_string().into());
            }
            passive.notify = Some(socket);
        }
        if let Some(number) = spec.process.ready_fd {
            let (read, write) = rustix::pipe::pipe_with(
                rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK,
            )
            .map_err(|error| prepare::fault(Reason::ResourceExhausted, format!("no pipe can be made: {error}")))?;
            // The service writes as it is used to: only our end does not wait.
            let _ = rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::empty());
            extra_fds.push((Arc::new(write), number));
            passive.ready = Some(read);
        }
        let shared = [
            (notify_key(life), passive.notify.as_ref().map(NotifySocket::share)),
            (ready_key(life), passive.ready.as_ref().map(|fd| fd.as_fd().try_clone_to_owned())),
        ];
        for (key, copy) in shared {
            if let Some(Ok(copy)) = copy {
                self.keeper.deposit(key.as_bytes(), Arc::new(copy));
            }
        }
        let cgroup = self.cgroups.as_ref().and_then(|root| {
            root.create(&life.instance)
                .inspect_err(|error| tracing::warn!(instance = %life.instance, %error, "no cgroup can be made"))
                .ok()
        });
        let listened = self.listened(spec, life);
        let program = PathBuf::from(OsStr::from_bytes(prepared.program.as_bytes()));
        let scope = match &cgroup {
            Some(_) => self.scope_of(&life.instance),
            None => crate::edge::process::tree::Scope::Session,
        };
        let mut request = request(prepared, spec, Id::from(life));
        request.cgroup = cgroup.map(Arc::new);
        request.extra_fds = extra_fds;
        request.separate_stderr = spec.process.separate_logs;
        request.blob = blob;
        request.life_line = self.table.line(life, spec);
        self.keeper
            .spawn(request)
            .map_err(|error| prepare::fault(Reason::ResourceExhausted, format!("it cannot be asked for: {error}")))?;
        self.pending.insert(life.clone(), Pending { spec: spec.clone(), program, scope, listened, passive });
        Ok(())
    }

    /// Who listens on the ports that will be checked, before the new process is there.
    fn listened(&self, spec: &Spec, life: &LifeId) -> Vec<u64> {
        let own = instance_port(&spec.process, life.instance.index);
        let mut ports: Vec<u16> = own.into_iter().collect();
        for slot in [ProbeSlot::Startup, ProbeSlot::Readiness, ProbeSlot::Liveness] {
            let port = match probe_in(spec, slot).map(|probe| &probe.check) {
                Some(
                    Check::TcpSocket { host: None, port }
                    | Check::HttpGet { host: None, port, .. }
                    | Check::Grpc { port, .. }
                    | Check::Mcp { port, .. },
                ) => port,
                _ => continue,
            };
            if let ProbePort::Number(number) = port
                && !ports.contains(number)
            {
                ports.push(*number);
            }
        }
        ports.into_iter().flat_map(|port| self.sockets.inodes(port)).collect()
    }

    fn signal(&mut self, life: &LifeId, signal: i32, to: Target) {
        if (signal, to) == (libc::SIGKILL, Target::Tree) {
            // What runs beside it ends with it.
            self.end_helpers_of(life);
        }
        let Some(tree) = self.tree_of(life) else { return };
        if let Err(error) = self.trees.signal(&tree, signal, to) {
            tracing::warn!(%life, signal, %error, "the signal could not be sent");
        }
        // One that is stopped (SIGSTOP) hears of its end only when it goes on.
        let stop = self.lives.get(life).map_or(libc::SIGTERM, |live| live.spec.stop.signal);
        if signal == stop && signal != libc::SIGKILL {
            let _gone_already = self.trees.signal(&tree, libc::SIGCONT, to);
        }
    }

    fn tree_of(&self, life: &LifeId) -> Option<crate::edge::process::tree::Tree> {
        self.lives.get(life).map(|live| live.tree.clone()).or_else(|| {
            let adoptees = self.adoptees.get(life.instance.service.as_str())?;
            adoptees.iter().find(|adoptee| adoptee.life == *life).map(|adoptee| adoptee.tree.clone())
        })
    }

    fn survey(&mut self, life: LifeId) {
        match self.tree_of(&life) {
            None => self.queue.push_back(Input::Surveyed { life, left: Vec::new() }),
            Some(tree) => {
                // Otherwise the walker answers when it has looked.
                if let Some(left) = self.trees.survey(&tree) {
                    self.queue.push_back(Input::Surveyed { life, left });
                }
            }
        }
    }

    /// What the keeper holds for a later controller is of no use without the life.
    pub(super) fn withdraw(&mut self, life: &LifeId) {
        for key in [notify_key(life), ready_key(life)] {
            self.keeper.withdraw(key.as_bytes());
        }
    }

    /// The life is over: its output is emptied once more, then the keeper may drop it.
    fn forget(&mut self, life: LifeId) {
        self.end_helpers_of(&life);
        self.withdraw(&life);
        self.sockets.neighbours.strike(&life);
        let Some(live) = self.lives.remove(&life) else {
            self.keeper.forget(&Id::from(&life));
            return;
        };
        self.trees.forget(&live.tree);
        let again = self.lives.keys().chain(self.pending.keys()).any(|other| other.instance == life.instance);
        if let (false, Some(root)) = (again, &self.cgroups) {
            let _ = root.group(&life.instance).remove();
        }
        self.closing.insert(life.clone());
        self.pump.close(life);
    }

    fn probe(&mut self, life: LifeId, slot: ProbeSlot, spec: Arc<Spec>) {
        let (Some(live), Some(probe)) = (self.lives.get(&life), probe_in(&spec, slot)) else { return };
        if let Check::Exec { command } = &probe.check {
            let (command, timeout) = (command.clone(), probe.timeout);
            self.run_exec_probe(life, slot, &spec, &command, timeout);
            return;
        }
        let (context, sockets) = (live.context.clone(), self.sockets.clone());
        let (sender, check) = (self.sender.clone(), probe.clone());
        tokio::task::spawn_local(async move {
            if let Some(verdict) = probe::check(context, sockets, &check).await {
                let _ = sender.send(Input::Verdict { life, probe: slot, verdict }).await;
            }
        });
    }

    fn await_port(&mut self, port: u16) {
        if !self.awaited_ports.insert(port) {
            return;
        }
        let (sockets, sender) = (self.sockets.clone(), self.sender.clone());
        tokio::task::spawn_local(async move {
            sockets.freed(port).await;
            let _ = sender.send(Input::PortFree(port)).await;
        });
    }
}

/// What the keeper is asked for, less what only a main process has.
pub(super) fn request(prepared: Prepared, spec: &Spec, id: Id) -> SpawnRequest {
    let process = &spec.process;
    let mut request = SpawnRequest::new(id, prepared.program, prepared.argv);
    request.env = prepared.environment.to_c_strings();
    request.working_dir = CString::new(prepared.working_dir.into_os_string().into_encoded_bytes()).ok();
    request.identity =
        prepared.identity.map(|identity| Identity { uid: identity.uid, gid: identity.gid, groups: identity.groups });
    request.umask = process.umask;
    request.nice = process.nice;
    request.oom_score_adj = process.oom_score_adj;
    request.no_new_privs = !process.allow_privilege_escalation;
    request.stdin = Stdin::Null;
    request.plain_fork = prepared.may_hang;
    request.stop_signal = spec.stop.signal;
    request.stop_grace = spec.stop.grace_period;
    request
}
