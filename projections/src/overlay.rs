//! Changes that are not written yet, on top of the view that does not have them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ahash::RandomState;
use tasklog_log::{Checkpoint, Millis, Position, StoreError};

use crate::{
    AnyRow, Cell, Held, PAGE_ROWS_MAX, RowChange, Scan, TableDef, View,
    view::{entry, meets},
};

type Map<K, V> = HashMap<K, V, RandomState>;

/// A view over one that has no transactions of its own: writes are kept here, reads see them, and whoever commits takes
/// them as one set of changes.
///
/// ```text
///   write ─► pending ◄─ get, scan, count ─► below
///              └─ take() ─► one atomic write
/// ```
pub struct Overlay<V> {
    below: V,
    pending: Map<&'static str, BTreeMap<Box<str>, RowChange>>,
    moved: Option<(Checkpoint, Checkpoint)>,
}

impl<V: View> Overlay<V> {
    /// Nothing pending on top of `below`.
    pub fn new(below: V) -> Self {
        Self { below, pending: Map::default(), moved: None }
    }

    /// The view below.
    pub fn below(&mut self) -> &mut V {
        &mut self.below
    }

    /// The view below, to look at.
    pub fn peek_below(&self) -> &V {
        &self.below
    }

    /// What was written since the last call, one change a row, and the step of the checkpoint, if it was moved.
    pub fn take(&mut self) -> (Vec<RowChange>, Option<(Checkpoint, Checkpoint)>) {
        let changes = self.pending.drain().flat_map(|(_, rows)| rows.into_values());
        (changes.collect(), self.moved.take())
    }

    /// [`Overlay::take`] with further changes, which come last.
    ///
    /// # Errors
    /// None in practice; the contract of [`View::write`] allows them.
    pub fn take_with(&mut self, changes: Vec<RowChange>) -> Result<Vec<RowChange>, StoreError> {
        if self.pending.is_empty() {
            return Ok(changes);
        }
        self.write(&changes)?;
        Ok(self.take().0)
    }

    fn of(&self, table: &TableDef) -> Option<&BTreeMap<Box<str>, RowChange>> {
        self.pending.get(table.name).filter(|rows| !rows.is_empty())
    }
}

impl<V: View> View for Overlay<V> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        match self.of(table).and_then(|rows| rows.get(key)) {
            Some(change) => Ok(change.after.clone().map(|row| Held { row, rev: change.rev })),
            None => self.below.get(table, key),
        }
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        match self.of(table).and_then(|rows| rows.get(key)) {
            Some(RowChange { after: None, rev, .. }) if *rev != Position::ZERO => Ok(Some(*rev)),
            Some(_) => Ok(None),
            None => self.below.tombstone(table, key),
        }
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        let pending = self.of(table).is_some_and(|rows| rows.values().any(|change| change.after.is_none()));
        Ok(pending || self.below.any_tombstone(table)?)
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        let Some(pending) = self.of(table) else { return self.below.scan(table, scan) };
        let limit = scan.limit.min(PAGE_ROWS_MAX);
        // The first rows of both together are among the first rows of each.
        let mut rows = Vec::new();
        let mut page_of = scan.clone();
        page_of.limit = limit.saturating_add(pending.len()).min(PAGE_ROWS_MAX);
        while rows.len() < limit {
            let page = self.below.scan(table, &page_of)?;
            let full = page.len() == page_of.limit;
            let last = page.last().map(|held| held.row.clone());
            rows.extend(page.into_iter().filter(|held| !pending.contains_key(&*held.row.key())));
            let Some(last) = last.filter(|_| full) else { break };
            let cursor = table.cursor(scan.index, scan.equal.len(), &last)?;
            page_of = page_of.after(cursor.into_iter().map(Cell::into_owned).collect());
        }
        for change in pending.values() {
            if let Some(row) = &change.after
                && meets(table, scan, row)?
            {
                rows.push(Held { row: row.clone(), rev: change.rev });
            }
        }
        let mut keyed = Vec::with_capacity(rows.len());
        for held in rows {
            keyed.push((entry(table, scan.index, &held.row)?, held));
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        if scan.descending {
            keyed.reverse();
        }
        Ok(keyed.into_iter().take(limit).map(|(_, held)| held).collect())
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        let below = self.below.count(table, scan)?;
        let Some(pending) = self.of(table) else { return Ok(below) };
        let (mut more, mut less) = (0, 0);
        for RowChange { before, after, .. } in pending.values() {
            let met = |row: &Option<AnyRow>| row.as_ref().map_or(Ok(false), |row| meets(table, scan, row));
            less += u64::from(met(before)?);
            more += u64::from(met(after)?);
        }
        Ok((below + more).saturating_sub(less))
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.moved.map_or_else(|| self.below.checkpoint(), |(_, to)| Ok(to))
    }

    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        for change in changes {
            let rows = self.pending.entry(change.table.name).or_default();
            match rows.get_mut(&change.key) {
                Some(known) => {
                    known.after.clone_from(&change.after);
                    known.rev = change.rev;
                    known.at = change.at;
                    let as_before = match (&known.before, &known.after) {
                        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                        (None, None) => known.rev == Position::ZERO && !known.buried,
                        _ => false,
                    };
                    if as_before {
                        rows.remove(&change.key);
                    }
                }
                None => {
                    rows.insert(change.key.clone(), change.clone());
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        let at = self.checkpoint()?;
        if at != *from {
            return Err(StoreError::Diverged { checkpoint: Box::new(*from), log: Box::new(at) });
        }
        self.write(changes)?;
        let begun = self.moved.map_or(*from, |(begun, _)| begun);
        self.moved = Some((begun, *to));
        Ok(())
    }

    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        // Rows that are about to change keep their place: a later round takes them if they are still dead.
        if self.of(table).is_some() {
            return Ok(Vec::new());
        }
        self.below.sweep(table, now, tombstones_before, limit)
    }
}
