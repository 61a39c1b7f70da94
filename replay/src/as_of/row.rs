//! One row at a moment: back along its chain, and forward again through the moment.

use tasklog_log::{Event, Millis, Position, StoreError};
use tasklog_projections::{AnyRow, Held, TableDef, Tombstones, View};

use super::Past;
use crate::snapshot::Snapshot;

/// Links of a chain that are walked before the log is folded instead.
pub const CHAIN_LINKS_MAX: usize = 4_096;
/// Links of a chain that are walked before a snapshot is asked for the rest.
const LINKS_BEFORE_SNAPSHOT: usize = 64;

/// An entity at a moment.
#[derive(Clone, Debug)]
pub struct RowAt {
    /// Its row, dead or alive; none if it was deleted or not there yet.
    pub row: Option<AnyRow>,
    /// Its last event by then; 0 if there was none.
    pub rev: Position,
}

impl RowAt {
    const NEVER: Self = Self { row: None, rev: Position::ZERO };

    /// The row as a view holds it.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.row.clone().map(|row| Held { row, rev: self.rev })
    }

    /// The rev of a deleted row.
    #[must_use]
    pub fn tombstone(&self) -> Option<Position> {
        (self.row.is_none() && self.rev > Position::ZERO).then_some(self.rev)
    }
}

/// An event on an entity's chain.
struct Link {
    event: Event,
    recorded_at: Millis,
}

/// How a walk back along a chain ended.
enum Walked {
    /// At the chain's beginning, or where the snapshot knows the rest; the events at and before the moment, newest first.
    Through(RowAt, Vec<Link>),
    /// The moment lies before the chain's beginning, which was recorded at this instant.
    Before(Millis),
    /// Nowhere near.
    TooLong,
}

impl Past<'_> {
    /// One entity after event `through`. `live` are the tables as they are now.
    ///
    /// # Errors
    /// `corrupt`, naming the position of a link that is missing or an event that cannot be folded; the log's and the view's.
    pub fn row(
        &self,
        live: &dyn View,
        table: &'static TableDef,
        key: &str,
        through: Position,
    ) -> Result<RowAt, StoreError> {
        match rev_of(live, table, key)? {
            Some(rev) => self.row_from(table, key, rev, through),
            None => self.search(table, key, through),
        }
    }

    /// One entity after event `through`, of which it is known that `rev` is one of its events, at that place or later.
    ///
    /// # Errors
    /// As [`Past::row`].
    pub fn row_from(
        &self,
        table: &'static TableDef,
        key: &str,
        rev: Position,
        through: Position,
    ) -> Result<RowAt, StoreError> {
        match self.walk(table, key, rev, through)? {
            Walked::Through(at, links) => self.fold_links(table, at, links),
            Walked::Before(_) if never_begins_anew(table) => Ok(RowAt::NEVER),
            Walked::Before(_) | Walked::TooLong => self.search(table, key, through),
        }
    }

    /// The row of one entity after event `through`, dead or alive. `remembered` is how long the store's writers have left
    /// short tombstones, in ms: where a chain begins no later than that after the moment, or the entity has left nothing by
    /// now, an earlier row cannot have been deleted since, and so there was none. The log is not looked through for it.
    ///
    /// # Errors
    /// As [`Past::row`].
    pub fn held(
        &self,
        live: &dyn View,
        table: &'static TableDef,
        key: &str,
        through: Position,
        remembered: Millis,
    ) -> Result<Option<Held>, StoreError> {
        let mut rev = rev_of(live, table, key)?;
        if rev.is_none() {
            // Row and tombstone may have been read at two moments, between which one became the other.
            let at = live.checkpoint()?;
            rev = rev_of(live, table, key)?;
            let certain = rev.is_none() && live.checkpoint()? == at;
            if certain && self.was_not_there(table, self.log.now()?, through, remembered)? {
                return Ok(None);
            }
        }
        let Some(rev) = rev else { return Ok(self.search(table, key, through)?.held()) };
        let row = match self.walk(table, key, rev, through)? {
            Walked::Through(at, links) => self.fold_links(table, at, links)?,
            Walked::Before(began) if self.was_not_there(table, began, through, remembered)? => return Ok(None),
            Walked::Before(_) | Walked::TooLong => self.search(table, key, through)?,
        };
        Ok(row.held())
    }

    /// Whether an entity that had left nothing at the instant `by` was not there after event `through` either.
    fn was_not_there(
        &self,
        table: &TableDef,
        by: Millis,
        through: Position,
        remembered: Millis,
    ) -> Result<bool, StoreError> {
        if table.dies_at.is_some() || never_begins_anew(table) {
            return Ok(table.dies_at.is_none());
        }
        let then = self.log.event_alone(through)?.map(|commit| commit.recorded_at);
        Ok(then.is_none_or(|then| then > by.saturating_sub(remembered)))
    }

    fn fold_links(&self, table: &'static TableDef, mut at: RowAt, links: Vec<Link>) -> Result<RowAt, StoreError> {
        for Link { event, recorded_at } in links.into_iter().rev() {
            self.fold(table, &mut at, &event, recorded_at)?;
        }
        Ok(at)
    }

    fn fold(
        &self,
        table: &'static TableDef,
        at: &mut RowAt,
        event: &Event,
        recorded_at: Millis,
    ) -> Result<(), StoreError> {
        if !self.passes_over(event.position) {
            at.row = table.fold(at.row.take(), event, recorded_at)?;
        }
        at.rev = event.position;
        Ok(())
    }

    fn walk(
        &self,
        table: &'static TableDef,
        key: &str,
        rev: Position,
        through: Position,
    ) -> Result<Walked, StoreError> {
        let mut links = Vec::new();
        let mut next = Some(rev);
        let mut began = 0;
        let mut snapshot = None;
        for walked in 0..CHAIN_LINKS_MAX {
            let Some(position) = next else {
                return Ok(match links.is_empty() {
                    true => Walked::Before(began),
                    false => Walked::Through(RowAt::NEVER, links),
                });
            };
            if walked == LINKS_BEFORE_SNAPSHOT {
                snapshot = self.snapshot(through)?;
            }
            if let Some(snapshot) = &snapshot
                && position <= snapshot.checkpoint().position
            {
                let mut begin = in_snapshot(snapshot, table, key)?;
                // A row that it left out had died.
                begin.rev = begin.rev.max(position);
                return Ok(Walked::Through(begin, links));
            }
            let wrong =
                |why: &str| StoreError::corrupt(position, format!("a row of {} links to it, {why}", table.name));
            let found = match self.log.event_alone(position) {
                // Before the beginning of a log that was begun with a snapshot, or whose archive cannot be read.
                Err(_) if snapshot.is_none() && position < self.log.first()? && through >= position => {
                    snapshot = self.snapshot(through)?;
                    if snapshot.as_ref().is_some_and(|snapshot| position <= snapshot.checkpoint().position) {
                        continue;
                    }
                    self.log.event_alone(position)
                }
                found => found,
            };
            let mut commit = found?.ok_or_else(|| wrong("the log ends before"))?;
            let event = &commit.events[0];
            if *event.table != *table.name || *event.key != *key || event.prev.is_some_and(|prev| prev >= position) {
                return Err(wrong("it is about another"));
            }
            if !self.passes_over(position) {
                commit.check(event)?;
            }
            next = event.prev;
            began = commit.recorded_at;
            if position <= through {
                links.push(Link { event: commit.events.swap_remove(0), recorded_at: commit.recorded_at });
            }
        }
        Ok(Walked::TooLong)
    }

    /// Folds the entity's events wherever they stand in the log.
    fn search(&self, table: &'static TableDef, key: &str, through: Position) -> Result<RowAt, StoreError> {
        let (mut at, after) = match self.snapshot(through)? {
            Some(snapshot) => (in_snapshot(&snapshot, table, key)?, snapshot.checkpoint().position),
            None => {
                self.require_beginning(through)?;
                (RowAt::NEVER, Position::ZERO)
            }
        };
        for position in self.log.positions_of(table.name, key, after, through)? {
            let found = self.log.event_alone(position)?;
            let commit = found.ok_or_else(|| StoreError::corrupt(position, "missing from the log"))?;
            let event = &commit.events[0];
            if !self.passes_over(position) {
                commit.check(event)?;
            }
            self.fold(table, &mut at, event, commit.recorded_at)?;
        }
        Ok(at)
    }
}

/// An event of an entity, as today's tables know it: the last one of its row, or of what is left of it.
fn rev_of(live: &dyn View, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
    let rev = match live.get(table, key)? {
        Some(held) => Some(held.rev),
        None => live.tombstone(table, key)?,
    };
    Ok(rev.filter(|rev| *rev > Position::ZERO))
}

/// Whether each entity has one chain only, with nothing before its beginning.
fn never_begins_anew(table: &TableDef) -> bool {
    table.dies_at.is_none() && table.tombstones == Tombstones::Kept
}

fn in_snapshot(snapshot: &Snapshot, table: &'static TableDef, key: &str) -> Result<RowAt, StoreError> {
    Ok(match snapshot.row(table, key)? {
        Some(Held { row, rev }) => RowAt { row: Some(row), rev },
        None => RowAt { row: None, rev: snapshot.tombstone(table, key)?.unwrap_or_default() },
    })
}
