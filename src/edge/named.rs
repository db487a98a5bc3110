//! Files that manifests name, to be read or started: no log may be one of them.
//!
//! The directory's thread notes them before it tells what is declared; whoever opens a log asks. A file is known by
//! its path as it is written and, once it was read, by what it is: a link, a second name and a second way to it lead
//! to the same one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::output::layout;
use super::{Identity, identity};
use crate::controller::{Declaration, Resolved};
use crate::model::spec::{EnvValue, Program, Spec};

/// How long what may yet be named is waited for: a directory that is not read by then may never be.
const READING_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Named {
    /// By the file that names them.
    files: Mutex<BTreeMap<String, Vec<File>>>,
    version: AtomicU64,
    /// More may be named in a moment.
    reading: Mutex<bool>,
    read: Condvar,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    /// As far as it was read.
    pub identity: Option<Identity>,
}

impl Named {
    /// Of a directory that is still to be read.
    pub fn unread() -> Named {
        Named { reading: Mutex::new(true), ..Named::default() }
    }

    /// What `by` names now.
    pub fn put(&self, by: &str, files: Vec<File>) {
        let mut all = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(by) == Some(&files) {
            return;
        }
        all.insert(by.to_string(), files);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// It names this file, too.
    pub fn add(&self, by: &str, file: File) {
        let mut all = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = all.entry(by.to_string()).or_default();
        if !files.contains(&file) {
            files.push(file);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// `by` names nothing any more.
    pub fn remove(&self, by: &str) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(by);
    }

    /// All that is declared has been read once.
    pub fn was_read(&self) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.read.notify_all();
    }

    /// Until all has been read, or for as long as that may be worth; blocks.
    pub fn wait(&self) {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // What is read later than that is kept off then.
        drop(self.read.wait_timeout_while(reading, READING_MAX, |reading| *reading));
    }

    /// Another one, once more is named.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Who names the file at one of these paths, or the one to which a rotation of it would give its name.
    pub fn by_path(&self, paths: [&Path; 2]) -> Option<String> {
        self.find(|file| paths.iter().any(|path| *path == file.path || layout::is_rotated(path, &file.path)))
    }

    /// Who names this file, whatever its path.
    pub fn by_identity(&self, identity: Identity) -> Option<String> {
        self.find(|file| file.identity == Some(identity))
    }

    fn find(&self, is: impl Fn(&File) -> bool) -> Option<String> {
        let all = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(_, files)| files.iter().any(&is)).map(|(by, _)| by.clone())
    }
}

/// What one service names that no directory's thread looks after: looked at here.
pub fn of_declaration(declaration: &Declaration) -> Vec<File> {
    let wrapper = match &declaration.program {
        Resolved::Found { wrapper, .. } => wrapper.as_deref(),
        Resolved::Missing { .. } => None,
    };
    let manifest = Path::new(&declaration.source.file);
    let env_files = declaration.spec.process.env_from.iter().map(|env| env.file.as_path());
    let all = [manifest].into_iter().chain(wrapper).chain(env_files).chain(of_spec(&declaration.spec));
    let file = |path: &Path| File {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
        identity: path.metadata().ok().map(|there| identity(&there)),
    };
    all.map(file).collect()
}

/// What a service names beside its wrapper, its env files and what it watches.
pub fn of_spec(spec: &Spec) -> impl Iterator<Item = &Path> {
    let program = match &spec.process.program {
        Program::Command(argv) => argv.first().map(Path::new).filter(|program| program.is_absolute()),
        Program::Wrapper(_) | Program::Script(_) | Program::External(_) => None,
    };
    let secrets = spec.process.env.iter().filter_map(|(_, value)| match value {
        EnvValue::File(path) => Some(path.as_path()),
        EnvValue::Literal(_) | EnvValue::FromEnv(_) => None,
    });
    program.into_iter().chain(secrets)
}
