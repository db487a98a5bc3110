//! What the kernel offers, and how far a stop reaches.

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::Finding;
use crate::edge::probe::Sockets;
use crate::edge::process::cgroup::CgroupRoot;
use crate::edge::process::limits::Limits;
use crate::edge::process::raw;
use crate::model::name::Instance;

/// Each kernel feature that something of plugd's rests on.
pub(super) fn features() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = version(&release);
    let mut findings = Vec::new();
    findings.push(match version >= (5, 4) {
        true => Finding::ok(format!("Linux {release}"), "new enough (5.4 or later)"),
        false => Finding::warning(format!("Linux {release}"), "older than what plugd is tested on")
            .remedy("use Linux 5.4 or later"),
    });
    findings.push(match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::ok("pidfds work", "a signal never reaches a process that has taken over a pid"),
        Err(errno) => Finding::warning(format!("pidfd_open is refused ({errno})"), "plugd cannot watch its services")
            .remedy("allow pidfd_open and pidfd_send_signal in the seccomp profile"),
    });
    findings.push(match raw::clone3_answers() {
        true => Finding::ok("clone3 works", "a service starts with one call, and in its own cgroup where it gets one"),
        false => Finding::note(
            "clone3 is refused",
            "plain fork is used; a service enters its cgroup a moment after its start",
        )
        .remedy("allow clone3 in the seccomp profile"),
    });
    findings.push(match version >= (6, 15) {
        true => Finding::ok("pidfds tell exits", "an exit status can be read even after somebody else has reaped it"),
        false => Finding::note(
            "pidfds do not tell exits (Linux 6.15)",
            "nothing is lost: the keeper reaps its own; only a killed keeper's services end unseen",
        ),
    });
    findings.push(match Sockets::answers() {
        true => Finding::ok("sock_diag works", "probes see who holds a port before they connect"),
        false => Finding::note("sock_diag is refused", "probes read /proc/net/tcp instead, which is slower"),
    });
    findings
}

/// Make a cgroup for a moment: nothing else tells.
pub(super) fn kill_scope() -> Finding {
    let key = format!("doctor-{}", std::process::id());
    let what_is_missed = "killScope: session; a daemon that leaves its session and clears its environment, or \
                          forks itself anew all the time, may outlive a stop";
    let remedy = "give plugd a writable cgroup v2 (systemd: Delegate=yes; Docker 28: --cgroupns=private \
                  --security-opt writable-cgroups=true), or set stop.killScope: Tree for services that daemonize";
    let root = match CgroupRoot::find(&key) {
        Ok(root) => root,
        Err(error) => return Finding::warning(format!("{error}"), what_is_missed).remedy(remedy),
    };
    let instance = Instance::parse("doctor/0").expect("a valid name");
    let made = root.create(&instance);
    let kills = root.group(&instance).path().join("cgroup.kill").exists();
    root.remove();
    match made {
        Err(error) => Finding::warning(format!("a cgroup cannot be made: {error}"), what_is_missed).remedy(remedy),
        Ok(_) if kills => Finding::ok(
            format!("cgroup v2 is writable at {}", root.path().parent().unwrap_or(root.path()).display()),
            "killScope: cgroup; a stop ends every process of a service, wherever it went",
        ),
        Ok(_) => Finding::note(
            "cgroup v2 is writable, without cgroup.kill (Linux 5.14)",
            "killScope: cgroup; a stop ends every process of a service, one that forks fast takes some passes",
        ),
    }
}

/// What of `resources` can be kept here.
pub(super) fn limits() -> Vec<Finding> {
    let key = format!("doctor-{}", std::process::id());
    let mut limits = Limits::new(CgroupRoot::find(&key), key, getpid().as_raw_nonzero().get());
    let prospects = limits.prospects();
    limits.close();
    let mut found: Vec<(Result<&'static str, String>, Vec<&'static str>)> = Vec::new();
    for (what, how) in prospects {
        match found.iter_mut().find(|(known, _)| *known == how) {
            Some((_, all)) => all.push(what),
            None => found.push((how, vec![what])),
        }
    }
    let finding = |(how, what): (Result<&'static str, String>, Vec<&'static str>)| {
        let what = what.join(", ");
        match how {
            Ok(by) => Finding::ok(
                format!("resources: {what} are limited by {by}"),
                "a service that uses more memory than its limit is OOMKilled, others do not notice; a limit that is \
                 lowered below what is in use comes into force once there is room, or by `plugd restart NAME`",
            ),
            Err(why) => Finding::warning(
                format!("resources: {what} cannot be limited from here: {why}"),
                "services run without these limits, and say so (LimitsNotApplied)",
            )
            .remedy(
                "systemd: Delegate=yes in plugd's unit, or `systemd-run --scope -p Delegate=yes plugd run DIR`; Docker 28: \
                 --cgroupns=private --security-opt writable-cgroups=true; Podman: --security-opt unmask=/sys/fs/cgroup; \
                 or limit the container as a whole",
            ),
        }
    };
    found.into_iter().map(finding).collect()
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_whatever_a_vendor_hangs_on_them() {
        assert_eq!(version("6.18.44-fc-v669"), (6, 18));
        assert_eq!(version("5.4.0-1.el7"), (5, 4));
        assert_eq!(version("6"), (6, 0));
        assert_eq!(version("next"), (0, 0));
    }
}
