use rusqlite::{Connection, OptionalExtension, params};
use tasklog_log::{Clock, Millis, Position, StoreError, SystemClock};
use tasklog_projections::sqlite::table_exists;

use super::report::FollowerReport;

/// The setting that says which snapshot rows came from.
const ROWS_FROM: &str = "rows_from_snapshot";

/// What a replica follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The source's URL, without secrets.
    pub source: String,
    /// ms: since when.
    pub since: Millis,
    /// What its follower last reported; none if it never did.
    pub report: Option<FollowerReport>,
}

impl Following {
    /// The mark of a file; none if it is a store of its own.
    pub(crate) fn read(conn: &Connection) -> Result<Option<Self>, StoreError> {
        if !table_exists(conn, "_replica")? {
            return Ok(None);
        }
        let mut select = conn.prepare_cached("SELECT source, since FROM _replica")?;
        let marked = select.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((source, since)) = marked else { return Ok(None) };
        Ok(Some(Self { source, since, report: FollowerReport::read(conn)? }))
    }

    /// Notes that rows of a replica's tables came from the snapshot at `position`, which has forgotten old short tombstones.
    /// Joins an open transaction; a store of its own has nothing to note.
    pub(super) fn note_snapshot(conn: &Connection, position: Position) -> Result<(), StoreError> {
        if position == Position::ZERO || Self::read(conn)?.is_none() {
            return Ok(());
        }
        conn.execute(
            "INSERT INTO _settings (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            params![ROWS_FROM, position.to_i64()],
        )?;
        Ok(())
    }

    /// The newest snapshot that rows of the tables came from; 0 if none did.
    pub(super) fn rows_from(conn: &Connection) -> Result<Position, StoreError> {
        let mut select = conn.prepare_cached("SELECT value FROM _settings WHERE name = ?1")?;
        let noted = select.query_row([ROWS_FROM], |row| row.get(0)).optional()?;
        Ok(noted.and_then(Position::from_i64).unwrap_or_default())
    }

    /// Marks a file as a replica of `source`. Joins an open transaction.
    pub(crate) fn write(conn: &Connection, source: &str) -> Result<(), StoreError> {
        conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS _replica (
               one    INTEGER PRIMARY KEY CHECK (one = 1),
               source TEXT    NOT NULL,
               since  INTEGER NOT NULL
             ) STRICT;",
        )?;
        // A source that moved is still the same log; the replica is as old as it was.
        conn.execute(
            "INSERT INTO _replica (one, source, since) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET source = excluded.source",
            params![source, SystemClock.now()],
        )?;
        Ok(())
    }
}
