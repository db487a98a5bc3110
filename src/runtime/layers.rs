//! The settings in force: flags over environment over `_plugd.yaml` over what fits the place.

use std::path::Path;
use std::time::Duration;

use super::boot::Task;
use super::voice;
use crate::edge::process::environment::read_small;
use crate::model::manifest::Text;
use crate::model::settings::{self, Settings};

/// Docker kills after 10 s: 8 leave room for the last words.
pub(super) const SHUTDOWN_PID1: Duration = Duration::from_secs(8);
/// A pod has 30 s.
const SHUTDOWN_POD: Duration = Duration::from_secs(25);
/// As every manifest.
const SETTINGS_MAX: u64 = 64 * 1024;
const EXIT_ON_REQUIRED: Duration = Duration::from_secs(300);

/// The settings in force: flags over environment over `_plugd.yaml` over what fits the place.
pub(super) fn settings_of(task: &Task, dir: &Path, pid1: bool) -> Settings {
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
