use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tasklog_log::{
    Clock, Log, Position, StoreError,
    sqlite::{SqliteLog, connection, connection::Access},
};
use tasklog_projections::{View, sqlite::SqliteView};

use super::{archive, at::AtRead, redis::RedisRead};
use crate::{backend::MemoryBackend, rejection::Error};

/// Idle connections kept; more are opened while more callers read at once, and closed afterwards.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Looks at log and tables that are lent.
pub(crate) type Look<'l> = dyn FnMut(&dyn Log, &dyn View) -> Result<(), Error> + 'l;

/// Where queries read.
pub(crate) enum ReadSide {
    /// Read-only connections of their own: a reader never waits for the writer.
    Sqlite(Pool),
    /// The shared maps.
    Memory(MemoryBackend),
    /// Connections to the server.
    Redis(Box<RedisRead>),
    /// An earlier moment of another store.
    At(Box<AtRead>),
}

impl ReadSide {
    /// Lends the log, joined with its archive, and the tables.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&dyn Log, &dyn View) -> Result<T, Error>) -> Result<T, Error> {
        self.with_hot(|log, view| archive::joined(log, view, |log| look(log, view)))
    }

    /// Lends the log as the store itself has it, and the tables.
    pub(crate) fn with_hot<T>(&self, look: impl FnOnce(&dyn Log, &dyn View) -> Result<T, Error>) -> Result<T, Error> {
        match self {
            Self::Memory(backend) => look(&backend.log, &backend.view.frozen()),
            Self::Redis(read) => read.with(|log, view| look(log, view)),
            Self::At(read) => read.with(look),
            Self::Sqlite(pool) => pool.with(|conn| {
                let run = |text| conn.prepare_cached(text).and_then(|mut statement| statement.execute([]));
                // One snapshot for all that `look` reads; it begins with the first read.
                run("BEGIN").map_err(StoreError::from)?;
                let log = SqliteLog::new(conn, Arc::clone(&pool.clock));
                let looked = look(&log, &SqliteView::live(conn))?;
                run("COMMIT").map_err(StoreError::from)?;
                Ok(looked)
            }),
        }
    }
}

impl ReadSide {
    /// Lends the log, joined with its archive, and tables without holding one state: each row and each page is one moment's,
    /// and nobody waits for whoever reads for a long time.
    pub(crate) fn with_each(&self, look: &mut Look<'_>) -> Result<(), Error> {
        match self {
            Self::Memory(backend) => {
                let view = backend.view.clone();
                archive::joined(&backend.log, &view, |log| look(log, &view))
            }
            Self::Redis(read) => read.with(|log, view| archive::joined(log, view, |log| look(log, view))),
            Self::At(read) => read.with(look),
            Self::Sqlite(pool) => pool.with(|conn| {
                let (log, view) = (SqliteLog::new(conn, Arc::clone(&pool.clock)), SqliteView::live(conn));
                archive::joined(&log, &view, |log| look(log, &view))
            }),
        }
    }

    /// [`ReadSide::with_each`] for the log alone.
    pub(crate) fn with_log<T>(&self, look: impl FnOnce(&dyn Log) -> Result<T, Error>) -> Result<T, Error> {
        match self {
            Self::Memory(backend) => archive::joined(&backend.log, &backend.view.clone(), |log| look(log)),
            Self::Redis(read) => read.with(|log, view| archive::joined(log, view, |log| look(log))),
            Self::At(read) => read.with_log(look),
            Self::Sqlite(pool) => pool.with(|conn| {
                let log = SqliteLog::new(conn, Arc::clone(&pool.clock));
                archive::joined(&log, &SqliteView::live(conn), |log| look(log))
            }),
        }
    }

    /// The same store, read through connections of its own.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Sqlite(pool) => Self::Sqlite(Pool::new(&pool.path, pool.access, pool.clock())),
            Self::Memory(backend) => Self::Memory(backend.clone()),
            Self::Redis(read) => Self::Redis(Box::new(read.again())),
            // Nothing is made of the past in the background.
            Self::At(read) => read.origin().read.again(),
        }
    }

    /// Waits until the log's head is beyond `after` or the time is over.
    pub(crate) fn wait(&self, after: Position, timeout: Duration) -> Result<Position, Error> {
        match self {
            Self::Memory(backend) => Ok(backend.log.wait(after, timeout)?),
            Self::Redis(read) => read.wait(after, timeout),
            // It does not grow.
            Self::At(read) => Ok(read.moment().at.position),
            // Outside a snapshot, which would never see the log grow.
            Self::Sqlite(pool) => {
                pool.with(|conn| Ok(SqliteLog::new(conn, Arc::clone(&pool.clock)).wait(after, timeout)?))
            }
        }
    }
}

/// Read-only connections to one file.
pub(crate) struct Pool {
    path: PathBuf,
    access: Access,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(path: &Path, access: Access, clock: Arc<dyn Clock>) -> Self {
        Self { path: path.into(), access, clock, idle: Mutex::default() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a connection to another file can read this one as well.
    pub(super) fn is_attachable(&self) -> bool {
        self.access == Access::Read
    }

    /// The log's clock.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Lends a connection.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.lend(look)
    }

    /// [`Pool::with`], for looks that fail in another way.
    pub(super) fn lend<T, E: From<StoreError>>(&self, look: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => self.open()?,
        };
        let result = look(&conn);
        if !conn.is_autocommit() {
            // A look that failed half-way may have left its snapshot open.
            conn.execute_batch("ROLLBACK").map_err(StoreError::from)?;
        }
        let mut idle = self.idle();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(conn);
        }
        result
    }

    /// Opens a connection that is nobody else's.
    pub(crate) fn open(&self) -> Result<Connection, StoreError> {
        connection::open(&self.path, self.access)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
