//! Queries, and whoever looks at log and tables by itself.

use tasklog_log::Log;
use tasklog_projections::View;

use super::{TaskStore, pool::ReadSide};
use crate::{
    query::{Query, Reader},
    rejection::{Error, Rejection},
};

/// Why a store in Redis answers no SQL.
const NO_SQL_IN_REDIS: &str = "a store in Redis has no SQL: follow it into an SQLite file (tasklog follow), which has";

impl TaskStore {
    /// Asks a query.
    ///
    /// # Errors
    /// `invalid` arguments, and the store's errors.
    pub fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Answer, Error> {
        self.read_tables(|read| query.answer(read))
    }

    /// Reads log and tables as they are now: one consistent state for as long as `look` runs.
    ///
    /// # Errors
    /// `look`'s, and the store's.
    pub fn read<T>(&self, look: impl FnOnce(&dyn Log, &dyn View) -> Result<T, Error>) -> Result<T, Error> {
        self.inner.read.with(look)
    }

    /// [`TaskStore::read`], handing out a [`Reader`].
    ///
    /// # Errors
    /// `look`'s, and the store's.
    pub fn read_tables<T>(&self, look: impl FnOnce(&Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.look(|read, _| look(read))
    }

    /// [`TaskStore::read_tables`], with the log beside the rows.
    ///
    /// # Errors
    /// `look`'s, and the store's.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Reader<'_>, &dyn Log) -> Result<T, Error>) -> Result<T, Error> {
        self.read(|log, view| {
            // The writer of this process knows the last instant; elsewhere the log has to be asked.
            let now = match &self.inner.committer {
                // Where many write, the clock is the server's.
                _ if matches!(self.inner.read, ReadSide::Redis(_)) => log.now()?,
                Some(committer) => self.inner.clock.now().max(committer.recorded_at()),
                None => log.now()?,
            };
            look(&Reader::new(view, now, &self.inner.config).with_log(log), log)
        })
    }

    /// Opens a read-only connection to the store's file, for queries in SQL.
    ///
    /// # Errors
    /// `invalid` for a store in memory, which has no file; and the store's.
    pub fn open_connection(&self) -> Result<rusqlite::Connection, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => Ok(pool.open()?),
            ReadSide::At(read) => read.open_connection(),
            ReadSide::Memory(_) => Err(Rejection::invalid("a store in memory has no SQL").into()),
            ReadSide::Redis(_) => Err(Rejection::invalid(NO_SQL_IN_REDIS).into()),
        }
    }

    /// Lends a read-only connection to the store's file.
    ///
    /// # Errors
    /// `invalid` for a store in memory, which has no file; and `look`'s.
    pub fn with_connection<T>(&self, look: impl FnOnce(&rusqlite::Connection) -> Result<T, Error>) -> Result<T, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => pool.with(look),
            ReadSide::At(read) => read.with_connection(look),
            ReadSide::Memory(_) => Err(Rejection::invalid("a store in memory has no SQL").into()),
            ReadSide::Redis(_) => Err(Rejection::invalid(NO_SQL_IN_REDIS).into()),
        }
    }
}
