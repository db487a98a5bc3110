//! Sentences: what happened and what comes next, for people.

use std::time::Duration;

use jiff::Timestamp;

use super::checks::Missed;
use super::input::{Exit, ExitHow, ExitMemory, Leftover, ProbeSlot};
use super::life::{BackOff, Cause, Setback, Stopping};
use super::service::{Gate, Instance, Service};
use crate::model::manifest::{instance_port, no_stdio_mcp, takes_given_port};
use crate::model::quantity::show_bytes;
use crate::model::reason::Reason;
use crate::model::signal;
use crate::model::spec::{Condition, Dependency, Process, Program, Spec};
use crate::model::text::telling;
use crate::model::view::RunResult;
use crate::model::zone::Zone;
use crate::policy::depends::Standing;

/// What there is to do where it ends with 0 again and again.
pub(super) fn ends_at_once(service: &Service) -> String {
    let is_script = service.declared.as_ref().is_some_and(|declared| declared.source.is_script());
    format!(
        "if it is a job, write `{}restart: Never`; if it is a daemon that forks, keep it in the foreground; \
         stdin is /dev/null: {}",
        if is_script { "# plugd: " } else { "" },
        no_stdio_mcp!()
    )
}

/// `0.2 s`, `30 s`, `5 min`.
pub(super) fn span(span: Duration) -> String {
    // Cut, not rounded, as every length that is told: two that differ would be told of one run.
    let millis = span.as_millis();
    let short = |text: String| format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    match millis {
        0 if span.is_zero() => "0 s".into(),
        0..100 => short(format!("0.{:03}", millis.max(1))),
        100..10_000 => short(format!("{}.{}", millis / 1000, millis / 100 % 10)),
        10_000..120_000 => format!("{} s", millis / 1000),
        _ => format!("{} min", millis / 60_000),
    }
}

/// A moment and what the clock of a zone shows then: `2026-11-24T02:00:00Z (03:00 in Europe/Berlin)`.
pub(super) fn moment_in(at: Timestamp, zone: &Zone) -> String {
    if zone.name() == "UTC" {
        return moment(at);
    }
    let shown = zone.rules().to_datetime(at);
    let other_day = shown.date() != jiff::tz::TimeZone::UTC.to_datetime(at).date();
    let shown = shown.strftime(if other_day { "%Y-%m-%d %H:%M" } else { "%H:%M" });
    format!("{} ({shown} in {zone})", moment(at))
}

/// A moment, to the second: `2026-11-23T12:30:34Z`.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `exited with 1 after 0.2 s`.
pub(super) fn ended(exit: &Exit, ran_for: Option<Duration>) -> String {
    let how = match exit.how {
        ExitHow::Code(code) => format!("exited with {code}"),
        ExitHow::Signal(signal) => format!("was killed by {}", signal::name(signal)),
    };
    let how = format!("{how}{}", out_of_memory(exit.oom_killed));
    let met = met_limit(exit.pids_met);
    match ran_for {
        Some(ran_for) => format!("{how} after {}{met}", span(ran_for)),
        None => how + &met,
    }
}

/// Of what it was refused it says `Cannot fork` at the best.
fn met_limit(pids: Option<u64>) -> String {
    match pids {
        None => String::new(),
        Some(1) => "; it met its limit of 1 process".into(),
        Some(most) => format!("; it met its limit of {most} processes"),
    }
}

pub(super) fn times(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

/// `once`, `3 times in a row`.
pub(super) fn times_in_a_row(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times in a row") }
}

/// ` (its limit is 32Mi)`, where it has one.
pub(super) fn memory_limit(spec: Option<&Spec>) -> String {
    let limit = spec.and_then(|spec| spec.resources.limits.memory);
    limit.map(|bytes| format!(" (its limit is {})", show_bytes(bytes))).unwrap_or_default()
}

fn out_of_memory(oom_killed: bool) -> &'static str {
    if oom_killed { " (out of memory)" } else { "" }
}

/// Why a process is ended of a service that may run.
pub(super) fn not_wanted(service: &Service, at: usize) -> &'static str {
    let instance = &service.instances[at];
    match &instance.run {
        Some(run) if run.given_up == Some(RunResult::Replaced) => "its next run",
        None if instance.index >= service.desired() => "fewer are wanted",
        // Whoever has called it since does not change why it is stopped.
        None if service.activation().is_some() => "nobody was connected",
        Some(_) | None => "plugd",
    }
}

/// Who asked for an end: none where it came by itself. `not_wanted`: see there.
pub(super) fn asked_by(cause: &Cause, gate: &Gate, must_restart: bool, not_wanted: &str) -> Option<String> {
    let by = match cause {
        Cause::Ended | Cause::Told => return None,
        Cause::CheckFailed(why) | Cause::Mismatched(why) => why.clone(),
        Cause::DependencyLost(dependency) => format!("{dependency} was not ready any more"),
        Cause::Replaced if must_restart => "plugd restart".into(),
        Cause::Replaced => "an edit".into(),
        Cause::Unwanted => match gate {
            Gate::StoppedByOperator => "plugd stop".into(),
            Gate::Disabled => "its manifest says `enabled: false`".into(),
            Gate::Gone => "its manifest is gone".into(),
            Gate::ShuttingDown => "plugd was stopped".into(),
            Gate::DependencyLost(dependency) => format!("{dependency} was not ready any more"),
            Gate::Open
            | Gate::Unknown
            | Gate::NeverValid
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Waiting(_)
            | Gate::Cycle => not_wanted.into(),
        },
    };
    Some(by)
}

/// `exits with 1 after 0.2 s, 6 times running: "bind: address already in use"`.
pub(super) fn keeps_ending(exit: &ExitMemory, instance: &Instance, times: u32) -> String {
    let mut text = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exits with {code}"),
        (None, Some(signal)) => format!("is killed by {}", signal::name(signal)),
        (None, None) => "ends".into(),
    };
    text.push_str(&format!("{} after {}", out_of_memory(instance.oom_killed), span(exit.ran_for)));
    if times > 1 {
        text.push_str(&format!(", {times} times running"));
    }
    text.push_str(&met_limit(instance.pids_met));
    if let Some(line) = telling(&exit.output) {
        text.push_str(&format!(": {line:?}"));
    }
    text
}

/// `…; port 2525 is held by pid 977 (postfix)`, where that is known of its last life and not told already.
pub(super) fn and_holder(said: String, instance: &Instance) -> String {
    match instance.port_holder() {
        Some(holder) if !said.contains(holder) => format!("{said}; {holder}"),
        Some(_) | None => said,
    }
}

/// The same of one that is over, which nobody tells when the port is free.
pub(super) fn and_past_holder(said: String, instance: &Instance) -> String {
    match instance.port_holder() {
        Some(holder) => format!("{said}; {}", holder.replacen(" is held by ", " was held by ", 1)),
        None => said,
    }
}

/// `exited with 3 after 0.2 s: "cannot open config"`, where it was its own end and its last words are known.
pub(super) fn and_last_words(why: String, instance: &Instance) -> String {
    let is_end = why.contains("exited with ") || why.contains("was killed by ");
    match instance.last_exit.as_ref().filter(|_| is_end).and_then(|exit| telling(&exit.output)) {
        Some(line) => format!("{why}: {line:?}"),
        None => why,
    }
}

/// What there is to do for one of several instances whose port another one may hold already: none where it
/// asks for the port that it is given, or says nothing of a port in use.
pub(super) fn port_remedy(process: &Process, index: u32, exit: &ExitMemory) -> Option<String> {
    let port = instance_port(process, index).filter(|_| !takes_given_port(process))?;
    let in_use = |line: &String| {
        let line = line.to_ascii_lowercase();
        line.contains("address already in use") || line.contains("eaddrinuse")
    };
    exit.output.iter().any(in_use).then_some(())?;
    let remedy = match &process.program {
        Program::Command(_) => "hand it $(PORT)",
        Program::Wrapper(_) | Program::Script(_) | Program::External(_) => "let it listen on $PORT",
    };
    Some(format!("another instance may hold that port: {remedy}, which is {port} for this one"))
}

/// `the liveness probe failed 2 of 3 times: http 127.0.0.1:80/ answered 404`.
pub(super) fn missed(missed: &Missed<'_>) -> String {
    let probe = match missed.slot {
        ProbeSlot::Startup => "startup",
        ProbeSlot::Readiness => "readiness",
        ProbeSlot::Liveness => "liveness",
    };
    let failures = missed.failures.min(missed.threshold);
    format!("the {probe} probe failed {failures} of {} times: {}", missed.threshold, missed.answered)
}

/// Of one that is to pass several times in a row: how often it has, and how often it must.
pub(super) fn passed((passed, needed): (u32, u32)) -> String {
    format!("its check has passed {passed} of the {needed} times in a row that it needs")
}

/// What comes of it if it goes on.
pub(super) fn outcome_of(missed: &Missed<'_>) -> String {
    let what = match missed.slot {
        ProbeSlot::Startup | ProbeSlot::Liveness => "restarted",
        ProbeSlot::Readiness => "not ready any more",
    };
    format!("{what} if that probe fails {}", times_in_a_row(missed.threshold))
}

/// What is missing, in the words of what looked for it where there are some.
pub(super) fn missing(wait: &BackOff, instance: &Instance) -> String {
    let said = instance.last_exit.as_ref().and_then(|exit| telling(&exit.output));
    match (wait.kind, said) {
        (Setback::Missing(Reason::DependencyMissing), Some(line)) => format!("{}: {line:?}", wait.message),
        _ => wait.message.clone(),
    }
}

/// `db is not ready yet`.
pub(super) fn waits_for(dependency: &Dependency, standing: &Standing) -> String {
    let name = &dependency.name;
    if !standing.known {
        return format!("there is no service {name}");
    }
    match dependency.condition {
        Condition::Started => format!("{name} has not started"),
        Condition::Ready => format!("{name} is not ready"),
        Condition::Completed => format!("{name} has not completed"),
    }
}

/// Who holds up a stop. Where in the kernel is told of one that KILL has not ended for long: until then each disk that is
/// slow for a moment would be.
pub(super) fn culprit(stopping: &Stopping) -> String {
    let left = stopping.left.as_deref().unwrap_or_default();
    let held = left.iter().find(|left| stopping.stuck && left.held.is_some());
    match (held.or(left.first()), stopping.pid) {
        (Some(Leftover { pid, command, held: Some(place) }), _) if stopping.stuck => {
            format!("pid {pid} ({command}) has not ended: it waits in the kernel ({place}) for what no signal ends")
        }
        (Some(left), _) => format!("pid {} ({}) has not ended", left.pid, left.command),
        (None, Some(pid)) if stopping.exit.is_none() => format!("pid {pid} has not ended"),
        (None, Some(_) | None) => "what is left of it has not ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (millis, text) in [
            (0, "0 s"),
            (1, "0.001 s"),
            (200, "0.2 s"),
            (270, "0.2 s"),
            (1_500, "1.5 s"),
            (1_970, "1.9 s"),
            (5_000, "5 s"),
            (10_000, "10 s"),
            (2_000, "2 s"),
            (30_000, "30 s"),
            (300_000, "5 min"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn an_end_is_told_with_its_last_words() {
        let exit = ExitMemory {
            code: Some(1),
            signal: None,
            oom_killed: false,
            by: None,
            at: 0,
            ran_for: Duration::from_millis(200),
            output: vec!["bind: address already in use".into()],
            life: 6,
            index: 0,
            told: false,
        };
        let mut instance = Instance::new(0);
        assert_eq!(
            keeps_ending(&exit, &instance, 6),
            r#"exits with 1 after 0.2 s, 6 times running: "bind: address already in use""#
        );
        instance.pids_met = Some(4);
        assert_eq!(
            keeps_ending(&ExitMemory { output: vec!["sh: Cannot fork".into()], ..exit }, &instance, 1),
            r#"exits with 1 after 0.2 s; it met its limit of 4 processes: "sh: Cannot fork""#
        );
        let met = Exit { pids_met: Some(1), ..Exit::code(2) };
        assert_eq!(ended(&met, None), "exited with 2; it met its limit of 1 process");
    }
}
