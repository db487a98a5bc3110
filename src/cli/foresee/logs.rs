//! What becomes of the files that `logs.path` names: looked at from here, before anything is lost.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde_json::Value;

use crate::controller::Declaration;
use crate::edge::output::layout::{Place, Side};
use crate::edge::output::off_limits::OffLimits;
use crate::model::name::{Instance, Name};

/// So many rotated files of a log are looked at.
const ROTATED_MAX: u32 = 100;

/// What there is to say of one path.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It can take nothing, whoever writes.
    Wrong(String),
    /// It may be meant otherwise, or plugd may be refused there.
    Doubtful(String),
}

/// `told`: what the node says of itself, where one runs.
pub fn look(declared: &[Declaration], off_limits: &OffLimits, told: Option<&Value>) -> Vec<Found> {
    let named: Vec<(&Name, Place, u32)> = declared
        .iter()
        .filter_map(|one| Some((&one.spec.name, place_of(one, off_limits)?, one.spec.logs.max_files)))
        .collect();
    let as_the_node = looks_as_the_node(told);
    let of_file = |(name, place, files): &(&Name, Place, u32)| match off_limits.why(&place.base) {
        Some(why) => Some(Found::Wrong(format!(
            "{name}: {}, where `logs.path` puts its log, is none for a log: {why}; name another file",
            place.base.display()
        ))),
        None => of_file(name, &place.base, as_the_node).or_else(|| of_others(name, place, *files)),
    };
    let alone = named.iter().filter_map(of_file);
    alone.chain(shared(&named)).collect()
}

/// Of the first instance: the others' lie beside it.
fn place_of(one: &Declaration, off_limits: &OffLimits) -> Option<Place> {
    let path = one.spec.logs.path.as_deref()?;
    let first = Instance { service: one.spec.name.clone(), index: 0 };
    let dir = off_limits.logs.as_deref().unwrap_or(Path::new("/"));
    Some(Place::of(dir, &first, one.spec.replicas > 1, Some(path), Side::Out))
}

/// A file that holds something, and of which no node has noted anything; or one that has the name of a rotated one.
fn of_others(name: &Name, place: &Place, files: u32) -> Option<Found> {
    let is_of_others = |path: &Path| {
        let there = path.symlink_metadata().ok().filter(|there| there.is_file() && there.len() > 0);
        let index = there.map(|there| place.index_of(&there).metadata());
        index.is_some_and(|index| index.is_err_and(|error| error.kind() == ErrorKind::NotFound))
    };
    if is_of_others(&place.base) {
        return Some(Found::Doubtful(format!(
            "{name}: {}, where `logs.path` puts its log, holds something already, and plugd knows nothing of it: the \
             log goes on behind it, and is rotated and removed with it; name another file, if that is not meant",
            place.base.display()
        )));
    }
    let rotated = (1..files.min(ROTATED_MAX)).map(|number| place.rotated(number)).find(|path| is_of_others(path))?;
    Some(Found::Doubtful(format!(
        "{name}: {} has the name that a rotation of its log gives, and plugd knows nothing of it: the log's rotations \
         move it on and remove it; move it away, or name another file in `logs.path`",
        rotated.display()
    )))
}

/// What this process may write is what the node may.
fn looks_as_the_node(told: Option<&Value>) -> bool {
    let pid = told.and_then(|told| told.pointer("/controller/pid")?.as_u64());
    let uid = pid.and_then(|pid| Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid()));
    uid.is_none_or(|uid| uid == rustix::process::geteuid().as_raw())
}

fn of_file(name: &Name, file: &Path, as_the_node: bool) -> Option<Found> {
    let wrong = |what: &str, remedy: &str| {
        Some(Found::Wrong(format!("{name}: {}, where `logs.path` puts its log, {what}; {remedy}", file.display())))
    };
    match file.symlink_metadata() {
        Ok(there) if there.is_file() => None,
        Ok(there) if there.is_dir() => wrong("is a directory", "name a file in it"),
        Ok(there) if there.is_symlink() => {
            wrong("is a symbolic link, which no log follows", "name the file that it leads to")
        }
        Ok(_) => wrong("is no regular file", "write no path: plugd's stdout has it anyway"),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            of_directory(name, file.parent()?, as_the_node)
        }
        // Whoever runs it may see more.
        Err(_) => None,
    }
}

/// The directory of a file that is still to be made.
fn of_directory(name: &Name, dir: &Path, as_the_node: bool) -> Option<Found> {
    let (nearest, there) = dir.ancestors().find_map(|dir| Some((dir, dir.metadata().ok()?)))?;
    let shown = nearest.display();
    if !there.is_dir() {
        let told = format!("{name}: `logs.path` leads through {shown}, which is no directory; correct it");
        return Some(Found::Wrong(told));
    }
    let may = accessat(CWD, nearest, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    match may.map_err(std::io::Error::from) {
        Err(error) if as_the_node => Some(Found::Doubtful(format!(
            "{name}: plugd cannot make its log in {shown}: {error}; let plugd write there, or correct `logs.path`"
        ))),
        Ok(()) | Err(_) if nearest == dir => None,
        Ok(()) | Err(_) => Some(Found::Doubtful(format!(
            "{name}: {}, where `logs.path` puts its log, does not exist; its start makes it, if it can",
            dir.display()
        ))),
    }
}

/// Files that several services write.
fn shared(named: &[(&Name, Place, u32)]) -> Vec<Found> {
    let mut writers: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for (name, place, _) in named {
        writers.entry(&place.base).or_default().push(name.as_str());
    }
    let shared = writers.into_iter().filter(|(_, names)| names.len() > 1);
    let told = shared.map(|(file, names)| {
        Found::Doubtful(format!(
            "{} write one log, {}: their lines mix, and `plugd logs` of one shows the others' too; give each a \
             `logs.path` of its own",
            names.join(" and "),
            file.display()
        ))
    });
    told.collect()
}
