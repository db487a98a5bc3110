//! The run directory while the node runs: socket, table of lives, lock.
//!
//! Someone may clean it away (a tmpfiles rule, a hand). The directory's thread sees that at its 5 s
//! look (a task where there is no directory); here it is made again: the command line must reach the controller, and a table without the
//! lives that run would let a later run start them a second time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Node, Notice};
use crate::api;
use crate::edge::places::{self, Lock};
use crate::model::name::LifeId;

/// The socket, and what is needed to bind it again.
pub struct Door {
    pub path: PathBuf,
    context: api::context::Context,
    /// Accepts connections, which are tasks of their own.
    task: Option<AbortHandle>,
}

/// The run directory, where there is one.
#[derive(Default)]
pub struct RunDir {
    pub door: Option<Door>,
    path: Option<PathBuf>,
    /// Of a directory made again, and once the keeper has executed itself anew: until then that holds it.
    lock: Option<Lock>,
    /// The state and the log directory are this node's alone, too.
    others: Vec<(PathBuf, Option<Lock>)>,
    /// It is gone and could not be made again; said once.
    lost: bool,
}

/// Whether it is there is looked at this often where no directory is watched that would look, too.
const LOOK: Duration = Duration::from_secs(5);

impl RunDir {
    /// Looks by itself: `plugd run FILE` watches no directory.
    pub fn watch(&self, notices: &mpsc::UnboundedSender<Notice>) {
        let Some(path) = self.path.clone() else { return };
        let files = [path.join(places::SOCKET), path.join("lives")];
        let notices = notices.clone();
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                ticks.tick().await;
                let gone = files.iter().any(|file| file.symlink_metadata().is_err());
                if gone && notices.send(Notice::RunLost).is_err() {
                    return;
                }
            }
        });
    }

    pub fn of(path: Option<PathBuf>, others: impl IntoIterator<Item = PathBuf>) -> RunDir {
        let others = others.into_iter().map(|other| (other, None)).collect();
        let mut run = RunDir { path, others, ..RunDir::default() };
        run.hold();
        run
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Holds the locks where nobody does: of a directory that an earlier controller made again, and those
    /// that the keeper lost as it executed itself anew.
    pub(super) fn hold(&mut self) {
        // Held by the keeper, or on a filesystem without locks: the lock of the directory has to do.
        self.lock = self.lock.take().or_else(|| self.path.as_deref().and_then(Lock::take_if_free));
        for (path, lock) in &mut self.others {
            *lock = lock.take().or_else(|| Lock::take_if_free(path));
        }
    }
}

impl Door {
    pub fn new(path: PathBuf, context: api::context::Context) -> Door {
        Door { path, context, task: None }
    }

    /// Binds the socket, in place of what lies there.
    pub fn open(&mut self) -> std::io::Result<()> {
        let listener = api::socket::bind(&self.path)?;
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let served = tokio::task::spawn_local(api::server::serve(listener, self.context.clone()));
        self.task = Some(served.abort_handle());
        Ok(())
    }
}

impl Node {
    /// Something of the run directory is missing.
    pub(super) fn renew_run(&mut self) {
        let Some(path) = self.run.path.clone() else { return };
        if self.leaving.is_some() {
            return;
        }
        let made = places::renew(&path).and_then(|()| {
            let door = self.run.door.as_mut().filter(|door| door.path.symlink_metadata().is_err());
            door.map_or(Ok(()), Door::open)
        });
        match made {
            Ok(()) => {
                self.run.lost = false;
                // The old one lies in the directory that is gone.
                self.run.lock = None;
                self.run.hold();
                if path.join("lives").symlink_metadata().is_err() {
                    self.table.renew(&path);
                    self.fill_table();
                }
                self.lives.values().filter(|live| !live.ended).for_each(|live| live.context.past.note());
                tracing::warn!("{} was taken away; socket and table of lives are there again", path.display());
            }
            Err(error) => {
                if !std::mem::replace(&mut self.run.lost, true) {
                    let path = path.display();
                    tracing::error!(
                        "{path} was taken away and cannot be made again: {error}; until then the command line cannot \
                         reach this controller, and a killed keeper may leave strays"
                    );
                }
            }
        }
    }

    /// Writes everything that runs into an empty table.
    pub(super) fn fill_table(&mut self) {
        self.table.note_controller();
        let adopted = self.adoptees.values().flatten().filter(|adoptee| !adoptee.ended);
        let lives = self.lives.values().filter(|live| !live.ended);
        for (tree, spec) in
            adopted.map(|adoptee| (&adoptee.tree, None)).chain(lives.map(|live| (&live.tree, Some(&*live.spec))))
        {
            self.table.note_life(&tree.life, spec, tree.pid);
        }
        let asked: Vec<LifeId> = self.pending.keys().cloned().collect();
        self.table.expect(asked);
    }
}
