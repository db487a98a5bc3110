//! Following logs as they grow: over rotations, truncations and new instances.
//!
//! Nothing waits here: [`Follow::poll`] is called every 100 ms or so by whoever has a clock. The
//! reader holds the file it reads, so a rotation is noticed by its name leading elsewhere; then the
//! rest of the old file is read first, and every file that came since after it. A follower that is
//! slow costs nobody anything: it reads files, at most 1,000 lines a call.

use std::collections::{BTreeMap, HashSet};
use std::io;

use jiff::Timestamp;

use super::chain::{Chain, Identity, identity, open_all};
use super::read::{Line, LogFiles, Query, Source, last, merge, narrow};

/// Lines of one call: a screen scrolls no faster, and 1,000 of the longest are 64 MiB.
const BATCH: usize = 1000;
/// How many calls pass between two looks for new instances.
const LIST_EVERY: u32 = 10;

/// New lines of a service, as they come.
#[derive(Debug)]
pub struct Follow {
    logs: LogFiles,
    query: Query,
    tails: Vec<Tail>,
    first: Vec<Line>,
    calls: u32,
}

#[derive(Debug)]
struct Tail {
    source: Source,
    chain: Chain,
    known: HashSet<Identity>,
}

impl Follow {
    pub(super) fn new(logs: LogFiles, query: &Query) -> io::Result<Follow> {
        let query = Query { previous: false, ..query.clone() };
        let mut tails = Vec::new();
        for source in logs.sources() {
            tails.push(Tail::new(source, &query)?);
        }
        let mut follow = Follow { logs, query, tails, first: Vec::new(), calls: 0 };
        if let Some(count) = follow.query.tail {
            // Lines before now are many; only the last ones are kept.
            let matches = follow.query.matcher();
            let mut of_each: BTreeMap<u32, Vec<Vec<Line>>> = BTreeMap::new();
            for tail in &mut follow.tails {
                let all = std::iter::from_fn(|| tail.chain.next_line().ok().flatten());
                let lasts = last(all.filter(|line| matches(line)), count).into();
                of_each.entry(tail.source.instance).or_default().push(lasts);
            }
            let of_one = |logs| last(merge(logs).into_iter(), count).into();
            follow.first = merge(of_each.into_values().map(of_one).collect());
        }
        Ok(follow)
    }

    /// What has been written since the last call, at most 1,000 lines; empty means nothing new now.
    pub fn poll(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = std::mem::take(&mut self.first);
        self.calls = (self.calls + 1) % LIST_EVERY;
        if self.calls == 0 {
            let everything = Query { tail: None, since: None, ..self.query.clone() };
            for source in self.logs.sources() {
                if !self.tails.iter().any(|tail| tail.source.place == source.place) {
                    self.tails.push(Tail::new(source, &everything)?);
                }
            }
        }
        let matches = self.query.matcher();
        // Each has its share, so that a loud one does not keep the others from being seen.
        let share = (BATCH / self.tails.len().max(1)).max(1);
        let mut new = Vec::with_capacity(self.tails.len());
        for tail in &mut self.tails {
            let mut of_tail = Vec::new();
            while of_tail.len() < share {
                let Some(line) = tail.next()? else { break };
                of_tail.extend(Some(line).filter(|line| matches(line)));
            }
            new.push(of_tail);
        }
        lines.append(&mut merge(new));
        Ok(lines)
    }
}

impl Tail {
    fn new(source: Source, query: &Query) -> io::Result<Tail> {
        let mut files = open_all(&source.place)?;
        let known = files.iter().map(|file| file.identity).collect();
        narrow(&mut files, query);
        Ok(Tail { chain: Chain::new(source.instance, source.side, files), source, known })
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.chain.set_time(Timestamp::now());
            if let Some(line) = self.chain.next_line()? {
                return Ok(Some(line));
            }
            let Ok(named) = std::fs::symlink_metadata(&self.source.place.base) else { return Ok(None) };
            match self.chain.newest() {
                Some((newest, read)) if newest.identity == identity(&named) => {
                    if named.len() >= read {
                        return Ok(None);
                    }
                    self.chain.restart();
                }
                Some(_) | None => {
                    // The name leads elsewhere, so the pump is done with the old file; what it wrote
                    // last may have come after our look.
                    if let Some(line) = self.chain.next_line()? {
                        return Ok(Some(line));
                    }
                    let mut files = open_all(&self.source.place)?;
                    let now: HashSet<Identity> = files.iter().map(|file| file.identity).collect();
                    let before = std::mem::replace(&mut self.known, now);
                    // What comes after the one read last, where that is still there: an older one that the
                    // last look missed, because it was renamed just then, was read all the same.
                    let read = self.chain.newest().map(|(newest, _)| newest.identity);
                    let new: Vec<_> = match files.iter().position(|file| Some(file.identity) == read) {
                        Some(place) => files.split_off(place + 1),
                        None => files.into_iter().filter(|file| !before.contains(&file.identity)).collect(),
                    };
                    if new.is_empty() {
                        return Ok(None);
                    }
                    new.into_iter().for_each(|file| self.chain.push(file));
                }
            }
        }
    }
}
