//! Short processes beside a life: exec probes, preStart, preStop, `--selfcheck`.
//!
//! They are spawned by the keeper like everything else, each in its own session (and its own cgroup
//! where one can be made), and ended as a tree: at their time limit, and when their first process
//! has ended or nobody waits for them any more. A task (`attend`) waits for one helper and ends with
//! one fact.
//!
//! A helper has an identity of its own, and is none of the processes of the life that it runs beside. What it
//! leaves behind is: without a cgroup a stop looks for processes that carry the life's name, and finds it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::attend::{attend, end_tree, remove_group};
use super::facts::Spawned;
use super::spawn::request;
use super::{Node, Notice};
use crate::controller::{Exit, ExitHow, Hook, Input, ProbeSlot, Target};
use crate::edge::probe::exec::{Ended, Tail, judge};
use crate::edge::process::cgroup::Group;
use crate::edge::process::failure::is_want_of_room;
use crate::edge::process::prepare::{self, Prepared, Unpreparable};
use crate::edge::process::stat::Stat;
use crate::edge::process::tree::{Scope, Tree, helper_life};
use crate::keeper::{Entry, Id, Stage};
use crate::model::name::{Instance, LifeId};
use crate::model::reason::Reason;
use crate::model::spec::{Program, Spec};
use crate::model::view::Event;

/// No instance's key begins so: names begin with a letter or a digit.
const PREFIX: &[u8] = b"!";
/// So begins what the keeper holds of a preStop hook; the life and the limit in ms follow.
const PRE_STOP: &str = "preStop";
/// When the node leaves, killed helpers have this long to be gone, so that their groups can be removed.
const LEAVE_MAX: Duration = Duration::from_millis(500);

pub fn is_helper(id: &Id) -> bool {
    id.key.starts_with(PREFIX)
}

/// Helpers that the keeper was asked for and that have not ended.
pub struct Helpers {
    running: HashMap<Id, Helper>,
    /// The last number given: the controller's in the upper half, so that none is given twice.
    number: u64,
}

struct Helper {
    purpose: Purpose,
    command: Vec<String>,
    limit: Duration,
    scope: Scope,
    /// Once it was executed.
    tree: Option<Tree>,
    /// Nobody waits for it any more.
    cancelled: bool,
    asked: Instant,
    /// Taken by the task at the spawn, given the end at the exit.
    ended: Option<oneshot::Sender<Exit>>,
}

/// A helper that is asked for.
pub(super) struct Request {
    pub purpose: Purpose,
    pub command: Vec<String>,
    spec: Arc<Spec>,
    pub number: u64,
    limit: Duration,
    asked: Instant,
}

impl Request {
    /// Its time limit counts from the wish.
    pub fn until(&self) -> Instant {
        self.asked + self.limit
    }

    pub fn not_started(&self, reason: Reason, why: String) -> Input {
        self.purpose.input(&self.command, &Ended::NotStarted(reason, why), &Tail::default(), self.asked.elapsed())
    }
}

#[derive(Clone)]
pub(super) enum Purpose {
    Probe(LifeId, ProbeSlot),
    Hook(LifeId, Hook),
}

impl Purpose {
    fn input(&self, command: &[String], ended: &Ended, output: &Tail, took: Duration) -> Input {
        match self {
            Purpose::Probe(life, probe) => {
                Input::Verdict { life: life.clone(), probe: *probe, verdict: judge(command, ended, output, took) }
            }
            Purpose::Hook(life, hook) => {
                let last = output.telling();
                let said = |what: String| match &last {
                    Some(line) => (Reason::Error, format!("{what}: {line}")),
                    None => (Reason::Error, what),
                };
                let result = match ended {
                    Ended::Exited(exit) => match exit.how {
                        ExitHow::Code(0) => Ok(()),
                        ExitHow::Code(code) => Err(said(format!("exited with {code}"))),
                        ExitHow::Signal(signal) => Err(said(format!("was killed by signal {signal}"))),
                    },
                    Ended::TimedOut(limit) => Err(said(format!("did not end within {limit:?}"))),
                    Ended::NotStarted(reason, why) => Err((*reason, format!("could not be started: {why}"))),
                };
                Input::HookEnded { life: life.clone(), hook: *hook, result }
            }
        }
    }

    /// What the keeper holds of it for a later controller: only a preStop hook is worth going on with.
    fn mark(&self, limit: Duration) -> Vec<u8> {
        match self {
            Purpose::Hook(life, Hook::PreStop) => {
                format!("{PRE_STOP} {} {}", life.life, limit.as_millis()).into_bytes()
            }
            Purpose::Hook(_, Hook::PreStart | Hook::Selfcheck) | Purpose::Probe(..) => Vec::new(),
        }
    }

    fn of_mark(entry: &Entry) -> Option<(Purpose, Duration)> {
        let mut words = std::str::from_utf8(&entry.blob).ok()?.split(' ');
        let (kind, life, limit) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let life = LifeId { instance: instance_of(&entry.id)?, life };
        (kind == PRE_STOP).then(|| (Purpose::Hook(life, Hook::PreStop), Duration::from_millis(limit)))
    }

    pub fn life(&self) -> &LifeId {
        match self {
            Purpose::Probe(life, _) | Purpose::Hook(life, _) => life,
        }
    }
}

impl Helpers {
    /// `generation`: how many controllers this keeper has started.
    pub(super) fn new(generation: u32) -> Helpers {
        Helpers { running: HashMap::new(), number: u64::from(generation) << 32 }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Whether a preStop hook of this life runs.
    pub(super) fn has_pre_stop(&self, life: &LifeId) -> bool {
        let is_it = |helper: &Helper| matches!(&helper.purpose, Purpose::Hook(of, Hook::PreStop) if of == life);
        self.running.values().any(is_it)
    }

    /// Whether the helper was known.
    pub(super) fn ended(&mut self, id: &Id, exit: Exit) -> bool {
        let Some(helper) = self.running.get_mut(id) else { return false };
        if let Some(ended) = helper.ended.take() {
            // A task that has timed out no longer listens.
            let _ = ended.send(exit);
        }
        true
    }
}

/// The identity of a helper's tree.
fn identity(instance: &Instance, number: u64) -> LifeId {
    LifeId { instance: instance.clone(), life: helper_life(number) }
}

/// `!orders/0:4294967297`. A key of its own each time: the keeper refuses two lives of one key at once.
fn id_of(instance: &Instance, number: u64) -> Id {
    Id::new([PREFIX, format!("{instance}:{number}").as_bytes()].concat(), number)
}

/// The instance that a helper of an earlier controller ran beside.
fn instance_of(id: &Id) -> Option<Instance> {
    let text = std::str::from_utf8(id.key.strip_prefix(PREFIX)?).ok()?;
    Instance::parse(text.rsplit_once(':')?.0)
}

impl Node {
    pub(super) fn run_exec_probe(
        &mut self,
        life: LifeId,
        slot: ProbeSlot,
        spec: Arc<Spec>,
        command: Vec<String>,
        limit: Duration,
    ) {
        self.start(Purpose::Probe(life, slot), command, spec, limit);
    }

    pub(super) fn run_hook(
        &mut self,
        life: LifeId,
        hook: Hook,
        spec: Arc<Spec>,
        wrapper: Option<&Path>,
        limit: Duration,
    ) {
        let command = match hook {
            Hook::PreStart => spec.lifecycle.pre_start.clone(),
            Hook::PreStop => spec.lifecycle.pre_stop.clone(),
            Hook::Selfcheck => match (&spec.process.program, wrapper) {
                (Program::Wrapper(written), found) => {
                    let path = found.unwrap_or(&written.path).to_string_lossy().into_owned();
                    Some(vec![path, "--selfcheck".into()])
                }
                (Program::Command(_) | Program::Script(_) | Program::External(_), _) => None,
            },
        };
        match command {
            // Nothing to run is nothing that can fail.
            None => self.queue.push_back(Input::HookEnded { life, hook, result: Ok(()) }),
            Some(command) => self.start(Purpose::Hook(life, hook), command, spec, limit),
        }
    }

    fn start(&mut self, purpose: Purpose, command: Vec<String>, spec: Arc<Spec>, limit: Duration) {
        let number = self.helpers.next();
        let request = Request { purpose, command, spec: spec.clone(), number, limit, asked: Instant::now() };
        self.prepare_helper(request, spec);
    }

    pub(super) fn start_prepared(&mut self, request: Request, prepared: Result<Prepared, Unpreparable>) {
        if let Err(fault) = prepared.and_then(|prepared| self.ask_for(&request, prepared)) {
            self.queue.push_back(request.not_started(fault.reason, fault.message));
        }
    }

    fn ask_for(&mut self, asked: &Request, prepared: Prepared) -> Result<(), Unpreparable> {
        let instance = &asked.purpose.life().instance;
        let id = id_of(instance, asked.number);
        let mut request = request(prepared, &asked.spec, id.clone());
        request.blob = asked.purpose.mark(asked.limit);
        let scope = match self.helper_group(instance, asked.number) {
            Some((fd, group)) => {
                request.cgroup = Some(Arc::new(fd));
                Scope::Cgroup(group)
            }
            None => Scope::Session,
        };
        if let Err(error) = self.keeper.spawn(request) {
            drop_group(&scope);
            return Err(prepare::fault(Reason::ResourceExhausted, error.to_string()));
        }
        let helper = Helper {
            purpose: asked.purpose.clone(),
            command: asked.command.clone(),
            limit: asked.limit,
            scope,
            tree: None,
            cancelled: false,
            asked: asked.asked,
            ended: None,
        };
        self.helpers.running.insert(id, helper);
        Ok(())
    }

    /// Those whose limit is over before their exec: the file system that it waits for does not answer.
    pub(super) fn end_late_helpers(&mut self, now: Instant) {
        let late = |helper: &Helper| helper.tree.is_none() && helper.asked + helper.limit <= now;
        for (id, helper) in self.helpers.running.extract_if(|_, helper| late(helper)) {
            let why = "its program or its working directory does not answer";
            let ended = Ended::NotStarted(Reason::NotAnswering, why.into());
            let took = helper.asked.elapsed();
            if !helper.cancelled {
                self.queue.push_back(helper.purpose.input(&helper.command, &ended, &Tail::default(), took));
            }
            self.keeper.abandon(&id);
        }
    }

    pub(super) fn next_late_helper(&self) -> Option<Instant> {
        let waiting = self.helpers.running.values().filter(|helper| helper.tree.is_none());
        waiting.map(|helper| helper.asked + helper.limit).min()
    }

    fn helper_group(&self, instance: &Instance, number: u64) -> Option<(OwnedFd, Group)> {
        let root = self.cgroups.as_ref()?;
        let path = group_path(root.path(), instance, number);
        std::fs::create_dir(&path).ok()?;
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).ok()?;
        Some((fd, Group::at(path)))
    }

    pub(super) fn helper_failed(&mut self, id: &Id, stage: Stage, errno: i32) {
        let Some(helper) = self.helpers.running.remove(id) else { return };
        drop_group(&helper.scope);
        let reason = if is_want_of_room(errno) { Reason::ResourceExhausted } else { Reason::Error };
        let error = std::io::Error::from_raw_os_error(errno);
        let ended = Ended::NotStarted(reason, format!("{error} ({stage:?})"));
        self.queue.push_back(helper.purpose.input(&helper.command, &ended, &Tail::default(), helper.asked.elapsed()));
    }

    pub(super) fn start_helper(&mut self, spawned: Spawned) {
        let Spawned { id, pid, start_time, reaper: _, log, log_stderr: _ } = spawned;
        let Some(helper) = self.helpers.running.get(&id) else {
            self.kill_stray(&id, pid, start_time);
            return;
        };
        let life = identity(&helper.purpose.life().instance, id.life);
        let tree = Tree { life, node: self.key.clone(), pid, start_time, scope: helper.scope.clone() };
        self.attend_helper(id, tree, log);
    }

    /// Waits for the end of one that runs.
    fn attend_helper(&mut self, id: Id, tree: Tree, log: OwnedFd) {
        let Some(helper) = self.helpers.running.get_mut(&id) else { return };
        let (ended, mut exit) = oneshot::channel();
        self.trees.helper_runs(&tree, true);
        helper.ended = Some(ended);
        helper.tree = Some(tree.clone());
        if helper.cancelled {
            let _ = self.trees.signal(&tree, libc::SIGKILL, Target::Tree);
        }
        let purpose = helper.purpose.clone();
        let (command, asked) = (helper.command.clone(), helper.asked);
        let limit = helper.limit;
        let (sender, done, trees) = (self.sender.clone(), self.notices.clone(), self.trees.clone());
        tokio::task::spawn_local(async move {
            let mut output = Tail::default();
            let ended = attend(log, &mut output, &mut exit, limit).await;
            let timed_out = matches!(ended, Ended::TimedOut(_));
            let _ = sender.send(purpose.input(&command, &ended, &output, asked.elapsed())).await;
            let killed = matches!(&ended, Ended::Exited(Exit { how: ExitHow::Signal(libc::SIGKILL), .. }));
            let hook = matches!(purpose, Purpose::Hook(..));
            let walked = end_tree(&trees, &tree, timed_out, hook);
            if timed_out {
                // However long a killed process takes, its entry is dropped after it, never before.
                let _ = exit.await;
            }
            remove_group(&tree.scope).await;
            if walked || killed {
                trees.forget(&tree);
            }
            let _ = done.send(Notice::HelperDone(id));
        });
    }

    /// A task's last word: the keeper may drop the helper.
    pub(super) fn on_helper_done(&mut self, id: &Id) {
        let helper = self.helpers.running.remove(id);
        if let Some(tree) = helper.and_then(|helper| helper.tree) {
            self.trees.helper_runs(&tree, false);
        }
        self.keeper.forget(id);
    }

    /// Whatever still runs beside the life is killed; its answers are of no life that anybody knows.
    pub(super) fn end_helpers_of(&mut self, life: &LifeId) {
        self.drop_helpers_in_preparation(life);
        for helper in self.helpers.running.values_mut().filter(|helper| helper.purpose.life() == life) {
            helper.cancelled = true;
            if let Some(tree) = &helper.tree {
                let _ = self.trees.signal(tree, libc::SIGKILL, Target::Tree);
            }
        }
    }

    /// The node leaves: nothing that ran beside a service stays behind.
    pub(super) async fn end_all_helpers(&mut self) {
        let running = std::mem::take(&mut self.helpers.running);
        for tree in running.values().filter_map(|helper| helper.tree.as_ref()) {
            let _ = self.trees.signal(tree, libc::SIGKILL, Target::Tree);
        }
        let until = Instant::now() + LEAVE_MAX;
        while running.values().any(Helper::is_there) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.values().for_each(|helper| drop_group(&helper.scope));
    }

    /// A helper of a controller that is gone. A preStop hook goes on; nobody waits for any other, it is ended.
    pub(super) fn on_helper_entry(&mut self, entry: Entry) {
        match entry.exit {
            None if let Some((purpose, limit)) = Purpose::of_mark(&entry) => self.take_up_helper(entry, purpose, limit),
            // What it left behind goes as well.
            Some(_) => {
                self.kill_stray(&entry.id, entry.pid, entry.start_time);
                self.keeper.forget(&entry.id);
            }
            // Its entry is dropped when it has ended.
            None => self.kill_stray(&entry.id, entry.pid, entry.start_time),
        }
    }

    fn take_up_helper(&mut self, entry: Entry, purpose: Purpose, limit: Duration) {
        let Some(tree) = self.tree_of_stray(&entry.id, entry.pid, entry.start_time) else { return };
        let helper = Helper {
            purpose,
            // Told where it cannot be started only.
            command: Vec::new(),
            limit: limit.saturating_sub(super::monotonic().saturating_sub(entry.spawned_at)),
            scope: tree.scope.clone(),
            tree: None,
            cancelled: false,
            asked: Instant::now(),
            ended: None,
        };
        self.helpers.running.insert(entry.id.clone(), helper);
        self.attend_helper(entry.id, tree, entry.log);
    }

    fn tree_of_stray(&self, id: &Id, pid: i32, start_time: u64) -> Option<Tree> {
        let instance = instance_of(id)?;
        let group = self.cgroups.as_ref().map(|root| group_path(root.path(), &instance, id.life));
        let scope = match group.filter(|path| path.exists()) {
            Some(path) => Scope::Cgroup(Group::at(path)),
            None => Scope::Session,
        };
        Some(Tree { life: identity(&instance, id.life), node: self.key.clone(), pid, start_time, scope })
    }

    fn kill_stray(&mut self, id: &Id, pid: i32, start_time: u64) {
        let Some(tree) = self.tree_of_stray(id, pid, start_time) else { return };
        let _ = self.trees.signal(&tree, libc::SIGKILL, Target::Tree);
        self.trees.forget(&tree);
        tokio::task::spawn_local(async move { remove_group(&tree.scope).await });
    }
}

impl Helper {
    /// Its first process, or where a cgroup tells it anybody of it, still runs.
    fn is_there(&self) -> bool {
        match (&self.scope, &self.tree) {
            (Scope::Cgroup(group), _) => group.populated(),
            (Scope::Session | Scope::Reaper(_), Some(tree)) => {
                Stat::of(tree.pid).is_some_and(|stat| stat.start_time == tree.start_time && stat.lives())
            }
            (Scope::Session | Scope::Reaper(_), None) => false,
        }
    }
}

fn group_path(root: &Path, instance: &Instance, number: u64) -> PathBuf {
    root.join(format!("helper-{}.{}-{number}", instance.service, instance.index))
}

/// Of one in which nobody is.
fn drop_group(scope: &Scope) {
    if let Scope::Cgroup(group) = scope {
        let _ = group.remove();
    }
}

/// One line for each event, in the words of the event; the start-up report is printed by itself.
pub fn log_event(event: &Event) {
    if event.reason == Reason::StartupReport {
        return;
    }
    let service = event.service.as_deref().unwrap_or("plugd");
    let instance = event.instance.as_deref();
    match event.warning {
        true => tracing::warn!(service, instance, reason = %event.reason, "{}", event.message),
        false => tracing::info!(service, instance, reason = %event.reason, "{}", event.message),
    }
}
