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
    /// The file has another name than the service, and the text names none: it would make another service.
    Unnamed { name: Name, file: String },
    /// The file is JSON, and the text is not.
    NotJson { name: Name, file: String },
    /// It is a program, not words about one: a script that was discovered.
    Script { name: Name, file: String },
}

/// The text of a file of the directory, by its name.
pub type Read<'r> = &'r dyn Fn(&str) -> Option<Vec<u8>>;

/// The file that declares `name` from now on: the one that does so now, if it is replaced. A discovered script
/// keeps its file, and the manifest beside it takes its name over.
pub fn file_to_write(known: &Snapshot, name: &Name, replace: bool, read: Read<'_>) -> Result<String, Refused> {
    let new = format!("{name}.yaml");
    let Some(view) = known.services.get(name) else { return alone(known, name, &new, &[], read).map(|()| new) };
    let file = view.manifest.file.clone();
    if !replace {
        return Err(Refused::Exists { name: name.clone(), file });
    }
    match is_manifest(&file) {
        true => alone(known, name, &file, std::slice::from_ref(name), read).map(|()| file),
        false => Ok(new),
    }
}

/// Whether this text may stand in that file, so that it declares `name`. What is no JSON would spoil a file of that
/// ending for all others who read it.
pub fn fits(name: &Name, file: &str, text: &[u8]) -> Result<(), Refused> {
    if file.ends_with(".json") && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err() {
        return Err(Refused::NotJson { name: name.clone(), file: file.to_string() });
    }
    // A text that cannot be read is told as that.
    match names_in(text, stem_of(file)).first().is_some_and(|written| written != name.as_str()) {
        true => Err(Refused::Unnamed { name: name.clone(), file: file.to_string() }),
        false => Ok(()),
    }
}

/// The files that declare these services and no others.
pub fn files_to_remove(known: &Snapshot, names: &[Name], read: Read<'_>) -> Result<BTreeSet<String>, Refused> {
    let file = |name: &Name| {
        let file = known.services.get(name)?.manifest.file.clone();
        Some(match is_manifest(&file) {
            true => alone(known, name, &file, names, read).map(|()| file),
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

fn alone(known: &Snapshot, name: &Name, file: &str, meant: &[Name], read: Read<'_>) -> Result<(), Refused> {
    let mut views = known.services.values().filter(|view| view.manifest.file == file);
    let is_other = |other: &Name| !meant.contains(other);
    let is_refused = views.clone().any(|view| view.manifest.rejected.is_some());
    let other = views.find(|view| is_other(&view.service)).map(|view| view.service.clone());
    // Of what was refused the table may know the first document alone.
    let in_text = || {
        let names = names_in_each(&read(file).filter(|_| is_refused)?, stem_of(file));
        names.iter().filter_map(|name| Name::parse(name).ok()).find(is_other)
    };
    match other.or_else(in_text) {
        None => Ok(()),
        Some(other) => Err(Refused::Shared { name: name.clone(), file: file.to_string(), other }),
    }
}

/// As [`names_in`], of a text of several documents that may be torn: each is read by itself, and of one that cannot
/// be read the first `name:` counts. None for a single document: it is nobody else's.
fn names_in_each(text: &[u8], stem: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut pieces = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("---") {
            Some(rest) => pieces.push(format!("{rest}\n")),
            None => pieces.last_mut().expect("it began with one").extend([line, "\n"]),
        }
    }
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    pieces.retain(|piece| piece.lines().any(|line| says(&line)));
    let names = |piece: &String| match yaml::parse(piece.as_bytes(), 0) {
        Ok(_) => names_in(piece.as_bytes(), stem),
        Err(_) => {
            let name = piece.lines().find_map(|line| line.trim_start().strip_prefix("name:"));
            vec![name.map_or(stem, |name| name.trim().trim_matches(['"', '\''])).to_string()]
        }
    };
    if pieces.len() > 1 { pieces.iter().flat_map(names).collect() } else { Vec::new() }
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

    const NOTHING: Read<'static> = &|_| None;

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
        assert_eq!(file_to_write(&known, &name("new"), false, NOTHING), Ok("new.yaml".into()));
        let exists = Refused::Exists { name: name("web"), file: "web.yml".into() };
        assert_eq!(file_to_write(&known, &name("web"), false, NOTHING), Err(exists));
        assert_eq!(file_to_write(&known, &name("web"), true, NOTHING), Ok("web.yml".into()));
        assert_eq!(file_to_write(&known, &name("a"), true, NOTHING), shared("a", "b"));
        let not_mine = Refused::Shared { name: name("two"), file: "two.yaml".into(), other: name("a") };
        assert_eq!(file_to_write(&known, &name("two"), true, NOTHING), Err(not_mine.clone()));
        assert_eq!(file_to_write(&known, &name("two"), false, NOTHING), Err(not_mine));
        assert!(
            fits(&name("a"), "a.json", b"command: x").is_err() && fits(&name("a"), "a.yaml", b"command: x").is_ok()
        );
        assert!(fits(&name("a"), "a.json", br#"{"command": "x"}"#).is_ok());
        let unnamed = Refused::Unnamed { name: name("web"), file: "front.yaml".into() };
        assert_eq!(fits(&name("web"), "front.yaml", b"command: x"), Err(unnamed));
        assert_eq!(fits(&name("web"), "front.yaml", b"name: web\ncommand: x"), Ok(()));
        assert_eq!(fits(&name("web"), "front.yaml", b"metadata: {name: web}\nkind: Service"), Ok(()));
        assert_eq!(file_to_write(&known, &name("clock"), true, NOTHING), Ok("clock.yaml".into()));
        assert_eq!(
            files_to_remove(&known, &[name("a"), name("web"), name("b")], NOTHING),
            Ok(["two.yaml".to_string(), "web.yml".to_string()].into())
        );
        assert_eq!(files_to_remove(&known, &[name("b")], NOTHING), shared("b", "a").map(|file: String| [file].into()));
        let script = Refused::Script { name: name("clock"), file: "clock.sh".into() };
        assert_eq!(files_to_remove(&known, &[name("clock")], NOTHING), Err(script));
    }
}
