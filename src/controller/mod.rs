//! The brain: facts in, actions out.
//!
//! `absorb` takes one [`Input`] and only notes it; `decide(now)` compares what is desired with what
//! is observed and returns a [`Plan`]. No clock, no disk, no process, no randomness: `now` and
//! random bits arrive as arguments, so that a simulator can play millions of steps.
//!
//! Floor 2. Inputs are news that something may have changed, never orders: doubled, late and
//! reordered ones must not matter. A second `decide` without a new fact returns an empty plan.

mod input;
mod plan;

pub use input::*;
pub use plan::*;
