//! The picture of a [`Top`], drawn anew each time; what did not change is not sent to the terminal.
//!
//! No frames: every column is for words. Colour is never alone, so a terminal without it loses nothing.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::columns::{Column, cells, head, plan};
use super::state::{Entry, Link, LogPane, Pane, Top};
use super::update::verb;
use crate::cli::look::{Look, columns, cut, wrap};
use crate::cli::{row, status};
use crate::controller::Order;
use crate::model::name::Name;
use crate::model::reason::Status;
use crate::model::text::{Charset, Report, age, clean, since};

/// What the keys do, for the whole screen of help.
const KEYS: [(&str, &str); 13] = [
    ("up down j k", "the row before, the next one"),
    ("PgUp PgDn", "a page; Home and End: the first, the last"),
    ("/", "filter by name, status or why; Esc takes it away"),
    ("o", "order: trouble, name, restarts, age, cpu, memory"),
    ("O", "the other way round"),
    ("Enter l", "the log, as it grows"),
    ("w", "all about it: the cause and the next step first"),
    ("r", "restart, after a question"),
    ("s", "stop, after a question"),
    ("S", "start, after a question"),
    ("?", "this page"),
    ("Esc q", "back"),
    ("q ^C", "leave"),
];

pub fn draw(top: &Top, frame: &mut Frame) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    let mut page = vec![title(top, width)];
    let body = height.saturating_sub(2);
    match &top.pane {
        Pane::List | Pane::Filter { .. } | Pane::Ask { .. } => page.extend(list(top, width)),
        Pane::Help => page.extend(help(width)),
        Pane::Why { name, first } => page.extend(why(top, name, *first, body, width)),
        Pane::Logs(pane) => page.extend(logs(pane, body, width)),
    }
    page.resize(height.saturating_sub(1).max(1), Line::default());
    if height > 1 {
        page.push(foot(top, width));
    }
    for (at, line) in page.into_iter().enumerate() {
        let place = Rect { x: area.x, y: area.y + at as u16, width: area.width, height: 1 };
        frame.render_widget(line, place);
    }
}

fn strong() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn ellipsis(top: &Top) -> &'static str {
    match top.charset {
        Charset::Unicode => "…",
        Charset::Ascii => "...",
    }
}

fn paint(top: &Top, status: Status) -> Style {
    use Status::*;
    let color = match status {
        Running | Healthy | Completed => Color::Green,
        Degraded | Starting | Waiting | Stopping => Color::Yellow,
        Failed | Unhealthy => Color::Red,
        Skipped | Stopped => return dim(),
    };
    if top.color { Style::new().fg(color) } else { Style::new() }
}

/// The first line: the node and its sums, or that what is shown is not the present.
fn title<'a>(top: &Top, width: usize) -> Line<'a> {
    let text = match (&top.link, &top.known) {
        (Link::Lost { since: from, why }, _) => {
            let text = format!(" STALE for {}: {why}; trying again", age(since(*from, top.now)));
            let text = cut(&clean(&text), width, ellipsis(top)).into_owned();
            let alarm = Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED);
            return Line::styled(format!("{text:<width$}"), alarm);
        }
        (Link::Live, None) => "asking the controller".to_string(),
        (Link::Live, Some(known)) => {
            let summary = Report::of(known).summary;
            let mut counts: Vec<_> = Status::ALL.iter().map(|status| (*status, summary.count(*status))).collect();
            counts.retain(|(_, count)| *count > 0);
            counts.sort_by_key(|(status, _)| row::trouble(*status));
            let counts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
            let sum = match counts.is_empty() {
                true => "no services".to_string(),
                false => format!("{}  {} % healthy", counts.join(", "), summary.percentage_healthy),
            };
            match &known.node.directory_lost {
                Some(why) => format!("DirectoryLost: {why}  {sum}"),
                None => sum,
            }
        }
    };
    // The directory gives way first: who looks knows it.
    let room = width.saturating_sub(columns(&text) + 2);
    let name = clean(&top.title);
    let name = if columns(&name) <= room { format!("{name}  ") } else { String::new() };
    let text = cut(&clean(&text), width.saturating_sub(name.len()), ellipsis(top)).into_owned();
    Line::from(vec![Span::styled(name, strong()), Span::raw(text)])
}

fn list<'a>(top: &Top, width: usize) -> Vec<Line<'a>> {
    let entries = top.entries();
    let plan = plan(&entries, width, top);
    let (room, beneath) = top.room();
    let mut lines = vec![Line::styled(head(&plan), dim().add_modifier(Modifier::BOLD))];
    let at = top.cursor(&entries);
    for (number, entry) in entries.iter().enumerate().skip(top.first).take(room) {
        lines.push(line(top, entry, &plan, number == at, width));
    }
    if entries.is_empty() && room > 0 {
        lines.push(Line::raw(cut(nothing(top), width, ellipsis(top)).into_owned()));
    }
    lines.resize(1 + room, Line::default());
    if let (true, Some(entry)) = (beneath > 0, entries.get(at)) {
        lines.extend(detail(top, entry, beneath, width));
    }
    lines
}

fn nothing(top: &Top) -> &'static str {
    match &top.known {
        None => "",
        Some(_) if !top.filter.is_empty() => "no service matches the filter; Esc takes it away",
        Some(known) if known.node.directory_lost.is_some() => {
            "what ran goes on, and is told when the directory is back"
        }
        Some(_) => "there is no service yet; put a manifest into the directory",
    }
}

fn line<'a>(top: &Top, entry: &Entry, plan: &[Column], chosen: bool, width: usize) -> Line<'a> {
    let mut spans = Vec::new();
    for (text, is_status) in cells(entry, plan, top) {
        let style = if is_status { paint(top, entry.row.status) } else { Style::new() };
        spans.push(Span::styled(text, style));
    }
    let line = Line::from(spans);
    if !chosen {
        return line;
    }
    let gap = width.saturating_sub(line.width());
    let mut line = line;
    line.push_span(Span::raw(" ".repeat(gap)));
    line.style(Style::new().add_modifier(Modifier::REVERSED))
}

/// Beneath the list: why the chosen one is as it is, and what comes next.
fn detail<'a>(top: &Top, entry: &Entry, lines: usize, width: usize) -> Vec<Line<'a>> {
    let mut text = vec![format!("{}  {}", clean(&entry.row.name), entry.row.status_text())];
    let view = top.known.as_ref().and_then(|known| known.services.get(entry.row.name.as_str()));
    let next = view.and_then(|view| view.next.clone());
    let check = Some(entry.row.check.clone()).filter(|check| !check.is_empty());
    let why = Some(entry.row.why.clone()).filter(|why| !why.is_empty()).or(check);
    text.extend(why.map(|why| format!("  {}", clean(&why))));
    text.extend(next.map(|next| format!("  next: {}", clean(&next))));
    let styles = [strong(), Style::new(), dim()];
    let lines = text.iter().zip(styles).take(lines);
    lines.map(|(text, style)| Line::styled(cut(text, width, ellipsis(top)).into_owned(), style)).collect()
}

fn help<'a>(width: usize) -> Vec<Line<'a>> {
    let row = |(key, what): &(&str, &str)| Line::raw(cut(&format!("  {key:<13}{what}"), width, "").into_owned());
    std::iter::once(Line::default()).chain(KEYS.iter().map(row)).collect()
}

fn why<'a>(top: &Top, name: &Name, first: usize, body: usize, width: usize) -> Vec<Line<'a>> {
    let Some(known) = &top.known else { return Vec::new() };
    let Some(view) = known.services.get(name) else {
        return vec![Line::raw(format!("{name} is gone"))];
    };
    let look = Look { terminal: true, color: false, width: Some(width), charset: top.charset };
    let text = status::text(view, known, &look, top.now);
    let lines: Vec<String> = text.lines().flat_map(|line| wrap(line, width)).collect();
    let first = first.min(lines.len().saturating_sub(body));
    let lines = lines.into_iter().skip(first).take(body).enumerate();
    lines
        .map(|(at, line)| {
            let style = if first + at == 0 { paint(top, view.status).patch(strong()) } else { Style::new() };
            Line::styled(cut(&line, width, ellipsis(top)).into_owned(), style)
        })
        .collect()
}

fn logs<'a>(pane: &LogPane, body: usize, width: usize) -> Vec<Line<'a>> {
    if pane.lines.is_empty() {
        let text = pane.ended.clone().unwrap_or_else(|| "nothing has been written yet".into());
        return wrap(&text, width).into_iter().map(Line::raw).collect();
    }
    let end = pane.lines.len().saturating_sub(pane.below);
    let first = end.saturating_sub(body);
    pane.lines.range(first..end).map(|line| Line::raw(cut(line, width, ">").into_owned())).collect()
}

/// The last line: a question, what is typed, what became of a wish, else the keys.
fn foot<'a>(top: &Top, width: usize) -> Line<'a> {
    let (text, style) = match (&top.pane, &top.said) {
        (Pane::Filter { .. }, _) => (format!("/{}_", top.filter), strong()),
        (Pane::Ask { name, order }, _) => (question(top, name, *order), strong()),
        (_, Some(said)) => (clean(said).into_owned(), strong()),
        (Pane::List, None) => (keys_of_list(top, width), dim()),
        (Pane::Help, None) => ("any key: back".to_string(), dim()),
        (Pane::Why { .. }, None) => ("Esc back  l log  r restart  s stop  S start  up down".to_string(), dim()),
        (Pane::Logs(pane), None) => {
            let state = match (&pane.ended, pane.below) {
                (Some(why), _) => why.clone(),
                (None, 0) => "follows".to_string(),
                (None, below) => format!("{below} lines below; End follows"),
            };
            (format!("log of {}: {state}  Esc back  w why  up down", pane.name), dim())
        }
    };
    Line::styled(cut(&text, width, ellipsis(top)).into_owned(), style)
}

/// Who would miss it is told before the answer.
fn question(top: &Top, name: &Name, order: Order) -> String {
    let services = top.known.iter().flat_map(|known| known.services.values());
    let needing: Vec<&str> =
        services.filter(|view| view.depends_on.contains(name)).map(|view| view.service.as_str()).collect();
    let needed = match (order, needing.as_slice()) {
        (Order::Start | Order::Resume | Order::Scale(_), _) | (_, []) => String::new(),
        (Order::Stop | Order::Restart, [one]) => format!(" {one} needs it."),
        (Order::Stop | Order::Restart, several) => format!(" {} services need it.", several.len()),
    };
    format!("{} {name}? y / n{}{needed}", verb(order), if needed.is_empty() { "" } else { " " })
}

fn keys_of_list(top: &Top, width: usize) -> String {
    let order = format!("{}{}", top.sort.word(), if top.reverse { ", reversed" } else { "" });
    let filter = if top.filter.is_empty() { String::new() } else { format!("filter \"{}\"  ", top.filter) };
    let orders = "l log  w why  r restart  s stop  S start  q leave";
    let keys = [
        format!("{filter}? help  / filter  o {order}  {orders}"),
        format!("{filter}? help  / filter  {orders}"),
        format!("{filter}? help  / filter  l log  w why  q leave"),
        format!("{filter}? help  q leave"),
    ];
    let [.., least] = &keys;
    keys.iter().find(|keys| columns(keys) <= width).unwrap_or(least).clone()
}
