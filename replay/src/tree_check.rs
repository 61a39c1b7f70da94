use tasklog_log::{
    Commit, Event, Position, leaf,
    merkle::{CHUNK_LEAVES, Frontier, Hash, Kept, leaf_hash},
};

use crate::Finding;

/// Compares the events that a verification reads with the Merkle tree that was kept of them: whoever changed an event along
/// with its checksum, and the rows that follow from it, has not changed this.
///
/// Only whole chunks can be compared. One that is not read from its beginning, because the log begins later or an event is
/// missing, is passed over; the gap is a finding of its own.
pub(crate) struct TreeCheck {
    kept: Kept,
    current: Frontier,
    /// The position that would go on with the current chunk.
    next: Position,
    compared: u64,
    /// Neighbouring chunks that differ are told as one.
    wrong: Vec<(Position, Position)>,
}

impl TreeCheck {
    pub(crate) fn new(kept: Kept) -> Self {
        Self { kept, current: Frontier::new(), next: Position(1), compared: 0, wrong: Vec::new() }
    }

    pub(crate) fn event(&mut self, commit: &Commit, event: &Event) {
        let index = event.position.before().0;
        let kept = usize::try_from(index / CHUNK_LEAVES).ok().and_then(|chunk| self.kept.chunks.get(chunk).copied());
        let Some(kept) = kept else { return };
        if index.is_multiple_of(CHUNK_LEAVES) {
            self.current = Frontier::new();
        } else if event.position != self.next || self.current.leaves() == 0 {
            return;
        }
        self.next = event.position.next();
        self.current.push(leaf_hash(&leaf(&commit.meta, commit.recorded_at, event)));
        if self.current.leaves() == CHUNK_LEAVES {
            self.compare(event.position, &kept);
        }
    }

    fn compare(&mut self, last: Position, kept: &Hash) {
        self.compared += 1;
        if std::mem::take(&mut self.current).root() == *kept {
            return;
        }
        let first = Position(last.0 + 1 - CHUNK_LEAVES);
        match self.wrong.last_mut() {
            Some((_, end)) if end.next() == first => *end = last,
            _ => self.wrong.push((first, last)),
        }
    }

    /// How many chunks were compared, and what is wrong; `head` is the last event that the log has.
    pub(crate) fn end(self, head: Position) -> (u64, Vec<Finding>) {
        let differ = |(first, last)| Finding::Tree {
            first,
            last,
            why: "at least one of them is not what it was when the Merkle tree was kept".into(),
        };
        let mut findings: Vec<_> = self.wrong.into_iter().map(differ).collect();
        if let Some(at) = self.kept.at.filter(|at| at.position > head) {
            findings.push(Finding::Tree {
                first: head.next(),
                last: at.position,
                why: format!("the Merkle tree was kept through {at}, the log ends at event {head}"),
            });
        }
        (self.compared, findings)
    }
}
