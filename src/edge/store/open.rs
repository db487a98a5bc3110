//! Opening the database, and what is done with one that cannot be used.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{FORGOTTEN, history, rows};
use crate::edge::{Identity, identity};

/// "plug": marks the file as ours.
const APPLICATION_ID: i32 = 0x706c_7567;
const SCHEMA_VERSION: i32 = 1;
/// Pages kept in memory. It is read once, at the start; what is written goes through few pages.
const CACHE_KIB: u32 = 256;

/// Why a database cannot be used as it stands.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it belongs to uid {0}")]
    Foreign(u32),
    #[error("it was not written by plugd")]
    NotOurs,
    #[error("it was written by a newer plugd (schema {0})")]
    Newer(i32),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Unusable {
    /// Whether a new file in its place would do better.
    fn is_the_files_fault(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch, Unknown};
        match self {
            Unusable::Foreign(_) | Unusable::NotOurs | Unusable::Newer(_) => true,
            Unusable::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase | TypeMismatch | Unknown)
            }
            Unusable::Sqlite(_) => true,
            Unusable::Io(_) => false,
        }
    }
}

/// Whether it tells of a file that no waiting mends.
pub(super) fn is_torn(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error, rusqlite::Error::SqliteFailure(error, _) if matches!(error.code, DatabaseCorrupt | NotADatabase))
}

/// How long a reader waits for the writer's batch.
const READER_WAITS: Duration = Duration::from_millis(200);

/// Somebody else's database, to be looked at.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(READER_WAITS)?;
    Ok(db)
}

/// A database that can be written.
pub(super) struct Opened {
    pub db: Connection,
    pub identity: Identity,
    /// What became of the one before.
    pub note: Option<String>,
    /// It held something, and that is gone.
    pub anew: bool,
}

/// Of the file that is at the path now, through links.
pub(super) fn found_at(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|found| identity(&found))
}

/// An error is a sentence for people.
pub(super) fn open_usable(path: &Path) -> Result<Opened, String> {
    let shown = path.display();
    let failed = |error: Unusable| format!("running without memory: {shown} cannot be used: {error}");
    let opened = |note: Option<String>| {
        let anew = note.is_some();
        move |(db, identity)| Opened { db, identity, note, anew }
    };
    // SQLite takes an empty file for a new one.
    let was_emptied = path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == 0);
    let emptied = was_emptied.then(|| format!("the memory was begun anew: {shown} was empty; {FORGOTTEN}"));
    let was_there = path.symlink_metadata().is_ok();
    let error = match open_one(path) {
        Ok(one) => return Ok(opened(emptied)(one)),
        Err(error) => error,
    };
    if !error.is_the_files_fault() {
        // Of a disk that was full nothing is left that would be taken for a memory that somebody has emptied.
        if !was_there && path.symlink_metadata().is_ok_and(|made| made.is_file() && made.len() == 0) {
            let _made_by_us = std::fs::remove_file(path);
        }
        return Err(failed(error));
    }
    let kept = move_aside(path)
        .map_err(|aside| format!("running without memory: {shown}: {error}, and it cannot be moved: {aside}"))?;
    let note = begun_anew(path, &error, FORGOTTEN, &kept);
    open_one(path).map(opened(Some(note))).map_err(failed)
}

/// A new one takes the place of one that cannot be used.
pub(super) fn begun_anew(path: &Path, why: &dyn fmt::Display, forgotten: &str, kept: &Path) -> String {
    let (shown, kept) = (path.display(), kept.display());
    format!("the memory was begun anew: {shown}: {why}; {forgotten}; the old one is kept as {kept}")
}

/// Why a file that was taken away is not there again.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMade {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Unusable(#[from] Unusable),
}

/// Copies everything that an open connection still sees into a file beside `path`, whose own file was removed
/// or replaced. It stays there until `put_back` has opened it in its place: there is no other copy.
pub(super) fn save(db: &Connection, path: &Path) -> Result<(), NotMade> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let part = beside(path, ".part");
    absent(std::fs::remove_file(&part))?;
    // SQLite takes an empty file for none; made here for its mode.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    db.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
    Ok(std::fs::rename(&part, beside(path, SAVED))?)
}

/// Whether a copy waits to be put back: another controller may have made it.
pub(super) fn is_saved(path: &Path) -> bool {
    beside(path, SAVED).symlink_metadata().is_ok()
}

/// Whether the place is there, and nothing in it that could hold a memory.
pub(super) fn is_absent(path: &Path) -> bool {
    let missing = |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    path.parent().is_some_and(Path::is_dir) && missing(path) && missing(&beside(path, SAVED))
}

/// Opens what was saved in the place of whatever lies at `path` now, which is put aside. Whoever had the file
/// that was there has closed it, for it takes its journals with it.
pub(super) fn put_back(path: &Path) -> Result<Opened, NotMade> {
    let copy = beside(path, SAVED);
    let (wanted, mut note) = (found_at(&copy), None);
    // It may be there already, since an earlier try.
    if found_at(path) != wanted {
        if path.symlink_metadata().is_ok() {
            let kept = move_aside(path)?;
            note = Some(format!("what lay at {} was not plugd's; it is kept as {}", path.display(), kept.display()));
        }
        for journal in JOURNALS {
            absent(std::fs::remove_file(beside(path, journal)))?;
        }
        // Some file systems know one name a file.
        std::fs::hard_link(&copy, path).or_else(|_| std::fs::rename(&copy, path))?;
    }
    let (db, opened) = open_one(path)?;
    if Some(opened) != wanted {
        return Err(replaced().into());
    }
    absent(std::fs::remove_file(&copy))?;
    Ok(Opened { db, identity: opened, note, anew: false })
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn replaced() -> io::Error {
    io::Error::other("it was replaced while it was opened")
}

/// What lies at the path, if it may be ours.
fn look_at(path: &Path) -> Result<Option<std::fs::Metadata>, Unusable> {
    let ours = rustix::process::geteuid().as_raw();
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(Unusable::NotOurs),
        Ok(found) if found.uid() != ours && found.uid() != 0 => Err(Unusable::Foreign(found.uid())),
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One that cannot be written (the disk is full or read-only), to be read as the last run left it.
pub(super) fn readable(path: &Path) -> Result<(Connection, Identity), Unusable> {
    let found = look_at(path)?.ok_or(Unusable::Io(io::ErrorKind::NotFound.into()))?;
    let wal = std::fs::metadata(beside(path, "-wal")).map_or(0, |wal| wal.len());
    let opened = read_only(path).map_err(Unusable::from).and_then(|db| is_marked(&db).map(|_| db));
    let db = match opened {
        // Its index of the journal cannot be made, and no journal is needed.
        Err(Unusable::Sqlite(_)) if wal == 0 => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
            let db = Connection::open_with_flags(unchanging(path), flags)?;
            is_marked(&db).map(|_| db)?
        }
        opened => opened?,
    };
    Ok((db, still(path, &found)?))
}

/// Whoever replaced it meanwhile may have done so before or after SQLite opened it.
fn still(path: &Path, found: &std::fs::Metadata) -> Result<Identity, Unusable> {
    found_at(path).filter(|now| *now == identity(found)).ok_or_else(|| replaced().into())
}

/// A file that nobody writes, as an address of SQLite's (sqlite.org/uri.html).
fn unchanging(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(byte);
    let escaped = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") };
    format!("file:{}?immutable=1", path.as_os_str().as_bytes().iter().map(escaped).collect::<String>())
}

/// Whether it is marked as ours and of this version; an error for one that is somebody else's, or newer.
fn is_marked(db: &Connection) -> Result<bool, Unusable> {
    let number = |pragma: &str| db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i32>(0));
    let tables: i32 = db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    let (id, version) = (number("application_id")?, number("user_version")?);
    if tables > 0 && id != APPLICATION_ID {
        return Err(Unusable::NotOurs);
    }
    if version > SCHEMA_VERSION {
        return Err(Unusable::Newer(version));
    }
    Ok(id == APPLICATION_ID && version == SCHEMA_VERSION)
}

fn open_one(path: &Path) -> Result<(Connection, Identity), Unusable> {
    look_at(path)?;
    // Manifests hold values that are nobody else's business; the journals take the mode of the file.
    // Closed again before SQLite opens it: closing it later would take SQLite's locks along (fcntl(2)).
    let found = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?.metadata()?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(2))?;
    let marked = is_marked(&db)?;
    // WAL may be refused (no shared memory on some network filesystems): the rollback journal does.
    db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    db.execute_batch(&format!("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{CACHE_KIB};"))?;
    // On a full disk what is there can be opened, as long as nothing is written.
    if !marked {
        let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};");
        db.execute_batch(&marks)?;
    }
    db.execute_batch(&format!("{}{}", rows::SCHEMA, history::SCHEMA))?;
    Ok((db, still(path, &found)?))
}

/// Renames the database and its journals to the first free `NAME.broken-N`.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    // A hundred broken databases tell of something else that is broken: the last is overwritten.
    let kept = (1..100).map(|n| beside(path, &format!(".broken-{n}"))).find(|kept| kept.symlink_metadata().is_err());
    let kept = kept.unwrap_or_else(|| beside(path, ".broken-100"));
    std::fs::rename(path, &kept)?;
    for journal in JOURNALS {
        // Most often there is none.
        std::fs::rename(beside(path, journal), beside(&kept, journal)).ok();
    }
    Ok(kept)
}

/// Where a copy waits until it is in its place.
const SAVED: &str = ".new";
const JOURNALS: [&str; 3] = ["-wal", "-shm", "-journal"];

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// The boot of this machine and, in a container, of the container: boot id, pid namespace and the
/// start time of its first process (the number of a namespace is used again).
pub fn era() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let first = std::fs::read_to_string("/proc/1/stat").unwrap_or_default();
    // Field 22 of stat; the command (field 2) may hold anything, so count from its closing bracket.
    let start = first.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)).unwrap_or_default();
    format!("{} {} {start}", boot.trim(), space.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that `db` knows is in one place at every moment, whoever replaces the file at whichever.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the file is what is tested")]
    fn what_was_saved_is_put_back_however_often_the_file_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state.db");
        let value = |db: &Connection| db.query_row("SELECT value FROM mark", [], |row| row.get::<_, i32>(0));
        let Opened { db, .. } = open_usable(&path).expect("opened");
        db.execute_batch("CREATE TABLE mark (value INT); INSERT INTO mark VALUES (42)").expect("written");
        std::fs::remove_file(&path).expect("removed");
        save(&db, &path).expect("saved");
        drop(db);
        assert!(is_saved(&path));

        std::fs::write(&path, "not a database").expect("replaced");
        let Opened { db, note, .. } = put_back(&path).expect("put back");
        assert_eq!(value(&db), Ok(42));
        assert!(note.is_some_and(|note| note.contains("state.db.broken-1")));
        assert!(!is_saved(&path));

        // Replaced once more before it was opened: the copy is there still.
        save(&db, &path).expect("saved");
        drop(db);
        std::fs::remove_file(&path).expect("removed");
        std::fs::hard_link(beside(&path, SAVED), &path).expect("a first try came so far");
        let Opened { db, note, .. } = put_back(&path).expect("put back");
        assert_eq!((value(&db), note), (Ok(42), None));
    }
}
