//! What differs between two moments of one log: only entities that events between them touched, and rows that died by
//! time meanwhile.

use std::collections::{BTreeMap, HashSet};

use tasklog_log::{CommitMeta, Event, Millis, Position, READ_EVENTS_MAX, StoreError};
use tasklog_projections::{AnyRow, Cell, Held, PAGE_ROWS_MAX, PROJECTED, Scan, TableDef, View};

use crate::{FieldChange, Moment, Past, Step, changes};

/// Entities that one pass over the events looks at; more take further passes.
const PASS_ENTITIES_MAX: usize = 50_000;
/// Events kept for one entity, the newest; earlier ones are counted.
const CAUSES_MAX: usize = 16;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not there before.
    Added,
    /// It was deleted.
    Removed,
    /// Its time was over; no event did that.
    Died,
    /// Fields differ.
    Changed,
}

/// An event between two moments that touched a row.
#[derive(Clone, Debug)]
pub struct Cause {
    /// Who, why.
    pub meta: CommitMeta,
    /// ms: when.
    pub recorded_at: Millis,
    /// Where in the log.
    pub position: Position,
    /// What.
    pub event_type: String,
}

/// A row that differs.
#[derive(Clone, Debug)]
pub struct RowDiff {
    /// The table.
    pub table: &'static TableDef,
    /// The row key.
    pub key: String,
    /// What became of it.
    pub fate: Fate,
    /// The fields that differ.
    pub fields: Vec<FieldChange>,
    /// The events responsible, oldest first; of many, the newest.
    pub causes: Vec<Cause>,
    /// How many events there are.
    pub events: u64,
}

/// How many rows differ, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not there before.
    pub added: u64,
    /// Deleted.
    pub removed: u64,
    /// Over by time.
    pub died: u64,
    /// With fields that differ.
    pub changed: u64,
    /// Touched by events, and at the end as they were, or not there at either moment.
    pub unchanged: u64,
    /// Events of the tables asked for.
    pub events: u64,
}

impl Counts {
    fn note(&mut self, fate: Option<Fate>) {
        match fate {
            Some(Fate::Added) => self.added += 1,
            Some(Fate::Removed) => self.removed += 1,
            Some(Fate::Died) => self.died += 1,
            Some(Fate::Changed) => self.changed += 1,
            None => self.unchanged += 1,
        }
    }
}

/// Two moments of one log.
pub struct Between<'a> {
    /// The log, and what replays pass over.
    pub past: Past<'a>,
    /// The earlier one, exclusive.
    pub from: Moment,
    /// The later one, inclusive.
    pub to: Moment,
    /// The tables at the earlier one.
    pub before: &'a dyn View,
}

/// An entity that events touched.
struct Touched {
    before: Option<AnyRow>,
    row: Option<AnyRow>,
    causes: Vec<Cause>,
    events: u64,
}

type Name = (usize, String);

/// The rows of `tables` that differ, in the order of tables and keys; then those that died by time.
///
/// # Errors
/// `corrupt`, naming the position of an event that cannot be folded; the log's, the view's and `meet`'s.
pub fn diff<E: From<StoreError>>(
    between: &Between<'_>,
    tables: &[&'static TableDef],
    meet: &mut dyn FnMut(RowDiff) -> Result<(), E>,
) -> Result<Counts, E> {
    let mut counts = Counts::default();
    let mut after: Option<Name> = None;
    loop {
        let (touched, events, more) = between.pass(tables, after.as_ref())?;
        counts.events = events;
        for ((at, key), touched) in &touched {
            let differs = touched.differs(&between.from, &between.to, PROJECTED[*at], key.clone());
            counts.note(differs.as_ref().map(|differs| differs.fate));
            differs.map_or(Ok(()), &mut *meet)?;
        }
        if !more {
            break;
        }
        after = touched.into_keys().next_back();
    }
    for table in tables.iter().filter(|table| table.dies_at.is_some()) {
        between.died(table, &mut |differs| {
            counts.note(Some(differs.fate));
            meet(differs)
        })?;
    }
    Ok(counts)
}

/// How one row differs: as it was at both moments, dead or alive, and its history through the later one.
#[must_use]
pub fn diff_row(
    (from, to): (&Moment, &Moment),
    table: &'static TableDef,
    key: &str,
    (before, after): (Option<AnyRow>, Option<AnyRow>),
    steps: &[Step],
) -> (Option<RowDiff>, Counts) {
    let mut touched = Touched { before, row: after, causes: Vec::new(), events: 0 };
    for step in steps.iter().filter(|step| step.event.position > from.at.position) {
        touched.note(&step.meta, step.recorded_at, &step.event);
    }
    let mut counts = Counts { events: touched.events, ..Counts::default() };
    let differs = touched.differs(from, to, table, key.to_owned());
    if differs.is_some() || touched.events > 0 {
        counts.note(differs.as_ref().map(|differs| differs.fate));
    }
    (differs, counts)
}

impl Touched {
    fn note(&mut self, meta: &CommitMeta, recorded_at: Millis, event: &Event) {
        self.events += 1;
        if self.causes.len() == CAUSES_MAX {
            self.causes.remove(0);
        }
        let (position, event_type) = (event.position, event.event_type.to_string());
        self.causes.push(Cause { meta: meta.clone(), recorded_at, position, event_type });
    }

    fn differs(&self, from: &Moment, to: &Moment, table: &'static TableDef, key: String) -> Option<RowDiff> {
        let before = self.before.as_ref().filter(|row| row.is_live(from.now));
        let after = self.row.as_ref().filter(|row| row.is_live(to.now));
        let fields = changes(table, before, after);
        let fate = match (before, after) {
            (None, None) => return None,
            (None, Some(_)) => Fate::Added,
            (Some(_), None) if self.row.is_some() => Fate::Died,
            (Some(_), None) => Fate::Removed,
            (Some(_), Some(_)) if fields.is_empty() => return None,
            (Some(_), Some(_)) => Fate::Changed,
        };
        Some(RowDiff { table, key, fate, fields, causes: self.causes.clone(), events: self.events })
    }
}

impl Between<'_> {
    /// Reads the events between the moments, commit by commit.
    fn events(
        &self,
        mut meet: impl FnMut(&CommitMeta, Millis, &Event) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (from, to) = (self.from.at.position, self.to.at.position);
        let mut at = from;
        while at < to {
            let page = self.past.log.read(at, READ_EVENTS_MAX)?;
            let Some(last) = page.last() else { break };
            at = last.last();
            for commit in &page {
                for event in commit.events.iter().filter(|event| event.position > from && event.position <= to) {
                    if !self.past.passes_over(event.position) {
                        commit.check(event)?;
                    }
                    meet(&commit.meta, commit.recorded_at, event)?;
                }
            }
        }
        Ok(())
    }

    /// The first entities beyond `after` that events touched, how many events there are, and whether there are more
    /// entities.
    fn pass(
        &self,
        tables: &[&'static TableDef],
        after: Option<&Name>,
    ) -> Result<(BTreeMap<Name, Touched>, u64, bool), StoreError> {
        let mut all: BTreeMap<Name, Touched> = BTreeMap::new();
        let (mut events, mut more) = (0, false);
        // The first entity that has no place in this pass any more.
        let mut end: Option<Name> = None;
        self.events(|meta, recorded_at, event| {
            let Some(at) = PROJECTED.iter().position(|table| *table.name == *event.table) else { return Ok(()) };
            if !tables.iter().any(|table| table.name == PROJECTED[at].name) {
                return Ok(());
            }
            events += 1;
            let name = (at, event.key.to_string());
            if after.is_some_and(|after| name <= *after) || end.as_ref().is_some_and(|end| name >= *end) {
                return Ok(());
            }
            if !all.contains_key(&name) {
                let before = self.before_row(PROJECTED[at], event)?;
                let row = before.clone();
                all.insert(name.clone(), Touched { before, row, causes: Vec::new(), events: 0 });
                if all.len() > PASS_ENTITIES_MAX {
                    more = true;
                    end = all.pop_last().map(|(name, _)| name);
                }
            }
            let Some(touched) = all.get_mut(&name) else { return Ok(()) };
            touched.note(meta, recorded_at, event);
            if !self.past.passes_over(event.position) {
                touched.row = PROJECTED[at].fold(touched.row.take(), event, recorded_at)?;
            }
            Ok(())
        })?;
        Ok((all, events, more))
    }

    /// The row before the first event that touched it.
    fn before_row(&self, table: &'static TableDef, first: &Event) -> Result<Option<AnyRow>, StoreError> {
        let from = self.from.at.position;
        match first.prev {
            Some(prev) => Ok(self.past.row_from(table, &first.key, prev, from)?.row),
            // A chain that begins anew: an earlier row has died by time, between the moments or before.
            None if table.dies_at.is_some() => Ok(self.before.get(table, &first.key)?.map(|held| held.row)),
            None => Ok(None),
        }
    }

    /// The rows that no event touched and that died between the moments.
    fn died<E: From<StoreError>>(
        &self,
        table: &'static TableDef,
        meet: &mut dyn FnMut(RowDiff) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut dead: Vec<Held> = Vec::new();
        let mut scan = Scan::all("pk");
        loop {
            let page = self.before.scan(table, &scan)?;
            let last = page.last().filter(|_| page.len() == PAGE_ROWS_MAX).map(|last| table.cursor("pk", 0, &last.row));
            let cursor = last.transpose()?.map(|cells| cells.into_iter().map(Cell::into_owned).collect());
            dead.extend(
                page.into_iter().filter(|held| held.row.is_live(self.from.now) && !held.row.is_live(self.to.now)),
            );
            if dead.len() >= PASS_ENTITIES_MAX || cursor.is_none() {
                self.untouched(table, std::mem::take(&mut dead), meet)?;
            }
            let Some(cursor) = cursor else { return Ok(()) };
            scan = Scan::all("pk").after(cursor);
        }
    }

    fn untouched<E: From<StoreError>>(
        &self,
        table: &'static TableDef,
        rows: Vec<Held>,
        meet: &mut dyn FnMut(RowDiff) -> Result<(), E>,
    ) -> Result<(), E> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut left: HashSet<String> = rows.iter().map(|held| held.row.key()).collect();
        self.events(|_, _, event| {
            if *event.table == *table.name {
                left.remove(&*event.key);
            }
            Ok(())
        })?;
        for Held { row, .. } in rows.into_iter().filter(|held| left.contains(&held.row.key())) {
            let (key, fields) = (row.key(), changes(table, Some(&row), None));
            meet(RowDiff { table, key, fate: Fate::Died, fields, causes: Vec::new(), events: 0 })?;
        }
        Ok(())
    }
}
