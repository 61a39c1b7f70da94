use std::ops::Bound;

use tasklog_log::{Checkpoint, Millis, Position, StoreError};

use crate::{AnyRow, Cell, TableDef};

/// The largest page that [`View::scan`] answers.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// A row as a view holds it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The row.
    pub row: AnyRow,
    /// The position of its last event.
    pub rev: Position,
}

/// What a view holds in the place of a row, and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its place among the rows, if at least its key can be read.
    pub cells: Option<Vec<Cell<'static>>>,
    /// The row key, as far as it can be read.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a batch of events did to one row. A row changed twice in a batch is one change.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// Whose row.
    pub table: &'static TableDef,
    /// Which row.
    pub key: Box<str>,
    /// The row as the view holds it now, dead or alive.
    pub before: Option<AnyRow>,
    /// Whether the view holds a tombstone of it.
    pub buried: bool,
    /// The row as it is to be; none leaves a tombstone.
    pub after: Option<AnyRow>,
    /// The position of its last event.
    pub rev: Position,
    /// That event's instant.
    pub at: Millis,
}

/// A bounded walk along one declared index.
///
/// The order is the index's columns, then the key columns that are not among them. `equal` fixes the first columns;
/// `from` and `to` bound the following ones, by as many columns as they name. NULL is equal to nothing and in no range, so
/// a walk along an index that begins with a nullable column is bounded before it goes on with [`Scan::after`].
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    /// An index name, a multi-index name, or `pk`.
    pub index: &'a str,
    /// The values of the first columns.
    pub equal: Vec<Cell<'a>>,
    /// Where the walk begins, in index order.
    pub from: Bound<Vec<Cell<'a>>>,
    /// Where it ends, in index order.
    pub to: Bound<Vec<Cell<'a>>>,
    /// From the end to the beginning.
    pub descending: bool,
    /// At most this many rows, and at most [`PAGE_ROWS_MAX`].
    pub limit: usize,
}

impl<'a> Scan<'a> {
    /// All of an index, first page.
    #[must_use]
    pub fn all(index: &'a str) -> Self {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        Self { index, equal: Vec::new(), from, to, descending: false, limit: PAGE_ROWS_MAX }
    }

    /// The rows whose first index columns have these values.
    #[must_use]
    pub fn equal(index: &'a str, values: impl IntoIterator<Item = Cell<'a>>) -> Self {
        Self { equal: values.into_iter().collect(), ..Self::all(index) }
    }

    /// From the end to the beginning.
    #[must_use]
    pub fn descending(self) -> Self {
        Self { descending: true, ..self }
    }

    /// At most `limit` rows.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.min(PAGE_ROWS_MAX), ..self }
    }

    /// Only rows beyond these values, in the direction of the walk.
    #[must_use]
    pub fn after(self, values: Vec<Cell<'a>>) -> Self {
        if self.descending {
            Self { to: Bound::Excluded(values), ..self }
        } else {
            Self { from: Bound::Excluded(values), ..self }
        }
    }

    /// Only rows up to these values.
    #[must_use]
    pub fn to(self, to: Bound<Vec<Cell<'a>>>) -> Self {
        Self { to, ..self }
    }

    /// Only rows from these values on.
    #[must_use]
    pub fn from(self, from: Bound<Vec<Cell<'a>>>) -> Self {
        Self { from, ..self }
    }
}

/// The columns of an index's order: its own, then the key columns that are not among them.
pub(crate) fn index_order(table: &TableDef, index: &str) -> Result<Vec<usize>, StoreError> {
    let own: &[&str] = match index {
        "pk" => &[],
        name => {
            let declared = table.indexes.iter().find(|declared| declared.name == name);
            declared.ok_or_else(|| no_index(table, index))?.columns
        }
    };
    let mut order: Vec<usize> = own.iter().filter_map(|name| table.column(name)).collect();
    let keys = table.columns.iter().enumerate().filter(|(_, column)| column.key).map(|(index, _)| index);
    for key in keys {
        if !order.contains(&key) {
            order.push(key);
        }
    }
    Ok(order)
}

/// A row's place in the order of an index; of a multi-index, its key.
pub(crate) fn entry(table: &TableDef, index: &str, row: &AnyRow) -> Result<Vec<Cell<'static>>, StoreError> {
    if table.multi_indexes.iter().any(|multi| multi.name == index) {
        return Ok(vec![Cell::Text(row.key().into())]);
    }
    let order = index_order(table, index)?;
    Ok(order.into_iter().map(|at| row.cell(at).into_owned()).collect())
}

/// Whether a walk along an index meets a row.
pub(crate) fn meets(table: &TableDef, scan: &Scan<'_>, row: &AnyRow) -> Result<bool, StoreError> {
    if let Some(multi) = table.multi_indexes.iter().find(|multi| multi.name == scan.index) {
        let Some(Cell::Text(value)) = scan.equal.first() else { return Err(no_index(table, scan.index)) };
        let beyond = match &scan.from {
            Bound::Excluded(cursor) => cursor.first().is_none_or(|cursor| Cell::Text(row.key().into()) > *cursor),
            _ => true,
        };
        return Ok(beyond && (multi.values)(&**row).iter().any(|found| *found == **value));
    }
    let cells = entry(table, scan.index, row)?;
    Ok(within(scan, &cells))
}

/// Whether an entry lies within the bounds of a scan. NULL is equal to nothing and in no range.
pub(crate) fn within(scan: &Scan<'_>, cells: &[Cell<'static>]) -> bool {
    let equal = scan.equal.len();
    let rest = &cells[equal..];
    let bounded = scan.from != Bound::Unbounded || scan.to != Bound::Unbounded;
    let cut = |bound: &[Cell<'_>]| rest[..bound.len().min(rest.len())].cmp(bound);
    let null = |bound: &Bound<Vec<Cell<'_>>>| match bound {
        Bound::Unbounded => false,
        Bound::Included(cells) | Bound::Excluded(cells) => cells.contains(&Cell::Null),
    };
    let met = match (scan.equal.contains(&Cell::Null) || null(&scan.from) || null(&scan.to), rest.first()) {
        (true, _) => false,
        (false, Some(Cell::Null)) => !bounded,
        (false, _) => true,
    };
    met && cells[..equal] == scan.equal[..]
        && match &scan.from {
            Bound::Unbounded => true,
            Bound::Included(from) => cut(from).is_ge(),
            Bound::Excluded(from) => cut(from).is_gt(),
        }
        && match &scan.to {
            Bound::Unbounded => true,
            Bound::Included(to) => cut(to).is_le(),
            Bound::Excluded(to) => cut(to).is_lt(),
        }
}

pub(crate) fn no_index(table: &TableDef, index: &str) -> StoreError {
    // Reached by a programming error only: indexes are named by the program.
    StoreError::unavailable(format!("table {} declares no index {index}", table.name))
}

/// What every view store promises:
///
/// - `get`, `tombstone`, `scan` and `count` answer from one state; a writer's own unfinished writes are visible to the
///   writer and to nobody else.
/// - `scan` answers at most [`PAGE_ROWS_MAX`] rows, in index order, dead rows included: liveness is the caller's
///   question, because it depends on the caller's clock.
/// - `apply` writes rows and checkpoint in one transaction (joining an open one), and is refused as `diverged` if the
///   view is not at `from`.
/// - An I/O error is never turned into "no such row".
pub trait View {
    /// A row, dead or alive.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` if what is stored is no row of the table.
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError>;

    /// The rev of a deleted row that is still remembered.
    ///
    /// # Errors
    /// `unavailable`.
    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError>;

    /// Whether the table remembers any deleted row: where it does not, nobody needs to look for one.
    ///
    /// # Errors
    /// `unavailable`.
    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError>;

    /// A page of rows along an index.
    ///
    /// # Errors
    /// As [`View::get`].
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError>;

    /// [`View::scan`] for whoever goes on after a row that cannot be read.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` if a view cannot tell one such row from the others.
    fn scan_each(
        &self,
        table: &'static TableDef,
        scan: &Scan<'_>,
    ) -> Result<Vec<Result<Held, Unreadable>>, StoreError> {
        Ok(self.scan(table, scan)?.into_iter().map(Ok).collect())
    }

    /// How many rows a scan without limit would meet.
    ///
    /// # Errors
    /// `unavailable`.
    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError>;

    /// What the rows reflect.
    ///
    /// # Errors
    /// `unavailable`.
    fn checkpoint(&self) -> Result<Checkpoint, StoreError>;

    /// Writes rows without moving the checkpoint, so that later scans of the same transaction meet them.
    ///
    /// # Errors
    /// `unavailable` or `read_only`.
    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError>;

    /// Writes rows and moves the checkpoint.
    ///
    /// # Errors
    /// `diverged` if the view is not at `from`; `unavailable` or `read_only`.
    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError>;

    /// Housekeeping: removes up to `limit` rows that were dead at `now`, and short tombstones older than
    /// `tombstones_before`. No event, no tombstone; returns what it removed.
    ///
    /// # Errors
    /// `unavailable` or `read_only`.
    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError>;
}

impl<V: View + ?Sized> View for &mut V {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        (**self).get(table, key)
    }
    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        (**self).tombstone(table, key)
    }
    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        (**self).any_tombstone(table)
    }
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        (**self).scan(table, scan)
    }
    fn scan_each(
        &self,
        table: &'static TableDef,
        scan: &Scan<'_>,
    ) -> Result<Vec<Result<Held, Unreadable>>, StoreError> {
        (**self).scan_each(table, scan)
    }
    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        (**self).count(table, scan)
    }
    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        (**self).checkpoint()
    }
    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        (**self).write(changes)
    }
    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        (**self).apply(changes, from, to)
    }
    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        (**self).sweep(table, now, tombstones_before, limit)
    }
}
