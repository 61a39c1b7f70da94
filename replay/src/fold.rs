use std::collections::{HashMap, HashSet};

use ahash::RandomState;
use tasklog_log::{Checkpoint, Commit, Event, Millis, Position, StoreError};
use tasklog_projections::{AnyRow, PROJECTED, RowChange, TableDef, Tombstones, View, facts};

/// Rows a folder keeps between two flushes; beyond it the clean ones are forgotten and read again when they are needed.
pub const FOLD_ROWS_MAX: usize = 40_000;

/// Folds commits into row changes, row by row in memory, and writes each changed row once per flush.
pub struct Folder {
    wanted: [bool; PROJECTED.len()],
    slots: Vec<HashMap<Box<str>, Slot, RandomState>>,
    dirty: Vec<(usize, Box<str>)>,
    /// So many changed rows are kept before it is time to flush.
    room: usize,
    buried_any: [bool; PROJECTED.len()],
    rules: Rules,
}

/// What a fold allows that the log alone does not explain.
#[derive(Default)]
pub(crate) struct Rules {
    /// Quarantined: they leave their rows as they were.
    passed_over: HashSet<Position, RandomState>,
    /// The snapshot that the rows came from: it has forgotten short tombstones.
    snapshot: Position,
}

impl Rules {
    pub(crate) fn new(passed_over: impl IntoIterator<Item = Position>, snapshot: Position) -> Self {
        Self { passed_over: passed_over.into_iter().collect(), snapshot }
    }

    pub(crate) fn passes_over(&self, position: Position) -> bool {
        self.passed_over.contains(&position)
    }
}

/// One row on its way through its events.
#[derive(Default)]
pub(crate) struct Slot {
    /// As the view has it.
    base: Option<AnyRow>,
    buried: bool,
    pub(crate) row: Option<AnyRow>,
    /// Its last event, or the tombstone's; 0 for a row never seen.
    pub(crate) rev: Position,
    pub(crate) at: Millis,
    dirty: bool,
}

impl Slot {
    /// A row, or what is left of a deleted one, as it stands before the events.
    pub(crate) fn standing(row: Option<AnyRow>, rev: Position) -> Self {
        Self { buried: row.is_none() && rev != Position::ZERO, base: row.clone(), row, rev, ..Self::default() }
    }

    /// Checks the event's link and folds it.
    pub(crate) fn fold(
        &mut self,
        table: &TableDef,
        event: &Event,
        recorded_at: Millis,
        rules: &Rules,
    ) -> Result<(), StoreError> {
        if !rules.passes_over(event.position) {
            check_link(table, self, event, recorded_at, rules)?;
            // Taken out, so that evolve changes a row that nobody else holds in place. If it fails, the entity has no
            // row here any more: whoever goes on after an error skips the entity.
            self.row = table.fold(self.row.take(), event, recorded_at)?;
        }
        self.rev = event.position;
        self.at = recorded_at;
        Ok(())
    }
}

/// The place of an event's table among [`PROJECTED`].
pub(crate) fn table_of(event: &Event) -> Result<usize, StoreError> {
    let at = PROJECTED.iter().position(|table| *table.name == *event.table);
    at.ok_or_else(|| StoreError::corrupt(event.position, format!("unknown table {:?}", event.table)))
}

impl Folder {
    /// Folds the events of `tables`, into a view that starts empty or at the checkpoint where the commits begin.
    #[must_use]
    pub fn new(tables: &[&'static TableDef]) -> Self {
        let mut wanted = [false; PROJECTED.len()];
        for (at, known) in PROJECTED.iter().enumerate() {
            wanted[at] = tables.iter().any(|table| table.name == known.name);
        }
        let slots = PROJECTED.iter().map(|_| HashMap::default()).collect();
        let (room, rules) = (FOLD_ROWS_MAX / 2, Rules::default());
        Self { wanted, slots, dirty: Vec::new(), room, buried_any: [false; PROJECTED.len()], rules }
    }

    /// Passes over these events, which somebody has quarantined: each counts as its row's last one and leaves the row as it
    /// was.
    #[must_use]
    pub fn passing_over(mut self, quarantined: impl IntoIterator<Item = Position>) -> Self {
        self.rules.passed_over.extend(quarantined);
        self
    }

    /// Goes on from rows of a snapshot at `position`. It has forgotten old short tombstones, which the store that wrote the
    /// log may still have had: an event after it that creates a row may link to one of them.
    #[must_use]
    pub fn after_snapshot(mut self, position: Position) -> Self {
        self.rules.snapshot = position;
        self
    }

    /// A folder that goes on from `view` by the same rules, of the same tables, but for what it passes over.
    ///
    /// # Errors
    /// The view's.
    pub fn again(&self, view: &dyn View) -> Result<Self, StoreError> {
        let wanted = PROJECTED.iter().zip(self.wanted).filter(|(_, wanted)| *wanted).map(|(table, _)| *table);
        Ok(Self::on(&wanted.collect::<Vec<_>>(), view)?.after_snapshot(self.rules.snapshot))
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
        let at = PROJECTED.iter().position(|known| known.name == table.name)?;
        self.slots[at].get(key).map(|slot| (slot.row.as_ref(), slot.rev))
    }

    /// The entities at hand, table by table.
    pub fn entities(&self) -> impl Iterator<Item = (&'static TableDef, &str)> {
        PROJECTED.iter().zip(&self.slots).flat_map(|(table, slots)| slots.keys().map(|key| (*table, &**key)))
    }

    /// Folds the events of `tables` into a view that may have rows already.
    ///
    /// # Errors
    /// The view's.
    pub fn on(tables: &[&'static TableDef], view: &dyn View) -> Result<Self, StoreError> {
        let mut folder = Self::new(tables);
        for (at, table) in PROJECTED.iter().enumerate() {
            // A creation must then look for a tombstone to remove.
            folder.buried_any[at] = view.any_tombstone(table)?;
        }
        Ok(folder)
    }

    /// [`Folder::on`] live tables, passing over what their facts say is quarantined.
    ///
    /// # Errors
    /// The view's.
    pub fn on_live(tables: &[&'static TableDef], view: &dyn View) -> Result<Self, StoreError> {
        Ok(Self::on(tables, view)?.passing_over(facts::quarantined(view)?))
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
        let at = table_of(event)?;
        if !self.wanted[at] {
            return Ok(());
        }
        let table = PROJECTED[at];
        if !self.slots[at].contains_key(&event.key) {
            let slot = load(table, event, self.buried_any[at], view)?;
            self.slots[at].insert(event.key.clone(), slot);
        }
        let Some(slot) = self.slots[at].get_mut(&event.key) else { return Ok(()) };
        slot.fold(table, event, recorded_at, &self.rules)?;
        self.buried_any[at] |= slot.row.is_none();
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push((at, event.key.clone()));
        }
        Ok(())
    }

    /// Treats an event that could not be folded as the entity's last one, so that what follows can be looked at.
    pub fn skip(&mut self, event: &Event) {
        let Some(at) = PROJECTED.iter().position(|table| *table.name == *event.table) else { return };
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
            changes.push(RowChange { table: PROJECTED[at], key, before, buried, after, rev, at: at_ms });
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
    if event.prev.is_none() {
        // The first of its chain: there is nothing to read. An earlier row can only be a dead one, and an earlier
        // tombstone only one that the writer had already forgotten; writing replaces both.
        return Ok(Slot { buried: buried_any, ..Slot::default() });
    }
    if let Some(held) = view.get(table, &event.key)? {
        return Ok(Slot::standing(Some(held.row), held.rev));
    }
    Ok(Slot::standing(None, view.tombstone(table, &event.key)?.unwrap_or_default()))
}

/// Checks that no link of the entity's chain is missing. A chain may begin anew only where the last row had died or was
/// deleted.
fn check_link(
    table: &TableDef,
    slot: &Slot,
    event: &Event,
    recorded_at: Millis,
    rules: &Rules,
) -> Result<(), StoreError> {
    // Folding it then insists that it creates the row: any other event is impossible without one.
    let forgotten =
        |prev: Position| slot.rev == Position::ZERO && prev <= rules.snapshot && table.tombstones == Tombstones::Short;
    let legal = match event.prev {
        Some(prev) => prev == slot.rev || forgotten(prev),
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
    note: impl FnMut(Position),
) -> Result<Checkpoint, StoreError> {
    catch_up_with(&mut Folder::new(tables), FOLD_ROWS_MAX / 2, pages, view, note)
}

/// [`catch_up`] with a folder that has begun, flushing when `flush_rows` rows have changed.
///
/// # Errors
/// As [`catch_up`]; then the folder is of no use any more.
pub fn catch_up_with(
    folder: &mut Folder,
    flush_rows: usize,
    pages: impl Iterator<Item = Result<Vec<Commit>, StoreError>>,
    view: &mut dyn View,
    mut note: impl FnMut(Position),
) -> Result<Checkpoint, StoreError> {
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
        if folder.dirty.len() >= flush_rows {
            view.apply(&folder.changes(), &from, &to)?;
            from = to;
        }
        note(to.position);
    }
    view.apply(&folder.changes(), &from, &to)?;
    Ok(to)
}
