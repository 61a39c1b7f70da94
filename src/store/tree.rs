use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Position, READ_EVENTS_MAX, StoreError, SystemClock,
    merkle::{CaughtUp, Hash, Kept, KeptTree, Recompute, RedisTree, SqliteTree, Tree, catch_up},
    note::TreeHead,
    redis::{Connector, Keys, Link, RedisLog, RedisUrl, Time},
    sqlite::{SqliteLog, connection, connection::Access},
};
use tasklog_projections::{
    redis::{Expiry, RedisView},
    sqlite::SqliteView,
};

use super::{
    TaskStore, archive,
    exclusive::{Touches, exclusively},
    pool::ReadSide,
};
use crate::{committer::Jobs, rejection::Error};

/// Events whose hashes are kept in one step.
const ROUND_EVENTS_MAX: u64 = 65_536;
/// The pause after a round that has caught up.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause between two rounds of a long way: whoever writes goes first.
const PAUSE_BEHIND: Duration = Duration::from_millis(10);
/// The pause after somebody else has kept the tree, or after a round that failed.
const PAUSE_LEFT_TO_OTHERS: Duration = Duration::from_secs(15);
/// Rounds of [`TaskStore::keep_tree`] in which others may be faster.
const OVERTAKEN_MAX: usize = 64;

/// What recomputing a checkpoint's root has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    /// The log's head.
    pub head: Position,
    /// The root that the log has now at the checkpoint's size; none if it could not be computed.
    pub root: Option<Hash>,
    /// Through which position kept hashes had to stand for events that are not in the log any more; 0 for none.
    pub taken: Position,
    /// What is wrong; none if all events that the checkpoint covers are unchanged.
    pub problem: Option<String>,
}

impl TaskStore {
    /// The log as a Merkle tree, as it is now. What is not kept yet is computed, and not kept by this.
    ///
    /// # Errors
    /// The store's, `corrupt` for an event that is missing or whose checksum is wrong; `look`'s.
    pub fn with_tree<T>(&self, look: impl FnOnce(&Tree<'_>) -> Result<T, Error>) -> Result<T, Error> {
        // Before the log is looked at, so that what is kept is not ahead of it.
        let kept = self.kept_tree()?;
        self.read(|log, _| look(&Tree::open(log, kept)?))
    }

    /// What is kept of the Merkle tree. A store in memory keeps nothing, nor does a look at the past.
    ///
    /// # Errors
    /// The store's.
    pub fn kept_tree(&self) -> Result<Kept, Error> {
        match &self.inner.read {
            // What a file keeps may be ahead of an earlier moment.
            ReadSide::Memory(_) | ReadSide::At(_) => Ok(Kept::default()),
            ReadSide::Sqlite(pool) => pool.with(|conn| Ok(kept_in_file(conn)?)),
            ReadSide::Redis(read) => {
                read.with(|log, _| Ok(Kept::load(&RedisTree::new(Arc::clone(log.link()), log.keys().clone()))?))
            }
        }
    }

    /// Keeps the Merkle tree of everything that is in the log now, without waiting for the thread that does so anyway. For
    /// threads outside an async runtime.
    ///
    /// # Errors
    /// `read_only`; the store's.
    pub fn keep_tree(&self) -> Result<(), Error> {
        let committer = self.committer()?;
        let mut site: Box<dyn Round> = match &self.inner.read {
            ReadSide::Memory(_) | ReadSide::At(_) => return Ok(()),
            ReadSide::Sqlite(pool) => Box::new(InFile::open(pool.path(), committer.jobs()?)?),
            ReadSide::Redis(read) => Box::new(InRedis::open(read.url(), read.time())?),
        };
        for _ in 0..OVERTAKEN_MAX {
            let caught = loop {
                let caught = site.round(&|| false)?;
                if caught.done || caught.overtaken {
                    break caught;
                }
            };
            if !caught.overtaken {
                return Ok(());
            }
        }
        Err(StoreError::unavailable("keeping the Merkle tree: others are always faster").into())
    }

    /// Computes the root of the first events from the log itself, and compares it with the one that a checkpoint states:
    /// whether everything that it covers is what it was. `note` hears the position.
    ///
    /// # Errors
    /// The store's; what is wrong with the events is in the answer.
    pub fn verify_against(&self, stated: &TreeHead, mut note: impl FnMut(Position)) -> Result<Against, Error> {
        let (info, head, first) = self.read(|log, _| Ok((log.info()?, log.head()?.position, log.first()?)))?;
        let mut against = Against { head, root: None, taken: Position::ZERO, problem: None };
        let problem = |against: Against, why: String| Ok(Against { problem: Some(why), ..against });
        if stated.log_id() != Some(info.id) {
            return problem(
                against,
                format!("the checkpoint is of {}, this is the log tasklog/{}", stated.origin, info.id),
            );
        }
        if stated.size > head.0 {
            let lost = told(head.next(), Position(stated.size));
            return problem(
                against,
                format!(
                    "the checkpoint covers {} events, the log ends at event {head}: {lost} lost or cut off",
                    stated.size
                ),
            );
        }
        let kept = self.kept_tree()?;
        let mut recompute = match Recompute::new(stated.size, first, &kept.chunks) {
            Ok(recompute) => recompute,
            Err(error) => return problem(against, error.to_string()),
        };
        against.taken = recompute.taken();
        while !recompute.is_done() {
            let after = recompute.position();
            let read = self.read(|log, _| Ok(log.read(after, READ_EVENTS_MAX)?));
            let taken = read.and_then(|page| {
                recompute.page(&page)?;
                Ok(())
            });
            match taken {
                Ok(()) if recompute.position() == after => {
                    return problem(
                        against,
                        format!("event {}: missing from the log: its head is {head}", after.next()),
                    );
                }
                Err(Error::Store(StoreError::Corrupt { position, why })) => {
                    let at = position.unwrap_or(after.next());
                    return problem(against, format!("event {at}: {why}"));
                }
                other => other?,
            }
            note(recompute.position());
        }
        let root = recompute.root();
        against.root = Some(root);
        if root != stated.root {
            against.problem = Some(differs(stated, &root, &recompute));
        }
        Ok(against)
    }
}

fn told(first: Position, last: Position) -> String {
    if first == last { format!("event {first} was") } else { format!("events {first} to {last} were") }
}

/// Says where a root parts from the stated one, as far as what is kept tells.
fn differs(stated: &TreeHead, root: &Hash, recompute: &Recompute<'_>) -> String {
    let TreeHead { size, root: expected, .. } = stated;
    let what = format!("the root of the first {size} events is {root}, the checkpoint states {expected}");
    match recompute.suspects() {
        Some((first, last)) if recompute.differs() => {
            format!(
                "{what}: the first events that are not what they were are among {first} to {last}, by the kept tree"
            )
        }
        Some((first, last)) => {
            format!(
                "{what}: all that the kept tree covers is what it was when it was kept, so look at events {first} to {last}, which it does not cover; or the kept tree was changed, too"
            )
        }
        None => format!(
            "{what}: the kept tree fits the events, so it was changed or made anew as well and does not tell where"
        ),
    }
}

pub(super) fn kept_in_file(conn: &Connection) -> Result<Kept, StoreError> {
    // One snapshot for the checkpoint and the hashes, unless the caller has one.
    let snapshot = conn.is_autocommit().then(|| conn.unchecked_transaction()).transpose()?;
    let kept = Kept::load(&SqliteTree::new(conn))?;
    if let Some(snapshot) = snapshot {
        snapshot.commit()?;
    }
    Ok(kept)
}

/// One round of catching up.
trait Round: Send {
    fn round(&mut self, stop: &dyn Fn() -> bool) -> Result<CaughtUp, StoreError>;
}

/// A file: read on a connection of its own, written by the committer between two batches.
struct InFile {
    conn: Connection,
    jobs: Jobs,
}

impl InFile {
    fn open(path: &Path, jobs: Jobs) -> Result<Self, StoreError> {
        Ok(Self { conn: connection::open(path, Access::Read)?, jobs })
    }
}

impl Round for InFile {
    fn round(&mut self, stop: &dyn Fn() -> bool) -> Result<CaughtUp, StoreError> {
        let log = SqliteLog::new(&self.conn, Arc::new(SystemClock));
        let view = SqliteView::live(&self.conn);
        archive::joined(&log, &view, |log| catch_up(log, &*self, ROUND_EVENTS_MAX, stop))
    }
}

impl KeptTree for InFile {
    fn at(&self) -> Result<Option<Checkpoint>, StoreError> {
        SqliteTree::new(&self.conn).at()
    }

    fn hashes(&self, from: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        SqliteTree::new(&self.conn).hashes(from, count)
    }

    fn advance(&self, from: Option<&Checkpoint>, keep: u64, new: &[Hash], to: &Checkpoint) -> Result<bool, StoreError> {
        let (from, new, to) = (from.copied(), new.to_vec(), *to);
        let job = move |conn: &Connection| SqliteTree::new(conn).advance(from.as_ref(), keep, &new, &to);
        exclusively(&self.jobs, Touches::NoRows, job)
    }
}

/// A log in Redis, over a connection of its own.
struct InRedis {
    log: RedisLog,
    /// Says where the log's archive is.
    view: RedisView,
    tree: RedisTree,
}

impl InRedis {
    fn open(url: &RedisUrl, time: &Time) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(Connector::new(url.clone())));
        let log = RedisLog::open(Arc::clone(&link), time.clone())?;
        let view = RedisView::new(Arc::clone(&link), &url.prefix, Expiry::BySweep);
        Ok(Self { log, view, tree: RedisTree::new(link, Keys::new(&url.prefix)) })
    }
}

impl Round for InRedis {
    fn round(&mut self, stop: &dyn Fn() -> bool) -> Result<CaughtUp, StoreError> {
        archive::joined(&self.log, &self.view, |log| catch_up(log, &self.tree, ROUND_EVENTS_MAX, stop))
    }
}

/// The thread that keeps a store's Merkle tree up to date while it is open for writing. It reads what was appended in rounds
/// of its own, so that appending pays nothing, and stops between two pages.
pub(super) struct TreeKeeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn is_asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the time is over; true at once if it is asked to stop.
    fn wait(&self, pause: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(asked, pause, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl TreeKeeper {
    /// Of a file. It begins at once: a process that lives shorter than a round has its part done, too.
    pub(super) fn of_file(path: &Path, jobs: Jobs) -> Result<Self, StoreError> {
        let path = path.to_owned();
        Self::start(Duration::ZERO, move || {
            let site: Box<dyn Round> = Box::new(InFile::open(&path, jobs.clone())?);
            Ok(site)
        })
    }

    /// Of a log in Redis. It begins a little later: a process that is gone by then leaves it to the others.
    pub(super) fn of_redis(url: RedisUrl, time: Time) -> Result<Self, StoreError> {
        Self::start(PAUSE, move || {
            let site: Box<dyn Round> = Box::new(InRedis::open(&url, &time)?);
            Ok(site)
        })
    }

    fn start(
        first: Duration,
        open: impl Fn() -> Result<Box<dyn Round>, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let stop = Arc::new(Stop::default());
        let asked = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("tasklog-tree".into())
            .spawn(move || keep(first, &open, &asked))
            .map_err(|error| StoreError::unavailable_because("starting the thread of the Merkle tree", error))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn keep(first: Duration, open: &dyn Fn() -> Result<Box<dyn Round>, StoreError>, stop: &Stop) {
    let mut site: Option<Box<dyn Round>> = None;
    let mut told = None;
    let mut pause = first;
    while !stop.wait(pause) {
        let caught = match &mut site {
            Some(site) => site.round(&|| stop.is_asked()),
            None => open().and_then(|opened| site.insert(opened).round(&|| stop.is_asked())),
        };
        pause = match caught {
            Ok(CaughtUp { overtaken: true, .. }) => PAUSE_LEFT_TO_OTHERS,
            Ok(CaughtUp { done: false, .. }) => PAUSE_BEHIND,
            Ok(_) => PAUSE,
            Err(error) => {
                // Said once, as long as it stays the same: the tree is nobody's condition for anything.
                let why = error.full();
                if told.as_ref() != Some(&why) && !stop.is_asked() {
                    tracing::warn!(error = why, "the Merkle tree cannot be kept up to date");
                }
                told = Some(why);
                site = None;
                PAUSE_LEFT_TO_OTHERS
            }
        };
    }
}

impl Drop for TreeKeeper {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the Merkle tree panicked");
        }
    }
}
