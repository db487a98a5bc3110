//! Trees without a cgroup: one walk of /proc for all lives that are asked about.
//!
//! A process belongs to a life if it is its main process, is in its session or group, descends from
//! a member, was a member when it was last seen, or is an orphan of ours that carries the life's
//! cookie. What this misses: a daemon that has left session, parents and environment behind before
//! anybody looked. Where the life has a reaper (`killScope: Tree`) nothing gets away: what descends from
//! that belongs to it. The reaper itself does not; it ends when nothing is left.
//!
//! The walk costs some 10 microseconds a process, so it runs in a thread of its own, and requests
//! that wait meanwhile share the next one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::Sender;

use super::stat::{self, Mark, Stat};
use super::tree::{Tree, hold, is_reaper, send};
use crate::controller::{Input, Target};
use crate::keeper::Reaper;
use crate::model::name::LifeId;

/// A KILL goes round at most this often while new members turn up; 137 rounds were seen to be
/// needed for a process that forks itself anew every 0.2 ms.
const KILL_ROUNDS: usize = 200;
/// Members of one life that are remembered; after that only those that are there now.
const MEMBERS_MAX: usize = 16 * 1024;
/// What a reaper has to do when nothing of its tree lives takes microseconds.
const REAPING_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// Leftovers named in one answer; the status names the first few.
const LEFT_MAX: usize = 64;

/// Processes by pid.
type Table = HashMap<i32, Stat>;

/// What can be asked of the walker.
#[derive(Debug)]
pub enum Request {
    /// Answered by `Input::Surveyed`.
    Survey(Tree),
    Signal {
        tree: Tree,
        signal: i32,
        to: Target,
    },
    Forget(LifeId),
}

/// The asking end; the thread ends when it is dropped.
#[derive(Debug)]
pub struct Walker {
    requests: mpsc::Sender<Request>,
    helpers: Arc<Mutex<Helpers>>,
}

/// The first processes of helpers that run, by pid and start time: they carry the name of the life that they
/// run beside and are not of it.
type Helpers = HashSet<(i32, u64)>;

impl Walker {
    /// `keeper` is the process to which orphans of ours fall.
    pub fn start(keeper: i32, inputs: Sender<Input>) -> std::io::Result<Walker> {
        let (requests, waiting) = mpsc::channel();
        let helpers: Arc<Mutex<Helpers>> = Arc::default();
        let running = helpers.clone();
        let run = move || {
            let mut seen = Seen::new(keeper, running);
            while let Ok(first) = waiting.recv() {
                let batch: Vec<Request> = std::iter::once(first).chain(waiting.try_iter()).collect();
                for input in seen.serve(batch) {
                    if inputs.blocking_send(input).is_err() {
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new().name("tree".into()).stack_size(256 * 1024).spawn(run)?;
        Ok(Walker { requests, helpers })
    }

    pub(super) fn helper_runs(&self, tree: &Tree, runs: bool) {
        let mut helpers = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tree.pid, tree.start_time);
        if runs {
            helpers.insert(key)
        } else {
            helpers.remove(&key)
        };
    }

    /// A request to a walker that is gone is lost: so is the loop that asks.
    pub(super) fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}

/// What the walker knows between walks.
#[derive(Debug)]
struct Seen {
    keeper: i32,
    helpers: Arc<Mutex<Helpers>>,
    /// Members of lives that are being asked about, by pid and start time: once seen, one stays a
    /// member, wherever it moves.
    members: HashMap<LifeId, HashSet<(i32, u64)>>,
    cookies: Cookies,
}

/// What environments said, by pid and start time; reading one costs as much as all the rest.
type Cookies = HashMap<(i32, u64), Option<Mark>>;

impl Seen {
    fn new(keeper: i32, helpers: Arc<Mutex<Helpers>>) -> Seen {
        Seen { keeper, helpers, members: HashMap::new(), cookies: Cookies::new() }
    }

    fn serve(&mut self, batch: Vec<Request>) -> Vec<Input> {
        let mut surveys = Vec::new();
        let mut signals = Vec::new();
        for request in batch {
            match request {
                Request::Survey(tree) => surveys.push(tree),
                Request::Signal { tree, signal, to } => signals.push((tree, signal, to)),
                Request::Forget(life) => drop(self.members.remove(&life)),
            }
        }
        if self.members.is_empty() {
            self.cookies = Cookies::new();
        }
        // Signals first: a survey that was asked for together with a KILL then tells what the KILL left.
        let mut table = if signals.is_empty() { Table::new() } else { look() };
        let mut reached: HashSet<(i32, u64, i32)> = HashSet::new();
        for _ in 0..KILL_ROUNDS {
            if signals.is_empty() {
                break;
            }
            let trees: Vec<&Tree> = signals.iter().map(|(tree, ..)| tree).collect();
            let found = self.members_in(&table, &trees);
            let mut again = Vec::new();
            for (request, members) in signals.into_iter().zip(found) {
                let (tree, signal, to) = &request;
                let wanted = members.iter().filter(|stat| *to == Target::Tree || stat.group == tree.pid);
                // One that does not die at once (in a system call) is no reason to go round again; a
                // new one is, also if it is gone already: it may have forked what comes next.
                let unreached = |stat: &&Stat| reached.insert((stat.pid, stat.start_time, *signal));
                let new: Vec<&Stat> = wanted.filter(unreached).collect();
                for stat in &new {
                    send(stat, *signal);
                }
                if !new.is_empty() && *signal == libc::SIGKILL {
                    again.push(request);
                }
            }
            signals = again;
            let reapers = signals.iter().filter_map(|(tree, ..)| tree.reaper());
            look_again(&mut table, std::iter::once(self.keeper).chain(reapers.map(|reaper| reaper.pid)));
        }
        if surveys.is_empty() {
            return Vec::new();
        }
        let trees: Vec<&Tree> = surveys.iter().collect();
        let table = look();
        let found = self.members_in(&table, &trees);
        self.cookies.retain(|(pid, start), _| table.get(pid).is_some_and(|stat| stat.start_time == *start));
        let told = |(tree, members): (Tree, Vec<Stat>)| {
            let members = match tree.reaper().filter(|_| members.is_empty()) {
                Some(reaper) => outlasting(reaper).into_iter().collect(),
                None => members,
            };
            let left = members.into_iter().take(LEFT_MAX);
            let left = left.map(Stat::into_leftover).collect();
            Input::Surveyed { life: tree.life, left }
        };
        surveys.into_iter().zip(found).map(told).collect()
    }

    /// The living members of each tree, in the order asked. One life may be asked for several times: two
    /// signals, or a survey that was thought lost.
    fn members_in(&mut self, table: &Table, asked: &[&Tree]) -> Vec<Vec<Stat>> {
        let mut trees: Vec<&Tree> = Vec::new();
        let mut place_of: HashMap<&LifeId, usize> = HashMap::new();
        let mut places = Vec::new();
        for tree in asked {
            let place = *place_of.entry(&tree.life).or_insert(trees.len());
            if place == trees.len() {
                trees.push(tree);
            }
            places.push(place);
        }
        let found = self.members_of_each(table, &trees);
        places.into_iter().map(|place| found[place].clone()).collect()
    }

    /// The same, of trees of which none is named twice.
    fn members_of_each(&mut self, table: &Table, trees: &[&Tree]) -> Vec<Vec<Stat>> {
        let cookies = &mut self.cookies;
        let cookie = |stat: &Stat| match cookies.get(&(stat.pid, stat.start_time)) {
            Some(told) => told.clone(),
            None => match stat::cookie(stat.pid) {
                // Nothing to be read, as in the middle of an exec: ask again the next time.
                stat::Cookie::Unread => None,
                stat::Cookie::Absent => {
                    cookies.insert((stat.pid, stat.start_time), None);
                    None
                }
                stat::Cookie::Of(mark) => {
                    let told = Some(mark);
                    cookies.insert((stat.pid, stat.start_time), told.clone());
                    told
                }
            },
        };
        let helpers = self.helpers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outside = Outside { keeper: self.keeper, helpers };
        let lineage = lineage(table, trees, &outside, &self.members, cookie);
        let mut found = vec![Vec::new(); trees.len()];
        let mut known = vec![HashSet::new(); trees.len()];
        for (pid, index) in lineage {
            let stat = &table[&pid];
            known[index].insert((pid, stat.start_time));
            if stat.lives() {
                found[index].push(stat.clone());
            }
        }
        for (index, members) in known.into_iter().enumerate() {
            // The main process comes first, it is the one a person knows.
            found[index].sort_by_key(|stat| (stat.pid != trees[index].pid, stat.start_time, stat.pid));
            let known = self.members.entry(trees[index].life.clone()).or_default();
            if known.len() > MEMBERS_MAX {
                known.clear();
            }
            known.extend(members);
        }
        found
    }
}

/// Every process there is.
fn look() -> Table {
    stat::pids().into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}

/// Add what is new since: cheap enough to keep up with a tree that forks as fast as it can. What
/// tries to get away falls to the keeper or to a reaper, so their children are where to look.
fn look_again(table: &mut Table, reapers: impl Iterator<Item = i32>) {
    let orphans: Vec<i32> = reapers.flat_map(stat::children).collect();
    let mut waiting = if orphans.is_empty() { stat::pids() } else { orphans };
    while let Some(pid) = waiting.pop() {
        if let Entry::Vacant(place) = table.entry(pid) {
            let Some(stat) = Stat::of(pid) else { continue };
            place.insert(stat);
            waiting.extend(stat::children(pid));
        }
    }
}

/// Who is there besides the lives.
struct Outside {
    /// To whom orphans of ours fall.
    keeper: i32,
    helpers: Helpers,
}

/// Which tree each process belongs to; those of none are left out. Pure, but for reading a cookie.
fn lineage(
    table: &Table,
    trees: &[&Tree],
    outside: &Outside,
    members: &HashMap<LifeId, HashSet<(i32, u64)>>,
    mut cookie: impl FnMut(&Stat) -> Option<Mark>,
) -> Vec<(i32, usize)> {
    // A main pid that somebody else has now is nobody's session any more.
    let ours = |tree: &Tree| table.get(&tree.pid).is_none_or(|stat| tree.is_main(stat));
    let mains: HashMap<i32, usize> =
        trees.iter().enumerate().filter(|(_, tree)| ours(tree)).map(|(index, tree)| (tree.pid, index)).collect();
    let known: HashMap<(i32, u64), usize> = trees
        .iter()
        .enumerate()
        .flat_map(|(index, tree)| members.get(&tree.life).into_iter().flatten().map(move |one| (*one, index)))
        .collect();
    let reapers: HashMap<(i32, u64), usize> = trees
        .iter()
        .enumerate()
        .filter_map(|(index, tree)| tree.reaper().map(|reaper| ((reaper.pid, reaper.start_time), index)))
        .collect();
    let mut direct = |stat: &Stat| -> Option<usize> {
        if let Some(index) = reapers.get(&(stat.pid, stat.start_time)) {
            return Some(*index);
        }
        let by_number = [stat.pid, stat.session, stat.group].into_iter().find_map(|pid| mains.get(&pid).copied());
        let by_number = by_number.filter(|index| stat.start_time >= trees[*index].start_time);
        by_number.or_else(|| known.get(&(stat.pid, stat.start_time)).copied()).or_else(|| {
            // Only orphans that fell to our keeper are asked for a cookie: anybody can write one.
            let orphan = stat.parent == outside.keeper && !outside.helpers.contains(&(stat.pid, stat.start_time));
            let mark = orphan.then(|| cookie(stat)).flatten()?;
            // What a preStart left behind is older than the main process.
            let late = |tree: &Tree| mark.helper.is_some() || stat.start_time >= tree.start_time;
            trees.iter().position(|tree| tree.is_named(&mark) && late(tree))
        })
    };
    let mut decided: HashMap<i32, Option<usize>> =
        HashMap::from([(outside.keeper, None), (0, None), (1, None), (2, None)]);
    for pid in table.keys() {
        let mut path = Vec::new();
        let mut next = *pid;
        let verdict = loop {
            if let Some(verdict) = decided.get(&next) {
                break *verdict;
            }
            let Some(stat) = table.get(&next) else { break None };
            path.push(next);
            // A table that is not of one moment may hold a circle.
            if path.len() > table.len() {
                break None;
            }
            if let Some(index) = direct(stat) {
                break Some(index);
            }
            next = stat.parent;
        };
        decided.extend(path.into_iter().map(|pid| (pid, verdict)));
    }
    let member = |(pid, index): (i32, Option<usize>)| Some((pid, index?));
    let process = |pid: &i32| table.get(pid).is_some_and(|stat| !reapers.contains_key(&(*pid, stat.start_time)));
    decided.into_iter().filter_map(member).filter(|(pid, _)| process(pid)).collect()
}

/// Nothing was seen to live below this reaper. It ends when it has reaped the last: only then is nothing left,
/// and the next life let in. One that does not end has something that no look has caught.
fn outlasting(reaper: Reaper) -> Option<Stat> {
    let pidfd = hold(reaper.pid).ok()?;
    let there = || Stat::of(reaper.pid).filter(|stat| is_reaper(reaper, stat) && stat.lives());
    there()?;
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    // What it answers shows at the next look.
    let _ended_or_not = poll(&mut ended, Some(&REAPING_MAX));
    there()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::process::tree::{Scope, helper_life};
    use crate::model::name::Instance;

    fn tree(name: &str, pid: i32, start_time: u64) -> Tree {
        let instance = Instance::parse(&format!("{name}/0")).expect("a valid name");
        Tree { life: LifeId { instance, life: 1 }, node: "node".into(), pid, start_time, scope: Scope::Session }
    }

    fn mark(instance: &str) -> Mark {
        Mark { node: "node".into(), instance: instance.into(), life: 1, helper: None }
    }

    /// (pid, parent, group, session, start)
    fn table(rows: &[(i32, i32, i32, i32, u64)]) -> Table {
        let line = |(pid, parent, group, session, start): &(i32, i32, i32, i32, u64)| {
            format!("{pid} (x) S {parent} {group} {session} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 1")
        };
        rows.iter().filter_map(|row| Some((row.0, Stat::parse(line(row).as_bytes())?))).collect()
    }

    fn found(rows: &[(i32, i32, i32, i32, u64)], trees: &[&Tree], cookies: &[(i32, Mark)]) -> Vec<(i32, usize)> {
        let cookie = |stat: &Stat| cookies.iter().find(|one| one.0 == stat.pid).map(|one| one.1.clone());
        let mut found = lineage(
            &table(rows),
            trees,
            &Outside { keeper: 10, helpers: HashSet::from([(80, 8)]) },
            &HashMap::new(),
            cookie,
        );
        found.sort();
        found
    }

    #[test]
    fn session_group_and_descendants_belong_and_neighbours_do_not() {
        let (web, db) = (tree("web", 20, 5), tree("db", 30, 5));
        let rows = [
            (10, 1, 10, 10, 1),
            (20, 10, 20, 20, 5),
            (21, 20, 20, 20, 6), // same group
            (22, 21, 22, 22, 7), // its own session, still a child
            (23, 10, 23, 20, 7), // an orphan in the session
            (30, 10, 30, 30, 5),
            (31, 22, 31, 31, 9),
            (40, 10, 40, 40, 5), // a service that nobody asked about
        ];
        let expected = [(20, 0), (21, 0), (22, 0), (23, 0), (30, 1), (31, 0)];
        assert_eq!(found(&rows, &[&web, &db], &[]), expected);
    }

    #[test]
    fn an_orphan_is_known_by_its_cookie_only_if_it_fell_to_our_keeper() {
        let web = tree("web", 20, 5);
        let rows = [(50, 10, 50, 50, 8), (51, 1, 51, 51, 8), (52, 50, 52, 52, 9)];
        assert_eq!(found(&rows, &[&web], &[(50, mark("web/0")), (51, mark("web/0"))]), [(50, 0), (52, 0)]);
        let strange = [mark("other/0"), Mark { life: 2, ..mark("web/0") }, Mark { node: "b".into(), ..mark("web/0") }];
        for mark in strange {
            assert_eq!(found(&rows, &[&web], &[(50, mark.clone())]), [], "{mark:?}");
        }
    }

    #[test]
    fn what_a_helper_left_is_of_its_life_and_the_helper_itself_is_not() {
        let web = tree("web", 20, 5);
        let of_helper = Mark { helper: Some(7), ..mark("web/0") };
        // Pid 80 is a helper that runs; 82 went away from one before the main process began.
        let rows = [(80, 10, 80, 80, 8), (81, 80, 81, 81, 9), (82, 10, 82, 82, 3)];
        let cookies = [80, 81, 82].map(|pid| (pid, of_helper.clone()));
        assert_eq!(found(&rows, &[&web], &cookies), [(82, 0)]);
        let helper = Tree { life: LifeId { life: helper_life(7), ..web.life.clone() }, ..tree("web", 80, 8) };
        assert_eq!(found(&rows, &[&helper], &cookies), [(80, 0), (81, 0), (82, 0)]);
    }

    #[test]
    fn what_descends_from_a_reaper_belongs_and_the_reaper_does_not() {
        let mut web = tree("web", 21, 5);
        web.scope = Scope::Reaper(Reaper { pid: 20, start_time: 5 });
        let rows = [(20, 10, 20, 20, 5), (21, 20, 21, 21, 5), (22, 20, 22, 22, 9), (23, 22, 23, 23, 9)];
        assert_eq!(found(&rows, &[&web], &[]), [(21, 0), (22, 0), (23, 0)]);
        // The main process has ended, and one that has its reaper's number since is a stranger.
        assert_eq!(found(&[(20, 10, 20, 20, 8), (22, 20, 22, 22, 9)], &[&web], &[]), []);
    }

    #[test]
    fn a_recycled_main_pid_brings_nobody_in() {
        let web = tree("web", 20, 5);
        let rows = [(20, 1, 20, 20, 99), (21, 20, 20, 20, 100), (22, 10, 20, 20, 4)];
        assert_eq!(found(&rows, &[&web], &[]), []);
    }

    #[test]
    fn one_seen_before_stays_a_member_and_brings_its_children() {
        let web = tree("web", 20, 5);
        let rows = [(60, 10, 60, 60, 8), (61, 60, 61, 61, 9)];
        let members = HashMap::from([(web.life.clone(), HashSet::from([(60, 8)]))]);
        let mut found =
            lineage(&table(&rows), &[&web], &Outside { keeper: 10, helpers: HashSet::new() }, &members, |_| None);
        found.sort();
        assert_eq!(found, [(60, 0), (61, 0)]);
    }

    #[test]
    fn a_life_that_is_asked_for_twice_is_answered_twice() {
        let (web, db) = (tree("web", 20, 5), tree("db", 30, 5));
        let rows = table(&[(20, 10, 20, 20, 5), (21, 20, 21, 21, 6), (30, 10, 30, 30, 5)]);
        let found = Seen::new(10, Arc::default()).members_in(&rows, &[&web, &db, &web]);
        let pids: Vec<Vec<i32>> = found.iter().map(|members| members.iter().map(|stat| stat.pid).collect()).collect();
        assert_eq!(pids, [vec![20, 21], vec![30], vec![20, 21]]);
    }

    #[test]
    fn a_table_with_a_circle_of_parents_ends() {
        let web = tree("web", 20, 5);
        assert_eq!(found(&[(70, 71, 70, 70, 9), (71, 70, 71, 71, 9)], &[&web], &[]), []);
    }
}
