use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Clock, CommitId, Event, Log, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
    sqlite::{ANSWERS_FORGOTTEN_MAX, SqliteLog, connection, connection::Access},
};
use tasklog_projections::{TableDef, View, sqlite::SqliteView};

use super::Backend;
use crate::{rows::Below, store::archive};

/// Log and tables in one SQLite file: an append and its projection are one transaction.
pub struct SqliteBackend {
    path: PathBuf,
    conn: Connection,
    clock: Arc<dyn Clock>,
    data_version: i64,
}

impl SqliteBackend {
    /// The writer's side of a file that is prepared.
    ///
    /// # Errors
    /// `unavailable`, `read_only` or `corrupt`.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let conn = connection::open(path, Access::Write)?;
        Self::on(path, conn, clock)
    }

    /// The writer's side, on a connection that is open already.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn on(path: &Path, conn: Connection, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let data_version = data_version(&conn)?;
        Ok(Self { path: path.into(), conn, clock, data_version })
    }

    fn log(&self) -> SqliteLog<'_> {
        SqliteLog::new(&self.conn, Arc::clone(&self.clock))
    }
}

fn data_version(conn: &Connection) -> Result<i64, StoreError> {
    let mut pragma = conn.prepare_cached("PRAGMA data_version")?;
    Ok(pragma.query_row([], |row| row.get(0))?)
}

fn run(conn: &Connection, statement: &str) -> Result<(), StoreError> {
    conn.prepare_cached(statement)?.execute([])?;
    Ok(())
}

impl Below for SqliteBackend {
    fn view(&mut self) -> Box<dyn View + '_> {
        Box::new(SqliteView::live(&self.conn))
    }

    fn event(&mut self, position: Position, checked: bool) -> Result<Event, StoreError> {
        archive::joined(&self.log(), &SqliteView::live(&self.conn), |log| super::event_at(log, position, checked))
    }

    fn check_link(&mut self, table: &TableDef, key: &str, rev: Position) -> Result<(), StoreError> {
        let about = |table_name: &[u8], of: &[u8]| table_name == table.name.as_bytes() && of == key.as_bytes();
        let mut select = self.conn.prepare_cached("SELECT table_name, key FROM events WHERE position = ?1")?;
        let mut rows = select.query([rev.to_i64()])?;
        let found = match rows.next()? {
            Some(row) => {
                about(row.get_ref(0)?.as_bytes().unwrap_or_default(), row.get_ref(1)?.as_bytes().unwrap_or_default())
            }
            // It was trimmed.
            None => rev < self.log().first()?,
        };
        if found {
            return Ok(());
        }
        // A sensitive key does not belong into a message.
        let sensitive = table.key_columns().any(|column| table.sensitive.contains(&column.name));
        let entity = if sensitive { format!("a row of {}", table.name) } else { format!("{}/{key}", table.name) };
        let name = table.name;
        Err(StoreError::corrupt_store(format!(
            "{entity} names event {rev} as its last one, which is not about it: `tasklog verify`, then `tasklog rebuild {name}`"
        )))
    }
}

impl Backend for SqliteBackend {
    fn begin(&mut self) -> Result<bool, StoreError> {
        run(&self.conn, "BEGIN IMMEDIATE")?;
        // Changes of other connections only. A person with a database shell is one.
        let data_version = data_version(&self.conn)?;
        let touched = data_version != self.data_version;
        self.data_version = data_version;
        Ok(touched)
    }

    fn now(&mut self) -> Result<Millis, StoreError> {
        self.log().now()
    }

    fn head(&mut self) -> Result<Checkpoint, StoreError> {
        self.log().head()
    }

    fn find(&mut self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        self.log().find(id)
    }

    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        self.log().append(now, batch, revs)
    }

    fn forget_answers(&mut self, cutoff: Millis) -> Result<bool, StoreError> {
        Ok(self.log().forget_answers(cutoff)? < ANSWERS_FORGOTTEN_MAX)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        run(&self.conn, "COMMIT")
    }

    fn rollback(&mut self) {
        if self.conn.is_autocommit() {
            return;
        }
        if let Err(error) = run(&self.conn, "ROLLBACK") {
            // The connection is of no use any more; the writer reopens before it writes again.
            tracing::warn!(error = error.full(), "rollback failed");
        }
    }

    fn connection(&mut self) -> Option<&Connection> {
        Some(&self.conn)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.rollback();
        self.conn = connection::open(&self.path, Access::Write)?;
        self.data_version = data_version(&self.conn)?;
        Ok(())
    }
}
