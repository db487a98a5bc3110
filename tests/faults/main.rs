//! Under fire: every row of the catalogue of faults, the sweeps, and an oracle that believes nothing.
//!
//! - `rows`       which test shows which row; that each of them exists
//! - `inject`     the injectors: strace, small and frozen disks, limits, a controller under a tracer
//! - `guard`      services that notice a second copy of themselves
//! - `oracle`     looks at /proc, ports and `*.status` and knows nothing of plugd's code
//! - `death`, `disk`, `own_files`, `directory`, `edits`, `process`, `limits`, `logs`, `text`, `signals`
//!   the rows, by family
//! - `kills`, `errnos`, `subsets`, `storm`, `trees`, `lines`, `reads`, `day`  the sweeps
//! - `container`  as PID 1, and in the places where containers differ
//!
//! The sizes are those of every push; `PLUGD_SOAK=1` multiplies them (see `soak`). A sweep that injects counts what
//! has happened, not what it asked for, and goes on until its size is reached.
//!
//! Most injectors want root; who is not root is told what was not shown.
#![expect(clippy::disallowed_methods, reason = "these tests touch the world")]

#[path = "../black_box/world.rs"]
mod world;

mod container;
mod day;
mod death;
mod directory;
mod disk;
mod edits;
mod errnos;
mod guard;
mod inject;
mod kills;
mod limits;
mod lines;
mod logs;
mod oracle;
mod own_files;
mod process;
mod reads;
mod rows;
mod signals;
mod soak;
mod storm;
mod subsets;
mod text;
mod trees;
