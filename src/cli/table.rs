//! The table of `plugd get`: columns as wide as their content, WHY beneath where it does not fit.
//!
//! A terminal is rarely as wide as the content. Where the other columns leave too little for a
//! sentence, or for this one, WHY stands on lines of its own beneath the row that it is about; a name that is longer
//! than what the others leave stands on a line of its own above its row; and on a very narrow
//! terminal RESTARTS, AGE and READY give way, in this order. Nothing of a name or a status is cut:
//! they are what people copy.

use jiff::Timestamp;

use super::look::{Color, Look, columns, cut, wrap};
use super::row::Row;
use crate::model::text::{age, clean, indicator, since};

/// Between two columns.
const GAP: &str = "  ";
/// A sentence needs about as much; with less room WHY stands beneath its row.
const WHY_MIN: usize = 36;
/// Before a WHY that stands beneath.
const BENEATH: &str = "  ";
/// And so many lines has it: a sentence and its remedy.
const WHY_LINES: usize = 3;
/// Names get at least as much before another column gives way.
const NAME_MIN: usize = 8;
/// The cell that is coloured.
const STATUS: usize = 2;
/// RESTARTS, AGE, READY.
const GIVE_WAY: [usize; 3] = [3, 4, 1];

/// Which columns are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Normal,
    /// With SCORE, PID, ADDRESS, FILE and CHECK.
    Wide,
}

/// Where each column stands: made of one table, for it and for the lines that follow it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Columns of each cell but the last.
    widths: Vec<usize>,
    hidden: Vec<usize>,
    /// WHY stands beneath its row.
    beneath: bool,
}

impl Plan {
    pub fn of(rows: &[Row], shape: Shape, look: &Look, now: Timestamp) -> Plan {
        let mut table = vec![titles(shape)];
        table.extend(rows.iter().map(|row| cells(row, shape, look, now)));
        let widest = |at: usize| table.iter().map(|cells| columns(&cells[at])).max().unwrap_or_default();
        let last = table[0].len() - 1;
        let mut plan = Plan { widths: (0..last).map(widest).collect(), ..Plan::default() };
        let Some(width) = look.width else { return plan };
        if shape == Shape::Normal {
            for column in GIVE_WAY {
                if plan.others() + NAME_MIN > width {
                    plan.hidden.push(column);
                }
            }
        }
        let room = width.saturating_sub(plan.others());
        let names = table.iter().map(|cells| columns(&cells[0]));
        plan.widths[0] = names.filter(|name| *name <= room).max().unwrap_or(NAME_MIN);
        let room = width.saturating_sub(plan.others() + plan.widths[0] + GAP.len());
        plan.beneath = room < WHY_MIN && widest(last) > room;
        plan
    }

    fn shows(&self, at: usize) -> bool {
        !self.hidden.contains(&at)
    }

    /// What the columns beside NAME and WHY take, with the gap after NAME.
    fn others(&self) -> usize {
        let shown = (1..self.widths.len()).filter(|at| self.shows(*at));
        shown.map(|at| self.widths[at] + GAP.len()).sum()
    }
}

/// The whole table, with its head where `head` says so.
pub fn table(rows: &[Row], shape: Shape, head: bool, look: &Look, now: Timestamp) -> String {
    let plan = Plan::of(rows, shape, look, now);
    let head = head.then(|| print(&titles(shape), None, &plan, look));
    let lines = rows.iter().map(|row| print(&cells(row, shape, look, now), Some(row), &plan, look));
    head.into_iter().chain(lines).collect()
}

/// One line more under a table that was printed before (`get -w`), in its columns as far as it fits.
pub fn line(row: &Row, shape: Shape, look: &Look, now: Timestamp, plan: &mut Plan) -> String {
    let cells = cells(row, shape, look, now);
    for (width, cell) in plan.widths.iter_mut().zip(&cells).skip(1) {
        *width = (*width).max(columns(cell));
    }
    // In a pipe nothing is too wide.
    if look.width.is_none() {
        plan.widths[0] = plan.widths[0].max(columns(&cells[0]));
    }
    print(&cells, Some(row), plan, look)
}

/// One line of cells; the head has no row.
fn print(cells: &[String], row: Option<&Row>, plan: &Plan, look: &Look) -> String {
    let last = cells.len() - 1;
    let mut text = String::new();
    let mut used = 0;
    for at in (0..last).filter(|at| plan.shows(*at)) {
        let cell = &cells[at];
        text.push_str(&match row {
            Some(row) if at == STATUS => look.paint(Color::of(row.status), cell),
            Some(_) => cell.clone(),
            None => look.paint(Color::Bold, cell),
        });
        let mut pad = plan.widths[at].saturating_sub(columns(cell));
        if at == 0 && columns(cell) > plan.widths[0] {
            text.push('\n');
            pad = plan.widths[0];
        }
        text.push_str(&" ".repeat(pad));
        text.push_str(GAP);
        used += plan.widths[at] + GAP.len();
    }
    let why = &cells[last];
    match (plan.beneath, row) {
        (false, _) => {
            let room = look.width.map_or(usize::MAX, |width| width.saturating_sub(used));
            if columns(why) <= room {
                text.push_str(why);
            } else {
                text.truncate(text.trim_end().len());
                text.push_str(&beneath(why, look));
            }
        }
        (true, Some(_)) if !why.is_empty() => {
            text.truncate(text.trim_end().len());
            text.push_str(&beneath(why, look));
        }
        // The head of a column that is not there would stand over nothing.
        (true, Some(_) | None) => {}
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Cut only where it has too many lines; a command stays whole, so that it can be copied.
fn beneath(why: &str, look: &Look) -> String {
    let room = look.width.unwrap_or(usize::MAX).saturating_sub(BENEATH.len());
    let mut lines = wrap(why, room);
    if lines.len() > WHY_LINES {
        let rest = lines.split_off(WHY_LINES - 1).join(" ");
        lines.push(cut(&rest, room, look.ellipsis()).into_owned());
    }
    lines.iter().map(|line| format!("\n{BENEATH}{line}")).collect()
}

fn titles(shape: Shape) -> Vec<String> {
    let titles: &[&str] = match shape {
        Shape::Normal => &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "WHY"],
        Shape::Wide => {
            &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "SCORE", "PID", "ADDRESS", "FILE", "CHECK", "WHY"]
        }
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
            cells.push(row.score.map_or("-".into(), |score| score.to_string()));
            cells.push(dash(pids.join(",")));
            cells.push(dash(clean(&row.address).into_owned()));
            cells.push(dash(clean(&row.file).into_owned()));
            cells.push(dash(clean(&row.check).into_owned()));
        }
    }
    cells.push(clean(&row.why).into_owned());
    cells
}
