//! Preparations on threads of their own: a spec goes in, what the keeper can spawn comes out.
//!
//! One thread does the jobs in order. A job that takes long (its file system does not answer) is left
//! behind on its thread, and a fresh thread does the rest; at most [`THREADS_MAX`] can be lost in that
//! way. Jobs that would look where one hangs wait without a thread until that answers (`queue`). A
//! thread that comes back delivers and goes, unless nobody else is at work.
//!
//! Nothing here knows whether a result is still wanted: whoever asked drops what comes too late.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::prepare::{self, Ground, Prepared, Unpreparable};
use super::progress::Progress;
use super::queue::{Busy, Queue};
use crate::model::name::LifeId;
use crate::model::spec::Spec;

/// A job that takes longer is left behind, if others wait for its thread.
const PATIENCE: Duration = Duration::from_millis(100);
/// Threads at most. The last one is left behind by nobody: what waits for it says so.
pub const THREADS_MAX: usize = 8;

/// Something to prepare.
#[derive(Debug)]
pub struct Job {
    /// By which the answer is known; never given twice.
    pub number: u64,
    pub spec: Arc<Spec>,
    pub life: LifeId,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// The main process, with the wrapper that was found.
    Main(Option<PathBuf>),
    /// A command that runs beside it, and the number of the helper.
    Helper(Vec<String>, u64),
}

/// The answer to a job.
#[derive(Debug)]
pub struct Done {
    pub number: u64,
    pub result: Result<Prepared, Unpreparable>,
}

/// The handle; the threads end with it.
#[derive(Debug)]
pub struct Preparer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ground: Ground,
    done: UnboundedSender<Done>,
    queue: Mutex<Queue>,
    bell: Condvar,
}

impl Preparer {
    /// The first job starts the first thread.
    pub fn new(ground: Ground, done: UnboundedSender<Done>) -> Preparer {
        let queue = Mutex::new(Queue::new(ground.working_dir.clone()));
        Preparer { shared: Arc::new(Shared { ground, done, queue, bell: Condvar::new() }) }
    }

    /// Never blocks; each job is answered once, if it ever is.
    pub fn submit(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut queue = self.shared.lock();
        queue.waiting.extend(jobs);
        if queue.idle > 0 {
            drop(queue);
            self.shared.bell.notify_one();
        } else if queue.at_work().is_none() && queue.busy.len() < THREADS_MAX {
            self.shared.clone().begin(queue);
        }
    }

    /// Nobody waits for this one any more: it is not begun. One that has begun goes on and is answered.
    pub fn cancel(&self, number: u64) {
        self.shared.lock().waiting.retain(|job| job.number != number);
    }

    /// Leaves behind what takes too long. When to look again, if that may be needed.
    pub fn tend(&self, now: Instant) -> Option<Instant> {
        let mut queue = self.shared.lock();
        if queue.idle > 0 || !queue.has_work() || queue.busy.len() >= THREADS_MAX {
            return None;
        }
        if let Some(at_work) = queue.at_work() {
            let until = at_work.since + PATIENCE;
            if now < until {
                return Some(until);
            }
            at_work.left = true;
        }
        self.shared.clone().begin(queue);
        Some(now + PATIENCE)
    }

    /// Whether a job would look where another one hangs.
    pub fn would_hang(&self, job: &Job) -> bool {
        self.shared.lock().hangs_at(job).is_some()
    }

    /// What a job waits for, in words; none if it is answered, or has only just begun.
    pub fn waits_for(&self, number: u64) -> Option<String> {
        self.shared.lock().waits_for(number)
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.bell.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more thread; it counts as idle until it has taken a job.
    fn begin(self: Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        queue.idle += 1;
        drop(queue);
        let shared = self.clone();
        if let Err(error) = std::thread::Builder::new().name("prepare".into()).spawn(move || shared.work()) {
            // Tried again when the loop looks after it the next time.
            tracing::error!(%error, "no thread can be started to prepare processes");
            self.lock().idle -= 1;
        }
    }

    fn work(&self) {
        let mut queue = self.lock();
        queue.idle -= 1;
        loop {
            if queue.closed {
                return;
            }
            if let Some(silent) = queue.unplaced() {
                drop(queue);
                let mount = silent.path().and_then(crate::edge::mounts::remote_mount);
                queue = self.lock();
                queue.place(&silent, mount);
                continue;
            }
            let Some(job) = queue.take() else {
                if queue.idle > 0 {
                    return; // one that waits is enough
                }
                queue.idle += 1;
                queue = self.bell.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            };
            let progress = Arc::new(Progress::default());
            queue.busy.push(Busy::new(job.number, progress.clone()));
            drop(queue);
            let number = job.number;
            let result = self.prepare(&job, &progress);
            drop(job);
            // Nobody listens any more: the node has ended.
            self.done.send(Done { number, result }).ok();
            queue = self.lock();
            let was_left = queue.finish(number);
            if was_left && (queue.idle > 0 || queue.at_work().is_some()) {
                // What waited for the same place may go on now.
                drop(queue);
                return self.bell.notify_one();
            }
        }
    }

    fn prepare(&self, job: &Job, progress: &Progress) -> Result<Prepared, Unpreparable> {
        match &job.what {
            What::Main(wrapper) => {
                prepare::main_process(&self.ground, &job.spec, &job.life, wrapper.as_deref(), progress)
            }
            What::Helper(command, number) => {
                prepare::helper(&self.ground, &job.spec, &job.life, command, *number, progress)
            }
        }
    }
}
