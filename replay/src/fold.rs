use std::collections::HashMap;

use ahash::RandomState;
use tasklog_log::{Checkpoint, Commit, Event, Millis, Position, StoreError};
use tasklog_projections::{AnyRow, RowChange, TABLES, TableDef, View};

/// Rows a folder keeps between two flushes; beyond it the clean ones are forgotten and read again when they are needed.
pub const FOLD_ROWS_MAX: usize = 40_000;
/// The reserved table name of facts about the log itself; no table sees them.
const LOG_FACTS: &str = "_log";

/// Folds commits into row changes, row by row in memory, and writes each changed row once per flush.
pub struct Folder {
    wanted: [bool; TABLES.len()],
    slots: Vec<HashMap<Box<str>, Slot, RandomState>>,
    dirty: Vec<(usize, Box<str>)>,
    /// So many changed rows are kept before it is time to flush.
    room: usize,
    buried_any: [bool; TABLES.len()],
}

struct Slot {
    /// As the view has it.
    base: Option<AnyRow>,
    buried: bool,
    row: Option<AnyRow>,
    rev: Position,
    at: Millis,
    dirty: bool,
}

impl Folder {
    /// Folds the events of `tables`, into a view that starts empty or at the checkpoint where the commits begin.
    #[must_use]
    pub fn new(tables: &[&'static TableDef]) -> Self {
        let mut wanted = [false; TABLES.len()];
        for (at, known) in TABLES.iter().enumerate() {
            wanted[at] = tables.iter().any(|table| table.name == known.name);
        }
        let slots = TABLES.iter().map(|_| HashMap::default()).collect();
        let room = FOLD_ROWS_MAX / 2;
        Self { wanted, slots, dirty: Vec::new(), room, buried_any: [false; TABLES.len()] }
    }

    /// The same, but with room for so many rows before the first flush: until then [`Folder::entity`] knows everything
    /// that was folded, and a view that starts empty is not needed.
    #[must_use]
    pub fn with_room(self, rows: usize) -> Self {
        Self { room: rows, ..self }
    }

    /// The row, if there is one, and the rev of an entity that is at hand; none for one that is not.
    #[must_use]
    pub fn entity(&self, table: &TableDef, key: &str) -> Option<(Option<&AnyRow>, Position)> {
        let at = TABLES.iter().position(|known| known.name == table.name)?;
        self.slots[at].get(key).map(|slot| (slot.row.as_ref(), slot.rev))
    }

    /// The entities at hand, table by table.
    pub fn entities(&self) -> impl Iterator<Item = (&'static TableDef, &str)> {
        TABLES.iter().zip(&self.slots).flat_map(|(table, slots)| slots.keys().map(|key| (*table, &**key)))
    }

    /// Folds the events of `tables` into a view that may have rows already.
    ///
    /// # Errors
    /// The view's.
    pub fn on(tables: &[&'static TableDef], view: &dyn View) -> Result<Self, StoreError> {
        let mut folder = Self::new(tables);
        for (at, table) in TABLES.iter().enumerate() {
            // A creation must then look for a tombstone to remove.
            folder.buried_any[at] = view.any_tombstone(table)?;
        }
        Ok(folder)
    }

    /// Folds one commit. `view` is read for rows that are not at hand.
    ///
    /// # Errors
    /// `corrupt`, naming the position, for an event that cannot be folded; `schema_ahead`; the view's.
    pub fn fold(&mut self, commit: &Commit, view: &dyn View) -> Result<(), StoreError> {
        commit.events.iter().try_for_each(|event| self.fold_event(event, commit.recorded_at, view))
    }

    /// Folds one event.
    ///
    /// # Errors
    /// As [`Folder::fold`].
    pub fn fold_event(&mut self, event: &Event, recorded_at: Millis, view: &dyn View) -> Result<(), StoreError> {
        let Some(at) = TABLES.iter().position(|table| *table.name == *event.table) else {
            if &*event.table == LOG_FACTS {
                return Ok(());
            }
            return Err(StoreError::corrupt(event.position, format!("unknown table {:?}", event.table)));
        };
        if !self.wanted[at] {
            return Ok(());
        }
        let table = TABLES[at];
        if !self.slots[at].contains_key(&event.key) {
            let slot = load(table, event, self.buried_any[at], view)?;
            self.slots[at].insert(event.key.clone(), slot);
        }
        let Some(slot) = self.slots[at].get_mut(&event.key) else { return Ok(()) };
        check_link(table, slot, event, recorded_at)?;
        // Taken out, so that evolve changes a row that nobody else holds in place. If it fails, the entity has no row
        // here any more: whoever goes on after an error skips the entity.
        slot.row = table.fold(slot.row.take(), event, recorded_at)?;
        slot.rev = event.position;
        slot.at = recorded_at;
        self.buried_any[at] |= slot.row.is_none();
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push((at, event.key.clone()));
        }
        Ok(())
    }

    /// Treats an event that could not be folded as the entity's last one, so that what follows can be looked at.
    pub fn skip(&mut self, event: &Event) {
        let Some(at) = TABLES.iter().position(|table| *table.name == *event.table) else { return };
        if let Some(slot) = self.slots[at].get_mut(&event.key) {
            slot.rev = event.position;
        }
    }

    /// The row changes since the last flush.
    pub fn changes(&mut self) -> Vec<RowChange> {
        self.room = FOLD_ROWS_MAX / 2;
        let mut changes = Vec::with_capacity(self.dirty.len());
        for (at, key) in self.dirty.drain(..) {
            let Some(slot) = self.slots[at].get_mut(&key) else { continue };
            slot.dirty = false;
            let before = std::mem::replace(&mut slot.base, slot.row.clone());
            if before.is_none() && slot.row.is_none() && slot.rev == Position::ZERO {
                continue;
            }
            let buried = std::mem::replace(&mut slot.buried, slot.row.is_none());
            let (after, rev, at_ms) = (slot.row.clone(), slot.rev, slot.at);
            changes.push(RowChange { table: TABLES[at], key, before, buried, after, rev, at: at_ms });
        }
        if self.slots.iter().map(HashMap::len).sum::<usize>() > FOLD_ROWS_MAX {
            // Nothing is dirty now, so nothing is lost.
            self.slots.iter_mut().for_each(HashMap::clear);
        }
        changes
    }

    /// Whether so many rows are waiting that it is time to flush.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.dirty.len() >= self.room
    }
}

fn load(table: &'static TableDef, event: &Event, buried_any: bool, view: &dyn View) -> Result<Slot, StoreError> {
    let mut slot = Slot { base: None, buried: false, row: None, rev: Position::ZERO, at: 0, dirty: false };
    if event.prev.is_none() {
        // The first of its chain: there is nothing to read. An earlier row can only be a dead one, and an earlier
        // tombstone only one that the writer had already forgotten; writing replaces both.
        slot.buried = buried_any;
        return Ok(slot);
    }
    if let Some(held) = view.get(table, &event.key)? {
        slot.rev = held.rev;
        slot.base = Some(held.row.clone());
        slot.row = Some(held.row);
    } else if let Some(rev) = view.tombstone(table, &event.key)? {
        slot.rev = rev;
        slot.buried = true;
    }
    Ok(slot)
}

/// Checks that no link of the entity's chain is missing. A chain may begin anew only where the last row had died or was
/// deleted.
fn check_link(table: &TableDef, slot: &Slot, event: &Event, recorded_at: Millis) -> Result<(), StoreError> {
    let legal = match event.prev {
        Some(prev) => prev == slot.rev,
        None => slot.row.as_ref().is_none_or(|row| !row.is_live(recorded_at)),
    };
    if legal {
        return Ok(());
    }
    let prev = event.prev.map_or("none".to_owned(), |prev| prev.to_string());
    // The position leads to the key; a sensitive one does not belong into a message.
    let sensitive = table.key_columns().any(|column| table.sensitive.contains(&column.name));
    let entity = if sensitive { table.name.to_owned() } else { format!("{}/{}", table.name, event.key) };
    Err(StoreError::corrupt(
        event.position,
        format!("{entity}: prev is {prev}, the entity's last event is {}", slot.rev),
    ))
}

/// Folds `pages` of commits into `view`, which stands where they begin, flushing whenever enough rows have changed.
/// `note` hears the position after every page.
///
/// # Errors
/// `corrupt` or `schema_ahead` at the first event that cannot be folded; the view's and the pages'.
pub fn catch_up(
    tables: &[&'static TableDef],
    pages: impl Iterator<Item = Result<Vec<Commit>, StoreError>>,
    view: &mut dyn View,
    mut note: impl FnMut(Position),
) -> Result<Checkpoint, StoreError> {
    let mut folder = Folder::new(tables);
    let mut from = view.checkpoint()?;
    let mut to = from;
    for page in pages {
        let page = page?;
        for commit in &page {
            folder.fold(commit, view)?;
        }
        if let Some(commit) = page.last() {
            to.position = commit.last();
            to.commit = commit.meta.id;
            to.recorded_at = commit.recorded_at;
        }
        if folder.is_full() {
            view.apply(&folder.changes(), &from, &to)?;
            from = to;
        }
        note(to.position);
    }
    view.apply(&folder.changes(), &from, &to)?;
    Ok(to)
}
