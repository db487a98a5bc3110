//! Where plugd would live: places, container, user, terminal.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{Finding, is_utf8};
use crate::edge::process::stat;

pub(super) fn findings(can_kill_by_cgroup: bool) -> Vec<Finding> {
    let run = first_writable(&run_places());
    let memory = first_writable(&state_places("/var/lib"));
    let logs = first_writable(&state_places("/var/log"));
    let mut findings = vec![
        place("memory", memory.as_deref(), "restart counts and history are forgotten with the keeper", "--state-dir"),
        place("logs", logs.as_deref(), "services' output is kept nowhere", "--log-dir"),
        place("run files", run.as_deref(), "plugd status and the like cannot reach a running plugd", "--run-dir"),
        strays(can_kill_by_cgroup, run.as_deref()),
        first_process(),
        container(),
    ];
    findings.extend(privileges());
    findings.push(terminal());
    findings
}

fn place(what: &str, found: Option<&Path>, without: &str, option: &str) -> Finding {
    match found {
        Some(path) => Finding::ok(format!("{what}: {}", path.display()), "can be written"),
        None => Finding::warning(format!("{what}: no place can be written"), without)
            .remedy(format!("name a directory with {option}, or mount a volume or tmpfs there")),
    }
}

/// A keeper that is not PID 1 may be killed; can what it leaves be found again?
fn strays(can_kill_by_cgroup: bool, run: Option<&Path>) -> Finding {
    match (can_kill_by_cgroup, run) {
        (true, _) => Finding::ok("a killed keeper leaves no strays", "the next plugd finds the rest by its cgroups"),
        (false, Some(_)) => Finding::ok(
            "a killed keeper leaves no strays",
            "the next plugd finds the rest by the table of lives in the run directory",
        ),
        (false, None) => Finding::warning(
            "a killed keeper may leave strays",
            "with neither a cgroup nor a run directory the next plugd cannot tell what the last one left",
        )
        .remedy("give it one of the two; --run-dir DIR on a tmpfs is enough"),
    }
}

fn first_process() -> Finding {
    let name = stat::command(1).unwrap_or_else(|| "hidden".into());
    match (std::process::id(), name.as_str()) {
        (1, _) | (_, "plugd") => Finding::ok(
            "plugd is PID 1",
            "it reaps every orphan, ends within 8 s at TERM, and ends the container when a required service is lost",
        ),
        _ => Finding::ok(
            format!("PID 1 is {name}"),
            "the keeper adopts its services' orphans itself; stops have no common time limit",
        ),
    }
}

fn container() -> Finding {
    let marks = [("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")];
    let marked = marks.into_iter().find(|(path, _)| Path::new(path).exists()).map(|(_, name)| name.to_string());
    let kubernetes = std::env::var("KUBERNETES_SERVICE_HOST").is_ok().then(|| "Kubernetes".to_string());
    let told = std::env::var("container").ok().filter(|name| !name.is_empty());
    match kubernetes.or(marked).or(told) {
        Some(name) => Finding::ok(
            format!("in a container ({})", stat::printable(name.as_bytes())),
            "the working directory of services is the image's WORKDIR",
        ),
        None => Finding::ok("not in a container", "as far as this machine tells"),
    }
}

fn privileges() -> Vec<Finding> {
    let advice = "put `allowPrivilegeEscalation: false` in services.d/_defaults.yaml, and allow it where sudo, \
                  ping or file capabilities are needed";
    let escalation = Finding::note(
        "services may gain privileges by setuid programs",
        "Kubernetes' default: allowPrivilegeEscalation is true, for MCP servers false",
    )
    .remedy(advice);
    match rustix::process::geteuid().is_root() {
        true => vec![
            Finding::note("plugd runs as root", "services without `user:` run as root too")
                .remedy("write `user:` in manifests, or refuse those without it with --require-user"),
            escalation,
        ],
        false => vec![
            Finding::ok("plugd runs without root", "services run as this user; `user:` cannot name another"),
            escalation,
        ],
    }
}

fn terminal() -> Finding {
    let tty = rustix::termios::isatty(std::io::stdout());
    let term = std::env::var("TERM").unwrap_or_default();
    let utf8 = is_utf8();
    let what = match tty {
        true => format!("terminal: {}", if term.is_empty() { "TERM is not set" } else { &term }),
        false => "output goes to no terminal".to_string(),
    };
    match (tty, utf8) {
        (_, false) => {
            Finding::note(what, "the locale is not UTF-8: indicators are shown in ASCII").remedy("set LANG=C.UTF-8")
        }
        (true, true) => Finding::ok(stat::printable(what.as_bytes()), "the locale is UTF-8"),
        (false, true) => Finding::ok(what, "the locale is UTF-8; colours are off"),
    }
}

/// The places of interfaces, "State, socket, logs", without a node's key.
fn state_places(system: &str) -> Vec<PathBuf> {
    let root = rustix::process::geteuid().is_root().then(|| PathBuf::from(system));
    let own = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    root.into_iter().chain(own).map(|path| path.join("plugd")).collect()
}

fn run_places() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid();
    let root = uid.is_root().then(|| PathBuf::from("/run/plugd"));
    let own = variable("XDG_RUNTIME_DIR").map(|path| path.join("plugd"));
    let shared = ["/tmp", "/dev/shm"].map(|path| Path::new(path).join(format!("plugd-{}", uid.as_raw())));
    root.into_iter().chain(own).chain(shared).collect()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var(name).ok().map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A place that is there and can be written, or could be made: its nearest folder above can be.
fn first_writable(places: &[PathBuf]) -> Option<PathBuf> {
    let writable = |place: &&PathBuf| {
        let there = place.ancestors().find(|path| path.exists());
        there.is_some_and(|path| path.is_dir() && rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok())
    };
    places.iter().find(writable).cloned()
}
