use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Hash, Kept, KeptTree};
use crate::{Checkpoint, StoreError};

/// A tree that is kept in this process's memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree(Arc<Mutex<Kept>>);

impl MemoryTree {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Both parts are replaced together, and nothing between the two can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptTree for MemoryTree {
    fn at(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.kept().at)
    }

    fn hashes(&self, from: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let kept = self.kept();
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(kept.chunks.len());
        Ok(kept.chunks[from..].iter().take(count).copied().collect())
    }

    fn advance(&self, from: Option<&Checkpoint>, keep: u64, new: &[Hash], to: &Checkpoint) -> Result<bool, StoreError> {
        let mut kept = self.kept();
        if kept.at.as_ref() != from {
            return Ok(false);
        }
        kept.chunks.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        kept.chunks.extend_from_slice(new);
        kept.at = Some(*to);
        Ok(true)
    }
}
