//! What happens to a world from outside, planned from a seed.

use std::time::Duration;

use plugd::controller::{Demand, Order};
use plugd::policy::random::Random;

/// Services of a world.
pub const SERVICES: u8 = 6;
/// What happens to each world.
pub const STIMULI: usize = 120;

#[derive(Debug, Clone)]
pub struct Stimulus {
    /// After the one before; none: absorbed together with it, in one decision.
    pub after: Option<Duration>,
    pub act: Act,
}

#[derive(Debug, Clone)]
pub enum Act {
    /// Written, or written anew: another process.
    Write(u8, u32),
    /// Edited without a need for a new process; every third time its checks change.
    Relabel(u8),
    Rewrite(u8),
    Remove(u8),
    Spoil(u8),
    WrapperGone(u8),
    WrapperBack(u8),
    Order(u8, Order),
    /// A main process dies from outside.
    Kill(u8),
    /// It lives and answers nothing any more.
    Hang(u8),
    /// Every second check fails from then on, and not.
    Flap(u8),
    /// It answers, but takes its time.
    Slow(u8),
    /// `STOPPING=1`.
    SaysStopping(u8),
    PortFree(u8),
    /// The edge has something to say of a service, or takes it back.
    Trouble(u8, bool),
    /// Who is at its door from now on, where it runs on demand.
    Call(u8, Demand),
    /// Somebody else has its port from now on, where plugd does not listen there, or gives it up.
    Hold(u8, bool),
    ControllerDies,
    DirectoryLost,
    DirectoryFound,
    ConfirmMissing,
    /// The loop is not run for so long: everything that came meanwhile is one turn.
    Late(Duration),
    /// The machine slept: the wall clock knows, and the loop says so.
    Sleep(Duration),
    /// Somebody sets the wall clock, by so many seconds; nobody says so.
    SetClock(i64),
    Nothing,
}

/// An hour, a day, ten years; as often back as ahead.
const SET_BY: [i64; 6] = [3_600, -3_600, 86_400, -86_400, 315_360_000, -315_360_000];

const WAITS: Demand = Demand { waiting: true, connected: false, block: None };
const CONNECTED: Demand = Demand { waiting: false, connected: true, block: None };
const BOTH: Demand = Demand { waiting: true, connected: true, block: None };

pub fn plan(seed: u64, length: usize) -> Vec<Stimulus> {
    let mut random = Random::seeded(seed ^ 0x5151);
    (0..length)
        .map(|at| {
            let service = random.below(u64::from(SERVICES)) as u8;
            let act = match random.below(135) {
                _ if at < usize::from(SERVICES) => Act::Write(at as u8, 0),
                0..18 => Act::Write(service, random.below(1000) as u32),
                18..24 => Act::Relabel(service),
                24..28 => Act::Rewrite(service),
                28..38 => Act::Remove(service),
                38..44 => Act::Spoil(service),
                44..47 => Act::WrapperGone(service),
                47..52 => Act::WrapperBack(service),
                52..56 => Act::Order(service, Order::Stop),
                56..61 => Act::Order(service, Order::Start),
                61 => Act::Order(service, Order::Resume),
                62..66 => Act::Order(service, Order::Restart),
                66..69 => Act::Order(service, Order::Scale(random.below(4) as u32)),
                69..80 => Act::Kill(service),
                80..85 => Act::ControllerDies,
                85..87 => Act::DirectoryLost,
                87..90 => Act::DirectoryFound,
                90..95 => Act::Hang(service),
                95..97 => Act::SaysStopping(service),
                97..100 => Act::PortFree(service),
                100..102 => Act::Trouble(service, random.below(2) == 0),
                102..106 => Act::Late(Duration::from_millis(random.below(35_000))),
                106..108 => Act::Sleep(Duration::from_secs(random.below(40_000))),
                108 => Act::ConfirmMissing,
                109..112 => Act::Flap(service),
                112..114 => Act::Slow(service),
                120..135 => Act::Call(service, [Demand::default(), WAITS, CONNECTED, BOTH][random.below(4) as usize]),
                116..118 => Act::Hold(service, true),
                118..120 => Act::Hold(service, false),
                114..116 => Act::SetClock(SET_BY[random.below(6) as usize]),
                _ => Act::Nothing,
            };
            let after = match random.below(10) {
                0 => None,
                1..3 => Some(Duration::ZERO),
                3..6 => Some(Duration::from_micros(random.below(5_000))),
                6..9 => Some(Duration::from_millis(random.below(3_000))),
                _ => Some(Duration::from_secs(random.below(90))),
            };
            Stimulus { after, act }
        })
        .collect()
}
