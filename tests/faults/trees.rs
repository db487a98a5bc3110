//! Random trees of processes: sessions left, parents gone, signals ignored. A stop leaves nothing.

use std::fs;
use std::time::{Duration, Instant};

use crate::oracle::Oracle;
use crate::reads::Dice;
use crate::soak::times;
use crate::world::{World, lives};

/// A shell text that forks down to `depth`, each process in its own way, and each saying its pid.
fn tree(dice: &mut Dice, depth: usize, pids: &str) -> String {
    let mut text = format!("echo $$ >> {pids}; ");
    if dice.below(3) == 0 {
        text += "trap \"\" TERM HUP INT; ";
    }
    for _ in 0..if depth == 0 { 0 } else { 1 + dice.below(3) } {
        let below = tree(dice, depth - 1, pids).replace('\'', "'\\''");
        text += &match dice.below(5) {
            0 => format!("setsid sh -c '{below}' & "),
            1 => format!("(sh -c '{below}' &) ; "),
            2 => format!("nohup sh -c '{below}' >/dev/null 2>&1 & "),
            3 => format!("(setsid sh -c '{below}' >/dev/null 2>&1 &) ; "),
            _ => format!("sh -c '{below}' & "),
        };
    }
    // The inner ones may end before those that they made; the leader stays.
    text + match dice.below(4) {
        0 if depth < 3 => "sleep 0.05; exit 0",
        1 => "exec sleep 86400",
        _ => "while :; do sleep 1; done",
    }
}

#[test]
fn fifty_random_trees_are_stopped_and_nothing_is_left() {
    let world = World::running();
    let oracle = Oracle::watch(&world.dir());
    let mut dice = Dice(5);
    const GRACE: Duration = Duration::from_millis(500);
    /// What a stop may take beyond its grace, of each of those that are stopped at once: a second, and what a
    /// machine takes for it that others use, too.
    const BEYOND_MAX: Duration = Duration::from_secs(6);
    let mut worst = Duration::ZERO;
    const AT_ONCE: usize = 5;
    for round in 0..times(50) / AT_ONCE {
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("tree{round}-{n}")).collect();
        for name in &names {
            let pids = world.root().join(format!("{name}.pids")).display().to_string();
            let text = tree(&mut dice, 3, &pids);
            world.put(
                &format!("{name}.yaml"),
                &format!("stop: {{gracePeriod: 500ms}}\nrestart: Never\nscript: |\n  {text}\n"),
            );
        }
        let known = |name: &str| -> Vec<i32> {
            let text = fs::read_to_string(world.root().join(format!("{name}.pids"))).unwrap_or_default();
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        // With its status: one that is not there yet would be taken for one that has been taken away.
        let begun = |name: &str| !known(name).is_empty() && world.status_file(name).is_some();
        names.iter().for_each(|name| world.wait(&format!("{name} to begin"), |_| begun(name)));
        // Some are stopped fully grown, some while they grow.
        std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
        let asked = Instant::now();
        names.iter().for_each(|name| world.remove(&format!("{name}.yaml")));
        for name in &names {
            world.wait(&format!("the end of {name}"), |world| world.status_file(name).is_none());
            let left: Vec<i32> = known(name).into_iter().filter(|pid| lives(*pid)).collect();
            assert!(left.is_empty(), "{name} left {left:?} of {:?}", known(name));
        }
        worst = worst.max(asked.elapsed());
        assert!(worst < GRACE + BEYOND_MAX, "{worst:?}");
    }
    eprintln!("    {} trees, the last of {AT_ONCE} gone after {worst:?} at most", times(50));
    oracle.assert_no_lie();
}
