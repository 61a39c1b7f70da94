//! Tables of a file, filled anew from its log beside the live ones and put in their place in one step.
//!
//! Readers see the old rows until the swap. A rebuild that was interrupted goes on where it had come to; nothing but the
//! swap makes a shadow a table. Where commands go on meanwhile ([`TaskStore::rebuild`]), every write is a small job between
//! two group commits, and the last of them takes the last events and swaps.

use std::path::Path;

use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Log, Millis, Position, StoreError,
    sqlite::{Head, SqliteLog, connection, connection::Access},
};
use tasklog_projections::{
    AnyRow, Held, RowChange, Scan, TABLES, TableDef, View, facts,
    sqlite::{
        Begun, SqliteView, Wanted, begin_loading, begun_shadow, create_helpers, create_shadow, drop_shadow,
        end_loading, index_shadow, read_built, remove_old, swap_shadow, table_exists,
    },
};
use tasklog_replay::{FOLD_ROWS_MAX, Folder, catch_up_with, compare};

use super::{
    Following, ReadSide, Repairs, TaskStore, archive,
    beginning::unusable,
    exclusive::Touches,
    lock::WriterLock,
    migrate, snapshots,
    sqlite::{cannot_write, head, of_file, pages},
};
use crate::{
    command::CommandOptions,
    facts::NoteRebuild,
    meters::Rebuilding,
    rejection::{Error, Rejection},
};

/// Rows written by one job between two group commits.
const SLICE_ROWS: usize = 500;
/// Events in a page of a rebuild beside commands: its rows are one slice.
const SLICE_EVENTS: usize = 500;
/// Events in a page of a rebuild that has the file for itself.
pub(crate) const PAGE_EVENTS: usize = 4_000;
/// So few events behind the head, the rest is folded by the job that swaps.
const SWAP_EVENTS: u64 = 1_000;
/// How often a rebuild beside commands goes after a head that has moved on.
const ROUNDS_MAX: usize = 1_000;
/// What stands before a table's name in the settings while its rebuild is not noted in the log.
const UNNOTED: &str = "rebuilt:";

/// What a rebuild begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The log's first event.
    AtTheStart,
    /// The newest usable snapshot, or the log's first event if there is none.
    WithSnapshot,
}

/// What a rebuild has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Through this position.
    pub position: Position,
    /// The position of the snapshot it began with; 0 if it began with the log's first event.
    pub began: Position,
    /// The position that an interrupted rebuild had come to, where this one went on; 0 if it began anew.
    pub resumed: Position,
    /// Rows that were not what the log says; none if that was not looked at (beside commands, and for tables of an older
    /// projection).
    pub differed: Option<u64>,
}

/// Rebuilds tables of a store that no other process has open for writing.
///
/// # Errors
/// `corrupt`, naming the event that cannot be folded (the old rows stay); `unavailable`; `read_only`.
pub fn rebuild(
    path: &Path,
    tables: &[&'static TableDef],
    begin: Begin,
    mut note: impl FnMut(Position),
) -> Result<Rebuilt, StoreError> {
    if cannot_write(path) {
        return Err(StoreError::ReadOnly(format!("{}: the file is not writable", path.display())));
    }
    let lock = WriterLock::take(path)?;
    let conn = connection::open(path, Access::Write)?;
    migrate::check(migrate::applied(&conn).map_err(|error| of_file(path, error))?)?;
    let rebuilt = rebuild_alone(path, &conn, tables, begin, &mut note)?;
    drop(lock);
    Ok(rebuilt)
}

/// Rebuilds tables on the only writing connection.
pub(super) fn rebuild_alone(
    path: &Path,
    conn: &Connection,
    tables: &[&'static TableDef],
    begin: Begin,
    note: &mut dyn FnMut(Position),
) -> Result<Rebuilt, StoreError> {
    if !table_exists(conn, facts::DEF.name)? && tables.len() > 1 {
        // What replays pass over is written there.
        rebuild_alone(path, conn, &[&facts::DEF], begin, note)?;
    }
    let until = head(conn, Head::Log)?;
    let rebuilding = Rebuilding::begin(until.position);
    let filled = fill(path, conn, tables, &until, begin, &mut |position| {
        rebuilding.at(position);
        note(position);
    })?;
    let same = tables.iter().copied().filter(|table| is_current(conn, table));
    let differed = count_differences(conn, same, until.recorded_at)?;
    let transaction = connection::begin(conn)?;
    swap(conn, tables)?;
    Following::note_snapshot(conn, filled.began)?;
    mend_tombstones(conn)?;
    transaction.commit()?;
    drop_shadow(conn)?;
    rebuilding.done();
    Ok(Rebuilt { position: until.position, differed, ..filled })
}

/// The table of deleted rows is not swapped: its index is made anew by itself.
fn mend_tombstones(conn: &Connection) -> Result<(), StoreError> {
    create_helpers(conn)?;
    Ok(conn.execute_batch("REINDEX _tombstones")?)
}

fn is_current(conn: &Connection, table: &TableDef) -> bool {
    let there = table_exists(conn, table.name).unwrap_or(false);
    there
        && read_built(conn, table)
            .is_ok_and(|built| built.is_some_and(|built| built.version == table.projection_version))
}

/// Fills and indexes shadows from the log through `until`, the end of a commit or 0; answers where it has begun.
pub(super) fn fill(
    path: &Path,
    conn: &Connection,
    tables: &[&'static TableDef],
    until: &Checkpoint,
    with: Begin,
    note: &mut dyn FnMut(Position),
) -> Result<Rebuilt, StoreError> {
    let passing_over = passed_over(conn, until.position)?;
    let wanted = Wanted { tables, passing_over: &passing_over };
    let beginning = SqliteLog::new(conn, std::sync::Arc::new(tasklog_log::SystemClock)).beginning()?;
    // A replica that began with a snapshot has no event before it.
    let may_load = if beginning.is_some() { Begin::WithSnapshot } else { with };
    let mut begun = begin(conn, &wanted, until, may_load, false)?;
    let resumed = begun.at.position;
    if may_load == Begin::WithSnapshot && resumed == Position::ZERO {
        begun = load(path, conn, &wanted, until, with, beginning.as_ref())?;
    }
    let mut shadow = SqliteView::shadow(conn);
    let folder = Folder::on(tables, &shadow)?.passing_over(passing_over.iter().copied());
    let mut folder = folder.after_snapshot(begun.snapshot);
    let pages = pages(path, begun.at.position, until.position, PAGE_EVENTS, &passing_over)?;
    let reached = catch_up_with(&mut folder, FOLD_ROWS_MAX / 2, pages, &mut shadow, note)?;
    if reached.position != until.position {
        return Err(StoreError::corrupt(reached.position.next(), format!("missing from the log: expected {until}")));
    }
    index_shadow(conn, tables)?;
    Ok(Rebuilt { position: until.position, began: begun.snapshot, resumed, differed: None })
}

/// Writes the rows of the newest usable snapshot to shadows that are empty.
fn load(
    path: &Path,
    conn: &Connection,
    wanted: &Wanted<'_>,
    until: &Checkpoint,
    with: Begin,
    beginning: Option<&Checkpoint>,
) -> Result<Begun, StoreError> {
    let log = SqliteLog::new(conn, std::sync::Arc::new(tasklog_log::SystemClock));
    let kept = snapshots::of_file(path, wanted.passing_over.iter().copied());
    let start = Checkpoint::start(until.log);
    begin_loading(conn)?;
    let mut shadow = SqliteView::scratch(conn, start);
    let mut why_not = String::new();
    let (at, half, first) = archive::joined(&log, &SqliteView::live(conn), |log| {
        let find = || {
            let newest = if with == Begin::WithSnapshot { kept.newest(log, until.position)? } else { None };
            let (None, Some(at)) = (&newest, beginning) else { return Ok(newest) };
            Ok(kept.beginning(log, at)?.map_err(|why| why_not = why).ok())
        };
        let (at, half) = snapshots::begin_from(&kept.place(), find, wanted.tables, &mut shadow);
        Ok::<_, StoreError>((at, half, log.first()?))
    })?;
    if half {
        create_shadow(conn, wanted, &start, false)?;
    }
    if let (None, Some(beginning)) = (at, beginning)
        && first > Position(1)
    {
        return Err(unusable(beginning.position, &why_not));
    }
    let at = at.unwrap_or(start);
    end_loading(conn, &at)?;
    Ok(Begun { at, snapshot: at.position })
}

fn passed_over(conn: &Connection, through: Position) -> Result<Vec<Position>, StoreError> {
    if !table_exists(conn, facts::DEF.name)? {
        return Ok(Vec::new());
    }
    facts::quarantined_by(&SqliteView::live(conn), through)
}

/// Where to go on: at what an interrupted rebuild of the same has come to, if the log through `until` still has it.
fn begin(
    conn: &Connection,
    wanted: &Wanted<'_>,
    until: &Checkpoint,
    with: Begin,
    indexed: bool,
) -> Result<Begun, StoreError> {
    let start = Checkpoint::start(until.log);
    if let Some(begun) = begun_shadow(conn, wanted)?
        && contains(conn, &begun.at, until)?
        && (with == Begin::WithSnapshot || begun.snapshot == Position::ZERO)
    {
        if indexed {
            index_shadow(conn, wanted.tables)?;
        }
        tracing::info!(position = begun.at.position.0, "a rebuild that was interrupted goes on");
        return Ok(begun);
    }
    create_shadow(conn, wanted, &start, indexed)?;
    Ok(Begun { at: start, snapshot: Position::ZERO })
}

fn contains(conn: &Connection, begun: &Checkpoint, until: &Checkpoint) -> Result<bool, StoreError> {
    if begun.log != until.log || begun.position > until.position {
        return Ok(false);
    }
    if begun.position == Position::ZERO {
        return Ok(true);
    }
    let log = SqliteLog::new(conn, std::sync::Arc::new(tasklog_log::SystemClock));
    if let Some(beginning) = log.beginning()?.filter(|beginning| beginning.position == begun.position) {
        return Ok(beginning.commit == begun.commit);
    }
    let found = archive::joined(&log, &SqliteView::live(conn), |log| log.event(begun.position))?;
    Ok(found.is_some_and(|(commit, _)| commit.meta.id == begun.commit && commit.last() == begun.position))
}

/// How many rows of the live tables are not what the shadows hold; both reflect the head.
fn count_differences(
    conn: &Connection,
    tables: impl Iterator<Item = &'static TableDef>,
    now: Millis,
) -> Result<Option<u64>, StoreError> {
    let (live, shadow) = (SqliteView::live(conn), SqliteView::shadow(conn));
    let mut rows = 0;
    for table in tables {
        let mut last = String::new();
        let compared = compare(table, &live, &shadow, now, |difference| {
            let (_, key) = difference.entity();
            rows += u64::from(key != last);
            key.clone_into(&mut last);
        });
        match compared {
            Ok(_) => {}
            // A row that cannot even be read is what a rebuild is for.
            Err(StoreError::Corrupt { .. } | StoreError::Unavailable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(rows))
}

/// Swaps, and leaves a note for whoever opens the store next: a rebuild for a newer projection belongs into the log.
fn swap(conn: &Connection, tables: &[&'static TableDef]) -> Result<(), StoreError> {
    for table in TABLES.iter().filter(|table| tables.iter().any(|wanted| wanted.name == table.name)) {
        let before = read_built(conn, table)?.map_or(0, |built| built.version);
        if before != table.projection_version {
            conn.execute(
                "INSERT OR REPLACE INTO _settings (name, value) VALUES (?1, ?2)",
                (format!("{UNNOTED}{}", table.name), before),
            )?;
        }
    }
    swap_shadow(conn, tables)
}

/// The rebuilds that the log does not tell yet: tables, and the projection versions they had before.
pub(super) fn unnoted(conn: &Connection) -> Result<Vec<(&'static TableDef, u32)>, StoreError> {
    let mut select = conn.prepare("SELECT name, value FROM _settings WHERE name LIKE ?1 || '%'")?;
    let rows = select.query_map([UNNOTED], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let mut unnoted = Vec::new();
    for row in rows {
        let (name, before) = row?;
        let name = name.strip_prefix(UNNOTED).unwrap_or_default();
        unnoted.extend(tasklog_projections::table(name).map(|table| (table, before)));
    }
    Ok(unnoted)
}

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
            ReadSide::At(_) => return Err(super::at::not_in_the_past("rebuilding")),
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
    pub(super) fn note_rebuilds(&self) -> Result<(), Error> {
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
    let log = SqliteLog::new(conn, std::sync::Arc::new(tasklog_log::SystemClock));
    let mut folder = Folder::on(tables, &shadow)?.passing_over(passing_over.iter().copied());
    let reached = archive::joined(&log, &SqliteView::live(conn), |log| {
        let mut after = at.position;
        let pages = std::iter::from_fn(|| {
            let known = |at| passing_over.binary_search(&at).is_ok();
            let page =
                (after < until.position).then(|| tasklog_log::read_checked_but(log, after, PAGE_EVENTS, &known))?;
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
