//! How a client finds the controller of a directory, or the only one there is.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{SOCKET, Who, connect, key};

/// The part of `_controller.status` that is read; more would be an attack (64 KiB: four times what
/// is written).
const NODE_STATUS_MAX: u64 = 64 * 1024;
/// Controllers listed when there are several.
const LISTED_MAX: usize = 50;

/// A controller that answers.
#[derive(Debug)]
pub struct Found {
    pub socket: PathBuf,
    /// Connected, and the peer is one to speak to.
    pub stream: UnixStream,
}

#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("no controller answers for {}; tried {}", dir.display(), shown(tried))]
    NoneFor { dir: PathBuf, tried: Vec<PathBuf> },
    #[error("no controller is running; say which one with --dir")]
    None,
    #[error("several controllers are running, say which one with --dir: {}", shown(sockets))]
    Several { sockets: Vec<PathBuf> },
    #[error("{} belongs to uid {uid}: not spoken to", socket.display())]
    Stranger { socket: PathBuf, uid: u32 },
    #[error("{} may not be reached", socket.display())]
    Denied { socket: PathBuf },
    /// A directory that was copied brings the status file of the original along.
    #[error("no controller answers for {}: {} is that of {}", dir.display(), socket.display(), of.display())]
    OfAnother { dir: PathBuf, socket: PathBuf, of: PathBuf },
    #[error("the controller of {} does not answer", dir.display())]
    Silent { dir: PathBuf, socket: PathBuf },
}

/// Asks whose node answers at a socket: its directory, where that is not this one.
pub type OfAnother<'a> = &'a dyn Fn(&Path, &Path) -> Result<Option<PathBuf>, Silent>;

/// Somebody listens and says nothing.
#[derive(Debug)]
pub struct Silent;

/// Finds the controller of `dir`; without one, `./services.d` if it exists, else the only controller
/// whose socket is in one of the usual places. `run` and `state` are flags or their variables; with one
/// of these and no directory nothing else is looked at.
pub fn find(
    dir: Option<&Path>,
    run: Option<&Path>,
    state: Option<&Path>,
    who: &Who,
    of_another: OfAnother<'_>,
) -> Result<Found, FindError> {
    let here = Path::new("services.d");
    match dir.or_else(|| here.is_dir().then_some(here)) {
        Some(dir) => find_for(dir, run, state, who, of_another),
        None => find_any(run, state, who),
    }
}

fn find_for(
    dir: &Path,
    run: Option<&Path>,
    state: Option<&Path>,
    who: &Who,
    of_another: OfAnother<'_>,
) -> Result<Found, FindError> {
    let owner = std::fs::metadata(dir).ok().map(|found| found.uid());
    let key = key(dir);
    let said = socket_in(&dir.join("_controller.status"));
    let usual = who.run_candidates(&key).into_iter().chain([who.root.join("run/plugd").join(&key)]);
    let named: Vec<PathBuf> = said.into_iter().chain(flagged(run, state)).collect();
    let tried: Vec<PathBuf> = named.iter().cloned().chain(usual.map(|dir| dir.join(SOCKET))).collect();
    let mut refused = None;
    for socket in &tried {
        match speak(socket, owner, who) {
            Ok(found) => match of_another(socket, dir) {
                Ok(None) => return Ok(found),
                Err(Silent) => return Err(FindError::Silent { dir: dir.to_path_buf(), socket: socket.clone() }),
                Ok(Some(of)) => {
                    let (dir, socket) = (dir.to_path_buf(), socket.clone());
                    refused = refused.or(Some(FindError::OfAnother { dir, socket, of }));
                }
            },
            // A usual place that is closed to us is root's, whatever runs there; what was named is meant.
            Err(Some(FindError::Denied { .. })) if !named.contains(socket) => {}
            Err(Some(error)) => refused = refused.or(Some(error)),
            Err(None) => {}
        }
    }
    Err(refused.unwrap_or_else(|| FindError::NoneFor { dir: dir.to_path_buf(), tried }))
}

fn find_any(run: Option<&Path>, state: Option<&Path>, who: &Who) -> Result<Found, FindError> {
    let mut sockets: Vec<PathBuf> = flagged(run, state).collect();
    // A place that was named is the only one that is meant.
    let usual = sockets.is_empty().then(|| who.run_parents().into_iter().chain([who.root.join("run/plugd")]));
    for parent in usual.into_iter().flatten() {
        let keys = std::fs::read_dir(parent).into_iter().flatten().flatten();
        sockets.extend(keys.take(LISTED_MAX).map(|entry| entry.path().join(SOCKET)));
    }
    sockets.sort();
    sockets.dedup();
    let mut refused = None;
    let mut found = Vec::new();
    for socket in sockets {
        match speak(&socket, None, who) {
            Ok(one) => found.push(one),
            Err(Some(error)) => refused = refused.or(Some(error)),
            Err(None) => {}
        }
    }
    match found.len() {
        0 => Err(refused.unwrap_or(FindError::None)),
        1 => Ok(found.remove(0)),
        _ => Err(FindError::Several { sockets: found.into_iter().map(|one| one.socket).collect() }),
    }
}

fn flagged(run: Option<&Path>, state: Option<&Path>) -> impl Iterator<Item = PathBuf> {
    let run = run.map(|dir| dir.join(SOCKET));
    let state = state.map(|dir| dir.join("run").join(SOCKET));
    run.into_iter().chain(state)
}

/// Connects and looks at who answers: root, ourselves or the owner of the directory. `Err(None)`:
/// nobody is there.
fn speak(socket: &Path, owner: Option<u32>, who: &Who) -> Result<Found, Option<FindError>> {
    let stream = connect(socket).map_err(|error| {
        (error.kind() == io::ErrorKind::PermissionDenied).then(|| FindError::Denied { socket: socket.to_path_buf() })
    })?;
    let uid = rustix::net::sockopt::socket_peercred(&stream).map_err(|_| None)?.uid.as_raw();
    if uid == 0 || uid == who.uid || Some(uid) == owner {
        Ok(Found { socket: socket.to_path_buf(), stream })
    } else {
        Err(Some(FindError::Stranger { socket: socket.to_path_buf(), uid }))
    }
}

/// `places: {…, socket: PATH}` of a node's status file.
fn socket_in(status: &Path) -> Option<PathBuf> {
    let found = std::fs::symlink_metadata(status).ok()?;
    if !found.is_file() || found.len() > NODE_STATUS_MAX {
        return None;
    }
    let text = std::fs::read_to_string(status).ok()?;
    let value: serde_json::Value = serde_saphyr::from_str(&text).ok()?;
    value["places"]["socket"].as_str().map(PathBuf::from)
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
