use super::Hash;
use crate::{Checkpoint, Position, StoreError};

/// The leaves of a subtree whose hash is kept: level 8.
pub const CHUNK_LEAVES: u64 = 256;
/// Hashes read at once.
const HASHES_PER_READ: usize = 4_096;

/// Where the hashes of complete chunks are kept. What every place promises:
///
/// - The hashes are those of chunks 0, 1, … of the log up to the checkpoint: of a tree at position `p`, `p / 256` of them.
/// - `advance` changes hashes and checkpoint together or not at all, and only if the checkpoint is still the one that the
///   caller has seen.
/// - Nothing else changes what is kept, and nothing in it is needed: it can be computed from the log at any time. A place
///   that has lost hashes has kept nothing.
pub trait KeptTree {
    /// Through which commit the log has been looked at; none if nothing was kept yet.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` for something that is no tree.
    fn at(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// Up to `count` hashes, from that of chunk `from` on; fewer at the end.
    ///
    /// # Errors
    /// As [`KeptTree::at`].
    fn hashes(&self, from: u64, count: usize) -> Result<Vec<Hash>, StoreError>;

    /// Keeps the first `keep` hashes, adds `new` after them, and moves the checkpoint to `to`. False, and nothing was
    /// changed, if it is not `from` any more. `keep + new.len()` is `to.position / 256`.
    ///
    /// # Errors
    /// `unavailable` or `read_only`; then nothing was changed, or (only where an answer can be lost) all of it.
    fn advance(&self, from: Option<&Checkpoint>, keep: u64, new: &[Hash], to: &Checkpoint) -> Result<bool, StoreError>;
}

/// The chunks that end at or before a position.
pub(super) const fn chunks_through(position: Position) -> u64 {
    position.0 / CHUNK_LEAVES
}

/// A kept tree, read into memory: an eighth of a byte per event.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Through which commit; none if nothing is kept.
    pub at: Option<Checkpoint>,
    /// Of the complete chunks up to there.
    pub chunks: Vec<Hash>,
}

impl Kept {
    /// Reads all of it.
    ///
    /// # Errors
    /// The place's; `corrupt` if there are not as many hashes as its checkpoint says.
    pub fn load(kept: &dyn KeptTree) -> Result<Self, StoreError> {
        let Some(at) = kept.at()? else { return Ok(Self::default()) };
        let expected = chunks_through(at.position);
        let mut chunks: Vec<Hash> = Vec::new();
        while (chunks.len() as u64) < expected {
            let left = usize::try_from(expected - chunks.len() as u64).unwrap_or(usize::MAX);
            let page = kept.hashes(chunks.len() as u64, left.min(HASHES_PER_READ))?;
            if page.is_empty() {
                let found = chunks.len();
                return Err(StoreError::corrupt_store(format!(
                    "the kept tree at {at} has {found} hashes, expected {expected}"
                )));
            }
            chunks.extend(page);
        }
        Ok(Self { at: Some(at), chunks })
    }
}
