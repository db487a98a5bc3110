//! What one manifest is read together with: `_defaults.yaml` and the drop-ins of its name.

use std::path::{Path, PathBuf};

use super::told::DEFAULTS;
use crate::edge::directory::{self, OwnedText};
use crate::model::manifest::{Reading, Text};

#[derive(Debug, Default)]
pub struct Company {
    defaults: Option<OwnedText>,
    drop_ins: Vec<OwnedText>,
}

impl Company {
    /// Of the manifest with this stem in the directory. What cannot be read takes no part: a look at the whole
    /// directory tells of it.
    pub fn of(dir: &Path, stem: &str) -> Company {
        let text = |path: &Path, file: String| Some(OwnedText { file, text: directory::read_named(path).ok()? });
        let folder = format!("{stem}.yaml.d");
        let entries = std::fs::read_dir(dir.join(&folder)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> =
            entries.filter(|entry| directory::is_drop_in(&entry.file_name())).map(|entry| entry.path()).collect();
        paths.sort();
        let drop_in = |path: &PathBuf| text(path, format!("{folder}/{}", path.file_name()?.to_string_lossy()));
        Company {
            defaults: text(&dir.join(DEFAULTS), DEFAULTS.into()),
            drop_ins: paths.iter().take(directory::DROP_INS_MAX).filter_map(drop_in).collect(),
        }
    }

    pub fn reading<'a>(&'a self, main: Text<'a>, stem: &'a str, dir: &'a Path) -> Reading<'a> {
        let defaults = self.defaults.as_ref().map(OwnedText::borrowed);
        Reading { main, stem, dir, defaults, drop_ins: self.drop_ins.iter().map(OwnedText::borrowed).collect() }
    }

    /// All that was read, for excerpts.
    pub fn texts<'a>(&'a self, main: Text<'a>) -> Vec<Text<'a>> {
        std::iter::once(main).chain(self.defaults.iter().chain(&self.drop_ins).map(OwnedText::borrowed)).collect()
    }
}

/// The manifest that a drop-in is read with.
pub fn owner(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let stem = folder.file_name()?.to_str()?.strip_suffix(".yaml.d")?;
    let mut files = ["yaml", "yml", "json"].iter().map(|ending| folder.with_file_name(format!("{stem}.{ending}")));
    files.find(|file| file.is_file())
}
