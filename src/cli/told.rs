//! Before a verb answers: that the controller has taken in what the directory holds, and that the
//! status files tell what was answered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::node::Node;
use super::{Session, effective};
use crate::controller::Resolved;
use crate::model::digest;
use crate::model::name::Name;
use crate::model::spec::Digest;
use crate::model::text::clean;
use crate::model::view::{ServiceView, Snapshot};

/// The largest manifest there is, and one byte that makes a larger one differ.
const MANIFEST_MAX: u64 = 64 * 1024 + 1;
/// A status file is written a few milliseconds behind the fact. Where it cannot be written at all
/// (a full disk) the answer is not held back for longer.
const FILES_MAX: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What became of the bytes that lie on disk now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// They are in force, or there is nothing to compare with.
    InForce,
    /// They were refused; what was in force before still is.
    Refused,
    NotYet,
}

pub fn intake(dir: &Path, view: &ServiceView) -> Intake {
    let mut text = Vec::new();
    let read =
        File::open(dir.join(&view.manifest.file)).and_then(|file| file.take(MANIFEST_MAX).read_to_end(&mut text));
    if read.is_err() || view.manifest.sha256.is_empty() {
        return Intake::InForce;
    }
    let now = digest::short(&text);
    if now == view.manifest.sha256 {
        Intake::InForce
    } else if view.manifest.rejected.as_ref().is_some_and(|rejected| rejected.sha256 == now) {
        Intake::Refused
    } else {
        Intake::NotYet
    }
}

/// What is in the wrappers, env files and watched files of these services now, of those that name any.
pub fn contents(node: &Node, names: &[Name], session: &Session) -> BTreeMap<Name, Digest> {
    let names_files = |name: &&Name| {
        let spec = node.object(name).ok().and_then(|mut object| Some(object.get_mut("spec")?.take()));
        spec.is_some_and(|spec| ["wrapper", "envFrom", "watchFiles"].iter().any(|field| spec.get(field).is_some()))
    };
    let named: Vec<&Name> = names.iter().filter(names_files).collect();
    let loaded = if named.is_empty() { None } else { effective::load(node, session).ok() };
    let declared = loaded.into_iter().flat_map(|loaded| loaded.declarations);
    let found = declared.filter_map(|one| match one.program {
        Resolved::Found { content, .. } if named.contains(&&one.spec.name) => Some((one.spec.name.clone(), content)),
        // What is missing is told as a problem.
        Resolved::Found { .. } | Resolved::Missing { .. } => None,
    });
    found.collect()
}

/// Whether that is what its manifest means to the controller now.
pub fn has_content(lying: &BTreeMap<Name, Digest>, view: &ServiceView) -> bool {
    let content = view.manifest.declares.map(|declares| declares.content);
    lying.get(&view.service).is_none_or(|lies| content.is_none_or(|content| content == *lies))
}

/// Waits until each name's status file begins with its status word; none: until there is no file.
pub fn files_tell<'a>(dir: &Path, services: impl Iterator<Item = (&'a str, Option<&'a str>)>) {
    if !dir.join("_controller.status").is_file() {
        return; // they lie elsewhere, or nowhere
    }
    let until = Instant::now() + FILES_MAX;
    for (name, word) in services {
        let path = dir.join(format!("{name}.status"));
        while word_in(&path).as_deref() != word && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// `healthy` of `# site  healthy  1/1 ready …`.
fn word_in(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?.take(4096)).read_line(&mut line).ok()?;
    Some(line.split_whitespace().nth(2)?.to_string())
}

/// What is seen of the services then is as it was observed; what is meant by them is not known.
pub fn lost_directory(known: &Snapshot) -> Option<String> {
    let why = known.node.directory_lost.as_ref()?;
    Some(format!(
        "the directory is lost (DirectoryLost): {}; what runs goes on, edits are not seen until it is back",
        clean(why)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_status_file_is_the_third() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let path = dir.path().join("site.status");
        assert_eq!(word_in(&path), None);
        std::fs::write(&path, "# site  healthy  1/1 ready\nservice: site\n").expect("written");
        assert_eq!(word_in(&path).as_deref(), Some("healthy"));
    }
}
