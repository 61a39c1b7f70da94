//! Logs that begin with a snapshot instead of event 1: those of replicas that were begun so.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Log, Position, StoreError, SystemClock,
    memory::MemoryLog,
    sqlite::{Head, SqliteLog, write_head},
};
use tasklog_projections::{
    PROJECTED,
    sqlite::{SqliteView, Wanted, begin_loading, create_shadow, drop_shadow, end_loading, index_shadow, swap_shadow},
};
use tasklog_replay::{
    follow::Beginning,
    snapshot::{Snapshot, Snapshots},
};

use super::{Following, ReadSide, TaskStore, snapshots};
use crate::rejection::Error;

/// The snapshot that a log begins with, where it is kept.
///
/// # Errors
/// `unavailable`, saying why it cannot be used and what to do; the log's.
pub(crate) fn snapshot_of(kept: &Snapshots, log: &dyn Log, at: &Checkpoint) -> Result<Snapshot, StoreError> {
    kept.beginning(log, at)?.map_err(|why| unusable(at.position, &why))
}

pub(super) fn unusable(position: Position, why: &str) -> StoreError {
    StoreError::unavailable(format!(
        "this replica began with the snapshot of event {position}, which cannot be used: {why}: begin the replica again, in a \
         new file, with a snapshot of the source"
    ))
}

/// What a log in a file begins with.
pub(super) struct InFile<'f> {
    pub(super) path: &'f Path,
    pub(super) conn: &'f Connection,
    pub(super) at: Checkpoint,
}

impl Beginning for InFile<'_> {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let log = SqliteLog::new(self.conn, Arc::new(SystemClock));
        snapshot_of(&snapshots::of_file(self.path, []), &log, &self.at)
    }
}

/// What a log in memory begins with.
pub(crate) struct InMemory {
    pub(crate) snapshots: Snapshots,
    pub(crate) log: MemoryLog,
    pub(crate) at: Checkpoint,
}

impl Beginning for InMemory {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        snapshot_of(&self.snapshots, &self.log, &self.at)
    }
}

/// Makes an empty file one whose log begins after a snapshot and whose tables have its rows. Rows are written to shadows, in
/// transactions of a bounded size; one transaction puts them in the place of the tables and says where the log begins.
/// Killed before that, it is an empty file that has shadows, and the next one throws them away.
pub(super) fn begin_file(
    conn: &Connection,
    snapshot: &Snapshot,
    go_on: &mut dyn FnMut(u64) -> Result<(), StoreError>,
) -> Result<Checkpoint, StoreError> {
    let at = *snapshot.checkpoint();
    let (start, wanted) = (Checkpoint::start(at.log), Wanted { tables: &PROJECTED, passing_over: &[] });
    create_shadow(conn, &wanted, &start, false)?;
    begin_loading(conn)?;
    snapshot.load_while(&PROJECTED, &mut SqliteView::scratch(conn, start), go_on)?;
    end_loading(conn, &at)?;
    index_shadow(conn, &PROJECTED)?;
    let transaction = tasklog_log::sqlite::connection::begin(conn)?;
    SqliteLog::new(conn, Arc::new(SystemClock)).begin_after(&at)?;
    swap_shadow(conn, &PROJECTED)?;
    write_head(conn, Head::Tables, &at)?;
    Following::note_snapshot(conn, at.position)?;
    transaction.commit()?;
    drop_shadow(conn)?;
    Ok(at)
}

impl TaskStore {
    /// The commit after which the store's log begins, if it is a replica that began with a snapshot; none for a log that has
    /// its first event or was trimmed.
    ///
    /// # Errors
    /// The store's.
    pub fn beginning(&self) -> Result<Option<Checkpoint>, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => pool.with(|conn| Ok(SqliteLog::new(conn, Arc::new(SystemClock)).beginning()?)),
            ReadSide::Memory(backend) => Ok(backend.log.beginning()),
            ReadSide::Redis(_) => Ok(None),
            ReadSide::At(read) => Self { inner: Arc::clone(read.origin()) }.beginning(),
        }
    }

    /// Refuses what needs all of the log, if it begins with a snapshot and what was before can be read nowhere.
    pub(crate) fn require_first_event(&self, doing: &str) -> Result<(), Error> {
        let Some(at) = self.beginning()? else { return Ok(()) };
        let first = self.read(|log, _| Ok(log.first()?))?;
        if first <= Position(1) {
            return Ok(());
        }
        Err(StoreError::unavailable(format!(
            "{doing} needs the whole log: this replica began with the snapshot of event {}, so that its log begins at event \
             {first}: ask its source",
            at.position
        ))
        .into())
    }
}
