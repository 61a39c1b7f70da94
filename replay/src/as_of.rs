//! The state of rows and tables as of an earlier moment.
//!
//! ```text
//!   position   1     2     3     4     5     6
//!            +-----+-----------+-----------------+
//!   events   |  a  |  b     c  |  d     e     f  |      commits: [1] [2 3] [4 5 6]
//!            +-----+-----------+-----------------+
//!   at 5: after event 5, inside a commit; what is dead by then is dead at that commit's instant
//!   at a time: after the last commit recorded at or before it; what is dead by then is dead at that time
//! ```
//! One row walks its own chain: from the rev of the row or of its tombstone back to the chain's first event, and forward
//! again through the moment. Where that does not lead there (the entity left neither, its chain began anew since, or it
//! is very long), and for whole tables, the log is folded from a snapshot at or before the moment, or from its start.

mod moment;
mod row;
mod tables;

pub use self::{
    moment::{Moment, MomentError},
    row::{CHAIN_LINKS_MAX, RowAt},
    tables::bury_dead,
};

use tasklog_log::{Log, Position, StoreError};

use crate::snapshot::{Snapshot, Snapshots};

/// What the past is read from.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// The events that replays pass over, ascending, as decided today: a moment before the decision could not be seen
    /// otherwise.
    pub passed_over: &'a [Position],
    /// The snapshots that folds may begin with.
    pub snapshots: Option<&'a Snapshots>,
}

impl Past<'_> {
    /// Whether replays pass over an event.
    #[must_use]
    pub fn passes_over(&self, position: Position) -> bool {
        self.passed_over.binary_search(&position).is_ok()
    }
    fn snapshot(&self, through: Position) -> Result<Option<Snapshot>, StoreError> {
        self.snapshots.map_or(Ok(None), |snapshots| snapshots.newest(self.log, through))
    }

    /// Without a snapshot, a fold needs the whole log.
    fn require_beginning(&self, through: Position) -> Result<(), StoreError> {
        let first = self.log.first()?;
        if first <= Position(1) {
            return Ok(());
        }
        Err(StoreError::unavailable(format!(
            "looking at event {through}: the log begins at event {first}, and there is no usable snapshot at or before it"
        )))
    }
}
