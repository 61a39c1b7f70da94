//! A batch begins: the head and the clock are read once for all of its decisions, and what has died is removed.

use std::time::Duration;

use tasklog_log::{Millis, StoreError};
use tasklog_projections::TABLES;

use super::Engine;
use crate::backend::Backend;

/// How often housekeeping removes what has died, by the log's clock.
const SWEEP_INTERVAL_MS: Millis = 1_000;
/// Dead rows removed from one table by one round of housekeeping.
const SWEEP_ROWS_MAX: usize = 2_000;

impl<B: Backend> Engine<B> {
    /// Begins a batch.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        let begun = self.try_begin();
        if begun.is_err() {
            self.abandon();
        }
        begun
    }

    fn try_begin(&mut self) -> Result<(), StoreError> {
        if self.backend.begin()? {
            self.rows.clear();
        }
        let shared = self.backend.shared().is_some();
        if shared {
            self.rows.begin_shared();
        }
        let from = self.backend.head()?;
        let now = self.backend.now()?;
        self.batch.begin(from, now, shared);
        self.item = None;
        // A round that met its bound goes on with the next batch.
        if now >= self.swept_at + SWEEP_INTERVAL_MS && self.sweep(now)? {
            self.swept_at = now;
        }
        Ok(())
    }

    /// Housekeeping: rows dead at the head's instant, tombstones and answers past their retention. Answers whether it is
    /// done.
    fn sweep(&mut self, now: Millis) -> Result<bool, StoreError> {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let buried_before = now.saturating_sub(ms(self.config.tombstone_retention));
        let dead_at = self.batch.from.recorded_at;
        self.rows.forget_buried(buried_before);
        let mut done = true;
        for table in TABLES {
            let removed = self.backend.view().sweep(table, dead_at, buried_before, SWEEP_ROWS_MAX)?;
            self.rows.swept(table, &removed);
            done &= removed.len() < SWEEP_ROWS_MAX;
        }
        let answered_before = now.saturating_sub(ms(self.config.command_id_retention));
        Ok(self.backend.forget_answers(answered_before)? && done)
    }

    /// Says that requests join the batch which have arrived since it began, or since the last call.
    pub fn admit(&mut self) {
        self.backend.admit();
    }

    /// How many events the batch has so far.
    #[must_use]
    pub fn batch_events(&self) -> u64 {
        self.batch.events()
    }
}
