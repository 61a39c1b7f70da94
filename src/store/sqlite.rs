//! How an SQLite store is opened: locked, migrated, checked against its checkpoint, and repaired from its log.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Clock, Commit, Position, StoreError, read_checked_but,
    sqlite::{Head, SqliteLog, connection, connection::Access as FileAccess, read_head},
};
use tasklog_projections::{
    PROJECTED, TableDef,
    sqlite::{Built, SqliteView, create_helpers, read_built, table_exists, write_built},
};

use super::{
    Access, Following, OpenOptions, Recording, archive, check,
    lock::WriterLock,
    migrate,
    pool::Pool,
    rebuild::{Begin, rebuild_alone},
};

/// Pages read ahead of the fold.
const PAGES_AHEAD: usize = 4;

/// A file that is ready to be written to.
pub(super) struct Prepared {
    pub(super) conn: Connection,
    pub(super) lock: WriterLock,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recording: Option<Recording>,
}

/// The path that names a file for this process.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error| StoreError::unavailable_because(format!("finding {}", path.display()), error);
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    // The file is not there yet: its folder has the name it will have then.
    let path = std::path::absolute(path).map_err(failed)?;
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => Ok(folder.join(name)),
        _ => Ok(path),
    }
}

/// Whether the file is there and marked as not to be written to.
pub(super) fn cannot_write(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.permissions().readonly())
}

pub(super) fn prepare(path: &Path, options: &OpenOptions) -> Result<Prepared, StoreError> {
    let lock = WriterLock::take(path)?;
    let conn = connection::open(path, FileAccess::Write)?;
    let recording = options.recording_from.map(|from| Recording { from });
    migrate::migrate(&conn, recording).map_err(|error| of_file(path, error))?;
    let recording = Recording::read(&conn)?;
    let stale = stale_tables(&conn)?;
    if !stale.is_empty() {
        let names: Vec<_> = stale.iter().map(|table| table.name).collect();
        tracing::info!(tables = names.join(", "), "rebuilding from the log");
        note_missing(&conn, &stale)?;
        rebuild_alone(path, &conn, &stale, Begin::WithSnapshot, &mut |_| {})?;
    }
    check_heads(&conn)?;
    let clock = Recording::clock(recording, &options.clock);
    Ok(Prepared { conn, lock, clock, recording })
}

/// Refuses to open a replica's file for commands.
pub(super) fn refuse_replica(path: &Path) -> Result<(), StoreError> {
    let Some(Following { source, since, .. }) = replica_of(path)? else { return Ok(()) };
    let since = jiff::Timestamp::from_millisecond(since).map_or_else(|_| since.to_string(), |at| format!("{at:.0}"));
    Err(StoreError::ReadOnly(format!(
        "{} is a replica of {source} since {since}: send commands there, or open it for reading",
        path.display()
    )))
}

/// What a file follows; none if it is not there or no replica.
pub(crate) fn replica_of(path: &Path) -> Result<Option<Following>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    // A file that cannot be read here is refused by whoever opens it for writing, which says more.
    let Ok(conn) = connection::open(path, FileAccess::Read) else { return Ok(None) };
    Following::read(&conn)
}

pub(super) fn of_file(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt { position: None, why } => StoreError::corrupt_store(format!("{}: {why}", path.display())),
        other => other,
    }
}

/// The tables and the log in one file always agree; if they do not, somebody else has been at work.
fn check_heads(conn: &Connection) -> Result<(), StoreError> {
    let log = head(conn, Head::Log)?;
    let tables = head(conn, Head::Tables)?;
    if log == tables {
        // Its instant would go into the log with the next commit, and no later one could be below it.
        let found = SqliteLog::new(conn, Arc::new(tasklog_log::SystemClock));
        return match check::mismatch(conn, &found, &log)? {
            Some(why) => Err(StoreError::corrupt_store(format!("the head of the log: {why}"))),
            None => Ok(()),
        };
    }
    Err(StoreError::Diverged { checkpoint: Box::new(tables), log: Box::new(log) })
}

pub(super) fn head(conn: &Connection, which: Head) -> Result<Checkpoint, StoreError> {
    read_head(conn, which)?.ok_or_else(|| StoreError::corrupt_store(format!("table _heads has no row for {which:?}")))
}

/// The tables that are gone, or that an older projection built.
///
/// # Errors
/// `schema_ahead` if a newer projection built one.
fn stale_tables(conn: &Connection) -> Result<Vec<&'static TableDef>, StoreError> {
    let mut stale = Vec::new();
    for table in PROJECTED {
        let built = read_built(conn, table)?;
        let known = table.projection_version;
        match built {
            Some(built) if built.version > known => {
                let what = format!("projection {}", table.name);
                return Err(StoreError::SchemaAhead { what, found: built.version, known });
            }
            Some(built) if built.version == known && table_exists(conn, table.name)? => {}
            _ => stale.push(table),
        }
    }
    Ok(stale)
}

/// Tables that somebody dropped are noted as built by no version, until the rebuild has made them anew.
fn note_missing(conn: &Connection, stale: &[&'static TableDef]) -> Result<(), StoreError> {
    let transaction = connection::begin(conn)?;
    create_helpers(conn)?;
    for table in stale {
        if !table_exists(conn, table.name)? {
            let generation = read_built(conn, table)?.map_or(0, |built| built.generation);
            write_built(conn, table, Built { version: 0, generation })?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A file as a reader finds it.
pub(super) enum Readable {
    /// Its tables are what this program expects.
    Ready(Pool, Option<Recording>),
    /// It must be opened for writing once, which migrates or rebuilds; why.
    Unready(String),
}

pub(super) fn open_for_reading(path: &Path, options: &OpenOptions) -> Result<Readable, StoreError> {
    if !path.exists() {
        return Err(StoreError::unavailable(format!("no store at {}: a command creates it", path.display())));
    }
    // Whoever only reads must not make a new store of one that was lost.
    let nothing = |what| Err(StoreError::unavailable(format!("no store at {}: {what}", path.display())));
    if path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        return nothing("the file is empty");
    }
    let (conn, access) = match connection::open(path, FileAccess::Read) {
        Ok(conn) => (conn, FileAccess::Read),
        // In WAL mode even a reader needs a side file; where none can be made and none is left, the file is all there is.
        Err(StoreError::Unavailable { .. } | StoreError::ReadOnly(_)) if wal_is_empty(path) => {
            (connection::open(path, FileAccess::Immutable)?, FileAccess::Immutable)
        }
        Err(error) => return Err(error),
    };
    let found = migrate::applied(&conn).map_err(|error| of_file(path, error))?;
    migrate::check(found)?;
    let Some(found) = found else { return nothing("the file is a database without tables") };
    if options.access == Access::Look {
        let recording = if table_exists(&conn, "_settings")? { Recording::read(&conn)? } else { None };
        return Ok(Readable::Ready(Pool::new(path, access, Recording::clock(recording, &options.clock)), recording));
    }
    if found != migrate::SCHEMA_VERSION {
        let known = migrate::SCHEMA_VERSION;
        return Ok(Readable::Unready(format!("schema version {found} is to be brought to {known}")));
    }
    if let Some(table) = stale_tables(&conn)?.first() {
        return Ok(Readable::Unready(format!("table {} is to be rebuilt", table.name)));
    }
    let recording = Recording::read(&conn)?;
    let clock = Recording::clock(recording, &options.clock);
    Ok(Readable::Ready(Pool::new(path, access, clock), recording))
}

fn wal_is_empty(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(PathBuf::from(wal)).map_or(true, |metadata| metadata.len() == 0)
}

/// Pages of the log after `after` and up to `until`, each of about `limit` events, read and checked ahead on a thread and a
/// connection of their own; those that are passed over, ascending, are not checked.
pub(crate) fn pages(
    path: &Path,
    after: Position,
    until: Position,
    limit: usize,
    passing_over: &[Position],
) -> Result<impl Iterator<Item = Result<Vec<Commit>, StoreError>> + use<>, StoreError> {
    let passing_over = passing_over.to_vec();
    let conn = connection::open(path, FileAccess::Read)?;
    let (sender, receiver) = sync_channel(PAGES_AHEAD);
    let read = move || {
        let log = SqliteLog::new(&conn, Arc::new(tasklog_log::SystemClock));
        archive::joined(&log, &SqliteView::live(&conn), |log| {
            let mut after = after;
            while after < until {
                let mut page = read_checked_but(log, after, limit, &|at| passing_over.binary_search(&at).is_ok());
                if let Ok(page) = &mut page {
                    page.retain(|commit| commit.last() <= until);
                }
                let ended = page.as_ref().map_or(true, Vec::is_empty);
                if let Some(last) = page.as_ref().ok().and_then(|page| page.last()) {
                    after = last.last();
                }
                // Whoever folds may have stopped.
                if sender.send(page).is_err() || ended {
                    return;
                }
            }
        });
    };
    thread::Builder::new()
        .name("tasklog-read-ahead".into())
        .spawn(read)
        .map_err(|error| StoreError::unavailable_because("starting a reader thread", error))?;
    Ok(Ahead(receiver))
}

struct Ahead(Receiver<Result<Vec<Commit>, StoreError>>);

impl Iterator for Ahead {
    type Item = Result<Vec<Commit>, StoreError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().ok()
    }
}

/// Events in a page of a verification.
pub(super) const VERIFY_PAGE_EVENTS: usize = 4_000;
