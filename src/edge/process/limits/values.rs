//! What stands in a group's files for the numbers of a manifest. Pure.
//!
//! One processor is 100 of cpu.weight and 1024 of cpu.shares: what a service has that asks for nothing.

use super::Controller;
use crate::model::quantity::{show_bytes, show_millicores};
use crate::model::spec::Resources;

/// The period of a quota, in microseconds: the kernel's own.
const PERIOD: u64 = 100_000;
/// A quota is at least 1 ms; the longest period that there is makes room for a thousandth of a processor.
const LONG_PERIOD: u64 = 1_000_000;
/// PID_MAX_LIMIT of a 64 bit kernel; a limit above it is none.
const PIDS_MAX: u64 = 4 * 1024 * 1024;

/// Of cgroup v1: memory and swap together, never less than memory alone.
pub(super) const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// One file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub controller: Controller,
    pub file: &'static str,
    pub value: String,
    /// For what of the manifest it stands; none where it is what a new group has anyway.
    pub wanted: Option<String>,
    /// A kernel that does not count swap has no such file.
    pub may_lack: bool,
}

/// What the manifest asks for, in its own words, by the controller that does it.
pub(super) fn wanted(resources: &Resources) -> Vec<(Controller, String)> {
    let Resources { limits, requests, single_process_oom_kill: _ } = resources;
    let all = [
        (Controller::Cpu, limits.cpu.map(|millis| format!("limits.cpu {}", show_millicores(millis)))),
        (Controller::Memory, limits.memory.map(|bytes| format!("limits.memory {}", show_bytes(bytes)))),
        (Controller::Pids, limits.pids.map(|count| format!("limits.pids {count}"))),
        (Controller::Cpu, requests.cpu.map(|millis| format!("requests.cpu {}", show_millicores(millis)))),
        (Controller::Memory, requests.memory.map(|bytes| format!("requests.memory {}", show_bytes(bytes)))),
    ];
    all.into_iter().filter_map(|(controller, what)| Some((controller, what?))).collect()
}

/// The files of cgroup v2, in the order in which they are written.
pub(super) fn unified(resources: &Resources) -> Vec<Setting> {
    let Resources { limits, requests, single_process_oom_kill } = resources;
    let quota = limits.cpu.map(quota).map(|(quota, period)| format!("{quota} {period}"));
    let whole = limits.memory.is_some() && !single_process_oom_kill;
    let mut settings = vec![
        cpu("cpu.max", quota, "max 100000", "limits.cpu"),
        cpu("cpu.weight", requests.cpu.map(|millis| (millis / 10).clamp(1, 10_000).to_string()), "100", "requests.cpu"),
        memory("memory.max", limits.memory.map(|bytes| bytes.to_string()), "max", "limits.memory"),
        memory("memory.swap.max", limits.memory.map(|_| "0".into()), "max", "limits.memory"),
        memory("memory.low", requests.memory.map(|bytes| bytes.to_string()), "0", "requests.memory"),
        memory("memory.oom.group", whole.then(|| "1".into()), "0", "limits.memory"),
        pids(limits.pids),
    ];
    // Linux 4.19, and swap that is counted.
    for setting in settings.iter_mut().filter(|setting| matches!(setting.file, "memory.swap.max" | "memory.oom.group"))
    {
        setting.may_lack = true;
    }
    settings
}

/// The files of cgroup v1. What must not be more than another is lifted first: the quota while the period
/// changes, memory with swap while memory does.
pub(super) fn legacy(resources: &Resources) -> Vec<Setting> {
    let Resources { limits, requests, single_process_oom_kill: _ } = resources;
    let quota = limits.cpu.map(quota);
    let bytes = limits.memory.map(|bytes| bytes.to_string());
    let with_swap = |value| Setting { may_lack: true, ..memory(WITH_SWAP, value, "-1", "limits.memory") };
    vec![
        cpu("cpu.cfs_quota_us", None, "-1", "limits.cpu"),
        cpu("cpu.cfs_period_us", quota.map(|(_, period)| period.to_string()), "100000", "limits.cpu"),
        cpu("cpu.cfs_quota_us", quota.map(|(quota, _)| quota.to_string()), "-1", "limits.cpu"),
        cpu("cpu.shares", requests.cpu.map(|millis| (millis * 1024 / 1000).max(2).to_string()), "1024", "requests.cpu"),
        with_swap(None),
        memory("memory.limit_in_bytes", bytes.clone(), "-1", "limits.memory"),
        with_swap(bytes),
        pids(limits.pids),
    ]
}

/// Microseconds of processor time in a period, and the period.
fn quota(millis: u64) -> (u64, u64) {
    let period = if millis < 10 { LONG_PERIOD } else { PERIOD };
    (millis.saturating_mul(period / 1000), period)
}

fn cpu(file: &'static str, value: Option<String>, usual: &str, what: &str) -> Setting {
    setting(Controller::Cpu, file, value, usual, what)
}

fn memory(file: &'static str, value: Option<String>, usual: &str, what: &str) -> Setting {
    setting(Controller::Memory, file, value, usual, what)
}

fn pids(count: Option<u64>) -> Setting {
    let value = count.map(|count| if count > PIDS_MAX { "max".into() } else { count.to_string() });
    setting(Controller::Pids, "pids.max", value, "max", "limits.pids")
}

fn setting(controller: Controller, file: &'static str, value: Option<String>, usual: &str, what: &str) -> Setting {
    let wanted = value.is_some().then(|| what.to_string());
    Setting { controller, file, value: value.unwrap_or_else(|| usual.into()), wanted, may_lack: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Limits, Requests};

    fn of(settings: &[Setting], wanted: bool) -> Vec<(&'static str, &str)> {
        let chosen = settings.iter().filter(|setting| setting.wanted.is_some() == wanted);
        chosen.map(|setting| (setting.file, setting.value.as_str())).collect()
    }

    #[test]
    fn the_numbers_of_a_manifest_are_the_kernels() {
        let resources = Resources {
            limits: Limits { cpu: Some(500), memory: Some(64 << 20), pids: Some(64) },
            requests: Requests { cpu: Some(250), memory: Some(1 << 20) },
            single_process_oom_kill: false,
        };
        assert_eq!(
            of(&unified(&resources), true),
            [
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "25"),
                ("memory.max", "67108864"),
                ("memory.swap.max", "0"),
                ("memory.low", "1048576"),
                ("memory.oom.group", "1"),
                ("pids.max", "64"),
            ]
        );
        assert_eq!(
            of(&legacy(&resources), true),
            [
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpu.shares", "256"),
                ("memory.limit_in_bytes", "67108864"),
                ("memory.memsw.limit_in_bytes", "67108864"),
                ("pids.max", "64"),
            ]
        );
        let words: Vec<String> = wanted(&resources).into_iter().map(|(_, what)| what).collect();
        let said =
            ["limits.cpu 500m", "limits.memory 64Mi", "limits.pids 64", "requests.cpu 250m", "requests.memory 1Mi"];
        assert_eq!(words, said);
    }

    #[test]
    fn what_is_not_written_is_what_a_new_group_has() {
        let none = Resources::default();
        assert!(of(&unified(&none), true).is_empty() && of(&legacy(&none), true).is_empty());
        assert!(wanted(&none).is_empty());
        assert!(of(&unified(&none), false).contains(&("memory.max", "max")));
        let alone = Resources {
            single_process_oom_kill: true,
            limits: Limits { memory: Some(1 << 20), ..none.limits },
            ..none
        };
        assert!(of(&unified(&alone), false).contains(&("memory.oom.group", "0")));
    }

    #[test]
    fn the_smallest_and_the_largest_are_taken_by_the_kernel() {
        // At least 1 ms in a period of at most 1 s.
        assert_eq!((quota(1), quota(9), quota(10)), ((1000, 1_000_000), (9000, 1_000_000), (1000, 100_000)));
        let most = Resources {
            limits: Limits { cpu: Some(1_000_000_000), memory: Some(u64::MAX >> 1), pids: Some(u64::from(u32::MAX)) },
            requests: Requests { cpu: Some(1_000_000_000), memory: None },
            single_process_oom_kill: false,
        };
        let settings = unified(&most);
        assert!(
            of(&settings, true).contains(&("cpu.weight", "10000"))
                && of(&settings, true).contains(&("pids.max", "max"))
        );
    }
}
