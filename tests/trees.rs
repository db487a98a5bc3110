//! Processes that try to get away, with a cgroup and without.

#![expect(clippy::disallowed_methods, reason = "a test's services are children of the test")]

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use plugd::controller::{Input, Leftover, Target};
use plugd::edge::process::cgroup::CgroupRoot;
use plugd::edge::process::stat::{self, Stat};
use plugd::edge::process::tree::{Scope, Tree, Trees};
use plugd::edge::process::walk::Walker;
use plugd::model::name::{Instance, LifeId};
use tokio::sync::mpsc;

static MARKS: AtomicU32 = AtomicU32::new(0);
/// Children that are waited for by name.
static OURS: Mutex<Vec<i32>> = Mutex::new(Vec::new());
const KILL: i32 = 9;
const TERM: i32 = 15;

/// The processes of one test all carry a mark in their arguments, so that an outside look finds
/// them wherever they went.
struct World {
    test: String,
    mark: String,
    trees: Trees,
    inputs: mpsc::Receiver<Input>,
    root: Option<CgroupRoot>,
    children: Vec<Child>,
}

impl World {
    fn new(test: &str, cgroup: bool) -> Option<World> {
        // Orphans fall to us, as they do to the keeper.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("allowed to all");
        let (send, inputs) = mpsc::channel(64);
        let walker = Walker::start(std::process::id() as i32, send).expect("a thread");
        let key = format!("test-{}-{test}", std::process::id());
        let root = match cgroup {
            false => None,
            // Nothing to test where no cgroup v2 can be written; the session tests run everywhere.
            true => Some(CgroupRoot::find(&key).ok()?),
        };
        let mark = format!("0.0{}{}", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed) + 100);
        let test = test.to_string();
        Some(World { test, mark, trees: Trees::new(walker), inputs, root, children: Vec::new() })
    }

    /// `script` in a shell that leads its session; `$1` is the mark, which `sleep` adds to its time.
    fn spawn(&mut self, script: &str) -> Tree {
        let instance = Instance::parse(&format!("{}/{}", self.test, self.children.len())).expect("a valid name");
        let life = LifeId { instance, life: 7 };
        let group = self.root.as_ref().map(|root| {
            root.create(&life.instance).expect("made");
            root.group(&life.instance)
        });
        let enter = group.as_ref().map(|group| format!("echo $$ > {}/cgroup.procs; ", group.path().display()));
        // Not a group leader, so setsid(1) need not fork and the pid stays.
        let outer = format!("{}exec setsid sh -c \"$0\" sh \"$1\"", enter.unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", &outer, script, &self.mark]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("PLUGD_INSTANCE", life.instance.to_string()).env("PLUGD_LIFE", "7").env("PLUGD_NODE", "node");
        let child = {
            let mut ours = OURS.lock().expect("no test panics in here");
            let child = command.spawn().expect("sh runs");
            ours.push(child.id() as i32);
            child
        };
        let pid = child.id() as i32;
        self.children.push(child);
        let scope = group.map_or(Scope::Session, Scope::Cgroup);
        until("the service to lead its session", || Stat::of(pid).is_some_and(|stat| stat.session == pid));
        let start_time = Stat::of(pid).expect("it runs").start_time;
        Tree { life, node: "node".into(), pid, start_time, scope }
    }

    /// Every living process with the mark, however it got away.
    fn marked(&self) -> Vec<i32> {
        let has = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(self.mark.len()).any(|part| part == self.mark.as_bytes())
        };
        stat::pids().into_iter().filter(has).filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.lives())).collect()
    }

    /// Those of them that are what they are to become: no shell that has not come to its exec.
    fn asleep(&self) -> usize {
        self.marked().into_iter().filter(|pid| stat::command(*pid).as_deref() == Some("sleep")).count()
    }

    fn survey(&mut self, tree: &Tree) -> Vec<Leftover> {
        if let Some(left) = self.trees.survey(tree) {
            return left;
        }
        match self.inputs.blocking_recv() {
            Some(Input::Surveyed { life, left }) if life == tree.life => left,
            other => panic!("a survey was asked for, not {other:?}"),
        }
    }

    /// As the brain does: KILL and look, until nothing is left.
    fn end(&mut self, tree: &Tree) {
        until("the tree to be empty", || {
            self.trees.signal(tree, KILL, Target::Tree).expect("sent");
            self.survey(tree).is_empty()
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Also after a failure, and also what hops: nothing of a test may go on.
        let groups = self.root.iter().map(|root| root.path().join("cgroup.kill"));
        groups.for_each(|path| drop(std::fs::write(path, "1")));
        for pid in self.marked() {
            let _ = rustix::process::Pid::from_raw(pid)
                .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(root) = &self.root {
            until("the groups to be removable", || {
                root.remove();
                !root.path().exists()
            });
        }
    }
}

/// As the keeper does: orphans that ended are not left as zombies.
fn reap() {
    let ours = OURS.lock().expect("no test panics in here");
    let ended = |stat: &Stat| stat.parent == std::process::id() as i32 && !stat.lives() && !ours.contains(&stat.pid);
    for stat in stat::pids().into_iter().filter_map(Stat::of).filter(ended) {
        let options = rustix::process::WaitOptions::NOHANG;
        let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(stat.pid), options);
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "still waiting for {what}");
        reap();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A child in the group, one with a session of its own, an orphan, and one that lives on in a
/// session of its own after its parents are gone.
const FAMILY: &str =
    "sleep 600 $1 & setsid sleep 600 $1 & (sleep 600 $1 &) ; (setsid sleep 600 $1 &) ; wait; sleep 600 $1";
const FAMILY_SLEEPS: usize = 4;
/// The same, with nothing left that tells where it came from.
const DAEMON: &str = "(setsid env -i sleep 600 $1 &) ; exec sleep 600 $1";
/// Starts itself anew in another session and ends, for ever.
const HOPPER: &str = "export HOP=\"setsid sh -c \\\"\\$HOP\\\" sh \\$1 & exit\"; eval \"$HOP\"";

#[test]
fn with_a_cgroup_nothing_gets_away() {
    let Some(mut world) = World::new("all", true) else { return };
    let family = world.spawn(FAMILY);
    let daemon = world.spawn(DAEMON);
    let hopper = world.spawn(HOPPER);
    until("all to run", || world.asleep() == FAMILY_SLEEPS + 2);
    for tree in [&family, &daemon, &hopper] {
        assert!(!world.survey(tree).is_empty());
        world.end(tree);
    }
    assert!(world.marked().is_empty());
}

#[test]
fn a_cgroup_is_used_again_by_the_next_life_and_removed_at_the_end() {
    let Some(mut world) = World::new("reuse", true) else { return };
    let tree = world.spawn("exec sleep 600 $1");
    let Scope::Cgroup(group) = tree.scope.clone() else { panic!("a cgroup was asked for") };
    assert!(group.populated() && group.contains(tree.pid) && !group.contains(std::process::id() as i32));
    assert_eq!(group.procs(), [tree.pid]);
    // A group that the service makes within its own counts and goes with it.
    let within = group.path().join("within");
    std::fs::create_dir(&within).expect("made");
    std::fs::write(within.join("cgroup.procs"), tree.pid.to_string()).expect("moved");
    assert!(group.populated() && group.contains(tree.pid));
    assert_eq!(group.procs(), [tree.pid]);
    world.end(&tree);
    let root = world.root.clone().expect("has one");
    root.create(&tree.life.instance).expect("used again");
    until("the group to be removable", || group.remove().is_ok());
    assert!(!group.path().exists());
}

#[test]
fn without_a_cgroup_sessions_children_and_marked_orphans_are_ended() {
    let mut world = World::new("session", false).expect("needs no cgroup");
    let family = world.spawn(FAMILY);
    let neighbour = world.spawn("exec sleep 600 $1");
    until("all to run", || world.asleep() == FAMILY_SLEEPS + 1);
    // The main process first: whoever is shown to a person begins with it.
    assert_eq!(world.survey(&family).first().map(|one| one.pid), Some(family.pid));
    world.end(&family);
    assert_eq!(world.marked(), [neighbour.pid]);
    world.end(&neighbour);
    assert!(world.marked().is_empty());
}

#[test]
fn without_a_cgroup_the_orphans_of_a_main_process_that_is_gone_are_still_found() {
    let mut world = World::new("orphans", false).expect("needs no cgroup");
    let tree = world.spawn("setsid sleep 600 $1 & sleep 600 $1 & exit 3");
    world.children[0].wait().expect("it ends");
    until("both to run", || world.asleep() == 2 && world.survey(&tree).len() == 2);
    world.trees.signal(&tree, TERM, Target::Group).expect("sent to what is left of the group");
    until("the group to be gone", || world.survey(&tree).len() == 1);
    world.end(&tree);
    assert!(world.marked().is_empty());
}

#[test]
fn without_a_cgroup_a_daemon_that_left_everything_behind_is_found_only_if_it_was_seen_before() {
    let mut world = World::new("daemon", false).expect("needs no cgroup");
    let tree = world.spawn(DAEMON);
    until("the daemon to run", || world.asleep() == 2);
    world.end(&tree);
    assert_eq!(world.marked().len(), 1, "this is what `killScope: session` can miss");

    let seen = world.spawn("setsid env -i sh -c \"sleep 600 $1; true\" & exec sleep 600 $1");
    until("its child to be seen", || world.asleep() == 3 && world.survey(&seen).len() == 3);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(seen.pid).expect("a pid"),
        rustix::process::Signal::KILL,
    )
    .expect("killed");
    world.children[1].wait().expect("it ends");
    assert!(!world.survey(&seen).is_empty(), "its parents are gone, it was seen before");
    world.end(&seen);
    assert_eq!(world.marked().len(), 1);
}

#[test]
fn a_signal_to_the_group_reaches_the_group_alone_and_then_nobody() {
    for cgroup in [true, false] {
        // Each has lives of its own: a walk of the first may still be under way.
        let name = if cgroup { "group" } else { "group-in-session" };
        let Some(mut world) = World::new(name, cgroup) else { continue };
        let tree = world.spawn("setsid sleep 600 $1 & sleep 600 $1 & wait");
        until("all to run", || world.asleep() == 2);
        world.trees.signal(&tree, TERM, Target::Group).expect("sent");
        world.children[0].wait().expect("it ends");
        until("the other session to be what is left", || world.survey(&tree).len() == 1);
        world.trees.signal(&tree, TERM, Target::Tree).expect("sent");
        until("nothing to be left", || world.survey(&tree).is_empty());
        world.trees.signal(&tree, KILL, Target::Group).expect("an empty target is no error");
        world.trees.signal(&tree, KILL, Target::Tree).expect("an empty target is no error");
    }
}

#[test]
fn zombies_and_recycled_pids_are_nobody() {
    let mut world = World::new("recycled", false).expect("needs no cgroup");
    let zombie = world.spawn("exit 0");
    until("it to be a zombie", || Stat::of(zombie.pid).is_some_and(|stat| !stat.lives()));
    assert_eq!(world.survey(&zombie), []);
    // A stranger that has the number of an earlier life, and its session's.
    let stranger = world.spawn("exec sleep 600 $1");
    let gone = Tree { life: zombie.life.clone(), start_time: stranger.start_time - 1, ..stranger.clone() };
    for to in [Target::Group, Target::Tree] {
        world.trees.signal(&gone, KILL, to).expect("nobody to send to");
    }
    assert_eq!(world.survey(&gone), []);
    assert!(!gone.contains(stranger.pid));
    assert_eq!(world.marked(), [stranger.pid]);
}

#[test]
fn who_left_the_cgroup_is_told_and_killed() {
    let Some(mut world) = World::new("left", true) else { return };
    let elsewhere = world.root.clone().expect("has one").path().parent().expect("a parent").join("cgroup.procs");
    let away = elsewhere.display();
    let main = world.spawn(&format!("echo $$ > {away}; trap '' TERM; exec sleep 600 $1"));
    let child = world.spawn(&format!("(echo 0 > {away}; trap '' TERM; exec sleep 600 $1) & exec sleep 600 $1"));
    until("all to run", || world.asleep() == 3);
    assert_eq!(world.survey(&main).iter().map(|one| one.pid).collect::<Vec<_>>(), [main.pid]);
    world.end(&main);
    assert_eq!(world.asleep(), 2);
    world.trees.signal(&child, TERM, Target::Tree).expect("sent");
    world.children[1].wait().expect("it ends");
    assert_eq!(world.survey(&child).len(), 1, "what was in its group and not in its cgroup is left");
    world.end(&child);
    assert!(world.marked().is_empty());
}

#[test]
fn a_strangers_word_makes_nobody_one_of_the_tree() {
    for cgroup in [true, false] {
        let Some(mut world) = World::new(if cgroup { "word" } else { "word-in-session" }, cgroup) else { continue };
        let tree = world.spawn("exec sleep 600 $1");
        let mut stranger = Command::new("setsid");
        stranger.args(["sleep", "600", &world.mark]).env("PLUGD_INSTANCE", tree.life.instance.to_string());
        let mut stranger = stranger.env("PLUGD_LIFE", "7").env("PLUGD_NODE", "node").spawn().expect("setsid runs");
        OURS.lock().expect("no test panics in here").push(stranger.id() as i32);
        until("both to run", || world.asleep() == 2);
        let pid = stranger.id() as i32;
        let mut made = Vec::new();
        if let Scope::Cgroup(group) = &tree.scope {
            // A group of the same name that somebody else made elsewhere.
            let other = group.path().ancestors().nth(2).expect("above").join(format!("other-{pid}"));
            let twin = other.join(group.path().parent().and_then(|root| root.file_name()).expect("a name"));
            let twin_group = twin.join(group.path().file_name().expect("a name"));
            std::fs::create_dir_all(&twin_group).expect("made");
            std::fs::write(twin_group.join("cgroup.procs"), pid.to_string()).expect("moved");
            made = vec![twin_group, twin, other];
        }
        assert!(tree.contains(tree.pid));
        assert!(!tree.contains(pid));
        stranger.kill().expect("it runs");
        stranger.wait().expect("it ends");
        for folder in made {
            until("the group to be removable", || std::fs::remove_dir(&folder).is_ok());
        }
        world.end(&tree);
    }
}
