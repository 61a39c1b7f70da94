use std::{path::PathBuf, sync::Arc, time::Duration};

use tasklog_log::{
    Blobs, Log, Millis, StoreError, SystemClock,
    redis::{Connector, Link, RedisLog, RedisUrl, Time},
    sqlite::{SqliteLog, connection, connection::Access as FileAccess},
};
use tasklog_projections::{
    facts,
    redis::{Expiry, RedisView},
    sqlite::{SqliteView, table_exists},
};
use tasklog_replay::{follow::Source, snapshot::Snapshots};

use crate::{
    backend::MemoryBackend,
    blobs::RedisBlobs,
    rejection::{Error, Rejection},
    store::{Access, OpenOptions, Recording, StoreUrl, archive, redis, snapshots::of_file},
};

/// A source, and what a replica has to know of it beside its log.
pub struct OpenedSource {
    /// The log.
    pub source: Arc<dyn Source>,
    /// Its URL, without secrets.
    pub name: String,
    /// ms: what offset 0 stands for, if the source keeps a recording's time.
    pub recording_from: Option<Millis>,
}

/// Opens the log at `url` for following. A file is opened read-only, beside the process that writes to it, and no writer
/// waits for it.
///
/// # Errors
/// `invalid` for `memory:`, which no other store can name; `unavailable` if the store is not there.
pub fn open_source(url: &StoreUrl) -> Result<OpenedSource, Error> {
    let name = url.to_string();
    match url {
        StoreUrl::Sqlite(path) => {
            let source = SqliteSource(path.clone());
            let mut recording_from = None;
            source.with(|conn| {
                recording_from = Recording::read(conn)?.map(|recording| recording.from);
                Ok(())
            })?;
            Ok(OpenedSource { source: Arc::new(source), name, recording_from })
        }
        StoreUrl::Redis(url) => {
            let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
            let prepared = redis::prepare(url, &options)?;
            let recording_from = prepared.recording.map(|recording| recording.from);
            let source = RedisSource { url: (**url).clone(), time: prepared.read.time().clone() };
            Ok(OpenedSource { source: Arc::new(source), name, recording_from })
        }
        StoreUrl::Memory => {
            Err(Rejection::invalid("memory: names no log that another store could read: use TaskStore::follow").into())
        }
    }
}

/// The log in a file that another process may be writing to.
pub(crate) struct SqliteSource(pub(crate) PathBuf);

impl SqliteSource {
    fn with(&self, look: impl FnOnce(&rusqlite::Connection) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let path = &self.0;
        if !path.exists() {
            return Err(StoreError::unavailable(format!("no store at {}", path.display())));
        }
        let conn = connection::open(path, FileAccess::Read)?;
        if !table_exists(&conn, "events")? {
            return Err(StoreError::unavailable(format!("{} is no store: it has no table of events", path.display())));
        }
        look(&conn)
    }
}

impl Source for SqliteSource {
    fn session(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.with(|conn| {
            let log = SqliteLog::new(conn, Arc::new(SystemClock));
            archive::joined(&log, &SqliteView::live(conn), |log| look(log))
        })
    }

    fn snapshots(&self) -> Result<Option<Snapshots>, StoreError> {
        let mut quarantined = Vec::new();
        self.with(|conn| {
            quarantined = facts::quarantined(&SqliteView::live(conn))?;
            Ok(())
        })?;
        Ok(Some(of_file(&self.0, quarantined)))
    }
}

/// The log of a store in Redis.
struct RedisSource {
    url: RedisUrl,
    time: Time,
}

/// How long a session may be idle: the server behind a connection stays what it is, and a lost connection ends the session.
const REDIS_SESSION_IDLE_MAX: Duration = Duration::from_secs(30);

impl Source for RedisSource {
    fn session(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let link = Arc::new(Link::new(Connector::new(self.url.clone())));
        let log = RedisLog::open(Arc::clone(&link), self.time.clone())?;
        let view = RedisView::new(link, &self.url.prefix, Expiry::BySweep);
        archive::joined(&log, &view, |log| look(log))
    }

    fn snapshots(&self) -> Result<Option<Snapshots>, StoreError> {
        let link = Arc::new(Link::new(Connector::new(self.url.clone())));
        let quarantined = facts::quarantined(&RedisView::new(link, &self.url.prefix, Expiry::BySweep))?;
        Ok(Some(Snapshots::new(Arc::new(RedisBlobs::new(&self.url))).passing_over(quarantined)))
    }

    fn session_idle_max(&self) -> Duration {
        REDIS_SESSION_IDLE_MAX
    }
}

/// The log of a store in this process's memory, and where its snapshots are.
pub(crate) struct MemorySource {
    pub(crate) backend: MemoryBackend,
    pub(crate) blobs: Arc<dyn Blobs>,
}

impl Source for MemorySource {
    fn session(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), StoreError>) -> Result<(), StoreError> {
        look(&self.backend.log.clone())
    }

    fn snapshots(&self) -> Result<Option<Snapshots>, StoreError> {
        let quarantined = facts::quarantined(&self.backend.view.frozen())?;
        Ok(Some(Snapshots::new(Arc::clone(&self.blobs)).passing_over(quarantined)))
    }
}
