//! A rebuild beside commands: every write is a small job between two group commits, and the last of them takes the last
//! events and swaps.

use std::sync::Arc;

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Millis, Position, StoreError, SystemClock, read_checked_but,
    sqlite::{Head, SqliteLog},
};
use tasklog_projections::{
    AnyRow, Held, RowChange, Scan, TableDef, View,
    sqlite::{SqliteView, Wanted, remove_old},
};
use tasklog_replay::{Folder, catch_up_with};

use super::{
    Begin, PAGE_EVENTS, Rebuilt, UNNOTED,
    fill::{begin, passed_over},
    swap, unnoted,
};
use crate::{
    command::CommandOptions,
    facts::NoteRebuild,
    meters::Rebuilding,
    rejection::{Error, Rejection},
    store::{
        ReadSide, Repairs, TaskStore, archive, at,
        exclusive::Touches,
        sqlite::{head, pages},
    },
};

/// Rows written by one job between two group commits.
const SLICE_ROWS: usize = 500;
/// Events in a page of a rebuild beside commands: its rows are one slice.
const SLICE_EVENTS: usize = 500;
/// So few events behind the head, the rest is folded by the job that swaps.
const SWAP_EVENTS: u64 = 1_000;
/// How often a rebuild beside commands goes after a head that has moved on.
const ROUNDS_MAX: usize = 1_000;

impl TaskStore {
    /// Rebuilds tables from the log while commands and queries go on: the rows stay what they are until one step puts the
    /// new ones in their place. Interrupted, it goes on where it had come to when it is asked for again. In Redis, rows that
    /// are not what the log says are put right one by one. `note` hears the position. For threads outside an async runtime.
    ///
    /// # Errors
    /// `read_only`; `invalid` for a store in memory; `corrupt`, naming the event that cannot be folded, and then the rows
    /// stay what they are; `unavailable`.
    pub fn rebuild(&self, tables: &[&'static TableDef], mut note: impl FnMut(Position)) -> Result<Rebuilt, Error> {
        let pool = match &self.inner.read {
            ReadSide::Sqlite(pool) => pool,
            ReadSide::At(_) => return Err(at::not_in_the_past("rebuilding")),
            ReadSide::Memory(_) => {
                return Err(Rejection::invalid("a store in memory is built anew each time it is opened").into());
            }
            ReadSide::Redis(_) => {
                let Repairs { position, repaired, .. } = self.repair(tables, note)?;
                return Ok(Rebuilt { position, differed: Some(repaired), ..Rebuilt::default() });
            }
        };
        let conn = pool.open()?;
        let rebuilding = Rebuilding::begin(self.head()?);
        let mut note = |position| {
            rebuilding.at(position);
            note(position);
        };
        let owned = tables.to_vec();
        let (begun, passing_over) = self.exclusive(Touches::NoRows, move |conn| {
            let until = head(conn, Head::Log)?;
            let passing_over = passed_over(conn, until.position)?;
            let wanted = Wanted { tables: &owned, passing_over: &passing_over };
            Ok((begin(conn, &wanted, &until, Begin::AtTheStart, true)?, passing_over))
        })?;
        let mut shadow = Beside { store: self, conn: &conn };
        for _ in 0..ROUNDS_MAX {
            let at = shadow.checkpoint()?;
            let until = head(&conn, Head::Log)?;
            if at.position.0 + SWAP_EVENTS < until.position.0 {
                let mut folder = Folder::on(tables, &shadow)?.passing_over(passing_over.iter().copied());
                let pages = pages(pool.path(), at.position, until.position, SLICE_EVENTS, &passing_over)?;
                catch_up_with(&mut folder, SLICE_ROWS, pages, &mut shadow, &mut note)?;
                continue;
            }
            let (owned, passing_over) = (tables.to_vec(), passing_over.clone());
            let swapped = self
                .exclusive(Touches::Rows, move |conn| take_the_rest(conn, &owned, &passing_over, begun.at.log.epoch))?;
            if let Some(position) = swapped {
                note(position);
                while !self.exclusive(Touches::NoRows, |conn| remove_old(conn, SLICE_ROWS))? {}
                self.note_rebuilds()?;
                rebuilding.done();
                return Ok(Rebuilt { position, resumed: begun.at.position, ..Rebuilt::default() });
            }
        }
        Err(StoreError::unavailable(format!(
            "the log grows faster than tables are rebuilt: gave up after {ROUNDS_MAX} rounds"
        ))
        .into())
    }

    /// Tells the log which tables were rebuilt for a newer projection.
    pub(in crate::store) fn note_rebuilds(&self) -> Result<(), Error> {
        let ReadSide::Sqlite(pool) = &self.inner.read else { return Ok(()) };
        for (table, before) in pool.with(|conn| Ok(unnoted(conn)?))? {
            let through = self.head()?;
            let fact = NoteRebuild {
                table: table.name.into(),
                from_version: before.into(),
                to_version: table.projection_version.into(),
                through: through.to_i64(),
            };
            let reason = Some("its projection is a newer one".into());
            self.run_blocking(fact, CommandOptions { reason, ..CommandOptions::default() })?;
            self.exclusive(Touches::NoRows, |conn| {
                conn.execute("DELETE FROM _settings WHERE name = ?1", [format!("{UNNOTED}{}", table.name)])?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The last events and the swap, in one transaction; none if there are too many events for it.
fn take_the_rest(
    conn: &Connection,
    tables: &[&'static TableDef],
    passing_over: &[Position],
    epoch: u64,
) -> Result<Option<Position>, StoreError> {
    let until = head(conn, Head::Log)?;
    let mut shadow = SqliteView::shadow(conn);
    let at = shadow.checkpoint()?;
    if until.log.epoch != epoch || passed_over(conn, until.position)? != passing_over {
        // What the shadow holds is not what a replay would give now.
        return Err(StoreError::unavailable(
            "the log was changed by an operator while tables were rebuilt: begin again",
        ));
    }
    if at.position.0 + 2 * SWAP_EVENTS < until.position.0 {
        return Ok(None);
    }
    let log = SqliteLog::new(conn, Arc::new(SystemClock));
    let mut folder = Folder::on(tables, &shadow)?.passing_over(passing_over.iter().copied());
    let reached = archive::joined(&log, &SqliteView::live(conn), |log| {
        let mut after = at.position;
        let pages = std::iter::from_fn(|| {
            let known = |at| passing_over.binary_search(&at).is_ok();
            let page = (after < until.position).then(|| read_checked_but(log, after, PAGE_EVENTS, &known))?;
            if let Some(last) = page.as_ref().ok().and_then(|page| page.last()) {
                after = last.last();
            }
            Some(page)
        });
        catch_up_with(&mut folder, usize::MAX, pages, &mut shadow, |_| {})
    })?;
    if reached.position != until.position {
        return Err(StoreError::corrupt(reached.position.next(), format!("missing from the log: expected {until}")));
    }
    swap(conn, tables)?;
    Ok(Some(until.position))
}

/// The shadow tables beside a committer: read on a connection of its own, written by jobs.
struct Beside<'s> {
    store: &'s TaskStore,
    conn: &'s Connection,
}

impl Beside<'_> {
    fn shadow(&self) -> SqliteView<'_> {
        SqliteView::shadow(self.conn)
    }
}

impl View for Beside<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        self.shadow().get(table, key)
    }
    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        self.shadow().tombstone(table, key)
    }
    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.shadow().any_tombstone(table)
    }
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        self.shadow().scan(table, scan)
    }
    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.shadow().count(table, scan)
    }
    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.shadow().checkpoint()
    }
    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        let at = self.checkpoint()?;
        self.apply(changes, &at, &at)
    }
    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        // A page of small commits is one slice; the checkpoint moves with the rows.
        let (changes, from, to) = (changes.to_vec(), *from, *to);
        let applied =
            self.store.exclusive(Touches::NoRows, move |conn| SqliteView::shadow(conn).apply(&changes, &from, &to));
        applied.map_err(|error| match error {
            Error::Store(error) => error,
            Error::Rejected(rejection) => StoreError::unavailable(rejection.message),
        })
    }
    fn sweep(&mut self, _: &'static TableDef, _: Millis, _: Millis, _: usize) -> Result<Vec<AnyRow>, StoreError> {
        Ok(Vec::new())
    }
}
