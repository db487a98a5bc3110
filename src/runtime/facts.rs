//! What the keeper and the pump say, as inputs of the brain.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::live::{Adoptee, Live, Passive, Pending, WholeWatch, slots};
use super::masks::Given;
use super::{Leave, Node, helpers, monotonic};
use crate::controller::{Adopted, Declaration, Exit, Input, Shutdown, Verdict};
use crate::edge::output::{PumpEvent, Stream};
use crate::edge::probe::notify::NotifySocket;
use crate::edge::probe::{self, LifeContext, Past, fd};
use crate::edge::process::failure::{Asked, explain_failure};
use crate::edge::process::pin::Pin;
use crate::edge::process::tree::{Scope, Tree};
use crate::keeper::{Entry, Event, How, Id, Reaper};
use crate::model::manifest::{self, instance_port};
use crate::model::name::{Instance, LifeId};
use crate::model::reason::Reason;
use crate::model::spec::{Check, Resources, Spec};
use crate::model::text::record;
use crate::model::view::LogFormat;

/// A stop signal this soon after another is its echo: nobody presses ^C twice in a tenth of a second.
const ECHO: Duration = Duration::from_millis(100);
/// The word of an end takes so long at the most, usually.
const END_COMES: Duration = Duration::from_millis(100);
/// Of processes that are killed again and again so often at the most.
const TOLD_EACH: Duration = Duration::from_secs(10);

/// A life, or a helper, that was executed.
pub(super) struct Spawned {
    pub id: Id,
    pub pid: i32,
    pub start_time: u64,
    pub reaper: Option<Reaper>,
    pub log: OwnedFd,
    pub log_stderr: Option<OwnedFd>,
}

impl Node {
    pub(super) fn on_keeper(&mut self, event: Event) {
        match event {
            // Taken up by `boot`, before the loop begins.
            Event::Welcome(_) | Event::Listed => {}
            Event::Entry(entry) => self.on_entry(entry),
            Event::Deposited { key, fd } => {
                self.deposits.insert(key.into_vec(), fd);
            }
            Event::Spawned { id, pid, start_time, reaper, log, log_stderr } => {
                self.on_spawned(Spawned { id, pid, start_time, reaper, log, log_stderr });
            }
            Event::SpawnFailed { id, stage, errno } => {
                if helpers::is_helper(&id) {
                    self.helper_failed(&id, stage, errno);
                    return;
                }
                let Some(life) = id.life_id() else { return };
                let Some(pending) = self.pending.remove(&life) else {
                    // Asked by an earlier controller, taken for running by this one: the exec of a plain copy
                    // failed only now. It has ended as a shell says it of a program that it cannot execute.
                    let error = std::io::Error::from_raw_os_error(errno);
                    tracing::warn!(%life, %error, "it could not be executed ({stage:?})");
                    self.on_exited(&id, How::Code(127));
                    return;
                };
                self.withdraw(&life);
                let asked = Asked {
                    program: &pending.program,
                    interpreter: pending.interpreter.as_deref(),
                    working_dir: &pending.working_dir,
                    dir_is_written: pending.spec.process.working_dir.is_some(),
                    user: pending.user.as_deref(),
                };
                let fault = explain_failure(&asked, stage, errno);
                self.queue.push_back(Input::SpawnFailed { life, reason: fault.reason, message: fault.message });
            }
            Event::Exited { id, exit } => self.on_exited(&id, exit.how),
            Event::Signal(signal) => self.on_signal(signal),
            Event::Reexecuted(result) => match result {
                Ok(()) => {
                    self.run.hold();
                    tracing::info!("the keeper was executed anew");
                }
                Err(libc::EPROTONOSUPPORT) => {
                    tracing::warn!("this controller is older than its keeper, which goes on as it is");
                }
                Err(errno) => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    tracing::error!(%error, "the keeper could not be executed anew and goes on as it was");
                }
            },
            Event::Closed => {
                tracing::error!("the keeper is gone; leaving");
                self.leaving = Some(Leave::Lost);
            }
        }
    }

    fn on_spawned(&mut self, spawned: Spawned) {
        if helpers::is_helper(&spawned.id) {
            self.start_helper(spawned);
            return;
        }
        let Some(life) = spawned.id.life_id() else { return };
        let Some(pending) = self.pending.remove(&life) else { return };
        let Pending { spec, scope, listened, passive, pin, .. } = pending;
        let (node, scope) = (self.key.clone(), scope.below(spawned.reaper));
        let tree = Tree { life: life.clone(), node, pid: spawned.pid, start_time: spawned.start_time, scope };
        self.table.spawned(&life, &spec, &tree);
        let several = self.controller.has_several(&life.instance.service);
        self.attach(&life, &spec, several, spawned.log, spawned.log_stderr);
        let past = Arc::new(Past::begin(self.run.path(), &life, listened));
        let context = Arc::new(self.describe(LifeContext::of(tree.clone(), past), &life, &spec));
        let mut live = Live { spec, several, tree, context, tasks: Vec::new(), whole: None, ended: false };
        self.listen(&life, &mut live, passive);
        self.sockets.neighbours.enter(&live.tree, live.context.instance_port);
        let resources = live.spec.resources.clone();
        self.lives.insert(life.clone(), live);
        self.guard_memory(&life, &resources, true);
        let (pid, start_time) = (spawned.pid, spawned.start_time);
        self.queue.push_back(Input::Spawned { life: life.clone(), pid, start_time });
        // Told after that it runs: what is found is said of one that does.
        pin.into_iter().for_each(|pin| self.look_again(pin, life.clone()));
    }

    /// What the checks of a life have to know of its manifest.
    pub(super) fn describe(&self, context: LifeContext, life: &LifeId, spec: &Spec) -> LifeContext {
        context
            .with_port(instance_port(&spec.process, life.instance.index))
            .with_held(self.handed(spec))
            .passed_on(spec.process.private_port.is_some())
    }

    /// Whether what was executed is what is pinned. What lies there may not answer, so the loop does not look.
    fn look_again(&mut self, pin: Pin, life: LifeId) {
        let (sender, of) = (self.sender.clone(), life.clone());
        let look = move || {
            if let Some(why) = pin.broken() {
                // Nobody listens any more: then the node is ending, and the life with it.
                let _ = sender.blocking_send(Input::Mismatched { life, why });
            }
        };
        if let Err(error) = std::thread::Builder::new().name("pin".into()).spawn(look) {
            // What cannot be verified does not run; its next start is tried as any other.
            let why = format!("its wrapper cannot be looked at once more: no thread ({error})");
            self.queue.push_back(Input::Mismatched { life: of, why });
        }
    }

    /// Hands the log pipe of a life to the pump.
    fn attach(&self, life: &LifeId, spec: &Spec, several: bool, log: OwnedFd, log_stderr: Option<OwnedFd>) {
        self.pump.attach(Stream {
            life: life.clone(),
            fd: log,
            stderr: log_stderr,
            logs: spec.logs.clone(),
            several,
            log_line: pattern(spec),
        });
    }

    /// Starts the tasks that hear what a life says by itself.
    fn listen(&self, life: &LifeId, live: &mut Live, passive: Passive) {
        if let Some(socket) = passive.notify {
            let (sender, tree, life) = (self.sender.clone(), live.tree.clone(), life.clone());
            let task = tokio::task::spawn_local(async move {
                // A full channel drops a WATCHDOG=1 at the worst: the next one counts as well.
                let tell = |message| {
                    let _ = sender.try_send(Input::Notified { life: life.clone(), message });
                };
                if let Err(error) = socket.listen(&tree, tell).await {
                    tracing::warn!(%life, %error, "its NOTIFY_SOCKET cannot be read any more");
                }
            });
            live.tasks.push(task.abort_handle());
        }
        if let Some(pipe) = passive.ready {
            let (sender, id) = (self.sender.clone(), life.clone());
            let slots = slots(&live.spec, |check| matches!(check, Check::Fd(_)));
            let task = tokio::task::spawn_local(async move {
                let verdict = match fd::newline(pipe).await {
                    Ok(()) => said(true, Check::NEWLINE_CAME),
                    Err(error) => said(false, error.to_string()),
                };
                for probe in slots {
                    let input = Input::Verdict { life: id.clone(), probe, verdict: verdict.clone() };
                    let _ = sender.send(input).await;
                }
            });
            live.tasks.push(task.abort_handle());
        }
    }

    fn on_exited(&mut self, id: &Id, how: How) {
        if helpers::is_helper(id) {
            if !self.helpers.ended(id, exit(how)) {
                // Of an earlier controller: nobody else would have it forgotten.
                self.keeper.forget(id);
            }
            return;
        }
        let Some(life) = id.life_id() else { return };
        self.pump.finish(life.clone());
        self.look_at_claims();
        // Nobody asks any more how it is.
        self.end_helpers_of(&life);
        if let Some(live) = self.lives.get_mut(&life) {
            live.ended = true;
            live.whole = None;
            live.tasks.drain(..).for_each(|task| task.abort());
            if exit(how).status() != 0 {
                self.look_for_holder(&life);
            }
        }
        let adoptees = self.adoptees.get_mut(life.instance.service.as_str()).into_iter().flatten();
        adoptees.filter(|adoptee| adoptee.life == life).for_each(|adoptee| adoptee.ended = true);
        let left_callers = self.leaves_callers(&life.instance.service);
        let exit = Exit { left_callers, ..self.exit_of(&life, how) };
        self.queue.push_back(Input::Exited { life, exit });
    }

    /// Somebody listened on its port before it was there: whoever does still may be why it failed, and most have
    /// failed before a check was due.
    fn look_for_holder(&self, life: &LifeId) {
        let Some(live) = self.lives.get(life).filter(|live| live.context.past.found_listeners()) else { return };
        let (context, sockets) = (live.context.clone(), self.sockets.clone());
        let (sender, life) = (self.sender.clone(), life.clone());
        tokio::task::spawn_local(async move {
            if let Some(message) = probe::holder_of_port(context, sockets).await {
                let _ = sender.send(Input::PortHeld { life, message }).await;
            }
        });
    }

    /// What ended for want of memory, or of processes, says nothing of it itself: its group has counted.
    fn exit_of(&self, life: &LifeId, how: How) -> Exit {
        let exit = exit(how);
        match exit.status() {
            0 => exit,
            _ => Exit { oom_killed: self.limits.oom_killed(life), pids_met: self.limits.pids_met(life), ..exit },
        }
    }

    /// A life of the keeper's list, at the start of this controller; what runs beside lives was told before.
    pub(super) fn on_entry(&mut self, entry: Entry) {
        if helpers::is_helper(&entry.id) {
            self.on_helper_entry(entry);
            return;
        }
        let Some(life) = entry.id.life_id() else { return };
        let (node, scope) = (self.key.clone(), self.scope_of(&life.instance).below(entry.reaper));
        let tree = Tree { life: life.clone(), node, pid: entry.pid, start_time: entry.start_time, scope };
        let ended = entry.exit.map(|ended| self.exit_of(&life, ended.how));
        let until = entry.exit.map_or_else(monotonic, |exit| Duration::from_nanos(exit.at));
        self.queue.push_back(Input::Adopted(Adopted {
            life: life.clone(),
            pid: entry.pid,
            pre_stop: self.helpers.has_pre_stop(&life),
            age: until.saturating_sub(entry.spawned_at),
            exit: ended,
            blob: entry.blob,
        }));
        let adoptee = Adoptee {
            life: life.clone(),
            log: entry.log,
            log_stderr: entry.log_stderr,
            tree,
            spawned: Timestamp::now() - monotonic().saturating_sub(entry.spawned_at),
            ended: entry.exit.is_some(),
        };
        self.adoptees.entry(life.instance.service).or_default().push(adoptee);
    }

    pub(super) fn scope_of(&self, instance: &Instance) -> Scope {
        match &self.cgroups {
            Some(root) => Scope::Cgroup(root.group(instance)),
            None => Scope::Session,
        }
    }

    /// The directory has said what a service is: lives of it that were found are taken up.
    pub(super) fn on_declared(&mut self, declaration: &Declaration) {
        let spec = &declaration.spec;
        self.specs.insert(spec.name.clone(), spec.clone());
        if let Some(adoptees) = self.adoptees.remove(spec.name.as_str()) {
            // How many there are to be, the brain says once it has heard of all (`place_logs`).
            let several = spec.replicas > 1 || adoptees.iter().any(|adoptee| adoptee.life.instance.index > 0);
            for adoptee in adoptees {
                self.adopt(adoptee, spec.clone(), several);
            }
        }
    }

    fn adopt(&mut self, adoptee: Adoptee, spec: Arc<Spec>, several: bool) {
        let Adoptee { life, log, log_stderr, tree, spawned, ended } = adoptee;
        self.attach(&life, &spec, several, log, log_stderr);
        if ended {
            self.pump.finish(life.clone());
        }
        let past = Arc::new(Past::recall(self.run.path(), &life));
        let context = self.describe(LifeContext::of(tree.clone(), past), &life, &spec);
        let mut live = Live { spec, several, tree, context: Arc::new(context), tasks: Vec::new(), whole: None, ended };
        let notify = self.deposits.remove(notify_key(&life).as_bytes());
        let passive = Passive {
            notify: notify.and_then(|fd| NotifySocket::adopt(fd).ok()),
            ready: self.deposits.remove(ready_key(&life).as_bytes()),
        };
        if let Some(given) = self.deposits.remove(Given::key(&life).as_bytes()).and_then(Given::adopt) {
            self.masks.take_up(&life.instance, &given, spawned);
            self.tell_of(&life.instance.service, Reason::SecretReadable, given.exposed);
        }
        if !ended {
            self.listen(&life, &mut live, passive);
        }
        self.sockets.neighbours.enter(&live.tree, live.context.instance_port);
        let resources = live.spec.resources.clone();
        self.lives.insert(life.clone(), live);
        self.guard_memory(&life, &resources, false);
    }

    /// Where the kernel kills one process of a life for want of memory the others are killed with it, or it is told that
    /// they go on, whichever is wanted now.
    pub(super) fn guard_memory(&mut self, life: &LifeId, resources: &Resources, new: bool) {
        let Some(live) = self.lives.get_mut(life).filter(|live| !live.ended) else { return };
        let alone = resources.single_process_oom_kill;
        let Some(mut whole) = self.limits.whole(life, resources, new) else {
            live.whole = None;
            return;
        };
        if live.whole.as_ref().is_some_and(|before| before.alone == alone) {
            return;
        }
        let (sender, life) = (self.sender.clone(), life.clone());
        let task = tokio::task::spawn_local(async move {
            loop {
                if let Err(error) = whole.struck().await {
                    tracing::warn!(%life, %error, "whether its memory runs out is not told");
                    return;
                }
                if !alone {
                    tracing::info!(%life, "out of memory: all of it is killed");
                    return whole.kill();
                }
                // Was it its main process, its end is on its way, and with it that of this task.
                tokio::time::sleep(END_COMES).await;
                if sender.send(Input::LostProcess { life: life.clone() }).await.is_err() {
                    return;
                }
                tokio::time::sleep(TOLD_EACH).await;
            }
        });
        live.whole = Some(WholeWatch { task: task.abort_handle(), alone });
    }

    /// The first scan is over: lives that no manifest names are known by what they are.
    pub(super) fn on_scanned(&mut self) {
        let adoptees: Vec<Adoptee> = std::mem::take(&mut self.adoptees).into_values().flatten().collect();
        for adoptee in adoptees {
            let spec = Arc::new(manifest::assumed(adoptee.life.instance.service.clone()));
            let several = adoptee.life.instance.index > 0;
            self.adopt(adoptee, spec, several);
        }
        self.limits.sweep(self.lives.keys().chain(self.pending.keys()));
        // All lives are taken up: what is left was deposited for one that never began.
        for (key, _) in std::mem::take(&mut self.deposits) {
            self.keeper.withdraw(&key);
        }
        self.sweep_due = true;
    }

    pub(super) fn on_pump(&mut self, event: PumpEvent) {
        match event {
            PumpEvent::Drained { life, lines } => {
                // In the words in which they are told: a secret is looked for in those.
                let view = self.publisher.view(&life.instance.service);
                let lines = match view.is_some_and(|view| view.log_format == LogFormat::Json) {
                    true => lines.into_iter().map(|line| record::told(&line).unwrap_or(line)).collect(),
                    false => lines,
                };
                self.queue.push_back(Input::Output { life, lines });
            }
            PumpEvent::Closed { life } => {
                if self.closing.remove(&life) {
                    self.keeper.forget(&Id::from(&life));
                }
            }
            PumpEvent::LogLine { life, pattern } => self.queue.push_back(Input::LogLine { life, pattern }),
            PumpEvent::Unopened { life, why } => {
                let said = format!("what it writes is lost, because its log cannot be opened: {why}");
                self.log_problem(life, Reason::LogNotWritten, Some(said));
            }
            PumpEvent::Opened { life } => self.log_problem(life, Reason::LogNotWritten, None),
            PumpEvent::Dropped { life, bytes, why } => {
                let said = format!("{bytes} bytes of output are lost: {why}; the service goes on");
                self.log_problem(life, Reason::LogsDropped, Some(said));
            }
            PumpEvent::Recovered { life } => self.log_problem(life, Reason::LogsDropped, None),
        }
    }

    fn log_problem(&mut self, life: LifeId, reason: Reason, message: Option<String>) {
        self.queue.push_back(Input::LogProblem { life, reason, message });
    }

    /// Signals are heard by the keeper and arrive here as news.
    fn on_signal(&mut self, signal: i32) {
        match signal {
            libc::SIGTERM | libc::SIGINT => {
                // timeout(1) and some inits signal the process and then its group: one wish.
                let now = monotonic();
                if self.signals.last_stop.is_some_and(|last| now.saturating_sub(last) < ECHO) {
                    return;
                }
                self.signals.last_stop = Some(now);
                self.signals.stops += 1;
                match self.signals.stops {
                    1 => {
                        tracing::info!("stopping everything in order; a second signal stops it without grace");
                        self.queue.push_back(Input::Shutdown(Shutdown::Ordered));
                    }
                    2 => self.queue.push_back(Input::Shutdown(Shutdown::Now)),
                    _ => self.leaving = Some(Leave::Node(128 + signal)),
                }
            }
            libc::SIGQUIT => self.queue.push_back(Input::Shutdown(Shutdown::Now)),
            libc::SIGHUP if self.signals.had_terminal && terminal_is_gone() => {
                // The shell says it to its jobs and the kernel to the foreground: one wish, however often.
                if self.signals.stops == 0 {
                    tracing::info!("the terminal is gone: stopping everything in order");
                    self.signals.last_stop = Some(monotonic());
                    self.signals.stops = 1;
                    self.queue.push_back(Input::Shutdown(Shutdown::Ordered));
                }
            }
            libc::SIGHUP => {
                tracing::info!("SIGHUP: looking at the directory anew");
                self.reload();
            }
            libc::SIGUSR1 => {
                tracing::info!("SIGUSR1: opening the log files anew");
                self.pump.reopen();
            }
            libc::SIGUSR2 => self.upgrade(),
            other => tracing::debug!(signal = other, "signal ignored"),
        }
    }
}

impl Node {
    /// The keeper starts what lies where this program lay, and once that is ready executes it itself.
    fn upgrade(&mut self) {
        let path = &self.executable;
        let executable = rustix::fs::access(path, rustix::fs::Access::EXEC_OK);
        match executable
            .map_err(std::io::Error::from)
            .and_then(|()| super::boot::c_path(path).ok_or_else(|| std::io::ErrorKind::InvalidInput.into()))
        {
            Ok(path) => {
                tracing::info!("SIGUSR2: making room for a new controller, {}", self.executable.display());
                self.keeper.upgrade(&path);
                self.leaving = Some(Leave::Successor);
            }
            Err(error) => tracing::error!("SIGUSR2: no upgrade, {} cannot be executed: {error}", path.display()),
        }
    }
}

/// What the pump looks for in the output of a service.
pub(super) fn pattern(spec: &Spec) -> Option<regex::Regex> {
    spec.log_line().and_then(|pattern| regex::Regex::new(pattern).ok())
}

/// What a service says by itself takes no time and has no reason but its own.
fn said(passed: bool, message: impl Into<String>) -> Verdict {
    Verdict { passed, message: message.into(), reason: None, took: Duration::ZERO }
}

pub(super) fn notify_key(life: &LifeId) -> String {
    format!("notify {life}")
}

pub(super) fn ready_key(life: &LifeId) -> String {
    format!("ready {life}")
}

fn exit(how: How) -> Exit {
    match how {
        How::Code(code) => Exit::code(code),
        How::Signal(signal) => Exit::signal(signal),
    }
}

/// Our terminal hung up: it cannot be opened any more.
fn terminal_is_gone() -> bool {
    std::fs::File::open("/dev/tty").is_err()
}
