//! One row of the cache: what the view has, what the open batch has made of it, and what both rest on.

use tasklog_log::{Millis, Position};
use tasklog_projections::AnyRow;

use super::Known;

/// What a writer knows of one row.
#[derive(Clone)]
pub(super) struct Slot {
    /// As the view has it, including what the open batch has flushed.
    pub(super) base: Option<AnyRow>,
    /// The rev that the view has with it.
    pub(super) base_rev: Position,
    /// Whether the view has a tombstone.
    pub(super) buried: bool,
    pub(super) row: Option<AnyRow>,
    pub(super) rev: Position,
    pub(super) at: Millis,
    pub(super) dirty: bool,
    /// The rev before the open batch.
    pub(super) durable: Position,
    /// The last decision that read it.
    pub(super) stamp: u64,
    /// Whether the event that `rev` names is known to be about it: it was written here, or looked at.
    pub(super) linked: bool,
    /// Nobody has looked: it is only assumed that there is no such row.
    pub(super) assumed: bool,
    /// As it was before an open batch of a shared store changed it.
    pub(super) origin: Option<Origin>,
}

/// What is known of a row, and what a batch that was not written goes back to.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) row: Option<AnyRow>,
    pub(super) rev: Position,
    pub(super) buried: bool,
    pub(super) at: Millis,
}

/// What a row was before the command being decided put another one there.
pub(super) struct Undo {
    pub(super) table: usize,
    pub(super) key: Box<str>,
    pub(super) row: Option<AnyRow>,
    pub(super) rev: Position,
    pub(super) at: Millis,
}

/// What a decision sees of a row.
pub(crate) struct Seen {
    pub(crate) row: Option<AnyRow>,
    pub(crate) rev: Position,
    /// Whether this decision has not read it before.
    pub(crate) first_time: bool,
    /// Whether its absence is only assumed.
    pub(crate) assumed: bool,
}

impl Slot {
    /// Reads it for the decision with this stamp.
    pub(super) fn seen(&mut self, stamp: u64) -> Seen {
        let first_time = self.stamp != stamp;
        self.stamp = stamp;
        Seen { row: self.row.clone(), rev: self.rev, first_time, assumed: self.is_assumed() }
    }

    /// Whether its absence is only assumed; what the open batch has put there is known.
    pub(super) fn is_assumed(&self) -> bool {
        self.assumed && self.row.is_none() && self.rev == Position::ZERO
    }

    /// As it was asked for.
    pub(super) fn known((held, tombstone): Known) -> Self {
        match held {
            Some(held) => Self::clean(Some(held.row), held.rev, false),
            None => Self::clean(None, tombstone.unwrap_or_default(), tombstone.is_some()),
        }
    }

    /// As the view has it, unchanged.
    pub(super) fn clean(row: Option<AnyRow>, rev: Position, buried: bool) -> Self {
        Self {
            base: row.clone(),
            base_rev: rev,
            buried,
            row,
            rev,
            at: 0,
            dirty: false,
            durable: rev,
            stamp: 0,
            linked: false,
            assumed: false,
            origin: None,
        }
    }
}
