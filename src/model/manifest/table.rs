//! Every field of a manifest, in the order in which `explain` and the docs show them.
//!
//! A long flat table on purpose: to add a field is to add a line here and to read it in `assemble`.

use super::fields::{Field, Keys, Kind, Object, field};
use super::no_stdio_mcp;
use crate::model::spec::RestartLimit;

const U32: Kind = Kind::Int(0, u32::MAX as i64);
const POSITIVE: Kind = Kind::Int(1, u32::MAX as i64);
/// The largest port.
pub(super) const PORT_MAX: i64 = 65_535;
const PORT: Kind = Kind::Int(1, PORT_MAX);
const TEXTS: Kind = Kind::List(&Kind::Word);

/// More instances of one service than a machine has use for; each costs 5 descriptors.
pub const REPLICAS_MAX: i64 = 1_000;

/// The ways to say what runs; exactly one.
pub const PROGRAMS: &[&str] = &["command", "wrapper", "script", "address"];
/// The ways to check; exactly one in a probe.
pub const CHECKS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "mcp", "notify", "fd", "logLine"];

pub static SERVICE: Object = Object::of(&[
    // ── the first page ──
    field("command", Kind::Command, "none", "[bin/orders, --port, $(PORT)]",
        "What runs: a list of words, or one string split as a shell would split it; never given to a shell. $(VAR) is expanded. Or `wrapper: orders.sh`, or `script: |`.").first(),
    field("args", Kind::Command, "[]", "[--verbose]", "Further words, appended to the command or the wrapper.").first(),
    field("workingDir", Kind::Path, "where plugd was started", "/srv/orders", "The directory it runs in; relative to the manifest.").first(),
    field("env", Kind::Map(Keys::Variables, &Kind::Object(&ENV_VALUE)), "{}",
        "{LOG: info, DB_PASSWORD: {file: /run/secrets/orders-db}, API_TOKEN: {fromEnv: ORDERS_TOKEN}}",
        "Variables: a text, the content of a file, or a variable of plugd's own. The last two are secrets and never shown. $(VAR) is expanded in texts.").first(),
    field("envFrom", Kind::List(&Kind::Object(&ENV_FILE)), "[]", "[{file: orders.env, optional: true}]",
        "Files of NAME=value lines; `env` wins over them, later files over earlier ones.").first(),
    field("user", Kind::User, "plugd's own user", "orders", "Who it runs as: name, name:group, or numbers.").first(),
    field("port", PORT, "none", "8080", "The port it listens on, passed as PORT; implies a tcp readiness check. Instance n gets port + n.").first(),
    field("replicas", Kind::Int(0, REPLICAS_MAX), "1", "3", "How many instances run.").first(),
    field("required", Kind::Bool, "false", "true", "The node is not ready without it, and optional ones do not count. Where none is required, all that should run count. An optional one that cannot run here is skipped.").first(),
    field("dependsOn", Kind::List(&Kind::Object(&DEPENDENCY)), "[]", "[postgres, {name: migrate, condition: Completed}]",
        "Services that must be ready (or started, or completed) before it starts.").first(),
    field("readinessProbe", Kind::Object(&PROBE), "a tcp check of `port`, if there is one", "{httpGet: {path: /ready}}",
        "When it counts as ready. Short forms: tcp, /ready, `exec: cmd`; `none` opts out.").first(),
    field("livenessProbe", Kind::Object(&PROBE), "none", "{exec: {command: [bin/check]}}", "A check whose failure restarts it.").first(),
    field("restart", Kind::Object(&RESTART), "Always", "OnFailure", "Always, OnFailure or Never; or a mapping with `policy`, `backoff`, `limit`.").first(),
    field("stop", Kind::Object(&STOP), "{signal: SIGTERM, gracePeriod: 30s}", "{signal: SIGTERM, gracePeriod: 30s}", "How it is asked to stop, and how long it may take.").first(),
    field("schedule", Kind::Object(&SCHEDULE), "none", "\"0 3 * * *\"",
        "Runs it by the clock, to its end, instead of always: five cron fields (minute, hour, day, month, weekday) or @daily. `restart` is then Never, or OnFailure.").first(),
    field("mcp", Kind::Object(&MCP), "none", "stdio", "It speaks the Model Context Protocol, on stdin and stdout or on its port.").first().later(),
    // ── the second page ──
    field("name", Kind::Name, "the file's name without its ending", "orders", "The service's name."),
    field("description", Kind::Text, "none", "Order API", "One line for people."),
    field("labels", Kind::Map(Keys::Any, &Kind::Text), "{}", "{app: shop, tier: backend}", "For selecting: `plugd get -l app=shop`."),
    field("annotations", Kind::Map(Keys::Any, &Kind::Free), "{}", "{owner: shop-team}", "Free texts, handed to the registry.").aliases(&["metadata"]),
    field("enabled", Kind::Bool, "true", "false", "false: known, and stopped."),
    field("capabilities", TEXTS, "[]", "[orders.read, orders.write]", "What callers may ask for: `plugd get --capability orders.read`."),
    field("wrapper", Kind::Object(&WRAPPER), "none", "{path: wrappers/orders.sh, selfcheck: true}",
        "A script that starts it, instead of `command`; searched in the directory, its wrappers/ and each --wrappers.").aliases(&["wrapper_script"]),
    field("script", Kind::Word, "none", "\"exec bin/orders --port $PORT\"", "Shell text, instead of `command`: handed untouched to `sh -euc`."),
    field("address", Kind::Word, "none", "db.example.com:5432", "Nothing to run: an endpoint elsewhere that is only probed and balanced.").later(),
    field("inheritEnv", Kind::BoolOrNames, "true", "[HOME, PATH]", "Whether plugd's own environment is passed on: true, false, or the names that are."),
    field("ports", Kind::List(&Kind::Object(&PORTS)), "[]", "[{name: http, port: 8080, protocol: http}, {name: admin, port: 9090}]",
        "Several ports, by name; the first is the one that `port` would be."),
    field("startupProbe", Kind::Object(&PROBE), "none", "{notify: true, period: 1s, failureThreshold: 60}",
        "Holds the other probes back until it passes once; its failure restarts."),
    field("minReady", Kind::Duration, "10s", "10s", "How long a start must last ready to count as one."),
    field("update", Kind::Object(&UPDATE), "computed; `plugd check` prints it", "{strategy: Recreate}", "How an edit is rolled out."),
    field("lifecycle", Kind::Object(&LIFECYCLE), "{}", "{preStart: {exec: {command: [bin/warm]}}, preStop: {exec: {command: [bin/drain]}}}",
        "Commands that run before each start and before each stop."),
    field("securityContext", Kind::Object(&SECURITY), "{}", "{umask: \"0027\", allowPrivilegeEscalation: false, nice: 5}", "Identity and privileges of the process."),
    field("logs", Kind::Object(&LOGS), "{maxSize: 10Mi, maxFiles: 5}", "{maxSize: 10Mi, maxFiles: 5, maxAge: 7d}", "Where its output goes and how much of it is kept."),
    field("circuitBreaker", Kind::Object(&BREAKER), "none", "{consecutiveFailures: 5, openFor: 30s}", "When callers stop sending requests to an instance. Of requests, not of starts.").later(),
    field("loadBalancing", Kind::Object(&BALANCING), "{policy: PeakEwma}", "{policy: PeakEwma, retries: 2}", "How an instance is chosen for a request.").later(),
    field("resources", Kind::Object(&RESOURCES), "{}", "{limits: {cpu: 500m, memory: 256Mi, pids: 64, nofile: 4096}}",
        "What each instance may use. Where a limit cannot be set here, it runs without it and its status says LimitsNotApplied; `plugd doctor` tells beforehand."),
    field("watchFiles", Kind::List(&Kind::Glob), "[]", "[config/*.toml]",
        "Files whose content restarts it when it changes: paths and patterns (* ? [] {} and ** for folders), relative to the manifest; of a folder all files in it. Missing ones are no mistake, and one that goes away restarts nothing. What the service writes itself does not belong here."),
    field("activation", Kind::Object(&ACTIVATION), "{}", "{onDemand: true, idleStop: 10m}", 
        "Starts it at the first connection to its port and stops it when idle. plugd listens there from the moment the manifest lies in the directory: nobody is refused while the service starts, is edited or crashes, or while plugd's controller dies."),
    field("expose", Kind::Enum(&["Direct", "Front"]), "Direct", "Front", "Whether callers reach it directly or through a front that plugd holds.").later(),
    field("mesh", Kind::Bool, "true", "false", "Whether the mesh knows it.").later(),
])
.exclusive(&[PROGRAMS, &["port", "ports"]]);

pub static ENV_VALUE: Object = Object::of(&[
    field("value", Kind::Text, "none", "info", "The text itself."),
    field(
        "file",
        Kind::Path,
        "none",
        "/run/secrets/orders-db",
        "The content of this file, less one trailing newline; relative to the manifest.",
    ),
    field("fromEnv", Kind::Word, "none", "ORDERS_TOKEN", "The value of this variable of plugd's own environment."),
])
.short("value")
.exclusive(&[&["value", "file", "fromEnv"]]);

pub static ENV_FILE: Object = Object::of(&[
    field("file", Kind::Path, "none", "orders.env", "The file; relative to the manifest.").required(),
    field("optional", Kind::Bool, "false", "true", "Whether the file may be missing."),
])
.short("file");

pub static DEPENDENCY: Object = Object::of(&[
    field("name", Kind::Name, "none", "postgres", "The service that is needed.").required(),
    field(
        "condition",
        Kind::Enum(&["Started", "Ready", "Completed"]),
        "Ready",
        "Completed",
        "What it must have reached.",
    ),
    field(
        "optional",
        Kind::Bool,
        "false",
        "true",
        "Only order: if it is missing or fails, this service starts anyway.",
    ),
    field(
        "onLoss",
        Kind::Enum(&["Ignore", "Restart", "Stop"]),
        "Ignore",
        "Restart",
        "What happens here when it stops being ready. `Stop`: stays stopped until `plugd start` or an edit.",
    ),
])
.short("name");

pub static PORTS: Object = Object::of(&[
    field("name", Kind::Word, "none", "http", "A name that probes may use."),
    field("port", PORT, "none", "8080", "The number.").required(),
    field("protocol", Kind::Enum(&["tcp", "http"]), "tcp", "http", "What is spoken there.").later(),
])
.short("port");

pub static PROBE: Object = Object {
    fields: &[
        field("exec", Kind::Object(&EXEC), "none", "{command: [bin/check]}", "Runs a command; exit 0 passes."),
        field(
            "httpGet",
            Kind::Object(&HTTP_GET),
            "none",
            "{path: /ready, port: http}",
            "Asks over HTTP; 200 to 399 passes. A redirect to the same scheme, host and port is followed.",
        ),
        field(
            "tcpSocket",
            Kind::Object(&TCP_SOCKET),
            "none",
            "{port: 8080}",
            "Connects; while its socket goes on listening, once a minute.",
        ),
        field("grpc", Kind::Object(&GRPC), "none", "{service: orders}", "Asks the gRPC health service, without TLS."),
        field(
            "mcp",
            Kind::Bool,
            "none",
            "true",
            "Asks the MCP server on its port: server/discover, or initialize and ping.",
        ),
        field(
            "notify",
            Kind::Bool,
            "none",
            "true",
            "sd_notify: READY=1 (startup, readiness) or a WATCHDOG=1 within each period (liveness).",
        ),
        field("fd", Kind::Int(3, 255), "none", "3", "A newline on this descriptor (startup, readiness)."),
        field(
            "logLine",
            Kind::Regex,
            "none",
            "listening on",
            "A line of its output that matches (startup, readiness).",
        ),
        field("initialDelay", Kind::Duration, "0s", "5s", "Time after the spawn before the first check."),
        field(
            "period",
            Kind::Duration,
            "10s",
            "10s",
            "Time between checks; a fifth of it, at least 1 s, while a readiness probe has failed too often.",
        ),
        field("timeout", Kind::Duration, "1s", "1s", "Time that one check may take."),
        field("successThreshold", POSITIVE, "1", "1", "Successes in a row that count as one."),
        field("failureThreshold", POSITIVE, "3", "3", "Failures in a row that count as one."),
    ],
    short: super::fields::Short::Probe,
    exclusive: &[CHECKS],
};

pub static EXEC: Object =
    Object::of(
        &[field("command", Kind::Command, "none", "[bin/check]", "What runs; split like `command`.").required()],
    )
    .short("command");

pub static HTTP_GET: Object = Object::of(&[
    field("path", Kind::Word, "/", "/ready", "What is asked for."),
    field(
        "port",
        Kind::PortRef,
        "the service's port",
        "http",
        "Where: a number, a name in `ports`, or $(instance.port).",
    ),
    field(
        "host",
        Kind::Word,
        "this machine",
        "127.0.0.1",
        "Another host; the check of who owns the port does not apply there.",
    ),
    field("scheme", Kind::Enum(&["HTTP", "HTTPS"]), "HTTP", "HTTPS", "HTTPS is not verified, as in Kubernetes."),
    field(
        "httpHeaders",
        Kind::List(&Kind::Object(&HEADER)),
        "[]",
        "[{name: Accept, value: text/plain}]",
        "Headers of the request.",
    ),
    field("expectStatus", Kind::List(&Kind::Int(100, 599)), "200 to 399", "[200, 204]", "Status codes that pass."),
    field(
        "expectBody",
        Kind::Regex,
        "none",
        "ok",
        "A pattern that the body, its first 64 KiB, must match; `^` and `$` are the ends of a line, `\\A` and `\\z` those of the whole.",
    ),
])
.short("path");

pub static HEADER: Object = Object::of(&[
    field("name", Kind::Word, "none", "Accept", "The header's name.").required(),
    field("value", Kind::Text, "none", "text/plain", "Its value.").required(),
]);

pub static TCP_SOCKET: Object = Object::of(&[
    field(
        "port",
        Kind::PortRef,
        "the service's port",
        "8080",
        "Where: a number, a name in `ports`, or $(instance.port).",
    ),
    field("host", Kind::Word, "this machine", "127.0.0.1", "Another host."),
])
.short("port");

pub static GRPC: Object = Object::of(&[
    field(
        "port",
        Kind::PortRef,
        "the service's port",
        "9090",
        "Where: a number, a name in `ports`, or $(instance.port).",
    ),
    field("service", Kind::Text, "none", "orders", "The service that is asked about."),
])
.short("port");

pub static RESTART: Object = Object::of(&[
    field(
        "policy",
        Kind::Enum(&["Always", "OnFailure", "Never"]),
        "Always",
        "OnFailure",
        "When an ended process is started again.",
    ),
    field(
        "backoff",
        Kind::Object(&BACKOFF),
        "{initial: 1s, factor: 2, max: 60s}",
        "{initial: 1s, max: 60s}",
        "The delays between tries.",
    ),
    field("crashLoopAfter", POSITIVE, "5", "5", "Failed starts in a row that are called a crash loop."),
    field(
        "limit",
        Kind::Object(&LIMIT),
        "none: it never gives up",
        "{max: 10, within: 10m}",
        "When to give up for good.",
    ),
    field(
        "successExitCodes",
        Kind::List(&Kind::Int(0, 255)),
        "[0]",
        "[0, 143]",
        "Exit codes that count as success; 128 + n for signal n.",
    ),
])
.short("policy");

pub static BACKOFF: Object = Object::of(&[
    field("initial", Kind::Duration, "1s", "1s", "The first delay."),
    field("factor", Kind::Number(1.0, 100.0), "2", "2", "How much longer each next delay is."),
    field("max", Kind::Duration, "60s", "60s", "The longest delay."),
    field("jitter", Kind::Number(0.0, 1.0), "0.2", "0.2", "A delay is shortened by at most this share, at random."),
    field("resetAfter", Kind::Duration, "60s", "60s", "Time ready after which the delays begin anew."),
]);

pub static LIMIT: Object = Object::of(&[
    field("max", Kind::Int(1, RestartLimit::MOST as i64), "none", "10", "So many restarts …").required(),
    field("within", Kind::Duration, "10m", "10m", "… within this time …"),
    field("then", Kind::Enum(&["Fail"]), "Fail", "Fail", "… and it has failed for good."),
])
.short("max");

pub static STOP: Object = Object::of(&[
    field("signal", Kind::Signal, "SIGTERM", "SIGINT", "The signal that asks it to end."),
    field("gracePeriod", Kind::Duration, "30s", "30s", "Time until it is killed."),
    field(
        "killScope",
        Kind::Enum(&["Session", "Tree"]),
        "Session",
        "Tree",
        "Tree: also daemons that left everything behind, by a reaper of its own (a cgroup does it for all).",
    ),
]);

pub static UPDATE: Object = Object::of(&[
    field(
        "strategy",
        Kind::Enum(&["Recreate", "Rolling"]),
        "computed",
        "Recreate",
        "Stop then start, or one after the other.",
    ),
    field("maxSurge", U32, "computed", "1", "Instances above `replicas` while rolling."),
    field("maxUnavailable", U32, "computed", "1", "Instances that may be missing while rolling."),
])
.short("strategy");

pub static LIFECYCLE: Object = Object::of(&[
    field(
        "preStart",
        Kind::Object(&HOOK),
        "none",
        "{exec: {command: [bin/warm]}}",
        "Runs before each start; it must exit 0.",
    ),
    field(
        "preStop",
        Kind::Object(&HOOK),
        "none",
        "{exec: {command: [bin/drain]}}",
        "Runs before the stop signal, within the grace period.",
    ),
]);

pub static HOOK: Object =
    Object::of(&[field("exec", Kind::Object(&EXEC), "none", "{command: [bin/drain]}", "Runs a command.").required()]);

pub static WRAPPER: Object = Object::of(&[
    field(
        "path",
        Kind::Path,
        "none",
        "postgres.sh",
        "The script. A relative one is searched in the directory, its wrappers/ and each --wrappers.",
    ),
    field(
        "sha256",
        Kind::Sha256,
        "none",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "Pins its content: another refuses to run.",
    ),
    field(
        "selfcheck",
        Kind::Bool,
        "false",
        "true",
        "Runs `WRAPPER --selfcheck` before each start; a failure skips the service.",
    ),
    field("portArg", Kind::Bool, "false", "true", "Appends `--port N` to its arguments."),
])
.short("path");

pub static SCHEDULE: Object = Object::of(&[
    field(
        "cron",
        Kind::Cron,
        "none",
        "\"0 3 * * *\"",
        "Minute, hour, day, month, weekday: numbers, names (mon, jan), lists, ranges, */n; or @hourly, @daily, @weekly, @monthly, @yearly.",
    )
    .required(),
    field(
        "timeZone",
        Kind::TimeZone,
        "UTC",
        "Europe/Berlin",
        "The clock that is meant. A fixed time that it leaves out in spring runs at the next moment, one that it shows twice in autumn runs once; `*` and `/` follow the clock.",
    ),
    field(
        "concurrencyPolicy",
        Kind::Enum(&["Allow", "Forbid", "Replace"]),
        "Forbid",
        "Replace",
        "What happens when the last run is not done: both run (ten at most), the new one is skipped, or the old one is ended. One that failed and waits to be tried again gives way in any case.",
    ),
    field(
        "startingDeadline",
        Kind::Duration,
        "none",
        "5m",
        "How late a run may start that was missed or had to wait; of several that were missed only the last is made up for.",
    ),
    field("historyLimit", Kind::Int(0, 100), "3", "3", "Runs that `plugd status` and `plugd history` tell."),
])
.short("cron");

pub static MCP: Object = Object::of(&[
    field("transport", Kind::Enum(&["stdio", "http"]), "stdio", "http", "How it is spoken to."),
    field("url", Kind::Word, "none", "https://example.com/mcp", "A server elsewhere: nothing runs here."),
    field("path", Kind::Word, "/mcp", "/mcp", "The path of the http transport."),
    field("expose", Kind::Bool, "true", "false", "Whether the aggregate shows it."),
    field("listen", Kind::Bool, "false", "true", "Whether a stdio server is also reachable on `port`."),
    field("allowTools", TEXTS, "all", "[\"orders_*\"]", "Tools that callers see."),
    field("denyTools", TEXTS, "[]", "[\"*_delete\"]", "Tools that callers do not see."),
    field(
        "pinTools",
        Kind::Enum(&["Warn", "Block"]),
        "Warn",
        "Block",
        "What happens when a tool's definition changes.",
    ),
    field("callTimeout", Kind::Duration, "60s", "60s", "Time that one call may take."),
    field("maxInFlight", POSITIVE, "8", "8", "Calls at one time."),
    field("maxMessage", Kind::Size, "4Mi", "4Mi", "Largest message."),
    field(
        "isolation",
        Kind::Enum(&["Auto", "Shared", "PerSession"]),
        "Auto",
        "Shared",
        "Whether clients share one process.",
    ),
])
.short("transport");

pub static SECURITY: Object = Object::of(&[
    field("runAsUser", Kind::Word, "plugd's own user", "orders", "Kubernetes' spelling of `user`; a name or a number."),
    field("runAsGroup", Kind::Word, "the user's group", "orders", "A group's name or number."),
    field("umask", Kind::Umask, "plugd's own", "\"0027\"", "Permissions that new files do not get."),
    field(
        "allowPrivilegeEscalation",
        Kind::Bool,
        "true; false with `mcp`",
        "false",
        "false sets no_new_privs: sudo, setuid and file capabilities do not work.",
    ),
    field("nice", Kind::Int(-20, 19), "0", "5", "Priority: 19 yields to all others."),
    field(
        "oomScoreAdj",
        Kind::Int(-1000, 1000),
        "plugd's own + 100",
        "200",
        "Higher is killed first when memory runs out. Below plugd's own needs CAP_SYS_RESOURCE.",
    ),
    field(
        "capabilities",
        Kind::Object(&CAPABILITIES),
        "plugd's own",
        "{drop: [ALL], add: [NET_BIND_SERVICE]}",
        "Linux capabilities, as Kubernetes means them. For a `user` that is not root those that are added work, too (they are ambient).",
    ),
]);

pub static CAPABILITIES: Object = Object::of(&[
    field(
        "drop",
        Kind::List(&Kind::Capability),
        "[]",
        "[ALL]",
        "Those it loses, and no program gives back. Where plugd is not root that is done by no_new_privs.",
    ),
    field("add", Kind::List(&Kind::Capability), "[]", "[NET_BIND_SERVICE]", "Those it has, of what plugd has itself."),
]);

pub static LOGS: Object = Object::of(&[
    field(
        "format",
        Kind::Enum(&["text", "json"]),
        "text",
        "json",
        "What a line is: of a JSON object a person is shown level, message and fields. The file holds what was written.",
    ),
    field("maxSize", Kind::Size, "10Mi", "10Mi", "Size at which a file is rotated."),
    field("maxFiles", Kind::Int(1, 1_000), "5", "5", "Files that are kept, the current one included."),
    field("maxAge", Kind::Duration, "none", "7d", "Age at which a rotated file is deleted."),
    field(
        "path",
        Kind::Path,
        "plugd's log directory",
        "/var/log/orders.log",
        "A file of one's own; relative to the manifest.",
    ),
    field("separate", Kind::Bool, "false", "true", "Two pipes for stdout and stderr: their order is lost."),
    field("tee", Kind::Bool, "true", "false", "Whether the output is copied to plugd's own."),
    field(
        "onStall",
        Kind::Enum(&["Discard", "Block"]),
        "Discard",
        "Block",
        "When the disk takes nothing: drop lines, or let the service wait.",
    ),
    field("rateLimit", Kind::Size, "none", "1Mi", "Bytes a second that are kept."),
]);

pub static BREAKER: Object = Object::of(&[
    field("consecutiveFailures", POSITIVE, "5", "5", "Failures in a row that open it."),
    field("errorRate", Kind::Number(0.0, 1.0), "0.5", "0.5", "Share of failures that opens it."),
    field("minRequests", POSITIVE, "20", "20", "Requests before a share means anything."),
    field("openFor", Kind::Duration, "30s", "30s", "Time until a trial."),
    field("halfOpenRequests", POSITIVE, "1", "1", "Requests of a trial."),
    field("countToolErrors", Kind::Bool, "false", "true", "Whether an MCP tool's own error counts."),
]);

pub static BALANCING: Object = Object::of(&[
    field(
        "policy",
        Kind::Enum(&[
            "RoundRobin",
            "Random",
            "Weighted",
            "LeastLoaded",
            "PeakEwma",
            "ResourceAware",
            "Capability",
            "Sticky",
            "Learned",
        ]),
        "PeakEwma",
        "LeastLoaded",
        "How an instance is chosen.",
    ),
    field(
        "degraded",
        Kind::Enum(&["LastResort", "Never"]),
        "LastResort",
        "Never",
        "Whether degraded instances serve when nothing else does.",
    ),
    field("maxEjected", Kind::Number(0.0, 1.0), "0.5", "0.5", "Share of instances that may be out."),
    field("retries", U32, "2", "2", "Tries on another instance."),
])
.short("policy");

pub static RESOURCES: Object = Object::of(&[
    field(
        "limits",
        Kind::Object(&LIMITS),
        "{}",
        "{cpu: 500m, memory: 256Mi}",
        "What it cannot exceed, all its processes together; probes and hooks are not counted. Other numbers take effect at once, also for what runs; the first limit, the removal of the last one, and nofile need a new process.",
    ),
    field(
        "requests",
        Kind::Object(&REQUESTS),
        "{}",
        "{cpu: 100m}",
        "What it is given when others want it too; it takes more while nobody does.",
    ),
    field(
        "singleProcessOOMKill",
        Kind::Bool,
        "false",
        "true",
        "Where memory runs out only the largest process is killed, and an event tells it; else all of the instance, as with Kubernetes.",
    ),
]);

pub static LIMITS: Object = Object::of(&[
    field("cpu", Kind::Cpu, "none", "500m", "Processor time: 500m is half a processor (cpu.max)."),
    field(
        "memory",
        Kind::Size,
        "none",
        "256Mi",
        "Memory, without swap (memory.max). Beyond it the kernel kills: OOMKilled.",
    ),
    field("pids", POSITIVE, "none", "64", "Processes and threads (pids.max). Beyond them a fork fails."),
    field("nofile", POSITIVE, "plugd's own", "4096", "Open files of each process (RLIMIT_NOFILE)."),
]);

pub static REQUESTS: Object = Object::of(&[
    field(
        "cpu",
        Kind::Cpu,
        "as 1",
        "100m",
        "Its share of the processors when all are busy, in proportion to its siblings' (cpu.weight: 1 is 100).",
    ),
    field(
        "memory",
        Kind::Size,
        "none",
        "128Mi",
        "Memory that is taken from it last when the machine or the container runs short (memory.low; cgroup v2 only).",
    ),
]);

pub static ACTIVATION: Object = Object::of(&[
    field(
        "onDemand",
        Kind::Bool,
        "false",
        "true",
        "plugd listens on `port` and starts it at the first connection; the program listens on PORT (see `pass`).",
    ),
    field(
        "idleStop",
        Kind::Duration,
        "none",
        "10m",
        "Stops it after so long without a connection; else it runs on. With `pass: Socket` plugd looks for connections once a second: shorter ones may go unseen.",
    ),
    field(
        "holdRequests",
        Kind::Duration,
        "30s",
        "30s",
        "How long a caller waits until it is ready; then the connection is closed. With `pass: Socket`: until a process runs.",
    ),
    field(
        "pass",
        Kind::Enum(&["Proxy", "Socket"]),
        "Proxy",
        "Socket",
        "Proxy: plugd passes connections on to a private port, PORT; those that are open end with the controller (an upgrade, a crash), and nobody is refused. Socket: each process is handed the listening socket as descriptor 3 (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES) and accepts connections itself; it counts as ready at its start unless a probe says otherwise.",
    ),
]);

/// The envelope of Kubernetes' form, and what its metadata becomes.
pub static METADATA: Object = Object::of(&[
    field("name", Kind::Name, "the file's name without its ending", "orders", "The service's name."),
    field("labels", Kind::Map(Keys::Any, &Kind::Text), "{}", "{app: shop}", "For selecting."),
    field("annotations", Kind::Map(Keys::Any, &Kind::Free), "{}", "{owner: shop-team}", "Free texts."),
]);

/// `_plugd.yaml`.
pub static SETTINGS: Object = Object::of(&[
    field(
        "wrappers",
        Kind::List(&Kind::Path),
        "[]",
        "[/opt/wrappers]",
        "Further directories in which wrappers are searched.",
    ),
    field(
        "discovery",
        Kind::Enum(&["On", "All", "Off"]),
        "On",
        "All",
        "Whether executable scripts are services by being there; All: those in wrappers/ too.",
    ),
    field("trust", Kind::Enum(&["auto", "strict", "any"]), "auto", "strict", "Whose files are believed."),
    field(
        "shutdownTimeout",
        Kind::Duration,
        "none; 8s as PID 1",
        "25s",
        "One budget for the ordered stop of all services.",
    ),
    field(
        "exitOnRequired",
        Kind::DurationOrBool,
        "false; true as PID 1",
        "5m",
        "The node ends when a required service was not ready for so long.",
    ),
    field("maxStarting", POSITIVE, "none", "8", "Services that may be starting at one time."),
    field("requireUser", Kind::Bool, "false", "true", "Refuses services without `user` when plugd is root."),
    field("logsTotal", Kind::Size, "1Gi or a tenth of the filesystem", "512Mi", "All logs together."),
    field("tee", Kind::Bool, "true", "false", "Copies the services' output to plugd's own."),
    field("noTee", Kind::Bool, "false", "true", "The same, the other way round: --no-tee."),
    field("stateDir", Kind::Path, "/var/lib/plugd/KEY", "/data/plugd", "Everything that plugd keeps, in one place."),
    field("logDir", Kind::Path, "/var/log/plugd/KEY", "/data/logs", "The logs."),
    field("runDir", Kind::Path, "/run/plugd/KEY", "/run/plugd", "Socket and table of lives."),
    field("mesh", Kind::Bool, "true", "false", "Whether the mesh is on.").later(),
    field(
        "listen",
        Kind::Listen,
        "none",
        "127.0.0.1:7666",
        "Where the API listens besides its socket, for who sends its token.",
    ),
])
.exclusive(&[&["tee", "noTee"]]);

/// Words of neighbouring tools that people try first, and what they are here. `instead` is a clause.
pub const FOREIGN: &[(&str, &str)] = &[
    ("kind", "`kind` belongs to the Kubernetes form: begin with `apiVersion: plugd/v1`, or remove it"),
    ("cmd", "write `command`"),
    ("exec", "write `command`"),
    ("run", "write `command`, or `script` for shell text"),
    ("program", "write `command`"),
    ("entrypoint", "write `command`"),
    ("execstart", "write `command`"),
    ("shell", "write `script: |` for shell text"),
    ("image", "plugd runs processes, not containers: write `command`"),
    (
        "containers",
        "plugd runs processes, not containers: write the container's command as `command`, its probes and env beside it",
    ),
    ("template", "the spec needs no template; write its fields directly"),
    ("spec", "`spec` belongs to the Kubernetes form: begin with `apiVersion: plugd/v1`, or move its fields up"),
    ("mcpservers", concat!(no_stdio_mcp!(), "; for one that listens on a port write `command` and `port`")),
    (
        "services",
        "one file is one service: write its fields directly, each service of a compose file in a file of its own",
    ),
    ("environment", "write `env: {NAME: value}`"),
    ("environmentfile", "write `envFrom: [{file: …}]`"),
    ("envfile", "write `envFrom: [{file: …}]`"),
    ("cwd", "write `workingDir`"),
    ("directory", "write `workingDir`"),
    ("dir", "write `workingDir`"),
    ("workdir", "write `workingDir`"),
    ("workingdirectory", "write `workingDir`"),
    ("healthcheck", "write `readinessProbe` or `livenessProbe`"),
    ("health", "write `readinessProbe` or `livenessProbe`"),
    ("healthendpoint", "write `readinessProbe: /path`"),
    ("probe", "write `readinessProbe` or `livenessProbe`"),
    ("after", "write `dependsOn: [name]`"),
    ("requires", "write `dependsOn: [name]`"),
    ("wants", "write `dependsOn: [{name: …, optional: true}]`"),
    ("dependencies", "write `dependsOn: [name]`"),
    ("needs", "write `dependsOn: [name]`"),
    ("autorestart", "write `restart: Always`, `OnFailure` or `Never`"),
    ("restartpolicy", "write `restart: Always`, `OnFailure` or `Never`"),
    ("autostart", "write `enabled: false` for a service that must not start"),
    ("disabled", "write `enabled: false`"),
    ("optional", "services are optional by default; write `required: true` for one that is not"),
    ("instances", "write `replicas`"),
    ("numprocs", "write `replicas`"),
    ("scale", "write `replicas`"),
    ("group", "write `user: name:group`"),
    ("uid", "write `user`"),
    ("stopsignal", "write `stop: {signal: …}`"),
    ("killsignal", "write `stop: {signal: …}`"),
    ("stopgraceperiod", "write `stop: {gracePeriod: 30s}`"),
    ("stopwaitsecs", "write `stop: {gracePeriod: 30s}`"),
    ("timeoutstopsec", "write `stop: {gracePeriod: 30s}`"),
    ("terminationgraceperiod", "write `stop: {gracePeriod: 30s}`"),
    ("terminationgraceperiodseconds", "write `stop: {gracePeriod: 30s}`"),
    ("backoff", "write `restart: {backoff: {initial: 1s, max: 60s}}`"),
    ("restartsec", "write `restart: {backoff: {initial: 1s}}`"),
    ("startretries", "write `restart: {limit: {max: 10, within: 10m}}`; without it nothing is given up"),
    ("exitcodes", "write `restart: {successExitCodes: [0, 2]}`"),
    ("priority", "write `dependsOn: [name]`: what a service needs is started before it"),
    ("redirectstderr", "remove it: stdout and stderr share one log; `logs: {separate: true}` makes two"),
    ("stopasgroup", "remove it: a stop reaches the whole tree"),
    ("killasgroup", "remove it: a stop reaches the whole tree"),
    ("startsecs", "write `minReady: 1s`: how long a start must last to count as one"),
    ("maxrestarts", "write `restart: {limit: {max: 10, within: 10m}}`"),
    ("stdoutlogfile", "write `logs: {path: …}`"),
    ("logfile", "write `logs: {path: …}`"),
    ("logging", "write `logs`"),
    ("limits", "write `resources: {limits: {…}}`"),
    ("memory", "write `resources: {limits: {memory: 256Mi}}`"),
    ("cpu", "write `resources: {limits: {cpu: 500m}}`"),
    ("tags", "write `labels` or `capabilities`"),
    ("title", "write `name` or `description`"),
    ("cron", "write `schedule: \"0 3 * * *\"`"),
    ("oncalendar", "write `schedule: \"0 3 * * *\"`"),
    ("interval", "write `schedule: \"*/10 * * * *\"` for every ten minutes"),
    ("suspend", "write `enabled: false` at the top; `plugd stop` suspends it by hand"),
    ("activedeadlineseconds", "plugd lets a run take its time; write `command: [timeout, 30s, PROGRAM]`"),
    ("successfuljobshistorylimit", "remove it: `plugd history` shows the last runs"),
    ("failedjobshistorylimit", "remove it: `plugd history` shows the last runs"),
    (
        "ttlsecondsafterfinished",
        "remove it: of a run that is over only its log is left, and its line in `plugd history`",
    ),
    ("backofflimit", "write `restart: {policy: OnFailure, limit: {max: 6, within: 1h}}`"),
    ("jobtemplate", "the spec needs no template; write its fields directly"),
    ("poststart", "there is no postStart: probes say when a start is complete"),
    ("prestart", "write `lifecycle: {preStart: {exec: COMMAND}}`"),
    ("execstartpre", "write `lifecycle: {preStart: {exec: COMMAND}}`"),
    ("volumes", "a process sees the machine's files as they are; remove it"),
    ("type", "remove it; `readinessProbe: {notify: true}` is systemd's Type=notify"),
    ("url", "write `mcp: {url: …}` for a remote MCP server, or `address` for another endpoint"),
];

/// The same, beneath `logs`.
pub const FOREIGN_LOGS: &[(&str, &str)] = &[
    ("file", "write `path`"),
    ("filename", "write `path`"),
    ("dir", "write `path: DIR/NAME.log`, or set the directory of all with `--log-dir`"),
    ("size", "write `maxSize: 10Mi`"),
    ("count", "write `maxFiles: 5`"),
    ("keep", "write `maxFiles: 5`"),
    ("rotate", "write `maxFiles: 5`"),
    ("retention", "write `maxAge: 7d`"),
];

/// The same, beneath `stop`.
pub const FOREIGN_STOP: &[(&str, &str)] = &[
    ("timeout", "write `gracePeriod: 30s`"),
    ("timeoutseconds", "write `gracePeriod: 30s`"),
    ("grace", "write `gracePeriod: 30s`"),
    ("wait", "write `gracePeriod: 30s`"),
    ("killsignal", "write `signal: TERM`"),
];

/// The same, inside a probe.
pub const FOREIGN_PROBE: &[(&str, &str)] = &[
    ("interval", "write `period: 10s`"),
    ("every", "write `period: 10s`"),
    ("retries", "write `failureThreshold: 3`"),
    ("threshold", "write `failureThreshold: 3`"),
    ("startperiod", "write `initialDelay: 5s`, or a `startupProbe`"),
    ("delay", "write `initialDelay: 5s`"),
    ("test", "write `exec: COMMAND`"),
    ("cmd", "write `exec: COMMAND`"),
    ("command", "write `exec: COMMAND`"),
    ("http", "write `httpGet: /path`"),
    ("url", "write `httpGet: /path`"),
    ("path", "write `httpGet: /path`"),
    ("tcp", "write `tcpSocket: 8080`"),
    ("port", "write `tcpSocket: 8080`"),
    ("log", "write `logLine: PATTERN`"),
];

/// Every field, with its path from the top: `restart.backoff.initial`.
pub fn walk(visit: &mut dyn FnMut(&str, &'static Field)) {
    fn descend(prefix: &str, object: &'static Object, visit: &mut dyn FnMut(&str, &'static Field)) {
        for field in object.fields {
            let path = if prefix.is_empty() { field.name.to_owned() } else { format!("{prefix}.{}", field.name) };
            visit(&path, field);
            if let Some(inner) = field.kind.object() {
                descend(&path, inner, visit);
            }
        }
    }
    descend("", &SERVICE, visit);
}
