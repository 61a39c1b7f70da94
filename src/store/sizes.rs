//! What a store's metrics need to know of it.

use std::{io, path::Path};

use tasklog_log::StoreError;

use super::{TaskStore, pool::ReadSide};
use crate::{meters::Meters, rejection::Error};

/// Entries of a stream that the server looks at to estimate its size.
const SAMPLES: usize = 100;

impl TaskStore {
    /// What its writer has counted; none if this handle takes no commands.
    #[must_use]
    pub fn meters(&self) -> Option<&Meters> {
        self.inner.meters.as_deref()
    }

    /// How many commands are accepted and not answered yet; none if this handle takes no commands.
    #[must_use]
    pub fn waiting_commands(&self) -> Option<usize> {
        self.inner.committer.as_ref().map(|committer| committer.busy())
    }

    /// What keeps the store: `memory`, `sqlite` or `redis`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.inner.read {
            ReadSide::Memory(_) => "memory",
            ReadSide::Sqlite(_) => "sqlite",
            ReadSide::Redis(_) => "redis",
            ReadSide::At(read) => Self { inner: std::sync::Arc::clone(read.origin()) }.kind(),
        }
    }

    /// Bytes that the log takes: of the stream in Redis, as the server estimates it; of the whole file and its write-ahead
    /// log in SQLite, where log and tables share pages. None for a store in memory.
    ///
    /// # Errors
    /// The store's.
    pub fn log_bytes(&self) -> Result<Option<u64>, Error> {
        match &self.inner.read {
            ReadSide::Memory(_) => Ok(None),
            ReadSide::Sqlite(pool) => {
                let mut wal = pool.path().as_os_str().to_owned();
                wal.push("-wal");
                Ok(Some(bytes(pool.path())? + bytes(Path::new(&wal))?))
            }
            ReadSide::Redis(read) => {
                let key = format!("{}:log", read.url().prefix);
                read.with(|log, _| {
                    let bytes: Option<u64> = log.link().ask(|conn| {
                        redis::cmd("MEMORY").arg("USAGE").arg(&key).arg("SAMPLES").arg(SAMPLES).query(conn)
                    })?;
                    Ok(Some(bytes.unwrap_or_default()))
                })
            }
            ReadSide::At(read) => Self { inner: std::sync::Arc::clone(read.origin()) }.log_bytes(),
        }
    }
}

fn bytes(path: &Path) -> Result<u64, StoreError> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::unavailable_because(format!("looking at {}", path.display()), error)),
    }
}
