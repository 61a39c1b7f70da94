use std::{cmp::Ordering, fmt};

use tasklog_log::{Millis, Position, StoreError};
use tasklog_projections::{Cell, Held, PAGE_ROWS_MAX, Scan, TableDef, Unreadable, View, cell_json};

/// A row that two views do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The log gives a row that the live table does not have.
    Missing {
        /// The table.
        table: &'static str,
        /// The row key.
        key: String,
        /// The event that made the row what it should be.
        rev: Position,
    },
    /// The live table has a row that the log does not give.
    Stray {
        /// The table.
        table: &'static str,
        /// The row key.
        key: String,
        /// The event that the row names as its last one.
        rev: Position,
    },
    /// A column differs.
    Column {
        /// The table.
        table: &'static str,
        /// The row key.
        key: String,
        /// The column, or `_rev`.
        column: &'static str,
        /// What the live row holds, as JSON.
        live: String,
        /// What the log gives, as JSON.
        replayed: String,
        /// The event that made the row what it should be.
        rev: Position,
    },
    /// What the live table holds is no row.
    Unreadable {
        /// The table.
        table: &'static str,
        /// The row key, as far as it can be read.
        key: String,
        /// Why not.
        why: String,
    },
}

impl Difference {
    /// The table and the key it is about.
    #[must_use]
    pub fn entity(&self) -> (&'static str, &str) {
        match self {
            Self::Missing { table, key, .. }
            | Self::Stray { table, key, .. }
            | Self::Column { table, key, .. }
            | Self::Unreadable { table, key, .. } => (table, key),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { table, key, rev } => {
                write!(f, "{table}/{key}: missing from the live table; event {rev} says it exists")
            }
            Self::Stray { table, key, rev } => {
                write!(f, "{table}/{key}: in the live table at rev {rev}, but the log says it does not exist")
            }
            Self::Column { table, key, column, live, replayed, rev } => {
                write!(f, "{table}/{key}: column {column} holds {live}, the log says {replayed} (event {rev})")
            }
            Self::Unreadable { table, key, why } => write!(f, "{table}/{key}: the live row cannot be read: {why}"),
        }
    }
}

/// Compares the rows of one table that are alive at `now`, key by key, both walked in key order page by page. A live row that
/// cannot be read is a difference like any other.
///
/// # Errors
/// The views'.
pub fn compare(
    table: &'static TableDef,
    live: &dyn View,
    replayed: &dyn View,
    now: Millis,
    mut meet: impl FnMut(Difference),
) -> Result<u64, StoreError> {
    let mut live = Walk::new(table, live, now);
    let mut replayed = Walk::new(table, replayed, now);
    let (mut a, mut b) = (live.next()?, replayed.next_row()?);
    let mut rows = 0;
    loop {
        let order = match (&a, &b) {
            (None, None) => return Ok(rows),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok(a)), Some(b)) => sort_key(table, a).cmp(&sort_key(table, b)),
            (Some(Err(Unreadable { cells: Some(cells), .. })), Some(b)) => cells[..].cmp(&sort_key(table, b)[..]),
            (Some(Err(_)), Some(_)) => Ordering::Less,
        };
        rows += 1;
        if order == Ordering::Greater {
            if let Some(row) = &b {
                meet(Difference::Missing { table: table.name, key: row.row.key(), rev: row.rev });
            }
            b = replayed.next_row()?;
            continue;
        }
        match (&a, &b) {
            (Some(Ok(left)), Some(right)) if order == Ordering::Equal => columns(table, left, right, &mut meet),
            (Some(Ok(row)), _) => {
                meet(Difference::Stray { table: table.name, key: row.row.key(), rev: row.rev });
            }
            (Some(Err(Unreadable { key, why, .. })), _) => {
                meet(Difference::Unreadable { table: table.name, key: key.clone(), why: why.clone() });
            }
            (None, _) => {}
        }
        a = live.next()?;
        if order == Ordering::Equal {
            b = replayed.next_row()?;
        }
    }
}

fn sort_key<'r>(table: &TableDef, held: &'r Held) -> Vec<Cell<'r>> {
    held.row.cells().into_iter().zip(table.columns).filter(|(_, column)| column.key).map(|(cell, _)| cell).collect()
}

fn columns(table: &'static TableDef, live: &Held, replayed: &Held, meet: &mut impl FnMut(Difference)) {
    if live.rev == replayed.rev && live.row.differs(&*replayed.row) == 0 {
        return;
    }
    let key = live.row.key();
    let rev = replayed.rev;
    let mut report = |column, live: String, replayed: String| {
        meet(Difference::Column { table: table.name, key: key.clone(), column, live, replayed, rev });
    };
    for ((column, a), b) in table.columns.iter().zip(live.row.cells()).zip(replayed.row.cells()) {
        if a != b {
            let shown = |cell| cell_json(column, cell).map_or_else(|why| why, |json| json.to_string());
            report(column.name, shown(&a), shown(&b));
        }
    }
    if live.rev != replayed.rev {
        report("_rev", live.rev.to_string(), replayed.rev.to_string());
    }
}

/// Shows every row of one table that is alive at `now`, in key order; answers how many there are.
///
/// # Errors
/// The view's, and `meet`'s.
pub fn live_rows(
    table: &'static TableDef,
    view: &dyn View,
    now: Millis,
    mut meet: impl FnMut(&Held) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let mut walk = Walk::new(table, view, now);
    let mut rows = 0;
    while let Some(held) = walk.next_row()? {
        meet(&held)?;
        rows += 1;
    }
    Ok(rows)
}

/// Walks the live rows of a table in key order.
struct Walk<'v> {
    table: &'static TableDef,
    view: &'v dyn View,
    now: Millis,
    page: std::vec::IntoIter<Result<Held, Unreadable>>,
    after: Option<Vec<Cell<'static>>>,
    done: bool,
}

impl<'v> Walk<'v> {
    fn new(table: &'static TableDef, view: &'v dyn View, now: Millis) -> Self {
        Self { table, view, now, page: Vec::new().into_iter(), after: None, done: false }
    }

    fn next(&mut self) -> Result<Option<Result<Held, Unreadable>>, StoreError> {
        loop {
            let now = self.now;
            if let Some(met) = self.page.find(|met| met.as_ref().map_or(true, |held| held.row.is_live(now))) {
                return Ok(Some(met));
            }
            if self.done {
                return Ok(None);
            }
            let mut scan = Scan::all("pk");
            if let Some(after) = self.after.clone() {
                scan = scan.after(after);
            }
            let mut page = self.view.scan_each(self.table, &scan)?;
            self.done = page.len() < PAGE_ROWS_MAX;
            if !self.done {
                self.go_on_behind(&mut page)?;
            }
            self.page = page.into_iter();
        }
    }

    /// The next page begins behind the last key of this one that can be read.
    fn go_on_behind(&mut self, page: &mut Vec<Result<Held, Unreadable>>) -> Result<(), StoreError> {
        let key = |met: &Result<Held, Unreadable>| match met {
            Ok(held) => Some(sort_key(self.table, held).into_iter().map(Cell::into_owned).collect::<Vec<_>>()),
            Err(unreadable) => unreadable.cells.clone(),
        };
        let behind = page.iter().enumerate().rev().find_map(|(at, met)| Some((at, key(met)?)));
        let (at, behind) = behind.ok_or_else(|| StoreError::corrupt_store("a page of keys that are none"))?;
        if self.after.as_ref().is_some_and(|after| *after >= behind) {
            return Err(StoreError::corrupt_store("its keys are not in order"));
        }
        page.truncate(at + 1);
        self.after = Some(behind);
        Ok(())
    }

    /// For whoever cannot go on without one of them.
    fn next_row(&mut self) -> Result<Option<Held>, StoreError> {
        let met = self.next()?.transpose();
        met.map_err(|unreadable| StoreError::corrupt_store(format!("a row of {}: {}", self.table.name, unreadable.why)))
    }
}
