//! A line that is a JSON object (`logs.format: json`), as a person reads it: `ERROR cannot bind port=80`.

use serde_json::{Map, Value};

/// Beyond this a line is shown as it is: nobody reads it, and taking it apart costs.
const LENGTH_MAX: usize = 16 * 1024;

const LEVELS: [&str; 5] = ["level", "severity", "lvl", "levelname", "log.level"];
const MESSAGES: [&str; 3] = ["msg", "message", "event"];
/// plugd knows when a line came; `plugd logs -t` tells it.
const TIMES: [&str; 6] = ["time", "ts", "timestamp", "@timestamp", "asctime", "t"];

/// None: it is no JSON object, or says nothing that is known; then the line speaks for itself.
pub fn told(line: &str) -> Option<String> {
    let mut fields = fields(line)?;
    // As tracing of Rust writes them.
    if let Some(Value::Object(inner)) = fields.get("fields").cloned() {
        fields.remove("fields");
        fields.extend(inner);
    }
    let message = take(&mut fields, &MESSAGES)?;
    let level = take(&mut fields, &LEVELS).map(|level| named(&level));
    TIMES.iter().for_each(|name| _ = fields.remove(*name));
    let rest = fields.iter().map(|(name, value)| format!("{name}={}", plain(value)));
    let words = level.into_iter().chain([plain(&message)]).chain(rest);
    Some(words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

/// What it says in fields.
pub fn fields(line: &str) -> Option<Map<String, Value>> {
    let line = line.trim();
    (line.starts_with('{') && line.len() <= LENGTH_MAX).then(|| serde_json::from_str(line).ok())?
}

fn take(fields: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    let name = names.iter().find(|name| fields.get(**name).is_some_and(|value| !value.is_null()))?;
    fields.remove(*name)
}

/// As bunyan and pino number them.
fn named(level: &Value) -> String {
    match level.as_u64() {
        Some(10) => "TRACE".into(),
        Some(20) => "DEBUG".into(),
        Some(30) => "INFO".into(),
        Some(40) => "WARN".into(),
        Some(50) => "ERROR".into(),
        Some(60) => "FATAL".into(),
        Some(_) | None => plain(level).to_uppercase(),
    }
}

/// Text without its quotes where it cannot be misread.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_and_message_come_first_and_the_time_is_told_by_others() {
        for (line, expected) in [
            (r#"{"time":"2026-01-01T00:00:00Z","level":"info","msg":"listening","port":80}"#, "INFO listening port=80"),
            (r#"{"level":50,"time":1,"pid":7,"msg":"it broke"}"#, "ERROR it broke pid=7"),
            (r#"{"severity":"warning","message":"low","disk":{"free":1}}"#, r#"WARNING low disk={"free":1}"#),
            (r#"{"event":"login","user":"ann lee"}"#, "login user=ann lee"),
            (r#"  {"msg":""}  "#, ""),
            (
                r#"{"timestamp":"x","level":"WARN","fields":{"message":"slow","ms":9},"target":"db"}"#,
                "WARN slow target=db ms=9",
            ),
        ] {
            assert_eq!(told(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_record_speaks_for_itself() {
        let long = format!(r#"{{"msg":"{}"}}"#, "x".repeat(LENGTH_MAX));
        let deep = "{\"msg\":".repeat(5000);
        for line in ["", "ready", "{", "[1]", "\"msg\"", r#"{"port":80}"#, r#"{"msg":null}"#, &long, &deep] {
            assert_eq!(told(line), None, "{}", &line[..line.len().min(40)]);
        }
    }
}
