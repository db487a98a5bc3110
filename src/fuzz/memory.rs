//! What lies on the disk or with the keeper from before: the past in numbers, a life's blob, what is
//! remembered of a service, the table of lives. Whatever it says, the brain goes on.

use std::time::Duration;

use crate::controller::blob::is_read_again;
use crate::controller::testing::{declare, life, name, spec};
use crate::controller::{Action, Adopted, Config, Controller, Exit, Input, Memory, Plan};
use crate::edge::store::packed;
use crate::model::cron::Cron;
use crate::model::history::Bucket;
use crate::model::spec::{Concurrency, RestartPolicy, Schedule};
use crate::model::time::Now;
use crate::model::zone::Zone;
use crate::runtime::strays;

/// How much later the last of the decisions is.
const LATER: [u64; 5] = [0, 1, 60, 3_600, 86_400];
/// A service that ends at once is started again only after a delay, so this is far from reached.
const ROUNDS: usize = 20;

pub fn past(bytes: &[u8]) {
    let entries: Vec<(u64, Bucket)> = packed::entries(bytes).collect();
    assert!(entries.len() <= bytes.len());
    let mut sum = Bucket::default();
    entries.iter().for_each(|(_, bucket)| sum.add(bucket));
    assert!(sum.availability().is_none_or(|share| (0.0..=100.0).contains(&share)));
    let _ = (sum.score.mean(), sum.latency.mean());
    let buckets = entries.into_iter().collect();
    assert_eq!(packed::entries(&packed::pack(&buckets)).collect::<packed::Buckets>(), buckets);
}

/// A life that runs and one that has ended, both with this blob.
pub fn blob(bytes: &[u8]) {
    assert!(is_read_again(bytes), "{bytes:?}");
    for exit in [None, Some(Exit::code(1))] {
        let adopted = Adopted {
            life: life("web", 7),
            pid: 4711,
            pre_stop: false,
            age: Duration::from_secs(5),
            exit,
            blob: bytes.to_vec(),
        };
        lives_on(|| Input::Adopted(adopted.clone()));
    }
}

/// What `state.db` holds of a service, as JSON.
pub fn memory(bytes: &[u8]) {
    let Ok(memory) = serde_json::from_slice::<Memory>(bytes) else { return };
    let json = serde_json::to_string(&memory).expect("a plain value");
    assert_eq!(serde_json::from_str::<Memory>(&json).ok().as_ref(), Some(&memory), "{json}");
    lives_on(|| Input::Remembered(name("web"), Box::new(memory.clone())));
}

pub fn lives(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        if let Some((pid, signal)) = strays::read_line(line, "BOOT pid:[1]") {
            assert!(pid > 1, "{pid} is nobody's life: {line}");
            assert!((1..=64).contains(&signal), "{signal} is no signal: {line}");
        }
    }
}

/// A service and a job of which this is known are declared, run, end and are decided on for a day.
fn lives_on(known: impl Fn() -> Input) {
    for job in [false, true] {
        let mut brain = Controller::new(config());
        brain.absorb(known(), after(0));
        let mut web = spec("web");
        if job {
            web.restart.policy = RestartPolicy::OnFailure;
            web.schedule = Some(Schedule {
                cron: Cron::parse("*/5 * * * *").expect("an expression"),
                time_zone: Zone::utc(),
                concurrency_policy: Concurrency::Forbid,
                starting_deadline: None,
                history_limit: 3,
            });
        }
        brain.absorb(Input::Declared(declare(web)), after(0));
        brain.absorb(Input::Scanned, after(0));
        LATER.into_iter().for_each(|later| settle(&mut brain, after(later)));
        assert!(brain.view(&name("web")).is_some(), "what was declared is not told of");
        brain.absorb(Input::Withdrawn(name("web")), after(90_000));
        settle(&mut brain, after(90_000));
    }
}

/// Carries out what is decided, until nothing is.
fn settle(brain: &mut Controller, now: Now) {
    let mut pid = 5_000;
    for _ in 0..ROUNDS {
        let actions = brain.decide(now).actions;
        let mut facts = Vec::new();
        for action in actions {
            match action {
                Action::Spawn { life, .. } => {
                    pid += 1;
                    facts.push(Input::Spawned { life: life.clone(), pid, start_time: 9 });
                    facts.push(Input::Exited { life, exit: Exit::code(1) });
                }
                Action::Survey { life } => facts.push(Input::Surveyed { life, left: Vec::new() }),
                _ => {}
            }
        }
        if facts.is_empty() {
            assert_eq!(brain.decide(now), Plan::default(), "a second decision without news does something");
            return;
        }
        facts.into_iter().for_each(|fact| brain.absorb(fact, now));
    }
}

fn config() -> Config {
    Config {
        asked_max: 4,
        max_starting: None,
        shutdown_timeout: None,
        exit_on_required: None,
        require_user: false,
        warn_root: false,
        takes_over: false,
        single: false,
        pid1: false,
        started: after(0),
        seed: 1,
        log_dir: None,
        kill_scope: None,
    }
}

fn after(seconds: u64) -> Now {
    let mono = Duration::from_secs(1_000 + seconds);
    let begin = jiff::Timestamp::from_second(1_795_000_000).expect("in 2026");
    Now { mono, wall: begin + Duration::from_secs(seconds) }
}
