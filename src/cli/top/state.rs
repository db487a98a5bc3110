//! What `plugd top` knows and shows, as plain values: nothing here reads a clock or draws.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use crate::cli::row::{self, Row, trouble};
use crate::controller::Order;
use crate::model::name::Name;
use crate::model::text::Charset;
use crate::model::view::{ServiceView, Snapshot};

/// Lines of a log that can be scrolled through.
pub const LOG_LINES: usize = 2_000;

#[derive(Debug)]
pub struct Top {
    /// The node, as it is named in the first line.
    pub title: String,
    pub charset: Charset,
    pub color: bool,
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    pub now: Timestamp,
    pub link: Link,
    pub known: Option<Snapshot>,
    /// By service; none for what has no process.
    pub usage: HashMap<Name, Usage>,
    pub filter: String,
    pub sort: Sort,
    pub reverse: bool,
    /// The name of the row: it stays chosen when others come and go.
    pub chosen: Option<String>,
    /// Where it stood last: when it is gone, its neighbour is chosen.
    pub at: usize,
    /// The first row that is shown.
    pub first: usize,
    pub pane: Pane,
    /// What became of the last wish, until another key is pressed.
    pub said: Option<String>,
}

/// Whether what is shown is the present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    Live,
    Lost { since: Timestamp, why: String },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Of one processor; none before the second look.
    pub percent: Option<f32>,
    pub resident: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pane {
    List,
    /// The filter is being typed; what it was before comes back with Esc.
    Filter {
        before: String,
    },
    /// An order that is not given yet.
    Ask {
        name: Name,
        order: Order,
    },
    Help,
    /// All about one service.
    Why {
        name: Name,
        first: usize,
    },
    Logs(LogPane),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPane {
    pub name: Name,
    pub lines: VecDeque<String>,
    /// Lines that are below what is shown; 0 follows.
    pub below: usize,
    /// Why no more will come.
    pub ended: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Trouble,
    Name,
    Restarts,
    Age,
    Cpu,
    Memory,
}

impl Sort {
    pub fn next(self) -> Sort {
        match self {
            Sort::Trouble => Sort::Name,
            Sort::Name => Sort::Restarts,
            Sort::Restarts => Sort::Age,
            Sort::Age => Sort::Cpu,
            Sort::Cpu => Sort::Memory,
            Sort::Memory => Sort::Trouble,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Sort::Trouble => "trouble first",
            Sort::Name => "by name",
            Sort::Restarts => "most restarts first",
            Sort::Age => "youngest first",
            Sort::Cpu => "most cpu first",
            Sort::Memory => "most memory first",
        }
    }
}

/// A row of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub row: Row,
    pub usage: Option<Usage>,
}

impl Top {
    pub fn new(title: String, charset: Charset, color: bool, size: (u16, u16), now: Timestamp) -> Top {
        Top {
            title,
            charset,
            color,
            size,
            now,
            link: Link::Live,
            known: None,
            usage: HashMap::new(),
            filter: String::new(),
            sort: Sort::Trouble,
            reverse: false,
            chosen: None,
            at: 0,
            first: 0,
            pane: Pane::List,
            said: None,
        }
    }

    /// The rows as they stand in the list: filtered and sorted.
    pub fn entries(&self) -> Vec<Entry> {
        let Some(known) = &self.known else { return Vec::new() };
        let wanted = self.filter.to_lowercase();
        let holds = |row: &Row| {
            let within = |text: &str| text.to_lowercase().contains(&wanted);
            wanted.is_empty() || within(&row.name) || within(&row.status_text()) || within(&row.why)
        };
        let entry = |row: Row| Entry { usage: self.usage.get(row.name.as_str()).copied(), row };
        let mut entries: Vec<Entry> = row::all(known).into_iter().filter(holds).map(entry).collect();
        let cpu = |entry: &Entry| entry.usage.and_then(|usage| usage.percent).unwrap_or(-1.0);
        let memory = |entry: &Entry| entry.usage.map_or(0, |usage| usage.resident);
        entries.sort_by(|a, b| {
            let by = match self.sort {
                Sort::Trouble => trouble(a.row.status).cmp(&trouble(b.row.status)),
                Sort::Name => std::cmp::Ordering::Equal,
                Sort::Restarts => b.row.restarts.cmp(&a.row.restarts),
                Sort::Age => b.row.since.cmp(&a.row.since),
                Sort::Cpu => cpu(b).total_cmp(&cpu(a)),
                Sort::Memory => memory(b).cmp(&memory(a)),
            };
            by.then_with(|| a.row.name.cmp(&b.row.name))
        });
        if self.reverse {
            entries.reverse();
        }
        entries
    }

    /// Where the chosen row stands; where it is gone, the one in its place.
    pub fn cursor(&self, entries: &[Entry]) -> usize {
        let chosen = |chosen: &String| entries.iter().position(|entry| entry.row.name == *chosen);
        self.chosen.as_ref().and_then(chosen).unwrap_or(self.at.min(entries.len().saturating_sub(1)))
    }

    /// The service of the chosen row; none where it is a file that makes none.
    pub fn service(&self) -> Option<Arc<ServiceView>> {
        let entries = self.entries();
        let entry = entries.get(self.cursor(&entries))?;
        self.known.as_ref()?.services.get(entry.row.name.as_str()).cloned()
    }

    /// Lines that the list has room for, and those beneath it for the chosen row.
    pub fn room(&self) -> (usize, usize) {
        let lines = usize::from(self.size.1);
        // The first line, the columns' names, and the last line.
        let body = lines.saturating_sub(3);
        let beneath = if body >= 8 { 3 } else { 0 };
        (body - beneath, beneath)
    }

    /// Lines of a pane that fills the body.
    pub fn page(&self) -> usize {
        usize::from(self.size.1).saturating_sub(2)
    }
}
