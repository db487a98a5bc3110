//! Given values become a [`Spec`]: defaults filled in, paths made absolute, and the rules that
//! speak of several fields at once.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::Map;

use crate::model::capability;
use crate::model::cron::Cron;
use crate::model::digest;
use crate::model::expand;
use crate::model::name::Name;
use crate::model::spec::*;
use crate::model::yaml::Place;
use crate::model::zone::Zone;

use super::context::Context;
use super::fields::Object;
use super::given::{Data, Given};
use super::table::SERVICE;
use super::{probes, rules};

/// Everything at its default, for a service that runs nothing.
pub fn assumed(name: Name) -> Spec {
    Spec {
        name,
        description: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        capabilities: Vec::new(),
        enabled: true,
        required: false,
        replicas: 1,
        process: assumed_process(),
        depends_on: Vec::new(),
        startup_probe: None,
        readiness: Readiness::AtExec,
        liveness_probe: None,
        min_ready: Duration::from_secs(10),
        restart: Restart {
            policy: RestartPolicy::Always,
            backoff: Backoff {
                initial: Duration::from_secs(1),
                factor: 2.0,
                max: Duration::from_secs(60),
                jitter: 0.2,
                reset_after: Duration::from_secs(60),
            },
            crash_loop_after: 5,
            limit: None,
            success_exit_codes: vec![0],
        },
        schedule: None,
        activation: None,
        update: None,
        lifecycle: Lifecycle::default(),
        stop: Stop { signal: 15, grace_period: Duration::from_secs(30) },
        logs: Logs {
            max_size: 10 << 20,
            max_files: 5,
            max_age: None,
            path: None,
            tee: true,
            on_stall: OnStall::Discard,
            rate_limit: None,
            json: false,
        },
        resources: Resources::default(),
        watch_files: Vec::new(),
        not_yet_supported: Vec::new(),
        later: Map::new(),
        digest: Digest::default(),
        process_digest: Digest::default(),
    }
}

pub fn assumed_process() -> Process {
    Process {
        program: Program::Command(Vec::new()),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        env_from: Vec::new(),
        inherit_env: InheritEnv::All,
        user: None,
        group: None,
        umask: None,
        nice: None,
        oom_score_adj: None,
        capabilities: None,
        nofile: None,
        counted: false,
        allow_privilege_escalation: true,
        port: None,
        ports: Vec::new(),
        on_demand: None,
        private_port: None,
        stdio_mcp: false,
        selfcheck: false,
        separate_logs: false,
        kill_scope_tree: false,
        ready_fd: None,
        notify: false,
        watchdog: None,
    }
}

/// The spec of one service. Mistakes are noted in the context; the spec counts only without any.
pub fn spec(ctx: &mut Context<'_>, given: &Given, name: Name, dir: &Path) -> Spec {
    let mut spec = assumed(name);
    spec.description = given.text("description");
    spec.labels = texts(given.get("labels"));
    spec.annotations = texts(given.get("annotations"));
    spec.capabilities = given.get("capabilities").map(Given::texts).unwrap_or_default();
    spec.enabled = given.flag("enabled").unwrap_or(true);
    spec.required = given.flag("required").unwrap_or(false);
    spec.replicas = given.count("replicas").unwrap_or(spec.replicas);
    spec.depends_on = depends_on(given);
    process(&mut spec.process, given, dir);
    probes::all(ctx, &mut spec, given);
    spec.min_ready = given.duration("minReady").unwrap_or(spec.min_ready);
    spec.schedule = given.get("schedule").and_then(schedule);
    if spec.schedule.is_some() {
        spec.restart.policy = RestartPolicy::Never;
    }
    restart(&mut spec.restart, given);
    if spec.schedule.is_some() && spec.restart.policy == RestartPolicy::Always {
        spec.restart.policy = RestartPolicy::OnFailure;
    }
    activation(&mut spec, given);
    spec.update = given.get("update").map(update);
    spec.lifecycle = Lifecycle { pre_start: hook(given, "preStart"), pre_stop: hook(given, "preStop") };
    if let Some(stop) = given.get("stop") {
        spec.stop.signal = stop.int("signal").map_or(spec.stop.signal, |number| number as i32);
        spec.stop.grace_period = stop.duration("gracePeriod").unwrap_or(spec.stop.grace_period);
    }
    logs(&mut spec.logs, given, dir);
    if let Some(given) = given.get("resources") {
        resources(&mut spec, given);
    }
    spec.watch_files = given.get("watchFiles").map(Given::texts).unwrap_or_default();
    later("", given, &SERVICE, &mut spec);
    rules::check(ctx, given, &mut spec);
    (spec.digest, spec.process_digest) = digest::of(&spec);
    spec
}

fn process(process: &mut Process, given: &Given, dir: &Path) {
    let mcp = given.get("mcp");
    let url = mcp.and_then(|mcp| mcp.text("url"));
    if let Some(words) = given.get("command") {
        process.program = Program::Command(words.texts());
    } else if let Some(wrapper) = given.get("wrapper") {
        process.program = Program::Wrapper(Wrapper {
            path: wrapper.text("path").map(|path| clean(Path::new(&path))).unwrap_or_default(),
            sha256: wrapper.text("sha256"),
            port_arg: wrapper.flag("portArg").unwrap_or(false),
        });
        process.selfcheck = wrapper.flag("selfcheck").unwrap_or(false);
    } else if let Some(script) = given.text("script") {
        process.program = Program::Script(script);
    } else if let Some(address) = given.text("address").or(url) {
        process.program = Program::External(address);
    }
    let path = |path: String| clean(&dir.join(path));
    process.args = given.get("args").map(Given::texts).unwrap_or_default();
    process.working_dir = given.text("workingDir").map(path);
    let variables = given.get("env").map(Given::entries).unwrap_or_default();
    process.env = variables.iter().map(|(name, value)| (name.clone(), env_value(value, dir))).collect();
    let env_files = given.get("envFrom").map(Given::items).unwrap_or_default();
    process.env_from = env_files
        .iter()
        .filter_map(|item| {
            Some(EnvFile { file: path(item.text("file")?), optional: item.flag("optional").unwrap_or(false) })
        })
        .collect();
    process.inherit_env = match given.get("inheritEnv").map(|value| (&value.data, value)) {
        Some((Data::Bool(false), _)) => InheritEnv::None,
        Some((Data::List(_), value)) => InheritEnv::Only(value.texts()),
        Some(_) | None => InheritEnv::All,
    };
    if let Some(user) = given.text("user") {
        let (user, group) =
            user.split_once(':').map_or((user.clone(), None), |(user, group)| (user.into(), Some(group.into())));
        (process.user, process.group) = (Some(user), group);
    }
    if let Some(security) = given.get("securityContext") {
        process.user = process.user.take().or(security.text("runAsUser"));
        process.group = process.group.take().or(security.text("runAsGroup"));
        process.umask = security.count("umask");
        process.nice = security.int("nice").map(|nice| nice as i32);
        process.capabilities = security.get("capabilities").map(capabilities).filter(|all| *all != Default::default());
        process.oom_score_adj = security.int("oomScoreAdj").map(|adj| adj as i32);
    }
    let escalation =
        given.at(&["securityContext", "allowPrivilegeEscalation"]).map(|value| matches!(value.data, Data::Bool(true)));
    process.allow_privilege_escalation = escalation.unwrap_or(mcp.is_none());
    process.ports = ports(given);
    process.port = process.ports.first().map(|port| port.port);
    process.stdio_mcp = mcp.is_some_and(|mcp| {
        mcp.get("url").is_none() && mcp.text("transport").is_none_or(|transport| transport == "stdio")
    });
    process.separate_logs = given.get("logs").and_then(|logs| logs.flag("separate")).unwrap_or(false);
    process.kill_scope_tree =
        given.get("stop").and_then(|stop| stop.text("killScope")).is_some_and(|scope| scope == "Tree");
}

fn capabilities(given: &Given) -> Capabilities {
    let set = |name: &str| {
        let names = given.get(name).map(Given::texts).unwrap_or_default();
        let sets = names.iter().filter_map(|name| capability::parse(name)).map(|(_, set)| set);
        sets.fold(capability::Set::default(), capability::Set::with)
    };
    Capabilities { drop: set("drop"), add: set("add") }
}

fn env_value(value: &Given, dir: &Path) -> EnvValue {
    if let Some(file) = value.text("file") {
        EnvValue::File(clean(&dir.join(file)))
    } else if let Some(name) = value.text("fromEnv") {
        EnvValue::FromEnv(name)
    } else {
        EnvValue::Literal(value.text("value").unwrap_or_default())
    }
}

fn ports(given: &Given) -> Vec<Port> {
    let number = |value: &Given| value.as_int().and_then(|port| u16::try_from(port).ok());
    if let Some(port) = given.get("port").and_then(number) {
        return vec![Port { name: None, port, protocol: "tcp".into() }];
    }
    let items = given.get("ports").map(Given::items).unwrap_or_default();
    let port = |item: &Given| {
        let protocol = item.text("protocol").unwrap_or_else(|| "tcp".into());
        Some(Port { name: item.text("name"), port: item.get("port").and_then(number)?, protocol })
    };
    items.iter().filter_map(port).collect()
}

fn depends_on(given: &Given) -> Vec<Dependency> {
    let dependency = |item: &Given| {
        Some(Dependency {
            name: Name::parse(&item.text("name")?).ok()?,
            condition: match item.text("condition").as_deref() {
                Some("Started") => Condition::Started,
                Some("Completed") => Condition::Completed,
                Some(_) | None => Condition::Ready,
            },
            optional: item.flag("optional").unwrap_or(false),
            on_loss: match item.text("onLoss").as_deref() {
                Some("Restart") => OnLoss::Restart,
                Some("Stop") => OnLoss::Stop,
                Some(_) | None => OnLoss::Ignore,
            },
        })
    };
    given.get("dependsOn").map(Given::items).unwrap_or_default().iter().filter_map(dependency).collect()
}

fn restart(restart: &mut Restart, given: &Given) {
    let Some(given) = given.get("restart") else { return };
    restart.policy = match given.text("policy").as_deref() {
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        Some(_) => RestartPolicy::Always,
        None => restart.policy,
    };
    if let Some(backoff) = given.get("backoff") {
        restart.backoff.initial = backoff.duration("initial").unwrap_or(restart.backoff.initial);
        restart.backoff.factor = backoff.number("factor").unwrap_or(restart.backoff.factor);
        restart.backoff.max = backoff.duration("max").unwrap_or(restart.backoff.max);
        restart.backoff.jitter = backoff.number("jitter").unwrap_or(restart.backoff.jitter);
        restart.backoff.reset_after = backoff.duration("resetAfter").unwrap_or(restart.backoff.reset_after);
    }
    restart.crash_loop_after = given.count("crashLoopAfter").unwrap_or(restart.crash_loop_after);
    restart.limit = given.get("limit").and_then(|limit| {
        Some(RestartLimit {
            max: limit.count("max")?,
            within: limit.duration("within").unwrap_or(Duration::from_secs(600)),
        })
    });
    if let Some(codes) = given.get("successExitCodes") {
        restart.success_exit_codes = codes.items().iter().filter_map(|code| Some(code.as_int()? as i32)).collect();
        if !restart.success_exit_codes.contains(&0) {
            restart.success_exit_codes.insert(0, 0);
        }
    }
}

fn schedule(given: &Given) -> Option<Schedule> {
    Some(Schedule {
        cron: Cron::parse(&given.text("cron")?).ok()?,
        time_zone: given.text("timeZone").and_then(|name| Zone::find(&name).ok()).unwrap_or_else(Zone::utc),
        concurrency_policy: match given.text("concurrencyPolicy").as_deref() {
            Some("Allow") => Concurrency::Allow,
            Some("Replace") => Concurrency::Replace,
            Some(_) | None => Concurrency::Forbid,
        },
        starting_deadline: given.duration("startingDeadline"),
        history_limit: given.count("historyLimit").unwrap_or(3),
    })
}

/// `holdRequests` where a manifest does not say it.
pub const HOLD_REQUESTS: Duration = Duration::from_secs(30);

/// On demand, where there is something to start and to listen for: a program with a port that no clock starts.
fn activation(spec: &mut Spec, given: &Given) {
    let Some(given) = given.get("activation") else { return };
    let runs = !matches!(spec.process.program, Program::External(_)) && !spec.process.stdio_mcp;
    if given.flag("onDemand") != Some(true) || !runs || spec.schedule.is_some() {
        return;
    }
    let Some(port) = spec.process.port else { return };
    let pass = if given.text("pass").as_deref() == Some("Socket") { Pass::Socket } else { Pass::Proxy };
    spec.process.on_demand = Some(pass);
    spec.activation = Some(Activation {
        idle_stop: given.duration("idleStop"),
        hold_requests: given.duration("holdRequests").unwrap_or(HOLD_REQUESTS),
    });
    if pass == Pass::Socket {
        // Its socket listens before it runs: a tcp check would say nothing of it.
        if let Readiness::ImpliedPort(_) = spec.readiness {
            spec.readiness = Readiness::AtExec;
        }
        return;
    }
    // On its own port plugd listens: a check asks the instance.
    let probes = [spec.startup_probe.as_mut(), spec.readiness.probe_mut(), spec.liveness_probe.as_mut()];
    for place in probes.into_iter().flatten().filter_map(|probe| probe.check.local_port_mut()) {
        if *place == ProbePort::Number(port) {
            *place = ProbePort::Instance;
        }
    }
}

fn update(given: &Given) -> Update {
    let strategy = given
        .text("strategy")
        .map(|strategy| if strategy == "Rolling" { Strategy::Rolling } else { Strategy::Recreate });
    Update { strategy, max_surge: given.count("maxSurge"), max_unavailable: given.count("maxUnavailable") }
}

fn hook(given: &Given, name: &str) -> Option<Vec<String>> {
    Some(given.at(&["lifecycle", name, "exec", "command"])?.texts())
}

fn logs(logs: &mut Logs, given: &Given, dir: &Path) {
    let Some(given) = given.get("logs") else { return };
    let size = |name: &str| given.int(name).and_then(|bytes| u64::try_from(bytes).ok());
    logs.max_size = size("maxSize").unwrap_or(logs.max_size);
    logs.max_files = given.count("maxFiles").unwrap_or(logs.max_files);
    logs.max_age = given.duration("maxAge");
    logs.path = given.text("path").map(|path| clean(&dir.join(path)));
    logs.tee = given.flag("tee").unwrap_or(true);
    logs.on_stall = if given.text("onStall").as_deref() == Some("Block") { OnStall::Block } else { OnStall::Discard };
    logs.rate_limit = size("rateLimit");
    logs.json = given.text("format").as_deref() == Some("json");
}

fn resources(spec: &mut Spec, given: &Given) {
    let number =
        |group: &str, name: &str| given.at(&[group, name])?.as_int().and_then(|value| u64::try_from(value).ok());
    let cpu = |group: &str| {
        // Decoded as `500m`.
        let text = given.get(group)?.text("cpu")?;
        text.trim_end_matches('m').parse().ok()
    };
    spec.resources = Resources {
        limits: Limits { cpu: cpu("limits"), memory: number("limits", "memory"), pids: number("limits", "pids") },
        requests: Requests { cpu: cpu("requests"), memory: number("requests", "memory") },
        single_process_oom_kill: given.flag("singleProcessOOMKill").unwrap_or(false),
    };
    spec.process.nofile = number("limits", "nofile");
    spec.process.counted = spec.resources != Resources::default();
}

/// What is understood and acted on later: kept whole, and named.
fn later(prefix: &str, given: &Given, object: &'static Object, spec: &mut Spec) {
    for field in object.fields {
        let Some(value) = given.get(field.name) else { continue };
        let path = if prefix.is_empty() { field.name.to_owned() } else { format!("{prefix}.{}", field.name) };
        if prefix.is_empty() && field.name == "activation" {
            if spec.activation.is_none() {
                // With a schedule, or where it is not asked for, there is nothing to act on.
                if value.flag("onDemand") == Some(true) && spec.schedule.is_none() {
                    spec.not_yet_supported.push("activation.onDemand".into());
                }
                spec.later.insert(path, value.to_json());
            }
        } else if field.later && prefix.is_empty() {
            spec.not_yet_supported.push(path.clone());
            spec.later.insert(path, value.to_json());
        } else if field.later {
            // It has its place in the spec; what is assumed anyway asks for nothing.
            if value.as_text() != Some(field.default) {
                spec.not_yet_supported.push(path);
            }
        } else if let Some(inner) = field.kind.object() {
            match &value.data {
                Data::Map(_) => later(&path, value, inner, spec),
                Data::List(items) => items.iter().for_each(|item| later(&path, item, inner, spec)),
                Data::Text(_) | Data::Bool(_) | Data::Int(_) | Data::Number(_) | Data::Duration(_) => {}
            }
        }
    }
}

fn texts(given: Option<&Given>) -> BTreeMap<String, String> {
    let entries = given.map(Given::entries).unwrap_or_default();
    entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_text()?.to_owned()))).collect()
}

/// Without `.`: two spellings of one path are one path. `..` stays, it may cross a symlink.
pub fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

/// Whether the service asks for the port that plugd gives it, rather than binding a literal one.
pub fn takes_given_port(process: &Process) -> bool {
    // A variable that the manifest writes itself is no longer plugd's.
    let is_own = |name: &str| process.env.iter().any(|(own, _)| own == name);
    let given = ["instance.port", "PORT", "MCP_SERVICE_PORT"].into_iter().filter(|name| !is_own(name));
    let given: Vec<&str> = given.collect();
    let asks = |text: &str| given.iter().any(|name| expand::mentions(text, name));
    let words = match &process.program {
        Program::Command(words) => words.as_slice(),
        Program::Wrapper(_) | Program::Script(_) | Program::External(_) => &[],
    };
    matches!(&process.program, Program::Wrapper(wrapper) if wrapper.port_arg)
        || words.iter().chain(&process.args).any(|word| asks(word))
        || process.env.iter().any(|(_, value)| matches!(value, EnvValue::Literal(text) if asks(text)))
}

/// The place of the value at a path, else of the whole.
pub fn place_of(given: &Given, path: &[&str]) -> Place {
    given.at(path).unwrap_or(given).place.clone()
}
