//! The tables in this process's memory: maps, and ordered indexes that are built by the first query that needs them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use ahash::RandomState;
use parking_lot::{ArcRwLockReadGuard, ArcRwLockWriteGuard, Mutex, RawRwLock, RwLock};
use tasklog_log::{Checkpoint, LogInfo, Millis, Position, StoreError};

use crate::{
    AnyRow, Cell, Held, PAGE_ROWS_MAX, PROJECTED, RowChange, Scan, TableDef, Tombstones, View,
    view::{index_order, no_index, within},
};

type Map<K, V> = HashMap<K, V, RandomState>;
type Ordered = BTreeMap<Vec<Cell<'static>>, Arc<str>>;
type Values = BTreeSet<(String, Arc<str>)>;

/// The memory view. Clones share the tables; each clone is a handle with a transaction of its own.
pub struct MemoryView {
    shared: Arc<RwLock<State>>,
    writing: Option<ArcRwLockWriteGuard<RawRwLock, State>>,
    reading: Option<ArcRwLockReadGuard<RawRwLock, State>>,
}

struct State {
    checkpoint: Checkpoint,
    tables: Vec<MemoryTable>,
}

#[derive(Default)]
struct MemoryTable {
    rows: Map<Arc<str>, Held>,
    tombstones: Map<Arc<str>, (Position, Millis)>,
    // Behind a lock of their own, because readers build them.
    ordered: Mutex<Vec<(&'static str, Ordered)>>,
    values: Mutex<Vec<(&'static str, Values)>>,
}

impl Clone for MemoryView {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), writing: None, reading: None }
    }
}

impl MemoryView {
    /// Empty tables at the start of `log`.
    #[must_use]
    pub fn new(log: LogInfo) -> Self {
        let tables = PROJECTED.iter().map(|_| MemoryTable::default()).collect();
        let state = State { checkpoint: Checkpoint::start(log), tables };
        Self { shared: Arc::new(RwLock::new(state)), writing: None, reading: None }
    }

    /// Keeps the other handles from reading until [`MemoryView::commit`], so that they meet log and tables in step.
    pub fn begin(&mut self) {
        self.with_mut(|_| ());
    }

    /// Makes this handle's writes visible to the others.
    pub fn commit(&mut self) {
        self.writing = None;
    }

    /// A handle that sees one state for as long as it lives; writers wait meanwhile. It must not write.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let reading = Some(RwLock::read_arc(&self.shared));
        Self { shared: Arc::clone(&self.shared), writing: None, reading }
    }

    /// Takes the contents of `other` for `tables` in one step.
    ///
    /// # Errors
    /// `diverged` if the two are not at the same checkpoint.
    pub fn take(&mut self, other: Self, tables: &[&'static TableDef]) -> Result<(), StoreError> {
        let theirs = Arc::into_inner(other.shared)
            .map(RwLock::into_inner)
            .ok_or_else(|| StoreError::unavailable("taking tables that others still hold"))?;
        self.with_mut(|state| {
            if state.checkpoint != theirs.checkpoint {
                let (checkpoint, log) = (Box::new(theirs.checkpoint), Box::new(state.checkpoint));
                return Err(StoreError::Diverged { checkpoint, log });
            }
            for (index, table) in theirs.tables.into_iter().enumerate() {
                if tables.iter().any(|wanted| wanted.name == PROJECTED[index].name) {
                    state.tables[index] = table;
                }
            }
            Ok(())
        })
    }

    /// Takes the contents and the checkpoint of `other` in one step.
    ///
    /// # Errors
    /// `unavailable` if `other` has other handles.
    pub fn replace(&mut self, other: Self) -> Result<(), StoreError> {
        let Self { shared, writing, reading } = other;
        drop((writing, reading));
        let theirs = Arc::into_inner(shared)
            .map(RwLock::into_inner)
            .ok_or_else(|| StoreError::unavailable("taking tables that others still hold"))?;
        let joined = self.writing.is_some();
        self.with_mut(|state| *state = theirs);
        if !joined {
            self.commit();
        }
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        match (&self.writing, &self.reading) {
            (Some(state), _) => look(state),
            (None, Some(state)) => look(state),
            (None, None) => look(&self.shared.read()),
        }
    }

    fn with_mut<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        let shared = &self.shared;
        change(self.writing.get_or_insert_with(|| RwLock::write_arc(shared)))
    }
}

fn place(table: &'static TableDef) -> usize {
    PROJECTED.iter().position(|known| std::ptr::eq(*known, table) || known.name == table.name).unwrap_or_default()
}

impl MemoryTable {
    fn put(&mut self, change: &RowChange) {
        let before = match &change.after {
            Some(row) => {
                if change.buried {
                    self.tombstones.remove(&*change.key);
                }
                self.rows.insert(change.key.as_ref().into(), Held { row: row.clone(), rev: change.rev })
            }
            None => {
                if change.rev == Position::ZERO {
                    // Never seen: a creation that was written for a scan and then refused.
                    self.tombstones.remove(&*change.key);
                } else {
                    self.tombstones.insert(change.key.as_ref().into(), (change.rev, change.at));
                }
                self.rows.remove(&*change.key)
            }
        };
        self.reindex(change.table, &change.key, before.map(|held| held.row).as_ref(), change.after.as_ref());
    }

    fn reindex(&mut self, table: &TableDef, key: &str, before: Option<&AnyRow>, after: Option<&AnyRow>) {
        for (name, index) in self.ordered.get_mut() {
            let Ok(order) = index_order(table, name) else { continue };
            if let Some(row) = before {
                index.remove(&entry(row, &order));
            }
            if let Some(row) = after {
                index.insert(entry(row, &order), key.into());
            }
        }
        for (name, index) in self.values.get_mut() {
            let Some(multi) = table.multi_indexes.iter().find(|multi| multi.name == *name) else { continue };
            for value in before.map(|row| (multi.values)(&**row)).into_iter().flatten() {
                index.remove(&(value, key.into()));
            }
            index.extend(after.map(|row| (multi.values)(&**row)).into_iter().flatten().map(|v| (v, key.into())));
        }
    }

    fn walk(
        &self,
        table: &'static TableDef,
        scan: &Scan<'_>,
        meet: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), StoreError> {
        if let Some(multi) = table.multi_indexes.iter().find(|multi| multi.name == scan.index) {
            let mut indexes = self.values.lock();
            let at = indexes.iter().position(|(name, _)| *name == multi.name).unwrap_or_else(|| {
                let rows = self.rows.iter();
                let all = rows.flat_map(|(key, held)| (multi.values)(&*held.row).into_iter().map(|v| (v, key.clone())));
                indexes.push((multi.name, all.collect()));
                indexes.len() - 1
            });
            let Some(Cell::Text(value)) = scan.equal.first() else { return Err(no_index(table, scan.index)) };
            let after = match &scan.from {
                Bound::Excluded(cursor) => match cursor.first() {
                    Some(Cell::Text(key)) => Bound::Excluded((value.to_string(), Arc::<str>::from(key.as_ref()))),
                    _ => return Err(no_index(table, scan.index)),
                },
                _ => Bound::Included((value.to_string(), Arc::<str>::from(""))),
            };
            for (_, key) in indexes[at].1.range((after, Bound::Unbounded)).take_while(|(found, _)| found == value) {
                if !meet(key) {
                    break;
                }
            }
            return Ok(());
        }
        let order = index_order(table, scan.index)?;
        let ends = [&scan.from, &scan.to].into_iter().filter_map(|bound| match bound {
            Bound::Unbounded => None,
            Bound::Included(cells) | Bound::Excluded(cells) => Some(cells),
        });
        if ends.chain([&scan.equal]).flatten().any(|cell| *cell == Cell::Null) {
            return Ok(());
        }
        let mut indexes = self.ordered.lock();
        let at = indexes.iter().position(|(name, _)| *name == scan.index).unwrap_or_else(|| {
            let name = table.indexes.iter().find(|index| index.name == scan.index).map_or("pk", |index| index.name);
            indexes.push((name, self.rows.iter().map(|(key, held)| (entry(&held.row, &order), key.clone())).collect()));
            indexes.len() - 1
        });
        let index = &indexes[at].1;
        let mut low: Vec<Cell<'static>> = scan.equal.iter().cloned().map(Cell::into_owned).collect();
        let mut high = low.clone();
        if let Bound::Included(from) | Bound::Excluded(from) = &scan.from {
            low.extend(from.iter().cloned().map(Cell::into_owned));
        }
        if let Bound::Included(to) | Bound::Excluded(to) = &scan.to {
            high.extend(to.iter().cloned().map(Cell::into_owned));
        }
        // Nothing sorts after a blob of 0xff bytes longer than any value that a column holds.
        high.push(Cell::Blob(vec![0xff; 64].into()));
        if low > high {
            return Ok(());
        }
        let range = index.range(low..=high).filter(|(cells, _)| within(scan, cells));
        if scan.descending {
            range.rev().all(|(_, key)| meet(key));
        } else {
            let mut range = range;
            range.all(|(_, key)| meet(key));
        }
        Ok(())
    }
}

fn entry(row: &AnyRow, order: &[usize]) -> Vec<Cell<'static>> {
    let cells = row.cells();
    order.iter().filter_map(|index| cells.get(*index)).map(|cell| cell.clone().into_owned()).collect()
}

impl View for MemoryView {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        Ok(self.with(|state| state.tables[place(table)].rows.get(key).cloned()))
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.with(|state| state.tables[place(table)].tombstones.get(key).map(|(rev, _)| *rev)))
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        Ok(self.with(|state| !state.tables[place(table)].tombstones.is_empty()))
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        let limit = scan.limit.min(PAGE_ROWS_MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.with(|state| {
            let table_rows = &state.tables[place(table)];
            let mut page = Vec::new();
            table_rows.walk(table, scan, &mut |key| {
                page.extend(table_rows.rows.get(key).cloned());
                page.len() < limit
            })?;
            Ok(page)
        })
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.with(|state| {
            let rows = &state.tables[place(table)];
            if scan.index == "pk"
                && scan.equal.is_empty()
                && scan.from == Bound::Unbounded
                && scan.to == Bound::Unbounded
            {
                return Ok(rows.rows.len() as u64);
            }
            let mut count = 0;
            rows.walk(table, scan, &mut |_| {
                count += 1;
                true
            })?;
            Ok(count)
        })
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        Ok(self.with(|state| state.checkpoint))
    }

    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        self.with_mut(|state| {
            for change in changes {
                state.tables[place(change.table)].put(change);
            }
        });
        Ok(())
    }

    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        let joined = self.writing.is_some();
        let at = self.checkpoint()?;
        if at != *from {
            return Err(StoreError::Diverged { checkpoint: Box::new(*from), log: Box::new(at) });
        }
        self.write(changes)?;
        self.with_mut(|state| state.checkpoint = *to);
        if !joined {
            self.commit();
        }
        Ok(())
    }

    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let joined = self.writing.is_some();
        let removed = self.with_mut(|state| {
            let rows = &mut state.tables[place(table)];
            if table.tombstones == Tombstones::Short {
                rows.tombstones.retain(|_, (_, at)| *at >= tombstones_before);
            }
            let dead: Vec<_> = rows
                .rows
                .iter()
                .filter(|(_, held)| !held.row.is_live(now))
                .take(limit)
                .map(|(key, _)| key.clone())
                .collect();
            let mut removed = Vec::with_capacity(dead.len());
            for key in dead {
                if let Some(held) = rows.rows.remove(&key) {
                    rows.reindex(table, &key, Some(&held.row), None);
                    removed.push(held.row);
                }
            }
            removed
        });
        if !joined {
            self.commit();
        }
        Ok(removed)
    }
}
