//! The only place that names concrete stores: each joins one log and one set of tables so that an append and its
//! projection are one transaction.

mod memory;
pub(crate) mod redis;
mod shared;
pub(crate) mod sqlite;

pub use memory::MemoryBackend;
pub use redis::{Newest, RedisBackend, RedisBackendOptions, is_accepted};
pub use shared::{Fate, Item, Placed, SharedBackend, Written};
pub use sqlite::SqliteBackend;

use tasklog_log::{Checkpoint, CommitId, Millis, NewCommit, Outcome, Revs, StoreError, Stored};

use crate::rows::Below;

/// Requests decided in one group commit.
const BATCH_REQUESTS_MAX: usize = 2_048;
/// Events after which a group commit takes no further request.
const BATCH_EVENTS_MAX: u64 = 8_192;

/// What a writer needs of a store. One writer calls it, from one thread:
///
/// ```text
/// begin ─► (view reads and writes, find) ─► append ─► view.apply ─► commit
///    └──────────────── any error ─────────────────────► rollback
/// ```
/// Between `begin` and `commit` nobody else writes, and nobody else sees what was written.
pub trait Backend: Below {
    /// Begins a batch. Answers whether somebody else has written since the last one.
    ///
    /// # Errors
    /// `unavailable`.
    fn begin(&mut self) -> Result<bool, StoreError>;

    /// The log's clock.
    ///
    /// # Errors
    /// `unavailable`.
    fn now(&mut self) -> Result<Millis, StoreError>;

    /// The log's head.
    ///
    /// # Errors
    /// `unavailable`.
    fn head(&mut self) -> Result<Checkpoint, StoreError>;

    /// The commit that a caller may be asking about again.
    ///
    /// # Errors
    /// `unavailable`.
    fn find(&mut self, id: CommitId) -> Result<Option<Stored>, StoreError>;

    /// [`tasklog_log::Log::append`], inside the batch.
    ///
    /// # Errors
    /// `unavailable`; then the batch must be rolled back.
    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError>;

    /// Forgets a bounded number of answers of commits recorded before `cutoff`; answers whether none is left.
    ///
    /// # Errors
    /// `unavailable`.
    fn forget_answers(&mut self, cutoff: Millis) -> Result<bool, StoreError>;

    /// Makes the batch durable.
    ///
    /// # Errors
    /// `unavailable`; then nothing of the batch is in the store.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Leaves the store as it was before `begin`.
    fn rollback(&mut self);

    /// Requests that have just arrived join the batch: what others had written by now must be met by scans.
    fn admit(&mut self) {}

    /// The store as one that others write to at the same time; none if this is its only writer.
    fn shared(&mut self) -> Option<&mut dyn SharedBackend> {
        None
    }

    /// The writing connection, for work between two batches; none if the store is no file.
    fn connection(&mut self) -> Option<&rusqlite::Connection> {
        None
    }

    /// Requests and events after which a batch takes no further request.
    fn batch_max(&self) -> (usize, u64) {
        (BATCH_REQUESTS_MAX, BATCH_EVENTS_MAX)
    }

    /// Opens the store afresh after a failed write; what was durable is still there.
    ///
    /// # Errors
    /// `unavailable` as long as the cause lasts.
    fn reopen(&mut self) -> Result<(), StoreError>;
}

/// The event at a position that a rev names: it must be there, and if it is `checked` its checksum must be right.
///
/// # Errors
/// `corrupt`; the log's.
pub(crate) fn event_at(
    log: &dyn tasklog_log::Log,
    position: tasklog_log::Position,
    checked: bool,
) -> Result<tasklog_log::Event, StoreError> {
    let found = log.event(position)?;
    let (mut commit, index) =
        found.ok_or_else(|| StoreError::corrupt(position, "a row names it as its last event, the log has no such"))?;
    if checked {
        commit.check(&commit.events[index])?;
    }
    Ok(commit.events.swap_remove(index))
}
