use rusqlite::{Connection, params};
use tasklog_log::{Millis, Position, StoreError};
use tasklog_projections::{
    PAGE_ROWS_MAX, PROJECTED, TableDef, Tombstones, View,
    sqlite::{SqliteView, check_values},
};
use tasklog_replay::{Finding, Problem, Report, Verifier};

/// Tombstones of no table that are told.
const STRANGE_MAX: usize = 100;

/// Compares the side tables of indexes over several values with the rows that they lead to.
///
/// # Errors
/// `unavailable`.
pub(super) fn values(conn: &Connection, tables: &[&'static TableDef], report: &mut Report) -> Result<(), StoreError> {
    for table in tables {
        let checked = check_values(conn, table, |found| {
            let problem = if found.missing { Problem::Missing } else { Problem::Stray };
            let helper = format!("{} under {:?}", found.helper, found.value);
            report.add(Finding::Helper { table: table.name, key: found.key, helper, problem });
        });
        match checked {
            Ok(()) => {}
            // What is missing there, or cannot be read at all, was told.
            Err(StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Until when tombstones may be gone, and what else explains one that a replay does not give.
pub(super) struct Remembered {
    /// ms: housekeeping may have removed short ones of rows that were deleted before this.
    pub(super) since: Millis,
    /// The snapshot that the replay began with: it had forgotten some.
    pub(super) began: Position,
    /// Events that replays pass over.
    pub(super) passed_over: Vec<Position>,
}

/// Compares the deleted rows that are remembered with those that the replay gives.
///
/// # Errors
/// `unavailable`.
pub(super) fn tombstones(
    conn: &Connection,
    tables: &[&'static TableDef],
    fresh: &SqliteView<'_>,
    remembered: &Remembered,
    verifier: &mut Verifier,
) -> Result<(), StoreError> {
    let live = SqliteView::live(conn);
    for table in tables {
        let (mut ours, mut theirs) = (Walk::new(table, &live), Walk::new(table, fresh));
        let (mut a, mut b) = (ours.next()?, theirs.next()?);
        loop {
            let key = match (&a, &b) {
                (None, None) => break,
                (Some((a, _)), Some((b, _))) => a.min(b).clone(),
                (Some((key, _)), None) | (None, Some((key, _))) => key.clone(),
            };
            let at = a.as_ref().filter(|(of, _)| *of == key).map(|(_, rev)| *rev);
            let replayed = b.as_ref().filter(|(of, _)| *of == key).map(|(_, rev)| *rev);
            if at.is_some() {
                a = ours.next()?;
            }
            if replayed.is_some() {
                b = theirs.next()?;
            }
            if at != replayed
                && !verifier.is_tainted(table.name, &key)
                && !remembered.explains(conn, table, &key, at, replayed, fresh)?
            {
                let table = table.name.to_owned();
                verifier.report().add(Finding::Tombstone { table, key, live: at, replayed });
            }
        }
    }
    strange(conn, verifier.report())
}

impl Remembered {
    fn explains(
        &self,
        conn: &Connection,
        table: &'static TableDef,
        key: &str,
        live: Option<Position>,
        replayed: Option<Position>,
        fresh: &SqliteView<'_>,
    ) -> Result<bool, StoreError> {
        let short = table.tombstones == Tombstones::Short;
        Ok(match (live, replayed) {
            (None, Some(rev)) => {
                let mut select = conn.prepare_cached("SELECT recorded_at FROM events WHERE position = ?1")?;
                let deleted_at = select.query_row(params![rev.to_i64()], |row| row.get::<_, Millis>(0));
                // What is not in the file any more is old.
                let old = deleted_at.map_or(true, |at| at < self.since);
                // A row that had died before its event was quarantined leaves nothing.
                (short && old) || self.passed_over.binary_search(&rev).is_ok()
            }
            // The replay has the row still, which had died when it was deleted no more; or began after it was deleted.
            (Some(rev), None) => match fresh.get(table, key)? {
                Some(held) => held.rev == rev && self.passed_over.binary_search(&rev).is_ok(),
                None => short && rev <= self.began,
            },
            (Some(_), Some(_)) | (None, None) => false,
        })
    }
}

/// Tombstones of tables that do not exist.
fn strange(conn: &Connection, report: &mut Report) -> Result<(), StoreError> {
    let known: Vec<_> = PROJECTED.iter().map(|table| format!("'{}'", table.name)).collect();
    let mut select = conn.prepare(&format!(
        "SELECT CAST(table_name AS BLOB), CAST(key AS BLOB) FROM _tombstones WHERE table_name NOT IN ({}) LIMIT {STRANGE_MAX}",
        known.join(", ")
    ))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let text = |at| Ok::<_, StoreError>(String::from_utf8_lossy(&row.get::<_, Vec<u8>>(at)?).into_owned());
        let what = "table _tombstones".to_owned();
        let why =
            format!("{:?}/{:?} is no row of a table: remove it while no process has the file open", text(0)?, text(1)?);
        report.add(Finding::Store { what, why });
    }
    Ok(())
}

/// Walks the tombstones of a table in the order of their keys.
struct Walk<'v> {
    table: &'static TableDef,
    view: &'v SqliteView<'v>,
    page: std::vec::IntoIter<(String, Position)>,
    after: Option<String>,
    done: bool,
}

impl<'v> Walk<'v> {
    fn new(table: &'static TableDef, view: &'v SqliteView<'v>) -> Self {
        Self { table, view, page: Vec::new().into_iter(), after: None, done: false }
    }

    fn next(&mut self) -> Result<Option<(String, Position)>, StoreError> {
        if let Some(next) = self.page.next() {
            return Ok(Some(next));
        }
        if self.done {
            return Ok(None);
        }
        let page = self.view.tombstones_page(self.table, self.after.as_deref(), PAGE_ROWS_MAX)?;
        self.done = page.len() < PAGE_ROWS_MAX;
        let last = page.last().map(|(key, _)| key.clone());
        if last.is_some() && last <= self.after {
            return Err(StoreError::corrupt_store("the keys of tombstones are not in order"));
        }
        self.after = last;
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}
