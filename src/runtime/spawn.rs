//! From a prepared process to a request to the keeper.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::Node;
use super::facts::{notify_key, ready_key};
use super::live::{Passive, Pending, probe_in};
use super::masks::Given;
use crate::controller::ProbeSlot;
use crate::edge::probe::notify::NotifySocket;
use crate::edge::process::limits;
use crate::edge::process::prepare::{self, Prepared, Unpreparable};
use crate::keeper::{Capabilities, Id, Identity, SpawnRequest, Stdin};
use crate::model::manifest::instance_port;
use crate::model::name::LifeId;
use crate::model::reason::Reason;
use crate::model::spec::{Check, LISTEN_FD, Pass, ProbePort, Spec};

impl Node {
    pub(super) fn request_spawn(
        &mut self,
        life: &LifeId,
        spec: &Arc<Spec>,
        blob: Vec<u8>,
        mut prepared: Prepared,
    ) -> Result<(), Unpreparable> {
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
        let handed = spec.process.on_demand == Some(Pass::Socket);
        if handed {
            extra_fds.push((self.hand_over(&spec.name)?, LISTEN_FD));
            prepared.environment.set("LISTEN_FDS".into(), "1".into());
            prepared.environment.set("LISTEN_FDNAMES".into(), listen_name(spec).into());
        }
        let given = Given::of(&prepared.environment);
        if let Some(given) = &given {
            let held = given.share().map_err(|error| {
                prepare::fault(Reason::ResourceExhausted, format!("what it is given in secret cannot be held: {error}"))
            })?;
            self.keeper.deposit(Given::key(life).as_bytes(), Arc::new(held));
            self.masks.take_up(&life.instance, given, Timestamp::now());
        }
        self.tell_of(&spec.name, Reason::SecretReadable, given.and_then(|given| given.exposed));
        let shared = [
            (notify_key(life), passive.notify.as_ref().map(NotifySocket::share)),
            (ready_key(life), passive.ready.as_ref().map(|fd| fd.as_fd().try_clone_to_owned())),
        ];
        for (key, copy) in shared {
            if let Some(Ok(copy)) = copy {
                self.keeper.deposit(key.as_bytes(), Arc::new(copy));
            }
        }
        let begun = self.limits.begin(life, spec);
        self.tell_of(&spec.name, Reason::LimitsNotApplied, begun.missed);
        let cgroup = begun.group.unwrap_or_else(|| prepared.cgroup.take());
        let listened = self.listened(spec, life);
        let program = PathBuf::from(OsStr::from_bytes(prepared.program.as_bytes()));
        let scope = match &cgroup {
            Some(_) => self.scope_of(&life.instance),
            None => crate::edge::process::tree::Scope::Session,
        };
        let (interpreter, working_dir) = (prepared.interpreter.take(), prepared.working_dir.clone());
        let user = prepared.identity.as_ref().map(ToString::to_string);
        let pin = prepared.pin.take();
        let mut request = request(prepared, spec, Id::from(life));
        request.reaper = cgroup.is_none() && spec.process.kill_scope_tree;
        request.cgroup = cgroup.map(Arc::new);
        request.entrances = begun.entrances;
        request.extra_fds = extra_fds;
        request.listen_pid = handed;
        request.separate_stderr = spec.process.separate_logs;
        request.blob = blob;
        request.life_line = self.table.line(life, spec);
        self.keeper
            .spawn(request)
            .map_err(|error| prepare::fault(Reason::ResourceExhausted, format!("it cannot be asked for: {error}")))?;
        let pending = Pending {
            spec: spec.clone(),
            program,
            interpreter,
            working_dir,
            user,
            pin,
            scope,
            listened,
            passive,
            asked: Instant::now(),
            told: false,
            called_off: None,
            abandoned: false,
        };
        self.pending.insert(life.clone(), pending);
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
}

/// By which a process knows the socket: as systemd, the unit's name where it has none of its own.
fn listen_name(spec: &Spec) -> &str {
    let own = spec.process.ports.first().and_then(|port| port.name.as_deref());
    own.unwrap_or(spec.name.as_str())
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
    request.oom_score_adj = limits::oom_score_adj(process);
    request.limits.extend(limits::open_files(process));
    let granted = prepared.capabilities;
    request.no_new_privs = !process.allow_privilege_escalation || granted.is_some_and(|granted| granted.no_new_privs);
    request.capabilities = granted.map(|granted| Capabilities {
        bounding: granted.bounding.0,
        kept: granted.kept.0,
        ambient: granted.ambient.0,
    });
    request.stdin = Stdin::Null;
    request.plain_fork = prepared.may_hang;
    request.stop_signal = spec.stop.signal;
    request.stop_grace = spec.stop.grace_period;
    request
}
