//! The facade: open a store, run commands, ask queries.

pub(crate) mod archive;
mod at;
mod background;
mod backup;
pub(crate) mod beginning;
mod check;
mod commands;
mod epoch;
pub(crate) mod exclusive;
mod lock;
mod marker;
mod migrate;
mod open;
mod pool;
mod quarantine;
mod reads;
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
mod verify;

pub use at::{Differed, ParseWhenError, Scope, When};
pub use backup::{restore, restore_until};
pub use commands::QueuedAnswer;
pub use epoch::Epoch;
pub(crate) use lock::OpenElsewhere;
pub use marker::Following;
pub use open::{Access, OpenOptions};
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

use std::{collections::HashMap, sync::Arc, time::Duration};

use tasklog_log::{AcceptedEpoch, Clock, Position, StoreError};
use tasklog_projections::{Scan, TABLES};

use self::{background::Background, open::Held, pool::ReadSide, snapshots::Kept};
use crate::{
    backend::is_accepted,
    committer::Lanes,
    config::Config,
    follow::{FollowOptions, Follower, MemorySource, OpenedSource, open_source},
    meters::Meters,
    rejection::Error,
};

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

impl TaskStore {
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
}
