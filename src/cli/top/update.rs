//! News in, a wish out: the one place where what is shown changes.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{LOG_LINES, Link, LogPane, Pane, Top, Usage};
use crate::cli::fault::Code;
use crate::controller::Order;
use crate::model::name::Name;
use crate::model::view::{NodeView, ServiceView, Snapshot};

/// A filter longer than this finds nothing that a shorter one would not.
const FILTER_MAX: usize = 64;
/// ^C, as a shell tells it.
const INTERRUPTED: Code = Code::Other(130);

/// What happened, at the keyboard or at the node.
#[derive(Debug)]
pub enum News {
    Key(KeyEvent),
    Resized(u16, u16),
    /// The whole node: what was known before is forgotten.
    All(Snapshot),
    Changed(Arc<ServiceView>),
    Removed(Name),
    Node(NodeView),
    /// No controller answers, why, and when one did last.
    Lost {
        heard: Timestamp,
        why: String,
    },
    Used(HashMap<Name, Usage>),
    Lines {
        name: Name,
        lines: Vec<String>,
    },
    LogEnded {
        name: Name,
        why: String,
    },
    /// What became of an order.
    Done(String),
}

/// What is to be done in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Leave(Code),
    Order(Name, Order),
    /// Follow the log of this service, and of no other.
    Read(Name),
    StopReading,
}

pub fn update(top: &mut Top, news: News, now: Timestamp) -> Option<Wish> {
    top.now = now;
    match (news, &mut top.known) {
        (News::Key(key), _) => return press(top, key),
        (News::Resized(columns, lines), _) => {
            top.size = (columns, lines);
            settle(top);
        }
        (News::All(snapshot), known) => {
            *known = Some(snapshot);
            if let Link::Lost { .. } = std::mem::replace(&mut top.link, Link::Live) {
                top.said = Some("a controller answers again".into());
            }
        }
        (News::Changed(view), Some(known)) => {
            known.services.insert(view.service.clone(), view);
        }
        (News::Removed(name), Some(known)) => {
            known.services.remove(&name);
            top.usage.remove(&name);
        }
        (News::Node(node), Some(known)) => known.node = node,
        // A change before the first snapshot tells nothing: the snapshot has it.
        (News::Changed(_) | News::Removed(_) | News::Node(_), None) => {}
        (News::Lost { heard, why }, _) => {
            let since = match &top.link {
                Link::Live => heard,
                Link::Lost { since, .. } => *since,
            };
            top.link = Link::Lost { since, why };
        }
        (News::Used(usage), _) => top.usage = usage,
        (News::Lines { name, lines }, _) => {
            if let Pane::Logs(pane) = &mut top.pane
                && pane.name == name
            {
                take_lines(pane, lines);
            }
        }
        (News::LogEnded { name, why }, _) => {
            if let Pane::Logs(pane) = &mut top.pane
                && pane.name == name
            {
                pane.ended = Some(why);
            }
        }
        (News::Done(text), _) => top.said = Some(text),
    }
    None
}

/// Keeps the chosen row chosen and in sight. Once for each picture, not for each piece of news.
pub fn settle(top: &mut Top) {
    let entries = top.entries();
    top.at = top.cursor(&entries);
    top.chosen = entries.get(top.at).map(|entry| entry.row.name.clone());
    let (room, _) = top.room();
    let last = entries.len().saturating_sub(room);
    top.first = top.first.min(last).min(top.at).max((top.at + 1).saturating_sub(room));
}

fn take_lines(pane: &mut LogPane, lines: Vec<String>) {
    // Who has scrolled up reads on where he was.
    if pane.below > 0 {
        pane.below += lines.len();
    }
    pane.lines.extend(lines);
    let surplus = pane.lines.len().saturating_sub(LOG_LINES);
    pane.lines.drain(..surplus);
    pane.below = pane.below.min(pane.lines.len());
}

fn press(top: &mut Top, key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'C')) {
        return Some(Wish::Leave(INTERRUPTED));
    }
    top.said = None;
    let wish = match top.pane.clone() {
        Pane::List => in_list(top, key.code),
        Pane::Filter { before } => in_filter(top, key.code, before),
        Pane::Ask { name, order } => in_question(top, key.code, name, order),
        Pane::Help => {
            top.pane = Pane::List;
            None
        }
        Pane::Why { name, first } => in_why(top, key.code, name, first),
        Pane::Logs(_) => in_logs(top, key.code),
    };
    settle(top);
    wish
}

fn in_list(top: &mut Top, key: KeyCode) -> Option<Wish> {
    match key {
        KeyCode::Char('q') => return Some(Wish::Leave(Code::Done)),
        KeyCode::Esc => top.filter.clear(),
        KeyCode::Char('/') => top.pane = Pane::Filter { before: top.filter.clone() },
        KeyCode::Char('o') => {
            top.sort = top.sort.next();
            top.reverse = false;
            top.said = Some(top.sort.word().into());
        }
        KeyCode::Char('O') => top.reverse = !top.reverse,
        KeyCode::Char('?' | 'h') => top.pane = Pane::Help,
        KeyCode::Char('w') => match top.service() {
            Some(view) => top.pane = Pane::Why { name: view.service.clone(), first: 0 },
            None => no_service(top),
        },
        KeyCode::Enter | KeyCode::Char('l') => match top.service() {
            Some(view) => return Some(open_logs(top, view.service.clone())),
            None => no_service(top),
        },
        KeyCode::Char('r') => ask(top, Order::Restart),
        KeyCode::Char('s') => ask(top, Order::Stop),
        KeyCode::Char('S') => ask(top, Order::Start),
        other => step(top, other),
    }
    None
}

/// Moves the choice in the list.
fn step(top: &mut Top, key: KeyCode) {
    let entries = top.entries();
    let (page, at, last) = (top.room().0.max(1), top.cursor(&entries), entries.len().saturating_sub(1));
    let to = match key {
        KeyCode::Down | KeyCode::Char('j') => at + 1,
        KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => at + page,
        KeyCode::PageUp => at.saturating_sub(page),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => last,
        _ => return,
    };
    top.chosen = entries.get(to.min(last)).map(|entry| entry.row.name.clone());
}

fn in_filter(top: &mut Top, key: KeyCode, before: String) -> Option<Wish> {
    match key {
        KeyCode::Enter => top.pane = Pane::List,
        KeyCode::Esc => {
            top.filter = before;
            top.pane = Pane::List;
        }
        KeyCode::Backspace => {
            top.filter.pop();
        }
        KeyCode::Char(c) if !c.is_control() && top.filter.len() < FILTER_MAX => top.filter.push(c),
        other => step(top, other),
    }
    None
}

fn ask(top: &mut Top, order: Order) {
    match top.service() {
        Some(view) => top.pane = Pane::Ask { name: view.service.clone(), order },
        None => no_service(top),
    }
}

fn no_service(top: &mut Top) {
    top.said = Some(match top.chosen.as_deref().filter(|_| !top.entries().is_empty()) {
        Some(file) => format!("{file} makes no service"),
        None => "there is no service here".into(),
    });
}

fn in_question(top: &mut Top, key: KeyCode, name: Name, order: Order) -> Option<Wish> {
    top.pane = Pane::List;
    let yes = matches!(key, KeyCode::Char('y' | 'Y'));
    top.said = Some(if yes { format!("asked to {} {name}", verb(order)) } else { format!("{name} is left as it is") });
    yes.then_some(Wish::Order(name, order))
}

/// The verb of an order, as on the command line.
pub fn verb(order: Order) -> &'static str {
    match order {
        Order::Start | Order::Resume => "start",
        Order::Stop => "stop",
        Order::Restart => "restart",
        Order::Scale(_) => "scale",
    }
}

fn open_logs(top: &mut Top, name: Name) -> Wish {
    top.pane = Pane::Logs(LogPane { name: name.clone(), lines: Default::default(), below: 0, ended: None });
    Wish::Read(name)
}

fn in_why(top: &mut Top, key: KeyCode, name: Name, first: usize) -> Option<Wish> {
    let page = top.page();
    let first = match key {
        KeyCode::Esc | KeyCode::Char('q' | 'w') => {
            top.pane = Pane::List;
            return None;
        }
        KeyCode::Char('l') | KeyCode::Enter => return Some(open_logs(top, name)),
        KeyCode::Char('r') => {
            top.pane = Pane::Ask { name, order: Order::Restart };
            return None;
        }
        KeyCode::Char('s') => {
            top.pane = Pane::Ask { name, order: Order::Stop };
            return None;
        }
        KeyCode::Char('S') => {
            top.pane = Pane::Ask { name, order: Order::Start };
            return None;
        }
        KeyCode::Down | KeyCode::Char('j') => first + 1,
        KeyCode::Up | KeyCode::Char('k') => first.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => first + page,
        KeyCode::PageUp => first.saturating_sub(page),
        KeyCode::Home | KeyCode::Char('g') => 0,
        _ => first,
    };
    top.pane = Pane::Why { name, first };
    None
}

fn in_logs(top: &mut Top, key: KeyCode) -> Option<Wish> {
    let page = top.page();
    let Pane::Logs(pane) = &mut top.pane else { return None };
    let most = pane.lines.len().saturating_sub(page);
    let below = match key {
        KeyCode::Esc | KeyCode::Char('q' | 'l') => {
            top.pane = Pane::List;
            return Some(Wish::StopReading);
        }
        KeyCode::Char('w') => {
            top.pane = Pane::Why { name: pane.name.clone(), first: 0 };
            return Some(Wish::StopReading);
        }
        KeyCode::Up | KeyCode::Char('k') => pane.below + 1,
        KeyCode::Down | KeyCode::Char('j') => pane.below.saturating_sub(1),
        KeyCode::PageUp => pane.below + page,
        KeyCode::PageDown | KeyCode::Char(' ') => pane.below.saturating_sub(page),
        KeyCode::Home | KeyCode::Char('g') => most,
        KeyCode::End | KeyCode::Char('G') => 0,
        _ => pane.below,
    };
    pane.below = below.min(most);
    None
}
