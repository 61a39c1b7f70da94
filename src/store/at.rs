//! A store as it was at an earlier moment, for reading.

mod differ;
mod past;
mod when;

pub use differ::{Differed, Scope};
pub(crate) use past::AtRead;
pub use when::{ParseWhenError, When};

use std::sync::Arc;

use tasklog_log::{Log, Position, StoreError};
use tasklog_projections::facts;
use tasklog_replay::{Moment, MomentError};

use super::{Inner, ReadSide, TaskStore};
use crate::rejection::{Error, Rejection};

impl TaskStore {
    /// The store as it was at an earlier moment: a handle whose reads answer as of then. Rows that had died by that moment
    /// are dead, rows that die later are alive. One row is found by walking its own chain of events; whatever looks at
    /// many rows folds the log through that moment once, and what was folded is kept for as long as the handle lives.
    ///
    /// Its connections for SQL lead to a temporary file that has the 14 tables as they were, without the rows that were
    /// dead; of a store in a file, `events` are there as well, through that moment.
    ///
    /// It takes no commands: they are refused as `read_only`.
    ///
    /// # Errors
    /// `invalid` if there is no such moment: beyond the head, before the first event, in the future; the store's.
    pub fn at(&self, when: impl Into<When>) -> Result<Self, Error> {
        let when = when.into();
        let moment = self.inner.read.with_log(|log| find(log, when))?;
        let passed_over = self.passed_over()?;
        let snapshots = self.snapshots()?;
        let inner = Inner {
            committer: None,
            meters: None,
            read_only: Some(format!("a store as of event {} takes no commands", moment.at.position)),
            read: ReadSide::At(Box::new(AtRead::new(Arc::clone(&self.inner), moment, passed_over, snapshots))),
            clock: Arc::clone(&self.inner.clock),
            actor: Arc::clone(&self.inner.actor),
            config: self.inner.config.clone(),
            recording: self.inner.recording,
            background: None,
            kept: self.inner.kept.clone(),
            _lock: None,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The moment that a handle of [`TaskStore::at`] shows; none for the present.
    #[must_use]
    pub fn moment(&self) -> Option<Moment> {
        match &self.inner.read {
            ReadSide::At(read) => Some(*read.moment()),
            _ => None,
        }
    }

    /// The store whose past this is; the store itself if it shows the present.
    pub(crate) fn present(&self) -> Self {
        match &self.inner.read {
            ReadSide::At(read) => Self { inner: Arc::clone(read.origin()) }.present(),
            _ => self.clone(),
        }
    }

    /// The moment that `when` names.
    ///
    /// # Errors
    /// As [`TaskStore::at`].
    pub fn find_moment(&self, when: impl Into<When>) -> Result<Moment, Error> {
        let when = when.into();
        self.inner.read.with_log(|log| find(log, when))
    }

    /// The events that replays pass over, ascending, as decided today.
    ///
    /// # Errors
    /// The store's.
    pub fn passed_over(&self) -> Result<Vec<Position>, Error> {
        self.inner.read.with(|_, view| Ok(facts::quarantined(view)?))
    }

    /// What a query in SQL reads events from, on a connection of this store; none if it has none.
    pub(crate) fn events_source(&self) -> Option<String> {
        match &self.inner.read {
            ReadSide::At(read) => read.events_source(),
            _ => Some("main.events".into()),
        }
    }
}

fn find(log: &dyn Log, when: When) -> Result<Moment, Error> {
    let found = match when {
        When::Position(position) => Moment::at_position(log, position),
        When::Time(time) => Moment::at_time(log, time),
        When::Ago(ms) => Moment::at_time(log, log.now()?.saturating_sub(ms)),
    };
    found.map_err(|error| {
        let told =
            |ms| jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| format!("{at:.3}"));
        let why = match error {
            MomentError::Store(error) => return error.into(),
            MomentError::BeforeFirst { first, .. } => {
                format!("there was nothing yet: the first event was recorded at {}", told(first))
            }
            MomentError::BeforeBeginning { first, began } => format!(
                "the log here begins at event {first}, recorded at {}: ask a store that has what was before, such as the source \
                 of a replica",
                told(began)
            ),
            MomentError::InTheFuture { now, .. } => {
                format!("that has not come yet: the log's clock stands at {}", told(now))
            }
            beyond @ MomentError::BeyondHead { .. } => beyond.to_string(),
        };
        Rejection::invalid(format!("as of {when}: {why}")).into()
    })
}

/// What the past does not do.
pub(super) fn not_in_the_past(what: &str) -> Error {
    Rejection::invalid(format!("{what} is about a store as it is, not as it was at an earlier moment")).into()
}

impl From<Position> for When {
    fn from(position: Position) -> Self {
        Self::Position(position)
    }
}

/// The past is read only.
fn no_writes() -> StoreError {
    StoreError::ReadOnly("the past takes no writes".into())
}
