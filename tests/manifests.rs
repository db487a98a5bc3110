//! What people write, and what they are told: golden files beside the manifests.
//!
//! `BLESS=1 cargo test --test manifests` writes the expectations anew; read the difference.

#![expect(clippy::disallowed_methods, reason = "a test that reads files and measures time")]
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugd::model::manifest::{self, Reading, Refused, Text};
use plugd::model::{digest, yaml};
use proptest::prelude::*;

#[test]
fn every_wrong_manifest_is_told_where_and_what_to_write() {
    let files = manifests("wrong");
    assert!(files.len() >= 80, "{} wrong manifests; 80 are promised", files.len());
    for file in files {
        let text = fs::read(&file).expect("a manifest of ours");
        let shown = file.file_name().expect("a file").to_string_lossy().into_owned();
        let Err(refused) = read(&shown, &text) else { panic!("{shown} is taken") };
        for diagnostic in &refused.diagnostics {
            assert!(diagnostic.line > 0 && diagnostic.col > 0, "{shown}: no place");
            assert!(diagnostic.remedy.is_some(), "{shown}: no remedy for {}", diagnostic.message);
        }
        let sources = [Text { file: &shown, text: &text }];
        golden(&file, &manifest::render(&refused.diagnostics, &sources, false, 120));
    }
}

#[test]
fn every_right_manifest_means_what_is_written_beside_it() {
    for file in manifests("right") {
        let text = fs::read(&file).expect("a manifest of ours");
        let shown = file.file_name().expect("a file").to_string_lossy().into_owned();
        let documents = read(&shown, &text).unwrap_or_else(|refused| panic!("{}", lines(&refused)));
        let mut told = String::new();
        for document in &documents {
            let spec = &document.spec;
            told.push_str(&yaml::to_yaml(&manifest::print::envelope(spec)));
            let (whole, process) = (digest::hex(spec.digest), digest::hex(spec.process_digest));
            told.push_str(&format!("# digest {whole}\n# process {process}\n"));
            for field in &spec.not_yet_supported {
                told.push_str(&format!("# not yet supported: {field}\n"));
            }
            for warning in &document.warnings {
                told.push_str(&format!("# warning: {}\n", warning.one_line()));
            }
            told.push_str("---\n");
        }
        golden(&file, &told);
    }
}

#[test]
fn what_is_printed_is_read_again_as_the_same_spec() {
    for file in manifests("right") {
        let text = fs::read(&file).expect("a manifest of ours");
        for document in read("a.yaml", &text).unwrap_or_else(|refused| panic!("{}", lines(&refused))) {
            let printed = yaml::to_yaml(&manifest::print::envelope(&document.spec));
            let again = read("printed.yaml", printed.as_bytes())
                .unwrap_or_else(|refused| panic!("{printed}\n{}", lines(&refused)));
            assert_eq!(again[0].spec, document.spec, "{}", file.display());
        }
    }
}

/// As promised; a build that is not optimised, on a loaded machine, gets 40 times that.
const READ_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 50 });

#[test]
fn bombs_are_refused_in_no_time() {
    let laughs = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [{}]\n", format!("*a{}, ", i - 1).repeat(10))
    });
    let wide = (0..4_000).map(|i| format!("field{i}: {i}\n")).collect::<String>();
    let hundred = (0..100)
        .map(|i| format!("---\napiVersion: plugd/v1\nmetadata: {{name: s{i}}}\nspec: {{command: x}}\n"))
        .collect::<String>();
    for bomb in [
        "{a: ".repeat(16_000),
        "[".repeat(20_000),
        "- ".repeat(30_000),
        "? ".repeat(30_000),
        "a: &a\n".repeat(10_000),
        "&a ".repeat(20_000),
        "!!str ".repeat(10_000),
        "\"".repeat(60_000),
        "a".repeat(64 * 1024),
        format!("logLine: {}", "(".repeat(60_000)),
        format!("readinessProbe: {{logLine: '{}'}}", "(a{1,900}){1,900}".repeat(100)),
        format!("command: {}", "'a' ".repeat(15_000)),
        format!("command: [{}]", "a,".repeat(30_000)),
        format!("env: {{{}}}", (0..4_900).map(|i| format!("A{i}: x, ")).collect::<String>()),
        laughs,
        wide,
        "---\napiVersion: plugd/v1\nspec: {command: x}\n".repeat(1_400),
        hundred.clone(),
        format!("command: x\nwatchFiles: [{}]", format!("'{}', ", "?/".repeat(32)).repeat(900)),
        format!("command: x\nwatchFiles: [{}]", format!("'{}{}', ", "{a,".repeat(300), "}".repeat(300)).repeat(40)),
        "command: x\nreadinessProbe: {logLine: '(\\pL\\w\\W){9}'}\nstartupProbe: {logLine: '\\w{18}'}\n".into(),
    ] {
        let start = Instant::now();
        let read = read("bomb.yaml", bomb.as_bytes());
        let (took, first) = (start.elapsed(), bomb[..bomb.len().min(40)].escape_debug().to_string());
        println!("{took:>10.1?}  {first}");
        // A hundred services in one file are many, and no mistake.
        assert_eq!(read.is_ok(), bomb == hundred, "{first}…");
        assert!(took < READ_MAX, "{took:?} for {first}…");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        total(&bytes);
    }

    #[test]
    fn any_text_that_looks_like_a_manifest_is_taken_or_refused(
        text in proptest::collection::vec(
            proptest::sample::select(vec![
                "command", "env", "port", "ports", "restart", "readinessProbe", "httpGet", "exec", "mcp", "apiVersion", "spec", "plugd/v1",
                "metadata", "name", "wrapper", ": ", ":", "\n", "\n  ", "\n- ", "- ", "[", "]", "{", "}", ", ", "\"", "'", "|\n  ", "&a ", "*a",
                "<<: ", "!!str ", "---\n", "#", " ", "\t", "10s", "8080", "$(PORT)", "true", "none", "é", "\r\n", "~", "? ", "%",
            ]),
            0..40,
        ),
    ) {
        total(text.concat().as_bytes());
    }
}

/// Taken, or refused with at least one error whose place lies in the text; never a panic.
fn total(text: &[u8]) {
    let sources = [Text { file: "a.yaml", text }];
    match read("a.yaml", text) {
        Ok(documents) => assert!(!documents.is_empty()),
        Err(refused) => {
            assert!(!refused.diagnostics.is_empty());
            manifest::render(&refused.diagnostics, &sources, false, 80);
            assert!(refused.diagnostics.iter().all(|diagnostic| diagnostic.bytes.start <= text.len()));
        }
    }
    let _ = plugd::model::settings::read(sources[0]);
}

fn read(file: &str, text: &[u8]) -> Result<Vec<manifest::Document>, Refused> {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    manifest::read(&Reading {
        main: Text { file, text },
        stem,
        dir: Path::new("/etc/plugd/services.d"),
        defaults: None,
        drop_ins: Vec::new(),
    })
}

fn lines(refused: &Refused) -> String {
    refused.diagnostics.iter().map(|diagnostic| diagnostic.one_line() + "\n").collect()
}

fn manifests(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of manifests")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending != "expected"))
        .collect();
    files.sort();
    files
}

/// Compares with the file beside, `NAME.expected`; writes it under `BLESS=1`.
fn golden(file: &Path, told: &str) {
    let beside = file.with_extension("expected");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&beside, told).expect("writing an expectation");
        return;
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    assert!(
        expected == told,
        "{} differs (BLESS=1 writes it anew):\n--- expected\n{expected}\n--- told\n{told}",
        beside.display()
    );
}

fn one(text: &str) -> manifest::Document {
    read("web.yaml", text.as_bytes()).unwrap_or_else(|refused| panic!("{}", lines(&refused))).remove(0)
}

#[test]
fn the_digest_is_of_the_meaning_and_not_of_the_bytes() {
    let spellings = [
        "command: bin/web --port 80\nenv: {A: x, B: y}\nrestart: OnFailure\nminReady: 20s\n",
        "# reordered, commented, spelt otherwise\nminReadySeconds: 20\nrestart: {policy: onfailure}\nenv:\n  B: 'y'\n  A: \"x\"\ncommand: [bin/web, --port, '80']\nx-note: nothing\n",
        "apiVersion: plugd/v1\nkind: Service\nspec: {command: [bin/web, --port, 80], env: {A: x, B: y}, restart: ONFAILURE, minReady: 0.333333m, replicas: 1, enabled: true, stop: {gracePeriod: 30s}}\n",
    ];
    let digests = spellings.map(|text| (one(text).spec.digest, one(text).spec.process_digest));
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn only_what_a_process_is_made_of_is_in_its_digest() {
    let base = one("command: bin/web\n").spec;
    for live in [
        "labels: {a: b}",
        "description: x",
        "required: true",
        "replicas: 2",
        "readinessProbe: {exec: x}",
        "restart: Never",
        "logs: {maxFiles: 2}",
        "stop: {gracePeriod: 1s}",
        "name: other",
        "watchFiles: [x]",
    ] {
        let spec = one(&format!("command: bin/web\n{live}\n")).spec;
        assert_eq!(spec.process_digest, base.process_digest, "{live}");
        assert_ne!(spec.digest, base.digest, "{live}");
    }
    for restarts in [
        "args: [x]",
        "env: {A: b}",
        "user: web",
        "port: 80",
        "workingDir: /x",
        "inheritEnv: false",
        "logs: {separate: true}",
        "stop: {killScope: Tree}",
        "readinessProbe: notify",
        "securityContext: {nice: 1}",
        "resources: {limits: {memory: 64Mi}}",
        "resources: {limits: {nofile: 9}}",
        "envFrom: [x]",
    ] {
        let spec = one(&format!("command: bin/web\n{restarts}\n")).spec;
        assert_ne!(spec.process_digest, base.process_digest, "{restarts}");
    }
    // Once what it uses is counted, the numbers are the kernel's to change.
    let limited = |limits: &str| one(&format!("command: bin/web\nresources: {{limits: {{{limits}}}}}\n")).spec;
    let (one_limit, other) = (limited("memory: 64Mi"), limited("memory: 65Mi, cpu: 2, pids: 7"));
    assert_eq!(one_limit.process_digest, other.process_digest);
    assert_ne!(one_limit.digest, other.digest);
}

#[test]
fn defaults_lie_under_a_manifest_and_drop_ins_over_it() {
    let text = |file, text: &'static str| Text { file, text: text.as_bytes() };
    let reading = Reading {
        main: text(
            "web.yaml",
            "command: bin/web\nenv: {B: main, C: main}\nrestart: OnFailure\nreadinessProbe: {exec: x}\n",
        ),
        stem: "web",
        dir: Path::new("/s"),
        defaults: Some(text(
            "_defaults.yaml",
            "env: {A: under, B: under}\nrestart: {backoff: {max: 5s}}\nreadinessProbe: {tcpSocket: 80, periodSeconds: 3}\nstop: {gracePeriod: 9s}\n",
        )),
        drop_ins: vec![
            text("web.yaml.d/1.yaml", "env: {C: over}\nscript: exec other\n"),
            text("web.yaml.d/2.yaml", "stop: {signal: INT}\n"),
        ],
    };
    let document = manifest::read(&reading).unwrap_or_else(|refused| panic!("{}", lines(&refused))).remove(0);
    insta::assert_snapshot!(manifest::print::effective(&document.spec, &document.origins), @r"
    apiVersion: plugd/v1
    kind: Service
    metadata:
      name: web
    spec:
      script: exec other  # web.yaml.d/1.yaml
      env:
        A: under  # _defaults.yaml
        B: main  # web.yaml
        C: over  # web.yaml.d/1.yaml
      readinessProbe:
        exec:  # web.yaml
          command:
          - x
        period: 3s  # _defaults.yaml
      restart:
        policy: OnFailure  # web.yaml
        backoff:
          max: 5s  # _defaults.yaml
      stop:
        signal: SIGINT  # web.yaml.d/2.yaml
        gracePeriod: 9s  # _defaults.yaml
    ");
}

#[test]
fn a_mistake_in_the_defaults_is_told_with_their_name() {
    let defaults = Text { file: "_defaults.yaml", text: b"strop: {gracePeriod: 9s}\nname: all\n" };
    let main = Text { file: "web.yaml", text: b"command: x\n" };
    let reading = Reading { main, stem: "web", dir: Path::new("/s"), defaults: Some(defaults), drop_ins: Vec::new() };
    let refused = manifest::read(&reading).expect_err("a mistake");
    assert_eq!(
        lines(&refused),
        "_defaults.yaml:2:1: a name cannot come from here; write `name` in the manifest itself\n"
    );
    assert_eq!(
        manifest::check_defaults(Text { text: b"strop: 1\n", ..defaults })[0].one_line(),
        "_defaults.yaml:1:1: unknown field `strop`; did you mean `stop`?"
    );
    assert!(manifest::check_defaults(Text { text: b"# nothing yet\n", ..defaults }).is_empty());
}

#[test]
fn an_invalid_manifest_still_owns_its_name_and_claims_its_wrapper() {
    let reading = |text: &'static str| Reading {
        main: Text { file: "a.yaml", text: text.as_bytes() },
        stem: "a",
        dir: Path::new("/s"),
        defaults: None,
        drop_ins: Vec::new(),
    };
    for text in [
        "name: db\nwrapper: db.sh\nrequired: true\nprot: 1\n",
        "name: db\nrequired: true # yes\nwrapper: db.sh\nenv: {A: [\n",
        "apiVersion: plugd/v1\nmetadata: {name: db}\nspec: {wrapper: {path: db.sh}, required: true, prot: 1}\n",
    ] {
        let refused = manifest::read(&reading(text)).expect_err("a mistake");
        assert_eq!(refused.name.as_ref().map(|name| name.as_str()), Some("db"), "{text}");
        assert!(refused.required, "{text}");
        assert_eq!(manifest::wrapper_mentions(&reading(text)), [PathBuf::from("db.sh")], "{text}");
    }
    assert_eq!(manifest::names(reading("name: db\n").main).len(), 1);
}
