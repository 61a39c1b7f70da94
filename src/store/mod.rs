//! The facade: open a store, run commands, ask queries.

pub(crate) mod archive;
mod at;
mod background;
mod backup;
pub(crate) mod beginning;
mod check;
mod epoch;
pub(crate) mod exclusive;
mod lock;
mod marker;
mod migrate;
mod pool;
mod quarantine;
mod rebuild;
mod recording;
pub(crate) mod redis;
mod redis_copy;
mod replica;
mod report;
mod retention;
mod scratch;
mod sizes;
pub(crate) mod snapshots;
pub mod sqlite;
mod tree;
mod trim;
mod turn;
mod url;

pub use at::{Differed, ParseWhenError, Scope, When};
pub use backup::{restore, restore_until};
pub use epoch::Epoch;
pub(crate) use lock::OpenElsewhere;
pub use marker::Following;
pub(crate) use rebuild::PAGE_EVENTS;
pub use rebuild::{Begin, Rebuilt, rebuild};
pub use recording::{RECORDING_FROM, Recording};
pub use redis::Repairs;
pub(crate) use redis_copy::RedisCopy;
pub(crate) use replica::{Role, SqliteReplica};
pub use report::{FollowerReport, FollowerState, SourceSeen};
pub use retention::{Retained, Retention};
pub use snapshots::SNAPSHOT_EVERY_DEFAULT;
pub use tree::Against;
pub use trim::{Bound, Keep, Trimmed};
pub use url::{ParseUrlError, StoreUrl};

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::Duration,
};

use tasklog_log::{AcceptedEpoch, Clock, Log, Millis, Position, StoreError, SystemClock, redis::RedisUrl};
use tasklog_projections::{Scan, TABLES, View};
use tasklog_replay::{Report, snapshot::TOMBSTONES_MS};

use self::{
    background::{Background, Duties},
    pool::{Pool, ReadSide},
    retention::Retaining,
    snapshots::{Kept, Maker},
    sqlite::Readable,
    tree::TreeKeeper,
};
use crate::{
    backend::{MemoryBackend, RedisBackend, RedisBackendOptions, SqliteBackend, is_accepted},
    command::{AnyCommand, Command, CommandOptions, Reply, typed_answer},
    committer::{Committer, Lanes, Pending},
    config::Config,
    engine::{Answers, AnyReply, Engine, Request},
    follow::{FollowOptions, Follower, MemorySource, OpenedSource, open_source},
    meters::{Meters, Rebuilding},
    query::{Query, Reader},
    rejection::{Error, Rejection},
};

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

/// The task registry: one handle per table with typed commands and queries, and transactions over several tables.
///
/// Clones share one store. Commands go through one committer thread, which group-commits what waits; queries run on the
/// caller's thread and never block it.
#[derive(Clone)]
pub struct TaskStore {
    inner: Arc<Inner>,
}

struct Inner {
    // What is done in the background goes before everything: it reads for itself, and the committer writes for it.
    background: Option<Background>,
    kept: Kept,
    // The readers go first: the last connection to be closed folds the write-ahead log into the file, and only the
    // writer's can. Then the committer finishes what was accepted, while the lock still stands.
    read: ReadSide,
    committer: Option<Lanes>,
    meters: Option<Arc<Meters>>,
    read_only: Option<String>,
    clock: Arc<dyn Clock>,
    actor: Arc<str>,
    config: Config,
    recording: Option<Recording>,
    // The lock goes last: nothing of this store writes any more.
    _lock: Option<Held>,
}

impl Inner {
    /// For its handles, and for what is done in the background.
    fn shared(self) -> Arc<Self> {
        let inner = Arc::new(self);
        if let Some(background) = &inner.background {
            background.belongs_to(&inner);
        }
        inner
    }
}

/// Why a store in Redis answers no SQL.
const NO_SQL_IN_REDIS: &str = "a store in Redis has no SQL: follow it into an SQLite file (tasklog follow), which has";

/// The stores that this process has open for writing, so that a second handle shares the first one's committer.
static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Inner>>>> = Mutex::new(None);
/// Told whenever one of them has been closed.
static CLOSED: Condvar = Condvar::new();

/// A file that this process writes to, until it is closed.
struct Held {
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

    /// Begins to follow this store's log into another store: a file that any process may read, or `memory:`.
    ///
    /// # Errors
    /// See [`Follower::start`].
    pub fn follow(&self, into: &StoreUrl, options: FollowOptions) -> Result<Follower, Error> {
        let from = match &self.inner.read {
            ReadSide::Memory(backend) => OpenedSource {
                source: Arc::new(MemorySource { backend: backend.clone(), blobs: self.blobs()? }),
                name: StoreUrl::Memory.to_string(),
                recording_from: None,
            },
            ReadSide::Sqlite(pool) => open_source(&StoreUrl::Sqlite(pool.path().to_owned()))?,
            ReadSide::Redis(read) => open_source(&StoreUrl::Redis(Box::new(read.url().clone())))?,
            ReadSide::At(_) => return Err(at::not_in_the_past("follow")),
        };
        Follower::start(from, into, options)
    }

    /// What this store follows, if it is a replica's file.
    ///
    /// # Errors
    /// The store's.
    pub fn following(&self) -> Result<Option<Following>, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => pool.with(|conn| Ok(Following::read(conn)?)),
            ReadSide::Memory(_) | ReadSide::Redis(_) => Ok(None),
            ReadSide::At(read) => Self { inner: Arc::clone(read.origin()) }.following(),
        }
    }

    /// Waits until the store has `position`, so that what was written there can be read; answers the head.
    ///
    /// # Errors
    /// `unavailable` if it has not got there when the time is over, saying how far it is; the store's.
    pub fn wait_for(&self, position: Position, timeout: Duration) -> Result<Position, Error> {
        let head = self.wait(position.before(), timeout)?;
        if head >= position {
            return Ok(head);
        }
        let waited = timeout.as_millis();
        Err(StoreError::unavailable(format!("waiting {waited} ms for event {position}: the store is at event {head}"))
            .into())
    }

    /// Runs a command.
    ///
    /// # Errors
    /// Its rejections, and the store's errors.
    pub async fn run<C: Command>(&self, command: C) -> Result<Reply<C::Answer>, Error> {
        self.run_with(command, CommandOptions::default()).await
    }

    /// Runs a command on behalf of somebody, with a reason, under a lease, or repeatable under an id.
    ///
    /// # Errors
    /// Its rejections, and the store's errors.
    pub async fn run_with<C: Command>(&self, command: C, options: CommandOptions) -> Result<Reply<C::Answer>, Error> {
        let pending = self.committer()?.send(Request::one(Box::new(command), options)).await?;
        typed_reply::<C>(pending.answer().await?)
    }

    /// [`TaskStore::run_with`] for threads outside an async runtime.
    ///
    /// # Errors
    /// Its rejections, and the store's errors.
    pub fn run_blocking<C: Command>(&self, command: C, options: CommandOptions) -> Result<Reply<C::Answer>, Error> {
        typed_reply::<C>(self.send_blocking(Request::one(Box::new(command), options))?)
    }

    /// Decides several commands in order as one commit: each sees the effects of those before it, and the first
    /// rejection refuses all.
    ///
    /// # Errors
    /// The first rejection, naming its command; and the store's errors.
    pub async fn transact(
        &self,
        commands: Vec<Box<dyn AnyCommand>>,
        options: CommandOptions,
    ) -> Result<AnyReply, Error> {
        self.send(Request::transact(commands, options)).await
    }

    /// Runs a request whose commands are known at run time only.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub async fn send(&self, request: Request) -> Result<AnyReply, Error> {
        self.committer()?.send(request).await?.answer().await
    }

    /// [`TaskStore::send`] for threads outside an async runtime.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub fn send_blocking(&self, request: Request) -> Result<AnyReply, Error> {
        self.committer()?.send_blocking(request)?.answer_blocking()
    }

    /// Queues a request from a thread outside an async runtime; the answer comes when its batch is durable.
    ///
    /// # Errors
    /// `read_only` or `unavailable`.
    pub fn queue(&self, request: Request) -> Result<QueuedAnswer, Error> {
        Ok(QueuedAnswer(self.committer()?.send_blocking(request)?))
    }

    /// Queues a request, waiting for room: requests that one caller queues one after another are decided in that order,
    /// and stand so in the log. With a [`Stream`](crate::engine::Stream) of their own none of them is carried out behind one that the
    /// store could not carry out.
    ///
    /// # Errors
    /// `read_only` or `unavailable`.
    pub async fn enqueue(&self, request: Request) -> Result<QueuedAnswer, Error> {
        Ok(QueuedAnswer(self.committer()?.send_ordered(request).await?))
    }

    fn committer(&self) -> Result<&Lanes, StoreError> {
        self.inner.committer.as_ref().ok_or_else(|| {
            StoreError::ReadOnly(self.inner.read_only.clone().unwrap_or_else(|| "this handle takes no commands".into()))
        })
    }

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

    /// The newest schema version applied to the store; a store in memory always has the program's.
    ///
    /// # Errors
    /// The store's.
    pub fn schema_version(&self) -> Result<u32, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => pool.with(|conn| Ok(migrate::applied(conn)?.unwrap_or_default())),
            ReadSide::Memory(_) => Ok(migrate::SCHEMA_VERSION),
            ReadSide::Redis(read) => read.schema_version(),
            ReadSide::At(read) => Self { inner: Arc::clone(read.origin()) }.schema_version(),
        }
    }

    /// Live rows per table, in the order of the specification.
    ///
    /// # Errors
    /// The store's.
    pub fn counts(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        self.read_tables(|read| {
            let mut counts = Vec::new();
            for table in TABLES {
                counts.push((table.name, read.count_any(table, &Scan::all("pk"))? - read.count_dead(table)?));
            }
            Ok(counts)
        })
    }

    /// Touches the backend: reads log and tables, which must agree and, where many write, have what this process has seen;
    /// answers their position.
    ///
    /// # Errors
    /// The store's, whatever keeps it from answering; `diverged` if log and tables disagree, or if the log has lost what the
    /// writer of this process has seen.
    pub fn health(&self) -> Result<Position, Error> {
        // Before the log is read: writers go on meanwhile, and the log must have at least what was seen then.
        let (shared, seen) = match &self.inner.read {
            ReadSide::Redis(read) => (true, read.newest()),
            _ => (false, None),
        };
        self.read(|log, view| {
            let checkpoint = view.checkpoint()?;
            let head = log.head()?;
            if shared {
                for known in seen.into_iter().chain([checkpoint]).filter(|known| *known != head) {
                    is_accepted(known, head, log)?;
                }
            } else if head != checkpoint {
                return Err(StoreError::Diverged { checkpoint: Box::new(checkpoint), log: Box::new(head) }.into());
            }
            Ok(head.position)
        })
    }

    /// The log's head.
    ///
    /// # Errors
    /// The store's.
    pub fn head(&self) -> Result<Position, Error> {
        self.read(|log, _| Ok(log.head()?.position))
    }

    /// Waits until the log's head is beyond `after` or the time is over; answers the head.
    ///
    /// # Errors
    /// The store's.
    pub fn wait(&self, after: Position, timeout: Duration) -> Result<Position, Error> {
        self.inner.read.wait(after, timeout)
    }

    /// The log's identity and epoch, and who has accepted epochs.
    ///
    /// # Errors
    /// The store's.
    pub fn epoch(&self) -> Result<Epoch, Error> {
        epoch::read(&self.inner.read)
    }

    /// Begins the next epoch of the log: says that what it has now is to stand, although commits were lost that others
    /// may have seen. Writers that had seen them forget what they knew and go on; followers go back to the last commit
    /// that they have in common with the log.
    ///
    /// # Errors
    /// `read_only`; `invalid` for a store in memory, which loses nothing, and for an actor or a reason of more than 1 KiB;
    /// the store's.
    pub fn accept_epoch(&self, actor: Option<&str>, reason: Option<&str>) -> Result<AcceptedEpoch, Error> {
        // Whoever may not write may not do this either.
        self.committer()?;
        epoch::accept(&self.inner.read, actor.unwrap_or(&self.inner.actor), reason)
    }

    /// The recording whose time this store keeps, if it was created for one.
    #[must_use]
    pub fn recording(&self) -> Option<Recording> {
        self.inner.recording
    }

    /// Why the store takes no commands, if it takes none.
    #[must_use]
    pub fn read_only(&self) -> Option<&str> {
        self.inner.read_only.as_deref()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Verifies log and tables: density, checksums, links, and every row against a replay into fresh tables in a
    /// temporary file; of a file also its pages, indexes, side tables, tombstones and heads. Writers go on; the last stretch is compared under one snapshot. A replica that began with a snapshot is
    /// verified from there: its events against their checksums and links, its rows against that snapshot and the events since.
    /// `note` hears the position.
    ///
    /// # Errors
    /// The store's; what is wrong with events or rows is in the report.
    pub fn verify(&self, note: impl FnMut(Position)) -> Result<Report, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => {
                let since = self.remembered_since(pool.clock().now());
                pool.with(|conn| Ok(check::verify(pool.path(), conn, since, note)?))
            }
            ReadSide::Memory(backend) => Ok(check::verify_memory(backend, &self.inner.kept, note)?),
            ReadSide::Redis(read) => read.with(|log, view| Ok(redis::verify(log, view, note)?)),
            ReadSide::At(_) => Err(at::not_in_the_past("verify")),
        }
    }

    /// ms: housekeeping may have forgotten rows that were deleted before this, as a snapshot has, which tables may come from.
    fn remembered_since(&self, now: Millis) -> Millis {
        let configured = Millis::try_from(self.inner.config.tombstone_retention.as_millis()).unwrap_or(TOMBSTONES_MS);
        match self.inner.recording {
            // Whoever replays one has a time of its own.
            Some(_) => Millis::MAX,
            None => now.saturating_sub(configured.min(TOMBSTONES_MS)),
        }
    }

    /// Repairs tables of a store in Redis in place, while writers go on: whatever does not hold what the log says of it
    /// (rows, indexes, sets, tombstones) is put right, each entity in one step and only if it has not changed meanwhile.
    /// One process at a time does so; killed, it leaves what it has repaired, and the next one does the rest. `note`
    /// hears the position.
    ///
    /// # Errors
    /// `invalid` for another kind of store; `corrupt`, naming the event that cannot be folded, and then nothing was
    /// changed; `unavailable`, also if another process goes on repairing.
    pub fn repair(
        &self,
        tables: &[&'static tasklog_projections::TableDef],
        mut note: impl FnMut(Position),
    ) -> Result<Repairs, Error> {
        match &self.inner.read {
            ReadSide::Redis(read) => {
                let rebuilding = Rebuilding::begin(self.head()?);
                let repairs = redis::rebuild(read.url(), tables, Begin::AtTheStart, |position| {
                    rebuilding.at(position);
                    note(position);
                })?;
                rebuilding.done();
                Ok(repairs)
            }
            _ => Err(Rejection::invalid("only a store in Redis is repaired in place: see tasklog rebuild").into()),
        }
    }

    /// The projection version that built each table of a store in Redis.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn built_projections(&self) -> Result<HashMap<String, u32>, Error> {
        match &self.inner.read {
            ReadSide::Redis(read) => read.built(),
            _ => Ok(HashMap::new()),
        }
    }

    /// Whether it is a store in Redis.
    pub(crate) fn is_redis(&self) -> bool {
        matches!(self.inner.read, ReadSide::Redis(_))
    }

    /// What the server of a store in Redis promises.
    pub(crate) fn redis_promise(&self) -> Option<String> {
        match &self.inner.read {
            ReadSide::Redis(read) => Some(read.facts().promise()),
            _ => None,
        }
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

/// The answer of a queued request.
pub struct QueuedAnswer(Pending);

impl QueuedAnswer {
    /// Waits until the request's batch is durable.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub fn wait(self) -> Result<AnyReply, Error> {
        self.0.answer_blocking()
    }

    /// [`QueuedAnswer::wait`] in an async runtime.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub async fn answer(self) -> Result<AnyReply, Error> {
        self.0.answer().await
    }
}

fn typed_reply<C: Command>(reply: AnyReply) -> Result<Reply<C::Answer>, Error> {
    let AnyReply { meta, answers, .. } = reply;
    let answer = match answers {
        Answers::Fresh(mut answers) => answers.pop().and_then(typed_answer::<C>),
        Answers::Repeated(texts) => texts.first().and_then(|text| serde_json::from_str(text).ok()),
    };
    let answer = answer.ok_or_else(|| Rejection::conflict("command_id", C::NAME, "the id of another command"))?;
    let crate::command::ReplyMeta { changed, commit_id, position, rev, repeated, .. } = meta;
    Ok(Reply { changed, commit_id, position, rev, repeated, answer })
}
