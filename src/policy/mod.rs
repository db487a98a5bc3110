//! Pure judges: numbers in, verdict out. Floor 1.
//!
//! Each file answers one question that the brain asks: how long to wait (`backoff`), whether to
//! start again at all (`restart`), what must come first (`depends`), how to bring out a new version
//! (`update`), when to check and what a check means (`probe`), how well something is (`score`, `pace`, `availability`),
//! when to wake (`wake`), what the clock asks for (`agenda`, by the `calendar`), and when a container should end (`required`). No clock, no randomness: moments and random bits arrive as arguments.

pub mod agenda;
pub mod availability;
pub mod backoff;
pub mod calendar;
pub mod depends;
pub mod pace;
pub mod probe;
pub mod random;
pub mod required;
pub mod restart;
pub mod score;
pub mod update;
pub mod wake;
