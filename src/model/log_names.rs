//! How the logs of several instances are called beside a `logs.path` that names one file.
//!
//! `/var/log/orders.log` of instance 2 is `/var/log/orders.2.log`, and `/var/log/orders` is `/var/log/orders-2`: a
//! number behind a dot at the end would be taken for a rotated file. All of them together are told as
//! `/var/log/orders.*.log`, as a shell finds them.

use std::fmt::Display;
use std::path::{Path, PathBuf};

pub fn of_instance(path: &Path, index: u32) -> PathBuf {
    with(path, index)
}

pub fn of_all(path: &Path) -> PathBuf {
    with(path, '*')
}

/// The `logs.path` of what a status tells, be it one file or all.
pub fn path_of(told: &Path) -> PathBuf {
    let name = told.file_name().unwrap_or_default().to_string_lossy();
    match (name.strip_suffix("-*"), name.rsplit_once(".*.")) {
        (Some(stem), _) => told.with_file_name(stem),
        (None, Some((stem, end))) => told.with_file_name(format!("{stem}.{end}")),
        (None, None) => told.to_path_buf(),
    }
}

fn with(path: &Path, which: impl Display) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.extension() {
        Some(extension) => path.with_file_name(format!("{stem}.{which}.{}", extension.to_string_lossy())),
        None => path.with_file_name(format!("{stem}-{which}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_all_leads_back_to_the_path() {
        for (path, second, all) in [
            ("/v/o.log", "/v/o.2.log", "/v/o.*.log"),
            ("/v/o", "/v/o-2", "/v/o-*"),
            ("/v/a.b.log", "/v/a.b.2.log", "/v/a.b.*.log"),
        ] {
            let path = Path::new(path);
            assert_eq!((of_instance(path, 2), of_all(path)), (second.into(), all.into()));
            assert_eq!((path_of(&of_all(path)), path_of(path)), (path.into(), path.into()));
        }
    }
}
