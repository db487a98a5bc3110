//! Short processes beside a life: exec probes, preStart, preStop, `--selfcheck`.
//!
//! They are spawned by the keeper like everything else, each in its own session (and its own cgroup
//! where one can be made), and ended as a tree: at their time limit, and when their first process
//! has ended. A task waits for one helper and ends with one fact.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use super::apply::request;
use super::facts::Spawned;
use super::{Node, Notice};
use crate::controller::{Exit, ExitHow, Hook, Input, ProbeSlot, Target};
use crate::edge::probe::exec::{Ended, Tail, judge};
use crate::edge::process::cgroup::Group;
use crate::edge::process::prepare::{self, Unpreparable};
use crate::edge::process::tree::{Scope, Tree, Trees};
use crate::keeper::{Entry, Id};
use crate::model::name::{Instance, LifeId, Name};
use crate::model::spec::{Program, Spec};
use crate::model::view::Event;

/// No instance's key begins so: names begin with a letter or a digit.
const PREFIX: &[u8] = b"!";
/// A killed group is empty within a millisecond; one that is not, after this, is left where it is.
const GROUP_MAX: Duration = Duration::from_secs(5);

pub fn is_helper(id: &Id) -> bool {
    id.key.starts_with(PREFIX)
}

/// Helpers that the keeper was asked for and that have not ended.
#[derive(Default)]
pub struct Helpers {
    running: HashMap<Id, Helper>,
    count: u64,
}

struct Helper {
    purpose: Purpose,
    command: Vec<String>,
    limit: Duration,
    scope: Scope,
    asked: Instant,
    /// Taken by the task at the spawn, given the end at the exit.
    ended: Option<oneshot::Sender<Exit>>,
}

#[derive(Clone)]
enum Purpose {
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
                let last = output.last_line();
                let said = |what: String| match &last {
                    Some(line) => format!("{what}: {line}"),
                    None => what,
                };
                let result = match ended {
                    Ended::Exited(exit) => match exit.how {
                        ExitHow::Code(0) => Ok(()),
                        ExitHow::Code(code) => Err(said(format!("exited with {code}"))),
                        ExitHow::Signal(signal) => Err(said(format!("was killed by signal {signal}"))),
                    },
                    Ended::TimedOut(limit) => Err(said(format!("did not end within {limit:?}"))),
                    Ended::NotStarted(why) => Err(format!("could not be started: {why}")),
                };
                Input::HookEnded { life: life.clone(), hook: *hook, result }
            }
        }
    }

    fn life(&self) -> &LifeId {
        match self {
            Purpose::Probe(life, _) | Purpose::Hook(life, _) => life,
        }
    }
}

impl Helpers {
    pub(super) fn ended(&mut self, id: &Id, exit: Exit) {
        if let Some(helper) = self.running.get_mut(id)
            && let Some(ended) = helper.ended.take()
        {
            // A task that has timed out no longer listens.
            let _ = ended.send(exit);
        }
    }
}

impl Node {
    pub(super) fn run_exec_probe(
        &mut self,
        life: LifeId,
        slot: ProbeSlot,
        spec: &Spec,
        command: &[String],
        limit: Duration,
    ) {
        let prepared = prepare::helper(&self.ground, spec, &life, command);
        self.start(Purpose::Probe(life, slot), command.to_vec(), spec, prepared, limit);
    }

    pub(super) fn run_hook(&mut self, life: LifeId, hook: Hook, spec: &Spec, wrapper: Option<&Path>, limit: Duration) {
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
            Some(command) => {
                let prepared = prepare::helper(&self.ground, spec, &life, &command);
                self.start(Purpose::Hook(life, hook), command, spec, prepared, limit);
            }
        }
    }

    fn start(
        &mut self,
        purpose: Purpose,
        command: Vec<String>,
        spec: &Spec,
        prepared: Result<prepare::Prepared, Unpreparable>,
        limit: Duration,
    ) {
        self.helpers.count += 1;
        let number = self.helpers.count;
        let life = purpose.life().clone();
        let result = prepared.and_then(|prepared| {
            // A key of its own each time: the keeper refuses two lives of one key at once.
            let id = Id::new([PREFIX, format!("{}:{number}", life.instance.service).as_bytes()].concat(), number);
            let group = self.helper_group(&life.instance, number);
            let mut request = request(prepared, spec, id.clone());
            let scope = match group {
                Some((fd, group)) => {
                    request.cgroup = Some(Arc::new(fd));
                    Scope::Cgroup(group)
                }
                None => Scope::Session,
            };
            self.keeper
                .spawn(request)
                .map_err(|error| prepare::fault(crate::model::reason::Reason::ResourceExhausted, error.to_string()))?;
            let helper = Helper {
                purpose: purpose.clone(),
                command: command.clone(),
                limit,
                scope,
                asked: Instant::now(),
                ended: None,
            };
            self.helpers.running.insert(id, helper);
            Ok(())
        });
        if let Err(fault) = result {
            let ended = Ended::NotStarted(fault.message);
            self.queue.push_back(purpose.input(&command, &ended, &Tail::default(), Duration::ZERO));
        }
    }

    fn helper_group(&self, instance: &Instance, number: u64) -> Option<(OwnedFd, Group)> {
        let root = self.cgroups.as_ref()?;
        let path = root.path().join(format!("helper-{}.{}-{number}", instance.service, instance.index));
        std::fs::create_dir(&path).ok()?;
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).ok()?;
        Some((fd, Group::at(path)))
    }

    pub(super) fn helper_failed(&mut self, id: &Id, why: String) {
        let Some(helper) = self.helpers.running.remove(id) else { return };
        if let Scope::Cgroup(group) = &helper.scope {
            let _ = group.remove();
        }
        let ended = Ended::NotStarted(why);
        self.queue.push_back(helper.purpose.input(&helper.command, &ended, &Tail::default(), helper.asked.elapsed()));
    }

    pub(super) fn start_helper(&mut self, spawned: Spawned) {
        let Some(helper) = self.helpers.running.get_mut(&spawned.id) else { return };
        let (ended, exit) = oneshot::channel();
        helper.ended = Some(ended);
        let tree = Tree {
            life: helper.purpose.life().clone(),
            pid: spawned.pid,
            start_time: spawned.start_time,
            scope: helper.scope.clone(),
        };
        let purpose = helper.purpose.clone();
        let (command, limit, asked) = (helper.command.clone(), helper.limit, helper.asked);
        let (sender, done, trees) = (self.sender.clone(), self.notices.clone(), self.trees.clone());
        tokio::task::spawn_local(async move {
            let mut output = Tail::default();
            let mut exit = exit;
            let ended = attend(spawned.log, &mut output, &mut exit, limit).await;
            let timed_out = matches!(ended, Ended::TimedOut(_));
            let _ = sender.send(purpose.input(&command, &ended, &output, asked.elapsed())).await;
            end_tree(&trees, &tree, timed_out).await;
            if timed_out {
                // However long a killed process takes, its entry is dropped after it, never before.
                let _ = exit.await;
            }
            remove_group(&tree).await;
            let _ = done.send(Notice::HelperDone(spawned.id));
        });
    }

    /// A task's last word: the keeper may drop the helper.
    pub(super) fn on_helper_done(&mut self, id: &Id) {
        self.helpers.running.remove(id);
        self.keeper.forget(id);
    }

    /// A helper of a controller that is gone: nobody waits for it, it is ended.
    pub(super) fn end_stray_helper(&mut self, entry: Entry) {
        // `!orders:17`: the service that it was for.
        let text = String::from_utf8_lossy(&entry.id.key).into_owned();
        let service = text.trim_start_matches('!').split(':').next().and_then(|name| Name::parse(name).ok());
        if let (None, Some(service)) = (&entry.exit, service) {
            let life = LifeId { instance: Instance { service, index: 0 }, life: entry.id.life };
            let tree = Tree { life, pid: entry.pid, start_time: entry.start_time, scope: Scope::Session };
            let _ = self.trees.signal(&tree, libc::SIGKILL, Target::Group);
        }
        self.keeper.forget(&entry.id);
    }
}

/// Waits for the end of a helper, or for its limit, and keeps the end of its output.
async fn attend(log: OwnedFd, output: &mut Tail, exit: &mut oneshot::Receiver<Exit>, limit: Duration) -> Ended {
    let pipe = Receiver::from_owned_fd(log).ok();
    let limit_over = tokio::time::sleep(limit);
    tokio::pin!(limit_over);
    let mut open = pipe.is_some();
    let ended = loop {
        tokio::select! {
            biased;
            exit = &mut *exit => match exit {
                Ok(exit) => break Ended::Exited(exit),
                Err(_) => break Ended::NotStarted("the controller is leaving".into()),
            },
            () = &mut limit_over => break Ended::TimedOut(limit),
            () = readable(pipe.as_ref()), if open => open = read_some(pipe.as_ref(), output),
        }
    };
    while open && read_some(pipe.as_ref(), output) {
        if !more(pipe.as_ref()) {
            break;
        }
    }
    ended
}

async fn readable(pipe: Option<&Receiver>) {
    match pipe {
        // An error shows at the next read.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

/// Whether more may come.
fn read_some(pipe: Option<&Receiver>, output: &mut Tail) -> bool {
    let Some(pipe) = pipe else { return false };
    let mut bytes = [0; 4096];
    match pipe.try_read(&mut bytes) {
        Ok(0) => false,
        Ok(length) => {
            output.push(&bytes[..length]);
            true
        }
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Whether something is in the pipe now.
fn more(pipe: Option<&Receiver>) -> bool {
    use std::os::fd::AsFd;
    pipe.is_some_and(|pipe| rustix::io::ioctl_fionread(pipe.as_fd()).is_ok_and(|bytes| bytes > 0))
}

/// Ends what the helper left running, and the helper itself where its time is over.
async fn end_tree(trees: &Rc<Trees>, tree: &Tree, timed_out: bool) {
    match &tree.scope {
        Scope::Cgroup(group) => {
            if group.populated() {
                let _ = trees.signal(tree, libc::SIGKILL, Target::Tree);
            }
        }
        Scope::Session if timed_out => {
            let _ = trees.signal(tree, libc::SIGKILL, Target::Tree);
        }
        // Its group is all that can be found cheaply of one that has ended.
        Scope::Session => {
            let _ = trees.signal(tree, libc::SIGKILL, Target::Group);
        }
    }
}

async fn remove_group(tree: &Tree) {
    let Scope::Cgroup(group) = &tree.scope else { return };
    let until = Instant::now() + GROUP_MAX;
    while group.remove().is_err() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One line for each event, in the words of the event; the start-up report is printed by itself.
pub fn log_event(event: &Event) {
    if event.reason == crate::model::reason::Reason::StartupReport {
        return;
    }
    let service = event.service.as_deref().unwrap_or("plugd");
    let instance = event.instance.as_deref();
    match event.warning {
        true => tracing::warn!(service, instance, reason = %event.reason, "{}", event.message),
        false => tracing::info!(service, instance, reason = %event.reason, "{}", event.message),
    }
}
