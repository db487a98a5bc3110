//! What is remembered, as rows: written in one transaction, read at the start.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::inbox::Batch;
use super::{EVENTS_FLOOR, EVENTS_MAX, EVENTS_OF_ONE, Found, Loaded, history};
use crate::controller::{Memory, RunMemory};
use crate::model::name::Name;
use crate::model::view::{Event, RunView};

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS memory (name TEXT PRIMARY KEY, json TEXT NOT NULL, era TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS owner (name TEXT PRIMARY KEY, file TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS claim (script TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS accepted (file TEXT PRIMARY KEY, text TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, service TEXT, json TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS event_service ON event (service);
";

/// `foreign`: what the tables hold is of another time; of it only the events stay.
pub(super) fn write(db: &mut Connection, batch: &Batch, era: &str, foreign: bool) -> rusqlite::Result<()> {
    let change = db.transaction()?;
    if foreign {
        change.execute_batch("DELETE FROM memory; DELETE FROM owner; DELETE FROM claim; DELETE FROM accepted;")?;
    }
    {
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO memory VALUES (?1, ?2, ?3)")?;
        let mut cut = change.prepare_cached("DELETE FROM memory WHERE name = ?1")?;
        for (name, memory) in &batch.memories {
            match memory {
                Some(memory) => put.execute(params![name.as_str(), to_json(memory), era])?,
                None => cut.execute([name.as_str()])?,
            };
        }
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO owner VALUES (?1, ?2)")?;
        let mut cut = change.prepare_cached("DELETE FROM owner WHERE name = ?1")?;
        for (name, file) in &batch.owners {
            match file {
                Some(file) => put.execute(params![name.as_str(), file])?,
                None => cut.execute([name.as_str()])?,
            };
        }
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO claim VALUES (?1, ?2)")?;
        let mut cut = change.prepare_cached("DELETE FROM claim WHERE script = ?1")?;
        for (script, stamp) in &batch.claims {
            match stamp {
                Some(stamp) => put.execute(params![script, stamp])?,
                None => cut.execute([script])?,
            };
        }
        let mut follow =
            change.prepare_cached("INSERT OR REPLACE INTO accepted SELECT ?1, text FROM accepted WHERE file = ?2")?;
        for (file, before) in &batch.followed {
            follow.execute(params![file, before])?;
        }
        let mut put = change.prepare_cached("INSERT OR REPLACE INTO accepted VALUES (?1, ?2)")?;
        let mut cut = change.prepare_cached("DELETE FROM accepted WHERE file = ?1")?;
        for (file, text) in &batch.accepted {
            match text {
                Some(text) => put.execute(params![file, text])?,
                None => cut.execute([file])?,
            };
        }
        let mut put = change.prepare_cached("INSERT INTO event (at, service, json) VALUES (?1, ?2, ?3)")?;
        for event in &batch.events {
            put.execute(params![event.at.as_microsecond(), event.service, to_json(event)])?;
        }
        if !batch.events.is_empty() {
            // One that is loud pushes out its own.
            let loud: BTreeSet<&str> = batch.events.iter().filter_map(|event| event.service.as_deref()).collect();
            let mut trim = change.prepare_cached(
                "DELETE FROM event WHERE service = ?1 AND id <=
                    (SELECT id FROM event WHERE service = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )?;
            for service in loud {
                trim.execute(params![service, EVENTS_OF_ONE as i64])?;
            }
            trim_all(&change, batch.events.len() as i64)?;
        }
    }
    history::write(&change, &batch.past)?;
    change.commit()
}

/// All events are counted only once in so many.
const COUNTED_EACH: i64 = 256;

/// Of all together the oldest go.
fn trim_all(change: &Transaction, written: i64) -> rusqlite::Result<()> {
    let last = change.last_insert_rowid();
    if last / COUNTED_EACH == (last - written) / COUNTED_EACH {
        return Ok(());
    }
    let surplus = "DELETE FROM event WHERE id IN
        (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY service ORDER BY id DESC) AS newer FROM event)
         WHERE newer > ?2 ORDER BY id LIMIT max(0, (SELECT count(*) FROM event) - ?1))";
    change.prepare_cached(surplus)?.execute([EVENTS_MAX as i64, EVENTS_FLOOR as i64])?;
    change.prepare_cached(surplus)?.execute([2 * EVENTS_MAX as i64, 0])?;
    Ok(())
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("memories and events are plain values")
}

pub(super) fn read_events(
    db: &Connection,
    since: Option<Timestamp>,
    service: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<Event>> {
    let mut query = db.prepare_cached(
        "SELECT json FROM event WHERE at >= ?1 AND (?2 IS NULL OR service = ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let since = since.map_or(i64::MIN, Timestamp::as_microsecond);
    let rows = query.query_map(params![since, service, limit.min(EVENTS_MAX) as i64], |row| row.get::<_, String>(0))?;
    let mut events = Vec::new();
    for json in rows {
        events.extend(serde_json::from_str::<Event>(&json?).ok());
    }
    events.reverse();
    Ok(events)
}

/// The runs of a job that are remembered with it.
pub(super) fn runs(db: &Connection, service: &str) -> rusqlite::Result<Vec<RunView>> {
    let mut query = db.prepare_cached("SELECT json FROM memory WHERE name = ?1")?;
    let json: Option<String> = query.query_row([service], |row| row.get(0)).optional()?;
    let memory = json.and_then(|json| serde_json::from_str::<Memory>(&json).ok());
    let runs = memory.and_then(|memory| memory.schedule).map(|schedule| schedule.runs).unwrap_or_default();
    Ok(runs.iter().map(RunMemory::view).collect())
}

/// What the last run left.
pub(super) fn find(db: &Connection, era: &str) -> rusqlite::Result<Found> {
    Ok(Found { loaded: load(db, era)?, accepted: load_accepted(db)? })
}

fn load(db: &Connection, era: &str) -> rusqlite::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut query = db.prepare("SELECT name, json, era FROM memory")?;
    let rows = query
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    for row in rows {
        let (name, json, of) = row?;
        if let (Ok(name), Ok(mut memory)) = (Name::parse(&name), serde_json::from_str::<Memory>(&json)) {
            // `plugd stop` holds until the host or the container restarts; so does `onLoss: Stop`.
            memory.stopped_by_operator &= of == era;
            memory.dependency_lost = memory.dependency_lost.filter(|_| of == era);
            loaded.memories.push((name, memory));
        }
    }
    let mut query = db.prepare("SELECT name, file FROM owner")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (name, file) = row?;
        if let Ok(name) = Name::parse(&name) {
            loaded.owners.insert(name, file);
        }
    }
    // A reader may meet a database that has no numbers yet.
    if history::is_there(db)? {
        loaded.counted = history::counted(db)?;
    }
    let mut query = db.prepare("SELECT script, stamp FROM claim")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (script, stamp) = row?;
        loaded.claims.insert(script, stamp);
    }
    Ok(loaded)
}

fn load_accepted(db: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut query = db.prepare("SELECT file, text FROM accepted")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.collect()
}

pub(super) fn accepted(db: &Connection, file: &str) -> rusqlite::Result<String> {
    db.query_row("SELECT text FROM accepted WHERE file = ?1", [file], |row| row.get(0))
}
