//! `plugd get -o yaml --effective`: the manifest after defaults and drop-ins, each value with the
//! file that it came from.
//!
//! Read from the directory as a controller would read it, not asked of the one that runs: only the files
//! know their lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Session;
use super::fault::Fault;
use super::node::{self, Node};
use crate::edge::directory::{self, Loaded};
use crate::edge::store::Store;
use crate::model::manifest::{Text, print};
use crate::model::settings::{self, Settings};
use crate::model::view::ServiceView;

pub fn yaml(views: &[Arc<ServiceView>], node: &Node, session: &Session) -> Result<String, Fault> {
    let loaded = load(node, session)?;
    let pages: Result<Vec<String>, Fault> = views.iter().map(|view| one(view, &loaded)).collect();
    Ok(pages?.join("---\n"))
}

/// What the directory declares now.
pub fn load(node: &Node, session: &Session) -> Result<Loaded, Fault> {
    let dir = node.dir()?;
    let told = node.get("/v1/node").ok();
    let memory = node::memory(told.as_ref(), &session.global).map_or_else(Store::none, |path| Store::look(&path));
    directory::load(&dir, &written(&dir), memory).map_err(|error| Fault::path("read", dir, error))
}

fn one(view: &ServiceView, loaded: &Loaded) -> Result<String, Fault> {
    let name = &view.service;
    if let Some(declaration) = loaded.declarations.iter().find(|declaration| declaration.spec.name == *name) {
        let none = BTreeMap::new();
        return Ok(print::effective(&declaration.spec, loaded.origins.get(name).unwrap_or(&none)));
    }
    let refused = loaded.invalid.iter().filter_map(|invalid| invalid.rejection.as_ref());
    match refused.into_iter().find(|rejection| rejection.name == *name) {
        Some(rejection) => Err(Fault::Invalid(rejection.message.clone())),
        None => {
            Err(Fault::no(format!("{} does not declare {name} any more", view.manifest.file), "look again in a moment"))
        }
    }
}

/// What the directory's own settings say; flags of the run that is asked are not known here.
pub fn written(dir: &Path) -> Settings {
    let text = std::fs::read(dir.join("_plugd.yaml")).unwrap_or_default();
    let given = settings::read(Text { file: "_plugd.yaml", text: &text });
    given.map_or_else(|_| Settings::default(), |given| given.settle(Settings::default()))
}
