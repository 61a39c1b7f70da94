use std::sync::{Arc, Mutex, PoisonError};

use tasklog_log::Checkpoint;

/// The newest head that any writer of this process has seen, which all of them insist on: what one has acknowledged must
/// not be missed by another.
#[derive(Clone, Debug, Default)]
pub struct Newest(Arc<Mutex<Option<Checkpoint>>>);

impl Newest {
    /// Takes over a head, unless one that is as new is known.
    pub(super) fn raise(&self, head: Checkpoint) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| (known.log.epoch, known.position) < (head.log.epoch, head.position)) {
            *known = Some(head);
        }
    }

    /// The newest head so far.
    pub fn get(&self) -> Option<Checkpoint> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
