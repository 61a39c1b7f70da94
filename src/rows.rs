//! The rows a writer works on: a cache of the view with the open batch on top.

mod settle;
mod slot;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use ahash::RandomState;
use tasklog_log::{Entity, Event, Millis, NewEvent, Position, Revs, StoreError};
use tasklog_projections::{AnyRow, Held, PROJECTED, RowChange, Scan, TableDef, View};

pub(crate) use self::slot::Seen;
use self::slot::{Origin, Slot, Undo};
use crate::tables::place;

/// What stands below the rows that a batch works on: the view it writes to and the log it may look back into.
pub trait Below {
    /// The view, inside the batch's transaction.
    fn view(&mut self) -> Box<dyn View + '_>;
    /// The event at a position that a rev names; `checked` if its checksum must be right.
    ///
    /// # Errors
    /// `corrupt` if it is not there, or is damaged and was to be checked.
    fn event(&mut self, position: Position, checked: bool) -> Result<Event, StoreError>;
    /// Checks that the event which a row or a tombstone names as its last one is about it, so that no event links to another
    /// row's. A store that checks this in another way, or an event that the log no longer has, is taken as it is.
    ///
    /// # Errors
    /// `corrupt`; `unavailable`.
    fn check_link(&mut self, _table: &TableDef, _key: &str, _rev: Position) -> Result<(), StoreError> {
        Ok(())
    }
    /// Whether a row that is not known is assumed to be absent, because asking for it alone is slow: the commit finds out.
    fn assumes(&self) -> bool {
        false
    }
    /// Rows and revs of tombstones, asked for together. Only a store that assumes is asked.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` if what is stored is no row of the table.
    fn learn(&mut self, table: &'static TableDef, keys: &[String]) -> Result<Vec<Known>, StoreError> {
        let view = self.view();
        keys.iter().map(|key| Ok((view.get(table, key)?, view.tombstone(table, key)?))).collect()
    }
}

/// A row, if there is one, and its tombstone's rev, if there is one.
pub type Known = (Option<Held>, Option<Position>);

/// The rows a writer is working on: a bounded write-through cache of the view, with the changes of the open batch on
/// top, and an undo list for the command being decided.
///
/// ```text
///   decide ──get──► slots ──miss──► view          emit ──put──► slot (dirty)
///                                                  reject ─undo─► slot as before
///   scan ──► flush dirty rows of the table into the open transaction ──► view.scan
///   batch end ──► changes() ──► view.apply
/// ```
#[derive(Default)]
pub struct Rows {
    young: Vec<Slots>,
    old: Vec<Slots>,
    dirty: Vec<Vec<Box<str>>>,
    undo: Vec<Undo>,
    /// Every row that the open batch has changed, flushed or not.
    touched: Vec<(usize, Box<str>)>,
    /// The deletions of the open batch, which no log has yet.
    deletions: HashMap<Position, NewEvent, RandomState>,
    counts: Vec<Option<u64>>,
    /// Whether the view remembers any deleted row of a table, once that was asked.
    remembers: Vec<Option<bool>>,
    first: Position,
    stamp: u64,
    /// Rows that this batch has assumed to be absent.
    assumed: Vec<(usize, Box<str>)>,
    /// Deleted rows of tables that forget them, and when they were deleted; oldest first.
    buried: VecDeque<(Millis, usize, Box<str>)>,
}

type Slots = HashMap<Box<str>, Slot, RandomState>;

impl Rows {
    /// Nothing cached yet.
    #[must_use]
    pub fn new() -> Self {
        let mut rows = Self::default();
        rows.clear();
        rows
    }

    /// Forgets everything: the batch failed, or somebody else wrote to the view.
    pub fn clear(&mut self) {
        self.young = vec![Slots::default(); PROJECTED.len()];
        self.old = vec![Slots::default(); PROJECTED.len()];
        self.dirty = vec![Vec::new(); PROJECTED.len()];
        self.counts = vec![None; PROJECTED.len()];
        self.remembers = vec![None; PROJECTED.len()];
        self.undo.clear();
        self.touched.clear();
        self.deletions.clear();
        self.assumed.clear();
        self.buried.clear();
    }

    /// Whether positions of the open batch are provisional.
    pub(crate) fn is_provisional(&self) -> bool {
        self.first.as_provisional().is_some()
    }

    /// Begins a batch of a store that others write to as well: what is counted there is counted afresh.
    pub(crate) fn begin_shared(&mut self) {
        self.counts.fill(None);
        self.remembers.fill(None);
        self.assumed.clear();
    }

    /// Asks for the rows that this batch has assumed to be absent.
    pub(crate) fn learn(&mut self, below: &mut dyn Below) -> Result<(), StoreError> {
        let mut wanted: Vec<Vec<String>> = vec![Vec::new(); PROJECTED.len()];
        for (at, key) in self.assumed.drain(..) {
            if self.young[at].get(&key).is_some_and(Slot::is_assumed) {
                wanted[at].push(key.into());
            }
        }
        for (at, mut keys) in wanted.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            keys.sort_unstable();
            keys.dedup();
            // What a refused decision had flushed there for its scans is taken back first.
            self.flush(PROJECTED[at], below)?;
            for (key, known) in keys.iter().zip(below.learn(PROJECTED[at], &keys)?) {
                if known.1.is_some() {
                    self.note_buried(at, key, Millis::MIN);
                }
                self.young[at].insert(key.as_str().into(), Slot::known(known));
            }
        }
        Ok(())
    }

    /// Begins the decision of a commit whose first event, if it makes any, will stand at `first`.
    pub(crate) fn begin(&mut self, first: Position) {
        self.first = first;
        self.stamp += 1;
        self.undo.clear();
    }

    /// The position of the `index`th event of the commit being decided.
    pub(crate) fn position_of(&self, index: usize) -> Position {
        Position(self.first.0 + index as u64)
    }

    /// A row with all changes so far, dead or alive, and its rev or its tombstone's.
    pub(crate) fn get(
        &mut self,
        table: &'static TableDef,
        key: &str,
        below: &mut dyn Below,
    ) -> Result<Seen, StoreError> {
        let at = place(table);
        if let Some(slot) = self.young[at].get_mut(key) {
            if slot.is_assumed() {
                // Perhaps since an earlier batch: whoever needs to be sure must be able to ask.
                self.assumed.push((at, key.into()));
            }
            return Ok(slot.seen(self.stamp));
        }
        let mut slot = match self.old[at].remove(key) {
            Some(slot) => slot,
            None => self.load(table, key, below)?,
        };
        let seen = slot.seen(self.stamp);
        self.young[at].insert(key.into(), slot);
        Ok(seen)
    }

    fn load(&mut self, table: &'static TableDef, key: &str, below: &mut dyn Below) -> Result<Slot, StoreError> {
        if below.assumes() {
            self.assumed.push((place(table), key.into()));
            return Ok(Slot { assumed: true, ..Slot::clean(None, Position::ZERO, false) });
        }
        let view = below.view();
        if let Some(held) = view.get(table, key)? {
            return Ok(Slot::clean(Some(held.row), held.rev, false));
        }
        let remembers = &mut self.remembers[place(table)];
        let any = match *remembers {
            Some(any) => any,
            None => *remembers.insert(view.any_tombstone(table)?),
        };
        let tombstone = if any { view.tombstone(table, key)? } else { None };
        if tombstone.is_some() {
            self.note_buried(place(table), key, Millis::MIN);
        }
        Ok(Slot::clean(None, tombstone.unwrap_or_default(), tombstone.is_some()))
    }

    /// A row as this batch has it, if it was read.
    pub(crate) fn peek(&self, table: &'static TableDef, key: &str) -> Option<(AnyRow, Position)> {
        let slot = self.young[place(table)].get(key)?;
        Some((slot.row.clone()?, slot.rev))
    }

    /// Takes over a row that a scan has met, unless what is known of it is at least as new.
    pub(crate) fn met(&mut self, table: &'static TableDef, key: &str, held: Held) {
        let at = place(table);
        let known = self.young[at].get(key).or_else(|| self.old[at].get(key));
        if known.is_some_and(|slot| slot.dirty || slot.rev >= held.rev) {
            return;
        }
        self.old[at].remove(key);
        self.young[at].insert(key.into(), Slot::clean(Some(held.row), held.rev, false));
    }

    /// Makes sure that an event of a row which this decision has read may link to the one before it.
    pub(crate) fn check_link(
        &mut self,
        table: &'static TableDef,
        key: &str,
        below: &mut dyn Below,
    ) -> Result<(), StoreError> {
        let Some(slot) = self.young[place(table)].get_mut(key) else { return Ok(()) };
        if !slot.linked && slot.rev != Position::ZERO {
            below.check_link(table, key, slot.rev)?;
        }
        slot.linked = true;
        Ok(())
    }

    /// Changes a row that this decision has read.
    pub(crate) fn put(&mut self, table: &'static TableDef, key: &str, row: Option<AnyRow>, rev: Position, now: Millis) {
        let at = place(table);
        let Some(slot) = self.young[at].get_mut(key) else { return };
        let undo = Undo { table: at, key: key.into(), row: slot.row.take(), rev: slot.rev, at: slot.at };
        count(&mut self.counts[at], undo.row.is_some(), row.is_some());
        if rev.as_provisional().is_some() && undo.rev.as_provisional().is_none() {
            slot.origin = Some(Origin { row: undo.row.clone(), rev: undo.rev, buried: slot.buried, at: undo.at });
        }
        slot.row = row;
        slot.rev = rev;
        slot.at = now;
        // A new life of a dead row links to nothing, and was not looked at.
        slot.linked = true;
        if !slot.dirty {
            slot.dirty = true;
            self.dirty[at].push(key.into());
        }
        self.undo.push(undo);
    }

    /// Remembers an event that deleted its row, until the log has it.
    pub(crate) fn bury(&mut self, rev: Position, event: NewEvent) {
        self.deletions.insert(rev, event);
    }

    /// The event of the open batch that deleted its row and left it this rev.
    pub(crate) fn deletion(&self, rev: Position) -> Option<&NewEvent> {
        self.deletions.get(&rev)
    }

    /// Takes back what the command being decided has put.
    pub(crate) fn undo(&mut self) {
        while let Some(undo) = self.undo.pop() {
            let Some(slot) = self.young[undo.table].get_mut(&undo.key) else { continue };
            count(&mut self.counts[undo.table], slot.row.is_some(), undo.row.is_some());
            slot.row = undo.row;
            slot.rev = undo.rev;
            // When a row was deleted that was read as such is not known: if its tombstone must be written again, it is kept
            // for longer, never for less.
            if undo.at != 0 || slot.row.is_some() {
                slot.at = undo.at;
            }
            if !slot.dirty {
                // It was flushed meanwhile: the old value has to be written over it.
                slot.dirty = true;
                self.dirty[undo.table].push(undo.key);
            }
        }
    }

    /// Writes the changed rows of one table into the open transaction, so that a scan meets them.
    pub(crate) fn flush(&mut self, table: &'static TableDef, below: &mut dyn Below) -> Result<(), StoreError> {
        let at = place(table);
        if self.dirty[at].is_empty() {
            return Ok(());
        }
        let mut changes = Vec::new();
        self.drain(at, &mut changes);
        below.view().write(&changes)
    }

    /// The changes of the batch that are not yet flushed.
    pub(crate) fn changes(&mut self) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for at in 0..PROJECTED.len() {
            self.drain(at, &mut changes);
        }
        changes
    }

    fn drain(&mut self, at: usize, changes: &mut Vec<RowChange>) {
        for key in self.dirty[at].drain(..) {
            let Some(slot) = self.young[at].get_mut(&key) else { continue };
            slot.dirty = false;
            let unchanged = match (&slot.base, &slot.row) {
                (Some(base), Some(row)) => Arc::ptr_eq(base, row),
                // Created and deleted again in one batch: the tombstone is new.
                (None, None) => slot.base_rev == slot.rev,
                _ => false,
            };
            if unchanged {
                continue;
            }
            slot.base_rev = slot.rev;
            let before = std::mem::replace(&mut slot.base, slot.row.clone());
            let after = slot.row.clone();
            let buried = std::mem::replace(&mut slot.buried, after.is_none() && slot.rev != Position::ZERO);
            if slot.buried {
                self.remembers[at] = Some(true);
            }
            self.touched.push((at, key.clone()));
            changes.push(RowChange { table: PROJECTED[at], key, before, buried, after, rev: slot.rev, at: slot.at });
        }
    }

    /// How many rows the table has, dead ones included until they are swept.
    pub(crate) fn count(&mut self, table: &'static TableDef, below: &mut dyn Below) -> Result<u64, StoreError> {
        let at = place(table);
        if let Some(count) = self.counts[at] {
            return Ok(count);
        }
        self.flush(table, below)?;
        let count = below.view().count(table, &Scan::all("pk"))?;
        self.counts[at] = Some(count);
        Ok(count)
    }
}

fn count(count: &mut Option<u64>, was: bool, is: bool) {
    if let Some(count) = count {
        *count = (*count + u64::from(is)).saturating_sub(u64::from(was));
    }
}

impl Revs for Rows {
    fn rev(&mut self, entity: &Entity) -> Result<Position, StoreError> {
        let slot = tasklog_projections::table(&entity.table).map(place).and_then(|at| self.young[at].get(&entity.key));
        // A decision has read every row it puts a condition on, and nothing leaves the cache within a batch.
        slot.map(|slot| slot.durable)
            .ok_or_else(|| StoreError::unavailable(format!("{entity}: condition on a row that was not read")))
    }
}
