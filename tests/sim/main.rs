//! The brain in a seeded world with virtual time: millions of steps, and the laws after each.
//!
//! `PLUGD_SEED=7 cargo test --test sim` plays one seed (the line that a failure prints);
//! `PLUGD_SOAK=10` plays ten times as many.

#![expect(clippy::disallowed_methods, reason = "a test may look at its settings and its watch")]

mod laws;
mod stimulus;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use stimulus::Stimulus;
use world::World;

/// Seeds of an ordinary run, and what happens to each world.
const SEEDS: u64 = 5_000;
const STIMULI: usize = 120;
/// Broken worlds that are told before the run ends.
const STORIES: usize = 6;

/// Plays one world; the error is the broken law.
fn play(seed: u64, stimuli: &[Stimulus]) -> Result<u64, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        world.play(stimuli)?;
        Ok(world.steps)
    }))
    .unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("law 8: it panicked: {}", said.unwrap_or("without words")))
    })
}

/// Leaves out what is not needed for the failure.
fn shrink(seed: u64, stimuli: Vec<Stimulus>) -> Vec<Stimulus> {
    let mut kept = stimuli;
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            if play(seed, &fewer).is_err() {
                kept = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    kept
}

/// One line that replays it, then the few stimuli that it takes.
fn story(seed: u64, stimuli: Vec<Stimulus>, law: &str) -> String {
    let few = shrink(seed, stimuli);
    let why = play(seed, &few).err().unwrap_or_else(|| law.to_string());
    let mut story = format!("PLUGD_SEED={seed} cargo test --test sim   # {why}\n");
    for stimulus in &few {
        story.push_str(&format!("    {stimulus:?}\n"));
    }
    story
}

#[test]
fn the_laws_hold_in_every_world() {
    if let Some(seed) = std::env::var("PLUGD_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let stimuli = stimulus::plan(seed, STIMULI);
        if let Err(law) = play(seed, &stimuli) {
            panic!("{}", story(seed, stimuli, &law));
        }
        return;
    }
    let soak: u64 = std::env::var("PLUGD_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(1);
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let stories: Mutex<Vec<String>> = Mutex::default();
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let broken = stories.lock().is_ok_and(|stories| stories.len() >= STORIES);
                    if broken || seed >= SEEDS * soak {
                        return;
                    }
                    let stimuli = stimulus::plan(seed, STIMULI);
                    match play(seed, &stimuli) {
                        Ok(played) => drop(steps.fetch_add(played, Ordering::Relaxed)),
                        Err(law) => {
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
    println!("{} worlds, {steps} steps in {seconds:.1} s: {:.0} a second", SEEDS * soak, steps as f64 / seconds);
}
