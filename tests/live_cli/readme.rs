//! What README.md shows of a mistake is what the program says.

use std::path::Path;

use crate::ask::{ends, err, out};
use crate::world::World;

/// The manifest, and the lines that `plugd check web.yaml` prints below it.
fn shown() -> (String, String) {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let block = readme
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .find_map(|block| block.strip_prefix("$ cat web.yaml\n"))
        .expect("the example of a manifest with mistakes");
    let (manifest, said) = block.split_once("$ plugd check web.yaml\n").expect("the command");
    (manifest.into(), said.into())
}

#[test]
fn the_readme_shows_what_check_says() {
    let (manifest, said) = shown();
    let world = World::empty();
    std::fs::write(world.root().join("web.yaml"), manifest).expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_plugd"))
        .args(["check", "web.yaml"])
        .current_dir(world.root())
        .output()
        .expect("plugd can be started");
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
    assert_eq!(out(&output), said);
}

/// The fields at the beginning of a line, of a block of YAML that is introduced with these words.
fn fields_below(words: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let rest = readme.split(words).nth(1).expect("the words that introduce it");
    let block = rest.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its block");
    let field = |line: &str| line.split_once(':').map(|(name, _)| name.to_string());
    block.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).filter_map(field).collect()
}

#[test]
fn the_sixteen_fields_of_the_readme_are_those_of_the_first_page() {
    let shown = fields_below("These sixteen fields do most of it");
    let explained = std::process::Command::new(env!("CARGO_BIN_EXE_plugd")).arg("explain").output().expect("started");
    let first_page = out(&explained);
    // Each has an example, in the line after its own.
    let examples = first_page.lines().filter_map(|line| line.trim_start().strip_prefix("e.g. "));
    let named: Vec<String> =
        examples.filter_map(|example| example.split_once(':').map(|(name, _)| name.to_string())).collect();
    assert_eq!(shown.len(), 16);
    assert_eq!(shown, named);
}

#[test]
fn the_status_file_says_the_same_in_a_line_each() {
    let (manifest, _) = shown();
    let world = World::running();
    world.put("web.yaml", &manifest);
    world.wait_status("web", "failed (ConfigInvalid)");
    let text = world.status_file("web").expect("there");
    let why: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
    for place in ["web.yaml:1:1: ", "web.yaml:2:7: ", "web.yaml:3:10: "] {
        assert!(why.iter().any(|line| line.contains(place)), "{place} in\n{text}");
    }
    ends(&world, 0, &["wait", "web", "--for=jsonpath={.reason}=ConfigInvalid", "--timeout", "10s"]);
}
