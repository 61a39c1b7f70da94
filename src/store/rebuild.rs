//! Tables of a file, filled anew from its log beside the live ones and put in their place in one step.
//!
//! Readers see the old rows until the swap. A rebuild that was interrupted goes on where it had come to; nothing but the
//! swap makes a shadow a table. A rebuild that has the file for itself is here; how shadows are filled is in `fill.rs`. Where
//! commands go on meanwhile ([`TaskStore::rebuild`](super::TaskStore::rebuild), `beside.rs`), every write is a small job
//! between two group commits, and the last of them takes the last events and swaps.

mod beside;
mod fill;

use std::path::Path;

use rusqlite::Connection;
use tasklog_log::{
    Millis, Position, StoreError,
    sqlite::{Head, connection, connection::Access},
};
use tasklog_projections::{
    TABLES, TableDef, facts,
    sqlite::{SqliteView, create_helpers, drop_shadow, read_built, swap_shadow, table_exists},
};
use tasklog_replay::compare;

pub(super) use self::fill::fill;
use super::{
    Following,
    lock::WriterLock,
    migrate,
    sqlite::{cannot_write, head, of_file},
};
use crate::meters::Rebuilding;

/// Events in a page of a rebuild that has the file for itself.
pub(crate) const PAGE_EVENTS: usize = 4_000;
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
