//! The batch that is open: where it began, and what has been decided so far.

use std::collections::HashMap;

use ahash::RandomState;
use tasklog_log::{Checkpoint, CommitId, Millis, Position};

use super::reply::Known;
use crate::{
    backend::{Item, Placed},
    meters::Count,
};

/// What is decided together and written as one transaction.
///
/// Where others append as well, the places of its events are given by the append. Until then it counts in provisional
/// positions, of which `placed` tells the real ones afterwards.
pub(super) struct Batch {
    /// What the rows reflected before it.
    pub(super) from: Checkpoint,
    /// The log's clock, read once.
    pub(super) now: Millis,
    /// The instant of the newest commit, of this batch or before it.
    pub(super) latest: Millis,
    /// The position of the newest event, of this batch or before it.
    pub(super) last: Position,
    /// Before the first event of this batch.
    pub(super) before: Position,
    pub(super) items: Vec<Item>,
    /// The real places of the items, once they are known.
    pub(super) placed: Placed,
    pub(super) answered: HashMap<CommitId, Known, RandomState>,
    /// What is counted with each item that stands.
    pub(super) counts: Vec<(Option<usize>, Count)>,
}

impl Batch {
    /// No batch yet, after this commit.
    pub(super) fn new(from: Checkpoint) -> Self {
        Self {
            from,
            now: 0,
            latest: from.recorded_at,
            last: from.position,
            before: from.position,
            items: Vec::new(),
            placed: Placed::default(),
            answered: HashMap::default(),
            counts: Vec::new(),
        }
    }

    /// Begins anew after this commit; `shared` if others append as well.
    pub(super) fn begin(&mut self, from: Checkpoint, now: Millis, shared: bool) {
        self.from = from;
        self.now = now;
        self.latest = from.recorded_at;
        self.before = if shared { Position::provisional(0) } else { from.position };
        self.last = self.before;
        self.items.clear();
        self.placed = Placed::default();
        self.answered.clear();
        self.counts.clear();
    }

    /// How many events it has so far.
    pub(super) fn events(&self) -> u64 {
        self.last.0 - self.before.0
    }
}
