//! Rules that speak of several fields at once.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::capability::Set;
use crate::model::spec::*;

use super::assemble::{place_of, takes_given_port};
use super::context::Context;
use super::given::{Data, Given};

/// Each pattern is looked for at each look at the service.
const WATCH_FILES_MAX: usize = 64;

pub fn check(ctx: &mut Context<'_>, given: &Given, spec: &mut Spec) {
    program(ctx, given, spec);
    identity(ctx, given);
    dependencies(ctx, given, spec);
    ports(ctx, given, spec);
    restarts(ctx, given, spec);
    rolling(ctx, given, spec);
    scheduled(ctx, given, spec);
    on_demand(ctx, given, spec);
    resources(ctx, given, spec);
    capabilities(ctx, given, spec);
    if let Some(more) = given.get("watchFiles").and_then(|list| list.items().get(WATCH_FILES_MAX)) {
        let remedy = "name a folder, or join several with a pattern";
        ctx.error(&more.place, format!("`watchFiles` has more than {WATCH_FILES_MAX} lines"), remedy);
    }
    let later = spec.probes().filter_map(|(field, probe)| match &probe.check {
        Check::Later(kind) => Some(format!("{field}.{kind}")),
        _ => None,
    });
    let later: Vec<String> = later.collect();
    spec.not_yet_supported.extend(later);
    logs(ctx, given, spec);
}

fn program(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let written = ["command", "wrapper", "script", "address"].iter().find(|name| given.get(name).is_some());
    let url = given.at(&["mcp", "url"]);
    match (written, url) {
        (Some(written), Some(url)) => {
            ctx.error(
                &url.place,
                format!("`{written}` and `mcp.url` cannot both be written"),
                "a server elsewhere runs nothing here; keep one of the two",
            );
        }
        (Some(_), None) | (None, Some(_)) => {}
        // A field that is wrong is left out: only a file without other mistakes surely says nothing.
        (None, None) if !ctx.failed() => {
            ctx.error(&given.place, "nothing to run", "write `command: …`, `wrapper: FILE` or `script: |`");
        }
        (None, None) => {}
    }
    if let Some(wrapper) = given.get("wrapper")
        && wrapper.get("path").is_none()
        && !ctx.failed()
    {
        ctx.error(&wrapper.place, "`wrapper` needs `path`", "write `wrapper: {path: FILE}`");
    }
    head_of_script(ctx, given);
    if let Some(args) = given.get("args")
        && matches!(spec.process.program, Program::External(_))
    {
        ctx.error(&args.place, "`args` without a program to run", "remove it");
    }
    if given.at(&["wrapper", "portArg"]).is_some() && spec.process.port.is_none() && !ctx.failed() {
        ctx.error(&place_of(given, &["wrapper", "portArg"]), "`wrapper.portArg` without a port", "write `port: 8080`");
    }
}

fn identity(ctx: &mut Context<'_>, given: &Given) {
    let context = given.get("securityContext");
    if let (Some(user), Some(_)) = (given.get("user"), context.and_then(|context| context.get("runAsUser"))) {
        ctx.error(&user.place, "`user` and `securityContext.runAsUser` cannot both be written", "keep one of the two");
    }
    let group = given.text("user").is_some_and(|user| user.contains(':'));
    if let (true, Some(run_as)) = (group, context.and_then(|context| context.get("runAsGroup"))) {
        ctx.error(&run_as.place, "the group is written twice, here and in `user`", "keep one of the two");
    }
}

fn dependencies(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let items = given.get("dependsOn").map(Given::items).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for item in items {
        let Some(name) = item.text("name") else { continue };
        if name == spec.name.as_str() {
            ctx.error(&item.place, format!("`{name}` depends on itself"), "remove it");
        } else if !seen.insert(name.clone()) {
            ctx.error(&item.place, format!("`dependsOn` names `{name}` twice"), "keep one of the two");
        }
    }
}

fn ports(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let items = given.get("ports").map(Given::items).unwrap_or_default();
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        if item.int("port").is_some_and(|port| !numbers.insert(port)) {
            ctx.error(&place_of(item, &["port"]), "`ports` has this number twice", "keep one of the two");
        }
        if item.text("name").is_some_and(|name| !names.insert(name)) {
            ctx.error(&place_of(item, &["name"]), "`ports` has this name twice", "choose another name");
        }
    }
    if let Some(port) = spec.process.port
        && spec.process.on_demand != Some(Pass::Socket)
        && u32::from(port) + spec.replicas.saturating_sub(1) > 65_535
    {
        let place = place_of(given, &["port"]);
        ctx.error(
            &place,
            format!("{} instances from port {port} on go beyond 65535", spec.replicas),
            "choose a lower port",
        );
    }
    shared_port(ctx, given, spec);
}

/// The head of a script that was written for a file of its own: here it is a comment.
fn head_of_script(ctx: &mut Context<'_>, given: &Given) {
    let Some((node, text)) = given.get("script").and_then(|node| Some((node, node.as_text()?))) else { return };
    let Some(head) = text.lines().next().and_then(|line| line.strip_prefix("#!")) else { return };
    let mut words = head.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    let interpreter = words.find(|word| *word != "env" && !word.starts_with('-'));
    if let Some(interpreter) = interpreter.filter(|name| *name != "sh") {
        ctx.warning(
            &node.place,
            format!("`script` is run by `sh -eu`; `#!{}` does not count", head.trim()),
            format!("put it into a file and write `wrapper: FILE`, or write `command: [{interpreter}, …]`"),
        );
    }
}

/// One literal port for several instances: the first has it, the others end. Who reads PORT names none.
fn shared_port(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let process = &spec.process;
    let Some(port) = process.port.filter(|_| spec.replicas > 1 && spec.schedule.is_none()) else { return };
    let is_told_elsewhere = process.on_demand.is_some();
    let runs_command = matches!(process.program, Program::Command(_));
    if runs_command && !is_told_elsewhere && !takes_given_port(process) && names_port(process, port) {
        ctx.warning(
            &place_of(given, &["replicas"]),
            format!("{} instances cannot listen on one port, and the command names port {port} itself", spec.replicas),
            "write $(PORT) there: each instance is given a port of its own",
        );
    }
}

fn restarts(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let backoff = &spec.restart.backoff;
    if backoff.initial > backoff.max && given.at(&["restart", "backoff"]).is_some() {
        let place = place_of(given, &["restart", "backoff"]);
        ctx.error(
            &place,
            "`restart.backoff.initial` is longer than `max`",
            "make `max` at least as long; it is 60s unless written",
        );
    }
    if let (RestartPolicy::Never, Some(limit)) = (spec.restart.policy, given.at(&["restart", "limit"])) {
        ctx.warning(&limit.place, "`restart.limit` means nothing with `policy: Never`", "remove it");
    }
}

fn capabilities(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let Some(Capabilities { drop, add }) = &spec.process.capabilities else { return };
    // `drop: [ALL]` with some that are added is how to have only these.
    let both = match (*drop == Set::EVERY, *add == Set::EVERY) {
        (true, true) => Set::EVERY,
        (true, false) | (false, true) => Set::default(),
        (false, false) => drop.common(*add),
    };
    if !both.is_empty() {
        let place = place_of(given, &["securityContext", "capabilities", "add"]);
        ctx.error(&place, format!("{} is both dropped and added", both.names().join(", ")), "keep one of the two");
    }
}

fn logs(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    if given.at(&["logs", "maxSize"]).is_some() && spec.logs.max_size < 4096 {
        ctx.error(
            &place_of(given, &["logs", "maxSize"]),
            "`logs.maxSize` is less than 4Ki",
            "write a size such as 10Mi",
        );
    }
    if let Some(path) = spec.logs.path.as_ref().filter(|path| is_of_the_kernel(path)) {
        let remedy = match path.to_str() {
            Some("/dev/null") => "write no path; `tee: false` keeps it from plugd's stdout",
            Some("/dev/stdout" | "/dev/stderr") => "write no path: plugd's stdout has it anyway",
            Some(_) | None => "name a regular file, or write no path: plugd's stdout has it anyway",
        };
        let message = format!("no log can be kept in {}", path.display());
        ctx.warning(&place_of(given, &["logs", "path"]), message, remedy);
    }
}

/// Devices, and files that only show something: a log is rotated, so it is a regular file.
fn is_of_the_kernel(path: &Path) -> bool {
    let below = |dir: &str| path.starts_with(dir);
    (below("/dev") && !below("/dev/shm")) || below("/proc") || below("/sys")
}

/// Less than this no program can be executed in; who writes it means another unit.
const MEMORY_MIN: u64 = 1 << 20;

fn resources(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let Resources { limits, requests, .. } = &spec.resources;
    if let Some(memory) = limits.memory.filter(|memory| *memory < MEMORY_MIN) {
        let place = place_of(given, &["resources", "limits", "memory"]);
        ctx.error(
            &place,
            format!("no program can run in {memory} bytes"),
            format!(
                "write a size such as {}",
                if (1..65_536).contains(&memory) { format!("{memory}Mi") } else { "256Mi".into() }
            ),
        );
    }
    for (name, wanted, most) in [("cpu", requests.cpu, limits.cpu), ("memory", requests.memory, limits.memory)] {
        if wanted.zip(most).is_some_and(|(wanted, most)| wanted > most) {
            ctx.error(
                &place_of(given, &["resources", "requests", name]),
                format!("`resources.requests.{name}` is more than `resources.limits.{name}`"),
                "make the request at most as large as the limit",
            );
        }
    }
}

/// A job that runs by the clock is one process that ends.
fn scheduled(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let Some(schedule) = given.get("schedule").filter(|_| spec.schedule.is_some()) else { return };
    if let Some(policy) = given.at(&["restart", "policy"]).filter(|policy| policy.as_text() == Some("Always")) {
        ctx.warning(
            &policy.place,
            "with `schedule`, `restart: Always` means `OnFailure`: a run that ended well is over",
            "write `OnFailure` to try a failed run again, or remove it",
        );
    }
    if let Some(deadline) = schedule.get("startingDeadline")
        && spec.schedule.as_ref().and_then(|one| one.starting_deadline).is_some_and(|one| one.as_secs() == 0)
    {
        ctx.error(&deadline.place, "with less than a second no run could ever begin", "write a duration such as 5m");
    }
    if let Some(replicas) = given.get("replicas").filter(|_| spec.replicas != 1) {
        ctx.warning(
            &replicas.place,
            "`replicas` means nothing with `schedule`: a run is one process",
            "remove it; `schedule.concurrencyPolicy: Allow` lets runs overlap",
        );
    }
    if let Some(on_demand) = given.at(&["activation", "onDemand"]).filter(|on| matches!(on.data, Data::Bool(true))) {
        ctx.warning(
            &on_demand.place,
            "`activation.onDemand` means nothing with `schedule`: the clock starts it",
            "keep one of the two",
        );
    }
    if spec.process.stdio_mcp {
        ctx.warning(
            &schedule.place,
            "`schedule` means nothing for an MCP server on stdin: its first call starts it",
            "keep one of the two",
        );
    }
    if matches!(spec.process.program, Program::External(_)) && !ctx.failed() {
        ctx.error(&schedule.place, "`schedule` without a program to run", "remove it, or write `command`");
    }
}

fn on_demand(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    let wanted = given.at(&["activation", "onDemand"]).filter(|on| matches!(on.data, Data::Bool(true)));
    let runs = !matches!(spec.process.program, Program::External(_)) && given.get("mcp").is_none();
    if let Some(place) = wanted.filter(|_| runs && spec.process.port.is_none() && !ctx.failed()) {
        ctx.error(
            &place.place,
            "`activation.onDemand` without a port: there is nothing that a first connection could come to",
            "write `port: 8080`, and let the program listen on PORT or $(instance.port)",
        );
    }
    let activation = given.get("activation").filter(|activation| activation.get("onDemand").is_none());
    if let Some((field, value)) = activation.and_then(|activation| activation.entries().first()) {
        ctx.warning(
            &value.place,
            format!("`activation.{field}` means nothing without `onDemand: true`"),
            "write `activation: {onDemand: true, …}`, or remove it",
        );
    }
    let hold = given.at(&["activation", "holdRequests"]);
    if let Some(place) = hold.filter(|_| spec.activation.as_ref().is_some_and(|one| one.hold_requests.is_zero())) {
        ctx.warning(
            &place.place,
            "`holdRequests: 0s` closes the connection that starts it, before it can be answered",
            "write how long it may take to get ready, such as 30s, or leave it out",
        );
    }
    let process = &spec.process;
    if process.on_demand == Some(Pass::Socket) {
        handed_over(ctx, given, spec);
        return;
    }
    if let (Some(_), Some(port)) = (&spec.activation, process.port)
        && !takes_given_port(process)
        && names_port(process, port)
    {
        ctx.warning(
            &place_of(given, &["activation"]),
            format!("its command names port {port} itself, where plugd listens for it"),
            "write $(instance.port) there (or read PORT): each process is given a port of its own",
        );
    }
}

/// What does not go together with a listening socket that is descriptor 3 of the process.
fn handed_over(ctx: &mut Context<'_>, given: &Given, spec: &Spec) {
    if spec.process.ready_fd == Some(LISTEN_FD) {
        ctx.error(
            &place_of(given, &["activation", "pass"]),
            "descriptor 3 is the listening socket that it is handed (`pass: Socket`), and a `fd` probe expects its newline there",
            "write `fd: 4` in the probe",
        );
    }
    for (field, probe) in spec.probes() {
        let port = match &probe.check {
            Check::TcpSocket { host: None, port } => port,
            _ => continue,
        };
        let own = match port {
            ProbePort::Instance => true,
            ProbePort::Number(number) => Some(*number) == spec.process.port,
        };
        if own {
            ctx.warning(
                &place_of(given, &[field]),
                format!("`{field}` always passes: with `pass: Socket` that port is open before the service runs"),
                "write httpGet, grpc, exec, or notify (READY=1)",
            );
        }
    }
}

/// A word of the command or a line of the script has this number.
fn names_port(process: &Process, port: u16) -> bool {
    let words = match &process.program {
        Program::Command(words) => words.as_slice(),
        Program::Script(text) => std::slice::from_ref(text),
        Program::Wrapper(_) | Program::External(_) => &[],
    };
    let port = port.to_string();
    let mut texts = words.iter().chain(&process.args);
    texts.any(|text| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == port))
}

fn rolling(ctx: &mut Context<'_>, given: &Given, spec: &mut Spec) {
    let Some(update) = &spec.update else { return };
    let surge = update.max_surge.is_some_and(|surge| surge > 0);
    if update.strategy == Some(Strategy::Recreate) {
        for name in ["maxSurge", "maxUnavailable"] {
            if let Some(value) = given.at(&["update", name]) {
                ctx.error(
                    &value.place,
                    format!("`update.{name}` means nothing with `strategy: Recreate`"),
                    "remove it, or write `strategy: Rolling`",
                );
            }
        }
        return;
    }
    if !surge {
        if update.max_surge == Some(0) && update.max_unavailable == Some(0) {
            ctx.error(
                &place_of(given, &["update"]),
                "with `maxSurge: 0` and `maxUnavailable: 0` nothing can be replaced",
                "write `maxUnavailable: 1`",
            );
        }
        return;
    }
    let front = given.text("expose").as_deref() == Some("Front") || spec.process.on_demand == Some(Pass::Socket);
    if spec.process.port.is_some() && !front && !takes_given_port(&spec.process) {
        let remedy = "write `maxSurge: 0`, or let the service listen on $(instance.port)";
        ctx.error(
            &place_of(given, &["update", "maxSurge"]),
            "two instances cannot listen on one literal port, so `maxSurge` cannot be above 0",
            remedy,
        );
        return;
    }
    spec.not_yet_supported.push("update.maxSurge".into());
}
