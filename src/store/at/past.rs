use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tasklog_log::{Checkpoint, Log, Millis, Position, StoreError};
use tasklog_projections::{
    AnyRow, Held, PROJECTED, RowChange, Scan, TableDef, View, facts, memory::MemoryView, sqlite::SqliteView,
};
use tasklog_replay::{
    LogThrough, Moment, Past,
    snapshot::{Snapshots, TOMBSTONES_MS},
};

use super::{
    super::{pool::Look, scratch::ScratchStore},
    Inner, ReadSide, no_writes,
};
use crate::rejection::Error;

/// Rows that are kept in memory; a store that had more is folded into a temporary file.
const ROWS_IN_MEMORY_MAX: u64 = 100_000;

/// Reads an earlier moment of another store.
pub(crate) struct AtRead {
    origin: Arc<Inner>,
    moment: Moment,
    passed_over: Vec<Position>,
    snapshots: Snapshots,
    /// All tables, once something had to look at many rows.
    tables: Mutex<Option<Arc<Tables>>>,
    /// The tables in a file, once somebody asked in SQL or they were too many for memory.
    file: Mutex<Option<Arc<ScratchStore>>>,
}

enum Tables {
    Memory(MemoryView),
    File(Arc<ScratchStore>),
}

impl Tables {
    fn with<T>(&self, look: impl FnOnce(&dyn View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::Memory(view) => look(view),
            Self::File(file) => file.with(|conn| look(&SqliteView::live(conn))),
        }
    }
}

impl AtRead {
    pub(super) fn new(origin: Arc<Inner>, moment: Moment, passed_over: Vec<Position>, snapshots: Snapshots) -> Self {
        Self { origin, moment, passed_over, snapshots, tables: Mutex::default(), file: Mutex::default() }
    }

    pub(crate) fn moment(&self) -> &Moment {
        &self.moment
    }

    /// The store whose past this is.
    pub(crate) fn origin(&self) -> &Arc<Inner> {
        &self.origin
    }

    /// Lends log and tables as of the moment.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&dyn Log, &dyn View) -> Result<T, Error>) -> Result<T, Error> {
        let mut look = Some(look);
        let mut looked = None;
        self.lend(&mut |log, view| {
            looked = look.take().map(|look| look(log, view));
            Ok(())
        })?;
        looked.unwrap_or_else(|| Err(not_lent()))
    }

    // Not generic: the store whose past it is may itself be one of an earlier moment, and so on.
    fn lend(&self, look: &mut Look<'_>) -> Result<(), Error> {
        // What the present tables say is a hint only: where an entity's chain is to be entered.
        self.origin.read.with_each(&mut |log, live| {
            let through = LogThrough::new(log, self.moment);
            look(&through, &AtView { read: self, log, live })
        })
    }

    /// Lends the log as of the moment.
    pub(crate) fn with_log<T>(&self, look: impl FnOnce(&dyn Log) -> Result<T, Error>) -> Result<T, Error> {
        let mut look = Some(look);
        let mut looked = None;
        self.lend_log(&mut |log| {
            looked = look.take().map(|look| look(log));
            Ok(())
        })?;
        looked.unwrap_or_else(|| Err(not_lent()))
    }

    fn lend_log(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), Error>) -> Result<(), Error> {
        self.origin.read.with_log(|log| look(&LogThrough::new(log, self.moment)))
    }

    fn folded(&self) -> Option<Arc<Tables>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tables as of the moment. Whoever comes while they are being folded waits for them.
    fn tables(&self) -> Result<Arc<Tables>, StoreError> {
        let mut kept = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = &*kept {
            return Ok(Arc::clone(tables));
        }
        let known = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tables = match known {
            Some(file) => Tables::File(file),
            None => match self.fold_in_memory()? {
                Some(view) => Tables::Memory(view),
                None => Tables::File(self.file()?),
            },
        };
        let tables = Arc::new(tables);
        *kept = Some(Arc::clone(&tables));
        Ok(tables)
    }

    fn fold_in_memory(&self) -> Result<Option<MemoryView>, StoreError> {
        let mut view = MemoryView::new(self.moment.at.log);
        let done = self.past(|past| past.tables(&PROJECTED, &self.moment, &mut view, ROWS_IN_MEMORY_MAX))?;
        view.commit();
        Ok(done.then_some(view))
    }

    /// The tables in a temporary file, without the rows that were dead by the moment.
    fn file(&self) -> Result<Arc<ScratchStore>, StoreError> {
        let mut kept = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*kept {
            return Ok(Arc::clone(file));
        }
        let fill = |view: &mut SqliteView<'_>| self.past(|past| past.tables(&PROJECTED, &self.moment, view, u64::MAX));
        let file = Arc::new(ScratchStore::make(&self.moment, fill)?);
        *kept = Some(Arc::clone(&file));
        Ok(file)
    }

    /// A fold goes on for a while: it reads the log without holding one state of the store meanwhile.
    fn past<T>(&self, fold: impl FnOnce(&Past<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let folded = self
            .origin
            .read
            .with_log(|log| Ok(fold(&Past { log, passed_over: &self.passed_over, snapshots: Some(&self.snapshots) })?));
        folded.map_err(into_store_error)
    }

    /// Opens a connection that is nobody else's to the tables in the file, with the events of a store in a file beside them.
    pub(crate) fn open_connection(&self) -> Result<Connection, Error> {
        let conn = self.file()?.open()?;
        self.lay_events(&conn)?;
        Ok(conn)
    }

    /// Lends such a connection.
    pub(crate) fn with_connection<T>(&self, look: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        look(&self.open_connection()?)
    }

    /// What a query reads the events from that stood in the log then.
    pub(super) fn events_source(&self) -> Option<String> {
        let position = self.moment.at.position.to_i64();
        self.origin_path().map(|_| format!("origin.events WHERE position <= {position}"))
    }

    fn origin_path(&self) -> Option<&std::path::Path> {
        match &self.origin.read {
            ReadSide::Sqlite(pool) if pool.is_attachable() => Some(pool.path()),
            _ => None,
        }
    }

    fn lay_events(&self, conn: &Connection) -> Result<(), StoreError> {
        let (Some(path), Some(source)) = (self.origin_path(), self.events_source()) else { return Ok(()) };
        // Opened as this connection is: for reading.
        conn.execute("ATTACH DATABASE ?1 AS origin", [path.to_string_lossy()])?;
        conn.pragma_update(None, "query_only", 0)?;
        conn.execute_batch(&format!("CREATE TEMP VIEW events AS SELECT * FROM {source}"))?;
        conn.pragma_update(None, "query_only", 1)?;
        Ok(())
    }
}

/// A store that lends itself without an error has done so.
fn not_lent() -> Error {
    StoreError::unavailable("the store was not lent").into()
}

/// Reading a log rejects nothing.
fn into_store_error(error: Error) -> StoreError {
    match error {
        Error::Store(error) => error,
        Error::Rejected(rejection) => StoreError::unavailable_because("reading the log", rejection),
    }
}

/// The tables as of a moment, for as long as one look lasts.
struct AtView<'a> {
    read: &'a AtRead,
    log: &'a dyn Log,
    live: &'a dyn View,
}

impl AtView<'_> {
    fn past(&self) -> Past<'_> {
        Past { log: self.log, passed_over: &self.read.passed_over, snapshots: Some(&self.read.snapshots) }
    }

    fn row(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        let origin = &self.read.origin;
        // Tables that began with a snapshot have what it had.
        let configured = Millis::try_from(origin.config.tombstone_retention.as_millis()).unwrap_or(TOMBSTONES_MS);
        // The time of a recording stands still between commands, also for whoever forgets tombstones.
        let remembered = if origin.recording.is_some() { 0 } else { configured.min(TOMBSTONES_MS) };
        self.past().held(self.live, table, key, self.read.moment.at.position, remembered)
    }

    /// The facts about the log are today's: so is what a fold passes over.
    fn is_of_today(table: &TableDef) -> bool {
        table.name == facts::DEF.name
    }

    fn tables<T>(&self, look: impl FnOnce(&dyn View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read.tables()?.with(look)
    }
}

impl View for AtView<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        if Self::is_of_today(table) {
            return self.live.get(table, key);
        }
        if let Some(tables) = self.read.folded() {
            let found = tables.with(|view| view.get(table, key))?;
            // A file has no dead rows any more; whoever asks for one by its key gets it from the log.
            if found.is_some() || table.dies_at.is_none() {
                return Ok(found);
            }
        }
        self.row(table, key)
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        if Self::is_of_today(table) {
            return self.live.tombstone(table, key);
        }
        if let Some(tables) = self.read.folded() {
            let found = tables.with(|view| view.tombstone(table, key))?;
            if found.is_some() || table.dies_at.is_none() {
                return Ok(found);
            }
        }
        Ok(self.past().row(self.live, table, key, self.read.moment.at.position)?.tombstone())
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.tables(|view| view.any_tombstone(table))
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        if Self::is_of_today(table) {
            return self.live.scan(table, scan);
        }
        self.tables(|view| view.scan(table, scan))
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.tables(|view| view.count(table, scan))
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        Ok(self.read.moment.at)
    }

    fn write(&mut self, _: &[RowChange]) -> Result<(), StoreError> {
        Err(no_writes())
    }

    fn apply(&mut self, _: &[RowChange], _: &Checkpoint, _: &Checkpoint) -> Result<(), StoreError> {
        Err(no_writes())
    }

    fn sweep(&mut self, _: &'static TableDef, _: Millis, _: Millis, _: usize) -> Result<Vec<AnyRow>, StoreError> {
        Err(no_writes())
    }
}
