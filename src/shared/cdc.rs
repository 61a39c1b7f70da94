//! The overflow buffer of change events: first in first out, bounded by bytes, counted exactly.

use std::sync::Arc;

use tasklog_log::StoreError;

use super::SharedKeys;

/// The most changes one look at the front gives, and one acknowledgement takes.
pub const FRONT_CHANGES_MAX: usize = 100;
/// The most bytes one look at the front gives, unless one change alone is larger.
pub const FRONT_BYTES_MAX: usize = 4 << 20;
/// The most changes one step drops to make room.
pub const DROPS_PER_STEP_MAX: u64 = 1_000;
/// How many steps one push may take.
pub const STEPS_PER_PUSH_MAX: usize = 100_000;

/// What became of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Whether it is in the buffer now.
    pub stored: bool,
    /// Changes dropped for it; the change itself, if it is larger than the bound or there is no buffer.
    pub dropped: u64,
    /// Bytes in the buffer now.
    pub bytes: u64,
    /// Not stored yet: more must be dropped first than one step drops.
    pub more: bool,
}

/// One change in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdcChange {
    /// What acknowledges it.
    pub token: String,
    /// As pushed.
    pub bytes: Vec<u8>,
}

/// The front of a buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CdcFront {
    /// The oldest changes, oldest first.
    pub changes: Vec<CdcChange>,
    /// Changes in the whole buffer.
    pub held: u64,
    /// Bytes in the whole buffer: `miroir_cdc_buffer_bytes`.
    pub bytes: u64,
}

/// The overflow buffer of one sink.
#[derive(Clone)]
pub struct CdcOverflow {
    keys: Option<Arc<dyn SharedKeys>>,
    sink: String,
    bytes_max: u64,
}

impl CdcOverflow {
    /// The buffer of `sink`, of at most `bytes_max`; without `keys` everything is dropped (`overflow: drop`).
    #[must_use]
    pub fn new(keys: Option<Arc<dyn SharedKeys>>, sink: &str, bytes_max: u64) -> Self {
        Self { keys, sink: sink.to_owned(), bytes_max }
    }

    /// Adds a change at the end, dropping the oldest until it fits. `dropped` is what `miroir_cdc_dropped_total` rises by.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]. The change may have been stored; pushing it again is allowed, since delivery is at least
    /// once and changes carry a stable id.
    pub fn push(&self, change: &[u8]) -> Result<Pushed, StoreError> {
        let Some(keys) = &self.keys else {
            return Ok(Pushed { dropped: 1, ..Pushed::default() });
        };
        let mut dropped = 0;
        for _ in 0..STEPS_PER_PUSH_MAX {
            let pushed = keys.cdc_push(&self.sink, change, self.bytes_max)?;
            dropped += pushed.dropped;
            if !pushed.more {
                if dropped > 0 {
                    tracing::warn!(sink = self.sink, dropped, "the overflow buffer is full: changes were dropped");
                }
                return Ok(Pushed { dropped, ..pushed });
            }
        }
        Err(StoreError::unavailable(format!(
            "push to the overflow buffer of sink {}: no room after {STEPS_PER_PUSH_MAX} steps, {dropped} changes dropped",
            self.sink
        )))
    }

    /// The oldest changes, at most `changes_max` ([`FRONT_CHANGES_MAX`], [`FRONT_BYTES_MAX`]). They stay until they are
    /// acknowledged, so whoever fails in between sees them again, and so do other pods meanwhile.
    ///
    /// # Errors
    /// Those of [`SharedKeys`].
    pub fn front(&self, changes_max: usize) -> Result<CdcFront, StoreError> {
        self.keys.as_ref().map_or_else(|| Ok(CdcFront::default()), |keys| keys.cdc_front(&self.sink, changes_max))
    }

    /// Removes delivered changes, in the order in which [`CdcOverflow::front`] gave them; answers how many were still
    /// there.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating is safe.
    pub fn ack<'a>(&self, changes: impl IntoIterator<Item = &'a CdcChange>) -> Result<u64, StoreError> {
        let tokens: Vec<String> = changes.into_iter().map(|change| change.token.clone()).collect();
        let mut removed = 0;
        if let Some(keys) = &self.keys {
            for tokens in tokens.chunks(FRONT_CHANGES_MAX) {
                removed += keys.cdc_ack(&self.sink, tokens)?;
            }
        }
        Ok(removed)
    }
}
