//! The columns of the list: as many as the terminal has room for, a name and a status always.
//!
//! Where it is narrow WHY goes first (it stands beneath the list), then the reason behind the status,
//! then READY, AGE, RESTARTS, MEMORY and CPU.

use super::state::{Entry, Top};
use crate::cli::look::{columns, cut};
use crate::model::text::{Charset, age, clean, indicator, since};

/// Between two columns.
const GAP: usize = 2;
/// A sentence needs about as much.
const WHY_MIN: usize = 36;
/// Longer names are cut: the whole one stands beneath the list.
const NAME_MAX: usize = 32;
const NAME_MIN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub kind: Kind,
    pub width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Name,
    Ready,
    /// With its reason.
    Status,
    /// The word alone.
    Word,
    Restarts,
    Age,
    Cpu,
    Memory,
    Why,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Kind::Name => "NAME",
            Kind::Ready => "READY",
            Kind::Status | Kind::Word => "STATUS",
            Kind::Restarts => "RESTARTS",
            Kind::Age => "AGE",
            Kind::Cpu => "CPU",
            Kind::Memory => "MEMORY",
            Kind::Why => "WHY",
        }
    }

    /// Numbers stand beneath each other.
    fn is_number(self) -> bool {
        match self {
            Kind::Restarts | Kind::Age | Kind::Cpu | Kind::Memory => true,
            Kind::Name | Kind::Ready | Kind::Status | Kind::Word | Kind::Why => false,
        }
    }
}

/// From wide to narrow.
const PLANS: [&[Kind]; 8] = {
    use Kind::{Age, Cpu, Memory, Name, Ready, Restarts, Status, Why, Word};
    [
        &[Name, Ready, Status, Restarts, Age, Cpu, Memory, Why],
        &[Name, Ready, Status, Restarts, Age, Cpu, Memory],
        &[Name, Ready, Word, Restarts, Age, Cpu, Memory],
        &[Name, Word, Restarts, Age, Cpu, Memory],
        &[Name, Word, Restarts, Cpu, Memory],
        &[Name, Word, Cpu, Memory],
        &[Name, Word, Cpu],
        &[Name, Word],
    ]
};

pub fn plan(entries: &[Entry], width: usize, top: &Top) -> Vec<Column> {
    let widest = |kind: Kind| {
        let cells = entries.iter().map(|entry| columns(&cell(kind, entry, top)));
        cells.max().unwrap_or_default().max(kind.title().len())
    };
    let names = widest(Kind::Name).min(NAME_MAX);
    for kinds in PLANS {
        let fixed: Vec<Column> = kinds
            .iter()
            .filter(|kind| !matches!(kind, Kind::Name | Kind::Why))
            .map(|kind| Column { kind: *kind, width: widest(*kind) })
            .collect();
        let others: usize = fixed.iter().map(|column| column.width + GAP).sum();
        let why = if kinds.contains(&Kind::Why) { WHY_MIN + GAP } else { 0 };
        let is_last = *kinds == *PLANS[PLANS.len() - 1];
        if names + others + why > width && !is_last {
            continue;
        }
        let name = names.min(width.saturating_sub(others)).max(NAME_MIN.min(width));
        let mut plan = vec![Column { kind: Kind::Name, width: name }];
        plan.extend(fixed);
        if why > 0 {
            plan.push(Column { kind: Kind::Why, width: width - name - others - GAP });
        }
        return plan;
    }
    Vec::new()
}

pub fn head(plan: &[Column]) -> String {
    let cells = plan.iter().map(|column| fill(column.kind.title(), *column));
    cells.collect::<Vec<_>>().join(&" ".repeat(GAP))
}

/// The cells of a row with the gaps between them, and which of them is the status.
pub fn cells(entry: &Entry, plan: &[Column], top: &Top) -> Vec<(String, bool)> {
    let mut cells = Vec::new();
    for column in plan {
        if !cells.is_empty() {
            cells.push((" ".repeat(GAP), false));
        }
        let text = cell(column.kind, entry, top);
        let ellipsis = if top.charset == Charset::Ascii { "..." } else { "…" };
        let text = cut(&text, column.width, ellipsis);
        cells.push((fill(&text, *column), matches!(column.kind, Kind::Status | Kind::Word)));
    }
    cells
}

fn fill(text: &str, column: Column) -> String {
    let gap = " ".repeat(column.width.saturating_sub(columns(text)));
    if column.kind.is_number() { format!("{gap}{text}") } else { format!("{text}{gap}") }
}

fn cell(kind: Kind, entry: &Entry, top: &Top) -> String {
    let row = &entry.row;
    let dash = || "-".to_string();
    let sign = indicator(row.status, top.charset);
    match kind {
        Kind::Name => clean(&row.name).into_owned(),
        Kind::Ready => row.ready.map_or_else(dash, |(ready, desired)| format!("{ready}/{desired}")),
        Kind::Status => format!("{sign} {}", row.status_text()),
        Kind::Word => format!("{sign} {}", row.status),
        Kind::Restarts => row.restarts.map_or_else(dash, |restarts| restarts.to_string()),
        Kind::Age => row.since.map_or_else(dash, |then| age(since(then, top.now))),
        Kind::Cpu => entry.usage.and_then(|usage| usage.percent).map_or_else(dash, |percent| format!("{percent:.1}%")),
        Kind::Memory => entry.usage.map_or_else(dash, |usage| bytes(usage.resident)),
        Kind::Why => clean(&row.why).into_owned(),
    }
}

/// `812K`, `34M`, `1.2G`.
fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    match bytes {
        0..0x10_0000 => format!("{}K", bytes / KIB),
        0x10_0000..0x4000_0000 => format!("{}M", bytes / KIB / KIB),
        _ => format!("{:.1}G", bytes as f64 / (KIB * KIB * KIB) as f64),
    }
}
