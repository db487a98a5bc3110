//! A line of the table of services: from a view, from a file that makes no service, or from what a
//! status file last said.

use jiff::Timestamp;

use super::table::Shape;
use crate::model::manifest;
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::view::{FileProblem, ServiceView, Snapshot, in_a_line};

/// Everything that a table may show of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: String,
    pub status: Status,
    pub reason: Option<Reason>,
    /// Ready and desired instances; none for a file that makes no service.
    pub ready: Option<(u32, u32)>,
    pub restarts: Option<u64>,
    pub score: Option<u8>,
    /// Since when the oldest process runs; where none does, since when the status is what it is.
    pub since: Option<Timestamp>,
    pub why: String,
    pub pids: Vec<i32>,
    pub address: String,
    pub check: String,
    pub file: String,
}

impl Row {
    pub fn of(view: &ServiceView) -> Row {
        Row {
            name: view.service.to_string(),
            status: view.status,
            reason: view.reason,
            ready: Some((view.ready, view.desired)),
            restarts: Some(view.restarts),
            score: view.score,
            since: Some(began(view)),
            why: why(view),
            pids: view.instances.iter().filter_map(|instance| instance.pid).collect(),
            address: view.address.clone().unwrap_or_default(),
            check: view.check.clone().unwrap_or_default(),
            file: view.manifest.file.clone(),
        }
    }

    /// As much of it as such a table shows.
    pub fn as_in(self, shape: Shape) -> Row {
        match shape {
            Shape::Wide => self,
            Shape::Normal => Row {
                score: None,
                pids: Vec::new(),
                address: String::new(),
                check: String::new(),
                file: String::new(),
                ..self
            },
        }
    }

    /// A file that makes no service stands under its own name, as failed or skipped.
    pub fn of_file(problem: &FileProblem) -> Row {
        Row {
            name: problem.file.clone(),
            status: problem.status(),
            reason: Some(problem.reason),
            ready: None,
            restarts: None,
            score: None,
            since: None,
            why: problem.message.lines().next().unwrap_or_default().to_string(),
            pids: Vec::new(),
            address: String::new(),
            check: String::new(),
            file: problem.file.clone(),
        }
    }

    /// `unhealthy (BackOff)`.
    pub fn status_text(&self) -> String {
        word(self.status, self.reason)
    }
}

/// The status word, with the reason where there is one.
pub fn word(status: Status, reason: Option<Reason>) -> String {
    match reason {
        Some(reason) => format!("{status} ({reason})"),
        None => status.to_string(),
    }
}

/// All rows of a snapshot, by name.
pub fn all(snapshot: &Snapshot) -> Vec<Row> {
    let services = snapshot.services.values().map(|view| Row::of(view));
    services.chain(snapshot.node.problems.iter().map(Row::of_file)).collect()
}

/// The AGE: of the process, as kubectl's; a check that comes and goes makes nothing younger.
fn began(view: &ServiceView) -> Timestamp {
    view.instances.iter().filter_map(|instance| instance.started).min().unwrap_or(view.since)
}

/// What became of its last edit, where that is not in force; else the first sentence, or the first problem.
fn why(view: &ServiceView) -> String {
    let cause = || view.why.iter().find(|line| !line.is_empty()).cloned();
    let first = view.edit_not_in_force().or_else(cause);
    let problem = || view.problems.first().map(|problem| in_a_line((problem.reason.as_str(), &problem.message)));
    first.or_else(problem).unwrap_or_default()
}

/// Trouble first: what a person should look at stands where the eye begins.
pub fn trouble(status: Status) -> u8 {
    match status {
        Status::Failed => 0,
        Status::Unhealthy => 1,
        Status::Degraded => 2,
        Status::Stopping => 3,
        Status::Starting => 4,
        Status::Waiting => 5,
        Status::Skipped => 6,
        Status::Healthy | Status::Running => 7,
        Status::Completed => 8,
        Status::Stopped => 9,
    }
}

/// Sorts for a terminal: trouble first, then by name.
pub fn sort_by_trouble(rows: &mut [Row]) {
    rows.sort_by(|a, b| (trouble(a.status), &a.name).cmp(&(trouble(b.status), &b.name)));
}

/// The known name that is nearest to one that is not: `ordrs` → `orders`.
pub fn nearest<'n>(wanted: &str, known: impl Iterator<Item = &'n Name>) -> Option<String> {
    manifest::nearest(wanted, known.map(Name::as_str)).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::samples::healthy;

    #[test]
    fn a_change_of_what_a_table_does_not_show_is_none_there() {
        let row = Row::of(&healthy("web"));
        let other = Row { check: "tcp 127.0.0.1:8080 passed, held by docker-proxy".into(), ..row.clone() };
        for (shape, same) in [(Shape::Normal, true), (Shape::Wide, false)] {
            assert_eq!(row.clone().as_in(shape) == other.clone().as_in(shape), same);
        }
        let ended = Row { ready: Some((0, 1)), ..row.clone() };
        assert_ne!(row.as_in(Shape::Normal), ended.as_in(Shape::Normal));
    }

    #[test]
    fn a_misspelt_name_has_a_nearest_one() {
        let known = ["orders", "mailer", "db"].map(|name| Name::parse(name).expect("valid"));
        assert_eq!(nearest("ordrs", known.iter()).as_deref(), Some("orders"));
        assert_eq!(nearest("nginx", known.iter()), None);
    }
}
