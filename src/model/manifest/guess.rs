//! What can be said of a file that cannot be read: its name, whether it is required, the scripts it
//! names. So that an invalid manifest still owns its service and claims its wrapper.

use std::path::PathBuf;

use crate::model::name::Name;
use crate::model::yaml::{self, Kind as Node_, Node};

use super::{Reading, Text};

/// Lines that are looked at in a text that is no YAML.
const LINES: usize = 2_000;

#[derive(Debug)]
pub struct Guess {
    pub name: Option<Name>,
    pub required: bool,
}

/// Name and requiredness, from the tree if there is one, else from the look of the lines.
pub fn guess(reading: &Reading<'_>) -> Guess {
    let (name, required) = match yaml::parse(reading.main.text, 0) {
        Ok(nodes) => {
            let first = nodes.iter().find(|node| node.kind != Node_::Null);
            let name = first.and_then(|node| scalar(node, &["name"]).or_else(|| scalar(node, &["metadata", "name"])));
            let is_true = |path: &[&str]| first.and_then(|node| scalar(node, path)) == Some("true");
            (name.map(str::to_owned), is_true(&["required"]) || is_true(&["spec", "required"]))
        }
        Err(_) => {
            let value = |key: &str| line_values(reading.main.text, &[key]).into_iter().next();
            (value("name"), value("required").as_deref() == Some("true"))
        }
    };
    let name = name.and_then(|name| Name::parse(&name).ok()).or_else(|| Name::parse(reading.stem).ok());
    Guess { name, required }
}

/// The names of the services that a text writes: none where it leaves that to its file's name.
pub fn names(text: Text<'_>) -> Vec<Name> {
    let nodes = yaml::parse(text.text, 0).unwrap_or_default();
    let name = |node: &Node| {
        scalar(node, &["name"]).or_else(|| scalar(node, &["metadata", "name"])).and_then(|name| Name::parse(name).ok())
    };
    nodes.iter().filter_map(name).collect()
}

/// The wrappers that a manifest names, even an invalid or disabled one: as they are written.
pub fn wrapper_mentions(reading: &Reading<'_>) -> Vec<PathBuf> {
    let layers = std::iter::once(reading.main).chain(reading.drop_ins.iter().copied());
    let mut found: Vec<PathBuf> = layers.flat_map(mentions).map(PathBuf::from).collect();
    found.dedup();
    found
}

fn mentions(text: Text<'_>) -> Vec<String> {
    let Ok(nodes) = yaml::parse(text.text, 0) else {
        return line_values(text.text, &["wrapper", "wrapper_script", "path"]);
    };
    let mut found = Vec::new();
    for node in &nodes {
        for root in [&[][..], &["spec"]] {
            for key in ["wrapper", "wrapper_script"] {
                let path = [root, &[key]].concat();
                let inner = [root, &[key, "path"]].concat();
                found.extend(scalar(node, &path).or_else(|| scalar(node, &inner)).map(str::to_owned));
            }
        }
    }
    found
}

fn scalar<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
    let node = path.iter().try_fold(node, |node, key| match &node.kind {
        Node_::Map(entries) => entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value),
        Node_::Null | Node_::Scalar { .. } | Node_::List(_) => None,
    })?;
    match &node.kind {
        Node_::Scalar { text, .. } => Some(text),
        Node_::Null | Node_::List(_) | Node_::Map(_) => None,
    }
}

/// The values of lines that look like `key: value`.
fn line_values(text: &[u8], keys: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let key = key.trim().trim_matches(['"', '\'', '{', ' ']);
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'', ',', '}', ' ']);
        (keys.contains(&key) && !value.is_empty()).then(|| value.to_owned())
    };
    text.lines().take(LINES).filter_map(value).collect()
}
