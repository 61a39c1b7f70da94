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
        let start = Checkpoint::start(SqliteLog::new(&conn, Arc::new(SystemClock)).info()?);
        let wanted = Wanted { tables: &PROJECTED, passing_over: &[] };
        create_shadow(&conn, &wanted, &start, false)?;
        Ok(Self { conn, _folder: folder })
    }

    /// The tables, at the start of `log`.
    ///
    /// # Errors
    /// The log's.
    pub(super) fn view(&self, log: &dyn Log) -> Result<SqliteView<'_>, StoreError> {
        Ok(SqliteView::scratch(&self.conn, Checkpoint::start(log.info()?)))
    }
}
