//! Probes and readiness: what is checked, how often, and what that asks of the process.

use std::time::Duration;

use crate::model::spec::*;

use super::context::Context;
use super::given::{Data, Given};
use super::table::CHECKS;

/// Shortest period and timeout: below it a check costs more than the service.
const SHORTEST: Duration = Duration::from_millis(10);

/// Which probe; some checks make sense only for some.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Startup,
    Readiness,
    Liveness,
}

impl Slot {
    fn field(self) -> &'static str {
        match self {
            Slot::Startup => "startupProbe",
            Slot::Readiness => "readinessProbe",
            Slot::Liveness => "livenessProbe",
        }
    }
}

/// What a probe may leave out, because the service says it.
struct Own {
    ports: Vec<Port>,
    /// Where its MCP server is spoken to; none where that is not on a port of its own.
    mcp_path: Option<String>,
}

impl Own {
    fn of(spec: &Spec, given: &Given) -> Own {
        let here = !spec.process.stdio_mcp && given.at(&["mcp", "url"]).is_none();
        let path = given.at(&["mcp", "path"]).and_then(Given::as_text).unwrap_or("/mcp");
        Own { ports: spec.process.ports.clone(), mcp_path: here.then(|| with_slash(path)) }
    }
}

/// All three, and what follows from them for the process.
pub fn all(ctx: &mut Context<'_>, spec: &mut Spec, given: &Given) {
    let own = Own::of(spec, given);
    spec.startup_probe = probe(ctx, given, Slot::Startup, &own);
    spec.liveness_probe = probe(ctx, given, Slot::Liveness, &own);
    let opted_out = given.get("readinessProbe").is_some_and(|probe| probe.as_text() == Some("none"));
    spec.readiness = match probe(ctx, given, Slot::Readiness, &own) {
        Some(probe) => Readiness::Probe(probe),
        None if opted_out || spec.process.port.is_none() || spec.process.stdio_mcp => Readiness::AtExec,
        None => Readiness::ImpliedPort(numbers(None, Check::TcpSocket { host: None, port: ProbePort::Instance })),
    };
    let probes = [spec.startup_probe.as_ref(), spec.readiness.probe(), spec.liveness_probe.as_ref()];
    spec.process.notify = probes.iter().flatten().any(|probe| probe.check == Check::Notify);
    spec.process.ready_fd = probes.iter().flatten().find_map(|probe| match probe.check {
        Check::Fd(number) => Some(number),
        Check::Exec { .. } | Check::HttpGet { .. } | Check::TcpSocket { .. } => None,
        Check::Grpc { .. } | Check::Mcp { .. } => None,
        Check::Notify | Check::LogLine(_) | Check::Later(_) => None,
    });
    spec.process.watchdog = spec
        .liveness_probe
        .as_ref()
        .filter(|probe| probe.check == Check::Notify)
        .map(|probe| probe.period.saturating_mul(probe.failure_threshold));
}

fn probe(ctx: &mut Context<'_>, given: &Given, slot: Slot, own: &Own) -> Option<Probe> {
    let ports = own.ports.as_slice();
    let given = given.get(slot.field())?;
    let Data::Map(_) = given.data else { return None };
    let name = slot.field();
    let Some((kind, value)) = CHECKS.iter().find_map(|kind| Some((*kind, given.get(kind)?))) else {
        if !ctx.failed() {
            let remedy = "write one of exec, httpGet, tcpSocket, grpc, mcp, notify, fd, logLine, or `none` to opt out";
            ctx.error(&given.place, format!("`{name}` does not say what to check"), remedy);
        }
        return None;
    };
    let check = match kind {
        "exec" => Check::Exec { command: value.get("command")?.texts() },
        "httpGet" => Check::HttpGet {
            host: value.text("host"),
            port: port(ctx, value, name, ports)?,
            path: with_slash(&value.text("path").unwrap_or_default()),
            headers: value
                .get("httpHeaders")
                .map(Given::items)
                .unwrap_or_default()
                .iter()
                .filter_map(|header| Some((header.text("name")?, header.text("value")?)))
                .collect(),
            https: value.text("scheme").as_deref() == Some("HTTPS"),
            expect_status: value
                .get("expectStatus")
                .map(Given::items)
                .unwrap_or_default()
                .iter()
                .filter_map(|status| u16::try_from(status.as_int()?).ok())
                .collect(),
            expect_body: value.get("expectBody").and_then(Given::as_text).map(str::to_owned),
        },
        "tcpSocket" => Check::TcpSocket { host: value.text("host"), port: port(ctx, value, name, ports)? },
        "fd" => Check::Fd(value.as_int()? as i32),
        "logLine" => Check::LogLine(value.as_text()?.to_owned()),
        "grpc" => {
            Check::Grpc { port: port(ctx, value, name, ports)?, service: value.text("service").unwrap_or_default() }
        }
        "mcp" | "notify" if !matches!(value.data, Data::Bool(true)) => {
            ctx.error(&value.place, format!("`{name}.{kind}` can only be true"), "remove the probe, or write true");
            return None;
        }
        "mcp" => match &own.mcp_path {
            Some(path) => Check::Mcp { port: port(ctx, value, name, ports)?, path: path.clone() },
            None => Check::Later("mcp".into()),
        },
        _ => Check::Notify,
    };
    if slot == Slot::Liveness && matches!(check, Check::Fd(_) | Check::LogLine(_)) {
        let remedy =
            "write it as `readinessProbe` or `startupProbe`; for liveness use exec, httpGet, tcpSocket or notify";
        ctx.error(
            &value.place,
            format!("`{kind}` speaks once, at the start: it cannot tell whether a service lives"),
            remedy,
        );
    }
    let probe = numbers(Some(given), check);
    for (field, duration) in [("period", probe.period), ("timeout", probe.timeout)] {
        if duration < SHORTEST {
            let place = given.get(field).unwrap_or(given).place.clone();
            ctx.error(&place, format!("`{name}.{field}` is shorter than 10ms"), format!("write `{field}: 1s`"));
        }
    }
    Some(probe)
}

fn with_slash(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Kubernetes' numbers where nothing is written.
fn numbers(given: Option<&Given>, check: Check) -> Probe {
    let duration =
        |name: &str, assumed: u64| given.and_then(|given| given.duration(name)).unwrap_or(Duration::from_secs(assumed));
    let count = |name: &str, assumed: u32| given.and_then(|given| given.count(name)).unwrap_or(assumed);
    Probe {
        check,
        initial_delay: duration("initialDelay", 0),
        period: duration("period", 10),
        timeout: duration("timeout", 1),
        success_threshold: count("successThreshold", 1),
        failure_threshold: count("failureThreshold", 3),
    }
}

/// The port that a check means. The service's own first port is the instance's (port + index).
fn port(ctx: &mut Context<'_>, check: &Given, probe: &str, ports: &[Port]) -> Option<ProbePort> {
    let elsewhere = check.get("host").is_some();
    let first = ports.first();
    let Some(given) = check.get("port") else {
        if first.is_none() && !ctx.failed() {
            let remedy = "write `port: 8080` at the top, or a port in the probe";
            ctx.error(&check.place, format!("`{probe}` has no port to check"), remedy);
        }
        return first.map(|_| ProbePort::Instance);
    };
    match &given.data {
        Data::Int(number) => {
            let number = u16::try_from(*number).ok()?;
            let own = first.is_some_and(|first| first.port == number) && !elsewhere;
            Some(if own { ProbePort::Instance } else { ProbePort::Number(number) })
        }
        Data::Text(text) if text == "$(instance.port)" => Some(ProbePort::Instance),
        Data::Text(name) => {
            let found = ports.iter().position(|port| port.name.as_deref() == Some(name));
            if found.is_none() && !ctx.failed() {
                let known: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
                let remedy = match known.as_slice() {
                    [] => format!("write `ports: [{{name: {name}, port: 8080}}]`, or a number"),
                    names => format!("the ports are {}", names.join(", ")),
                };
                ctx.error(
                    &given.place,
                    format!("`{probe}` names the port `{name}`, which `ports` does not have"),
                    remedy,
                );
            }
            found.map(|at| if at == 0 && !elsewhere { ProbePort::Instance } else { ProbePort::Number(ports[at].port) })
        }
        Data::Bool(_) | Data::Number(_) | Data::Duration(_) | Data::List(_) | Data::Map(_) => None,
    }
}
