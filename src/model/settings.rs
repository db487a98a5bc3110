//! Settings of the node itself: `_plugd.yaml`, `PLUGD_…`, flags.

use core::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::manifest::{self, Diagnostic, Text};

/// The settings in force: flags over environment over `_plugd.yaml` over these defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Further directories in which wrappers are searched.
    pub wrappers: Vec<PathBuf>,
    pub discovery: Discovery,
    pub trust: Trust,
    /// One budget for the ordered stop of all services.
    pub shutdown_timeout: Option<Duration>,
    /// A required service not ready for this long ends the node.
    pub exit_on_required: Option<Duration>,
    /// Services that may be starting at one time.
    pub max_starting: Option<u32>,
    /// Refuse services without `user:` when plugd is root.
    pub require_user: bool,
    /// All logs together, in bytes; none is computed from the filesystem.
    pub logs_total: Option<u64>,
    /// Copy services' output to plugd's stdout.
    pub tee: bool,
    /// The API listens there, too.
    pub listen: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub log_dir: Option<PathBuf>,
    pub run_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Executable scripts directly in the directory are services.
    On,
    /// Those in `wrappers/` too.
    All,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Auto,
    Strict,
    Any,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            wrappers: Vec::new(),
            discovery: Discovery::On,
            trust: Trust::Auto,
            shutdown_timeout: None,
            exit_on_required: None,
            max_starting: None,
            require_user: false,
            logs_total: None,
            tee: true,
            listen: None,
            state_dir: None,
            log_dir: None,
            run_dir: None,
        }
    }
}

/// Settings from one source; what it does not say is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartialSettings {
    pub wrappers: Option<Vec<PathBuf>>,
    pub discovery: Option<Discovery>,
    pub trust: Option<Trust>,
    pub shutdown_timeout: Option<Duration>,
    /// `Some(None)` turns it off.
    pub exit_on_required: Option<Option<Duration>>,
    pub max_starting: Option<u32>,
    pub require_user: Option<bool>,
    pub logs_total: Option<u64>,
    pub tee: Option<bool>,
    pub listen: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub log_dir: Option<PathBuf>,
    pub run_dir: Option<PathBuf>,
    /// Settings that are valid and whose machinery is not built yet.
    pub not_yet_supported: Vec<String>,
}

/// Where the API may listen: off this machine it would need TLS, which it does not speak.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("http://").unwrap_or(text);
    let here = text.replacen("localhost:", "127.0.0.1:", 1);
    match here.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err("write a port from 1 to 65535".into()),
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(address) => Err(format!(
            "write 127.0.0.1:{}: it is served to this machine alone; to others a proxy with TLS passes it on",
            address.port()
        )),
        Err(_) => match text.trim_start_matches(':').parse::<u16>() {
            Ok(port) if port > 0 => Err(format!("write 127.0.0.1:{port}")),
            Ok(_) | Err(_) => Err("write an address of this machine and a port, as 127.0.0.1:7666".into()),
        },
    }
}

/// What `exitOnRequired: true` means.
pub const EXIT_ON_REQUIRED: Duration = Duration::from_secs(300);

/// The text of `_plugd.yaml`. An empty one sets nothing.
pub fn read(text: Text<'_>) -> Result<PartialSettings, Vec<Diagnostic>> {
    manifest::read_settings(text).map(|values| PartialSettings::of(&values))
}

/// One setting from a variable or a flag: `shutdownTimeout`, `PLUGD_SHUTDOWN_TIMEOUT` or
/// `shutdown-timeout`, and its value; a list is separated by colons.
pub fn one(name: &str, value: &str) -> Result<PartialSettings, String> {
    manifest::read_setting(&camel(name), value).map(|values| PartialSettings::of(&values))
}

/// `PLUGD_SHUTDOWN_TIMEOUT` and `shutdown-timeout` as `shutdownTimeout`.
fn camel(name: &str) -> String {
    if !name.contains(['-', '_']) && name.chars().any(|c| c.is_ascii_lowercase()) {
        return name.into();
    }
    let name = name.strip_prefix("PLUGD_").unwrap_or(name).trim_start_matches("--");
    let mut out = String::new();
    for (number, part) in name.split(['-', '_']).enumerate() {
        let mut letters = part.to_ascii_lowercase();
        if number > 0
            && let Some(first) = letters.get_mut(..1)
        {
            first.make_ascii_uppercase();
        }
        out.push_str(&letters);
    }
    out
}

impl PartialSettings {
    fn of(values: &manifest::Values) -> PartialSettings {
        let text = |name| values.get(name).and_then(|value| value.as_text().map(str::to_owned));
        let path = |name| text(name).map(PathBuf::from);
        let int = |name| values.get(name).and_then(|value| value.as_int());
        let duration = |name| values.get(name).and_then(|value| value.as_duration());
        let flag = |name| values.get(name).and_then(|value| value.as_flag());
        PartialSettings {
            wrappers: values.get("wrappers").map(|list| list.texts().into_iter().map(PathBuf::from).collect()),
            discovery: text("discovery").map(|word| match word.as_str() {
                "All" => Discovery::All,
                "Off" => Discovery::Off,
                _ => Discovery::On,
            }),
            trust: text("trust").map(|word| match word.as_str() {
                "strict" => Trust::Strict,
                "any" => Trust::Any,
                _ => Trust::Auto,
            }),
            shutdown_timeout: duration("shutdownTimeout"),
            exit_on_required: duration("exitOnRequired")
                .map(Some)
                .or(flag("exitOnRequired").map(|on| on.then_some(EXIT_ON_REQUIRED))),
            max_starting: int("maxStarting").and_then(|count| u32::try_from(count).ok()),
            require_user: flag("requireUser"),
            logs_total: int("logsTotal").and_then(|bytes| u64::try_from(bytes).ok()),
            listen: text("listen").and_then(|text| text.parse().ok()),
            tee: flag("tee").or(flag("noTee").map(|no| !no)),
            state_dir: path("stateDir"),
            log_dir: path("logDir"),
            run_dir: path("runDir"),
            not_yet_supported: values.later(),
        }
    }

    /// What this says, and `base` where it says nothing: flags over environment over file.
    pub fn over(self, base: PartialSettings) -> PartialSettings {
        let mut not_yet_supported = base.not_yet_supported;
        not_yet_supported.extend(self.not_yet_supported);
        PartialSettings {
            wrappers: self.wrappers.or(base.wrappers),
            discovery: self.discovery.or(base.discovery),
            trust: self.trust.or(base.trust),
            shutdown_timeout: self.shutdown_timeout.or(base.shutdown_timeout),
            exit_on_required: self.exit_on_required.or(base.exit_on_required),
            max_starting: self.max_starting.or(base.max_starting),
            require_user: self.require_user.or(base.require_user),
            logs_total: self.logs_total.or(base.logs_total),
            tee: self.tee.or(base.tee),
            listen: self.listen.or(base.listen),
            state_dir: self.state_dir.or(base.state_dir),
            log_dir: self.log_dir.or(base.log_dir),
            run_dir: self.run_dir.or(base.run_dir),
            not_yet_supported,
        }
    }

    /// The settings in force, over `base` (the defaults, or those of a PID 1).
    pub fn settle(self, base: Settings) -> Settings {
        Settings {
            wrappers: self.wrappers.unwrap_or(base.wrappers),
            discovery: self.discovery.unwrap_or(base.discovery),
            trust: self.trust.unwrap_or(base.trust),
            shutdown_timeout: self.shutdown_timeout.or(base.shutdown_timeout),
            exit_on_required: self.exit_on_required.unwrap_or(base.exit_on_required),
            max_starting: self.max_starting.or(base.max_starting),
            require_user: self.require_user.unwrap_or(base.require_user),
            logs_total: self.logs_total.or(base.logs_total),
            tee: self.tee.unwrap_or(base.tee),
            listen: self.listen.or(base.listen),
            state_dir: self.state_dir.or(base.state_dir),
            log_dir: self.log_dir.or(base.log_dir),
            run_dir: self.run_dir.or(base.run_dir),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<PartialSettings, String> {
        let text = Text { file: "_plugd.yaml", text: text.as_bytes() };
        read(text).map_err(|diagnostics| diagnostics.iter().map(Diagnostic::one_line).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = read_text("shutdownTimeout: 10s\ntee: false\nlogsTotal: 1Gi\n").expect("valid");
        let environment = one("PLUGD_SHUTDOWN_TIMEOUT", "20s").expect("valid");
        let flag = one("shutdown-timeout", "30s").expect("valid");
        let settings = flag.over(environment.over(file)).settle(Settings::default());
        assert_eq!(settings.shutdown_timeout, Some(Duration::from_secs(30)));
        assert_eq!((settings.tee, settings.logs_total), (false, Some(1 << 30)));
    }

    #[test]
    fn short_words_mean_what_they_say() {
        let settings = read_text("discovery: off\ntrust: Strict\nexitOnRequired: true\nnoTee: true\nmesh: false\n")
            .expect("valid");
        assert_eq!(settings.discovery, Some(Discovery::Off));
        assert_eq!(settings.trust, Some(Trust::Strict));
        assert_eq!(settings.exit_on_required, Some(Some(EXIT_ON_REQUIRED)));
        assert_eq!((settings.tee, settings.not_yet_supported), (Some(false), vec!["mesh".to_owned()]));
        assert_eq!(one("PLUGD_WRAPPERS", "/a:/b").expect("valid").wrappers, Some(vec!["/a".into(), "/b".into()]));
        assert_eq!(read_text("# nothing\n"), Ok(PartialSettings::default()));
    }

    #[test]
    fn wrong_settings_have_a_place_and_a_remedy() {
        assert_eq!(read_text("shutdown: 10\n"), Err("_plugd.yaml:1:1: unknown field `shutdown`; known here: wrappers, discovery, trust, shutdownTimeout, exitOnRequired, maxStarting, requireUser, logsTotal, tee, noTee, stateDir, logDir, runDir, mesh, listen".into()));
        assert!(one("PLUGD_TRSUT", "auto").expect_err("unknown").contains("did you mean `trust`"));
        assert!(one("trust", "all").is_err());
    }
}
