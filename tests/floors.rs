//! The floors of the house: a file may use only what lies on its own floor or below.
//!
//! Floors are listed from the ground up in `src/lib.rs`'s theory of operation; here they are law.

#![expect(clippy::disallowed_methods, reason = "the house is read from the disk")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules by floor. `cli` and `main` stand on the roof and may use everything.
const FLOORS: [(&str, u8); 10] = [
    ("model", 0),
    ("policy", 1),
    ("controller", 2),
    ("keeper", 3),
    ("edge", 4),
    ("api", 6),
    ("runtime", 7),
    ("embed", 8),
    // Feeds the borders of all floors; nothing uses it but `fuzz/` and `tests/corpora.rs`.
    ("fuzz", 8),
    ("cli", 8),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("entry can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The module names that follow `crate::` in a text, comments left out.
fn uses(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn no_file_uses_what_lies_above_its_floor() {
    let floors: BTreeMap<&str, u8> = FLOORS.into_iter().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 40, "only {} files were found: the walk is wrong", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below src");
        let module = relative.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let module = module.trim_end_matches(".rs");
        if module == "main" || module == "lib" {
            continue;
        }
        let own = *floors.get(module).unwrap_or_else(|| panic!("src/{module} stands on no floor: give it one here"));
        for used in uses(&std::fs::read_to_string(&file).expect("readable")) {
            if let Some(floor) = floors.get(used.as_str())
                && *floor > own
            {
                wrong.push(format!("{} (floor {own}) uses crate::{used} (floor {floor})", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_floors_name_no_clock_no_disk_and_no_process() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for floor in ["model", "policy", "controller"] {
        sources(&root.join(floor), &mut files);
    }
    let forbidden = ["Instant::now", "SystemTime::now", "Timestamp::now", "std::fs::", "std::process::", "tokio::"];
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        // Tests at the end of a file may time themselves.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                if line.contains(word) {
                    wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The keeper is what must not fail, so it stays small enough to be read in one sitting. What runs in the
/// controller (`client`, `inherit`) and tests are not counted, nor are comments and empty lines. 180 of them are
/// lives below a reaper, which only the parent of all can make (`stop.killScope: Tree`).
#[test]
fn the_keeper_does_not_grow() {
    const LINES_MAX: usize = 2116;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keeper");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let elsewhere = ["client.rs", "inherit.rs", "memory.rs", "tests.rs"];
    files.retain(|file| !elsewhere.iter().any(|name| file.ends_with(name)));
    let lines = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("readable");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
    };
    let total: usize = files.iter().map(lines).sum();
    assert!(total <= LINES_MAX, "{total} lines of code in the keeper, at most {LINES_MAX}");
}
