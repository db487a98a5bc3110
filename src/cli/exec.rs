//! `plugd exec NAME -- CMD`: CMD in our terminal, with the environment, working directory and user
//! of the running instance.
//!
//! What the instance has is taken from its process (`/proc/PID`), not computed a second time: what
//! one sees is what the service saw at its start. Its cgroup and limits are not taken over.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Gid, Uid};

use super::args::ExecArgs;
use super::fault::{Code, Fault};
use super::{Session, row, select};

pub fn exec(args: &ExecArgs, session: &Session) -> Result<Code, Fault> {
    let snapshot = session.node()?.snapshot_with(std::slice::from_ref(&args.name))?;
    let (view, instance) = select::find_instance(&snapshot, &args.name)?;
    let running = view.instances.iter().filter_map(|one| Some((&one.name, one.pid?)));
    let wanted = running.into_iter().find(|(name, _)| match instance {
        Some(index) => **name == args.name || (index == 0 && **name == view.service.as_str()),
        None => true,
    });
    let Some((_, pid)) = wanted else {
        return Err(Fault::NotReady { service: view.service.to_string(), status: row::word(view.status, view.reason) });
    };
    let Some((program, words)) = args.command.split_first() else {
        return Err(Fault::usage("no command is given", "write it as `plugd exec NAME -- CMD`"));
    };
    let process = Path::new("/proc").join(pid.to_string());
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(environment(&process)?);
    // Before the user: a process that holds capabilities is not open to its own user without them.
    let there = process.join("cwd");
    std::env::set_current_dir(&there).map_err(|error| {
        let shown = std::fs::read_link(&there).unwrap_or(there);
        Fault::path("enter the working directory of the service", shown, error)
    })?;
    if rustix::process::geteuid().is_root() {
        become_user_of(&process)?;
    }
    // Only comes back where it failed.
    let error = command.exec();
    Ok(match error.kind() {
        io::ErrorKind::NotFound => {
            super::say(&format!("{} is not found in the PATH of {}", program.display(), view.service));
            Code::Other(127)
        }
        _ => {
            super::say(&format!("{} cannot be run: {error}", program.display()));
            Code::Other(126)
        }
    })
}

/// `/proc/PID/environ`: as the process was started, NUL between the entries.
fn environment(process: &Path) -> Result<Vec<(OsString, OsString)>, Fault> {
    let path = process.join("environ");
    let bytes = std::fs::read(&path).map_err(|error| Fault::path("read", path, error))?;
    Ok(bytes.split(|byte| *byte == 0).filter_map(entry).collect())
}

fn entry(bytes: &[u8]) -> Option<(OsString, OsString)> {
    let equals = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((OsString::from_vec(bytes[..equals].to_vec()), OsStr::from_bytes(&bytes[equals + 1..]).to_os_string()))
}

/// The ids of a process, from its status file.
#[derive(Debug, PartialEq, Eq)]
struct Ids {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

fn become_user_of(process: &Path) -> Result<(), Fault> {
    let path = process.join("status");
    let text = std::fs::read_to_string(&path).map_err(|error| Fault::path("read", path.clone(), error))?;
    let ids = ids(&text).ok_or_else(|| Fault::path("read", path, io::ErrorKind::InvalidData.into()))?;
    let groups: Vec<Gid> = ids.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    // Of this thread only, which is the one that becomes the command; groups first, for the user may
    // not change them any more.
    let changed = rustix::thread::set_thread_groups(&groups)
        .and_then(|()| rustix::thread::set_thread_gid(Gid::from_raw(ids.gid)))
        .and_then(|()| rustix::thread::set_thread_uid(Uid::from_raw(ids.uid)));
    changed.map_err(|error| Fault::path("take the user of", PathBuf::from(process), error.into()))
}

/// The effective ids: `Uid: real effective saved filesystem`.
fn ids(status: &str) -> Option<Ids> {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let effective = |key: &str| field(key)?.split_whitespace().nth(1)?.parse().ok();
    let groups = field("Groups")?.split_whitespace().map(|id| id.parse().ok()).collect::<Option<_>>()?;
    Some(Ids { uid: effective("Uid")?, gid: effective("Gid")?, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_environment_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nUid:\t0\t1000\t0\t0\nGid:\t0\t100\t0\t0\nGroups:\t4 24 \n";
        assert_eq!(ids(status), Some(Ids { uid: 1000, gid: 100, groups: vec![4, 24] }));
        assert_eq!(ids("Name:\tx\n"), None);
        assert_eq!(entry(b"A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(entry(b""), None);
        assert_eq!(entry(b"=x"), None);
    }
}
