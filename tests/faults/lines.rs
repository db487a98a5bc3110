//! A million lines through rotation and through killed controllers: each once, and in order.

use std::fs;
use std::time::{Duration, Instant};

use crate::oracle::Oracle;
use crate::soak::times;
use crate::world::{World, kill, lives};

#[test]
fn a_million_lines_outlive_rotations_and_killed_controllers() {
    const WRITERS: usize = 4;
    let each = times(1_000_000) / WRITERS;
    let world = World::running();
    let oracle = Oracle::watch(&world.dir());
    for n in 0..WRITERS {
        // In bursts, so that it lasts over several kills: the next is waited for before every eighth. The pipe is full
        // much of the time.
        world.put(
            &format!("w{n}.yaml"),
            &format!(
                concat!(
                    "restart: Never\nlogs: {{maxSize: 256Ki, maxFiles: 1000, tee: false}}\nscript: |\n",
                    "  i=0; while [ $i -lt {0} ]; do\n",
                    "    seq -f 'line %010.0f' $((i + 1)) $((i + 5000)); i=$((i + 5000)); sleep 0.05\n",
                    "    [ $((i % 40000)) != 0 ] || while [ ! -e {1}/killed$((i / 40000)) ]; do sleep 0.02; done\n",
                    "  done\n"
                ),
                each,
                world.root().display()
            ),
        );
    }
    let began = Instant::now();
    let mut killed = 0;
    let over = |name: &str| matches!(world.status(name).as_str(), "completed");
    while !(0..WRITERS).all(|n| over(&format!("w{n}"))) {
        assert!(began.elapsed() < Duration::from_secs(120) * times(1) as u32, "after {killed} kills\n{}", world.log());
        std::thread::sleep(Duration::from_millis(330));
        if let Some(pid) = world.controller_pid().filter(|pid| lives(*pid)) {
            kill(pid, 9);
            killed += 1;
            fs::write(world.root().join(format!("killed{killed}")), "").expect("written");
        }
        world.wait("the next controller", |world| world.controller_pid().is_some_and(lives));
    }
    eprintln!("    {} lines, {killed} controllers killed, {:?}", each * WRITERS, began.elapsed());
    oracle.assert_no_lie();
    assert!(killed >= 6, "too few kills to show anything");
    for n in 0..WRITERS {
        let log = world.state().join(format!("logs/w{n}.log"));
        let last = format!("line {each:010}\n");
        world.wait("the last line", |_| fs::read(&log).is_ok_and(|bytes| bytes.ends_with(last.as_bytes())));
        let mut files: Vec<_> =
            (1..).map(|k| log.with_extension(format!("log.{k}"))).take_while(|path| path.exists()).collect();
        assert!(files.len() > 5, "it was rotated");
        files.reverse();
        files.push(log);
        let mut next = 0;
        for path in files {
            let text = fs::read_to_string(&path).expect("readable");
            for line in text.lines() {
                next += 1;
                assert_eq!(line, format!("line {next:010}"), "in {}", path.display());
            }
        }
        assert_eq!(next, each, "w{n}");
    }
}
