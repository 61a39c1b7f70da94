use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    time::Duration,
};

use ahash::RandomState;
use uuid::Uuid;

use crate::{Chain, Commit, CommitId, Condition, Entity, Event, Millis, NewCommit, Position, StoreError, checksum};

/// A commit has at most this many events.
pub const COMMIT_EVENTS_MAX: usize = 1_000;
/// A commit has at most this many bytes of payload, keys and texts.
pub const COMMIT_BYTES_MAX: usize = 16 << 20;
/// The largest page a reader needs to ask for; larger limits are allowed and cost memory only.
pub const READ_EVENTS_MAX: usize = 10_000;

/// A log is born with one.
pub type LogId = Uuid;

/// Which log this is, and which life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogInfo {
    /// Minted at birth.
    pub id: LogId,
    /// 1 at birth; restoring or cutting back a log mints the next one.
    pub epoch: u64,
}

/// The point of a log that a set of rows reflects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub log: LogInfo,
    /// Through this position, inclusive; 0 for "nothing yet".
    pub position: Position,
    /// The commit that ends there; nil at position 0.
    pub commit: CommitId,
    /// That commit's instant; 0 at position 0.
    pub recorded_at: Millis,
}

impl Checkpoint {
    /// Before everything in `log`.
    #[must_use]
    pub const fn start(log: LogInfo) -> Self {
        Self { log, position: Position::ZERO, commit: CommitId(Uuid::nil()), recorded_at: 0 }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, position, commit, .. } = self;
        write!(f, "(log {}, epoch {}, position {position}, commit {commit})", log.id, log.epoch)
    }
}

/// Where one commit of a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
    /// Its instant.
    pub recorded_at: Millis,
}

/// A condition that no longer held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleCondition {
    /// The row.
    pub entity: Entity,
    /// The rev the decision saw.
    pub expected: Position,
    /// The rev the log has.
    pub actual: Position,
}

/// Why a commit of a batch was not appended. The other commits of the batch were not disturbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Every condition that failed.
    pub stale: Vec<StaleCondition>,
}

/// The answer for one commit of a batch.
pub type Outcome = Result<Appended, Refused>;

/// The commit found under an id, with the answer its caller was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands.
    pub appended: Appended,
    /// The bytes of [`NewCommit::answer`].
    pub answer: Vec<u8>,
}

/// Who knows the revs of entities: the rows (each carries its rev) or, for a log that stands alone, the log's own map.
///
/// Revs are stored once, beside the rows that they version; a log asks for them inside its append.
pub trait Revs {
    /// The position of the entity's last event, its tombstone's rev, or 0 if it was never seen.
    ///
    /// # Errors
    /// Whatever kept the backend from answering; never "0" for "could not look".
    fn rev(&mut self, entity: &Entity) -> Result<Position, StoreError>;
}

/// What every backend promises:
///
/// - Positions are dense and start at 1. A position is assigned inside the atomic append, never reserved before.
/// - A commit is whole or absent. No reader sees a part of one.
/// - `append` returns when its commits are durable at the store's level, and they are readable at once. If the
///   backend's connection is inside a transaction, the append joins it and is durable when that one commits.
/// - A commit whose conditions fail is refused with the current revs, and disturbs no other commit of the batch. A
///   later commit of a batch sees the revs that the earlier ones of the same batch left.
/// - A commit whose id already has a kept answer is not appended again: its outcome is the first one's.
/// - `recorded_at` never decreases along the log.
/// - An error from `append` means: none of the batch is in the log. An append that had joined a transaction leaves it for
///   a rollback: committing it after the error would keep a part.
/// - `adopt` appends commits of another log as they are: same positions, ids, instants, links, bytes and checksums. It
///   keeps the bullets above: all of the commits or none, dense, joining an open transaction.
/// - `read(after, limit)` is exclusive of `after` and returns whole commits in order: at least one if there is one, and
///   no further commit once `limit` events are reached. An `after` that stands inside a commit brings that commit
///   whole, with the events at and before `after`. It returns what is stored, unchecked; see [`read_checked`].
pub trait Log {
    /// Which log this is.
    ///
    /// # Errors
    /// `unavailable`.
    fn info(&self) -> Result<LogInfo, StoreError>;

    /// The log's clock: never below the last event's `recorded_at`.
    ///
    /// # Errors
    /// `unavailable`.
    fn now(&self) -> Result<Millis, StoreError>;

    /// Appends a batch at the instant `now`, which must come from [`Log::now`]; a commit that was decided at an instant of
    /// its own is recorded at that.
    ///
    /// # Errors
    /// `unavailable` or `read_only`; then nothing was appended.
    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError>;

    /// Appends commits that another log has made, unchanged. They must continue this log's head densely. No answers
    /// are kept for them.
    ///
    /// # Errors
    /// `corrupt`, naming the position, for commits that do not continue the head or whose checksum is wrong;
    /// `unavailable` or `read_only`. Then nothing was appended.
    fn adopt(&mut self, commits: &[Commit]) -> Result<(), StoreError>;

    /// Takes over the identity of another log, before its first commit is adopted.
    ///
    /// # Errors
    /// `corrupt` if this log has events; `unavailable` or `read_only`.
    fn adopt_identity(&mut self, log: LogInfo) -> Result<(), StoreError>;

    /// Whole commits after `after` (exclusive), about `limit` events of them.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` if stored bytes cannot even be an event.
    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError>;

    /// The newest commit as a checkpoint; position 0 if the log is empty.
    ///
    /// # Errors
    /// `unavailable`.
    fn head(&self) -> Result<Checkpoint, StoreError>;

    /// The first position still in the hot log: 1 until something is trimmed.
    ///
    /// # Errors
    /// `unavailable`.
    fn first(&self) -> Result<Position, StoreError>;

    /// The commit that a caller may be asking about again.
    ///
    /// # Errors
    /// `unavailable`.
    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError>;

    /// Waits until the head is beyond `after` or the time is over, and answers the head's position.
    ///
    /// # Errors
    /// `unavailable`.
    fn wait(&self, after: Position, timeout: Duration) -> Result<Position, StoreError>;

    /// The positions of an entity's events after `after` (exclusive) through `through` (inclusive), ascending, whether or not
    /// links lead to them. All of that part of the log is looked at.
    ///
    /// # Errors
    /// As [`Log::read`].
    fn positions_of(
        &self,
        table: &str,
        key: &str,
        after: Position,
        through: Position,
    ) -> Result<Vec<Position>, StoreError> {
        let mut found = Vec::new();
        let mut at = after;
        while at < through {
            let page = self.read(at, READ_EVENTS_MAX)?;
            let Some(last) = page.last() else { break };
            at = last.last();
            let events = page.iter().flat_map(|commit| &commit.events);
            let wanted = events.filter(|event| *event.table == *table && *event.key == *key);
            found.extend(wanted.map(|event| event.position).filter(|at| *at > after && *at <= through));
        }
        Ok(found)
    }

    /// The commit that holds one position, with the index of its event.
    ///
    /// # Errors
    /// `corrupt` if the position is within the log and missing.
    fn event(&self, position: Position) -> Result<Option<(Commit, usize)>, StoreError> {
        if position == Position::ZERO || position > self.head()?.position {
            return Ok(None);
        }
        let mut commits = self.read(position.before(), 1)?;
        let Some(commit) = (!commits.is_empty()).then(|| commits.swap_remove(0)) else {
            return Err(StoreError::corrupt(position, "missing from the log"));
        };
        match commit.events.iter().position(|event| event.position == position) {
            Some(index) => Ok(Some((commit, index))),
            None => Err(StoreError::corrupt(position, "missing from the log")),
        }
    }

    /// [`Log::event`] without the other events of its commit, which may be many: for whoever goes from link to link.
    ///
    /// # Errors
    /// As [`Log::event`].
    fn event_alone(&self, position: Position) -> Result<Option<Commit>, StoreError> {
        Ok(self.event(position)?.map(|(mut commit, index)| {
            commit.events = vec![commit.events.swap_remove(index)];
            commit
        }))
    }
}

/// [`Log::read`] for whoever folds: every event's place and checksum is checked, and a gap or a missing tail is an
/// error that names the position. `after` must be the end of a commit or 0 for the answer to begin right after it.
///
/// # Errors
/// `corrupt` at the first event that is wrong, and whatever `read` answers.
pub fn read_checked(log: &dyn Log, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
    read_checked_but(log, after, limit, &|_| false)
}

/// [`read_checked`] for whoever passes over some events: of those only the place is checked, and they are answered as they
/// are stored, whether or not their checksums are right.
///
/// # Errors
/// As [`read_checked`].
pub fn read_checked_but(
    log: &dyn Log,
    after: Position,
    limit: usize,
    passed_over: &dyn Fn(Position) -> bool,
) -> Result<Vec<Commit>, StoreError> {
    // Asked before the page, so that a commit appended meanwhile is not taken for a missing one.
    let head = log.head()?.position;
    let commits = log.read(after, limit)?;
    let mut expected = commits.first().map_or(after.next(), |commit| commit.first().min(after.next()));
    let mut events = 0;
    for commit in &commits {
        for event in &commit.events {
            if event.position != expected {
                return Err(StoreError::corrupt(
                    expected,
                    format!("missing from the log: the next event is {}", event.position),
                ));
            }
            if !passed_over(event.position) {
                commit.check(event)?;
            }
            expected = expected.next();
            events += 1;
        }
    }
    let ended = commits.is_empty() || events < limit;
    if ended && expected <= head {
        // A log that is read in parts ends a page before a part that it cannot read; asked for just that, it says why.
        if log.read(expected.before(), 1)?.first().is_some_and(|commit| commit.first() == expected) {
            return Ok(commits);
        }
        return Err(StoreError::corrupt(expected, format!("missing from the log: its head is {head}")));
    }
    Ok(commits)
}

/// Refuses a commit beyond the bounds, saying which.
///
/// # Errors
/// A sentence for the caller.
pub fn check_bounds(commit: &NewCommit) -> Result<(), String> {
    let events = commit.events.len();
    if events == 0 || events > COMMIT_EVENTS_MAX {
        return Err(format!("commit_events_max: a commit has 1 to {COMMIT_EVENTS_MAX} events, this one has {events}"));
    }
    let bytes: usize = commit.events.iter().map(|event| event.payload.len() + event.entity.key.len()).sum();
    if bytes > COMMIT_BYTES_MAX {
        return Err(format!("commit_bytes_max: a commit has at most {COMMIT_BYTES_MAX} bytes, this one has {bytes}"));
    }
    Ok(())
}

/// The part of an append that is the same on every backend that assigns positions in this process: checks the
/// conditions of each commit in order, and gives the accepted ones their positions, links and checksums.
///
/// `head` is the position before the batch, `floor` the instant of the commit that ends there. The events of `batch` must be within [`check_bounds`].
///
/// # Errors
/// Whatever `revs` answers. A commit that writes an entity it has no condition on is a programming error and refused
/// as `corrupt`, because its link could not be right.
pub fn link(
    head: Position,
    floor: Millis,
    now: Millis,
    batch: &[NewCommit],
    revs: &mut dyn Revs,
    answered: &mut dyn FnMut(CommitId) -> Result<Option<Appended>, StoreError>,
) -> Result<(Vec<Outcome>, Vec<Linked>), StoreError> {
    let mut revs_known: HashMap<&Entity, Known, RandomState> = HashMap::default();
    let mut repeatable: HashMap<CommitId, Appended> = HashMap::new();
    let mut at = head;
    let mut recorded_at = floor;
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut linked = Vec::with_capacity(batch.len());
    for (index, commit) in batch.iter().enumerate() {
        if commit.answer.is_some() {
            let first = match repeatable.get(&commit.meta.id) {
                Some(first) => Some(*first),
                None => answered(commit.meta.id)?,
            };
            if let Some(first) = first {
                outcomes.push(Ok(first));
                continue;
            }
        }
        let stale = stale_conditions(index, &commit.conditions, &mut revs_known, revs)?;
        if !stale.is_empty() {
            outcomes.push(Err(Refused { stale }));
            continue;
        }
        check_bounds(commit).map_err(StoreError::corrupt_store)?;
        let first = at.next();
        recorded_at = commit.decided_at.unwrap_or(now).max(recorded_at);
        let events = commit
            .events
            .iter()
            .map(|new| {
                at = at.next();
                let known =
                    revs_known.get_mut(&new.entity).filter(|known| known.named_by == index).ok_or_else(|| {
                        StoreError::corrupt_store(format!("{} is written without a condition on it", new.entity))
                    })?;
                let rev = std::mem::replace(&mut known.rev, at);
                let prev = (new.chain == Chain::Continue && rev != Position::ZERO).then_some(rev);
                Ok(sealed(commit, recorded_at, new, at, prev))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let appended = Appended { first, last: at, recorded_at };
        if commit.answer.is_some() {
            repeatable.insert(commit.meta.id, appended);
        }
        outcomes.push(Ok(appended));
        linked.push(Linked { index, commit: Commit { meta: commit.meta.clone(), recorded_at, events } });
    }
    Ok((outcomes, linked))
}

/// A commit of a batch that [`link`] accepted.
pub struct Linked {
    /// Its place in the batch.
    pub index: usize,
    /// With positions, links and checksums.
    pub commit: Commit,
}

fn sealed(commit: &NewCommit, now: Millis, new: &crate::NewEvent, position: Position, prev: Option<Position>) -> Event {
    let mut event = Event {
        position,
        table: new.entity.table.clone(),
        key: new.entity.key.clone(),
        event_type: new.event_type.clone(),
        type_version: new.type_version,
        prev,
        payload: new.payload.clone(),
        checksum: 0,
    };
    event.checksum = checksum(&commit.meta, now, &event);
    event
}

/// What a batch knows of an entity.
struct Known {
    /// Its rev after the commits accepted so far.
    rev: Position,
    /// The newest commit of the batch that has a condition on it.
    named_by: usize,
}

/// Looks at the current rev of every row that commit `index` has read, and remembers it in `revs_known`.
fn stale_conditions<'b>(
    index: usize,
    conditions: &'b [Condition],
    revs_known: &mut HashMap<&'b Entity, Known, RandomState>,
    revs: &mut dyn Revs,
) -> Result<Vec<StaleCondition>, StoreError> {
    let mut stale = Vec::new();
    for condition in conditions {
        let known = match revs_known.entry(&condition.entity) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(Known { rev: revs.rev(&condition.entity)?, named_by: index }),
        };
        known.named_by = index;
        let actual = known.rev;
        if actual != condition.rev {
            let entity = condition.entity.clone();
            stale.push(StaleCondition { entity, expected: condition.rev, actual });
        }
    }
    Ok(stale)
}
