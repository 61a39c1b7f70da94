use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use tasklog_log::{Clock, ManualClock, Millis, StoreError};

/// The instant that offset 0 of a recording stands for: 2026-01-01T00:00:00Z, the same on every machine, so that a
/// recording gives the same rows everywhere.
pub const RECORDING_FROM: Millis = 1_767_225_600_000;

/// The time of a recording: a store created for one takes the instants that its commands bring, as offsets from the
/// recording's start, instead of the process clock. Between commands its time stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// ms: the instant that offset 0 stands for.
    pub from: Millis,
}

const KEY: &str = "recording_from";

/// Creates the table of the store's own settings. Joins an open transaction.
pub(super) fn create(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS _settings (
           name  TEXT    PRIMARY KEY,
           value INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
    )?;
    Ok(())
}

impl Recording {
    pub(super) fn write(self, conn: &Connection) -> Result<(), StoreError> {
        conn.execute("INSERT OR REPLACE INTO _settings (name, value) VALUES (?1, ?2)", (KEY, self.from))?;
        Ok(())
    }

    pub(crate) fn read(conn: &Connection) -> Result<Option<Self>, StoreError> {
        let from = conn.query_row("SELECT value FROM _settings WHERE name = ?1", [KEY], |row| row.get(0)).optional()?;
        Ok(from.map(|from| Self { from }))
    }

    /// The clock of a store that keeps a recording's time: it stands at the log's head.
    pub(super) fn clock(recording: Option<Self>, otherwise: &Arc<dyn Clock>) -> Arc<dyn Clock> {
        match recording {
            Some(Self { from }) => Arc::new(ManualClock::at(from)),
            None => Arc::clone(otherwise),
        }
    }
}
