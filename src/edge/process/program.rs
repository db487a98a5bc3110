//! Finding the program as execvp(3) does, and what can be told of it before it runs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, access, accessat, statfs};
use rustix::io::Errno;

use super::environment::Environment;
use super::prepare::{Eyes, Unpreparable, fault};
use super::progress::{Progress, Sight};
use crate::model::reason::Reason;

/// As execvp(3) looks, but in the service's own PATH and from its own directory.
pub(super) fn find(
    first: &str,
    environment: &Environment,
    working_dir: &Path,
    eyes: &Eyes<'_>,
    progress: &Progress,
) -> Result<PathBuf, Unpreparable> {
    if first.contains('/') {
        let path = working_dir.join(first);
        progress.at(Sight::Program(path.clone()));
        return executable(&path, eyes).map(|()| path);
    }
    let search = environment.get("PATH").map(|path| path.to_os_string()).unwrap_or_else(|| DEFAULT_PATH.into());
    let mut refused = None;
    for directory in std::env::split_paths(&search) {
        let path = working_dir.join(directory).join(first);
        progress.at(Sight::Program(path.clone()));
        match executable(&path, eyes) {
            Ok(()) => return Ok(path),
            // What stands in a directory that cannot be entered nobody knows.
            Err(error) if error.reason == Reason::NotExecutable => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        let path = search.to_string_lossy();
        let words = match first.trim().contains(char::is_whitespace) {
            true => "; it is one word with blanks in it: write program and arguments as words of their own",
            false => "",
        };
        fault(Reason::ProgramNotFound, format!("no program {first:?} in the service's PATH ({}){words}", shown(&path)))
    }))
}

/// Directories of a PATH that are named.
const SHOWN_MAX: usize = 4;

/// Each directory once, and how many more there are.
fn shown(path: &str) -> String {
    let mut each: Vec<&str> = Vec::new();
    path.split(':').for_each(|dir| {
        if !each.contains(&dir) {
            each.push(dir)
        }
    });
    match each.len().saturating_sub(SHOWN_MAX) {
        0 => each.join(", "),
        more => format!("{} and {more} more", each[..SHOWN_MAX].join(", ")),
    }
}

/// What execvp(3) uses where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

fn executable(path: &Path, eyes: &Eyes<'_>) -> Result<(), Unpreparable> {
    let shown = path.display();
    let by = eyes.user().map(|user| format!(" by {user}")).unwrap_or_default();
    match eyes.look(|| path.metadata()) {
        Ok(meta) if meta.is_dir() => {
            Err(fault(Reason::NotExecutable, format!("{shown} is a directory, not a program")))
        }
        Ok(meta) => eyes.look(|| may_execute(path)).map_err(|_| match meta.mode() & 0o111 {
            0 => fault(Reason::NotExecutable, format!("{shown} is not executable; `chmod +x {shown}` makes it so")),
            _ => fault(
                Reason::NotExecutable,
                format!("{shown} may not be executed{by}; let its user execute it, or correct `user`"),
            ),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(fault(
            Reason::PermissionDenied,
            format!("{shown} cannot be reached{by}: {error}; open the directories above it, or correct `user`"),
        )),
        Err(_) => Err(fault(Reason::ProgramNotFound, format!("there is no program {shown}"))),
    }
}

/// By whom this thread's rights on files are (access(2) alone asks for the real user).
fn may_execute(path: &Path) -> Result<(), Errno> {
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Kernels before 5.8, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => access(path, Access::EXEC_OK),
        result => result,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_path_the_first_directories_are_named_each_once() {
        assert_eq!(shown("/bin:/usr/bin:/bin"), "/bin, /usr/bin");
        assert_eq!(shown("/a:/b:/c:/d:/b:/e:/f"), "/a, /b, /c, /d and 2 more");
    }
}
