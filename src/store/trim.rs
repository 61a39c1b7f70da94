//! Trims: events that a snapshot and the archive both have are removed from the hot log, oldest first.
//!
//! ```text
//! bound ─► verify the segments ─► note `log_trimmed` in the log ─► remove, page by page
//!                                          │ killed after this: the next trim goes on with the removal
//! ```

use std::sync::Arc;

use tasklog_log::{
    BlobReader, Blobs, Checkpoint, Commit, Log, Millis, Position, StoreError, archive::Archive, sqlite::SqliteLog,
};
use tasklog_projections::{
    View,
    facts::{self, AGE, ARCHIVE, EVENTS, KEEP, PLACE},
};

use super::{ReadSide, TaskStore, archive, exclusive::Touches};
use crate::{
    command::CommandOptions,
    facts::Trim,
    rejection::{Error, Rejection},
};

/// About how many events are removed at once.
const TRIM_EVENTS: usize = 4_000;

/// How much of the log is to stay, whatever snapshot and archive have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest events.
    pub events: Option<u64>,
    /// ms: events that are younger.
    pub age_ms: Option<Millis>,
}

/// What a trim ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The archive has no more.
    Archive,
    /// The newest snapshot covers no more.
    Snapshot,
    /// So many events are to stay.
    Events,
    /// What is younger is to stay.
    Age,
    /// The newest commit always stays.
    Newest,
}

/// What a trim has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// The first position of the log before.
    pub before: Position,
    /// Its first position now.
    pub first: Position,
    /// Its head when the trim began.
    pub head: Position,
    /// What kept it from going further.
    pub bound: Bound,
    /// The last position of the archive.
    pub archived: Position,
    /// The position of the snapshot.
    pub snapshot: Position,
}

/// What the facts say of the log.
pub(super) struct Facts {
    pub(super) place: Option<String>,
    pub(super) keep: Keep,
    /// The first position that a trim has left or will leave.
    pub(super) trimmed_to: Position,
}

impl Facts {
    pub(super) fn read(view: &dyn View) -> Result<Self, StoreError> {
        let number = |subject| Ok::<_, StoreError>(facts::get(view, KEEP, subject)?.and_then(|row| row.number));
        let events = number(EVENTS)?.and_then(|events| u64::try_from(events).ok());
        Ok(Self {
            place: facts::get(view, PLACE, ARCHIVE)?.and_then(|row| row.text.clone()),
            keep: Keep { events, age_ms: number(AGE)? },
            trimmed_to: archive::trimmed_to(view)?,
        })
    }
}

/// The log as a trim finds it.
struct Found {
    facts: Facts,
    first: Position,
    head: Checkpoint,
    now: Millis,
}

impl TaskStore {
    /// Removes from the log what the archive and a snapshot both have, but nothing that `keep` says. The segments are read
    /// against their digests first. A trim that was interrupted is finished first.
    ///
    /// # Errors
    /// `invalid` if nothing covers the log's beginning, saying what is missing; `corrupt`, naming it, for a damaged segment;
    /// `diverged` if the archive has other commits than the log; `read_only`; the store's.
    pub fn trim(&self, keep: &Keep) -> Result<Trimmed, Error> {
        self.committer()?;
        let found = self.find_log()?;
        if found.first < found.facts.trimmed_to {
            self.remove(&found.head, found.facts.trimmed_to)?;
        }
        let Found { facts, head, now, .. } = found;
        let first = self.inner.read.with_hot(|log, _| Ok(log.first()?))?;
        let refuse = |why: String| Error::from(Rejection::invalid(format!("nothing can be trimmed: {why}")));
        let url = facts
            .place
            .as_ref()
            .ok_or_else(|| refuse("the log has no archive: make one with tasklog archive --to URL".into()))?;
        let past = archive::open(url)?;
        let manifest = past.manifest()?.filter(|manifest| manifest.log == head.log.id);
        let manifest = manifest.ok_or_else(|| refuse(format!("the archive at {url} has nothing of this log")))?;
        if manifest.first().is_none_or(|archived| archived > first) {
            return Err(refuse(format!("the archive at {url} does not begin before event {first}")));
        }
        let own = self.blobs()?;
        let snapshots = self.snapshots()?;
        let snapshot = self.read(|log, _| Ok(snapshots.newest(log, head.position)?))?;
        let covered = snapshot.as_ref().map(|snapshot| snapshot.checkpoint().position);
        let covered = covered
            .ok_or_else(|| refuse("no snapshot of this log can be used: make one with tasklog snapshot".into()))?;

        let (until, bound) = self.bound(&head, now, keep, manifest.last(), covered)?;
        let trimmed =
            Trimmed { before: first, first, head: head.position, bound, archived: manifest.last(), snapshot: covered };
        if until <= first {
            return Ok(trimmed);
        }
        self.check_archived(&past, first, until)?;
        copy_snapshot(&*own, &**past.blobs(), covered)?;
        let fact = Trim {
            first: until.to_i64(),
            instant: now,
            snapshot: covered.to_i64(),
            archived: manifest.last().to_i64(),
        };
        let reason = Some(format!("archive and snapshot have what is before event {until}").into());
        self.run_blocking(fact, CommandOptions { reason, ..CommandOptions::default() })?;
        self.remove(&head, until)?;
        Ok(Trimmed { first: until, ..trimmed })
    }

    fn find_log(&self) -> Result<Found, Error> {
        self.inner.read.with_hot(|log, view| {
            Ok(Found { facts: Facts::read(view)?, first: log.first()?, head: log.head()?, now: log.now()? })
        })
    }

    /// The first position that stays, the beginning of a commit, and why.
    pub(super) fn bound(
        &self,
        head: &Checkpoint,
        now: Millis,
        keep: &Keep,
        archived: Position,
        covered: Position,
    ) -> Result<(Position, Bound), Error> {
        let mut bounds =
            vec![(head.position, Bound::Newest), (archived.next(), Bound::Archive), (covered.next(), Bound::Snapshot)];
        bounds.extend(keep.events.map(|events| (Position(head.position.0.saturating_sub(events) + 1), Bound::Events)));
        self.inner.read.with_hot(|log, _| {
            if let Some(age) = keep.age_ms {
                bounds.push((first_since(log, now.saturating_sub(age))?, Bound::Age));
            }
            let earliest = bounds.into_iter().min_by_key(|(position, _)| *position);
            let (position, bound) = earliest.unwrap_or((Position(1), Bound::Newest));
            if position < log.first()? {
                return Ok((position, bound));
            }
            let found = log.event(position)?;
            Ok((found.map_or(head.position, |(commit, _)| commit.first()), bound))
        })
    }

    /// Reads the segments that have the events from `first` to before `until`, and compares their end with the log.
    fn check_archived(&self, past: &Archive, first: Position, until: Position) -> Result<(), Error> {
        let last = until.before();
        let report = past.verify_segments(first, last, &mut |_| {})?;
        if let Some(finding) = report.findings.into_iter().next() {
            return Err(finding.into());
        }
        let archived = past.event(last)?.map(|(commit, _)| commit);
        let hot = self.inner.read.with_hot(|log, _| Ok(log.event(last)?.map(|(commit, _)| commit)))?;
        if archived.is_some() && archived == hot {
            return Ok(());
        }
        let info = self.inner.read.with_hot(|log, _| Ok(log.info()?))?;
        let at = |commit: Option<&Commit>| {
            let start = Checkpoint::start(info);
            Box::new(commit.map_or(start, |commit| Checkpoint {
                log: info,
                position: commit.last(),
                commit: commit.meta.id,
                recorded_at: commit.recorded_at,
            }))
        };
        Err(StoreError::Diverged { checkpoint: at(archived.as_ref()), log: at(hot.as_ref()) }.into())
    }

    /// Removes what is before a position that the log's facts have as trimmed.
    fn remove(&self, head: &Checkpoint, before: Position) -> Result<(), Error> {
        let clock = Arc::clone(&self.inner.clock);
        loop {
            let done = match &self.inner.read {
                ReadSide::Sqlite(_) => {
                    let clock = Arc::clone(&clock);
                    self.exclusive(Touches::NoRows, move |conn| SqliteLog::new(conn, clock).trim(before, TRIM_EVENTS))?
                }
                ReadSide::Redis(read) => read.with(|log, _| Ok(log.trim(head.log, before, TRIM_EVENTS)?))?,
                ReadSide::Memory(_) | ReadSide::At(_) => {
                    return Err(Rejection::invalid("a store in memory ends with its process: it is not trimmed").into());
                }
            };
            if done {
                return Ok(());
            }
        }
    }
}

/// The first position recorded at or after an instant that the log still has.
fn first_since(log: &dyn Log, cutoff: Millis) -> Result<Position, StoreError> {
    let (mut low, mut high) = (log.first()?.0, log.head()?.position.next().0);
    while low < high {
        let middle = low + (high - low) / 2;
        match log.event(Position(middle))? {
            Some((commit, _)) if commit.recorded_at < cutoff => low = commit.last().next().0,
            _ => high = middle,
        }
    }
    Ok(Position(low))
}

/// The archive alone is to restore everything: it gets the snapshot that a trim relies on.
fn copy_snapshot(own: &dyn Blobs, archive: &dyn Blobs, covered: Position) -> Result<(), StoreError> {
    let prefix = format!("snapshots/{:020}-", covered.0);
    for blob in own.list(&prefix)? {
        archive.put(&blob.name, &mut BlobReader::new(own, &*blob.name))?;
    }
    Ok(())
}
