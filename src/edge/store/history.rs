//! The past in numbers: minutes for a day, hours for 90 days, the last exits.
//!
//! A minute that is written is added to its hour in the same transaction, so there is no roll-up that
//! could be missed, and a minute written twice (somebody asked in between, or a new controller goes on
//! in it) is added to what stands there. Rows are counted, never compared with the clock: one that is
//! set wrong for an hour deletes nothing.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::packed::{Buckets, entries, pack};
use super::rows;
use crate::model::history::{Bucket, History, Point};
use crate::model::name::Name;
use crate::model::view::ExitView;

/// Minutes kept: a day.
const MINUTES_MAX: usize = 24 * 60;
/// Hours kept: 90 days.
const HOURS_MAX: usize = 90 * 24;
/// Bytes of minutes, and as many of hours: a minute of a service takes some 16 and an hour some 22, so
/// that 1,000 services have their whole day and two months.
const BYTES_MAX: usize = 32 << 20;
/// Exits kept of one service.
pub const EXITS_OF_ONE: usize = 20;
/// Exits kept of all: 2 KiB of last output each at most.
const EXITS_MAX: usize = 5_000;
/// Services that ever were, four times the largest node; beyond, those that no hour knows are dropped.
const NAMES_MAX: usize = 40_000;
/// Minutes that wait for a disk that takes none.
const WAITING_MAX: usize = 60;
/// Events that are told with a history.
pub(super) const EVENTS_TOLD: usize = 200;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, restarts INTEGER);
    CREATE TABLE IF NOT EXISTS minute (id INTEGER PRIMARY KEY, at INTEGER NOT NULL UNIQUE, data BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS hour (id INTEGER PRIMARY KEY, at INTEGER NOT NULL UNIQUE, data BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS exit (id INTEGER PRIMARY KEY, service TEXT NOT NULL, at INTEGER NOT NULL, json TEXT NOT NULL, UNIQUE (service, at));
";

/// What was gathered in one minute (see [`Samples`](super::Samples)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Minute {
    /// Minutes since the epoch.
    pub at: i64,
    pub buckets: Vec<(Name, Bucket)>,
    pub exits: Vec<(Name, ExitView)>,
    /// Restarts from the first day on, as far as they are in a bucket now.
    pub counts: Vec<(Name, u64)>,
}

/// What waits for the next transaction.
#[derive(Debug, Default)]
pub(super) struct Pending {
    minutes: BTreeMap<i64, BTreeMap<Name, Bucket>>,
    exits: BTreeMap<Name, VecDeque<ExitView>>,
    counts: BTreeMap<Name, u64>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty() && self.exits.is_empty() && self.counts.is_empty()
    }

    pub fn note(&mut self, minute: Minute) {
        if !minute.buckets.is_empty() {
            let waiting = self.minutes.entry(minute.at).or_default();
            for (name, seen) in &minute.buckets {
                waiting.entry(name.clone()).or_default().add(seen);
            }
            if self.minutes.len() > WAITING_MAX {
                self.minutes.pop_first();
            }
        }
        for (name, exit) in minute.exits {
            let waiting = self.exits.entry(name).or_default();
            if waiting.len() == EXITS_OF_ONE {
                waiting.pop_front();
            }
            waiting.push_back(exit);
        }
        self.counts.extend(minute.counts);
    }

    /// Takes up what an older one could not write.
    pub fn after(&mut self, older: Pending) {
        let newer = std::mem::replace(self, older);
        for (at, buckets) in newer.minutes {
            self.note(Minute { at, buckets: buckets.into_iter().collect(), ..Minute::default() });
        }
        let exits =
            newer.exits.into_iter().flat_map(|(name, exits)| exits.into_iter().map(move |exit| (name.clone(), exit)));
        self.note(Minute { exits: exits.collect(), counts: newer.counts.into_iter().collect(), ..Minute::default() });
    }
}

pub(super) fn write(change: &Transaction, pending: &Pending) -> rusqlite::Result<()> {
    for (at, seen) in &pending.minutes {
        let mut buckets = Buckets::new();
        for (name, bucket) in seen {
            buckets.entry(number(change, name.as_str())?).or_default().add(bucket);
        }
        add(change, Table::Minute, *at, &buckets)?;
        add(change, Table::Hour, at.div_euclid(60), &buckets)?;
    }
    if !pending.minutes.is_empty() {
        trim(change, Table::Minute)?;
        trim(change, Table::Hour)?;
        drop_names(change)?;
        // So many of all, and not the last so many: of one that is loud only its own few are kept.
        let surplus = "DELETE FROM exit WHERE id IN
            (SELECT id FROM exit ORDER BY id LIMIT max(0, (SELECT count(*) FROM exit) - ?1))";
        change.prepare_cached(surplus)?.execute([EXITS_MAX as i64])?;
    }
    for (name, count) in &pending.counts {
        let id = number(change, name.as_str())?;
        let mut put = change.prepare_cached("UPDATE series SET restarts = ?2 WHERE id = ?1")?;
        put.execute([id as i64, *count as i64])?;
    }
    for (name, exits) in &pending.exits {
        // Its last output may come later than the exit, and never gets less.
        let mut put = change.prepare_cached(
            "INSERT INTO exit (service, at, json) VALUES (?1, ?2, ?3) ON CONFLICT (service, at)
             DO UPDATE SET json = excluded.json WHERE length(excluded.json) > length(json)",
        )?;
        for exit in exits {
            put.execute(params![name.as_str(), exit.at.as_microsecond(), rows::to_json(exit)])?;
        }
        let oldest = "DELETE FROM exit WHERE service = ?1 AND at <
            (SELECT at FROM exit WHERE service = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?2)";
        change.prepare_cached(oldest)?.execute(params![name.as_str(), EXITS_OF_ONE as i64 - 1])?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Minute,
    Hour,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Minute => "minute",
            Table::Hour => "hour",
        }
    }

    fn secs(self) -> i64 {
        match self {
            Table::Minute => 60,
            Table::Hour => 3_600,
        }
    }

    fn rows_max(self) -> usize {
        match self {
            Table::Minute => MINUTES_MAX,
            Table::Hour => HOURS_MAX,
        }
    }
}

/// The number that stands for a service in the blobs.
fn number(db: &Connection, name: &str) -> rusqlite::Result<u64> {
    if let Some(id) = known(db, name)? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO series (name) VALUES (?1)")?.execute([name])?;
    Ok(db.last_insert_rowid() as u64)
}

fn known(db: &Connection, name: &str) -> rusqlite::Result<Option<u64>> {
    let mut find = db.prepare_cached("SELECT id FROM series WHERE name = ?1")?;
    find.query_row([name], |row| row.get::<_, i64>(0)).optional().map(|id| id.map(|id| id as u64))
}

fn add(change: &Transaction, table: Table, at: i64, buckets: &Buckets) -> rusqlite::Result<()> {
    let name = table.name();
    let mut find = change.prepare_cached(&format!("SELECT data FROM {name} WHERE at = ?1"))?;
    let there = find.query_row([at], |row| row.get::<_, Vec<u8>>(0)).optional()?.unwrap_or_default();
    let mut all = buckets.clone();
    for (id, bucket) in entries(&there) {
        all.entry(id).or_default().add(&bucket);
    }
    let put =
        format!("INSERT INTO {name} (at, data) VALUES (?1, ?2) ON CONFLICT (at) DO UPDATE SET data = excluded.data");
    change.prepare_cached(&put)?.execute(params![at, pack(&all)])?;
    Ok(())
}

/// Drops what is too much, the oldest written first.
fn trim(change: &Transaction, table: Table) -> rusqlite::Result<()> {
    let name = table.name();
    let mut newest = change.prepare_cached(&format!("SELECT id, length(data) FROM {name} ORDER BY id DESC"))?;
    let mut rows = newest.query([])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (id, length): (i64, i64) = (row.get(0)?, row.get(1)?);
        count += 1;
        bytes += usize::try_from(length).unwrap_or_default();
        if count > table.rows_max() || (bytes > BYTES_MAX && count > 1) {
            change.prepare_cached(&format!("DELETE FROM {name} WHERE id <= ?1"))?.execute([id])?;
            break;
        }
    }
    Ok(())
}

fn drop_names(change: &Transaction) -> rusqlite::Result<()> {
    let known: i64 = change.prepare_cached("SELECT count(*) FROM series")?.query_row([], |row| row.get(0))?;
    if known as usize <= NAMES_MAX {
        return Ok(());
    }
    let mut used = std::collections::BTreeSet::new();
    for table in [Table::Minute, Table::Hour] {
        let mut all = change.prepare(&format!("SELECT data FROM {}", table.name()))?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            used.extend(entries(row.get_ref(0)?.as_blob()?).map(|(id, _)| id));
        }
    }
    let mut all = change.prepare("SELECT id FROM series")?;
    let ids: Vec<i64> = all.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut cut = change.prepare("DELETE FROM series WHERE id = ?1")?;
    for id in ids.into_iter().filter(|id| !used.contains(&(*id as u64))) {
        cut.execute([id])?;
    }
    Ok(())
}

/// The restarts that are in a bucket, of each service.
pub(super) fn counted(db: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut all = db.prepare("SELECT name, restarts FROM series WHERE restarts IS NOT NULL")?;
    let rows = all.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64)))?;
    rows.collect()
}

/// What is asked for: everything of one service since a moment.
#[derive(Debug, Clone)]
pub struct Question {
    pub service: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Question {
    /// A day is told in minutes, more in hours.
    fn table(&self) -> Table {
        let asked = self.until.as_second().saturating_sub(self.since.as_second());
        if asked <= MINUTES_MAX as i64 * 60 { Table::Minute } else { Table::Hour }
    }

    /// The answer of a store that remembers nothing.
    pub fn nothing(&self) -> History {
        History {
            service: self.service.clone(),
            since: self.since,
            until: self.until,
            step_secs: self.table().secs() as u64,
            total: Bucket::default(),
            points: Vec::new(),
            runs: Vec::new(),
            exits: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// Whether the tables were made.
pub(super) fn is_there(db: &Connection) -> rusqlite::Result<bool> {
    let tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('series', 'minute', 'hour', 'exit', 'event')";
    db.query_row(tables, [], |row| row.get::<_, i64>(0)).map(|found| found == 5)
}

pub(super) fn read(db: &Connection, question: &Question) -> rusqlite::Result<History> {
    let mut history = question.nothing();
    let Question { service, since, until } = question;
    let table = question.table();
    if let Some(id) = known(db, service)? {
        let (first, last) = (since.as_second().div_euclid(table.secs()), until.as_second().div_euclid(table.secs()));
        let mut stretch = db
            .prepare_cached(&format!("SELECT at, data FROM {} WHERE at BETWEEN ?1 AND ?2 ORDER BY at", table.name()))?;
        let mut rows = stretch.query([first, last])?;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            let found = entries(row.get_ref(1)?.as_blob()?).find(|(found, _)| *found == id);
            let at = Timestamp::from_second(at.saturating_mul(table.secs()));
            if let (Some((_, seen)), Ok(at)) = (found, at) {
                history.total.add(&seen);
                history.points.push(Point { at, seen });
            }
        }
    }
    let mut exits =
        db.prepare_cached("SELECT json FROM exit WHERE service = ?1 AND at >= ?2 ORDER BY at DESC LIMIT ?3")?;
    let texts = exits.query_map(params![service, since.as_microsecond(), EXITS_OF_ONE as i64], |row| row.get(0))?;
    for text in texts {
        let text: String = text?;
        history.exits.extend(serde_json::from_str::<ExitView>(&text));
    }
    history.exits.reverse();
    history.runs = rows::runs(db, service)?;
    history.events = rows::read_events(db, Some(*since), Some(service), EVENTS_TOLD)?;
    Ok(history)
}
