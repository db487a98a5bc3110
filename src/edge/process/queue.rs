//! The jobs that wait for a thread, those that have one, and which must not have one now.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::preparer::{Job, What};
use super::progress::{Progress, Sight};
use crate::model::spec::{EnvValue, Program};

#[derive(Debug)]
pub(super) struct Queue {
    pub waiting: VecDeque<Job>,
    pub busy: Vec<Busy>,
    /// Threads without a job.
    pub idle: usize,
    pub closed: bool,
    /// Of a job that names none.
    working_dir: PathBuf,
}

/// A job that a thread is at.
#[derive(Debug)]
pub(super) struct Busy {
    pub number: u64,
    pub since: Instant,
    /// It took too long: others do not wait for it.
    pub left: bool,
    progress: Arc<Progress>,
    /// What it hung at, once that was looked up, and the remote file system that this lies on.
    silent: Option<(Sight, Option<PathBuf>)>,
}

impl Busy {
    pub fn new(number: u64, progress: Arc<Progress>) -> Busy {
        Busy { number, since: Instant::now(), left: false, progress, silent: None }
    }

    /// Whether a look at this would hang too: the same place, or the same remote file system.
    fn silences(&self, sight: &Sight) -> bool {
        let Some((silent, mount)) = self.silent.as_ref().filter(|_| self.left) else { return false };
        match (silent.path(), sight.path()) {
            (Some(silent), Some(path)) => {
                path.starts_with(silent) || mount.as_ref().is_some_and(|mount| path.starts_with(mount))
            }
            (None, None) => silent == sight,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Queue {
    pub fn new(working_dir: PathBuf) -> Queue {
        Queue { waiting: VecDeque::new(), busy: Vec::new(), idle: 0, closed: false, working_dir }
    }

    /// The one that new jobs wait for.
    pub fn at_work(&mut self) -> Option<&mut Busy> {
        self.busy.iter_mut().find(|busy| !busy.left)
    }

    /// The first job that may be begun.
    fn next(&self) -> Option<usize> {
        self.waiting.iter().position(|job| self.hangs_at(job).is_none())
    }

    pub fn has_work(&self) -> bool {
        self.next().is_some()
    }

    pub fn take(&mut self) -> Option<Job> {
        let next = self.next()?;
        self.waiting.remove(next)
    }

    /// Whether it had been left behind.
    pub fn finish(&mut self, number: u64) -> bool {
        let at = self.busy.iter().position(|busy| busy.number == number);
        at.is_some_and(|at| self.busy.swap_remove(at).left)
    }

    /// What one that was left behind hangs at, if that was not looked up yet.
    pub fn unplaced(&self) -> Option<Sight> {
        let mut fresh = self.busy.iter().filter(|busy| busy.left && busy.silent.is_none());
        fresh.find_map(|busy| busy.progress.sight())
    }

    pub fn place(&mut self, sight: &Sight, mount: Option<PathBuf>) {
        for busy in self.busy.iter_mut().filter(|busy| busy.left && busy.silent.is_none()) {
            match busy.progress.sight() {
                Some(now) if now == *sight => busy.silent = Some((now, mount.clone())),
                // It went on meanwhile: it is only slow.
                Some(now) => busy.silent = Some((now, None)),
                None => {}
            }
        }
    }

    pub fn waits_for(&self, number: u64) -> Option<String> {
        if let Some(busy) = self.busy.iter().find(|busy| busy.number == number) {
            return busy.progress.sight().map(|sight| format!("{sight} does not answer"));
        }
        let job = self.waiting.iter().find(|job| job.number == number)?;
        if let Some(sight) = self.hangs_at(job) {
            return Some(format!("{sight} does not answer"));
        }
        let others = self.busy.len();
        let first = self.busy.first().and_then(|busy| busy.progress.sight());
        let path = first.as_ref().and_then(Sight::path).map(|path| format!(" (first {})", path.display()));
        Some(format!("{others} others wait for what does not answer{}, and it for them", path.unwrap_or_default()))
    }

    /// What of a job lies where another hangs already.
    pub fn hangs_at(&self, job: &Job) -> Option<Sight> {
        if !self.busy.iter().any(|busy| busy.left) {
            return None;
        }
        let process = &job.spec.process;
        let working_dir = process.working_dir.clone().unwrap_or_else(|| self.working_dir.clone());
        let first = match (&job.what, &process.program) {
            (What::Main(Some(wrapper)), _) => Some(wrapper.clone()),
            (What::Main(None), Program::Wrapper(written)) => Some(written.path.clone()),
            (What::Main(None), Program::Command(command)) | (What::Helper(command, _), _) => {
                command.first().filter(|word| word.contains('/')).map(PathBuf::from)
            }
            (What::Main(None), Program::Script(_) | Program::External(_)) => None,
        };
        let program = first.map(|first| Sight::Program(working_dir.join(first)));
        let user = process.user.clone().map(Sight::User);
        let files = process.env_from.iter().map(|file| Sight::EnvFile(file.file.clone()));
        let secrets = process.env.iter().filter_map(|(_, value)| match value {
            EnvValue::File(path) => Some(Sight::Secret(path.clone())),
            EnvValue::Literal(_) | EnvValue::FromEnv(_) => None,
        });
        let mut sights =
            [Some(Sight::WorkingDir(working_dir)), program, user].into_iter().flatten().chain(files).chain(secrets);
        sights.find(|sight| self.busy.iter().any(|busy| busy.silences(sight)))
    }
}
