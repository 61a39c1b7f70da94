use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use super::{
    Frontier, Hash, Kept,
    catch_up::{Absorber, PAGE_EVENTS, agreed},
    kept::CHUNK_LEAVES,
    leaf_hash,
};
use crate::{Checkpoint, Log, Position, StoreError, leaf, read_checked};

/// The Merkle tree of a log as it was when this was made: roots and proofs of any size up to then.
///
/// What is kept is used if it is this log's; what is missing is read from the log and not kept.
pub struct Tree<'l> {
    log: &'l dyn Log,
    at: Checkpoint,
    /// Of the complete chunks.
    chunks: Vec<Hash>,
    /// So many of them were kept.
    kept: usize,
    /// Leaves of the few chunks that were looked into.
    leaves: RefCell<BTreeMap<u64, Rc<Vec<Hash>>>>,
}

impl<'l> Tree<'l> {
    /// Completes what is kept with what `log` has had since.
    ///
    /// # Errors
    /// The log's: `corrupt`, naming the position, where an event is missing or its checksum is wrong.
    pub fn open(log: &'l dyn Log, kept: Kept) -> Result<Self, StoreError> {
        let at = log.head()?;
        let Kept { at: kept_at, mut chunks } = kept;
        let agreed = agreed(log, kept_at.as_ref(), &mut |chunk| {
            Ok(usize::try_from(chunk).ok().and_then(|chunk| chunks.get(chunk)).copied())
        })?;
        chunks.truncate(usize::try_from(agreed.chunks).unwrap_or(usize::MAX));
        let kept = chunks.len();
        let mut absorber = Absorber::after(agreed.chunks);
        while absorber.position() < at.position {
            let page = read_checked(log, absorber.position(), PAGE_EVENTS)?;
            if page.is_empty() {
                break;
            }
            for commit in &page {
                absorber.commit(commit, at.position);
            }
        }
        chunks.extend(absorber.take());
        Ok(Self { log, at, chunks, kept, leaves: RefCell::default() })
    }

    /// The log's head then.
    #[must_use]
    pub const fn head(&self) -> &Checkpoint {
        &self.at
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &'l dyn Log {
        self.log
    }

    /// Hashes of complete chunks, and how many of them were kept, the others computed just now.
    #[must_use]
    pub fn chunks(&self) -> (&[Hash], usize) {
        (&self.chunks, self.kept)
    }

    /// The root of the tree of the first `size` events.
    ///
    /// # Errors
    /// The log's; `corrupt` for a size beyond the head.
    pub fn root(&self, size: u64) -> Result<Hash, StoreError> {
        self.require(size)?;
        self.range(0, size)
    }

    /// The hash of the leaf at a position.
    ///
    /// # Errors
    /// The log's.
    pub fn leaf(&self, position: Position) -> Result<Hash, StoreError> {
        self.require(position.0)?;
        let index = position.before().0;
        self.range(index, index + 1)
    }

    /// What proves that the event at `position` is in the tree of the first `size` events (RFC 6962, 2.1.1).
    ///
    /// # Errors
    /// The log's; `corrupt` for a position that the tree does not have.
    pub fn inclusion(&self, position: Position, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.require(size)?;
        if position == Position::ZERO || position.0 > size {
            return Err(StoreError::corrupt(position, format!("a tree of {size} events has no such position")));
        }
        let mut proof = Vec::new();
        let (mut start, mut end, index) = (0, size, position.before().0);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(start, middle)?);
                start = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// What proves that the tree of the first `old_size` events is the beginning of that of the first `size` (RFC 6962,
    /// 2.1.2).
    ///
    /// # Errors
    /// The log's; `corrupt` for sizes that the tree does not have.
    pub fn consistency(&self, old_size: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.require(size)?;
        if old_size > size {
            return Err(StoreError::corrupt(
                Position(old_size),
                format!("a tree of {size} events has no such position"),
            ));
        }
        let mut proof = Vec::new();
        if old_size == 0 || old_size == size {
            return Ok(proof);
        }
        let (mut start, mut end, mut whole) = (0, size, true);
        while end != old_size {
            let middle = start + split(end - start);
            if old_size <= middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(start, middle)?);
                start = middle;
                whole = false;
            }
        }
        // Who checks knows the older root; only a part of it has to be told.
        if !whole {
            proof.push(self.range(start, end)?);
        }
        proof.reverse();
        Ok(proof)
    }

    fn require(&self, size: u64) -> Result<(), StoreError> {
        if size <= self.at.position.0 {
            return Ok(());
        }
        let head = self.at.position;
        Err(StoreError::corrupt(Position(size), format!("not in the log: its head is {head}")))
    }

    /// The root of the leaves from `start` to before `end`, both from 0. `start` is a multiple of a power of two that is
    /// not below the number of leaves, as all ranges of a tree and of its proofs are.
    fn range(&self, start: u64, end: u64) -> Result<Hash, StoreError> {
        let (first, last) = (start / CHUNK_LEAVES, end / CHUNK_LEAVES);
        let whole = self.between(first, last);
        if start.is_multiple_of(CHUNK_LEAVES) && end > start {
            let mut frontier: Frontier = whole.iter().copied().collect();
            if end.is_multiple_of(CHUNK_LEAVES) {
                return Ok(frontier.root());
            }
            let rest: Frontier = self.leaves_of(last)?.iter().take((end % CHUNK_LEAVES) as usize).copied().collect();
            if whole.is_empty() {
                return Ok(rest.root());
            }
            // The part chunk stands right of all whole ones, as a leaf of the tree of chunks would.
            frontier.push_last(rest.root());
            return Ok(frontier.root());
        }
        let leaves = self.leaves_of(first)?;
        let from = (start % CHUNK_LEAVES) as usize;
        let count = (end - start) as usize;
        Ok(leaves.iter().skip(from).take(count).copied().collect::<Frontier>().root())
    }

    fn between(&self, first: u64, last: u64) -> &[Hash] {
        let at = |chunk| usize::try_from(chunk).unwrap_or(usize::MAX).min(self.chunks.len());
        &self.chunks[at(first)..at(last).max(at(first))]
    }

    fn leaves_of(&self, chunk: u64) -> Result<Rc<Vec<Hash>>, StoreError> {
        if let Some(known) = self.leaves.borrow().get(&chunk) {
            return Ok(Rc::clone(known));
        }
        let (first, end) = (chunk * CHUNK_LEAVES + 1, ((chunk + 1) * CHUNK_LEAVES).min(self.at.position.0));
        let mut leaves = Vec::with_capacity(CHUNK_LEAVES as usize);
        let mut after = Position(first).before();
        while after.0 < end {
            let page = read_checked(self.log, after, CHUNK_LEAVES as usize)?;
            let Some(last) = page.last() else { break };
            for commit in &page {
                let within = commit.events.iter().filter(|event| event.position > after && event.position.0 <= end);
                leaves.extend(within.map(|event| leaf_hash(&leaf(&commit.meta, commit.recorded_at, event))));
            }
            after = last.last();
        }
        let leaves = Rc::new(leaves);
        self.leaves.borrow_mut().insert(chunk, Rc::clone(&leaves));
        Ok(leaves)
    }
}

/// The leaves of the left subtree of a tree of `size` leaves, at least 2: the largest power of two below that.
const fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}
