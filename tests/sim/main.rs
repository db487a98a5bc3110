//! The brain in a seeded world with virtual time: millions of steps, and the laws after each.
//!
//! `PLUGD_SEED=7 cargo test --test sim` plays one seed (the line that a failure prints);
//! `PLUGD_SOAK=1` plays a hundred times as many. `lie.rs` proves that each law can be broken.

#![expect(clippy::disallowed_methods, reason = "a test may look at its settings and its watch")]

mod checks;
mod clock;
mod converged;
mod facts;
mod ladder;
mod laws;
mod lie;
mod manifest;
mod process;
#[path = "../faults/soak.rs"]
mod soak;
mod stimulus;
mod story;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lie::Lie;
use soak::times;
use stimulus::{STIMULI, Stimulus};
use world::World;

/// Seeds of an ordinary run.
const SEEDS: usize = 9_900;
/// What an ordinary run must have played at least: a world that ends early looks like one that holds.
const STEPS_MIN: u64 = 10_000_000;
/// Broken worlds that are told before the run ends.
const STORIES: usize = 6;

/// `PLUGD_TRACE=1` beside a seed tells what the shrunk world heard and did.
static TRACE: AtomicBool = AtomicBool::new(false);

/// Plays one world; the error is the broken law.
fn play(seed: u64, stimuli: &[Stimulus], lie: Option<Lie>) -> Result<u64, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, lie);
        world.play(stimuli)?;
        Ok(world.steps)
    }))
    .unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("law 8: it panicked: {}", said.unwrap_or("without words")))
    })
}

/// `law 4` of `law 4: s1 …`: what is left is to break the same law.
fn law_of(said: &str) -> &str {
    said.split(':').next().unwrap_or(said)
}

/// Leaves out what is not needed for the failure, until nothing more can go.
fn shrink(seed: u64, stimuli: Vec<Stimulus>, lie: Option<Lie>) -> Vec<Stimulus> {
    let Err(first) = play(seed, &stimuli, lie) else { return stimuli };
    let mut kept = stimuli;
    loop {
        let before = kept.len();
        let mut chunk = kept.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < kept.len() {
                let mut fewer = kept.clone();
                fewer.drain(at..(at + chunk).min(fewer.len()));
                if play(seed, &fewer, lie).is_err_and(|said| law_of(&said) == law_of(&first)) {
                    kept = fewer;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
        if kept.len() == before {
            return kept;
        }
    }
}

/// One line that replays it, then the few stimuli that it takes.
fn story(seed: u64, stimuli: Vec<Stimulus>, law: &str) -> String {
    let few = shrink(seed, stimuli, None);
    TRACE.store(std::env::var_os("PLUGD_TRACE").is_some(), Ordering::Relaxed);
    let why = play(seed, &few, None).err().unwrap_or_else(|| law.to_string());
    let mut story = format!("PLUGD_SEED={seed} cargo test --test sim   # {law}\n");
    if why != law {
        story.push_str(&format!("    # with the few that it takes: {why}\n"));
    }
    for stimulus in &few {
        story.push_str(&format!("    {stimulus:?}\n"));
    }
    story
}

#[test]
fn the_laws_hold_in_every_world() {
    if let Some(seed) = std::env::var("PLUGD_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let stimuli = stimulus::plan(seed, STIMULI);
        if let Err(law) = play(seed, &stimuli, None) {
            panic!("{}", story(seed, stimuli, &law));
        }
        return;
    }
    let seeds = times(SEEDS) as u64;
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let stories: Mutex<Vec<String>> = Mutex::default();
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let broken = stories.lock().is_ok_and(|stories| stories.len() >= STORIES);
                    if broken || seed >= seeds {
                        return;
                    }
                    let stimuli = stimulus::plan(seed, STIMULI);
                    match play(seed, &stimuli, None) {
                        Ok(played) => drop(steps.fetch_add(played, Ordering::Relaxed)),
                        Err(law) => {
                            eprintln!("seed {seed} breaks {law}; shrinking");
                            let story = story(seed, stimuli, &law);
                            stories.lock().expect("nobody panics here").push(story);
                        }
                    }
                }
            });
        }
    });
    let stories = stories.into_inner().expect("nobody panics here");
    assert!(stories.is_empty(), "{}", stories.join("\n"));
    let (steps, seconds) = (steps.into_inner(), began.elapsed().as_secs_f64());
    println!("{seeds} worlds, {steps} steps in {seconds:.1} s: {:.0} a second", steps as f64 / seconds);
    assert!(steps >= STEPS_MIN, "{steps} steps were played, at least {STEPS_MIN} are meant to be");
}

#[test]
fn the_code_of_one_command_is_ours() {
    for seed in 0..times(2_000) as u64 {
        if let Err(law) = story::play_single(seed) {
            panic!("seed {seed}: {law}");
        }
    }
}
