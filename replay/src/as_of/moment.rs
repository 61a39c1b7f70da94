//! Which moment is meant: a position or a time, as a place in the log and an instant.

use tasklog_log::{Checkpoint, Log, Millis, Position, StoreError};

/// A moment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// After this event, inclusive, which may stand inside its commit.
    pub at: Checkpoint,
    /// ms: the instant by which rows have died or not.
    pub now: Millis,
}

/// Why there is no such moment.
#[derive(Debug, thiserror::Error)]
pub enum MomentError {
    /// Nobody has written that far.
    #[error("event {asked} is beyond the head: the log ends at event {head}")]
    BeyondHead {
        /// The position asked for.
        asked: Position,
        /// The log's head.
        head: Position,
    },
    /// The log did not exist yet.
    #[error("there was nothing then: the first event was recorded at {first} ms, {before} ms later")]
    BeforeFirst {
        /// ms: the first event's instant.
        first: Millis,
        /// ms: how much later that is.
        before: Millis,
    },
    /// The log was begun with a snapshot, or trimmed, and what was before is not known here.
    #[error("the log here begins at event {first}, recorded at {began} ms: ask a store that has what was before")]
    BeforeBeginning {
        /// The first event that it has.
        first: Position,
        /// ms: its instant, or the log's clock if there is none yet.
        began: Millis,
    },
    /// It has not come yet, by the log's clock.
    #[error("that time has not come yet: the log's clock stands at {now} ms, {ahead} ms before it")]
    InTheFuture {
        /// ms: the log's clock.
        now: Millis,
        /// ms: how far ahead the time is.
        ahead: Millis,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Moment {
    /// Before everything.
    ///
    /// # Errors
    /// The log's.
    pub fn start(log: &dyn Log) -> Result<Self, StoreError> {
        Ok(Self { at: Checkpoint::start(log.info()?), now: 0 })
    }

    /// After the event at `position`, at the instant of its commit; 0 is before everything.
    ///
    /// # Errors
    /// If it is beyond the head; the log's.
    pub fn at_position(log: &dyn Log, position: Position) -> Result<Self, MomentError> {
        if position == Position::ZERO {
            return Ok(Self::start(log)?);
        }
        let Some((commit, _)) = log.event(position)? else {
            return Err(MomentError::BeyondHead { asked: position, head: log.head()?.position });
        };
        let at = Checkpoint { log: log.info()?, position, commit: commit.meta.id, recorded_at: commit.recorded_at };
        Ok(Self { at, now: commit.recorded_at })
    }

    /// After the last commit recorded at or before `time`, at that time.
    ///
    /// # Errors
    /// If the log's clock has not come so far, or the log had no event yet; the log's.
    pub fn at_time(log: &dyn Log, time: Millis) -> Result<Self, MomentError> {
        let now = log.now()?;
        if time > now {
            return Err(MomentError::InTheFuture { now, ahead: time.saturating_sub(now) });
        }
        let first = log.first()?;
        let (mut low, mut high) = (first.0, log.head()?.position.0 + 1);
        // Instants do not decrease along a log: everything before `low` was recorded in time, from `high` on too late.
        while low < high {
            let middle = low + (high - low) / 2;
            match log.event(Position(middle))? {
                Some((commit, _)) if commit.recorded_at <= time => low = commit.last().0 + 1,
                Some((commit, _)) => high = commit.first().0.max(low),
                None => high = middle,
            }
        }
        if low == first.0 && first > Position(1) {
            let began = log.event(first)?.map_or(now, |(commit, _)| commit.recorded_at);
            return Err(MomentError::BeforeBeginning { first, began });
        }
        if low == first.0 {
            let first = log.event(first)?.map_or(now, |(commit, _)| commit.recorded_at);
            return Err(MomentError::BeforeFirst { first, before: first.saturating_sub(time) });
        }
        Ok(Self { now: time, ..Self::at_position(log, Position(low - 1))? })
    }
}
