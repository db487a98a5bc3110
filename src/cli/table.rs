//! The table of `plugd get`: columns as wide as their content, WHY cut to the terminal.
//!
//! Where the other columns leave too little of the terminal for a sentence, WHY stands on a line of
//! its own beneath the row that it is about: eight letters of a cause help nobody.

use jiff::Timestamp;

use super::look::{Color, Look, columns, cut};
use super::row::Row;
use crate::model::text::{age, clean, indicator, since};

/// Between two columns.
const GAP: &str = "  ";
/// A sentence needs about as much; with less room WHY stands beneath its row.
const WHY_MIN: usize = 36;
/// Before a WHY that stands beneath.
const BENEATH: &str = "  ";

/// Which columns are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Normal,
    /// With PID, ADDRESS, FILE and CHECK.
    Wide,
}

/// The whole table, with its head where `head` says so.
pub fn table(rows: &[Row], shape: Shape, head: bool, look: &Look, now: Timestamp) -> String {
    let mut lines: Vec<Line> = Vec::with_capacity(rows.len() + 1);
    if head {
        lines.push(Line { cells: titles(shape), color: None });
    }
    lines.extend(
        rows.iter().map(|row| Line { cells: cells(row, shape, look, now), color: Some(Color::of(row.status)) }),
    );
    let widths = widths(&lines);
    let beneath = is_beneath(&widths, look);
    lines.iter().map(|line| line.print(&widths, beneath, look)).collect()
}

/// One line more under a table that was printed before (`get -w`), in its columns as far as it fits.
pub fn line(row: &Row, shape: Shape, look: &Look, now: Timestamp, widths: &mut Vec<usize>) -> String {
    // As the table above it did, though a cell may have grown since.
    let beneath = is_beneath(widths, look);
    let line = Line { cells: cells(row, shape, look, now), color: Some(Color::of(row.status)) };
    for (at, cell) in line.cells.iter().enumerate() {
        match widths.get_mut(at) {
            Some(width) => *width = (*width).max(columns(cell)),
            None => widths.push(columns(cell)),
        }
    }
    line.print(widths, beneath, look)
}

/// Whether some WHY does not fit beside its row and would be cut to next to nothing.
fn is_beneath(widths: &[usize], look: &Look) -> bool {
    let (Some(width), Some((why, others))) = (look.width, widths.split_last()) else { return false };
    let room = width.saturating_sub(others.iter().map(|other| other + GAP.len()).sum());
    room < WHY_MIN && *why > room
}

/// The widths that [`table`] uses, for [`line()`] to go on with.
pub fn widths_of(rows: &[Row], shape: Shape, look: &Look, now: Timestamp) -> Vec<usize> {
    let mut lines = vec![Line { cells: titles(shape), color: None }];
    lines.extend(rows.iter().map(|row| Line { cells: cells(row, shape, look, now), color: None }));
    widths(&lines)
}

struct Line {
    cells: Vec<String>,
    /// Of the status cell; the head has none.
    color: Option<Color>,
}

/// The cell that is coloured.
const STATUS: usize = 2;

impl Line {
    fn print(&self, widths: &[usize], beneath: bool, look: &Look) -> String {
        let last = self.cells.len() - 1;
        let mut text = String::new();
        let mut used = 0;
        for (at, cell) in self.cells.iter().enumerate() {
            // The head of a column that is not there would stand over nothing.
            if at == last && beneath {
                if self.color.is_some() && !cell.is_empty() {
                    let room = look.width.unwrap_or(usize::MAX).saturating_sub(BENEATH.len());
                    text.truncate(text.trim_end().len());
                    text.push_str(&format!("\n{BENEATH}{}", cut(cell, room, look.ellipsis())));
                }
                break;
            }
            if at == last {
                let room = look.width.map(|width| width.saturating_sub(used));
                let cell = room.map_or(cell.as_str().into(), |room| cut(cell, room, look.ellipsis()));
                text.push_str(&cell);
                break;
            }
            let pad = widths[at].saturating_sub(columns(cell));
            match self.color {
                Some(color) if at == STATUS => text.push_str(&look.paint(color, cell)),
                Some(_) => text.push_str(cell),
                None => text.push_str(&look.paint(Color::Bold, cell)),
            }
            text.push_str(&" ".repeat(pad));
            text.push_str(GAP);
            used += widths[at] + GAP.len();
        }
        let end = text.trim_end().len();
        text.truncate(end);
        text.push('\n');
        text
    }
}

fn titles(shape: Shape) -> Vec<String> {
    let titles: &[&str] = match shape {
        Shape::Normal => &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "WHY"],
        Shape::Wide => &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "PID", "ADDRESS", "FILE", "CHECK", "WHY"],
    };
    titles.iter().map(ToString::to_string).collect()
}

fn cells(row: &Row, shape: Shape, look: &Look, now: Timestamp) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".to_string() } else { text };
    // The sign is for eyes; what reads a pipe gets the word alone.
    let sign = if look.terminal { format!("{} ", indicator(row.status, look.charset)) } else { String::new() };
    let mut cells = vec![
        clean(&row.name).into_owned(),
        row.ready.map_or("-".into(), |(ready, desired)| format!("{ready}/{desired}")),
        format!("{sign}{}", row.status_text()),
        row.restarts.map_or("-".into(), |restarts| restarts.to_string()),
        row.since.map_or("-".into(), |then| age(since(then, now))),
    ];
    match shape {
        Shape::Normal => {}
        Shape::Wide => {
            let pids: Vec<String> = row.pids.iter().map(ToString::to_string).collect();
            cells.push(dash(pids.join(",")));
            cells.push(dash(clean(&row.address).into_owned()));
            cells.push(dash(clean(&row.file).into_owned()));
            cells.push(dash(clean(&row.check).into_owned()));
        }
    }
    cells.push(clean(&row.why).into_owned());
    cells
}

fn widths(lines: &[Line]) -> Vec<usize> {
    let mut widths = Vec::new();
    for line in lines {
        for (at, cell) in line.cells.iter().enumerate() {
            let width = columns(cell);
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    widths
}
