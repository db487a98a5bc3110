//! Numbers that can run out: watches, descriptors, processes.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::edge::instances_that_fit;
use crate::edge::process::stat;

/// Services that nobody is surprised to have; fewer than that is worth a line.
const SERVICES_EXPECTED: u64 = 500;
/// plugd watches its directory, the one above, and the folders that wrappers lie in.
const WATCHES_NEEDED: u64 = 16;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = Vec::from(inotify());
    findings.push(descriptors());
    findings.extend(processes());
    findings
}

fn inotify() -> [Finding; 2] {
    let (instances, watches) = inotify_used();
    // A user namespace may have less than the machine gives to each user.
    let limit = |name: &str| {
        let of = |key: String| number(&format!("/proc/sys/{}", key.replace('.', "/"))).map(|max| (key, max));
        let each = [of(format!("fs.inotify.max_user_{name}")), of(format!("user.max_inotify_{name}"))];
        each.into_iter().flatten().min_by_key(|(_, max)| *max).unwrap_or_else(|| (format!("max_user_{name}"), 0))
    };
    let judge = |(key, max): (String, u64), used: u64, needed: u64| {
        let what = format!("{key}: {used} of {max} in use by this user");
        match used + needed <= max {
            true => Finding::ok(what, "a change of the directory is seen at once"),
            false => Finding::warning(what, "the directory may have to be polled: a change is seen after up to 5 s")
                .remedy(format!("sysctl {key}={}", (max * 4).max(1024))),
        }
    };
    [judge(limit("instances"), instances, 1), judge(limit("watches"), watches, WATCHES_NEEDED)]
}

/// Instances and watches of our own user, as far as /proc shows them.
fn inotify_used() -> (u64, u64) {
    let own = rustix::process::geteuid().as_raw();
    let (mut instances, mut watches) = (0, 0);
    for pid in stat::pids().into_iter().filter(|pid| stat::uids(*pid).get(1) == Some(&own)) {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            let is_inotify = fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify");
            if is_inotify {
                let number = entry.file_name();
                let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.display())).unwrap_or_default();
                instances += 1;
                watches += info.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
            }
        }
    }
    (instances, watches)
}

fn descriptors() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    let Some(hard) = limit.maximum else {
        return Finding::ok("descriptors: unlimited", "no limit on the number of services");
    };
    let fit = instances_that_fit(hard);
    let soft = limit.current.map_or_else(|| "unlimited".to_string(), |soft| soft.to_string());
    let what = format!("descriptors: {soft}, may be raised to {hard}");
    match fit >= SERVICES_EXPECTED {
        true => {
            Finding::ok(what, format!("some {fit} instances fit; plugd raises its own limit, services keep {soft}"))
        }
        false => Finding::warning(what, format!("only some {fit} instances fit"))
            .remedy("raise the hard limit: LimitNOFILE= (systemd), --ulimit nofile= (Docker), limits.conf"),
    }
}

/// The nearest of the limits on processes; each service is at least one.
fn processes() -> Option<Finding> {
    let user = getrlimit(Resource::Nproc).maximum;
    let pid_max = number("/proc/sys/kernel/pid_max");
    let threads = number("/proc/sys/kernel/threads-max");
    let named = [("nproc of this user", user), ("kernel.pid_max", pid_max), ("kernel.threads-max", threads)];
    let (name, max) = named.into_iter().filter_map(|(name, max)| Some((name, max?))).min_by_key(|(_, max)| *max)?;
    let what = format!("processes: at most {max} ({name})");
    Some(match max >= SERVICES_EXPECTED * 4 {
        true => Finding::ok(what, "enough for services and their threads"),
        false => {
            Finding::warning(what, "services may fail to start or to make threads").remedy(format!("raise {name}"))
        }
    })
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
