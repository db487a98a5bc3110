//! What trees of processes use of the machine: one pass over /proc for all of them.
//!
//! For showing only: a tree is what descends from a main process now, so what has left it is not
//! counted; and a pid that is somebody else's by now counts for nobody but the one who looks.

use std::collections::HashMap;
use std::io::Read;

use super::stat::pids;

/// Of one tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Clock ticks of processor time since its start, children that ended included.
    pub ticks: u64,
    /// Resident memory, in bytes; pages that several share count for each.
    pub resident: u64,
}

/// One line of /proc/PID/stat is some 350 bytes.
const STAT_MAX: usize = 1024;
/// Ancestors that are looked through; a deeper tree is none that a person started.
const DEPTH_MAX: usize = 256;

/// The usage of the tree below each of these processes; none where it is not there.
pub fn of_trees(roots: &[i32]) -> HashMap<i32, Usage> {
    let found = pids().into_iter().filter_map(|pid| read(pid).map(|one| (pid, one)));
    sum(roots, &found.collect())
}

/// Clock ticks of a second.
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct One {
    parent: i32,
    ticks: u64,
    pages: u64,
}

fn sum(roots: &[i32], processes: &HashMap<i32, One>) -> HashMap<i32, Usage> {
    let page = rustix::param::page_size() as u64;
    let mut trees: HashMap<i32, Usage> =
        roots.iter().filter(|pid| processes.contains_key(pid)).map(|pid| (*pid, Usage::default())).collect();
    for (pid, one) in processes {
        // The nearest root above it: a service may run another plugd.
        let above = std::iter::successors(Some(*pid), |pid| processes.get(pid).map(|one| one.parent));
        let root = above.take(DEPTH_MAX).find(|pid| trees.contains_key(pid));
        if let Some(tree) = root.and_then(|root| trees.get_mut(&root)) {
            tree.ticks = tree.ticks.saturating_add(one.ticks);
            tree.resident = tree.resident.saturating_add(one.pages.saturating_mul(page));
        }
    }
    trees
}

fn read(pid: i32) -> Option<One> {
    let mut bytes = [0; STAT_MAX];
    let length = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut bytes).ok()?;
    parse(&bytes[..length])
}

/// Fields 4 (parent), 14 to 17 (times) and 24 (resident pages) of proc_pid_stat(5), counted from the last bracket.
fn parse(bytes: &[u8]) -> Option<One> {
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let fields: Vec<&str> = std::str::from_utf8(&bytes[close + 1..]).ok()?.split_ascii_whitespace().take(22).collect();
    // The first of them is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok().map(|number| number.max(0) as u64);
    let ticks = [14, 15, 16, 17].into_iter().map(number).sum::<Option<u64>>()?;
    Some(One { parent: i32::try_from(number(4)?).ok()?, ticks, pages: number(24)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_from_its_last_bracket_on() {
        let line = b"77 (a) R 1 (\n) S 4 5 6 0 -1 0 0 0 0 0 10 20 3 4 20 0 3 0 991 1000 25 1\n";
        assert_eq!(parse(line), Some(One { parent: 4, ticks: 37, pages: 25 }));
        for line in [&b""[..], b")", b"1 (x) S 1 2 3", b"(\xff) S"] {
            assert_eq!(parse(line), None);
        }
    }

    #[test]
    fn each_process_counts_for_the_nearest_root_above_it() {
        let one = |parent| One { parent, ticks: 1, pages: 1 };
        // 1 ─ 2 ─ 3 ─ 4, 3 ─ 5; 9 is its own parent, which no kernel says.
        let processes = HashMap::from([(1, one(0)), (2, one(1)), (3, one(2)), (4, one(3)), (5, one(3)), (9, one(9))]);
        let trees = sum(&[2, 3, 77], &processes);
        let ticks = |pid| trees.get(&pid).map(|tree| tree.ticks);
        assert_eq!((ticks(2), ticks(3), ticks(77)), (Some(1), Some(3), None));
    }

    #[test]
    fn this_process_uses_memory() {
        let own = std::process::id() as i32;
        assert!(of_trees(&[own]).get(&own).is_some_and(|usage| usage.resident > 0));
        assert!(ticks_per_second() > 0);
    }
}
