//! Which file a service's manifest is, and whether it may be written over or removed: the one rule behind
//! `plugd add` and `rm`, the API, and the library.

use std::collections::BTreeSet;

use super::name::Name;
use super::view::Snapshot;
use super::yaml;

/// Why a file is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The service is declared, and nobody said that it is to be replaced.
    Exists { name: Name, file: String },
    /// The file holds another service too, which was not meant.
    Shared { name: Name, file: String, other: Name },
    /// The file is JSON, and the text is not.
    NotJson { name: Name, file: String },
    /// It is a program, not words about one: a script that was discovered.
    Script { name: Name, file: String },
}

/// The file that declares `name` from now on: the one that does so now, if it is replaced. A discovered script
/// keeps its file, and the manifest beside it takes its name over.
pub fn file_to_write(known: &Snapshot, name: &Name, replace: bool) -> Result<String, Refused> {
    let new = format!("{name}.yaml");
    let Some(view) = known.services.get(name) else { return alone(known, name, &new, &[]).map(|()| new) };
    let file = view.manifest.file.clone();
    if !replace {
        return Err(Refused::Exists { name: name.clone(), file });
    }
    match is_manifest(&file) {
        true => alone(known, name, &file, std::slice::from_ref(name)).map(|()| file),
        false => Ok(new),
    }
}

/// What is no JSON would spoil a file of that ending for all others who read it.
pub fn fits(name: &Name, file: &str, text: &[u8]) -> Result<(), Refused> {
    match file.ends_with(".json") && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err() {
        true => Err(Refused::NotJson { name: name.clone(), file: file.to_string() }),
        false => Ok(()),
    }
}

/// The files that declare these services and no others.
pub fn files_to_remove(known: &Snapshot, names: &[Name]) -> Result<BTreeSet<String>, Refused> {
    let file = |name: &Name| {
        let file = known.services.get(name)?.manifest.file.clone();
        Some(match is_manifest(&file) {
            true => alone(known, name, &file, names).map(|()| file),
            false => Err(Refused::Script { name: name.clone(), file }),
        })
    };
    names.iter().filter_map(file).collect()
}

/// What a file declares by its own name.
pub fn stem_of(file: &str) -> &str {
    file.split_once('.').map_or(file, |(stem, _)| stem)
}

/// The names that a text declares, each document's own or that of its file.
pub fn names_in(text: &[u8], stem: &str) -> Vec<String> {
    let documents = yaml::parse(text, 0).unwrap_or_default();
    let name = |document: &yaml::Node| {
        let own = document.text_at(&["name"]).or_else(|| document.text_at(&["metadata", "name"]));
        own.map_or_else(|| stem.to_string(), str::to_string)
    };
    documents.iter().map(name).collect()
}

fn alone(known: &Snapshot, name: &Name, file: &str, meant: &[Name]) -> Result<(), Refused> {
    let other = known.services.values().find(|view| view.manifest.file == file && !meant.contains(&view.service));
    match other {
        None => Ok(()),
        Some(other) => {
            let (name, file, other) = (name.clone(), file.to_string(), other.service.clone());
            Err(Refused::Shared { name, file, other })
        }
    }
}

/// Whether the file is one of the directory's own manifests, by its name. What a status file says is not believed
/// beyond that.
pub fn is_manifest(file: &str) -> bool {
    !file.contains('/')
        && !file.starts_with('.')
        && [".yaml", ".yml", ".json"].iter().any(|ending| file.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::samples::{healthy, snapshot};
    use crate::model::view::ServiceView;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    fn of(service: &str, file: &str) -> ServiceView {
        let mut view = healthy(service);
        view.manifest.file = file.into();
        view
    }

    #[test]
    fn what_declares_a_service_is_the_file_that_is_replaced_or_removed() {
        let known = snapshot([of("web", "web.yml"), of("a", "two.yaml"), of("b", "two.yaml"), of("clock", "clock.sh")]);
        let shared = |one: &str, other: &str| {
            Err(Refused::Shared { name: name(one), file: "two.yaml".into(), other: name(other) })
        };
        assert_eq!(file_to_write(&known, &name("new"), false), Ok("new.yaml".into()));
        let exists = Refused::Exists { name: name("web"), file: "web.yml".into() };
        assert_eq!(file_to_write(&known, &name("web"), false), Err(exists));
        assert_eq!(file_to_write(&known, &name("web"), true), Ok("web.yml".into()));
        assert_eq!(file_to_write(&known, &name("a"), true), shared("a", "b"));
        let not_mine = Refused::Shared { name: name("two"), file: "two.yaml".into(), other: name("a") };
        assert_eq!(file_to_write(&known, &name("two"), true), Err(not_mine.clone()));
        assert_eq!(file_to_write(&known, &name("two"), false), Err(not_mine));
        assert!(
            fits(&name("a"), "a.json", b"command: x").is_err() && fits(&name("a"), "a.yaml", b"command: x").is_ok()
        );
        assert!(fits(&name("a"), "a.json", br#"{"command": "x"}"#).is_ok());
        assert_eq!(file_to_write(&known, &name("clock"), true), Ok("clock.yaml".into()));
        assert_eq!(
            files_to_remove(&known, &[name("a"), name("web"), name("b")]),
            Ok(["two.yaml".to_string(), "web.yml".to_string()].into())
        );
        assert_eq!(files_to_remove(&known, &[name("b")]), shared("b", "a").map(|file: String| [file].into()));
        let script = Refused::Script { name: name("clock"), file: "clock.sh".into() };
        assert_eq!(files_to_remove(&known, &[name("clock")]), Err(script));
    }
}
