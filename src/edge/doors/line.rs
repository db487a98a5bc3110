//! Those who wait at one port while nobody lets them in: they are seen, held for so long, then sent away.

use std::cell::Cell;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};

use super::queue::Queue;
use crate::controller::{Demand, Input};
use crate::edge::process::raw;
use crate::model::name::Name;

/// Between two words to the brain.
const TELL_MIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Line {
    pub name: Name,
    hold: Cell<Duration>,
    /// Something else than the line is to be looked at.
    pub moved: Notify,
    waits: Cell<bool>,
    /// Sent away since the brain was told last, because they had waited for too long.
    sent_away: Cell<u32>,
    pub news: Notify,
}

impl Line {
    pub fn new(name: Name, hold: Duration) -> Line {
        Line {
            name,
            hold: Cell::new(hold),
            moved: Notify::new(),
            waits: Cell::new(false),
            sent_away: Cell::new(0),
            news: Notify::new(),
        }
    }

    pub fn set_hold(&self, hold: Duration) {
        self.hold.set(hold);
        self.moved.notify_one();
    }

    pub fn hold(&self) -> Duration {
        self.hold.get()
    }

    pub fn somebody_waits(&self) -> bool {
        self.waits.get()
    }

    pub fn set_waits(&self, waits: bool) {
        if self.waits.replace(waits) != waits {
            self.news.notify_one();
        }
    }

    /// Who has come, said nothing and left was not sent away.
    pub fn count_sent_away(&self, caller: &impl AsFd) {
        if !is_there(caller) {
            return;
        }
        self.sent_away.set(self.sent_away.get().saturating_add(1));
        self.news.notify_one();
    }

    /// One look. `let_out` takes the first one out of the line, unless it cannot.
    pub async fn look(
        &self,
        listener: &AsyncFd<TcpListener>,
        queue: &mut Queue,
        let_out: impl Fn(&TcpListener) -> Option<TcpStream>,
    ) {
        let ready = tokio::select! {
            () = self.moved.notified() => return,
            ready = listener.readable() => ready,
        };
        let waiting = raw::queued(listener.get_ref()).unwrap_or(0);
        match ready {
            Ok(mut ready) if waiting == 0 => {
                ready.clear_ready();
                // Who came between the two is seen by the next look, not by the next event.
                if raw::queued(listener.get_ref()).unwrap_or(0) == 0 {
                    self.set_waits(false);
                    return;
                }
            }
            Ok(mut ready) => ready.retain_ready(),
            Err(_) => {}
        }
        self.set_waits(true);
        let hold = self.hold.get();
        for _ in 0..queue.look(Instant::now(), u64::from(waiting), hold) {
            let Some(caller) = let_out(listener.get_ref()) else { break };
            queue.took();
            self.count_sent_away(&caller);
        }
        tokio::select! {
            () = self.moved.notified() => {}
            () = tokio::time::sleep(Queue::gap(hold)) => {}
        }
    }

    /// Tells the brain of changes, not of connections.
    pub async fn tell(&self, out: mpsc::Sender<Input>, demand: impl Fn() -> Demand) {
        // What was told before it was closed and opened anew holds no more.
        let mut told = None;
        loop {
            let demand = demand();
            let sent_away = self.sent_away.take();
            if told != Some(demand) || sent_away > 0 {
                told = Some(demand);
                if out.send(Input::Demand { name: self.name.clone(), demand, sent_away }).await.is_err() {
                    return;
                }
                tokio::time::sleep(TELL_MIN).await;
                continue;
            }
            self.news.notified().await;
        }
    }
}

/// He has not closed his connection without a word. (Who has sent something and closed looks like one who has closed his
/// half of it and waits for the answer.)
fn is_there(caller: &impl AsFd) -> bool {
    let mut first = [0];
    match rustix::net::recv(caller, &mut first, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((length, _)) => length > 0,
        Err(errno) => errno == Errno::AGAIN,
    }
}
