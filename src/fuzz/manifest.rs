//! Manifests, settings and the heads of scripts: taken or refused, with a place and a remedy, in no time.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::model::manifest::{self, Diagnostic, Reading, Refused, Severity, Text};
use crate::model::text::harmless::is_hostile;
use crate::model::{settings as node, yaml};

/// What is promised for a text of 64 KiB, of the processor's time. With the checks of a debug build it may be
/// as slow as that is.
const TIME_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 50 });
/// No byte of UTF-8: what stands behind the first are the defaults, then drop-ins.
const BETWEEN: u8 = 0xff;

pub fn manifest(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == BETWEEN);
    let main = Text { file: "web.yaml", text: parts.next().unwrap_or_default() };
    let defaults = parts.next().map(|text| Text { file: "_defaults.yaml", text });
    let names = ["web.yaml.d/1.yaml", "web.yaml.d/2.yaml", "web.yaml.d/3.yaml"];
    let drop_ins: Vec<Text<'_>> = names.into_iter().zip(parts).map(|(file, text)| Text { file, text }).collect();
    let sources: Vec<Text<'_>> = [main].into_iter().chain(defaults).chain(drop_ins.iter().copied()).collect();
    let reading = Reading { main, stem: "web", dir: Path::new("/services.d"), defaults, drop_ins };
    let documents = in_time(sources.len(), || manifest::read(&reading));
    in_time(sources.len(), || (manifest::names(main), manifest::wrapper_mentions(&reading)));
    if let Some(defaults) = defaults {
        look_at(&in_time(1, || manifest::check_defaults(defaults)), &sources);
    }
    match documents {
        Ok(documents) => documents.iter().for_each(|document| {
            look_at(&document.warnings, &sources);
            read_again(document);
        }),
        Err(refused) => is_told(&refused, &sources),
    }
}

pub fn settings(bytes: &[u8]) {
    let text = Text { file: "_plugd.yaml", text: bytes };
    match in_time(1, || node::read(text)) {
        Ok(_) => {}
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a word");
            look_at(&diagnostics, &[text]);
        }
    }
    if let Some((name, value)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('=')) {
        let _one_way_or_the_other = node::one(name, value);
    }
}

pub fn script(bytes: &[u8]) {
    let main = Text { file: "web.sh", text: bytes };
    let reading = Reading { main, stem: "web", dir: Path::new("/services.d"), defaults: None, drop_ins: Vec::new() };
    match in_time(1, || manifest::from_script(&reading, Path::new("/services.d/web.sh"))) {
        Ok(Some(document)) => look_at(&document.warnings, &[main]),
        Ok(None) => assert!(!bytes.starts_with(b"#!") && !bytes.starts_with(b"\x7fELF")),
        Err(refused) => is_told(&refused, &[main]),
    }
}

/// What plugd prints of a spec is that spec, unless the plain form does not fit into what is read.
fn read_again(document: &manifest::Document) {
    let spec = &document.spec;
    let printed = yaml::to_yaml(&manifest::print::envelope(spec));
    let _told = manifest::print::effective(spec, &document.origins);
    if printed.len() > yaml::TEXT_MAX {
        return;
    }
    let main = Text { file: "printed.yaml", text: printed.as_bytes() };
    let reading =
        Reading { main, stem: "printed", dir: Path::new("/services.d"), defaults: None, drop_ins: Vec::new() };
    match manifest::read(&reading) {
        Ok(again) => {
            assert_eq!(again.len(), 1, "{printed}");
            assert_eq!(again[0].spec, *spec, "{printed}");
        }
        Err(refused) => panic!("{printed}\n{}", manifest::render(&refused.diagnostics, &[main], false, 120)),
    }
}

fn is_told(refused: &Refused, sources: &[Text<'_>]) {
    assert!(refused.diagnostics.iter().any(|told| told.severity == Severity::Error), "refused without an error");
    look_at(&refused.diagnostics, sources);
}

/// Each has a place in its file and says what to write; a terminal can be given all of it.
fn look_at(diagnostics: &[Diagnostic], sources: &[Text<'_>]) {
    for told in diagnostics {
        let source = sources.iter().find(|source| source.file == told.file);
        let source = source.unwrap_or_else(|| panic!("{told:?} is of no file that was read")).text;
        // A carriage return alone ends a line of YAML as well.
        let lines = source.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
        assert!((1..=lines).contains(&told.line) && told.col > 0, "{told:?} of {lines} lines");
        assert!(told.bytes.start <= told.bytes.end && told.bytes.end <= source.len(), "{told:?}");
        assert!(told.remedy.is_some(), "no remedy: {told:?}");
        let line = told.one_line();
        assert!(!line.chars().any(is_hostile), "{line:?}");
    }
    let text = manifest::render(diagnostics, sources, false, 120);
    assert!(!text.chars().any(|c| is_hostile(c) && c != '\n'), "{text:?}");
    let _coloured = manifest::render(diagnostics, sources, true, 40);
}

/// By the processor's time, which other processes do not lengthen.
fn in_time<T>(texts: usize, work: impl FnOnce() -> T) -> T {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let before = now();
    let done = work();
    let took = now().saturating_sub(before);
    let limit = TIME_MAX.saturating_mul(u32::try_from(texts).unwrap_or(u32::MAX));
    assert!(took <= limit, "{took:?} for {texts} texts");
    done
}
