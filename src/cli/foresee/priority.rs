//! Whether a process may be preferred as its manifest asks (`nice`, `oomScoreAdj`), and its port listened on for it:
//! by what the node itself has.

use rustix::process::Pid;
use serde_json::Value;

use crate::edge::process::failure::{NICE_REFUSED, OOM_SCORE_REFUSED, PORT_REFUSED};
use crate::model::capability::{NET_BIND_SERVICE, SYS_NICE, SYS_RESOURCE, Set};
use crate::model::spec::Process;

/// What the kernel asks: sched(7), proc_pid_oom_score_adj(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    capabilities: Set,
    nice: i32,
    /// RLIMIT_NICE as the lowest nice that it stands for.
    lowest: i32,
    oom_score_adj: i32,
    /// The first port that anybody may listen on.
    first_port: u16,
}

impl Standing {
    /// Of the node that runs, else of this process; none where /proc tells nothing.
    pub fn of(told: Option<&Value>) -> Option<Standing> {
        let pid = told.and_then(|told| told.pointer("/controller/pid")?.as_i64());
        let pid = pid.map_or(Some(std::process::id() as i32), |pid| i32::try_from(pid).ok())?;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let nice = rustix::process::getpriority_process(Pid::from_raw(pid)).ok()?;
        let oom_score_adj = read("oom_score_adj")?.trim().parse().ok()?;
        let (status, user_map) = (read("status")?, read("uid_map")?);
        let effective = effective(&status)?;
        let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
        Some(Standing {
            capabilities: of_the_first(effective, &user_map),
            nice,
            lowest: lowest(&read("limits")?)?,
            oom_score_adj,
            // That a network namespace belongs to a user namespace of one's own makes the capability count.
            first_port: match effective.common(NET_BIND_SERVICE).is_empty() {
                true => first.and_then(|first| first.trim().parse().ok()).unwrap_or(1024),
                false => 0,
            },
        })
    }

    /// Why its start would be refused.
    pub fn refuses(&self, process: &Process) -> Option<&'static str> {
        let lacks = |capability: Set| self.capabilities.common(capability).is_empty();
        if process.oom_score_adj.is_some_and(|wanted| wanted < self.oom_score_adj) && lacks(SYS_RESOURCE) {
            return Some(OOM_SCORE_REFUSED);
        }
        if process.on_demand.is_some() && process.port.is_some_and(|port| port < self.first_port) {
            return Some(PORT_REFUSED);
        }
        let is_below = |wanted: i32| wanted < self.nice && wanted < self.lowest;
        (process.nice.is_some_and(is_below) && lacks(SYS_NICE)).then_some(NICE_REFUSED)
    }
}

fn effective(status: &str) -> Option<Set> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok().map(Set)
}

/// Those of a user namespace of one's own do not count: capable(9) asks for the first one's.
fn of_the_first(effective: Set, user_map: &str) -> Set {
    let is_first = user_map.split_whitespace().eq(["0", "0", "4294967295"]);
    if is_first { effective } else { Set::default() }
}

/// Of a limit from 1 to 40, which stands for 19 down to -20.
fn lowest(limits: &str) -> Option<i32> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max nice priority"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(i32::MIN),
        soft => Some(20 - soft.parse::<i32>().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::spec;
    use crate::model::spec::Pass;

    #[test]
    fn what_is_preferred_to_plugd_needs_a_capability_or_for_nice_a_limit() {
        let own = Standing { capabilities: Set::default(), nice: 0, lowest: 20, oom_score_adj: 0, first_port: 1024 };
        let refused = |own: Standing, nice: Option<i32>, oom_score_adj: Option<i32>| {
            own.refuses(&Process { nice, oom_score_adj, ..spec("web").process.clone() })
        };
        assert_eq!(refused(own, Some(-5), None), Some(NICE_REFUSED));
        assert_eq!(refused(own, None, Some(-100)), Some(OOM_SCORE_REFUSED));
        assert_eq!(refused(own, Some(0), Some(0)), None, "as it is");
        assert_eq!(refused(own, Some(5), Some(100)), None);
        assert_eq!(refused(Standing { nice: 10, ..own }, Some(5), None), Some(NICE_REFUSED), "below its own");
        assert_eq!(refused(Standing { oom_score_adj: 200, ..own }, None, Some(100)), Some(OOM_SCORE_REFUSED));
        assert_eq!(refused(Standing { lowest: -5, ..own }, Some(-5), None), None);
        assert_eq!(refused(Standing { lowest: -5, ..own }, Some(-6), None), Some(NICE_REFUSED));
        let root = Standing { capabilities: SYS_NICE.with(SYS_RESOURCE), ..own };
        assert_eq!(refused(root, Some(-20), Some(-1000)), None);
    }

    #[test]
    fn a_port_that_plugd_is_to_listen_on_is_one_that_it_may_listen_on() {
        let of =
            |first_port| Standing { capabilities: Set::default(), nice: 0, lowest: 20, oom_score_adj: 0, first_port };
        let process = |port, on_demand| Process { port: Some(port), on_demand, ..spec("web").process.clone() };
        assert_eq!(of(1024).refuses(&process(82, Some(Pass::Proxy))), Some(PORT_REFUSED));
        assert_eq!(of(1024).refuses(&process(1024, Some(Pass::Proxy))), None);
        assert_eq!(of(1024).refuses(&process(82, None)), None, "it may be given the capability itself");
        assert_eq!(of(0).refuses(&process(82, Some(Pass::Socket))), None);
    }

    #[test]
    fn proc_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tplugd\nCapEff:\t0000000000800000\n";
        assert_eq!(effective(status), Some(SYS_NICE));
        assert_eq!(of_the_first(SYS_NICE, "         0          0 4294967295\n"), SYS_NICE);
        assert_eq!(of_the_first(SYS_NICE, "         0       1000          1\n"), Set::default());
        assert_eq!(lowest("Max nice priority         0                    0                    \n"), Some(20));
        assert_eq!(lowest("Max nice priority         25                   40                   \n"), Some(-5));
        assert_eq!(lowest("Max nice priority         unlimited            unlimited            \n"), Some(i32::MIN));
        assert!(Standing::of(None).is_some());
    }
}
