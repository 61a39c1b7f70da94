//! The schema ledger: table `schema_versions`, one row per version that was applied, never taken back.

use rusqlite::{Connection, params};
use tasklog_log::{
    Clock, Log, StoreError, SystemClock,
    sqlite::{Head, SqliteLog, connection, read_head, write_head},
};
use tasklog_projections::sqlite::{create_tables, table_exists};

use super::recording::{self, Recording};

/// A step of the schema.
struct Migration {
    version: u32,
    apply: fn(&Connection) -> Result<(), StoreError>,
}

/// In ascending order; a version is applied once and never changed afterwards.
const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, apply: first_tables },
    Migration { version: 2, apply: further_tables },
    Migration { version: 3, apply: nothing },
];

/// The newest version this program knows.
pub(super) const SCHEMA_VERSION: u32 = 3;
const _: () = assert!(MIGRATIONS[MIGRATIONS.len() - 1].version == SCHEMA_VERSION);

/// The log, and tables 1 to 7.
fn first_tables(conn: &Connection) -> Result<(), StoreError> {
    SqliteLog::create(conn)?;
    recording::create(conn)?;
    create_tables(conn, 1)?;
    if read_head(conn, Head::Tables)?.is_none() {
        let info = SqliteLog::new(conn, std::sync::Arc::new(SystemClock)).info()?;
        write_head(conn, Head::Tables, &tasklog_log::Checkpoint::start(info))?;
    }
    Ok(())
}

/// Tables 8 to 14.
fn further_tables(conn: &Connection) -> Result<(), StoreError> {
    create_tables(conn, 2).map(drop)
}

/// Version 3 is recorded only: the fields it stands for are in the tables from the start.
fn nothing(_conn: &Connection) -> Result<(), StoreError> {
    Ok(())
}

/// The newest version applied to a store; none if it is no store yet.
///
/// # Errors
/// `unavailable`; `corrupt` for a file that holds something else.
pub(super) fn applied(conn: &Connection) -> Result<Option<u32>, StoreError> {
    if !table_exists(conn, "schema_versions")? {
        let others: i64 =
            conn.query_row("SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'", [], |row| row.get(0))?;
        if others > 0 {
            return Err(StoreError::corrupt_store(
                "the file is a database of something else: it has tables, and none is schema_versions",
            ));
        }
        return Ok(None);
    }
    Ok(conn.query_row("SELECT max(version) FROM schema_versions", [], |row| row.get(0))?)
}

/// Refuses a store that is newer than this program.
///
/// # Errors
/// `schema_ahead`
pub(super) fn check(found: Option<u32>) -> Result<(), StoreError> {
    match found {
        Some(found) if found > SCHEMA_VERSION => {
            Err(StoreError::SchemaAhead { what: "schema".into(), found, known: SCHEMA_VERSION })
        }
        _ => Ok(()),
    }
}

/// Applies the versions that are missing, each in one transaction with its row in the ledger. A store that is created
/// keeps the time of `recording`, if there is one.
///
/// # Errors
/// `schema_ahead`, `unavailable`, `read_only`.
pub(super) fn migrate(conn: &Connection, recording: Option<Recording>) -> Result<(), StoreError> {
    loop {
        let found = applied(conn)?;
        check(found)?;
        let next = MIGRATIONS.iter().find(|migration| found.is_none_or(|found| migration.version > found));
        let Some(Migration { version, apply }) = next else { return Ok(()) };
        let transaction = connection::begin(conn)?;
        // Another process may have been faster; then the ledger says so, now that nobody else can write.
        if applied(conn)? != found {
            continue;
        }
        conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_versions (
               version    INTEGER PRIMARY KEY,
               applied_at INTEGER NOT NULL
             ) STRICT;",
        )?;
        apply(conn)?;
        if let (None, Some(recording)) = (found, recording) {
            // In the transaction that makes it a store: after a crash there is none, or one that knows its clock.
            recording.write(conn)?;
        }
        conn.execute(
            "INSERT INTO schema_versions (version, applied_at) VALUES (?1, ?2)",
            params![version, SystemClock.now()],
        )?;
        transaction.commit()?;
    }
}
