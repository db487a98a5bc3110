//! Where the logs of a service lie: the one place that knows their names.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::log_names;
use crate::model::name::{Instance, Name};

/// The file in which one output of one instance is collected, and where its index lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The current file; rotated ones are `BASE.1`, `BASE.2`, the newest first.
    pub base: PathBuf,
    /// The directory of the indexes, `.idx` in the log directory.
    pub index: PathBuf,
    /// `logs.path`: a file outside of the log directory, where no name is ours to remove.
    pub own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Out,
    /// Only with `logs.separate`.
    Err,
}

impl Place {
    /// The file of the only instance, or of one of several. Any but the first is one of several.
    pub fn of(dir: &Path, instance: &Instance, several: bool, path: Option<&Path>, side: Side) -> Place {
        let several = several || instance.index > 0;
        let base = match path {
            Some(path) if several => log_names::of_instance(path, instance.index),
            Some(path) => path.to_path_buf(),
            None if several => several_dir(dir, &instance.service).join(format!("{}.log", instance.index)),
            None => dir.join(format!("{}.log", instance.service)),
        };
        let base = match side {
            Side::Out => base,
            // Never a name that another service's log can have: those end in `.log` or `.log.N`.
            Side::Err => base.with_extension("err"),
        };
        Place { base, index: dir.join(".idx"), own: path.is_some() }
    }

    pub fn rotated(&self, number: u32) -> PathBuf {
        let mut name: OsString = self.base.clone().into();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The index of a file, named by its inode. A file of one's own may lie on another filesystem.
    pub fn index_of(&self, file: &Metadata) -> PathBuf {
        match self.own {
            true => self.index.join(format!("{:x}-{}", file.dev(), file.ino())),
            false => self.index.join(file.ino().to_string()),
        }
    }
}

/// The directory of a service with several instances.
pub fn several_dir(dir: &Path, service: &Name) -> PathBuf {
    dir.join(service.log_folder())
}

/// Whether `path` is a name that a rotation of `base` gives.
pub fn is_rotated(base: &Path, path: &Path) -> bool {
    let rest = path.as_os_str().as_encoded_bytes().strip_prefix(base.as_os_str().as_encoded_bytes());
    rest.and_then(|rest| number(std::str::from_utf8(rest).ok()?)).is_some()
}

/// The number of a rotated file, from what stands behind its base name: `.3`.
pub fn number(suffix: &str) -> Option<u32> {
    suffix.strip_prefix('.')?.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: Option<&str>, index: u32, several: bool, side: Side) -> PathBuf {
        let instance = Instance { service: Name::parse("orders").expect("valid"), index };
        Place::of(Path::new("/l"), &instance, several, path.map(Path::new), side).base
    }

    #[test]
    fn one_instance_has_a_file_and_several_have_a_directory() {
        assert_eq!(place(None, 0, false, Side::Out), Path::new("/l/orders.log"));
        assert_eq!(place(None, 0, true, Side::Out), Path::new("/l/orders/0.log"));
        assert_eq!(place(None, 2, false, Side::Out), Path::new("/l/orders/2.log"), "the first has the other");
        assert_eq!(place(None, 0, false, Side::Err), Path::new("/l/orders.err"));
        assert_eq!(place(Some("/v/o.log"), 0, false, Side::Out), Path::new("/v/o.log"));
        assert_eq!(place(Some("/v/o.log"), 2, true, Side::Out), Path::new("/v/o.2.log"));
    }

    #[test]
    fn no_directory_of_several_logs_has_the_name_of_another_services_log() {
        let folder = |name: &str| several_dir(Path::new("/l"), &Name::parse(name).expect("valid"));
        for (name, folder_name) in [
            ("orders", "orders"),
            ("x.log", "x.log-"),
            ("x.err", "x.err-"),
            ("y.log.1", "y.log.1-"),
            ("y.err.12", "y.err.12-"),
            ("y.1", "y.1"),
            ("log", "log"),
            ("y.log.a", "y.log.a"),
        ] {
            assert_eq!(folder(name), Path::new("/l").join(folder_name));
        }
    }
}
