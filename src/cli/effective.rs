//! `plugd get -o yaml --effective`: the manifest after defaults and drop-ins, each value with the
//! file that it came from.
//!
//! Read from the directory, not asked of the controller: only the files know their lines.

use std::path::Path;
use std::sync::Arc;

use super::fault::Fault;
use crate::model::manifest::{self, Reading, Text, print};
use crate::model::view::ServiceView;

/// Drop-ins of one service that are read: nobody splits a manifest further.
const DROP_INS_MAX: usize = 100;

pub fn yaml(views: &[Arc<ServiceView>], dir: &Path) -> Result<String, Fault> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let mut pages = Vec::new();
    for view in views {
        pages.push(one(view, &dir)?);
    }
    Ok(pages.join("---\n"))
}

fn one(view: &ServiceView, dir: &Path) -> Result<String, Fault> {
    let file = &view.manifest.file;
    let path = dir.join(file);
    let main = std::fs::read(&path).map_err(|error| Fault::path("read", path, error))?;
    let defaults = std::fs::read(dir.join("_defaults.yaml")).ok();
    let drop_ins = drop_ins(dir, file);
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let reading = Reading {
        main: Text { file, text: &main },
        stem,
        dir,
        defaults: defaults.as_deref().map(|text| Text { file: "_defaults.yaml", text }),
        drop_ins: drop_ins.iter().map(|(file, text)| Text { file, text }).collect(),
    };
    match manifest::read(&reading) {
        Ok(documents) => {
            let document = documents.iter().find(|document| document.spec.name == view.service);
            let document = document.ok_or_else(|| {
                Fault::no(format!("{file} does not declare {} any more", view.service), "look again in a moment")
            })?;
            Ok(print::effective(&document.spec, &document.origins))
        }
        Err(refused) => Err(Fault::Invalid(
            refused.diagnostics.iter().map(manifest::Diagnostic::one_line).collect::<Vec<_>>().join("\n"),
        )),
    }
}

/// `FILE.d/*.yaml`, in lexical order.
fn drop_ins(dir: &Path, file: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{file}.d");
    let mut names: Vec<String> = std::fs::read_dir(dir.join(&folder))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") && !name.starts_with('.'))
        .take(DROP_INS_MAX)
        .collect();
    names.sort();
    let read = |name: String| {
        let path = format!("{folder}/{name}");
        Some((path.clone(), std::fs::read(dir.join(&path)).ok()?))
    };
    names.into_iter().filter_map(read).collect()
}
