//! The front of `plugd run`: takes the locks and becomes the keeper.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::boot::{Refusal, Task, UNUSABLE, What, chain, refusal};
use super::layers::{SHUTDOWN_PID1, settings_of};
use super::{single, strays, voice};
use crate::edge::places::{Lock, LockError, Places, Who};
use crate::edge::{directory, instances_that_fit};
use crate::keeper::{self, Start};
use crate::model::settings::Settings;

/// Another controller owns the directory (EX_CANTCREAT of sysexits.h).
const OWNED: u8 = 73;
/// How long a process may take to be gone that was killed with its keeper.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// A controller that answers no ping for this long of the keeper's own time is hung.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Takes the lock and becomes the keeper, whose child is the controller. Returns only if it cannot.
pub fn become_keeper(task: &Task, args: Vec<OsString>) -> Refusal {
    match surroundings().and_then(|()| descriptors(task)).and_then(|()| lock(task)) {
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

/// What a process manager cannot do without: signals go to whom /proc shows, and nothing would be stopped.
fn surroundings() -> Result<(), Refusal> {
    let own = std::process::id();
    let shown = std::fs::read_link("/proc/self").map_err(|error| {
        refusal(UNUSABLE, format!("/proc/self cannot be read ({error}); run `mount -t proc proc /proc` first"))
    })?;
    if shown != Path::new(&own.to_string()) {
        let text = format!(
            "/proc is of another pid namespace: it calls this process {}, and it is {own}; mount it anew (`mount -t proc proc /proc`, or unshare's --mount-proc)",
            shown.display()
        );
        return Err(refusal(UNUSABLE, text));
    }
    let null = std::fs::metadata("/dev/null");
    null.map_err(|error| refusal(UNUSABLE, format!("/dev/null, which each service has as its input: {error}")))?;
    Ok(())
}

/// Of more instances than this nobody is told that they fit.
const FIT_TOLD: u64 = 100;

/// A limit under which nothing would ever start is said at once, and one under which little does.
fn descriptors(task: &Task) -> Result<(), Refusal> {
    let Some(hard) = getrlimit(Resource::Nofile).maximum else { return Ok(()) };
    let how = "raise the hard limit: `ulimit -n`, LimitNOFILE= (systemd), --ulimit nofile= (Docker)";
    match (instances_that_fit(hard), &task.what) {
        (0, _) => {
            let text = format!("no service could be started under a limit of {hard} open files; {how}");
            Err(refusal(UNUSABLE, text))
        }
        (fit, What::Directory(_)) if fit < FIT_TOLD => {
            let s = if fit == 1 { "" } else { "s" };
            voice::say(&format!("a limit of {hard} open files has room for {fit} instance{s}; for more, {how}"));
            Ok(())
        }
        (_, What::Directory(_) | What::File(_) | What::Command(_)) => Ok(()),
    }
}

fn lock(task: &Task) -> Result<Option<Lock>, Refusal> {
    let (settings, dir) = match &task.what {
        What::Directory(dir) => {
            usable(dir)?;
            trusted(task, dir)?;
            // The controller says what there is to say of them.
            (settings_of(task, dir, false, None, false)?.settings, Some(dir.clone()))
        }
        What::File(file) => {
            // What is no file is not there any more once the keeper has begun: `<(…)` of a shell.
            single::text_of(file)?;
            ((task.layer)(Settings::default()), None)
        }
        What::Command(_) => ((task.layer)(Settings::default()), None),
    };
    let taken = match &dir {
        Some(dir) => {
            let places = Places::choose(dir, &settings, &Who::now());
            let until = std::time::Instant::now() + LAST_BREATH;
            let mut taken = Lock::take(dir, places.run.as_deref());
            // Held by nobody who lives: a child that a killed keeper was about to start has it until its exec.
            while held_by_the_dead(&taken) && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
                taken = Lock::take(dir, places.run.as_deref());
            }
            if taken.is_ok() {
                // It can say whose they are.
                not_run_already(dir, &places)?;
                own_places(dir, &places)?;
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
        Err(LockError::Held { dir, holder: Some(holder) }) if !holder.is_plugd() => {
            let pid = holder.pid;
            let error = LockError::Held { dir, holder: Some(holder) };
            Err(refusal(OWNED, format!("{error}; plugd needs that lock: end it (kill {pid}) or let it unlock")))
        }
        Err(error @ LockError::Held { .. }) => {
            Err(refusal(OWNED, format!("{error}; `plugd get` talks to it, `plugd run` needs a directory of its own")))
        }
        Err(error @ LockError::Io { .. }) => Err(refusal(UNUSABLE, chain(&error))),
    }
}

fn held_by_the_dead(taken: &Result<Lock, LockError>) -> bool {
    match taken {
        Err(LockError::Held { holder, .. }) => {
            holder.as_ref().is_none_or(|holder| strays::identity(holder.pid).is_none())
        }
        Ok(_) | Err(LockError::Io { .. }) => false,
    }
}

/// Socket, table of lives, memory and logs belong to one node: two directories must not share them. (Whose the state
/// directory is its table tells, too, but not while a controller of it dies and the next one begins.)
fn own_places(dir: &Path, places: &Places) -> Result<(), Refusal> {
    let mut locked = vec![directory::identity(dir)];
    for (place, what, flag) in [
        (&places.run, "run directory", "--state-dir"),
        (&places.state, "state directory", "--state-dir"),
        (&places.logs, "log directory", "--log-dir"),
    ] {
        let Some(place) = place else { continue };
        let identity = directory::identity(place);
        // One place for all of it has one lock.
        if !locked.contains(&identity) {
            own(place, what, flag)?;
            locked.push(identity);
        }
    }
    Ok(())
}

fn own(place: &Path, what: &str, flag: &str) -> Result<(), Refusal> {
    let until = std::time::Instant::now() + LAST_BREATH;
    let mut taken = Lock::take(place, None);
    // A controller that made the run directory again holds its lock, and outlives a killed keeper by
    // the moment that the kernel needs to end it. The directory's own lock is ours already.
    while matches!(taken, Err(LockError::Held { .. })) && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        taken = Lock::take(place, None);
    }
    match taken {
        // Held until this process, which becomes the keeper, ends or executes itself anew: then the controller takes it
        // (rundir.rs).
        Ok(lock) => {
            std::mem::forget(lock);
            Ok(())
        }
        Err(LockError::Held { holder, .. }) => {
            let who = holder.map(|holder| format!(" (pid {})", holder.pid)).unwrap_or_default();
            let place = place.display();
            Err(refusal(
                OWNED,
                format!("{place} is the {what} of another plugd{who}; give this one a {flag} of its own"),
            ))
        }
        // Where it cannot be locked, the lock of the directory has to do.
        Err(LockError::Io { .. }) => Ok(()),
    }
}

/// Both directories may be other ones than those that a running node has locked, and the state directory
/// may be another node's.
fn not_run_already(dir: &Path, places: &Places) -> Result<(), Refusal> {
    // A killed one lets its locks go a moment before it is gone.
    let until = std::time::Instant::now() + LAST_BREATH;
    while strays::living_keeper(places).is_some() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let Some(strays::Living { pid, dir: theirs, place }) = strays::living_keeper(places) else { return Ok(()) };
    let ours = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let shown = dir.display();
    Err(refusal(
        OWNED,
        match theirs.filter(|theirs| Path::new(theirs) != ours) {
            Some(theirs) => format!(
                "{} belongs to the node of {theirs} (pid {pid}); give the one of {shown} a --state-dir of its own",
                place.display()
            ),
            None => format!(
                "another plugd (pid {pid}) runs the services of {shown}, although the directory was replaced since it \
                 began; it takes up the new one by itself, or end it first: kill {pid}"
            ),
        },
    ))
}

/// Whoever may write to the directory decides what runs. What its own `_plugd.yaml` says of trust is of the
/// same hand, and does not count here.
fn trusted(task: &Task, dir: &Path) -> Result<(), Refusal> {
    match directory::admit(dir, &(task.layer)(Settings::default())) {
        Ok(None) => Ok(()),
        Ok(Some(warning)) => {
            voice::say(&format!("warning: {warning}"));
            Ok(())
        }
        Err(why) => Err(refusal(UNUSABLE, format!("{why}, or start plugd with --trust any"))),
    }
}

fn usable(dir: &Path) -> Result<(), Refusal> {
    let shown = dir.display();
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => Err(refusal(UNUSABLE, format!("{shown} is not a directory"))),
        Ok(_) => std::fs::read_dir(dir)
            .map(|_| ())
            .map_err(|error| refusal(UNUSABLE, format!("{shown} cannot be listed: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(refusal(UNUSABLE, not_there(dir))),
        Err(error) => Err(refusal(UNUSABLE, format!("{shown} cannot be used: {error}"))),
    }
}

/// What was probably meant by a path at which nothing lies.
fn not_there(path: &Path) -> String {
    let shown = path.display().to_string();
    if shown.contains(char::is_whitespace) {
        return format!("there is no directory {shown:?}; if it is a command, write `plugd run -- {shown}`");
    }
    let is_program = |dir: std::path::PathBuf| dir.join(path).is_file();
    let search = std::env::var_os("PATH").unwrap_or_default();
    if path.components().count() == 1 && std::env::split_paths(&search).any(is_program) {
        return format!("there is no directory {shown}; if it is a command, write `plugd run -- {shown}`");
    }
    // Of directories only those like services.d have an ending.
    if path.extension().is_some_and(|ending| ending != "d") {
        return single::no_file(path);
    }
    format!(
        "there is no directory {shown}; make it with `mkdir -p {shown}`, or `plugd init {shown}` for one with an example"
    )
}
