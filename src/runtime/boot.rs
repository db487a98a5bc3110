//! From a task to a running node: the controller that builds everything (`front` becomes the keeper).

use std::cell::Cell;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::helpers::Helpers;
use super::layers::{self, base, layered};
use super::listen::Listening;
use super::preparing::Preparing;
use super::publish::Publisher;
use super::rundir::{Door, RunDir};
use super::strays::{self, LivesTable};
use super::{INPUTS_MAX, Node, Notice, Signals, crash, single, voice};
use crate::api;
use crate::controller::{Config, Controller, Input};
use crate::edge::directory::{self, Directory};
use crate::edge::doors::Doors;
use crate::edge::files::{StatusCheck, StatusFiles};
use crate::edge::manager::Manager;
use crate::edge::named::{self, Named};
use crate::edge::noted;
use crate::edge::output::off_limits::OffLimits;
use crate::edge::output::{self, Pump};
use crate::edge::places::{self, Places, Who};
use crate::edge::probe::Sockets;
use crate::edge::process::cgroup::CgroupRoot;
use crate::edge::process::environment::inheritable;
use crate::edge::process::limits::Limits;
use crate::edge::process::prepare::Ground;
use crate::edge::process::stat::Stat;
use crate::edge::process::tree::{Scope, Trees};
use crate::edge::process::walk::Walker;
use crate::edge::stderr;
use crate::edge::store::{Loaded, News, Store};
use crate::keeper::{self, Event as KeeperEvent, Link, Welcome};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings::Settings;
use crate::model::text::ControllerInfo;
use crate::model::view::{Event, FileProblem};

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

/// So many starts may be on their way, however few processors there are: keeper and preparer always have the next
/// one, and another wish waits behind them for 5 ms at most.
const ASKED_MIN: u32 = 16;
/// The settings or the directory cannot be used (EX_CONFIG).
pub(super) const UNUSABLE: u8 = 78;
/// How long the last words may take at an end.
pub(super) const WORDS_MAX: Duration = Duration::from_secs(1);

pub(super) fn refusal(code: u8, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
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
    crash::ends_all();
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
        let first = Cell::new(true);
        match build(task, link, &first).await {
            Ok(mut node) => {
                node.keeper.ready();
                // To let go of all that it holds would only take time, in which its keeper waits for it.
                std::process::exit(node.run().await)
            }
            Err(refusal) => {
                // Said before the keeper hears of it, for with it we are gone.
                voice::say(&refusal.to_string());
                stderr::finish(WORDS_MAX);
                // A successor's services run: the keeper tries again, once a second at most.
                if first.get() {
                    give_up(spare, &refusal).await;
                }
                Ok(i32::from(refusal.code))
            }
        }
    })
}

/// A node that cannot begin ends with its keeper: starting it again would end the same way.
async fn give_up(link: OwnedFd, refusal: &Refusal) {
    if let Ok(mut keeper) = Link::connect(link) {
        keeper.leave(i32::from(refusal.code));
        let _ = keeper.flush().await;
    }
}

async fn build(mut task: Task, link: OwnedFd, begins: &Cell<bool>) -> Result<Node, Refusal> {
    let failed = |what: &str, error: std::io::Error| refusal(1, format!("{what}: {error}"));
    // `exe` is what it would be called by the link by which it is executed.
    let _unnamed = rustix::thread::set_name(c"plugd");
    let mut keeper = Link::connect(link).map_err(|error| failed("the keeper cannot be reached", error))?;
    let welcome = welcome(&mut keeper).await.map_err(|error| failed("the keeper says nothing", error))?;
    let pid1 = welcome.keeper_pid == 1;
    let first = welcome.controllers_started <= 1;
    begins.set(first);
    let mut told = list(&mut keeper).await.map_err(|error| failed("the keeper does not tell what it has", error))?;
    let held = layers::held(&mut told);
    let before = layers::held_directory(&mut told);
    let written = layers::held_file(&mut told);
    let has_remembered = layers::has_remembered(&mut told);
    if let (Some(_), What::Directory(path)) = (&written, &task.what) {
        // Once it is gone its name does not tell any more what it was.
        task.what = What::File(path.clone());
    }
    let mut covered = None;

    let single = !matches!(task.what, What::Directory(_));
    let (dir, settings, begun, text, places) = match &task.what {
        What::Directory(dir) => {
            covered = before.as_ref().and_then(|before| directory::covered(dir, before));
            let read = covered.as_deref().unwrap_or(dir);
            let found = layers::settings_of(&task, read, pid1, held, !first)?;
            let begun = layers::of_the_node(&mut keeper, &mut told, &task, pid1, &found);
            let layers::Begun { settings, text, warning } = found;
            layers::hold(&mut keeper, text.as_deref());
            if let Some(warning) = warning {
                voice::say(&warning);
            }
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            let places = Places::choose(&dir, &begun, &Who::now());
            (dir, settings, begun, text, places)
        }
        What::File(_) | What::Command(_) => {
            let settings = (task.layer)(base(pid1));
            let places = single::places(&settings);
            (places.status().unwrap_or_default(), settings.clone(), settings, None, places)
        }
    };
    for warning in &places.warnings {
        tracing::warn!("{warning}");
    }

    let found = CgroupRoot::find(&places.key)
        .inspect_err(|error| tracing::debug!(%error, "no cgroups: a stop reaches session and group"));
    let cgroups = found.as_ref().ok().cloned();
    let limits = Limits::new(found, places.key.clone(), welcome.keeper_pid);
    let keeper_name = strays::identity(welcome.keeper_pid)
        .ok_or_else(|| refusal(1, format!("/proc does not tell when the keeper (pid {}) began", welcome.keeper_pid)))?;
    // Also by a later controller: the first may have died before it was through.
    let begins_empty = first || strays::left_by_another(&places, &keeper_name);
    if begins_empty && let Some(run) = &places.run {
        noted::forget_all(run);
    }
    let strays = match begins_empty {
        true => strays::empty(&places, cgroups.as_ref(), &keeper_name),
        false => Vec::new(),
    };
    let table = LivesTable::open(&places, &dir, keeper_name);
    table.note_controller();

    let (sender, inputs) = mpsc::channel(INPUTS_MAX);
    let (pump_sender, pump_events) = mpsc::channel(INPUTS_MAX);
    let (request_sender, requests) = mpsc::channel(64);
    let (notices, noticed) = mpsc::unbounded_channel();

    let (memory, remembered) = (sender.clone(), notices.clone());
    let tell = move |news| {
        let input = match news {
            News::Trouble(why) => Input::Memory(why),
            News::BegunAnew(what) => Input::MemoryLost(what),
            News::Written => return drop(remembered.send(Notice::Remembered)),
        };
        // The loop is gone: nobody is left to be told.
        let _ = memory.blocking_send(input);
    };
    let store = match (places.database(), &task.what) {
        (Some(path), _) => Store::open_telling(&path, has_remembered, Box::new(tell)),
        (None, What::Directory(_)) => {
            places::known_database(&dir, &begun, &Who::now()).map_or_else(Store::none, |path| Store::read(&path))
        }
        (None, What::File(_) | What::Command(_)) => Store::none(),
    };
    let tee = begun.tee.then(|| tee(single, task.colour)).flatten();
    let named = Arc::new(if matches!(task.what, What::Directory(_)) { Named::unread() } else { Named::default() });
    let off_limits = OffLimits {
        services: matches!(task.what, What::Directory(_)).then(|| dir.clone()),
        own: places.state.iter().chain(&places.run).cloned().collect(),
        logs: places.logs.clone(),
        named: named.clone(),
    };
    let kept = output::Settings { dir: places.logs.clone(), total: begun.logs_total, tee, off_limits };
    let pump = Pump::start(kept, pump_sender).map_err(|error| refusal(1, chain(&error)))?;
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
        ..Default::default()
    };
    let files = status_files(&dir, covered.as_deref(), &places, single, sender.clone())
        .map_err(|error| failed("the status files cannot be written", error))?;
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
        asked_max: std::thread::available_parallelism()
            .map_or(ASKED_MIN, |cores| ASKED_MIN.max(2 * cores.get() as u32)),
        max_starting: settings.max_starting,
        shutdown_timeout: settings.shutdown_timeout,
        exit_on_required: settings.exit_on_required,
        require_user: settings.require_user,
        single,
        pid1,
        // One command has no manifest that could name a user.
        warn_root: uid == 0 && !directory::in_container() && !matches!(task.what, What::Command(_)),
        started: now,
        takes_over: has_remembered,
        seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), started.as_nanosecond()),
        log_dir: places.logs.clone(),
        kill_scope: Some(Scope::word(cgroups.as_ref())),
    });

    let sockets = Arc::new(Sockets::new());
    let doors = Doors::start(sender.clone(), sockets.clone())
        .map_err(|error| failed("the thread of the ports cannot start", error))?;
    let alarm = super::alarm::Alarm::new().map_err(|error| failed("the loop has no timer", error))?;
    let mut node = Node {
        controller,
        keeper,
        pump,
        trees: std::rc::Rc::new(Trees::new(walker)),
        sockets,
        cgroups: cgroups.clone(),
        limits,
        told: Default::default(),
        key: places.key.as_str().into(),
        table,
        preparing: Preparing::new(Ground {
            inherited: Arc::new(inheritable()),
            working_dir: info.working_dir.clone(),
            uid,
            cgroups,
            node: places.key.clone(),
        }),
        trials: Default::default(),
        directory: None,
        unlogged: (places.logs.is_none() && !single).then(|| unlogged(begun.tee)),
        begun,
        listening: None,
        store: store.clone(),
        samples: Default::default(),
        publisher,
        managed: super::managed::Managed::new(Manager::find(welcome.keeper_pid), welcome.keeper_pid),
        // Of one command or file the logs have a name each, and several may lie in one place.
        run: RunDir::of(
            places.run.clone(),
            [places.state.clone(), places.logs.clone()].into_iter().flatten().filter(|_| !single),
        ),
        helpers: Helpers::new(welcome.controllers_started),
        chatter: Default::default(),
        masks: Default::default(),
        lives: Default::default(),
        pending: Default::default(),
        specs: Default::default(),
        adoptees: Default::default(),
        deposits: Default::default(),
        held: super::doors::Held::new(doors),
        closing: Default::default(),
        awaited_ports: Default::default(),
        claimants: Default::default(),
        sweep_due: false,
        trim_at: None,
        news: Default::default(),
        queue: Default::default(),
        inputs,
        sender: sender.clone(),
        pump_events,
        requests,
        notices: notices.clone(),
        noticed,
        absence: super::absence::Absence::new(),
        alarm,
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
        node.publisher.recall(&node.store, started);
        node.say(Event {
            at: started,
            service: None,
            instance: None,
            reason: Reason::ControllerRestarted,
            warning: welcome.taken_back || welcome.last_end.is_some_and(|end| end != keeper::How::Code(0)),
            message: match welcome.taken_back {
                true => "the upgrade did not come up: the program from before it goes on".to_string(),
                false => format!("a new controller takes over (start {})", welcome.controllers_started),
            },
        });
    }
    node.remember();
    told.sort_by_key(|event| !matches!(event, KeeperEvent::Entry(entry) if super::helpers::is_helper(&entry.id)));
    told.into_iter().for_each(|event| node.on_keeper(event));
    if !first && node.table.fresh {
        node.fill_table();
    }
    if let Some(signal) = welcome.stop_heard {
        node.on_keeper(KeeperEvent::Signal(signal));
    }

    // One command or file has a socket only where it is told a place for it.
    if !single || places.run.is_some() || settings.listen.is_some() {
        serve(&mut node, &places, request_sender, info, shown_places, &dir);
        let unheard = node.listening.as_ref().and_then(|listening| listening.problem.as_ref());
        // Nobody could be told of it later.
        if let Some(problem) = unheard.filter(|_| single && first) {
            return Err(refusal(UNUSABLE, problem.message.clone()));
        }
    }
    node.tell_own_problems(&settings);
    match &task.what {
        What::Directory(_) => {
            let (run, keeper) = (places.run.clone(), welcome.keeper_pid);
            let world = Watched { settings, text, store, before, named, check, run, keeper };
            let directory = watch(task, &dir, world, notices, sender, pid1)
                .map_err(|error| refusal(UNUSABLE, format!("{} cannot be watched: {error}", dir.display())))?;
            node.directory = Some(directory);
        }
        What::File(file) => {
            // By what was read at first: it may be gone.
            let text = written.map_or_else(|| single::text_of(file), Ok)?;
            let mut declaration = single::of_file(file, &text, task.name, &settings)?;
            named.put(&declaration.source.file, named::of_declaration(&declaration));
            // What runs already is adopted, whatever became of its file.
            if first {
                declaration = single::startable(declaration)?;
            }
            layers::hold_file(&mut node.keeper, &text);
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

async fn welcome(keeper: &mut Link) -> std::io::Result<Welcome> {
    loop {
        match keeper.next().await? {
            KeeperEvent::Welcome(welcome) => return Ok(welcome),
            KeeperEvent::Closed => return Err(std::io::ErrorKind::BrokenPipe.into()),
            other => tracing::debug!(?other, "before the welcome"),
        }
    }
}

/// All that the keeper has.
async fn list(keeper: &mut Link) -> std::io::Result<Vec<KeeperEvent>> {
    keeper.list();
    let mut told = Vec::new();
    loop {
        match keeper.next().await? {
            KeeperEvent::Listed => return Ok(told),
            KeeperEvent::Closed => return Err(std::io::ErrorKind::BrokenPipe.into()),
            event => told.push(event),
        }
    }
}

impl Node {
    /// What is remembered; with what the keeper has a new controller has no other recovery.
    fn remember(&mut self) {
        let Loaded { memories, counted, owners: _, claims: _ } = self.store.load();
        for (name, memory) in memories {
            if let Some(restarts) = counted.get(name.as_str()) {
                self.samples.known(name.clone(), *restarts);
            }
            self.queue.push_back(Input::Remembered(name, Box::new(memory)));
        }
    }

    /// A keeper that was stopped tells of no end and starts nothing, and the statuses would go on as they were. Only
    /// somebody who may kill it can have done that: ^Z is not heard.
    pub(super) fn continue_keeper(&mut self, keeper: i32) {
        let Some(pid) = rustix::process::Pid::from_raw(keeper).filter(|pid| rustix::process::getppid() == Some(*pid))
        else {
            return;
        };
        let done = match rustix::process::kill_process(pid, rustix::process::Signal::CONT) {
            Ok(()) => "it was told to go on".to_string(),
            Err(error) => format!("it cannot be told to go on ({error}); run `kill -CONT {keeper}`"),
        };
        self.say(Event {
            at: jiff::Timestamp::now(),
            service: None,
            instance: None,
            reason: Reason::KeeperStopped,
            warning: true,
            message: format!(
                "the keeper (pid {keeper}) was stopped by a signal, and nothing was reaped or started; {done}"
            ),
        });
    }

    fn say(&mut self, event: Event) {
        super::helpers::log_event(&event);
        self.publisher.record(&event);
        self.store.record(event);
    }
}

fn status_files(
    dir: &Path,
    covered: Option<&Path>,
    places: &Places,
    single: bool,
    sender: mpsc::Sender<Input>,
) -> std::io::Result<Option<StatusFiles>> {
    if single && places.state.is_none() {
        return Ok(None);
    }
    if single {
        let _ = std::fs::create_dir_all(dir);
    }
    let trouble = move |name: Option<&Name>, why: Option<String>| match (name, why) {
        (Some(name), message) => {
            if let Some(why) = &message {
                tracing::warn!(service = %name, reason = %Reason::StatusNotWritten, "{why}");
            }
            let _ =
                sender.blocking_send(Input::Problem { name: name.clone(), reason: Reason::StatusNotWritten, message });
        }
        (None, Some(why)) => tracing::warn!("{why}"),
        (None, None) => tracing::info!("_controller.status can be written again"),
    };
    StatusFiles::start(dir, covered, places.status(), Box::new(trouble)).map(Some)
}

fn serve(
    node: &mut Node,
    places: &Places,
    requests: mpsc::Sender<api::context::Request>,
    info: ControllerInfo,
    shown: crate::model::text::Places,
    dir: &Path,
) {
    let context = api::context::Context {
        board: node.publisher.board.clone(),
        changed: node.publisher.changed.subscribe(),
        requests,
        events: node.publisher.events.clone(),
        history: node.publisher.history.clone(),
        store: node.store.clone(),
        places: shown,
        dir: dir.to_path_buf(),
        info,
    };
    node.listening = Some(Listening::new(context.clone(), places));
    node.serve_at(node.begun.listen);
    let Some(path) = places.socket() else {
        tracing::warn!("no run directory can be written: the command line cannot reach this controller");
        return;
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
    /// What they come from.
    text: Option<Vec<u8>>,
    store: Store,
    before: Option<OwnedFd>,
    named: Arc<Named>,
    check: Option<StatusCheck>,
    run: Option<PathBuf>,
    keeper: i32,
}

fn watch(
    task: Task,
    dir: &Path,
    Watched { settings, text, store, before, named, check, run, keeper }: Watched,
    notices: mpsc::UnboundedSender<Notice>,
    sender: mpsc::Sender<Input>,
    pid1: bool,
) -> std::io::Result<Directory> {
    let (accepted, ticks, memory) = (notices.clone(), notices.clone(), store.clone());
    let files: Vec<PathBuf> = run.iter().flat_map(|run| ["lives", places::SOCKET].map(|file| run.join(file))).collect();
    let config = directory::Config {
        dir: dir.to_path_buf(),
        settings,
        settings_text: text,
        store,
        run,
        on_settings: Some(Box::new(move |text| {
            let settings = layered(&task, pid1, text)?;
            let text = text.map(<[u8]>::to_vec);
            let _ = notices.send(Notice::Settings { settings: Box::new(settings), text });
            Ok(())
        })),
        before,
        on_accepted: Some(Box::new(move |directory| {
            let _ = accepted.send(Notice::Accepted(directory));
        })),
        named,
        on_status: check.map(|check| directory::OnStatus::new(move |stem| check.look(stem))),
        on_tick: Some(Box::new(move || {
            memory.look_for_its_file();
            if Stat::of(keeper).is_some_and(|stat| stat.is_stopped()) {
                let _ = ticks.send(Notice::KeeperStopped(keeper));
            }
            if files.iter().any(|file| file.symlink_metadata().is_err()) {
                let _ = ticks.send(Notice::RunLost);
            }
        })),
    };
    Directory::start(config, sender)
}

/// No place for log files can be written.
fn unlogged(tee: bool) -> FileProblem {
    let goes = if tee { "is on plugd's stdout alone" } else { "is kept nowhere (--no-tee)" };
    FileProblem {
        file: "logs".into(),
        reason: Reason::LogNotWritten,
        message: format!(
            "no place for log files can be written: what services print {goes}; give `plugd run` a --log-dir"
        ),
    }
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
