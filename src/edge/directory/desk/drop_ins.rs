//! `NAME.yaml.d/`: what is read together with a manifest, and what of it takes no part.

use std::path::{Path, PathBuf};

use super::super::disk::{self, Stamp, Unread};
use super::super::names::is_drop_in;
use super::super::parse::{Context, OwnedText};
use super::Desk;
use super::own::DEFAULTS;
use crate::model::reason::Reason;

/// A drop-in directory with more is not meant.
pub const DROP_INS_MAX: usize = 64;

impl Desk {
    /// The drop-ins of a manifest, and the defaults.
    pub(super) fn context(&self, stem: &str) -> Result<Context, PathBuf> {
        let mut context = self.script_context()?;
        let folder = self.dir.join(format!("{stem}.yaml.d"));
        // Not by what the last compare found: a manifest may arrive right after its folder.
        if !disk::stat(&folder).is_ok_and(|found| found.is_dir()) {
            return Ok(context);
        }
        let mut names = match disk::list(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let why = format!("the drop-ins in {stem}.yaml.d take no part: it cannot be read: {error}");
                context.left_out.push((Reason::Unreadable, why));
                Vec::new()
            }
        };
        names.retain(|name| is_drop_in(name));
        names.sort();
        if names.len() > DROP_INS_MAX {
            let why = format!("{stem}.yaml.d holds {} drop-ins; only the first {DROP_INS_MAX} take part", names.len());
            context.left_out.push((Reason::TooLarge, why));
        }
        for name in names.into_iter().take(DROP_INS_MAX) {
            let path = folder.join(&name);
            let file = format!("{stem}.yaml.d/{}", name.to_string_lossy());
            let (reason, why) = match disk::read(&path, disk::MANIFEST_MAX, false) {
                Ok(content) => match self.surroundings.judge(&path, &content.stamp, None) {
                    Some(finding) if finding.refused => (Reason::UntrustedFile, finding.message),
                    Some(_) | None => {
                        context.drop_ins.push(OwnedText { file, text: content.bytes });
                        continue;
                    }
                },
                Err(Unread::Busy) => return Err(path),
                // Left out it would change a service that runs: it is waited for.
                Err(unread) if unread.is_silent() => return Err(path),
                Err(Unread::Absent) => continue,
                Err(Unread::NotAFile(kind)) => (Reason::NotARegularFile, format!("it is {kind}, not a regular file")),
                Err(Unread::TooLarge(size)) => {
                    (Reason::TooLarge, format!("it has {size} bytes, and at most 65536 are read"))
                }
                Err(Unread::Failed(error)) => (Reason::Unreadable, format!("it cannot be read: {error}")),
            };
            context.left_out.push((reason, format!("the drop-in {file} takes no part: {why}")));
        }
        Ok(context)
    }

    /// The drop-ins of a manifest changed: it is to be read again.
    pub fn drop_in_changed(&mut self, stem: &str) -> Vec<String> {
        self.drop_ins.entry(stem.to_string()).or_default();
        let mut files = Vec::new();
        for ending in ["yaml", "yml", "json"] {
            let file = format!("{stem}.{ending}");
            if let Some(record) = self.records.get_mut(&file) {
                record.stale = true;
                files.push(file);
            }
        }
        files
    }

    /// What a script's head is read with; an error names a file that is waited for.
    pub fn script_context(&self) -> Result<Context, PathBuf> {
        if self.defaults_awaited {
            return Err(self.path_of(DEFAULTS));
        }
        let (defaults, lacking) = (self.defaults.clone(), self.defaults_lacking);
        Ok(Context { defaults, lacking, ..Context::default() })
    }
}

/// What is in a folder of drop-ins.
pub(super) fn stamps(folder: &Path) -> Vec<Stamp> {
    let names = disk::list(folder).unwrap_or_default().into_iter().take(DROP_INS_MAX);
    let mut paths: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
    paths.sort();
    paths.iter().filter_map(|path| disk::stat(path).ok()).collect()
}
