//! `plugd exec NAME -- CMD`: CMD in our terminal, with the environment, working directory, user and
//! privileges of the running instance, as an exec probe has them.
//!
//! What the instance has is taken from its process (`/proc/PID`), not computed a second time: what
//! one sees is what the service saw at its start. Its cgroup and limits are not taken over. Of its
//! privileges whoever calls takes on what he may.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Gid, Pid, Uid, getpriority_process, setpriority_process};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
};

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
    let path = process.join("status");
    let status = std::fs::read_to_string(&path).map_err(|error| Fault::path("read", path.clone(), error))?;
    let ranks = Ranks::of(&process, pid, &status);
    let privileges =
        Privileges::of(&status).ok_or_else(|| Fault::path("read", path, io::ErrorKind::InvalidData.into()))?;
    ranks.take();
    if rustix::process::geteuid().is_root() {
        privileges.shrink_bounding();
        become_user_of(&process, &status)?;
        privileges.take();
    }
    if privileges.none_new {
        let _ = rustix::thread::set_no_new_privs(true);
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

fn become_user_of(process: &Path, status: &str) -> Result<(), Fault> {
    let unread = || Fault::path("read", process.join("status"), io::ErrorKind::InvalidData.into());
    let ids = ids(status).ok_or_else(unread)?;
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
    let effective = |key: &str| field(status, key)?.split_whitespace().nth(1)?.parse().ok();
    let groups = field(status, "Groups")?.split_whitespace().map(|id| id.parse().ok()).collect::<Option<_>>()?;
    Some(Ids { uid: effective("Uid")?, gid: effective("Gid")?, groups })
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    Some(status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim())
}

/// What a process stands with among others; less than our own not everybody may take on.
#[derive(Debug)]
struct Ranks {
    umask: Option<Mode>,
    nice: Option<i32>,
    oom_score: Option<String>,
}

impl Ranks {
    fn of(process: &Path, pid: i32, status: &str) -> Ranks {
        Ranks {
            // Kernels before 4.7 do not tell it.
            umask: field(status, "Umask").and_then(|text| u32::from_str_radix(text, 8).ok()).map(Mode::from_raw_mode),
            nice: getpriority_process(Pid::from_raw(pid)).ok(),
            oom_score: std::fs::read_to_string(process.join("oom_score_adj")).ok(),
        }
    }

    fn take(self) {
        self.umask.map(rustix::process::umask);
        let _ = self.nice.map(|nice| setpriority_process(None, nice));
        let _ = self.oom_score.map(|score| std::fs::write("/proc/self/oom_score_adj", score));
    }
}

/// What a process may do beside what its user may.
#[derive(Debug, PartialEq, Eq)]
struct Privileges {
    bounding: CapabilitySet,
    ambient: CapabilitySet,
    none_new: bool,
}

impl Privileges {
    fn of(status: &str) -> Option<Privileges> {
        let set = |key| match field(status, key) {
            Some(bits) => u64::from_str_radix(bits, 16).ok().map(CapabilitySet::from_bits_retain).map(Some),
            None => Some(None),
        };
        // Not every kernel tells all of them: what is not told is left as it is.
        let none_new = field(status, "NoNewPrivs") == Some("1");
        let (bounding, ambient) = (set("CapBnd")?, set("CapAmb")?);
        Some(Privileges {
            bounding: bounding.unwrap_or(CapabilitySet::all()),
            ambient: ambient.unwrap_or(CapabilitySet::empty()),
            none_new,
        })
    }

    /// While we are root, who alone may.
    fn shrink_bounding(&self) {
        // The kernel knows none beyond the first that it refuses.
        for one in each(!self.bounding.bits()).take_while(|one| capability_is_in_bounding_set(*one).is_ok()) {
            let _ = remove_capability_from_bounding_set(one);
        }
        // What it holds is to outlast the change of user.
        let _ = set_keep_capabilities(true);
    }

    /// Once we are its user: root has by his exec what is in the bounding set, another what is ambient.
    fn take(&self) {
        let Ok(own) = capabilities(None) else { return };
        let ambient = self.ambient & own.permitted;
        let permitted = if rustix::process::geteuid().is_root() { own.permitted } else { ambient };
        let _ = set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable: ambient });
        let _ = clear_ambient_capability_set();
        for one in each(ambient.bits()) {
            let _ = configure_capability_in_ambient_set(one, true);
        }
    }
}

/// One by one, from the lowest.
fn each(bits: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|number| 1u64 << number).filter(move |bit| bits & bit != 0).map(CapabilitySet::from_bits_retain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_read_as_the_kernel_writes_them() {
        let status = "Umask:\t0027\nCapBnd:\t0000000000000400\nCapAmb:\t0000000000000400\nNoNewPrivs:\t1\n";
        let bind = CapabilitySet::NET_BIND_SERVICE;
        assert_eq!(Privileges::of(status), Some(Privileges { bounding: bind, ambient: bind, none_new: true }));
        let untold = Privileges { bounding: CapabilitySet::all(), ambient: CapabilitySet::empty(), none_new: false };
        assert_eq!(Privileges::of("Umask:\t0027\n"), Some(untold), "as some kernels that are none tell it");
        assert_eq!(Privileges::of("CapBnd:\tall of them\n"), None);
    }

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
