//! Two thousand operations by chance on ten services, and a model that is a page long: after every few
//! of them, what the status files say and what runs below the keeper is what the model says.
//!
//! `PLUGD_SEED=7 cargo test --test black_box random` plays one seed again.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use plugd::policy::random::Random;
use sha2::{Digest, Sha256};

use crate::soak::times;
use crate::world::{PATIENCE, World, kill};

const SERVICES: u64 = 10;
const OPERATIONS: usize = 2_000;
/// Operations between two looks at most.
const BATCH: u64 = 60;
/// What services sleep: with their version behind the point, by which their processes are known.
const SLEEP: &str = "86400";

/// What is meant to be of one service.
#[derive(Debug, Clone, Default)]
struct Model {
    /// The ending of its file, where it has one.
    file: Option<&'static str>,
    broken: bool,
    /// The last good version that was read, and its replicas.
    good: Option<(u32, u32)>,
    stopped: bool,
    scaled: Option<u32>,
    /// Something was done to it since the last look, so that its processes may be others.
    touched: bool,
    /// Processes that are to go: they were killed, or what they belong to was restarted.
    going: Vec<i32>,
}

impl Model {
    /// The version that runs, and in how many processes.
    fn runs(&self) -> Option<(u32, u32)> {
        let (version, replicas) = self.good.filter(|_| !self.stopped)?;
        Some((version, self.scaled.unwrap_or(replicas)))
    }

    fn status(&self) -> &'static str {
        match (self.file, self.good, self.stopped) {
            (None, _, _) => "absent",
            (Some(_), None, _) => "failed (ConfigInvalid)",
            (Some(_), Some(_), true) => "stopped (StoppedByOperator)",
            (Some(_), Some(_), false) => "running",
        }
    }
}

struct Play {
    world: World,
    chance: Random,
    models: BTreeMap<String, Model>,
    /// Pids of each service at the last look.
    seen: BTreeMap<String, Vec<i32>>,
    version: u32,
    /// What was done since the last look.
    done: Vec<String>,
    seed: u64,
}

impl Play {
    fn below(&mut self, below: u64) -> u64 {
        self.chance.below(below)
    }

    fn model(&mut self, name: &str) -> &mut Model {
        self.models.get_mut(name).expect("one of ten")
    }

    /// One operation that makes sense now; false where the die fell on one that does not.
    fn operate(&mut self) -> bool {
        let name = format!("s{}", self.below(SERVICES));
        let before = self.models[&name].clone();
        let there = before.file.is_some();
        let told = match self.below(100) {
            0..36 => self.write(&name),
            36..45 if there => self.spoil(&name),
            45..55 if there => self.rename(&name),
            55..63 if there => self.remove(&name),
            63..67 if before.good.is_some() => self.order(&name, "stop", |model| model.stopped = true),
            67..72 if before.good.is_some() => self.order(&name, "start", |model| model.stopped = false),
            72..76 if before.runs().is_some() => self.restart(&name),
            76..80 if before.runs().is_some() => self.scale(&name),
            80..98 if before.runs().is_some() => self.kill_one(&name),
            // Seldom: the keeper starts one a second at most.
            98 if self.below(3) == 0 => self.kill_controller(),
            _ => return false,
        };
        self.done.push(told);
        true
    }

    /// A new version: the first, an edit, or one that mends.
    fn write(&mut self, name: &str) -> String {
        self.version += 1;
        let (version, replicas) = (self.version, self.below(3) as u32 + 1);
        // Whether the scale is over is decided by the version that was in force before.
        let scaled = self.models[name].scaled.is_some();
        if scaled {
            self.wait_in_force(name);
        }
        let ending = self.models[name].file.unwrap_or("yaml");
        self.world.put(
            &format!("{name}.{ending}"),
            &format!(
                "name: {name}\ncommand: [sleep, '{SLEEP}.{version:07}']\nreplicas: {replicas}\nrestart: {{backoff: {{initial: 5ms, max: 5ms}}}}\n"
            ),
        );
        let model = self.model(name);
        if model.good.is_some_and(|(_, before)| before != replicas) {
            model.scaled = None;
        }
        *model = Model {
            file: Some(ending),
            broken: false,
            good: Some((version, replicas)),
            touched: true,
            ..model.clone()
        };
        if scaled {
            self.wait_in_force(name);
        }
        format!("write {name} v{version} x{replicas}")
    }

    fn spoil(&mut self, name: &str) -> String {
        // Whether the version before was ever read must be certain.
        self.wait_known(name);
        let ending = self.models[name].file.expect("it is there");
        let text = format!("name: {name}\ncomand: sleep 1\n# {}\n", self.done.len());
        self.world.put(&format!("{name}.{ending}"), &text);
        self.model(name).broken = true;
        format!("break {name}")
    }

    fn rename(&mut self, name: &str) -> String {
        let old = self.models[name].file.expect("it is there");
        let new = if old == "yaml" { "yml" } else { "yaml" };
        let path = |ending| self.world.path(&format!("{name}.{ending}"));
        fs::rename(path(old), path(new)).expect("renamed");
        self.model(name).file = Some(new);
        format!("rename {name} to .{new}")
    }

    fn remove(&mut self, name: &str) -> String {
        let ending = self.models[name].file.expect("it is there");
        self.world.remove(&format!("{name}.{ending}"));
        // Written again at once it would be an edit.
        let what = self.about(&format!("{name} to go"));
        self.world.wait(&what, |world| world.status_file(name).is_none());
        *self.model(name) = Model { touched: true, ..Model::default() };
        format!("remove {name}")
    }

    fn order(&mut self, name: &str, verb: &str, apply: impl Fn(&mut Model)) -> String {
        self.wait_known(name);
        self.world.ask(&[verb, name]);
        let model = self.model(name);
        apply(model);
        model.touched = true;
        format!("{verb} {name}")
    }

    fn restart(&mut self, name: &str) -> String {
        // Who is restarted must be certain: what is just being started when the order comes is restarted, too.
        self.wait_in_force(name);
        let runs = self.processes().remove(name).unwrap_or_default();
        let told = self.order(name, "restart", |_| ());
        self.model(name).going.extend(runs.into_iter().map(|(_, pid)| pid));
        told
    }

    fn scale(&mut self, name: &str) -> String {
        let count = self.below(4) as u32 + 1;
        self.wait_known(name);
        self.world.ask(&["scale", &format!("{name}={count}")]);
        let model = self.model(name);
        (model.scaled, model.touched) = (Some(count), true);
        format!("scale {name} to {count}")
    }

    fn kill_one(&mut self, name: &str) -> String {
        let pid = self.processes().get(name).and_then(|found| found.first()).map(|&(_, pid)| pid);
        pid.iter().for_each(|&pid| kill(pid, 9));
        let model = self.model(name);
        model.touched = true;
        model.going.extend(pid);
        format!("kill {name}")
    }

    fn kill_controller(&mut self) -> String {
        // It answers when what is to be remembered is written; until then that is a fifth of a second behind.
        if let Some((name, _)) = self.models.iter().find(|(_, model)| model.good.is_some()) {
            self.wait_known(name);
            self.world.ask(&["history", name]);
        }
        // A restart goes on only as long as who was asked for it.
        let what = self.about("what is restarted to be done");
        let deadline = Instant::now() + PATIENCE;
        while self.goes() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let before = self.world.controller_pid();
        kill(before.expect("a controller"), 9);
        let what = self.about("the next controller");
        self.world.wait(&what, |world| world.controller_pid().is_some_and(|pid| Some(pid) != before));
        // Which edit ends a scale is known only of those that a controller sees: it knows what was in force before.
        let scaled = self.models.iter().filter(|(_, model)| model.scaled.is_some());
        for (name, _) in scaled {
            let what = self.about(&format!("{name} to be told by the next controller"));
            self.world.wait(&what, |world| {
                let by = world.field(name, "controller").unwrap_or_default();
                world.controller_pid().is_some_and(|pid| by.contains(&format!("pid: {pid}")))
            });
        }
        "kill the controller".into()
    }

    /// Whether anybody runs who is to go.
    fn goes(&self) -> bool {
        let found = self.processes();
        let going = |name: &String, pid: i32| self.models.get(name).is_some_and(|model| model.going.contains(&pid));
        found.iter().any(|(name, runs)| runs.iter().any(|&(_, pid)| going(name, pid)))
    }

    /// Until what its file holds was read, taken or refused.
    fn wait_known(&self, name: &str) {
        let Some(ending) = self.models[name].file else { return };
        let bytes = fs::read(self.world.path(&format!("{name}.{ending}"))).expect("readable");
        let sum: String = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.world.wait(&self.about(&format!("{name}.{ending} to be read ({sum})")), |world| {
            world.field(name, "manifest").is_some_and(|manifest| manifest.contains(&sum))
        });
    }

    /// Until the version that it has runs, and nothing else of it.
    fn wait_in_force(&self, name: &str) {
        self.wait_known(name);
        let wanted = self.models[name].runs().map_or(0, |(_, count)| count as usize);
        let what = self.about(&format!("{name} to run as it is meant to"));
        self.world.wait(&what, |_| self.processes().get(name).map_or(0, Vec::len) == wanted);
    }

    /// Versions and pids below the keeper, by the services whose versions they are.
    fn processes(&self) -> BTreeMap<String, Vec<(u32, i32)>> {
        let keeper = self.world.node_pid();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("the keeper lives");
        let mut found: BTreeMap<String, Vec<(u32, i32)>> = BTreeMap::new();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.contains("\0controller\0") {
                continue;
            }
            let version =
                line.split(&format!("\0{SLEEP}.")).nth(1).and_then(|rest| rest.trim_end_matches('\0').parse().ok());
            let is_its = |model: &Model| model.good.is_some_and(|(good, _)| Some(good) == version);
            let name = self.models.iter().find(|(_, model)| is_its(model)).map(|(name, _)| name.clone());
            found.entry(name.unwrap_or_else(|| "nobody".into())).or_default().push((version.unwrap_or(0), pid));
        }
        found
    }

    /// What is otherwise than the model says; nothing where all is as it should be.
    fn differences(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut found = self.processes();
        for (name, model) in &self.models {
            let runs = found.remove(name).unwrap_or_default();
            let want = model.runs();
            if runs.len() != want.map_or(0, |(_, count)| count as usize) {
                wrong.push(format!("{name} has {runs:?}, meant is {want:?}"));
            }
            let status = self.world.status(name);
            if status != model.status() {
                wrong.push(format!("{name} is {status}, meant is {}", model.status()));
            }
            let ready = self.world.field(name, "ready");
            if want.is_some_and(|(_, count)| ready != Some(format!("{count}/{count}"))) {
                wrong.push(format!("{name} tells {ready:?} ready, meant is {want:?}"));
            }
            let rejected = self.world.field(name, "manifest").is_some_and(|manifest| manifest.contains("rejected"));
            if rejected != model.broken {
                wrong.push(format!("{name}: its file is told as refused: {rejected}, is broken: {}", model.broken));
            }
            let mut pids: Vec<i32> = runs.iter().map(|(_, pid)| *pid).collect();
            pids.sort_unstable();
            if pids.iter().any(|pid| model.going.contains(pid)) {
                wrong.push(format!("{name} has {pids:?}, of which {:?} are to go", model.going));
            }
            if let Some(before) = self.seen.get(name).filter(|before| !model.touched && **before != pids) {
                wrong.push(format!("nobody touched {name}, and it has {pids:?} for {before:?}"));
            }
        }
        wrong.extend(found.into_iter().map(|(name, runs)| format!("{name} has {runs:?}")));
        wrong
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wrong = self.differences();
            if wrong.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{}\n{}\n{}", self.about(""), wrong.join("\n"), self.world.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        let found = self.processes();
        for (name, model) in &mut self.models {
            model.touched = false;
            model.going.clear();
            let mut pids: Vec<i32> = found.get(name).into_iter().flatten().map(|(_, pid)| *pid).collect();
            pids.sort_unstable();
            self.seen.insert(name.clone(), pids);
        }
        self.done.clear();
    }

    fn about(&self, what: &str) -> String {
        format!(
            "{what}\n--- PLUGD_SEED={} cargo test --test black_box random; since the last look: {}\n",
            self.seed,
            self.done.join(", ")
        )
    }
}

#[test]
fn two_thousand_operations_by_chance_end_where_a_model_of_one_page_does() {
    let given = std::env::var("PLUGD_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").subsec_nanos();
    // Every push plays the same story; a soak another one each time.
    let seed = given.unwrap_or_else(|| if times(1) == 1 { 1 } else { u64::from(clock()) });
    println!("PLUGD_SEED={seed}");
    let names = (0..SERVICES).map(|n| (format!("s{n}"), Model::default()));
    let mut play = Play {
        world: World::running(),
        chance: Random::seeded(seed),
        models: names.collect(),
        seen: BTreeMap::new(),
        version: 0,
        done: Vec::new(),
        seed,
    };
    let mut left = times(OPERATIONS);
    while left > 0 {
        for _ in 0..=play.below(BATCH) {
            left = left.saturating_sub(usize::from(play.operate()));
        }
        play.settle();
    }
    assert!(play.world.stop().success());
}
