//! A batch is written, and what has become of each of its decisions is known.

use std::sync::atomic::Ordering;

use tasklog_log::{Checkpoint, StoreError};

use super::{Batch, Engine};
use crate::{
    backend::{Backend, Fate, Written},
    meters::Sizes,
};

/// What has become of the decisions of a batch.
pub struct Finished {
    fates: Vec<Fate>,
    errors: Vec<StoreError>,
}

impl Finished {
    /// What has become of one; a request that left nothing in the batch stands.
    #[must_use]
    pub fn fate(&self, item: Option<usize>) -> Fate {
        item.and_then(|item| self.fates.get(item)).copied().unwrap_or(Fate::Stands)
    }

    /// The error of a decision that failed.
    #[must_use]
    pub fn error(&self, item: Option<usize>) -> Option<StoreError> {
        match self.fate(item) {
            Fate::Failed(error) => self.errors.get(error).map(StoreError::share),
            _ => None,
        }
    }

    /// Whether every decision stands.
    #[must_use]
    pub fn all_stand(&self) -> bool {
        self.fates.iter().all(|fate| *fate == Fate::Stands)
    }
}

impl<B: Backend> Engine<B> {
    /// Writes the batch. A decision whose rows had changed under it is not written and has to be made again; the answer
    /// says which. A store with one writer writes all of a batch or nothing.
    ///
    /// # Errors
    /// The store's; then nothing of the batch is in it, or as much as the error says.
    pub fn finish(&mut self) -> Result<Finished, StoreError> {
        let finished = if self.backend.shared().is_some() { self.finish_shared() } else { self.finish_alone() };
        if let Ok(finished) = &finished {
            self.tell_meters(finished);
        }
        match &finished {
            Ok(fates) if fates.all_stand() || self.backend.shared().is_some() => {}
            _ => self.abandon(),
        }
        finished
    }

    /// Counts what stands.
    fn tell_meters(&mut self, finished: &Finished) {
        for (item, count) in self.batch.counts.drain(..) {
            if finished.fate(item) == Fate::Stands {
                self.meters.count(&count);
            }
        }
        self.meters.conflicts(finished.fates.iter().filter(|fate| **fate == Fate::Stale).count());
    }

    /// Keeps the number of rows of tables that may have very many, once somebody has asked for it.
    fn keep_sizes(&mut self) -> Result<(), StoreError> {
        if !self.meters.sizes.wanted() {
            return Ok(());
        }
        for table in Sizes::TABLES {
            let rows = self.rows.count(table, &mut self.backend)?;
            self.meters.sizes.keep(table, rows);
        }
        Ok(())
    }

    /// One transaction: all of it, or nothing.
    fn finish_alone(&mut self) -> Result<Finished, StoreError> {
        let commits: Vec<_> = self.batch.items.drain(..).map(|item| item.commit).collect();
        self.keep_sizes()?;
        let Batch { from, now, .. } = &self.batch;
        let outcomes = self.backend.append(*now, &commits, &mut self.rows)?;
        if outcomes.iter().any(Result::is_err) {
            return Ok(Finished { fates: vec![Fate::Stale; commits.len()], errors: Vec::new() });
        }
        let changes = self.rows.changes();
        if let (Some(commit), Some(Ok(appended))) = (commits.last(), outcomes.last()) {
            debug_assert_eq!(appended.last, self.batch.last);
            let to = Checkpoint {
                log: from.log,
                position: appended.last,
                commit: commit.meta.id,
                recorded_at: appended.recorded_at,
            };
            self.backend.view().apply(&changes, from, &to)?;
        } else {
            // Only rows flushed by a command that was rejected afterwards can be left: written back as they were.
            self.backend.view().write(&changes)?;
        }
        self.backend.commit()?;
        if let Some(Ok(appended)) = outcomes.last() {
            self.recorded_at.store(appended.recorded_at, Ordering::Release);
        }
        self.rows.settle();
        Ok(Finished { fates: vec![Fate::Stands; commits.len()], errors: Vec::new() })
    }

    /// One step in a store that others write to as well: each decision has its own fate.
    fn finish_shared(&mut self) -> Result<Finished, StoreError> {
        let changes = self.rows.changes();
        let items = std::mem::take(&mut self.batch.items);
        let Some(shared) = self.backend.shared() else {
            return Ok(Finished { fates: Vec::new(), errors: Vec::new() });
        };
        let Written { fates, placed, stale, errors } = shared.write(self.batch.now, &items, changes)?;
        self.batch.placed = placed;
        let placed = &self.batch.placed;
        self.rows.settle_shared(&|position| placed.real(position))?;
        for (entity, known) in stale {
            if let Some(table) = tasklog_projections::table(&entity.table) {
                self.rows.take_over(table, &entity.key, known);
            }
        }
        self.recorded_at.fetch_max(self.batch.placed.head.recorded_at, Ordering::AcqRel);
        Ok(Finished { fates, errors })
    }

    /// Gives up the batch: nothing of it is in the store.
    pub(crate) fn abandon(&mut self) {
        self.backend.rollback();
        self.rows.clear();
        self.meters.sizes.forget();
        self.batch.items.clear();
    }
}
