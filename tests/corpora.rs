//! Every file of `fuzz/corpus`, and mutations of it, at the border that it is meant for.
//!
//! `cargo fuzz run NAME` (see `fuzz/README.md`) finds new ones; here they are held, on stable Rust.

#![expect(clippy::disallowed_methods, reason = "corpora are read from the disk, and a mutation is timed")]

#[path = "faults/soak.rs"]
mod soak;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugd::fuzz::{BORDERS, Border};
use soak::times;

/// How many milliseconds a border is tried with mutations; a minute with `PLUGD_SOAK`.
const MUTATE_MILLIS: usize = 600;
/// The number of the first mutation; each is the same in every run.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes that mean something to one border or another.
const SPEAKING: &[u8] = b"\n\t \0\xff\"'\\:{}[]$()/@=-0919aZ";
/// A corpus is what many test runs can read.
const SIZE_MAX: usize = 64 * 1024;

fn corpus(border: &Border) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(border.name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(&file).expect("readable"))).collect()
}

/// xorshift64*.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or_default() % limit.max(1)
    }
}

/// One to four changes: a bit, a byte, a piece doubled, cut out, or taken from another file.
fn mutated(numbers: &mut Numbers, files: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = files[numbers.below(files.len())].1.clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let end = (at + 1 + numbers.below(24)).min(bytes.len());
        match numbers.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 if at < bytes.len() => bytes[at] = numbers.next() as u8,
            2 if at < end => drop(bytes.drain(at..end)),
            3 if at < end => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &files[numbers.below(files.len())].1;
                let from = numbers.below(other.len() + 1);
                let to = (from + numbers.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => bytes.insert(at, SPEAKING[numbers.below(SPEAKING.len())]),
        }
    }
    bytes.truncate(SIZE_MAX);
    bytes
}

fn survives(border: &Border, bytes: &[u8], what: &str) {
    if catch_unwind(|| (border.feed)(bytes)).is_err() {
        panic!("{}: {what}: {:?}", border.name, bytes.escape_ascii().to_string());
    }
}

fn hold(border: &Border) {
    let files = corpus(border);
    assert!(!files.is_empty(), "{} has no corpus", border.name);
    for (file, bytes) in &files {
        assert!(bytes.len() <= SIZE_MAX, "{} is too large", file.display());
        survives(border, bytes, &file.display().to_string());
    }
    let limit = Duration::from_millis(times(MUTATE_MILLIS) as u64);
    let (start, mut numbers, mut count) = (Instant::now(), Numbers(SEED), 0_u64);
    while start.elapsed() < limit {
        let bytes = mutated(&mut numbers, &files);
        survives(border, &bytes, &format!("mutation {count}"));
        count += 1;
    }
    println!("{:>10}: {} files, {count} mutations", border.name, files.len());
}

#[test]
fn every_file_of_the_corpora_and_mutations_of_it_keep_what_is_promised() {
    let broken: Vec<&str> =
        BORDERS.iter().filter(|border| catch_unwind(|| hold(border)).is_err()).map(|border| border.name).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn every_border_has_a_target_and_a_corpus_and_nothing_else_lies_there() {
    let mut borders: Vec<&str> = BORDERS.iter().map(|border| border.name).collect();
    borders.sort_unstable();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (dir, ending) in [("targets", ".rs"), ("corpus", "")] {
        let entries = std::fs::read_dir(root.join(dir)).expect("a folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        let mut found: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        found.sort_unstable();
        let wanted: Vec<String> = borders.iter().map(|border| format!("{border}{ending}")).collect();
        assert_eq!(found, wanted, "fuzz/{dir}");
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("a package");
    for border in borders {
        assert!(manifest.contains(&format!("path = \"targets/{border}.rs\"")), "{border} is no target");
    }
}
