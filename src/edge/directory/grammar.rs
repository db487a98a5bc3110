//! Stand-in for `model::manifest` until it is merged.
#![expect(clippy::all, reason = "stand-in")]
use crate::model::{name::Name, spec::*};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    pub file: &'a str,
    pub text: &'a [u8],
}
pub struct Reading<'a> {
    pub main: Text<'a>,
    pub stem: &'a str,
    pub dir: &'a Path,
    pub defaults: Option<Text<'a>>,
    pub drop_ins: Vec<Text<'a>>,
}
#[derive(Debug)]
pub struct Document {
    pub spec: Spec,
    pub warnings: Vec<Diagnostic>,
}
#[derive(Debug)]
pub struct Refused {
    pub name: Option<Name>,
    pub required: bool,
    pub diagnostics: Vec<Diagnostic>,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub message: String,
}
impl Diagnostic {
    pub fn one_line(&self) -> String {
        self.message.clone()
    }
}
pub fn read(r: &Reading<'_>) -> Result<Vec<Document>, Refused> {
    let text = String::from_utf8_lossy(r.main.text).into_owned();
    let mut name = r.stem.to_string();
    let mut program = None;
    let mut env = vec![];
    let mut required = false;
    let mut bad = false;
    let mut later = serde_json::Map::new();
    for t in r.defaults.iter().chain(&r.drop_ins) {
        later.insert(t.file.into(), String::from_utf8_lossy(t.text).into_owned().into());
    }
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("name", v)) => name = v.into(),
            Some(("command", v)) => program = Some(Program::Command(v.split(' ').map(str::to_string).collect())),
            Some(("wrapper", v)) => {
                program = Some(Program::Wrapper(Wrapper { path: v.into(), sha256: None, port_arg: false }))
            }
            Some(("envFrom", v)) => env.push(EnvFile { file: r.dir.join(v), optional: false }),
            Some(("required", v)) => required = v == "true",
            _ if line.starts_with('#') || line.is_empty() || line == "---" => {}
            _ => bad = true,
        }
    }
    let parsed = Name::parse(&name);
    match (parsed, program, bad) {
        (Ok(name), Some(program), false) => {
            Ok(vec![Document { spec: spec(name, program, env, required, later), warnings: vec![] }])
        }
        (n, _, _) => Err(Refused {
            name: n.ok(),
            required,
            diagnostics: vec![Diagnostic { message: format!("{}:1:1: bad", r.main.file) }],
        }),
    }
}
pub fn from_script(r: &Reading<'_>) -> Result<Option<Document>, Refused> {
    let name = Name::parse(r.stem).expect("stem");
    Ok(Some(Document {
        spec: spec(
            name,
            Program::Wrapper(Wrapper { path: r.dir.join(r.main.file), sha256: None, port_arg: false }),
            vec![],
            false,
            Default::default(),
        ),
        warnings: vec![],
    }))
}
pub fn wrapper_mentions(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).lines().filter_map(|l| l.strip_prefix("wrapper: ").map(str::to_string)).collect()
}
fn spec(
    name: Name,
    program: Program,
    env_from: Vec<EnvFile>,
    required: bool,
    later: serde_json::Map<String, serde_json::Value>,
) -> Spec {
    Spec {
        name,
        description: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        capabilities: vec![],
        enabled: true,
        required,
        replicas: 1,
        process: Process {
            program,
            args: vec![],
            working_dir: None,
            env: vec![],
            env_from,
            inherit_env: InheritEnv::All,
            user: None,
            group: None,
            umask: None,
            nice: None,
            oom_score_adj: None,
            allow_privilege_escalation: true,
            port: None,
            ports: vec![],
            stdio_mcp: false,
            selfcheck: false,
            separate_logs: false,
            kill_scope_tree: false,
            ready_fd: None,
            notify: false,
            watchdog: None,
        },
        depends_on: vec![],
        startup_probe: None,
        readiness: Readiness::AtExec,
        liveness_probe: None,
        min_ready: Duration::ZERO,
        restart: Restart {
            policy: RestartPolicy::Always,
            backoff: Backoff {
                initial: Duration::ZERO,
                factor: 2.0,
                max: Duration::ZERO,
                jitter: 0.0,
                reset_after: Duration::ZERO,
            },
            crash_loop_after: 5,
            limit: None,
            success_exit_codes: vec![],
        },
        update: None,
        lifecycle: Lifecycle::default(),
        stop: Stop { signal: 15, grace_period: Duration::ZERO },
        logs: Logs {
            max_size: 1,
            max_files: 1,
            max_age: None,
            path: None,
            tee: false,
            on_stall: OnStall::Discard,
            rate_limit: None,
            json: false,
        },
        not_yet_supported: vec![],
        later,
        digest: Digest::default(),
        process_digest: Digest::default(),
    }
}
#[allow(unused)]
fn unused(_: Arc<()>) {}
