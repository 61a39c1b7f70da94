//! Fresh tables in a temporary file: for replays that are compared with live tables, and for looking at earlier moments.

use std::{cell::OnceCell, sync::Arc};

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Log, ManualClock, Millis, Position, StoreError, SystemClock,
    sqlite::{Head, SqliteLog, connection, connection::Access, write_head},
};
use tasklog_projections::{
    AnyRow, Held, PROJECTED, RowChange, Scan, TableDef, View,
    sqlite::{SqliteView, Wanted, create_shadow, create_tables, drop_shadow, index_shadow, swap_shadow},
};
use tasklog_replay::{Moment, as_of::bury_dead};

use super::{migrate, pool::Pool};
use crate::private::private_folder;

/// The file; it goes with this value. On Unix it has no name any more once it is open: whatever becomes of the process, nothing of it
/// is left.
pub(super) struct Scratch {
    conn: Connection,
    _folder: Option<tempfile::TempDir>,
}

fn folder(prefix: &str) -> Result<tempfile::TempDir, StoreError> {
    private_folder(prefix, None).map_err(|error| {
        let place = std::env::temp_dir();
        let doing = format!("making a temporary folder in {} (TMPDIR names another place)", place.display());
        StoreError::unavailable_because(doing, error)
    })
}

impl Scratch {
    /// Empty tables.
    ///
    /// # Errors
    /// `unavailable` if no temporary file can be made.
    pub(super) fn new() -> Result<Self, StoreError> {
        let folder = folder("tasklog-verify-")?;
        let conn = connection::open(&folder.path().join("fresh.db"), Access::Write)?;
        // Nobody needs the scratch file after a crash.
        conn.pragma_update(None, "synchronous", 0)?;
        SqliteLog::create(&conn)?;
        create_tables(&conn, 1)?;
        create_tables(&conn, 2)?;
        shadows(&conn)?;
        // All of its files are open: the connection writes ahead, and has written.
        let _folder = (!cfg!(unix)).then_some(folder);
        Ok(Self { conn, _folder })
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

/// Tables in a file that is made when it is needed. Until then they are empty.
#[derive(Default)]
pub(super) struct LazyScratch(OnceCell<Scratch>);

impl LazyScratch {
    fn made(&self) -> Result<&Scratch, StoreError> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let made = Scratch::new()?;
        Ok(self.0.get_or_init(|| made))
    }

    /// Throws away what is in the tables.
    ///
    /// # Errors
    /// `unavailable`.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.0.get().map_or(Ok(()), Scratch::clear)
    }

    /// The tables, at the start of `log`.
    ///
    /// # Errors
    /// The log's.
    pub(super) fn view(&self, log: &dyn Log) -> Result<LazyView<'_>, StoreError> {
        Ok(LazyView { scratch: self, start: Checkpoint::start(log.info()?), view: OnceCell::new() })
    }
}

/// A view of them.
pub(super) struct LazyView<'s> {
    scratch: &'s LazyScratch,
    start: Checkpoint,
    view: OnceCell<SqliteView<'s>>,
}

impl<'s> LazyView<'s> {
    /// The view of the file.
    ///
    /// # Errors
    /// `unavailable` if no temporary file can be made.
    pub(super) fn made(&self) -> Result<&SqliteView<'s>, StoreError> {
        if let Some(made) = self.view.get() {
            return Ok(made);
        }
        let made = SqliteView::scratch(&self.scratch.made()?.conn, self.start);
        Ok(self.view.get_or_init(|| made))
    }

    fn made_mut(&mut self) -> Result<&mut SqliteView<'s>, StoreError> {
        self.made()?;
        self.view.get_mut().ok_or_else(|| StoreError::unavailable("the scratch file is gone"))
    }
}

impl View for LazyView<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        self.made()?.get(table, key)
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        self.made()?.tombstone(table, key)
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.made()?.any_tombstone(table)
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        self.made()?.scan(table, scan)
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.made()?.count(table, scan)
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.view.get().map_or(Ok(self.start), View::checkpoint)
    }

    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        self.made_mut()?.write(changes)
    }

    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        self.made_mut()?.apply(changes, from, to)
    }

    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        self.made_mut()?.sweep(table, now, tombstones_before, limit)
    }
}

fn shadows(conn: &Connection) -> Result<(), StoreError> {
    let start = Checkpoint::start(SqliteLog::new(conn, Arc::new(SystemClock)).info()?);
    create_shadow(conn, &Wanted { tables: &PROJECTED, passing_over: &[] }, &start, false)
}

/// The tables of another store as they were at a moment, in a file of their own that goes with this value.
pub(super) struct ScratchStore {
    // Before the folder: its connections are closed first.
    pool: Pool,
    _folder: tempfile::TempDir,
}

impl ScratchStore {
    /// `fill` folds the log through `moment` into fresh tables. They get their own names, and lose the rows that had
    /// died by then.
    ///
    /// # Errors
    /// `fill`'s; `unavailable` if no temporary file can be made.
    pub(super) fn make(
        moment: &Moment,
        fill: impl FnOnce(&mut SqliteView<'_>) -> Result<bool, StoreError>,
    ) -> Result<Self, StoreError> {
        let folder = folder("tasklog-at-")?;
        let path = folder.path().join("past.db");
        let conn = connection::open(&path, Access::Write)?;
        // Nobody needs the scratch file after a crash.
        conn.pragma_update(None, "synchronous", 0)?;
        migrate::migrate(&conn, None)?;
        let start = Checkpoint::start(moment.at.log);
        create_shadow(&conn, &Wanted { tables: &PROJECTED, passing_over: &[] }, &start, false)?;
        fill(&mut SqliteView::scratch(&conn, start))?;
        index_shadow(&conn, &PROJECTED)?;
        let transaction = connection::begin(&conn)?;
        swap_shadow(&conn, &PROJECTED)?;
        // The events stay where they are: an empty table would say that there were none.
        conn.execute_batch("DROP TABLE events")?;
        write_head(&conn, Head::Log, &moment.at)?;
        write_head(&conn, Head::Tables, &moment.at)?;
        transaction.commit()?;
        drop_shadow(&conn)?;
        bury_dead(&PROJECTED, &mut SqliteView::live(&conn), moment.now)?;
        drop(conn);
        let clock = Arc::new(ManualClock::at(moment.now));
        Ok(Self { pool: Pool::new(&path, Access::Read, clock), _folder: folder })
    }

    /// Lends a read-only connection.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.lend(look)
    }

    /// Opens a read-only connection that is nobody else's.
    pub(super) fn open(&self) -> Result<Connection, StoreError> {
        self.pool.open()
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_may_look_into_a_temporary_folder() {
        let folder = folder("tasklog-test-").unwrap();
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn fresh_tables_have_no_name_that_a_killed_process_could_leave() {
        let scratch = Scratch::new().unwrap();
        let path: String =
            scratch.conn.query_row("SELECT file FROM pragma_database_list", [], |row| row.get(0)).unwrap();
        assert!(path.contains("tasklog-verify-") && !std::path::Path::new(&path).parent().unwrap().exists(), "{path}");
        // It is written to and read from all the same, also beyond what memory holds of it.
        let fill = "CREATE TABLE t (x TEXT);
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                    INSERT INTO t SELECT hex(randomblob(1000)) FROM n";
        scratch.conn.execute_batch(fill).unwrap();
        let bytes: i64 = scratch.conn.query_row("SELECT sum(length(x)) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(bytes, 40_000_000);
    }
}
