//! From a command line to a running node: the front that becomes the keeper, and the controller
//! that builds everything.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::helpers::Helpers;
use super::publish::Publisher;
use super::rundir::{Door, RunDir};
use super::strays::{self, LivesTable};
use super::{INPUTS_MAX, Node, Notice, Signals, single, voice};
use crate::api;
use crate::controller::{Config, Controller, Input};
use crate::edge::directory::{self, Directory};
use crate::edge::files::{StatusCheck, StatusFiles};
use crate::edge::output::{self, Pump};
use crate::edge::places::{self, Lock, LockError, Places, Who};
use crate::edge::probe::Sockets;
use crate::edge::process::cgroup::CgroupRoot;
use crate::edge::process::environment::{inheritable, read_small};
use crate::edge::process::prepare::Ground;
use crate::edge::process::tree::{Scope, Trees};
use crate::edge::process::walk::Walker;
use crate::edge::stderr;
use crate::edge::store::Store;
use crate::keeper::{self, Event as KeeperEvent, Keeper, Start, Welcome};
use crate::model::manifest::Text;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings::{self, Settings};
use crate::model::text::ControllerInfo;
use crate::model::view::Event;

/// What `plugd run` was asked for.
pub struct Task {
    pub what: What,
    /// Of the one service of `run FILE` and `run -- CMD`.
    pub name: Option<Name>,
    /// Puts flags and environment over the settings of `_plugd.yaml`.
    pub layer: Arc<dyn Fn(Settings) -> Settings + Send + Sync>,
    pub colour: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Directory(PathBuf),
    File(PathBuf),
    /// Never empty.
    Command(Vec<OsString>),
}

/// Why a node does not begin.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The exit code.
    pub code: u8,
    /// What happened and what to do.
    pub message: String,
}

/// Another controller owns the directory (EX_CANTCREAT of sysexits.h).
const OWNED: u8 = 73;
/// The settings or the directory cannot be used (EX_CONFIG).
const UNUSABLE: u8 = 78;
/// Docker kills after 10 s: 8 leave room for the last words.
const SHUTDOWN_PID1: Duration = Duration::from_secs(8);
/// A pod has 30 s.
const SHUTDOWN_POD: Duration = Duration::from_secs(25);
/// How long a process may take to be gone that was killed with its keeper.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// As every manifest.
const SETTINGS_MAX: u64 = 64 * 1024;
const EXIT_ON_REQUIRED: Duration = Duration::from_secs(300);
/// How long the last words may take at an end.
pub(super) const WORDS_MAX: Duration = Duration::from_secs(1);
/// A controller that answers no ping for this long of the keeper's own time is hung.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn refusal(code: u8, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

/// Takes the lock and becomes the keeper, whose child is the controller. Returns only if it cannot.
pub fn become_keeper(task: &Task, args: Vec<OsString>) -> Refusal {
    match lock(task) {
        Err(refusal) => refusal,
        Ok(lock) => {
            keeper::memory::trim();
            keeper::run(Start {
                controller: PathBuf::from("/proc/self/exe"),
                args,
                lock: lock.map(Lock::into_fd),
                shutdown_grace: SHUTDOWN_PID1,
                answer_limit: ANSWER_LIMIT,
            })
        }
    }
}

fn lock(task: &Task) -> Result<Option<Lock>, Refusal> {
    let (settings, dir) = match &task.what {
        What::Directory(dir) => {
            usable(dir)?;
            (settings_of(task, dir, false), Some(dir.clone()))
        }
        What::File(_) | What::Command(_) => ((task.layer)(Settings::default()), None),
    };
    let taken = match &dir {
        Some(dir) => {
            let places = Places::choose(dir, &settings, &Who::now());
            let taken = Lock::take(dir, places.run.as_deref());
            if taken.is_ok() {
                own_run(&places)?;
            }
            taken
        }
        None => {
            let Some(run) = single::places(&settings).run else { return Ok(None) };
            Lock::take(&run, Some(&run))
        }
    };
    match taken {
        Ok(lock) => {
            if let Some(warning) = &lock.warning {
                voice::say(&warning.to_string());
            }
            Ok(Some(lock))
        }
        Err(error @ LockError::Held { .. }) => {
            Err(refusal(OWNED, format!("{error}; `plugd get` talks to it, `plugd run` needs a directory of its own")))
        }
        Err(error @ LockError::Io { .. }) => Err(refusal(UNUSABLE, chain(&error))),
    }
}

/// Socket, table of lives, memory and logs belong to one node: two directories must not share them.
fn own_run(places: &Places) -> Result<(), Refusal> {
    let Some(run) = &places.run else { return Ok(()) };
    let until = std::time::Instant::now() + LAST_BREATH;
    let mut taken = Lock::take(run, None);
    // A controller that made the run directory again holds its lock, and outlives a killed keeper by
    // the moment that the kernel needs to end it. The directory's own lock is ours already.
    while matches!(taken, Err(LockError::Held { .. })) && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        taken = Lock::take(run, None);
    }
    match taken {
        // Held until this process, which becomes the keeper, ends.
        Ok(lock) => {
            std::mem::forget(lock);
            Ok(())
        }
        Err(LockError::Held { pid, .. }) => {
            let who = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            Err(refusal(
                OWNED,
                format!(
                    "{} is the run directory of another plugd{who}; give this one a --state-dir of its own",
                    run.display()
                ),
            ))
        }
        // Where it cannot be locked, the lock of the directory has to do.
        Err(LockError::Io { .. }) => Ok(()),
    }
}

fn usable(dir: &Path) -> Result<(), Refusal> {
    let shown = dir.display();
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => Err(refusal(UNUSABLE, format!("{shown} is not a directory"))),
        Ok(_) => std::fs::read_dir(dir)
            .map(|_| ())
            .map_err(|error| refusal(UNUSABLE, format!("{shown} cannot be listed: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(refusal(
            UNUSABLE,
            format!(
                "there is no directory {shown}; make it with `mkdir -p {shown}`, or `plugd init {shown}` for one with an example"
            ),
        )),
        Err(error) => Err(refusal(UNUSABLE, format!("{shown} cannot be used: {error}"))),
    }
}

/// The settings in force: flags over environment over `_plugd.yaml` over what fits the place.
fn settings_of(task: &Task, dir: &Path, pid1: bool) -> Settings {
    let path = dir.join("_plugd.yaml");
    let text = match read_small(&path, SETTINGS_MAX) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            eprintln!("plugd: {} is left out: {error}", path.display());
            None
        }
    };
    layered(task, pid1, text.as_deref()).unwrap_or_else(|why| {
        voice::say(&format!("{why}; the defaults are in force"));
        (task.layer)(base(pid1))
    })
}

fn layered(task: &Task, pid1: bool, text: Option<&[u8]>) -> Result<Settings, String> {
    let below = base(pid1);
    let Some(text) = text else { return Ok((task.layer)(below)) };
    match settings::read(Text { file: "_plugd.yaml", text }) {
        Ok(partial) => Ok((task.layer)(partial.settle(below))),
        Err(diagnostics) => Err(diagnostics.iter().map(|one| one.one_line()).collect::<Vec<_>>().join("; ")),
    }
}

fn base(pid1: bool) -> Settings {
    let pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    Settings {
        shutdown_timeout: pid1.then_some(if pod { SHUTDOWN_POD } else { SHUTDOWN_PID1 }),
        exit_on_required: pid1.then_some(EXIT_ON_REQUIRED),
        ..Settings::default()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// The controller's whole life; the keeper's socket is descriptor 3.
pub fn controller(task: Task) -> Result<i32, Refusal> {
    // SIGIO is how the kernel breaks a lease; its default would end us.
    keeper::ignore_sigio();
    keeper::memory::share_one_arena();
    voice::begin(match &task.what {
        What::Directory(_) | What::File(_) => "info",
        // `plugd run -- CMD` reads like CMD: only what is wrong is said beside it.
        What::Command(_) => "warn",
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| refusal(1, format!("no event loop can be made: {error}")))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let link = keeper::inherited_link()
            .map_err(|error| refusal(2, format!("`plugd controller` is started by `plugd run`: {error}")))?;
        let spare = link.try_clone().map_err(|error| refusal(1, format!("no descriptor is left: {error}")))?;
        match build(task, link).await {
            Ok(node) => Ok(node.run().await),
            Err(refusal) => {
                // Said before the keeper hears of it, for with it we are gone.
                voice::say(&refusal.to_string());
                stderr::finish(WORDS_MAX);
                give_up(spare, &refusal).await;
                Ok(i32::from(refusal.code))
            }
        }
    })
}

/// A node that cannot begin ends with its keeper: starting it again would end the same way.
async fn give_up(link: OwnedFd, refusal: &Refusal) {
    if let Ok(mut keeper) = Keeper::connect(link, None) {
        keeper.leave(i32::from(refusal.code));
        let _ = keeper.flush().await;
    }
}

async fn build(task: Task, link: OwnedFd) -> Result<Node, Refusal> {
    let failed = |what: &str, error: std::io::Error| refusal(1, format!("{what}: {error}"));
    let mut keeper = Keeper::connect(link, None).map_err(|error| failed("the keeper cannot be reached", error))?;
    let welcome = welcome(&mut keeper).await.map_err(|error| failed("the keeper says nothing", error))?;
    let pid1 = welcome.keeper_pid == 1;

    let single = !matches!(task.what, What::Directory(_));
    let (dir, settings, places) = match &task.what {
        What::Directory(dir) => {
            let settings = settings_of(&task, dir, pid1);
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            let places = Places::choose(&dir, &settings, &Who::now());
            (dir, settings, places)
        }
        What::File(_) | What::Command(_) => {
            let settings = (task.layer)(base(pid1));
            let places = single::places(&settings);
            (places.status().unwrap_or_default(), settings, places)
        }
    };
    for warning in &places.warnings {
        tracing::warn!("{warning}");
    }

    let cgroups = CgroupRoot::find(&places.key)
        .inspect_err(|error| tracing::debug!(%error, "no cgroups: a stop reaches session and group"))
        .ok();
    let first = welcome.controllers_started <= 1;
    let keeper_name = strays::identity(welcome.keeper_pid);
    // Also by a later controller: the first may have died before it was through.
    let strays = match first || strays::left_by_another(places.run.as_deref(), &keeper_name) {
        true => strays::empty(places.run.as_deref(), cgroups.as_ref(), &keeper_name, &places.key),
        false => Vec::new(),
    };
    let table = LivesTable::open(places.run.as_deref(), keeper_name);
    table.note("controller", std::process::id() as i32);

    let (sender, inputs) = mpsc::channel(INPUTS_MAX);
    let (pump_sender, pump_events) = mpsc::channel(INPUTS_MAX);
    let (request_sender, requests) = mpsc::channel(64);
    let (notices, noticed) = mpsc::unbounded_channel();

    let store = places.database().map_or_else(Store::none, |path| Store::open(&path));
    if let Some(trouble) = store.trouble() {
        tracing::warn!("{trouble}");
    }
    let tee = settings.tee.then(|| tee(single, task.colour)).flatten();
    let pump = Pump::start(output::Settings { dir: places.logs.clone(), total: settings.logs_total, tee }, pump_sender)
        .map_err(|error| refusal(1, chain(&error)))?;
    let walker = Walker::start(welcome.keeper_pid, sender.clone())
        .map_err(|error| failed("the process walker cannot start", error))?;

    let executable = executable();
    let started = jiff::Timestamp::now();
    let info = ControllerInfo {
        pid: std::process::id(),
        keeper_pid: welcome.keeper_pid as u32,
        version: env!("CARGO_PKG_VERSION").to_string(),
        since: started,
        working_dir: std::env::current_dir().unwrap_or_default(),
    };
    let shown_places = crate::model::text::Places {
        state: places.state.clone(),
        logs: places.logs.clone(),
        run: places.run.clone(),
        socket: places.socket(),
    };
    let files = status_files(&dir, &places, single, sender.clone());
    if let Some(files) = &files {
        let notices = notices.clone();
        files.on_lost(Box::new(move |name| {
            let _ = notices.send(Notice::StatusLost(name.cloned()));
        }));
    }
    let check = files.as_ref().map(StatusFiles::check);
    let publisher = Publisher::new(info.clone(), shown_places.clone(), dir.clone(), files, first && !single);
    let now = crate::model::time::Now { mono: super::monotonic(), wall: started };
    let uid = rustix::process::geteuid().as_raw();
    let controller = Controller::new(Config {
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        max_starting: settings.max_starting,
        shutdown_timeout: settings.shutdown_timeout,
        exit_on_required: settings.exit_on_required,
        require_user: settings.require_user,
        single,
        pid1,
        // One command has no manifest that could name a user.
        warn_root: uid == 0 && !directory::in_container() && !matches!(task.what, What::Command(_)),
        started: now,
        seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), started.as_nanosecond()),
        log_dir: places.logs.clone(),
        kill_scope: Some(Scope::word(cgroups.as_ref())),
    });

    let mut node = Node {
        controller,
        keeper,
        pump,
        trees: std::rc::Rc::new(Trees::new(walker)),
        sockets: Arc::new(Sockets::new()),
        cgroups,
        table,
        ground: Ground {
            inherited: Arc::new(inheritable()),
            working_dir: info.working_dir.clone(),
            uid,
            node: places.key.clone(),
        },
        directory: None,
        store: store.clone(),
        publisher,
        run: RunDir::of(places.run.clone()),
        helpers: Helpers::new(welcome.controllers_started),
        chatter: Default::default(),
        lives: Default::default(),
        pending: Default::default(),
        specs: Default::default(),
        adoptees: Default::default(),
        deposits: Default::default(),
        closing: Default::default(),
        awaited_ports: Default::default(),
        sweep_due: false,
        queue: Default::default(),
        inputs,
        sender: sender.clone(),
        pump_events,
        requests,
        notices: notices.clone(),
        noticed,
        absence: super::absence::Absence::new(),
        signals: Signals { stops: 0, last_stop: None, had_terminal: has_terminal() },
        leaving: None,
        executable,
    };
    if !strays.is_empty() {
        node.say(Event {
            at: started,
            service: None,
            instance: None,
            reason: Reason::KeeperLost,
            warning: true,
            message: format!(
                "an earlier keeper of this directory was killed; ended what it left: {}",
                strays.join(", ")
            ),
        });
    }
    if !first {
        node.say(Event {
            at: started,
            service: None,
            instance: None,
            reason: Reason::ControllerRestarted,
            warning: welcome.last_end.is_some_and(|end| end != keeper::How::Code(0)),
            message: format!("a new controller takes over (start {})", welcome.controllers_started),
        });
    }
    node.remember_and_list().await.map_err(|error| failed("the keeper does not tell what it has", error))?;
    if !first && node.table.fresh {
        node.fill_table();
    }
    if let Some(signal) = welcome.stop_heard {
        node.on_keeper(KeeperEvent::Signal(signal));
    }

    // One command or file has a socket only where it is told a place for it.
    if !single || places.run.is_some() {
        serve(&mut node, &places, request_sender, info, shown_places, &dir);
    }
    match &task.what {
        What::Directory(_) => {
            let world = Watched { settings, store, check, run: places.run.clone() };
            let directory = watch(task, &dir, world, notices, sender, pid1)
                .map_err(|error| refusal(UNUSABLE, format!("{} cannot be watched: {error}", dir.display())))?;
            node.directory = Some(directory);
        }
        What::File(file) => {
            let declaration = single::of_file(file, task.name, &settings)?;
            node.note(Input::Declared(declaration));
            node.note(Input::Scanned);
        }
        What::Command(command) => {
            let declaration = single::of_command(command, task.name)?;
            node.note(Input::Declared(declaration));
            node.note(Input::Scanned);
        }
    }
    Ok(node)
}

async fn welcome(keeper: &mut Keeper) -> std::io::Result<Welcome> {
    loop {
        match keeper.next().await? {
            KeeperEvent::Welcome(welcome) => return Ok(welcome),
            KeeperEvent::Closed => return Err(std::io::ErrorKind::BrokenPipe.into()),
            other => tracing::debug!(?other, "before the welcome"),
        }
    }
}

impl Node {
    /// What is remembered, then what the keeper has; a new controller has no other recovery.
    async fn remember_and_list(&mut self) -> std::io::Result<()> {
        for (name, memory) in self.store.load().memories {
            self.queue.push_back(Input::Remembered(name, memory));
        }
        self.keeper.list();
        loop {
            match self.keeper.next().await? {
                KeeperEvent::Listed => return Ok(()),
                KeeperEvent::Closed => return Err(std::io::ErrorKind::BrokenPipe.into()),
                event => self.on_keeper(event),
            }
        }
    }

    fn say(&mut self, event: Event) {
        super::helpers::log_event(&event);
        self.publisher.record(&event);
        self.store.record(event);
    }
}

fn status_files(dir: &Path, places: &Places, single: bool, sender: mpsc::Sender<Input>) -> Option<StatusFiles> {
    if single && places.state.is_none() {
        return None;
    }
    if single {
        let _ = std::fs::create_dir_all(dir);
    }
    let trouble = move |name: Option<&Name>, why: Option<String>| match (name, why) {
        (Some(name), message) => {
            let _ =
                sender.blocking_send(Input::Problem { name: name.clone(), reason: Reason::StatusNotWritten, message });
        }
        (None, Some(why)) => tracing::warn!("_controller.status cannot be written: {why}"),
        (None, None) => tracing::info!("_controller.status can be written again"),
    };
    let files = StatusFiles::start(dir, places.status(), Box::new(trouble))
        .inspect_err(|error| tracing::error!(%error, "status files cannot be written"))
        .ok()?;
    Some(files)
}

fn serve(
    node: &mut Node,
    places: &Places,
    requests: mpsc::Sender<api::context::Request>,
    info: ControllerInfo,
    shown: crate::model::text::Places,
    dir: &Path,
) {
    let Some(path) = places.socket() else {
        tracing::warn!("no run directory can be written: the command line cannot reach this controller");
        return;
    };
    let context = api::context::Context {
        snapshot: node.publisher.snapshot.clone(),
        changed: node.publisher.changed.subscribe(),
        requests,
        events: node.publisher.events.clone(),
        history: node.publisher.history.clone(),
        places: shown,
        dir: dir.to_path_buf(),
        info,
    };
    let mut door = Door::new(path, context);
    if let Err(error) = door.open() {
        tracing::error!(socket = %door.path.display(), %error, "the command line cannot reach this controller");
    }
    node.run.door = Some(door);
}

/// What the directory's thread is given beside the directory.
struct Watched {
    settings: Settings,
    store: Store,
    check: Option<StatusCheck>,
    run: Option<PathBuf>,
}

fn watch(
    task: Task,
    dir: &Path,
    Watched { settings, store, check, run }: Watched,
    notices: mpsc::UnboundedSender<Notice>,
    sender: mpsc::Sender<Input>,
    pid1: bool,
) -> std::io::Result<Directory> {
    let (accepted, ticks) = (notices.clone(), notices.clone());
    let config = directory::Config {
        dir: dir.to_path_buf(),
        settings,
        store,
        on_settings: Some(Box::new(move |text| {
            let settings = layered(&task, pid1, text.map(str::as_bytes))?;
            let _ = notices.send(Notice::Settings(Box::new(settings)));
            Ok(())
        })),
        on_accepted: Some(Box::new(move || {
            let _ = accepted.send(Notice::Accepted);
        })),
        on_status: check.map(|check| directory::OnStatus::new(move |stem| check.look(stem))),
        on_tick: run.map(|run| -> directory::OnTick {
            let files = [run.join(places::SOCKET), run.join("lives")];
            Box::new(move || {
                if files.iter().any(|file| file.symlink_metadata().is_err()) {
                    let _ = ticks.send(Notice::RunLost);
                }
            })
        }),
    };
    Directory::start(config, sender)
}

/// A copy of all output on plugd's own stdout.
fn tee(single: bool, colour: bool) -> Option<output::Tee> {
    let stdout = std::io::stdout();
    let to = stdout.as_fd().try_clone_to_owned().ok()?;
    Some(output::Tee { to, colour, prefix: !single, whole: single })
}

fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Where this program lies, for a successor; a replaced file is found under its old name.
fn executable() -> PathBuf {
    let path = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(before) => PathBuf::from(OsString::from(std::ffi::OsStr::from_bytes(before))),
        None => path,
    }
}

pub(super) fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}
