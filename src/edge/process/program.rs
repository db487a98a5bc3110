//! Finding the program as execvp(3) does, and what can be told of it before it runs.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags, access, statfs};

use super::environment::Environment;
use super::prepare::{Unpreparable, fault};
use super::progress::{Progress, Sight};
use crate::model::reason::Reason;

/// As execvp(3) looks, but in the service's own PATH and from its own directory.
pub(super) fn find(
    first: &str,
    environment: &Environment,
    working_dir: &Path,
    progress: &Progress,
) -> Result<PathBuf, Unpreparable> {
    if first.contains('/') {
        let path = working_dir.join(first);
        progress.at(Sight::Program(path.clone()));
        return executable(&path).map(|()| path);
    }
    let search = environment.get("PATH").map(|path| path.to_os_string()).unwrap_or_else(|| DEFAULT_PATH.into());
    let mut refused = None;
    for directory in std::env::split_paths(&search) {
        let path = working_dir.join(directory).join(first);
        progress.at(Sight::Program(path.clone()));
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.reason == Reason::NotExecutable => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        let tried = search.to_string_lossy().replace(':', ", ");
        fault(Reason::ProgramNotFound, format!("no program {first:?} in the service's PATH ({tried})"))
    }))
}

/// What execvp(3) uses where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

fn executable(path: &Path) -> Result<(), Unpreparable> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => {
            Err(fault(Reason::NotExecutable, format!("{} is a directory, not a program", path.display())))
        }
        Ok(_) => access(path, Access::EXEC_OK).map_err(|_| {
            let path = path.display();
            fault(Reason::NotExecutable, format!("{path} is not executable; `chmod +x {path}` makes it so"))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(fault(Reason::PermissionDenied, format!("{} cannot be reached: {error}", path.display())))
        }
        Err(_) => Err(fault(Reason::ProgramNotFound, format!("there is no program {}", path.display()))),
    }
}

/// It lies on a filesystem whose server may never answer.
pub(super) fn can_hang(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| crate::edge::is_remote(fs.f_type))
}

/// The interpreter that a `#!` line names, if there is one.
pub(super) fn interpreter(program: &Path) -> Option<String> {
    use std::io::Read;
    let mut head = Vec::new();
    // What may be executed may still be a FIFO, whose open would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(program, flags, Mode::empty()).ok()?);
    // BINPRM_BUF_SIZE: the kernel looks no further either.
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(str::to_string)
}
