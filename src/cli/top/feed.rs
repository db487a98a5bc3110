//! The threads that bring news: the controller's stream, the keyboard, a log, what processes use.
//!
//! Each blocks in its own place and sends to one channel; the program's end ends them all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::crossterm::event::{self, Event};

use super::state::{LOG_LINES, Usage};
use super::update::{News, verb};
use crate::cli::args::Global;
use crate::cli::fault::Fault;
use crate::cli::node::{Node, Step};
use crate::cli::{Session, logs};
use crate::controller::Order;
use crate::edge::output::Query;
use crate::edge::process::usage::{of_trees, ticks_per_second};
use crate::model::name::Name;
use crate::model::view::ServiceView;

/// Between two tries to reach a controller that does not answer.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// A stream that is quiet for so long may be that of a controller that hangs: it is asked.
const QUIET: Duration = Duration::from_secs(1);
/// Who has not answered by then is told of as silent, 2.5 s after the last word at most.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1500);
/// Between two looks for new lines of a log.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What reaches the loop.
#[derive(Debug)]
pub enum Told {
    News(News),
    Signal(i32),
}

pub type Sender = mpsc::Sender<Told>;

/// Follows the controller, and each one that takes its place.
pub fn watch(global: Global, mut node: Node, to: Sender) {
    let mut heard = Timestamp::now();
    let lost = |heard, fault: &Fault| to.send(Told::News(News::Lost { heard, why: fault.to_string() }));
    loop {
        let fault = match follow(&node, &to, &mut heard) {
            Ok(()) => return,
            Err(fault) => fault,
        };
        if lost(heard, &fault).is_err() {
            return;
        }
        node = loop {
            match Node::open(&global) {
                Ok(node) => break node,
                Err(fault) => {
                    if lost(heard, &fault).is_err() {
                        return;
                    }
                    std::thread::sleep(TRY_AGAIN);
                }
            }
        };
    }
}

/// Ends well only when nobody listens any more. `heard`: when the controller said something last.
fn follow(node: &Node, to: &Sender, heard: &mut Timestamp) -> Result<(), Fault> {
    let mut watching = node.watch()?;
    loop {
        let step = watching.step(Some(Instant::now() + QUIET))?;
        if step != Step::TimeIsUp {
            *heard = Timestamp::now();
        }
        let Some(known) = watching.known() else { continue };
        let news = match step {
            Step::All => News::All(known.clone()),
            Step::Changed(name) => match known.services.get(&name) {
                Some(view) => News::Changed(view.clone()),
                None => continue,
            },
            Step::Removed(name) => News::Removed(name),
            Step::Node => News::Node(known.node.clone()),
            Step::TimeIsUp => {
                node.answers(ANSWERS_WITHIN)?;
                *heard = Timestamp::now();
                continue;
            }
        };
        if to.send(Told::News(news)).is_err() {
            return Ok(());
        }
    }
}

/// Keys and sizes, as the terminal tells them.
pub fn keyboard(to: &Sender) {
    loop {
        let news = match event::read() {
            Ok(Event::Key(key)) => News::Key(key),
            Ok(Event::Resize(columns, lines)) => News::Resized(columns, lines),
            Ok(Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_)) => continue,
            // The terminal is gone, which is as if its line had been hung up.
            Err(_) => {
                let _ = to.send(Told::Signal(libc::SIGHUP));
                return;
            }
        };
        if to.send(Told::News(news)).is_err() {
            return;
        }
    }
}

/// Signals that end the program, so that it can leave the terminal as it found it.
pub fn signals(mut signals: signal_hook::iterator::Signals, to: &Sender) {
    for signal in signals.forever() {
        if to.send(Told::Signal(signal)).is_err() {
            return;
        }
    }
}

/// A log that is being followed; dropped, it is not.
#[derive(Debug)]
pub struct Reading(Arc<AtomicBool>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn read(session: Arc<Session>, view: Arc<ServiceView>, to: Sender) -> Reading {
    let enough = Arc::new(AtomicBool::new(false));
    let reading = Reading(enough.clone());
    let name = view.service.clone();
    let said = to.clone();
    let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
        if let Err(fault) = read_on(&session, &view, &to, &enough) {
            let _ = to.send(Told::News(News::LogEnded { name: view.service.clone(), why: fault.to_string() }));
        }
    });
    if let Err(error) = thread {
        let _ = said.send(Told::News(News::LogEnded { name, why: format!("no thread can be started: {error}") }));
    }
    reading
}

fn read_on(session: &Session, view: &ServiceView, to: &Sender, enough: &AtomicBool) -> Result<(), Fault> {
    let told = session.node().and_then(|node| node.get("/v1/node")).ok();
    let dir = logs::directory(told.as_ref(), session)?;
    let (files, format) = (logs::files_of(&dir, view, None), view.log_format);
    let fault = |error| Fault::path("read the log of", view.service.as_str(), error);
    let query = Query { tail: Some(LOG_LINES / 2), ..Query::default() };
    let mut follow = files.follow(&query).map_err(fault)?;
    while !enough.load(Ordering::Relaxed) {
        let lines = follow.poll().map_err(fault)?;
        if lines.is_empty() {
            std::thread::sleep(LOOK_AGAIN);
            continue;
        }
        let several = view.desired > 1;
        let text = |line: &crate::edge::output::Line| match several {
            true => format!("{} | {}", line.instance, logs::told(format, line)),
            false => logs::told(format, line),
        };
        // Of a flood only what can be looked at.
        let lines = lines.iter().rev().take(LOG_LINES).rev().map(text).collect();
        if to.send(Told::News(News::Lines { name: view.service.clone(), lines })).is_err() {
            break;
        }
    }
    Ok(())
}

/// Gives an order and tells what became of it.
pub fn order(global: Global, name: Name, order: Order, to: Sender) {
    let answer = Node::open(&global).and_then(|node| node.order(&name, order));
    let text = match answer {
        Ok(None) => format!("{name}: {} is taken up", verb(order)),
        Ok(Some(why)) => format!("{name}: {} is taken up, and not remembered: {why}", verb(order)),
        Err(fault) => fault.to_string(),
    };
    // Nobody listens any more: then nobody wants to know.
    let _ = to.send(Told::News(News::Done(text)));
}

/// Looks at processes whenever it is told which ones are of interest.
pub fn usage(wanted: &mpsc::Receiver<Vec<(Name, Vec<i32>)>>, to: &Sender) {
    let mut before: HashMap<i32, u64> = HashMap::new();
    let mut looked: Option<Instant> = None;
    while let Ok(services) = wanted.recv() {
        let roots: Vec<i32> = services.iter().flat_map(|(_, pids)| pids.iter().copied()).collect();
        let trees = of_trees(&roots);
        let elapsed = looked.replace(Instant::now()).map(|then| then.elapsed().as_secs_f64());
        let per_second = ticks_per_second() as f64;
        let mut used = HashMap::new();
        for (name, pids) in services {
            let mut sum = Usage { percent: None, resident: 0 };
            let mut is_there = false;
            for pid in pids {
                let Some(tree) = trees.get(&pid) else { continue };
                is_there = true;
                sum.resident += tree.resident;
                if let (Some(old), Some(elapsed)) = (before.get(&pid), elapsed.filter(|elapsed| *elapsed > 0.0)) {
                    let share = tree.ticks.saturating_sub(*old) as f64 / per_second / elapsed * 100.0;
                    sum.percent = Some(sum.percent.unwrap_or_default() + share as f32);
                }
            }
            if is_there {
                used.insert(name, sum);
            }
        }
        before = trees.into_iter().map(|(pid, tree)| (pid, tree.ticks)).collect();
        if to.send(Told::News(News::Used(used))).is_err() {
            return;
        }
    }
}
