//! Reading logs back: sync, simple, and without a controller.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::chain::{Chain, Opened, open_all};
use super::follow::Follow;
use super::index::Mark;
use super::layout::{Place, Side, several_dir};
use crate::model::log_names;
use crate::model::name::Name;
use crate::model::view::ServiceView;

/// What of the logs is wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only so many lines of each instance, the last of what the rest of the query leaves.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    /// Only the life before the present one.
    pub previous: bool,
    pub grep: Option<regex::Regex>,
}

/// One line of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub instance: u32,
    pub side: Side,
    /// When it was written, to the second or better; unknown without an index.
    pub time: Option<Timestamp>,
    /// Without its newline; at most 64 KiB, raw: show it through [`super::escape`].
    pub bytes: Vec<u8>,
    /// Bytes of this line beyond the 64 KiB.
    pub left_out: u64,
    /// Bytes that were dropped before this line, because the disk or the rate took no more.
    pub dropped: u64,
}

/// The logs of one service, where they lie.
#[derive(Debug, Clone)]
pub struct LogFiles {
    dir: PathBuf,
    service: Name,
    own: Option<PathBuf>,
    instance: Option<u32>,
}

/// One file that is written, with its rotated ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub place: Place,
    pub instance: u32,
    pub side: Side,
}

impl LogFiles {
    /// `dir` is the log directory, `own` the service's `logs.path`; no `instance` means all.
    pub fn of(dir: &Path, service: &Name, own: Option<&Path>, instance: Option<u32>) -> LogFiles {
        LogFiles { dir: dir.into(), service: service.clone(), own: own.map(Path::to_path_buf), instance }
    }

    /// All lines that match, oldest first, several instances merged by time.
    pub fn read(&self, query: &Query) -> io::Result<Box<dyn Iterator<Item = Line> + Send>> {
        let mut chains: BTreeMap<u32, Vec<Chain>> = BTreeMap::new();
        for source in self.sources() {
            let mut files = open_all(&source.place)?;
            files.iter_mut().for_each(|file| file.end = Some(file.size));
            narrow(&mut files, query);
            chains.entry(source.instance).or_default().push(Chain::new(source.instance, source.side, files));
        }
        let grep = query.matcher();
        let Some(count) = query.tail else {
            let lines = Merged::new(chains.into_values().flatten().collect());
            return Ok(Box::new(lines.filter(move |line| grep(line))));
        };
        let of_one = |chains| last(Merged::new(chains).filter(|line| grep(line)), count).into();
        Ok(Box::new(merge(chains.into_values().map(of_one).collect()).into_iter()))
    }

    /// The lines that match, and then everything new as it is written.
    pub fn follow(self, query: &Query) -> io::Result<Follow> {
        Follow::new(self, query)
    }

    /// The last lines of all instances together, as many as a status has room for.
    pub fn last_lines(&self, count: usize) -> io::Result<Vec<Line>> {
        let lines = self.read(&Query { tail: Some(count), ..Query::default() })?;
        Ok(last(lines, count).into())
    }

    /// Whether several instances are wanted or there, or another than the first has written: each line tells which.
    pub fn has_several(&self, view: Option<&ServiceView>) -> bool {
        let is_there = |source: &Source| source.place.base.symlink_metadata().is_ok();
        view.is_some_and(|view| view.desired > 1 || view.instances.len() > 1)
            || self.sources().iter().any(|source| source.instance > 0 && is_there(source))
    }

    /// Every log of the service that is there now, by what lies in the directories.
    pub(super) fn sources(&self) -> Vec<Source> {
        let mut found: BTreeMap<PathBuf, Source> = BTreeMap::new();
        let mut add = |base: PathBuf, instance: u32, side: Side, own: bool| {
            if self.instance.is_none_or(|wanted| wanted == instance) {
                let place = Place { base: base.clone(), index: self.dir.join(".idx"), own };
                found.insert(base, Source { place, instance, side });
            }
        };
        if let Some(own) = &self.own {
            for side in [Side::Out, Side::Err] {
                let base = |path: PathBuf| if side == Side::Err { path.with_extension("err") } else { path };
                add(base(own.clone()), 0, side, true);
                for instance in numbered(own) {
                    add(base(log_names::of_instance(own, instance)), instance, side, true);
                }
            }
        }
        for (suffix, side) in [("log", Side::Out), ("err", Side::Err)] {
            add(self.dir.join(format!("{}.{suffix}", self.service)), 0, side, false);
            let dir = several_dir(&self.dir, &self.service);
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let mut parts = name.to_str().unwrap_or_default().splitn(3, '.');
                let (instance, kind) = (parts.next().and_then(|part| part.parse::<u32>().ok()), parts.next());
                if let (Some(instance), true) = (instance, kind == Some(suffix)) {
                    add(dir.join(format!("{instance}.{suffix}")), instance, side, false);
                }
            }
        }
        found.into_values().collect()
    }
}

/// The instances that have a file beside `logs.path`: `orders.2.log` for `orders.log`.
fn numbered(own: &Path) -> Vec<u32> {
    let (Some(dir), Some(stem)) = (own.parent(), own.file_stem().and_then(|stem| stem.to_str())) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let instances = entries.filter_map(|entry| {
        let name = entry.file_name();
        let rest =
            name.to_str()?.strip_prefix(stem)?.strip_prefix(if own.extension().is_some() { '.' } else { '-' })?;
        let instance = rest.split('.').next()?.parse().ok()?;
        (log_names::of_instance(own, instance).file_name()? == name.as_os_str()).then_some(instance)
    });
    instances.collect()
}

impl Query {
    pub(super) fn matcher(&self) -> impl Fn(&Line) -> bool + Send + Sync + use<> {
        let grep = self.grep.as_ref().and_then(|grep| regex::bytes::Regex::new(grep.as_str()).ok());
        let since = self.since;
        move |line| {
            let late = since.is_none_or(|since| line.time.is_none_or(|time| time >= since));
            late && grep.as_ref().is_none_or(|grep| grep.is_match(&line.bytes))
        }
    }
}

/// A place in a log: which file, and the offset in it.
type At = (usize, u64);

/// Leaves out what the query cannot want, by the indexes and from the end, without reading it all.
pub(super) fn narrow(files: &mut Vec<Opened>, query: &Query) {
    if query.previous {
        let (start, end) = previous_life(files);
        keep(files, start, end);
    }
    if let Some(since) = query.since {
        let since = since.as_microsecond();
        let first = files.iter().enumerate().find_map(|(at, file)| {
            let late = |mark| matches!(mark, Mark::Time(micros) if micros >= since);
            file.entries.iter().find(|entry| late(entry.mark)).map(|entry| (at, entry.offset))
        });
        let has_index = files.iter().any(|file| !file.entries.is_empty());
        let end = files.last().map_or((0, 0), |file| (files.len() - 1, file.size));
        if has_index {
            keep(files, Some(first.unwrap_or(end)), None);
        }
    }
    if let (Some(count), None) = (query.tail, &query.grep) {
        let start = tail_start(files, count);
        keep(files, start, None);
    }
}

/// Where the life before the present one begins and ends.
fn previous_life(files: &[Opened]) -> (Option<At>, Option<At>) {
    let lives = files.iter().enumerate().flat_map(|(at, file)| {
        let lives = file.entries.iter().filter(|entry| matches!(entry.mark, Mark::Life(_)));
        lives.map(move |entry| (at, entry.offset))
    });
    let lives: Vec<At> = lives.collect();
    match lives[..] {
        [] => (None, Some((0, 0))),
        [present] => (None, Some(present)),
        [.., before, present] => (Some(before), Some(present)),
    }
}

/// Keeps what lies between two places, each a file and an offset.
fn keep(files: &mut Vec<Opened>, start: Option<At>, end: Option<At>) {
    if let Some((file, offset)) = end {
        files.truncate(file + 1);
        files.iter_mut().skip(file).for_each(|file| file.end = Some(offset));
    }
    if let Some((file, offset)) = start {
        files.drain(..file.min(files.len()));
        files.iter_mut().take(1).for_each(|file| file.start = file.start.max(offset));
    }
}

/// Where the last `count` lines begin, read backwards; none is the beginning.
fn tail_start(files: &[Opened], count: usize) -> Option<At> {
    const BLOCK: u64 = 64 * 1024;
    let mut block = vec![0; BLOCK as usize];
    let mut wanted = count;
    let mut is_end = true;
    for (number, file) in files.iter().enumerate().rev() {
        let mut end = file.end.unwrap_or(file.size);
        if count == 0 {
            return Some((number, end));
        }
        while end > file.start {
            let start = end.saturating_sub(BLOCK).max(file.start);
            let bytes = &mut block[..(end - start) as usize];
            if file.file.read_exact_at(bytes, start).is_err() {
                return None;
            }
            for at in (0..bytes.len()).rev() {
                let ends_line = bytes[at] == b'\n';
                // The very last newline ends the last line; it does not begin another.
                if ends_line && !std::mem::take(&mut is_end) {
                    wanted -= 1;
                    if wanted == 0 {
                        return Some((number, start + at as u64 + 1));
                    }
                }
                is_end = false;
            }
            end = start;
        }
    }
    None
}

pub(super) fn last(lines: impl Iterator<Item = Line>, count: usize) -> VecDeque<Line> {
    let mut ring = VecDeque::new();
    for line in lines {
        if ring.len() == count {
            ring.pop_front();
        }
        if count > 0 {
            ring.push_back(line);
        }
    }
    ring
}

/// Several logs as one, by time. Within one log the order is the file's, whatever its times say: an
/// index is right to the second only, and wall clocks are set back.
pub(super) fn merge(logs: Vec<Vec<Line>>) -> Vec<Line> {
    let latest = |latest: &mut Option<Timestamp>, line: Line| {
        *latest = (*latest).max(line.time);
        Some((*latest, line))
    };
    let mut lines: Vec<_> = logs.into_iter().flat_map(|log| log.into_iter().scan(None, latest)).collect();
    lines.sort_by_key(|(time, _)| *time);
    lines.into_iter().map(|(_, line)| line).collect()
}

/// As [`merge`], of logs that are too long to be gathered.
#[derive(Debug)]
struct Merged {
    heads: Vec<(Option<Line>, Chain)>,
}

impl Merged {
    fn new(chains: Vec<Chain>) -> Merged {
        let heads = chains.into_iter().map(|mut chain| (next(&mut chain), chain)).collect();
        Merged { heads }
    }
}

/// A file that cannot be read any further ends there.
fn next(chain: &mut Chain) -> Option<Line> {
    chain.next_line().ok().flatten().or_else(|| chain.rest())
}

impl Iterator for Merged {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let with_line = self.heads.iter_mut().filter(|(line, _)| line.is_some());
        let (line, chain) = with_line.min_by_key(|(line, _)| line.as_ref().and_then(|line| line.time))?;
        std::mem::replace(line, next(chain))
    }
}
