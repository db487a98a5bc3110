//! A discovered script: an executable that is a service by being there. The comment block in its
//! head may carry its manifest, each line after `# plugd:`.

use std::path::Path;

use super::{Document, Reading, Refused, Text, envelope};

/// Bytes of a script in which its comment block is looked for.
const HEAD: usize = 16 * 1024;

/// Whether a file begins as something that can be executed: `#!` or ELF.
pub fn is_program(text: &[u8]) -> bool {
    text.starts_with(b"#!") || text.starts_with(b"\x7fELF")
}

/// Whether the head of a script has a `# plugd:` line.
pub fn has_block(script: &[u8]) -> bool {
    !block(script).iter().all(u8::is_ascii_whitespace)
}

/// The service that a script is; none if the file begins neither with `#!` nor as ELF.
/// `reading.main` is the script's own text and `path` where it lies, absolute.
pub fn from_script(reading: &Reading<'_>, path: &Path) -> Result<Option<Document>, Refused> {
    if !is_program(reading.main.text) {
        return Ok(None);
    }
    let block = block(reading.main.text);
    let main = Text { text: &block, ..reading.main };
    let mut documents = envelope::read(&Reading { main, ..reading.clone() }, Some(path))?;
    Ok(documents.pop())
}

/// The services of a file that a person names, wherever it lies at `path`: a program is what discovery would make of
/// it, all else is a manifest.
pub fn read_named(reading: &Reading<'_>, path: &Path) -> Result<Vec<Document>, Refused> {
    if !is_manifest(path)
        && !is_run_by_plugd(reading.main.text)
        && let Some(document) = from_script(reading, path)?
    {
        return Ok(vec![document]);
    }
    envelope::read(reading, None)
}

/// By its ending; the first line of one may be `#!/usr/bin/env plugd`, which is a comment of YAML.
pub fn is_manifest(path: &Path) -> bool {
    matches!(path.extension().and_then(|ending| ending.to_str()), Some("yaml" | "yml" | "json"))
}

/// Whether a `#!` line leads here: run as a program it would start plugd again, without an end.
fn is_run_by_plugd(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let base = |word: &&[u8]| word.rsplit(|byte| *byte == b'/').next() == Some(b"plugd".as_slice());
    text.starts_with(b"#!") && line[2..].split(u8::is_ascii_whitespace).any(|word| base(&word))
}

/// The text of the head with everything but the manifest blanked out, so that lines and columns
/// stay what they are: the prefix becomes spaces, which YAML takes as indentation of the whole.
fn block(script: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let head = &script[..script.len().min(HEAD)];
    for (number, line) in head.split_inclusive(|&b| b == b'\n').enumerate() {
        let comment = line.starts_with(b"#") || line.iter().all(u8::is_ascii_whitespace);
        if !comment && number > 0 {
            break;
        }
        let hash = line.strip_prefix(b"#").map(|rest| rest.trim_ascii_start());
        match hash.and_then(|rest| rest.strip_prefix(b"plugd:")) {
            Some(rest) => {
                out.extend(std::iter::repeat_n(b' ', line.len() - rest.len()));
                out.extend_from_slice(rest);
            }
            None => out.extend(line.iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' })),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::Program;

    fn read(script: &[u8]) -> Result<Option<Document>, Refused> {
        let main = Text { file: "db.sh", text: script };
        let reading = Reading { main, stem: "db", dir: Path::new("/s"), defaults: None, drop_ins: Vec::new() };
        from_script(&reading, Path::new("/s/db.sh"))
    }

    #[test]
    fn a_script_without_a_block_is_a_service_with_defaults() {
        let document = read(b"#!/bin/sh\nexec sleep 9\n").expect("valid").expect("a script");
        assert_eq!(document.spec.name.as_str(), "db");
        assert!(matches!(&document.spec.process.program, Program::Wrapper(w) if w.path == Path::new("/s/db.sh")));
        assert!(read(b"just text").expect("valid").is_none());
        assert!(read(b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe").expect("valid").is_some());
    }

    #[test]
    fn a_block_in_the_head_is_its_manifest() {
        let script = b"#!/bin/sh\n# A database.\n# plugd: port: 5432\n# plugd: stop:\n# plugd:   gracePeriod: 5s\n\necho '# plugd: no'\n# plugd: nor: this\n";
        let document = read(script).expect("valid").expect("a script");
        assert_eq!(document.spec.process.port, Some(5432));
        assert_eq!(document.spec.stop.grace_period, std::time::Duration::from_secs(5));
        assert!(has_block(script) && !has_block(b"#!/bin/sh\n# nothing\n"));
    }

    #[test]
    fn a_block_cannot_name_another_program() {
        let refused = read(b"#!/bin/sh\n# plugd: command: bin/other\n").expect_err("a mistake");
        assert_eq!(
            refused.diagnostics[0].one_line(),
            "db.sh:2:10: `command` in a script that is itself the program; remove it"
        );
    }

    #[test]
    fn a_file_that_is_named_is_a_program_or_a_manifest() {
        let named = |path: &str, text: &[u8]| {
            let main = Text { file: path, text };
            let reading = Reading { main, stem: "db", dir: Path::new("/s"), defaults: None, drop_ins: Vec::new() };
            read_named(&reading, Path::new(path)).map(|documents| documents[0].spec.process.program.clone())
        };
        let script = b"#!/bin/sh\nexec sleep 9\n";
        for path in ["/s/db.sh", "/s/db"] {
            assert!(matches!(named(path, script), Ok(Program::Wrapper(_))), "{path}");
        }
        assert!(named("/s/db.yaml", script).is_err());
        let manifest = b"#!/usr/bin/env -S plugd run\ncommand: sleep 9\n";
        for path in ["/s/db.yaml", "/s/db"] {
            assert!(matches!(named(path, manifest), Ok(Program::Command(_))), "{path}");
        }
    }

    #[test]
    fn a_mistake_in_a_block_has_its_place_in_the_script() {
        let refused = read(b"#!/bin/sh\n# plugd: prot: 5432\n").expect_err("a mistake");
        assert_eq!(refused.diagnostics[0].one_line(), "db.sh:2:10: unknown field `prot`; did you mean `port`?");
    }
}
