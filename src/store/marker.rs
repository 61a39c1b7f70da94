use rusqlite::{Connection, OptionalExtension, params};
use tasklog_log::{Clock, Millis, StoreError, SystemClock};
use tasklog_projections::sqlite::table_exists;

/// What a replica follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The source's URL, without secrets.
    pub source: String,
    /// ms: since when.
    pub since: Millis,
}

impl Following {
    /// The mark of a file; none if it is a store of its own.
    pub(crate) fn read(conn: &Connection) -> Result<Option<Self>, StoreError> {
        if !table_exists(conn, "_replica")? {
            return Ok(None);
        }
        let mut select = conn.prepare_cached("SELECT source, since FROM _replica")?;
        Ok(select.query_row([], |row| Ok(Self { source: row.get(0)?, since: row.get(1)? })).optional()?)
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
