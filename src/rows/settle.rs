//! What becomes of the cache once a batch is written, or when others have changed the view: positions become real, and what
//! is not so any more is forgotten.

use std::collections::HashMap;

use tasklog_log::{Millis, Position, StoreError};
use tasklog_projections::{AnyRow, PROJECTED, TableDef, Tombstones};

use super::{
    Known, Rows, Slots, count,
    slot::{Origin, Slot},
};
use crate::tables::place;

/// Rows kept between batches; the older half goes when there are more.
const ROWS_CACHED_MAX: usize = 20_000;

impl Rows {
    /// The batch is durable: its revs are the ones to compare with from now on.
    pub(crate) fn settle(&mut self) {
        for (at, key) in std::mem::take(&mut self.touched) {
            let Some(slot) = self.young[at].get_mut(&key) else { continue };
            slot.durable = slot.rev;
            if slot.row.is_none() && slot.rev > Position::ZERO {
                let buried_at = slot.at;
                self.note_buried(at, &key, buried_at);
            }
        }
        self.deletions.clear();
        if self.young.iter().map(HashMap::len).sum::<usize>() > ROWS_CACHED_MAX / 2 {
            let fresh = vec![Slots::default(); PROJECTED.len()];
            self.old = std::mem::replace(&mut self.young, fresh);
        }
    }

    /// [`Rows::settle`] for a batch whose positions were provisional: `real` tells where a place went; what it does not
    /// know was not written, and goes back to what was known before.
    pub(crate) fn settle_shared(&mut self, real: &dyn Fn(Position) -> Option<Position>) -> Result<(), StoreError> {
        for (at, key) in std::mem::take(&mut self.touched) {
            let Some(slot) = self.young[at].get_mut(&key) else { continue };
            if slot.rev.as_provisional().is_none() {
                // Flushed for a scan and taken back, or met a second time here.
                continue;
            }
            let origin = slot.origin.take();
            let Some(rev) = real(slot.rev) else {
                match origin.filter(|_| !slot.assumed) {
                    Some(Origin { row, rev, buried, at }) => *slot = Slot { at, ..Slot::clean(row, rev, buried) },
                    None => drop(self.young[at].remove(&key)),
                }
                continue;
            };
            let row = slot.row.take().map(|row| {
                let placed = PROJECTED[at].with_positions(row, &|position| real(position).unwrap_or(position));
                placed.map_err(|why| StoreError::corrupt(rev, why))
            });
            let row = row.transpose()?;
            let (buried, instant) = (row.is_none(), slot.at);
            *slot = Slot { at: instant, ..Slot::clean(row, rev, buried) };
            if buried {
                self.note_buried(at, &key, instant);
            }
        }
        self.settle();
        Ok(())
    }

    /// Notes that a row is deleted. When is not known of those that were deleted before this writer looked.
    pub(super) fn note_buried(&mut self, table: usize, key: &str, at: Millis) {
        if PROJECTED[table].tombstones == Tombstones::Short {
            match at {
                Millis::MIN => self.buried.push_front((at, table, key.into())),
                at => self.buried.push_back((at, table, key.into())),
            }
        }
    }

    /// Housekeeping forgets the tombstones of rows deleted before `before`, and so does the cache: a creation begins a new
    /// chain whether or not its writer still had the row at hand.
    pub(crate) fn forget_buried(&mut self, before: Millis) {
        while self.buried.front().is_some_and(|(at, ..)| *at < before) {
            let Some((at, table, key)) = self.buried.pop_front() else { return };
            for slots in [&mut self.young[table], &mut self.old[table]] {
                if slots.get(&key).is_some_and(|slot| slot.row.is_none() && (at == Millis::MIN || slot.at == at)) {
                    slots.remove(&key);
                }
            }
        }
    }

    /// Takes over a row that somebody else has changed.
    pub(crate) fn take_over(&mut self, table: &'static TableDef, key: &str, known: Known) {
        let at = place(table);
        if known.1.is_some() {
            self.note_buried(at, key, Millis::MIN);
        }
        self.old[at].remove(key);
        self.young[at].insert(key.into(), Slot::known(known));
    }

    /// Housekeeping removed these rows from the view.
    pub(crate) fn swept(&mut self, table: &'static TableDef, rows: &[AnyRow]) {
        let at = place(table);
        for row in rows {
            let key = row.key();
            self.young[at].remove(&*key);
            self.old[at].remove(&*key);
            count(&mut self.counts[at], true, false);
        }
    }
}
