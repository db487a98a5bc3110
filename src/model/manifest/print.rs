//! A spec in Kubernetes' envelope, as `get -o yaml` prints it: what differs from the defaults, in
//! canonical spelling. Read again it is the same spec, with the same digests.
//!
//! Secrets are references (`{file: …}`, `{fromEnv: …}`), so there is nothing to hide.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::duration::show;
use crate::model::spec::*;
use crate::model::{quantity, signal, yaml};

use super::assemble::{HOLD_REQUESTS, assumed};
use super::envelope::API_VERSION;

/// `{apiVersion, kind, metadata, spec}`.
pub fn envelope(spec: &Spec) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(spec.name.as_str()));
    insert(&mut metadata, "labels", !spec.labels.is_empty(), || json!(spec.labels));
    insert(&mut metadata, "annotations", !spec.annotations.is_empty(), || json!(spec.annotations));
    json!({"apiVersion": API_VERSION, "kind": "Service", "metadata": metadata, "spec": fields(spec)})
}

/// The fields of the spec by their names in a manifest.
pub fn fields(spec: &Spec) -> Map<String, Value> {
    let mut out = Map::new();
    let assumed = assumed(spec.name.clone());
    insert(&mut out, "description", spec.description.is_some(), || json!(spec.description));
    insert(&mut out, "enabled", !spec.enabled, || json!(false));
    insert(&mut out, "required", spec.required, || json!(true));
    insert(&mut out, "capabilities", !spec.capabilities.is_empty(), || json!(spec.capabilities));
    process(&mut out, spec);
    insert(&mut out, "replicas", spec.replicas != 1, || json!(spec.replicas));
    insert(&mut out, "dependsOn", !spec.depends_on.is_empty(), || spec.depends_on.iter().map(dependency).collect());
    for (name, one) in [("startupProbe", spec.startup_probe.as_ref()), ("livenessProbe", spec.liveness_probe.as_ref())]
    {
        insert(&mut out, name, one.is_some(), || one.map(probe).unwrap_or_default());
    }
    match &spec.readiness {
        Readiness::ImpliedPort(_) => {}
        Readiness::AtExec if spec.process.on_demand == Some(Pass::Socket) => {}
        Readiness::AtExec if spec.process.port.is_some() && !spec.process.stdio_mcp => {
            drop(out.insert("readinessProbe".into(), json!("none")))
        }
        Readiness::AtExec => {}
        Readiness::Probe(one) => drop(out.insert("readinessProbe".into(), probe(one))),
    }
    insert(&mut out, "minReady", spec.min_ready != assumed.min_ready, || json!(show(spec.min_ready)));
    let usual = match &spec.schedule {
        Some(_) => Restart { policy: RestartPolicy::Never, ..assumed.restart },
        None => assumed.restart,
    };
    restart(&mut out, &spec.restart, &usual);
    if let Some(one) = &spec.schedule {
        out.insert("schedule".into(), schedule(one));
    }
    if let Some(one) = &spec.activation {
        out.insert("activation".into(), activation(one, spec.process.on_demand));
    }
    if let Some(update) = &spec.update {
        let mut inner = Map::new();
        insert(&mut inner, "strategy", update.strategy.is_some(), || json!(update.strategy));
        insert(&mut inner, "maxSurge", update.max_surge.is_some(), || json!(update.max_surge));
        insert(&mut inner, "maxUnavailable", update.max_unavailable.is_some(), || json!(update.max_unavailable));
        out.insert("update".into(), inner.into());
    }
    let hook = |words: &Option<Vec<String>>| {
        words.as_ref().map(|words| json!({"exec": {"command": words}})).unwrap_or_default()
    };
    let mut lifecycle = Map::new();
    insert(&mut lifecycle, "preStart", spec.lifecycle.pre_start.is_some(), || hook(&spec.lifecycle.pre_start));
    insert(&mut lifecycle, "preStop", spec.lifecycle.pre_stop.is_some(), || hook(&spec.lifecycle.pre_stop));
    nest(&mut out, "lifecycle", lifecycle);
    let mut stop = Map::new();
    let number = spec.stop.signal;
    insert(&mut stop, "signal", number != 15, || {
        if signal::parse(&signal::name(number)).is_some() { json!(signal::name(number)) } else { json!(number) }
    });
    insert(&mut stop, "gracePeriod", spec.stop.grace_period != assumed.stop.grace_period, || {
        json!(show(spec.stop.grace_period))
    });
    insert(&mut stop, "killScope", spec.process.kill_scope_tree, || json!("Tree"));
    nest(&mut out, "stop", stop);
    logs(&mut out, spec, &assumed.logs);
    resources(&mut out, spec);
    insert(&mut out, "watchFiles", !spec.watch_files.is_empty(), || json!(spec.watch_files));
    later(&mut out, &spec.later);
    out
}

/// The whole as YAML, each line that a file wrote with that file's name behind it.
pub fn effective(spec: &Spec, origins: &BTreeMap<String, String>) -> String {
    let mut out = format!("apiVersion: {API_VERSION}\nkind: Service\nmetadata:\n  name: {}\nspec:\n", spec.name);
    for (name, value) in fields(spec) {
        let text = yaml::to_yaml(&Map::from_iter([(name.clone(), value)]));
        let within = format!("{name}.");
        let mut files: Vec<&str> = origins
            .iter()
            .filter(|(path, _)| **path == name || path.starts_with(&within))
            .map(|(_, file)| file.as_str())
            .collect();
        files.sort_unstable();
        files.dedup();
        for (number, line) in text.lines().enumerate() {
            let leaf = line.trim_start().split(':').next().unwrap_or_default();
            let inner =
                origins.iter().find(|(path, _)| path.starts_with(&within) && path.rsplit('.').next() == Some(leaf));
            let origin = match (number, files.as_slice()) {
                (0, [only]) => Some((*only).to_owned()),
                (0, _) | (_, [] | [_]) => None,
                (_, [_, _, ..]) => inner.map(|(_, file)| file.clone()),
            };
            let comment = origin.map(|file| format!("  # {file}")).unwrap_or_default();
            out.push_str(&format!("  {line}{comment}\n"));
        }
    }
    out
}

fn insert(map: &mut Map<String, Value>, name: &str, differs: bool, value: impl FnOnce() -> Value) {
    if differs {
        map.insert(name.into(), value());
    }
}

fn nest(map: &mut Map<String, Value>, name: &str, inner: Map<String, Value>) {
    if !inner.is_empty() {
        map.insert(name.into(), inner.into());
    }
}

fn process(out: &mut Map<String, Value>, spec: &Spec) {
    let process = &spec.process;
    match &process.program {
        Program::Command(words) => drop(out.insert("command".into(), json!(words))),
        Program::Script(text) => drop(out.insert("script".into(), json!(text))),
        Program::Wrapper(wrapper) => {
            let mut inner = Map::new();
            inner.insert("path".into(), json!(wrapper.path));
            insert(&mut inner, "sha256", wrapper.sha256.is_some(), || json!(wrapper.sha256));
            insert(&mut inner, "selfcheck", process.selfcheck, || json!(true));
            insert(&mut inner, "portArg", wrapper.port_arg, || json!(true));
            out.insert("wrapper".into(), inner.into());
        }
        // `address` and `mcp.url` are among what comes later, and printed there.
        Program::External(_) => {}
    }
    insert(out, "args", !process.args.is_empty(), || json!(process.args));
    insert(out, "workingDir", process.working_dir.is_some(), || json!(process.working_dir));
    insert(out, "env", !process.env.is_empty(), || {
        let value = |value: &EnvValue| match value {
            EnvValue::Literal(text) => json!(text),
            EnvValue::File(path) => json!({"file": path}),
            EnvValue::FromEnv(name) => json!({"fromEnv": name}),
        };
        process.env.iter().map(|(name, one)| (name.clone(), value(one))).collect::<Map<_, _>>().into()
    });
    insert(out, "envFrom", !process.env_from.is_empty(), || {
        process
            .env_from
            .iter()
            .map(
                |file| {
                    if file.optional {
                        json!({"file": file.file, "optional": true})
                    } else {
                        json!({"file": file.file})
                    }
                },
            )
            .collect()
    });
    match &process.inherit_env {
        InheritEnv::All => {}
        InheritEnv::None => drop(out.insert("inheritEnv".into(), json!(false))),
        InheritEnv::Only(names) => drop(out.insert("inheritEnv".into(), json!(names))),
    }
    let mut security = Map::new();
    match (&process.user, &process.group) {
        (Some(user), Some(group)) => drop(out.insert("user".into(), json!(format!("{user}:{group}")))),
        (Some(user), None) => drop(out.insert("user".into(), json!(user))),
        (None, Some(group)) => drop(security.insert("runAsGroup".into(), json!(group))),
        (None, None) => {}
    }
    insert(&mut security, "umask", process.umask.is_some(), || json!(process.umask.map(|mask| format!("{mask:04o}"))));
    insert(&mut security, "nice", process.nice.is_some(), || json!(process.nice));
    insert(&mut security, "oomScoreAdj", process.oom_score_adj.is_some(), || json!(process.oom_score_adj));
    if let Some(capabilities) = &process.capabilities {
        let mut inner = Map::new();
        insert(&mut inner, "drop", !capabilities.drop.is_empty(), || json!(capabilities.drop));
        insert(&mut inner, "add", !capabilities.add.is_empty(), || json!(capabilities.add));
        nest(&mut security, "capabilities", inner);
    }
    // Its default depends on `mcp`.
    let escalation = process.allow_privilege_escalation;
    insert(&mut security, "allowPrivilegeEscalation", escalation == spec.later.contains_key("mcp"), || {
        json!(escalation)
    });
    nest(out, "securityContext", security);
    match process.ports.as_slice() {
        [] => {}
        [Port { name: None, port, protocol }] if protocol == "tcp" => drop(out.insert("port".into(), json!(port))),
        ports => drop(out.insert("ports".into(), ports.iter().map(port).collect())),
    }
}

fn port(port: &Port) -> Value {
    let mut inner = Map::new();
    insert(&mut inner, "name", port.name.is_some(), || json!(port.name));
    inner.insert("port".into(), json!(port.port));
    insert(&mut inner, "protocol", port.protocol != "tcp", || json!(port.protocol));
    inner.into()
}

fn dependency(dependency: &Dependency) -> Value {
    let plain =
        dependency.condition == Condition::Ready && !dependency.optional && dependency.on_loss == OnLoss::Ignore;
    if plain {
        return json!(dependency.name.as_str());
    }
    let mut inner = Map::new();
    inner.insert("name".into(), json!(dependency.name.as_str()));
    insert(&mut inner, "condition", dependency.condition != Condition::Ready, || json!(dependency.condition));
    insert(&mut inner, "optional", dependency.optional, || json!(true));
    insert(&mut inner, "onLoss", dependency.on_loss != OnLoss::Ignore, || json!(dependency.on_loss));
    inner.into()
}

fn probe(probe: &Probe) -> Value {
    let mut out = Map::new();
    let at = |host: &Option<String>, port: &ProbePort| {
        let mut inner = Map::new();
        insert(&mut inner, "host", host.is_some(), || json!(host));
        inner.insert(
            "port".into(),
            match port {
                ProbePort::Number(number) => json!(number),
                ProbePort::Instance => json!("$(instance.port)"),
            },
        );
        inner
    };
    match &probe.check {
        Check::Exec { command } => drop(out.insert("exec".into(), json!({"command": command}))),
        Check::TcpSocket { host, port } => drop(out.insert("tcpSocket".into(), at(host, port).into())),
        Check::HttpGet { host, port, path, headers, https, expect_status, expect_body } => {
            let mut inner = at(host, port);
            inner.insert("path".into(), json!(path));
            insert(&mut inner, "scheme", *https, || json!("HTTPS"));
            let header = |(name, value): &(String, String)| json!({"name": name, "value": value});
            insert(&mut inner, "httpHeaders", !headers.is_empty(), || headers.iter().map(header).collect());
            insert(&mut inner, "expectStatus", !expect_status.is_empty(), || json!(expect_status));
            insert(&mut inner, "expectBody", expect_body.is_some(), || json!(expect_body));
            out.insert("httpGet".into(), inner.into());
        }
        Check::Grpc { port, service } => {
            let mut inner = at(&None, port);
            insert(&mut inner, "service", !service.is_empty(), || json!(service));
            out.insert("grpc".into(), inner.into());
        }
        Check::Mcp { port: _, path: _ } => drop(out.insert("mcp".into(), json!(true))),
        Check::Notify => drop(out.insert("notify".into(), json!(true))),
        Check::Fd(number) => drop(out.insert("fd".into(), json!(number))),
        Check::LogLine(pattern) => drop(out.insert("logLine".into(), json!(pattern))),
        Check::Later(kind) => drop(out.insert(kind.clone(), json!(true))),
    }
    let seconds = std::time::Duration::from_secs;
    insert(&mut out, "initialDelay", !probe.initial_delay.is_zero(), || json!(show(probe.initial_delay)));
    insert(&mut out, "period", probe.period != seconds(10), || json!(show(probe.period)));
    insert(&mut out, "timeout", probe.timeout != seconds(1), || json!(show(probe.timeout)));
    insert(&mut out, "successThreshold", probe.success_threshold != 1, || json!(probe.success_threshold));
    insert(&mut out, "failureThreshold", probe.failure_threshold != 3, || json!(probe.failure_threshold));
    out.into()
}

fn restart(out: &mut Map<String, Value>, restart: &Restart, assumed: &Restart) {
    let (backoff, usual) = (&restart.backoff, &assumed.backoff);
    let mut delays = Map::new();
    insert(&mut delays, "initial", backoff.initial != usual.initial, || json!(show(backoff.initial)));
    insert(&mut delays, "factor", backoff.factor != usual.factor, || json!(backoff.factor));
    insert(&mut delays, "max", backoff.max != usual.max, || json!(show(backoff.max)));
    insert(&mut delays, "jitter", backoff.jitter != usual.jitter, || json!(backoff.jitter));
    insert(&mut delays, "resetAfter", backoff.reset_after != usual.reset_after, || json!(show(backoff.reset_after)));
    let mut inner = Map::new();
    insert(&mut inner, "policy", restart.policy != assumed.policy, || json!(restart.policy));
    nest(&mut inner, "backoff", delays);
    insert(&mut inner, "crashLoopAfter", restart.crash_loop_after != assumed.crash_loop_after, || {
        json!(restart.crash_loop_after)
    });
    if let Some(limit) = &restart.limit {
        inner.insert("limit".into(), json!({"max": limit.max, "within": show(limit.within)}));
    }
    insert(&mut inner, "successExitCodes", restart.success_exit_codes != assumed.success_exit_codes, || {
        json!(restart.success_exit_codes)
    });
    nest(out, "restart", inner);
}

fn activation(activation: &Activation, pass: Option<Pass>) -> Value {
    let mut out = Map::new();
    out.insert("onDemand".into(), json!(true));
    insert(&mut out, "idleStop", activation.idle_stop.is_some(), || json!(activation.idle_stop.map(show)));
    let hold = activation.hold_requests;
    insert(&mut out, "holdRequests", hold != HOLD_REQUESTS, || json!(show(hold)));
    insert(&mut out, "pass", pass == Some(Pass::Socket), || json!(pass));
    Value::Object(out)
}

fn schedule(schedule: &Schedule) -> Value {
    let mut out = Map::new();
    out.insert("cron".into(), json!(schedule.cron.as_str()));
    insert(&mut out, "timeZone", schedule.time_zone.name() != "UTC", || json!(schedule.time_zone.name()));
    let policy = schedule.concurrency_policy;
    insert(&mut out, "concurrencyPolicy", policy != Concurrency::Forbid, || json!(policy));
    insert(&mut out, "startingDeadline", schedule.starting_deadline.is_some(), || {
        json!(schedule.starting_deadline.map(show))
    });
    insert(&mut out, "historyLimit", schedule.history_limit != 3, || json!(schedule.history_limit));
    out.into()
}

fn logs(out: &mut Map<String, Value>, spec: &Spec, assumed: &Logs) {
    let logs = &spec.logs;
    let mut inner = Map::new();
    insert(&mut inner, "format", logs.json, || json!("json"));
    insert(&mut inner, "maxSize", logs.max_size != assumed.max_size, || json!(quantity::show_bytes(logs.max_size)));
    insert(&mut inner, "maxFiles", logs.max_files != assumed.max_files, || json!(logs.max_files));
    insert(&mut inner, "maxAge", logs.max_age.is_some(), || json!(logs.max_age.map(show)));
    insert(&mut inner, "path", logs.path.is_some(), || json!(logs.path));
    insert(&mut inner, "separate", spec.process.separate_logs, || json!(true));
    insert(&mut inner, "tee", !logs.tee, || json!(false));
    insert(&mut inner, "onStall", logs.on_stall != assumed.on_stall, || json!(logs.on_stall));
    insert(&mut inner, "rateLimit", logs.rate_limit.is_some(), || json!(logs.rate_limit.map(quantity::show_bytes)));
    nest(out, "logs", inner);
}

fn resources(out: &mut Map<String, Value>, spec: &Spec) {
    let Resources { limits, requests, single_process_oom_kill } = &spec.resources;
    let mut inner = Map::new();
    let amounts = |cpu: Option<u64>, memory: Option<u64>| {
        let mut amounts = Map::new();
        insert(&mut amounts, "cpu", cpu.is_some(), || json!(cpu.map(quantity::show_millicores)));
        insert(&mut amounts, "memory", memory.is_some(), || json!(memory.map(quantity::show_bytes)));
        amounts
    };
    let mut most = amounts(limits.cpu, limits.memory);
    insert(&mut most, "pids", limits.pids.is_some(), || json!(limits.pids));
    insert(&mut most, "nofile", spec.process.nofile.is_some(), || json!(spec.process.nofile));
    nest(&mut inner, "limits", most);
    nest(&mut inner, "requests", amounts(requests.cpu, requests.memory));
    insert(&mut inner, "singleProcessOOMKill", *single_process_oom_kill, || json!(true));
    nest(out, "resources", inner);
}

/// Puts what is acted on later back at its path.
fn later(out: &mut Map<String, Value>, later: &Map<String, Value>) {
    for (path, value) in later {
        put(out, path, value);
    }
}

fn put(map: &mut Map<String, Value>, path: &str, value: &Value) {
    match path.split_once('.') {
        None => drop(map.insert(path.to_owned(), value.clone())),
        Some((first, rest)) => {
            let inner = map.entry(first.to_owned()).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}
