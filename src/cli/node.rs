//! The node that a verb speaks to: its directory, its controller, and what it last said.
//!
//! The client is asynchronous because the socket's server is; verbs are not. Each verb runs on one
//! thread and blocks here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::Global;
use super::fault::Fault;
use super::progress::Progress;
use super::{last, left};
use crate::api::client::{self, ANSWER_WAIT, Client, ClientError, Events, Watch};
use crate::api::wire::{EventsEvent, WatchEvent};
use crate::controller::Order;
use crate::edge::directory::identity;
use crate::edge::places::{self, FindError, Who};
use crate::edge::process::stat::Stat;
use crate::model::name::Name;
use crate::model::ready;
use crate::model::view::{ServiceView, Snapshot};

/// How often a controller that is not there yet is looked for (`plugd run & plugd wait`).
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the controller knows is published within this time.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(100);

/// Without `--dir` this one is meant, if it exists.
const HERE: &str = "services.d";

/// A keeper starts a new controller at once, or after a second where several have died.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);

/// Whether the keeper that the node's status names is there.
fn keeper_lives(global: &Global) -> bool {
    keeper_of(global.dir.as_deref().unwrap_or(Path::new(HERE)))
}

fn keeper_of(dir: &Path) -> bool {
    let text = std::fs::read_to_string(dir.join("_controller.status")).unwrap_or_default();
    let Some((_, rest)) = text.split_once("keeperPid: ") else { return false };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let Ok(pid) = digits.parse() else { return false };
    let command = crate::edge::process::stat::command(pid);
    command.is_some_and(|command| command.starts_with("plugd"))
}

/// A controller that answered.
#[derive(Debug)]
pub struct Node {
    runtime: tokio::runtime::Runtime,
    client: Client,
    /// The watched directory, where it is known.
    dir: Option<PathBuf>,
    /// Nothing named it: it is the only one that runs here.
    unnamed: bool,
}

impl Node {
    /// The node that the flags, the environment or the place name. Where its keeper lives a controller
    /// that does not answer is one that is being replaced: it is waited for.
    pub fn open(global: &Global) -> Result<Node, Fault> {
        let until = Instant::now() + REPLACED_WITHIN;
        loop {
            match Node::open_now(global) {
                Err(fault) if fault.may_pass() && keeper_lives(global) && Instant::now() < until => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                answer => return answer,
            }
        }
    }

    fn open_now(global: &Global) -> Result<Node, Fault> {
        let dir = global.dir.clone().or_else(|| Some(PathBuf::from(HERE)).filter(|here| here.is_dir()));
        let (run, state) = (global.run_dir.as_deref(), global.state_dir.as_deref());
        let found = places::find(dir.as_deref(), run, state, &Who::now(), &client::of_another).map_err(not_found);
        let found = match found {
            Err(Fault::Several(dirs)) => {
                let here = identity(Path::new("."));
                return match dirs.iter().find(|dir| here.is_some() && identity(Path::new(dir)) == here) {
                    // Asked within one of the directories: that one is meant.
                    Some(dir) => Node::open_now(&Global { dir: Some(dir.into()), ..global.clone() }),
                    None => Err(Fault::Several(dirs)),
                };
            }
            found => found?,
        };
        let runtime = runtime()?;
        let client = match &dir {
            Some(dir) => runtime.block_on(Client::connect_in(&found.socket, dir)),
            None => runtime.block_on(Client::connect(&found.socket)),
        };
        match client {
            Ok(client) => {
                let unnamed = dir.is_none() && global.run_dir.is_none() && global.state_dir.is_none();
                Ok(Node { runtime, client, dir, unnamed })
            }
            Err(error) => {
                let node = dir.as_ref().unwrap_or(&found.socket).display().to_string();
                Err(told(error, &node, &found.socket))
            }
        }
    }

    /// As [`Node::open`], patient: a controller may be about to start.
    pub fn open_until(global: &Global, deadline: Instant) -> Result<Node, Fault> {
        loop {
            match Node::open(global) {
                Err(fault) if fault.is_unreachable() && Instant::now() + LOOK_AGAIN < deadline => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                answer => return answer,
            }
        }
    }

    /// Of a node that nothing named not `everything` is changed at once, and whose it is is said: it may be another
    /// one's than was meant.
    pub fn may_be_changed(&self, everything: bool) -> Result<(), Fault> {
        if !self.unnamed {
            return Ok(());
        }
        let dir = self.dir()?;
        if !everything {
            if identity(Path::new(".")) != identity(&dir) {
                super::say(&format!(
                    "there is no services.d here; this is for the one node that runs, of {}",
                    dir.display()
                ));
            }
            return Ok(());
        }
        let message = format!("there is no services.d here, and the node that runs is that of {}", dir.display());
        Err(Fault::no(message, format!("if it is meant, say --dir {}", dir.display())))
    }

    /// The watched directory; the controller is asked where the flags do not tell.
    pub fn dir(&self) -> Result<PathBuf, Fault> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let node = self.get("/v1/node")?;
        let dir = node.get("directory").and_then(Value::as_str);
        dir.map(PathBuf::from)
            .ok_or_else(|| Fault::no("the controller does not say which directory it watches", "name it with --dir"))
    }

    pub fn snapshot(&self) -> Result<Snapshot, Fault> {
        self.run(self.client.snapshot())
    }

    /// As [`Node::snapshot`]; where a name is not in it, once more after a moment: a status file may be
    /// a little ahead of what the controller publishes, and who has seen it asks by that name.
    pub fn snapshot_with(&self, names: &[String]) -> Result<Snapshot, Fault> {
        let snapshot = self.snapshot()?;
        let known = |name: &String| {
            let service = name.split_once('/').map_or(name.as_str(), |(service, _)| service);
            snapshot.services.contains_key(service)
        };
        if names.iter().all(known) {
            return Ok(snapshot);
        }
        std::thread::sleep(PUBLISHED_WITHIN);
        self.snapshot()
    }

    pub fn get(&self, path: &str) -> Result<Value, Fault> {
        self.run(self.client.get(path))
    }

    /// The full object of a service: what `-o json` and `-o yaml` print.
    pub fn object(&self, name: &Name) -> Result<Value, Fault> {
        self.get(&format!("/v1/services/{name}?form=object"))
    }

    pub fn order(&self, name: &Name, order: Order) -> Result<Option<String>, Fault> {
        match order {
            Order::Start | Order::Resume | Order::Stop | Order::Scale(_) => {
                self.run_again(|| self.client.order(name, order))
            }
            // Where its answer is lost it may have been carried out: a second one would be one too many.
            Order::Restart => self.run(self.client.order(name, order)),
        }
    }

    pub fn signal(&self, name: &Name, instance: Option<u32>, signal: i32) -> Result<(), Fault> {
        self.run(self.client.signal(name, instance, &signal.to_string()))
    }

    /// What lies in the directory by now is what counts from here on.
    pub fn take_in(&self) -> Result<(), Fault> {
        self.run_again(|| self.client.rescan())
    }

    pub fn confirm_missing(&self) -> Result<(), Fault> {
        self.run(self.client.confirm_missing())
    }

    /// Everything now, then each change.
    pub fn watch(&self) -> Result<Watching<'_>, Fault> {
        let stream = self.run_again(|| self.client.watch())?;
        Ok(Watching { node: self, stream, known: None, coming: None })
    }

    pub fn events(&self) -> Result<Happening<'_>, Fault> {
        let stream = self.run(self.client.events())?;
        Ok(Happening { node: self, stream })
    }

    fn run<T>(&self, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, Fault> {
        self.runtime.block_on(answer).map_err(|error| told(error, &self.shown(), self.client.socket()))
    }

    /// Whether the controller answers at all, within this time.
    pub fn answers(&self, within: Duration) -> Result<(), Fault> {
        let answer = self.client.get::<Value>("/v1/node?form=place");
        let answer = self.run_until(Some(Instant::now() + within), answer)?;
        answer.map(drop).ok_or_else(|| silent(&self.shown(), self.client.socket(), within))
    }

    /// What is asked twice does no harm: of a controller that is killed or replaced meanwhile the next one is asked.
    fn run_again<T, A: Future<Output = Result<T, ClientError>>>(&self, ask: impl Fn() -> A) -> Result<T, Fault> {
        let mut answer = self.run(ask());
        if answer.as_ref().is_err_and(Fault::may_pass) {
            let until = Instant::now() + REPLACED_WITHIN;
            // It may not have read the directory yet, and know of nothing.
            let is_early = |answer: &Result<T, Fault>| match answer {
                Err(fault) => fault.may_pass() || matches!(fault, Fault::Missing { .. }),
                Ok(_) => false,
            };
            while is_early(&answer) && self.keeper_lives() && Instant::now() < until {
                std::thread::sleep(LOOK_AGAIN);
                answer = self.run(ask());
            }
        }
        answer
    }

    fn keeper_lives(&self) -> bool {
        keeper_of(self.dir.as_deref().unwrap_or(Path::new(HERE)))
    }

    fn shown(&self) -> String {
        self.dir.as_deref().unwrap_or(self.client.socket()).display().to_string()
    }

    /// `None` when the time is up before the answer.
    fn run_until<T>(
        &self,
        deadline: Option<Instant>,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<Option<T>, Fault> {
        let Some(deadline) = deadline else { return self.run(answer).map(Some) };
        let answer = self.runtime.block_on(async { tokio::time::timeout(left(deadline), answer).await });
        match answer {
            Ok(answer) => answer.map(Some).map_err(|error| told(error, &self.shown(), self.client.socket())),
            Err(_) => Ok(None),
        }
    }
}

/// What a step of watching brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Everything may have changed.
    All,
    Changed(Name),
    Removed(Name),
    Node,
    TimeIsUp,
}

/// A watch, with all that it told so far.
#[derive(Debug)]
pub struct Watching<'n> {
    node: &'n Node,
    stream: Watch,
    known: Option<Snapshot>,
    /// What the next controller has told so far, while it reads the directory: it may not know all services yet.
    coming: Option<Option<Snapshot>>,
}

impl Watching<'_> {
    /// What is known now; none before the first step.
    pub fn known(&self) -> Option<&Snapshot> {
        self.known.as_ref()
    }

    /// Waits for the next change. A controller that is killed or replaced is followed by another, which is asked.
    pub fn step(&mut self, deadline: Option<Instant>) -> Result<Step, Fault> {
        loop {
            let event = match self.node.run_until(deadline, self.stream.next()) {
                Ok(None) => return Ok(Step::TimeIsUp),
                Ok(Some(Some(event))) => event,
                Ok(Some(None)) => {
                    let ended = Fault::Unreachable { node: self.node.shown(), detail: " any more: it ended".into() };
                    self.ask_again(ended)?;
                    continue;
                }
                Err(fault) if fault.is_unreachable() => {
                    self.ask_again(fault)?;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let Some(coming) = &mut self.coming else { return Ok(apply(&mut self.known, event)) };
            apply(coming, event);
            if coming.as_ref().is_some_and(|next| !next.node.reading) {
                self.known = self.coming.take().flatten();
                return Ok(Step::All);
            }
        }
    }

    /// Where the keeper lives there is another controller in a moment.
    fn ask_again(&mut self, ended: Fault) -> Result<(), Fault> {
        let leaves = self.known.as_ref().is_some_and(|known| known.node.shutting_down);
        let until = Instant::now() + REPLACED_WITHIN;
        while !leaves && self.node.keeper_lives() && Instant::now() < until {
            if let Ok(stream) = self.node.run(self.node.client.watch()) {
                self.stream = stream;
                self.coming = Some(None);
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(ended)
    }

    /// Steps until `enough` says so; none when the time is up. Looks at each state once.
    pub fn until<T>(
        &mut self,
        deadline: Option<Instant>,
        enough: impl FnMut(&Snapshot) -> Result<Option<T>, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.until_telling(deadline, enough, |_| String::new())
    }

    /// As [`Watching::until_telling`], where it lasts: what nothing checks is ready when it is executed, and may
    /// have ended a moment later.
    pub fn until_lasting<T>(
        &mut self,
        deadline: Option<Instant>,
        mut enough: impl FnMut(&Snapshot) -> Result<Option<T>, Fault>,
        missing: impl Fn(&Snapshot) -> String,
        whose: impl Fn(&Snapshot) -> Vec<Arc<ServiceView>>,
    ) -> Result<Option<T>, Fault> {
        let mut waited = Vec::new();
        loop {
            let Some(found) = self.until_telling(deadline, &mut enough, &missing)? else { return Ok(None) };
            let views = self.known.as_ref().map(&whose).unwrap_or_default();
            let rest = |view: &Arc<ServiceView>| ready::too_young(view, jiff::Timestamp::now(), &waited);
            let rest = views.iter().filter_map(rest).max();
            let until =
                rest.map(|rest| Instant::now() + rest).filter(|until| deadline.is_none_or(|last| *until < last));
            if until.is_none() {
                return Ok(Some(found));
            }
            if self.until(until, |known| Ok(enough(known)?.is_none().then_some(())))?.is_none() {
                waited.extend(views.iter().flat_map(|view| ready::starts(view)));
            }
        }
    }

    /// As [`Watching::until`]; meanwhile people are told what `missing` says is waited for.
    pub fn until_telling<T>(
        &mut self,
        deadline: Option<Instant>,
        mut enough: impl FnMut(&Snapshot) -> Result<Option<T>, Fault>,
        missing: impl Fn(&Snapshot) -> String,
    ) -> Result<Option<T>, Fault> {
        let mut progress = Progress::begin();
        loop {
            if let Some(known) = &self.known {
                if let Some(found) = enough(known)? {
                    return Ok(Some(found));
                }
                progress.tell(&missing(known));
            }
            // The first frame is waited for even with no time left: `--timeout 0` looks once.
            let deadline = deadline.filter(|_| self.known.is_some());
            let is_over = |now: Instant| deadline.is_some_and(|deadline| now >= deadline);
            // Where nothing changes, too, there is a word to say after the first moment.
            let look = progress.next_look().filter(|look| self.known.is_some() && *look > Instant::now());
            let until = deadline.into_iter().chain(look).min();
            if self.step(until)? == Step::TimeIsUp && is_over(Instant::now()) {
                return Ok(None);
            }
        }
    }
}

/// One frame, taken up.
pub fn apply(known: &mut Option<Snapshot>, event: WatchEvent) -> Step {
    match (event, known) {
        (WatchEvent::Snapshot(snapshot), known) => {
            *known = Some(snapshot);
            Step::All
        }
        (WatchEvent::Changed(view), Some(known)) => {
            let name = view.service.clone();
            known.services.insert(name.clone(), (*view).into());
            Step::Changed(name)
        }
        (WatchEvent::Removed(name), Some(known)) => {
            known.services.remove(&name);
            Step::Removed(name)
        }
        (WatchEvent::Node(node), Some(known)) => {
            known.node = node;
            Step::Node
        }
        // A delta before the first snapshot says nothing; the snapshot that follows has it.
        (WatchEvent::Changed(_) | WatchEvent::Removed(_) | WatchEvent::Node(_), None) => Step::All,
    }
}

/// Events as they happen.
#[derive(Debug)]
pub struct Happening<'n> {
    node: &'n Node,
    stream: Events,
}

impl Happening<'_> {
    /// The next frame; none when the controller ended.
    pub fn frame(&mut self) -> Result<Option<EventsEvent>, Fault> {
        self.node.run(self.stream.next())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| Fault::Path {
        what: "wait for",
        path: PathBuf::from("the controller"),
        source,
    })
}

/// One of the node's places, where the controller tells it, or told it last.
pub fn place(which: &str, told: Option<&Value>, global: &Global) -> Option<PathBuf> {
    let of = |value: &Value| value.pointer(&format!("/places/{which}")).and_then(Value::as_str).map(PathBuf::from);
    let said = || {
        let dir = directory(global).ok()?;
        let value = last::value(&dir.join("_controller.status"))?;
        // In a copy of a directory it is that of the original.
        let written_for = value.get("directory").and_then(Value::as_str).and_then(|of| identity(Path::new(of)));
        of(&value).filter(|_| written_for.is_none() || written_for == identity(&dir))
    };
    told.and_then(of).or_else(|| said().filter(|dir| dir.is_dir()))
}

/// The memory of the node: what its controller says, else where it would be.
pub fn memory(told: Option<&Value>, global: &Global) -> Option<PathBuf> {
    let usual = || {
        let who = Who::now();
        who.state_candidates(&places::key(&directory(global).ok()?)).into_iter().find(|dir| dir.is_dir())
    };
    let dir = place("state", told, global).or_else(|| global.state_dir.clone()).or_else(usual)?;
    Some(dir.join(places::DATABASE)).filter(|path| path.is_file())
}

/// Where a directory is needed and no controller tells it: the flag, else the default place.
pub fn directory(global: &Global) -> Result<PathBuf, Fault> {
    global.dir.clone().or_else(places::default_dir).ok_or_else(|| {
        Fault::usage(
            "there is no ./services.d and no /etc/plugd/services.d",
            "make one with `plugd init`, or name one with --dir",
        )
    })
}

fn not_found(error: FindError) -> Fault {
    match error {
        FindError::NoneFor { dir, .. } if !dir.exists() => Fault::NoDirectory(dir.display().to_string()),
        FindError::NoneFor { dir, .. } => Fault::Unreachable { node: dir.display().to_string(), detail: String::new() },
        FindError::None => Fault::none_runs(),
        FindError::Several { sockets } => Fault::Several(sockets.iter().map(|socket| watched(socket)).collect()),
        FindError::Stranger { .. } => {
            Fault::no(error.to_string(), "plugd speaks only to root, this user and the directory's owner")
        }
        FindError::OfAnother { dir, socket, of } => {
            let [dir, socket, of] = [dir, socket, of].map(|path| path.display().to_string());
            Fault::OfAnother { dir, socket, of }
        }
        FindError::Silent { dir, socket } => silent(&dir.display().to_string(), &socket, ANSWER_WAIT),
        FindError::Denied { socket } => Fault::Permission { what: "open", path: socket },
    }
}

/// The directory that the controller behind a socket watches, for that is what `--dir` takes; the
/// socket where it does not say.
fn watched(socket: &Path) -> String {
    let ask = || {
        let runtime = runtime().ok()?;
        let client = runtime.block_on(Client::connect(socket)).ok()?;
        let node: Value = runtime.block_on(client.get("/v1/node")).ok()?;
        node.get("directory").and_then(Value::as_str).map(ToString::to_string)
    };
    ask().unwrap_or_else(|| socket.display().to_string())
}

/// The client's error as a person is told it.
fn told(error: ClientError, node: &str, socket: &Path) -> Fault {
    match error {
        // Without a directory there is only the socket's path, which nobody can run.
        ClientError::NotReachable { .. } if node.ends_with(places::SOCKET) => Fault::none_runs(),
        ClientError::NotReachable { .. } => Fault::Unreachable { node: node.into(), detail: String::new() },
        ClientError::Forbidden { socket, .. } => Fault::Permission { what: "open", path: socket },
        ClientError::Untrusted { .. } => Fault::no(error.to_string(), "plugd does not speak to it"),
        ClientError::Refused(problem) => refused(problem),
        ClientError::Late { .. } => silent(node, socket, ANSWER_WAIT),
        ClientError::Broken(_) | ClientError::Dropped(_) => {
            Fault::Unreachable { node: node.into(), detail: format!(" any more: {error}") }
        }
        ClientError::NotUnderstood { source, .. } => {
            Fault::no(format!("the controller's answer is not understood: {source}"), "are both of one version?")
        }
    }
}

/// Of a controller that is there and says nothing, and what helps.
fn silent(node: &str, socket: &Path, within: Duration) -> Fault {
    let peer = places::connect(socket).and_then(|stream| Ok(rustix::net::sockopt::socket_peercred(&stream)?));
    let next = match peer.ok().and_then(|peer| Stat::of(peer.pid.as_raw_nonzero().get())) {
        Some(stat) if stat.is_stopped() => format!("it is stopped: `kill -CONT {}` lets it go on", stat.pid),
        Some(stat) => format!(
            "if that lasts, `kill -KILL {}` ends it: another takes its place, and the services run on",
            stat.pid
        ),
        None => "end it where it runs: another takes its place, and the services run on".into(),
    };
    Fault::Silent { node: node.into(), within, next }
}

fn refused(problem: crate::api::wire::Problem) -> Fault {
    match problem.status {
        404 => Fault::Missing { what: problem.message, next: problem.next },
        403 => Fault::Permission { what: "ask", path: Path::new("the controller").into() },
        409 => Fault::Conflict { what: problem.message, next: problem.next },
        _ => Fault::No { what: problem.message, next: problem.next },
    }
}
