//! The state of rows and tables as of an earlier moment.
//!
//! ```text
//!   position   1     2     3     4     5     6
//!            +-----+-----------+-----------------+
//!   events   |  a  |  b     c  |  d     e     f  |      commits: [1] [2 3] [4 5 6]
//!            +-----+-----------+-----------------+
//!   at 5: after event 5, inside a commit; what is dead by then is dead at that commit's instant
//!   at a time: after the last commit recorded at or before it; what is dead by then is dead at that time
//! ```
//! One row walks its own chain: from the rev of the row or of its tombstone back to the chain's first event, and forward
//! again through the moment. Where that does not lead there (the entity left neither, its chain began anew since, or it
//! is very long), and for whole tables, the log is folded from a snapshot at or before the moment, or from its start.

use tasklog_log::{Checkpoint, Event, Log, Millis, Position, StoreError, read_checked_but};
use tasklog_projections::{AnyRow, Held, TableDef, Tombstones, View};

use crate::{
    Folder,
    snapshot::{Snapshot, Snapshots},
};

/// Links of a chain that are walked before the log is folded instead.
pub const CHAIN_LINKS_MAX: usize = 4_096;
/// Links of a chain that are walked before a snapshot is asked for the rest.
const LINKS_BEFORE_SNAPSHOT: usize = 64;
/// Events in a page of a fold.
const PAGE_EVENTS: usize = 4_000;
/// Dead rows removed from one table at once.
const SWEEP_ROWS_MAX: usize = 2_000;

/// A moment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// After this event, inclusive, which may stand inside its commit.
    pub at: Checkpoint,
    /// ms: the instant by which rows have died or not.
    pub now: Millis,
}

/// Why there is no such moment.
#[derive(Debug, thiserror::Error)]
pub enum MomentError {
    /// Nobody has written that far.
    #[error("event {asked} is beyond the head: the log ends at event {head}")]
    BeyondHead {
        /// The position asked for.
        asked: Position,
        /// The log's head.
        head: Position,
    },
    /// The log did not exist yet.
    #[error("there was nothing then: the first event was recorded at {first} ms, {before} ms later")]
    BeforeFirst {
        /// ms: the first event's instant.
        first: Millis,
        /// ms: how much later that is.
        before: Millis,
    },
    /// The log was begun with a snapshot, or trimmed, and what was before is not known here.
    #[error("the log here begins at event {first}, recorded at {began} ms: ask a store that has what was before")]
    BeforeBeginning {
        /// The first event that it has.
        first: Position,
        /// ms: its instant, or the log's clock if there is none yet.
        began: Millis,
    },
    /// It has not come yet, by the log's clock.
    #[error("that time has not come yet: the log's clock stands at {now} ms, {ahead} ms before it")]
    InTheFuture {
        /// ms: the log's clock.
        now: Millis,
        /// ms: how far ahead the time is.
        ahead: Millis,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Moment {
    /// Before everything.
    ///
    /// # Errors
    /// The log's.
    pub fn start(log: &dyn Log) -> Result<Self, StoreError> {
        Ok(Self { at: Checkpoint::start(log.info()?), now: 0 })
    }

    /// After the event at `position`, at the instant of its commit; 0 is before everything.
    ///
    /// # Errors
    /// If it is beyond the head; the log's.
    pub fn at_position(log: &dyn Log, position: Position) -> Result<Self, MomentError> {
        if position == Position::ZERO {
            return Ok(Self::start(log)?);
        }
        let Some((commit, _)) = log.event(position)? else {
            return Err(MomentError::BeyondHead { asked: position, head: log.head()?.position });
        };
        let at = Checkpoint { log: log.info()?, position, commit: commit.meta.id, recorded_at: commit.recorded_at };
        Ok(Self { at, now: commit.recorded_at })
    }

    /// After the last commit recorded at or before `time`, at that time.
    ///
    /// # Errors
    /// If the log's clock has not come so far, or the log had no event yet; the log's.
    pub fn at_time(log: &dyn Log, time: Millis) -> Result<Self, MomentError> {
        let now = log.now()?;
        if time > now {
            return Err(MomentError::InTheFuture { now, ahead: time.saturating_sub(now) });
        }
        let first = log.first()?;
        let (mut low, mut high) = (first.0, log.head()?.position.0 + 1);
        // Instants do not decrease along a log: everything before `low` was recorded in time, from `high` on too late.
        while low < high {
            let middle = low + (high - low) / 2;
            match log.event(Position(middle))? {
                Some((commit, _)) if commit.recorded_at <= time => low = commit.last().0 + 1,
                Some((commit, _)) => high = commit.first().0.max(low),
                None => high = middle,
            }
        }
        if low == first.0 && first > Position(1) {
            let began = log.event(first)?.map_or(now, |(commit, _)| commit.recorded_at);
            return Err(MomentError::BeforeBeginning { first, began });
        }
        if low == first.0 {
            let first = log.event(first)?.map_or(now, |(commit, _)| commit.recorded_at);
            return Err(MomentError::BeforeFirst { first, before: first.saturating_sub(time) });
        }
        Ok(Self { now: time, ..Self::at_position(log, Position(low - 1))? })
    }
}

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

/// What the past is read from.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// The events that replays pass over, ascending, as decided today: a moment before the decision could not be seen
    /// otherwise.
    pub passed_over: &'a [Position],
    /// The snapshots that folds may begin with.
    pub snapshots: Option<&'a Snapshots>,
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
    /// Whether replays pass over an event.
    #[must_use]
    pub fn passes_over(&self, position: Position) -> bool {
        self.passed_over.binary_search(&position).is_ok()
    }

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

    fn snapshot(&self, through: Position) -> Result<Option<Snapshot>, StoreError> {
        self.snapshots.map_or(Ok(None), |snapshots| snapshots.newest(self.log, through))
    }

    /// Without a snapshot, a fold needs the whole log.
    fn require_beginning(&self, through: Position) -> Result<(), StoreError> {
        let first = self.log.first()?;
        if first <= Position(1) {
            return Ok(());
        }
        Err(StoreError::unavailable(format!(
            "looking at event {through}: the log begins at event {first}, and there is no usable snapshot at or before it"
        )))
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

    /// Folds `tables` through a moment into a fresh `view`. Answers whether it is done: beyond `rows_max` rows it gives up,
    /// and the view is of no use.
    ///
    /// # Errors
    /// `corrupt` or `schema_ahead`, naming the position; the log's and the view's.
    pub fn tables(
        &self,
        tables: &[&'static TableDef],
        moment: &Moment,
        view: &mut dyn View,
        rows_max: u64,
    ) -> Result<bool, StoreError> {
        let mut rows = 0_u64;
        let mut folder = match self.snapshot(moment.at.position)? {
            Some(snapshot) => {
                rows = rows_of(&snapshot, tables);
                if rows > rows_max {
                    return Ok(false);
                }
                let at = snapshot.load(tables, view)?;
                Folder::on(tables, view)?.after_snapshot(at.position)
            }
            None => {
                self.require_beginning(moment.at.position)?;
                Folder::new(tables)
            }
        }
        .passing_over(self.passed_over.iter().copied());
        let mut at = view.checkpoint()?;
        let mut flush = |folder: &mut Folder, view: &mut dyn View, to: &Checkpoint| -> Result<bool, StoreError> {
            let changes = folder.changes();
            for change in &changes {
                match (&change.before, &change.after) {
                    (None, Some(_)) => rows += 1,
                    (Some(_), None) => rows = rows.saturating_sub(1),
                    _ => {}
                }
            }
            let from = view.checkpoint()?;
            view.apply(&changes, &from, to)?;
            Ok(rows <= rows_max)
        };
        while at.position < moment.at.position {
            let page = read_checked_but(self.log, at.position, PAGE_EVENTS, &|position| self.passes_over(position))?;
            if page.is_empty() {
                return Err(StoreError::corrupt(at.position.next(), "missing from the log"));
            }
            for commit in page.iter().take_while(|commit| commit.first() <= moment.at.position) {
                for event in commit.events.iter().filter(|event| event.position <= moment.at.position) {
                    folder.fold_event(event, commit.recorded_at, view)?;
                }
                at.position = commit.last();
                at.commit = commit.meta.id;
                at.recorded_at = commit.recorded_at;
            }
            if folder.is_full() && at.position < moment.at.position && !flush(&mut folder, view, &at)? {
                return Ok(false);
            }
        }
        flush(&mut folder, view, &moment.at)
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

fn rows_of(snapshot: &Snapshot, tables: &[&'static TableDef]) -> u64 {
    let counted = snapshot.contents().tables;
    let wanted = counted.iter().filter(|counted| tables.iter().any(|table| table.name == counted.name));
    wanted.map(|counted| counted.rows).sum()
}

/// Removes from `view` the rows that had died by `now`.
///
/// # Errors
/// The view's.
pub fn bury_dead(tables: &[&'static TableDef], view: &mut dyn View, now: Millis) -> Result<(), StoreError> {
    for table in tables.iter().filter(|table| table.dies_at.is_some()) {
        while view.sweep(table, now, Millis::MIN, SWEEP_ROWS_MAX)?.len() == SWEEP_ROWS_MAX {}
    }
    Ok(())
}
