//! Fresh tables in a temporary file, for replays that are compared with live tables and then thrown away.

use std::sync::Arc;

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Log, StoreError, SystemClock,
    sqlite::{SqliteLog, connection, connection::Access},
};
use tasklog_projections::{
    PROJECTED,
    sqlite::{SqliteView, Wanted, create_shadow, create_tables},
};

/// The file; it goes with this value.
pub(super) struct Scratch {
    conn: Connection,
    _folder: tempfile::TempDir,
}

impl Scratch {
    /// Empty tables.
    ///
    /// # Errors
    /// `unavailable` if no temporary file can be made.
    pub(super) fn new() -> Result<Self, StoreError> {
        let folder = tempfile::Builder::new()
            .prefix("tasklog-verify-")
            .tempdir()
            .map_err(|error| StoreError::unavailable_because("making a temporary folder", error))?;
        let conn = connection::open(&folder.path().join("fresh.db"), Access::Write)?;
        // Nobody needs the scratch file after a crash.
        conn.pragma_update(None, "synchronous", 0)?;
        SqliteLog::create(&conn)?;
        create_tables(&conn, 1)?;
        create_tables(&conn, 2)?;
        shadows(&conn)?;
        Ok(Self { conn, _folder: folder })
    }

    /// Throws away what is in the tables.
    ///
    /// # Errors
    /// `unavailable`.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        shadows(&self.conn)
    }

    /// The tables, at the start of `log`.
    ///
    /// # Errors
    /// The log's.
    pub(super) fn view(&self, log: &dyn Log) -> Result<SqliteView<'_>, StoreError> {
        Ok(SqliteView::scratch(&self.conn, Checkpoint::start(log.info()?)))
    }
}

fn shadows(conn: &Connection) -> Result<(), StoreError> {
    let start = Checkpoint::start(SqliteLog::new(conn, Arc::new(SystemClock)).info()?);
    create_shadow(conn, &Wanted { tables: &PROJECTED, passing_over: &[] }, &start, false)
}
