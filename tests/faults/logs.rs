//! Output without end, without lines, without a reader.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::until;
use crate::soak::times;
use crate::world::{World, command, kill};

fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn row_34_output_without_a_newline_is_stored_as_it_is_and_shown_cut() {
    let world = World::running();
    guard::put(&world, "calm");
    let controller = world.controller_pid().expect("a controller");
    let before = resident(controller);
    let size = times(64) << 20;
    world.put(
        "flat.yaml",
        &format!(
            "script: |\n  head -c {size} /dev/zero | tr '\\0' x\n  echo; echo the end; exec sleep 86400\nlogs: {{maxSize: {}Mi, maxFiles: 3}}\nreadinessProbe: {{logLine: the end}}\n",
            times(200)
        ),
    );
    world.wait_status("flat", "healthy");
    let log = world.state().join("logs/flat.log");
    until("all of it", || fs::metadata(&log).is_ok_and(|meta| meta.len() as usize == size + "\nthe end\n".len()));
    let grown = resident(controller).saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB of memory for one line");
    let shown = world.ask(&["logs", "flat", "--tail", "2"]);
    assert!(shown.len() < 80 << 10, "{} bytes shown", shown.len());
    assert!(
        shown.contains("the end") && shown.lines().next().is_some_and(|line| line.len() > 60_000),
        "cut, not left out"
    );
    let first = shown.lines().next().unwrap_or_default();
    assert!(first.ends_with("bytes left out)"), "the cut is marked");
}

#[test]
fn row_35_and_75_hostile_output_is_stored_raw_and_shown_harmless_everywhere() {
    let world = World::running();
    let hostile = "\\000nul \\377\\376bad \\033[31mred \\033]0;title\\007 \\033]52;c;eA==\\007 <script>alert(1)</script> a: {b: [c\\r\\n\\302\\233csi \\342\\200\\256rtl";
    world.put(
        "evil.yaml",
        &format!("script: |\n  printf '{hostile}\\n'; printf '{hostile}\\n' >&2; sleep 0.2; exit 3\nrestart: {{backoff: {{initial: 100ms, max: 100ms}}}}\n"),
    );
    // It begins again soon: one text must say all of it.
    let sick = std::cell::RefCell::new(String::new());
    world.wait("its crash loop to be told", |world| {
        sick.replace(world.status_file("evil").unwrap_or_default());
        let text = sick.borrow();
        text.contains("\nstatus: unhealthy\n") && text.contains("CrashLoopBackOff") && text.contains("nul")
    });
    let raw = fs::read(world.state().join("logs/evil.log")).expect("a log");
    assert!(raw.starts_with(b"\0nul \xff\xfebad \x1b[31mred "), "stored as it came");
    let mut shown = vec![sick.into_inner(), world.node_status().expect("a status")];
    for words in [
        &["logs", "evil"][..],
        &["logs", "evil", "-t"],
        &["status", "evil"],
        &["get", "evil"],
        &["get", "evil", "-o", "yaml"],
        &["get", "evil", "-o", "json"],
        &["get", "evil", "-o", "wide"],
        &["events", "evil"],
    ] {
        let output = world.plugd(words);
        shown.push(
            String::from_utf8(output.stdout).unwrap_or_else(|_| panic!("{words:?} shows bytes that are no text")),
        );
    }
    // For programs all of it stays, in the way of JSON.
    for line in world.ask(&["logs", "evil", "-o", "json"]).lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("each line is an object");
        assert!(!line.bytes().any(|byte| byte < 0x20), "{value}");
    }
    for text in &shown {
        let bad = text
            .chars()
            .find(|c| (c.is_control() && *c != '\n' && *c != '\t') || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(bad, None, "{text}");
    }
    let status: serde_yaml::Value = serde_yaml::from_str(&shown[0]).expect("still YAML");
    assert_eq!(status["service"], "evil");
    assert_eq!(status["status"], "unhealthy");
    assert_eq!(status.get("a"), None, "no key broke out");
}

/// How long each of so many new services takes from its file to its first line.
fn hot_plugged(world: &World, mark: &str, count: usize) -> Vec<Duration> {
    let took = |n: usize| {
        let name = format!("{mark}{n}");
        let asked = Instant::now();
        world.put(&format!("{name}.yaml"), &guard::stays(world, &name));
        until("its start", || !guard::starts(world, &name).is_empty());
        asked.elapsed()
    };
    (0..count).map(took).collect()
}

/// The median and the 99th of a hundred.
fn middle_and_slowest(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort();
    (took[took.len() / 2], took[(took.len() - 1) * 99 / 100])
}

#[test]
fn row_36_a_flood_with_or_without_a_cap_holds_up_nobody_else() {
    let world = World::running();
    let flood = "script: |\n  exec yes 'a line of the flood that never ends'\n";
    for (name, rate) in [("capped", "rateLimit: 1Mi, "), ("free", "")] {
        world.put(&format!("{name}.yaml"), &format!("{flood}logs: {{{rate}maxSize: 1Mi, maxFiles: 2}}\n"));
        world.wait_status(name, "running");
        let pid = world.pid(name).expect("a pid");
        world.wait("it to flood", |world| stored(world, name) > 1 << 20);
        if name == "capped" {
            world.wait("the loss to be told", |world| {
                world.status_file(name).is_some_and(|text| text.contains("LogsDropped"))
            });
        }
        // In turns, so that whatever else this machine does is the same for both.
        let (mut quiet, mut beside) = (Vec::new(), Vec::new());
        for turn in 0..4 {
            kill(pid, 19);
            quiet.extend(hot_plugged(&world, &format!("quiet-{name}{turn}-"), times(5)));
            kill(pid, 18);
            beside.extend(hot_plugged(&world, &format!("beside-{name}{turn}-"), times(5)));
        }
        let (quiet, beside) = (middle_and_slowest(quiet), middle_and_slowest(beside));
        eprintln!("    {name}: p50 and p99 {quiet:?} without the flood, {beside:?} beside it");
        // The flood is one more that wants a processor, and so is who reads it.
        assert!(beside.0 < 3 * quiet.0 + Duration::from_millis(20), "{quiet:?} {beside:?}");
        assert!(beside.1 < 3 * quiet.1 + Duration::from_millis(250), "{quiet:?} {beside:?}");
        let stored = stored(&world, name);
        assert!(stored <= 3 << 20, "{stored} bytes kept");
        world.remove(&format!("{name}.yaml"));
        world.wait("its end", |world| world.status_file(name).is_none());
    }
}

/// Bytes in the log files of a service.
fn stored(world: &World, name: &str) -> u64 {
    let files = fs::read_dir(world.state().join("logs")).expect("readable").flatten();
    let its = files.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}.log")));
    its.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

#[test]
fn row_38_a_follower_that_reads_nothing_holds_up_neither_service_nor_others() {
    let world = World::running();
    let lines = times(400_000);
    let done = world.root().join("done");
    world.put("talk.yaml", &format!("script: |\n  while [ ! -e {0}.go ]; do sleep 0.02; done\n  seq 1 {lines}; touch {0}; exec sleep 86400\nlogs: {{maxSize: 64Mi}}\n", done.display()));
    world.wait_status("talk", "running");
    let follow = || {
        let mut follower = command(env!("CARGO_BIN_EXE_plugd"));
        follower.arg("--dir").arg(world.dir()).args(["logs", "-f", "talk"]).env("PLUGD_STATE_DIR", world.state());
        follower.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started")
    };
    let mut asleep: Vec<_> = (0..5).map(|_| follow()).collect();
    std::thread::sleep(Duration::from_millis(300));
    asleep.iter().for_each(|follower| kill(follower.id() as i32, 19));
    fs::write(world.root().join("done.go"), "").expect("written");
    until("the service to have written it all", || done.exists());
    let log = world.state().join("logs/talk.log");
    let last = format!("{lines}\n");
    until("all of it in the file", || fs::read(&log).is_ok_and(|bytes| bytes.ends_with(last.as_bytes())));
    assert!(world.ask(&["logs", "talk", "--tail", "1"]).contains(&lines.to_string()));
    guard::put(&world, "other");
    for follower in &mut asleep {
        let _ = follower.kill();
        let _ = follower.wait();
    }
}
