use tasklog_log::{Checkpoint, CommitId, Entity, LogInfo, Millis, NewCommit, Position, StoreError};
use tasklog_projections::RowChange;

use crate::{keep::KeptPart, rows::Known};

/// One decision of a batch, on its way into a store that others write to as well.
#[derive(Debug)]
pub struct Item {
    /// What to append, and the conditions; without events, only the conditions are to be checked.
    pub commit: NewCommit,
    /// ms: the first instant at which a row that the decision saw alive will have died.
    pub valid_until: Option<Millis>,
    /// Rows that the decision saw dead: the store may have removed them meanwhile.
    pub dead: Vec<Entity>,
    /// The id under which the caller may have been answered before.
    pub asked: Option<CommitId>,
    /// The answer to keep under that id.
    pub kept: Option<Vec<KeptPart>>,
    /// The place of its first event, provisional.
    pub first: Position,
    /// Whether it shares the fate of the batch's other ordered ones, and stands among them in its place.
    pub ordered: bool,
}

/// What has become of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was written, or needed no writing and still held.
    Stands,
    /// Rows had changed under it: it is to be made again.
    Stale,
    /// Nothing is known against it, but it could not be written in this round.
    Later,
    /// It failed; the number of its error in [`Written::errors`].
    Failed(usize),
}

/// Where the places of a batch went.
#[derive(Debug)]
pub struct Placed {
    /// For each item that was written: the provisional place of its first event, how many there are, and the real one.
    pub spans: Vec<(u64, u64, Position)>,
    /// The log's head after the batch.
    pub head: Checkpoint,
}

impl Default for Placed {
    fn default() -> Self {
        let log = LogInfo { id: tasklog_log::LogId::nil(), epoch: 0 };
        Self { spans: Vec::new(), head: Checkpoint::start(log) }
    }
}

impl Placed {
    /// The real position; real ones stay what they are, places that were not written have none.
    #[must_use]
    pub fn real(&self, position: Position) -> Option<Position> {
        let Some(place) = position.as_provisional() else { return Some(position) };
        let at = self.spans.partition_point(|(first, ..)| *first <= place).checked_sub(1)?;
        let (first, length, real) = self.spans[at];
        (place < first + length).then(|| Position(real.0 + (place - first)))
    }

    /// The head after the batch; none if the batch was not written through a shared store.
    #[must_use]
    pub fn known_head(&self) -> Option<Position> {
        (self.head.log.epoch > 0).then_some(self.head.position)
    }
}

/// What a write has come to.
#[derive(Debug)]
pub struct Written {
    /// Of each item.
    pub fates: Vec<Fate>,
    /// Sorted by their provisional places.
    pub placed: Placed,
    /// Rows that were not as a decision had seen them, as they are.
    pub stale: Vec<(Entity, Known)>,
    /// What [`Fate::Failed`] points to.
    pub errors: Vec<StoreError>,
}

/// A store that others write to at the same time. It has no transactions: what a batch decided goes in as one atomic step
/// that checks every condition first, and places are given there.
pub trait SharedBackend {
    /// Writes the items, and their rows: `changes` and what was written to the view since the batch began. Items that depend on each other
    /// share one fate; the others are not disturbed.
    ///
    /// # Errors
    /// `unavailable` (what could be found out about the batch's fate is in the error), `diverged`, `corrupt`.
    fn write(&mut self, now: Millis, items: &[Item], changes: Vec<RowChange>) -> Result<Written, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_were_not_written_have_no_position() {
        let placed = Placed { spans: vec![(1, 2, Position(10)), (5, 1, Position(12))], ..Placed::default() };
        let real = |place| placed.real(Position::provisional(place)).map(|position| position.0);
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(real), [None, Some(10), Some(11), None, None, Some(12), None]);
        assert_eq!(placed.real(Position(7)), Some(Position(7)));
    }
}
