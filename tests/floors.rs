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

/// A file without its comments and its tests.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("readable");
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The names that follow a path (`crate::`, `std::`) in a text, those of a group `{a, b::c}` each.
fn names_after(path: &str, code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(path) {
        let longer = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = code[at + path.len()..].trim_start();
        match rest.strip_prefix('{') {
            _ if longer => {}
            Some(group) => names.extend(heads(group)),
            None => names.push(word(rest)),
        }
    }
    names
}

/// The first name of each part of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(word(&group[begin..at]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The modules of the house that a file names: from the root down, or up to the root and down again.
fn uses(relative: &Path, code: &str) -> Vec<String> {
    let folded = relative.ends_with("mod.rs");
    let depth = relative.components().count() - usize::from(folded);
    let mut names = names_after("crate::", code);
    // An inline module may go up once more.
    names.extend((depth..=depth + 1).flat_map(|steps| names_after(&"super::".repeat(steps), code)));
    names
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let seen = |code: &str| uses(Path::new("model/time.rs"), code);
    assert!(seen("use crate::{runtime as _, edge::{places, put}, cli};").starts_with(&[
        "runtime".to_string(),
        "edge".to_string(),
        "cli".to_string()
    ]));
    assert_eq!(seen("let x = crate::api::Y;"), ["api"]);
    assert_eq!(seen("use super::super::cli as _;"), ["cli"]);
    assert_eq!(seen("use super::reason::Reason;"), Vec::<String>::new());
    assert_eq!(names_after("std::", "use std::{fs, io::Read, process};"), ["fs", "io", "process"]);
    assert_eq!(names_after("std::", "let x = mystd::fs::read();"), Vec::<String>::new());
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
        for used in uses(relative, &code_of(&file)) {
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
    let mut wrong = Vec::new();
    for file in files {
        let code = code_of(&file);
        let outside = ["fs", "process", "net", "thread", "env", "os"];
        let used = names_after("std::", &code).into_iter().filter(|name| outside.contains(&name.as_str()));
        wrong.extend(used.map(|name| format!("{}: std::{name}", file.display())));
        let foreign = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "rustix", "libc", "tokio"];
        // Their order is another in each process.
        let unordered = ["HashMap", "HashSet"];
        wrong.extend(named(&code, &unordered).map(|word| format!("{}: {word}", file.display())));
        wrong.extend(named(&code, &foreign).map(|word| format!("{}: {word}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Those of the words that stand alone in a text.
fn named<'w>(code: &str, words: &'w [&str]) -> impl Iterator<Item = &'w str> {
    let joined = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |word: &str| {
        code.match_indices(word)
            .any(|(at, _)| !code[..at].ends_with(joined) && !code[at + word.len()..].starts_with(joined))
    };
    words.iter().copied().filter(|word| stands(word)).collect::<Vec<_>>().into_iter()
}

#[test]
fn the_keeper_knows_no_runtime_and_no_text_format() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keeper");
    let mut files = Vec::new();
    sources(&root, &mut files);
    // The controller's half.
    files.retain(|file| !file.ends_with("client.rs") && !file.ends_with("inherit.rs"));
    let foreign = ["tokio", "serde", "serde_json", "serde_yaml", "serde_saphyr"];
    // Nothing of what decides, either: it is told all that it has to know.
    let others =
        ["model", "policy", "controller", "edge", "runtime", "api", "cli"].map(|floor| format!("crate::{floor}"));
    let mut wrong = Vec::new();
    for file in files {
        let code = code_of(&file);
        let floors = others.iter().map(String::as_str).filter(|floor| code.contains(floor));
        wrong.extend(named(&code, &foreign).chain(floors).map(|word| format!("{}: {word}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What every Debian has, of the packages that are essential.
const EVERYWHERE: [&str; 9] = ["cp", "env", "mkdir", "mkfifo", "mknod", "setsid", "sh", "sleep", "timeout"];

#[test]
fn every_program_that_a_test_starts_by_its_name_is_installed_by_test_sh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installs = std::fs::read_to_string(root.join("test.sh")).expect("readable");
    let installs: Vec<&str> = installs.split(|c: char| c.is_whitespace() || ",'\"/*".contains(c)).collect();
    let mut files = Vec::new();
    sources(&root.join("tests"), &mut files);
    files.retain(|file| !file.ends_with("floors.rs"));
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        for before in ["Command::new(\"", " command(\"", "tool(&[\"", "under = [\"", "under = vec![\""] {
            for rest in text.split(before).skip(1) {
                let program: String = rest.chars().take_while(|c| *c != '"').collect();
                seen += 1;
                if !EVERYWHERE.contains(&program.as_str()) && !installs.contains(&program.as_str()) {
                    wrong.push(format!("{}: {program}", file.display()));
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} were found: the walk is wrong");
    assert!(wrong.is_empty(), "test.sh installs none of these:\n{}", wrong.join("\n"));
}

/// The keeper is what must not fail, so it stays small enough to be read in one sitting. What runs in the
/// controller (`client`, `inherit`) and tests are not counted, nor are comments and empty lines. 180 of them are
/// lives below a reaper, which only the parent of all can make (`stop.killScope: Tree`).
#[test]
fn the_keeper_does_not_grow() {
    const LINES_MAX: usize = 2156;
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
