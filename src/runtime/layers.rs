//! The settings in force: flags over environment over `_plugd.yaml` over what fits the place.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::boot::{Refusal, Task, UNUSABLE, refusal};
use super::memory;
use crate::edge::directory;
use crate::edge::places::{self, Who};
use crate::keeper::{Event, Link};
use crate::model::manifest::Text;
use crate::model::settings::{self, Settings};

/// Docker kills after 10 s: 8 leave room for the last words.
pub(super) const SHUTDOWN_PID1: Duration = Duration::from_secs(8);
/// A pod has 30 s.
const SHUTDOWN_POD: Duration = Duration::from_secs(25);
/// As every manifest, and one byte that tells a larger one.
const TEXT_MAX: usize = 64 * 1024 + 1;
const EXIT_ON_REQUIRED: Duration = Duration::from_secs(300);

/// Under which the keeper holds the text of the settings in force, for the next controller.
const HELD: &[u8] = b"settings";
/// And of those with which the node began.
const BEGAN: &[u8] = b"began";
/// And the text of the one file that runs.
const FILE: &[u8] = b"file";
/// And the directory that was accepted last.
const DIRECTORY: &[u8] = b"directory";
/// And nothing: there is a memory of its time.
const REMEMBERED: &[u8] = b"remembered";

/// The settings in force at a start, and what is to be said of them.
pub(super) struct Begun {
    pub settings: Settings,
    /// The text of the file that they come from.
    pub text: Option<Vec<u8>>,
    pub warning: Option<String>,
}

/// The settings in force: flags over environment over `_plugd.yaml` over what fits the place. Of a file
/// that is refused the last good version stays: the one `held` by the keeper for the next controller,
/// else the one of an earlier run. Where none is known a node does not begin, for nobody can tell what
/// the file was to hold back; a `successor` goes on as its predecessor did, without a file.
pub(super) fn settings_of(
    task: &Task,
    dir: &Path,
    pid1: bool,
    held: Option<Vec<u8>>,
    successor: bool,
) -> Result<Begun, Refusal> {
    let below = (task.layer)(base(pid1));
    let found = directory::settings_text(dir, &below);
    let why = match found.clone().and_then(|text| Ok((layered(task, pid1, text.as_deref())?, text))) {
        Ok((settings, text)) => return Ok(Begun { settings, text, warning: None }),
        Err(why) => why,
    };
    // A place that only the file told is not known any more.
    let lost = below.state_dir.is_none() && found.ok().flatten().is_none_or(|text| names_a_place(&text));
    let of_a_run = || directory::settings_before(&places::known_database(dir, &below, &Who::now())?);
    let text = held.or_else(|| if lost { None } else { of_a_run() });
    match layered(task, pid1, text.as_deref()) {
        Ok(settings) if successor || text.is_some() => {
            Ok(Begun { settings, text, warning: Some(format!("{why}; the last good version stays")) })
        }
        Ok(_) | Err(_) => {
            let path = dir.join("_plugd.yaml");
            let so = "no good version of it is known; mend it, or remove it to begin with the defaults";
            Err(refusal(UNUSABLE, format!("{} cannot be used: {why}\n  {so}", path.display())))
        }
    }
}

/// Whether the file may say where its own last good version lies.
fn names_a_place(text: &[u8]) -> bool {
    let key = b"stateDir";
    text.windows(key.len()).any(|part| part == key)
}

/// Leaves the text of the settings in force with the keeper.
pub(super) fn hold(keeper: &mut Link, text: Option<&[u8]>) {
    match text.map(memory::hold) {
        Some(Ok(memory)) => keeper.deposit(HELD, Arc::new(memory)),
        Some(Err(error)) => tracing::warn!("the next controller will not know the settings in force: {error}"),
        None => keeper.withdraw(HELD),
    }
}

/// What an edit changes only once the node is started anew: as it began, however many controllers ago.
pub(super) fn of_the_node(
    keeper: &mut Link,
    told: &mut Vec<Event>,
    task: &Task,
    pid1: bool,
    Begun { settings, text, .. }: &Begun,
) -> Settings {
    let began = deposited_text(told, BEGAN);
    if began.is_none() {
        // An empty file says as much as none.
        match memory::hold(text.as_deref().unwrap_or_default()) {
            Ok(memory) => keeper.deposit(BEGAN, Arc::new(memory)),
            Err(error) => tracing::warn!("the next controller will not know with what the node began: {error}"),
        }
    }
    let began = began.and_then(|text| layered(task, pid1, Some(&text)).ok()).unwrap_or_else(|| settings.clone());
    Settings {
        tee: began.tee,
        logs_total: began.logs_total,
        state_dir: began.state_dir,
        log_dir: began.log_dir,
        run_dir: began.run_dir,
        ..settings.clone()
    }
}

/// Leaves the text of the one file that runs with the keeper: the next controller may not find it any more.
pub(super) fn hold_file(keeper: &mut Link, text: &[u8]) {
    match memory::hold(text) {
        Ok(memory) => keeper.deposit(FILE, Arc::new(memory)),
        Err(error) => tracing::warn!("the next controller will not know what the file held: {error}"),
    }
}

/// Leaves the directory that was accepted with the keeper: something else may be at its path when the next
/// controller looks.
pub(super) fn hold_directory(keeper: &mut Link, directory: Option<OwnedFd>) {
    match directory {
        Some(directory) => keeper.deposit(DIRECTORY, Arc::new(directory)),
        None => keeper.withdraw(DIRECTORY),
    }
}

/// From now on the memory is of this keeper's time, and one that is not there was taken away. A controller that is killed
/// before leaves what an earlier run remembered, or nothing.
pub(super) fn note_remembered(keeper: &mut Link) {
    match memory::hold(&[]) {
        Ok(nothing) => keeper.deposit(REMEMBERED, Arc::new(nothing)),
        Err(error) => tracing::warn!("the next controller will not know that there is a memory: {error}"),
    }
}

/// Whether a controller before this one has written to the memory.
pub(super) fn has_remembered(told: &mut Vec<Event>) -> bool {
    deposited(told, REMEMBERED).is_some()
}

/// The directory that a controller before this one had accepted last; it stays with the keeper.
pub(super) fn held_directory(told: &mut Vec<Event>) -> Option<OwnedFd> {
    deposited(told, DIRECTORY)
}

fn deposited(told: &mut Vec<Event>, wanted: &[u8]) -> Option<OwnedFd> {
    let place = told.iter().position(|event| matches!(event, Event::Deposited { key, .. } if **key == *wanted))?;
    let Event::Deposited { fd, .. } = told.remove(place) else { return None };
    Some(fd)
}

/// The text of the settings that a controller before this one left with the keeper; it stays there.
pub(super) fn held(told: &mut Vec<Event>) -> Option<Vec<u8>> {
    deposited_text(told, HELD)
}

/// The text of the one file that a controller before this one began to run.
pub(super) fn held_file(told: &mut Vec<Event>) -> Option<Vec<u8>> {
    deposited_text(told, FILE)
}

fn deposited_text(told: &mut Vec<Event>, key: &[u8]) -> Option<Vec<u8>> {
    memory::held(deposited(told, key)?, TEXT_MAX)
}

pub(super) fn layered(task: &Task, pid1: bool, text: Option<&[u8]>) -> Result<Settings, String> {
    let below = base(pid1);
    let Some(text) = text else { return Ok((task.layer)(below)) };
    match settings::read(Text { file: "_plugd.yaml", text }) {
        Ok(partial) => Ok((task.layer)(partial.settle(below))),
        Err(diagnostics) => Err(diagnostics.iter().map(|one| one.one_line()).collect::<Vec<_>>().join("; ")),
    }
}

pub(super) fn base(pid1: bool) -> Settings {
    let pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    Settings {
        shutdown_timeout: pid1.then_some(if pod { SHUTDOWN_POD } else { SHUTDOWN_PID1 }),
        exit_on_required: pid1.then_some(EXIT_ON_REQUIRED),
        ..Settings::default()
    }
}
