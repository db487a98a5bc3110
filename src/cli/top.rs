//! `plugd top`: the services of a node on a whole terminal, as they are now.
//!
//! Four parts: `state` is what is known and shown, `update` changes it, `draw` paints it, and
//! `feed` brings the news from threads that block. Only this file and `feed` touch the world. The
//! terminal is left as it was found, whatever ends the program.

mod columns;
pub mod draw;
mod feed;
pub mod state;
pub mod update;

use std::io::IsTerminal;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;

use self::draw::draw;
use self::feed::{Reading, Told};
use self::state::{Pane, Top};
use self::update::{News, Wish, settle, update};
use super::Session;
use super::args::TopArgs;
use super::fault::{Code, Fault};
use super::node::Node;
use crate::model::name::Name;

/// Pictures a second at most: more is not seen, and 1,000 services that start are 1,000 changes.
const PACE: Duration = Duration::from_millis(50);
/// Ages go on also when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks at processes: one of 1,000 costs some 20 ms of another thread.
const LOOK: Duration = Duration::from_secs(2);
/// News that are taken before the next picture.
const DRAIN_MAX: usize = 10_000;
/// After a panic, as the standard library ends with.
const PANICKED: i32 = 101;

pub fn top(args: &TopArgs, session: &Session) -> Result<Code, Fault> {
    if !std::io::stdout().is_terminal() {
        return Err(Fault::usage(
            "`plugd top` draws on a terminal, and stdout is none",
            "`plugd get -w` prints a line for each change",
        ));
    }
    let node = session.node()?;
    let title = node.dir().map(|dir| dir.display().to_string()).unwrap_or_default();
    let signals = signal_hook::iterator::Signals::new([libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(|source| Fault::Path { what: "hear signals of", path: "this process".into(), source })?;
    let mut terminal = ratatui::try_init().map_err(Fault::from)?;
    leave_at_a_panic();
    let size = terminal.size().map(|size| (size.width, size.height)).unwrap_or((80, 24));
    let top = Top::new(title, session.look.charset, session.look.color, size, session.now());
    let top = Top { filter: args.filter.clone().unwrap_or_default(), ..top };
    let ended = start(node, signals, session).and_then(|live| live.run(top, &mut terminal));
    restore();
    ended
}

/// The terminal as it was found. It cannot be told to one that is gone.
fn restore() {
    let _ = ratatui::try_restore();
    let _ = execute!(std::io::stdout(), Show);
}

/// ratatui's own hook leaves its screen and then tells what happened; a thread's panic must not leave a
/// picture that nobody draws any more.
fn leave_at_a_panic() {
    let restore_and_tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore_and_tell(info);
        restore();
        std::process::exit(PANICKED);
    }));
}

/// Everything that goes on while the picture is shown.
struct Live {
    session: Arc<Session>,
    told: mpsc::Receiver<Told>,
    to: feed::Sender,
    /// Asks what these processes use; answered by news.
    look: mpsc::Sender<Vec<(Name, Vec<i32>)>>,
    looked: Option<Instant>,
    reading: Option<Reading>,
}

fn start(node: Node, signals: signal_hook::iterator::Signals, session: &Session) -> Result<Live, Fault> {
    let (to, told) = mpsc::channel();
    let (look, wanted) = mpsc::channel();
    let session = Arc::new(Session { global: session.global.clone(), look: session.look });
    let (global, sender) = (session.global.clone(), to.clone());
    thread("watch", move || feed::watch(global, node, sender))?;
    let sender = to.clone();
    thread("keyboard", move || feed::keyboard(&sender))?;
    let sender = to.clone();
    thread("signals", move || feed::signals(signals, &sender))?;
    let sender = to.clone();
    thread("usage", move || feed::usage(&wanted, &sender))?;
    Ok(Live { session, told, to, look, looked: None, reading: None })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|source| Fault::Path { what: "start", path: format!("the thread {name}").into(), source })
}

impl Live {
    fn run(mut self, mut top: Top, terminal: &mut DefaultTerminal) -> Result<Code, Fault> {
        let mut drawn: Option<Instant> = None;
        let mut stale = true;
        loop {
            let due = match (stale, drawn) {
                (_, None) => Instant::now(),
                (true, Some(last)) => last + PACE,
                (false, Some(last)) => last + TICK,
            };
            let first = self.told.recv_timeout(due.saturating_duration_since(Instant::now()));
            for told in first.ok().into_iter().chain(self.told.try_iter().take(DRAIN_MAX).collect::<Vec<_>>()) {
                stale = true;
                match told {
                    Told::Signal(signal) => return Ok(Code::Other(128 + signal as u8)),
                    Told::News(news) => {
                        let wish = update(&mut top, news, self.session.now());
                        if let Some(code) = wish.and_then(|wish| self.carry_out(wish, &top)) {
                            return Ok(code);
                        }
                    }
                }
            }
            if due <= Instant::now() {
                top.now = self.session.now();
                settle(&mut top);
                terminal.draw(|frame| draw(&top, frame)).map_err(Fault::from)?;
                drawn = Some(Instant::now());
                stale = false;
                self.look_at_processes(&top);
            }
        }
    }

    /// The code, where that is the end.
    fn carry_out(&mut self, wish: Wish, top: &Top) -> Option<Code> {
        match wish {
            Wish::Leave(code) => return Some(code),
            Wish::Order(name, order) => {
                let (global, to) = (self.session.global.clone(), self.to.clone());
                if let Err(fault) = thread("order", move || feed::order(global, name, order, to)) {
                    let _ = self.to.send(Told::News(News::Done(fault.to_string())));
                }
            }
            Wish::Read(name) => {
                let view = top.known.as_ref().and_then(|known| known.services.get(&name)).cloned();
                self.reading = view.map(|view| feed::read(self.session.clone(), view, self.to.clone()));
            }
            Wish::StopReading => self.reading = None,
        }
        None
    }

    fn look_at_processes(&mut self, top: &Top) {
        let is_shown = matches!(top.pane, Pane::List | Pane::Filter { .. } | Pane::Ask { .. });
        if !is_shown || self.looked.is_some_and(|last| last.elapsed() < LOOK) {
            return;
        }
        let Some(known) = &top.known else { return };
        let pids = |view: &crate::model::view::ServiceView| -> Vec<i32> {
            view.instances.iter().filter_map(|instance| instance.pid).collect()
        };
        self.looked = Some(Instant::now());
        // Its thread has ended only with everything.
        let _ = self.look.send(known.services.iter().map(|(name, view)| (name.clone(), pids(view))).collect());
    }
}
