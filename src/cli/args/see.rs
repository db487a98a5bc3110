//! Arguments of the verbs that look: get, status, logs, events, top, history.

use std::time::Duration;

use clap::Args;

use super::values;

#[derive(Debug, Clone, Default, Args)]
pub struct GetArgs {
    /// Services; all without one (`pods`, `services` and `deploy` mean all, too)
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub names: Vec<String>,
    /// Keep watching: a line for each change
    #[arg(short, long)]
    pub watch: bool,
    /// Only services with this label; may be repeated
    #[arg(short = 'l', long = "selector", value_name = "K=V", value_delimiter = ',')]
    pub selector: Vec<String>,
    /// Only services with this capability
    #[arg(long, value_name = "WORD")]
    pub capability: Option<String>,
    /// How many are in which state, and which, worst first
    #[arg(long)]
    pub summary: bool,
    /// table, wide, name, json, yaml, or jsonpath={…} of what json prints
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true, value_parser = values::get_output)]
    pub output: GetOutput,
    /// With -o yaml: after defaults and drop-ins, with the file of each value
    #[arg(long)]
    pub effective: bool,
    /// No line with the columns' names
    #[arg(long)]
    pub no_headers: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GetOutput {
    #[default]
    Table,
    Wide,
    Name,
    Json,
    Yaml,
    JsonPath(String),
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Services, or instances as orders/1; without one the list of all, as `plugd get`
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub names: Vec<String>,
    /// text, or json: the same object as `get -o json`
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    pub output: String,
}

#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Services, or instances as orders/1; all without one
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub names: Vec<String>,
    /// Go on as more is written
    #[arg(short, long)]
    pub follow: bool,
    /// A time before each line
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// The last N lines of each (default 100 for several, all for one)
    #[arg(long, short = 'n', value_name = "N")]
    pub tail: Option<u64>,
    /// Only what was written since: 10m, or 2026-11-23T11:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = values::since)]
    pub since: Option<values::Since>,
    /// Of the life before this one
    #[arg(short, long)]
    pub previous: bool,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// text, or json: one object a line
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true)]
    pub output: LogsOutput,
}

impl LogsArgs {
    /// Not all that there is was asked for.
    pub fn is_narrowed(&self) -> bool {
        self.since.is_some() || self.previous || self.grep.is_some() || self.tail == Some(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogsOutput {
    Text,
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Services; all and the node's own without one
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub names: Vec<String>,
    /// Go on as more happens
    #[arg(short, long)]
    pub watch: bool,
    /// Only events of at most this age
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub since: Option<Duration>,
    /// text, or json: one object a line
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true)]
    pub output: LogsOutput,
}

#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub name: String,
    /// How far back: 24h, 7d, 90d, or a moment; a day is told in minutes, more in hours
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = values::since)]
    pub since: values::Since,
    /// text, or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true)]
    pub output: LogsOutput,
}

#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Begin with only those whose name, status or cause has this in it
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
}
