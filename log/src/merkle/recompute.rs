use super::{
    Frontier, Hash,
    kept::{CHUNK_LEAVES, chunks_through},
    leaf_hash,
};
use crate::{Commit, Position, StoreError, leaf};

/// Computes the root of the first events of a log from the events themselves, page by page, and compares their chunks with
/// those that were kept: so that a root which is not the expected one can be told where it parts.
///
/// Events before the first one that can be read are taken from what is kept, in whole chunks; [`Recompute::taken`] says
/// through which position.
pub struct Recompute<'k> {
    kept: &'k [Hash],
    size: u64,
    taken: Position,
    position: Position,
    chunks: Frontier,
    current: Frontier,
    differs: Option<(Position, Position)>,
}

impl<'k> Recompute<'k> {
    /// For the tree of the first `size` events of a log whose events can be read from `first` on.
    ///
    /// # Errors
    /// `unavailable` if events before `first` are needed and their hashes are not kept.
    pub fn new(size: u64, first: Position, kept: &'k [Hash]) -> Result<Self, StoreError> {
        let taken = first.before().0.min(size).div_ceil(CHUNK_LEAVES);
        let hashes = usize::try_from(taken).ok().and_then(|taken| kept.get(..taken));
        let (Some(hashes), true) = (hashes, taken * CHUNK_LEAVES <= size) else {
            let last = first.before();
            return Err(StoreError::unavailable(format!(
                "events 1 to {last} are not in the log any more and the hashes of their chunks are not kept: the root of {size} events cannot be computed"
            )));
        };
        let taken = Position(taken * CHUNK_LEAVES);
        Ok(Self {
            kept,
            size,
            taken,
            position: taken,
            chunks: hashes.iter().copied().collect(),
            current: Frontier::new(),
            differs: None,
        })
    }

    /// The last event that was taken; the next page begins after it.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Through which position the hashes that were kept had to stand for events that cannot be read; 0 for none.
    #[must_use]
    pub const fn taken(&self) -> Position {
        self.taken
    }

    /// Whether all events were taken.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.position.0 >= self.size
    }

    /// Takes the next page. Checksums are not looked at: an event that was changed along with its checksum is the point.
    ///
    /// # Errors
    /// `corrupt`, naming the position, if an event is missing or stands in the wrong place.
    pub fn page(&mut self, page: &[Commit]) -> Result<(), StoreError> {
        for commit in page {
            let before = self.position;
            for event in commit.events.iter().filter(|event| event.position > before) {
                if self.is_done() {
                    return Ok(());
                }
                if event.position != self.position.next() {
                    let why = format!("missing from the log: the next event is {}", event.position);
                    return Err(StoreError::corrupt(self.position.next(), why));
                }
                self.current.push(leaf_hash(&leaf(&commit.meta, commit.recorded_at, event)));
                self.position = event.position;
                if self.current.leaves() == CHUNK_LEAVES {
                    let chunk = std::mem::take(&mut self.current).root();
                    self.compare(&chunk);
                    self.chunks.push(chunk);
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, chunk: &Hash) {
        let at = chunks_through(self.position) - 1;
        let kept = usize::try_from(at).ok().and_then(|at| self.kept.get(at));
        if kept.is_some_and(|kept| kept != chunk) && self.differs.is_none() {
            self.differs = Some((Position(at * CHUNK_LEAVES + 1), self.position));
        }
    }

    /// The root of what was taken.
    #[must_use]
    pub fn root(&self) -> Hash {
        if self.current.leaves() == 0 {
            return self.chunks.root();
        }
        if self.chunks.leaves() == 0 {
            return self.current.root();
        }
        let mut all = self.chunks.clone();
        all.push_last(self.current.root());
        all.root()
    }

    /// Where the events that were taken first differ from what is kept: the positions of one chunk. If no chunk differs,
    /// the events after the last one that was compared, of which nothing is kept; none if there are no such events.
    #[must_use]
    pub fn suspects(&self) -> Option<(Position, Position)> {
        let compared =
            Position((self.kept.len() as u64 * CHUNK_LEAVES).min(self.position.0 / CHUNK_LEAVES * CHUNK_LEAVES));
        self.differs.or_else(|| (compared < self.position).then(|| (compared.next(), self.position)))
    }

    /// Whether [`Recompute::suspects`] names a chunk that differs from what is kept.
    #[must_use]
    pub const fn differs(&self) -> bool {
        self.differs.is_some()
    }
}
