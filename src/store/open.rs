//! Opening a store: for commands, for queries, or to look at what is there.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
};

use tasklog_log::{Clock, Millis, StoreError, SystemClock, redis::RedisUrl};

use super::{
    Inner, StoreUrl, TaskStore,
    background::Duties,
    lock,
    pool::{Pool, ReadSide},
    redis,
    retention::Retaining,
    snapshots::{Kept, Maker, SNAPSHOT_EVERY_DEFAULT},
    sqlite::{self, Readable},
    tree::TreeKeeper,
};
use crate::{
    backend::{MemoryBackend, RedisBackend, RedisBackendOptions, SqliteBackend},
    committer::{Committer, Lanes},
    config::Config,
    engine::Engine,
    meters::Meters,
    rejection::Error,
};

/// The stores that this process has open for writing, so that a second handle shares the first one's committer.
static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Inner>>>> = Mutex::new(None);
/// Told whenever one of them has been closed.
static CLOSED: Condvar = Condvar::new();

/// How a store is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// The settings that decisions depend on.
    pub config: Config,
    /// Who acts when a command does not say.
    pub actor: Arc<str>,
    /// Where the log reads its time, unless the store keeps a recording's.
    pub clock: Arc<dyn Clock>,
    /// What the store is opened for.
    pub access: Access,
    /// If the store is created: keep the time of a recording whose offsets count from this instant.
    pub recording_from: Option<Millis>,
    /// Whether the log's Merkle tree is kept up to date in the background as long as the store is open for writing.
    pub keep_tree: bool,
    /// What stands for the clock of a recording's store between commands; without it, its time stands still.
    pub recording_clock: Option<Arc<dyn Clock>>,
    /// While the store is open for commands, a snapshot is made every so many events, in the background; 0 for never.
    pub snapshot_every: u64,
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Commands and queries. One process at a time; a file that cannot be written is opened for queries only.
    Write,
    /// Queries only; any number of processes, beside a writing one. A store that must be migrated or rebuilt first is
    /// opened for writing once.
    Read,
    /// Nothing is written, whatever is found: not even what every other opening would bring up to date. For
    /// [`TaskStore::verify`], which says what that is; queries may fail. In Redis the same as `Read`.
    Look,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            config: Config::default(),
            actor: "tasklog".into(),
            clock: Arc::new(SystemClock),
            access: Access::Write,
            recording_from: None,
            keep_tree: true,
            recording_clock: None,
            snapshot_every: SNAPSHOT_EVERY_DEFAULT,
        }
    }
}

/// A file that this process writes to, until it is closed.
pub(super) struct Held {
    name: PathBuf,
    lock: Option<lock::WriterLock>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lock = None;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.get_or_insert_default().remove(&self.name);
        CLOSED.notify_all();
    }
}

impl TaskStore {
    /// Opens `url` with the defaults, creating the store if it is not there.
    ///
    /// # Errors
    /// See [`TaskStore::open_with`].
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(&url.parse()?, OpenOptions::default())
    }

    /// Opens a store: creates or migrates it, rebuilds the tables whose projection version rose or that are gone, and
    /// refuses what it must not touch.
    ///
    /// # Errors
    /// `schema_ahead` if the store is newer, `unavailable` if another process writes to it (naming that process),
    /// `corrupt` if the file is no store, `diverged` if tables and log disagree, `read_only` if a new store cannot be made.
    pub fn open_with(url: &StoreUrl, options: OpenOptions) -> Result<Self, Error> {
        match url {
            StoreUrl::Memory => Self::open_memory(options),
            StoreUrl::Sqlite(path) => Self::open_sqlite(path, options),
            StoreUrl::Redis(url) => Self::open_redis(url, options),
        }
    }

    fn open_memory(options: OpenOptions) -> Result<Self, Error> {
        let backend = MemoryBackend::new(Arc::clone(&options.clock))?;
        let read = ReadSide::Memory(backend.clone());
        let kept = Kept::of(&read);
        let (config, actor) = (options.config.clone(), Arc::clone(&options.actor));
        let meters = Arc::new(Meters::new());
        let counting = Arc::clone(&meters);
        let committer = Committer::start(move || Ok(Engine::new(backend, config, actor)?.counting(counting)))?;
        let mut duties = Duties::default();
        Maker::begin(&mut duties, &read, &kept, options.snapshot_every);
        let inner = Inner {
            background: duties.start()?,
            kept,
            committer: Some(Lanes::one(committer)),
            meters: Some(meters),
            read_only: None,
            read,
            clock: options.clock,
            actor: options.actor,
            config: options.config,
            recording: None,
            _lock: None,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn open_redis(url: &RedisUrl, options: OpenOptions) -> Result<Self, Error> {
        let redis::Prepared { read, recording, writer } = redis::prepare(url, &options)?;
        let (config, actor) = (options.config.clone(), Arc::clone(&options.actor));
        let read_only = writer.is_none().then(|| format!("{url}: it was opened for reading"));
        let meters = writer.as_ref().map(|_| Arc::new(Meters::new()));
        let counting = meters.clone().unwrap_or_default();
        let start = move |writer: RedisBackendOptions| {
            let (config, actor, counting) = (config.clone(), Arc::clone(&actor), Arc::clone(&counting));
            Committer::start(move || Ok(Engine::new(RedisBackend::open(writer)?, config, actor)?.counting(counting)))
        };
        let lanes = |writer: RedisBackendOptions| -> Result<Lanes, Error> {
            let (recording, another) = (writer.is_recording(), writer.another());
            let first = start(writer)?;
            // The commands of a recording have an order.
            Ok(if recording {
                Lanes::one(first)
            } else {
                Lanes::two(first, Box::new(move || start(another.another())))
            })
        };
        let time = read.time().clone();
        let read = ReadSide::Redis(Box::new(read));
        let kept = Kept::of(&read);
        let mut duties = Duties::default();
        if writer.is_some() {
            if options.keep_tree {
                TreeKeeper::of_redis(&mut duties, url.clone(), time);
            }
            Maker::begin(&mut duties, &read, &kept, options.snapshot_every);
            Retaining::begin(&mut duties);
        }
        let inner = Inner {
            committer: writer.map(lanes).transpose()?,
            background: duties.start()?,
            meters,
            kept,
            read_only,
            read,
            clock: options.clock,
            actor: options.actor,
            config: options.config,
            recording,
            _lock: None,
        };
        Ok(Self { inner: inner.shared() })
    }

    fn open_sqlite(path: &Path, options: OpenOptions) -> Result<Self, Error> {
        if options.access != Access::Write {
            return Self::open_for_reading(path, options, "it was opened for reading");
        }
        if sqlite::cannot_write(path) {
            return Self::open_for_reading(path, options, "the file is not writable");
        }
        let name = sqlite::absolute(path)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(known) = open.get_or_insert_default().get(&name) {
            if let Some(inner) = known.upgrade() {
                return Ok(Self { inner });
            }
            // Its last handle is gone, but it is still being closed and keeps its lock until then.
            open = CLOSED.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        // Before the lock is asked for: its follower holds it.
        sqlite::refuse_replica(path)?;
        let prepared = sqlite::prepare(path, &options)?;
        let read =
            ReadSide::Sqlite(Pool::new(path, tasklog_log::sqlite::connection::Access::Read, prepared.clock.clone()));
        let (config, actor) = (options.config.clone(), Arc::clone(&options.actor));
        let (file, conn, clock) = (path.to_owned(), prepared.conn, Arc::clone(&prepared.clock));
        let meters = Arc::new(Meters::new());
        let counting = Arc::clone(&meters);
        let committer = Committer::start(move || {
            Ok(Engine::new(SqliteBackend::on(&file, conn, clock)?, config, actor)?.counting(counting))
        })?;
        let kept = Kept::of(&read);
        let mut duties = Duties::default();
        if options.keep_tree {
            TreeKeeper::of_file(&mut duties, path, committer.jobs()?);
        }
        Maker::begin(&mut duties, &read, &kept, options.snapshot_every);
        Retaining::begin(&mut duties);
        let inner = Inner {
            background: duties.start()?,
            kept,
            committer: Some(Lanes::one(committer)),
            meters: Some(meters),
            read_only: None,
            read,
            clock: prepared.clock,
            actor: options.actor,
            config: options.config,
            recording: prepared.recording,
            _lock: Some(Held { name: name.clone(), lock: Some(prepared.lock) }),
        };
        let inner = inner.shared();
        open.get_or_insert_default().insert(name, Arc::downgrade(&inner));
        drop(open);
        let store = Self { inner };
        store.note_rebuilds()?;
        Ok(store)
    }

    fn open_for_reading(path: &Path, options: OpenOptions, why: &str) -> Result<Self, Error> {
        let readable = match sqlite::open_for_reading(path, &options)? {
            Readable::Unready(what) if sqlite::cannot_write(path) => {
                let file = path.display();
                return Err(StoreError::ReadOnly(format!("{file}: {what} first, and the file is not writable")).into());
            }
            Readable::Unready(_) => {
                drop(Self::open_sqlite(path, OpenOptions { access: Access::Write, ..options.clone() })?);
                sqlite::open_for_reading(path, &options)?
            }
            ready => ready,
        };
        let (pool, recording) = match readable {
            Readable::Ready(pool, recording) => (pool, recording),
            Readable::Unready(what) => {
                return Err(StoreError::unavailable(format!("{}: {what}, again", path.display())).into());
            }
        };
        let read = ReadSide::Sqlite(pool);
        let inner = Inner {
            background: None,
            kept: Kept::of(&read),
            committer: None,
            meters: None,
            read_only: Some(format!("{}: {why}", path.display())),
            read,
            clock: options.clock,
            actor: options.actor,
            config: options.config,
            recording,
            _lock: None,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A handle for reading on a replica in memory.
    pub(crate) fn reading_memory(backend: MemoryBackend, clock: Arc<dyn Clock>, why: String) -> Self {
        let read = ReadSide::Memory(backend);
        let inner = Inner {
            background: None,
            kept: Kept::of(&read),
            committer: None,
            meters: None,
            read_only: Some(why),
            read,
            clock,
            actor: OpenOptions::default().actor,
            config: Config::default(),
            recording: None,
            _lock: None,
        };
        Self { inner: Arc::new(inner) }
    }
}
