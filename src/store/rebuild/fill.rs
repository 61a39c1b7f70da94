//! Shadow tables are filled: from where an interrupted rebuild had come to, from a snapshot, or from the log's first event.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use tasklog_log::{Checkpoint, Log, Position, StoreError, SystemClock, sqlite::SqliteLog};
use tasklog_projections::{
    TableDef, facts,
    sqlite::{
        Begun, SqliteView, Wanted, begin_loading, begun_shadow, create_shadow, end_loading, index_shadow, table_exists,
    },
};
use tasklog_replay::{FOLD_ROWS_MAX, Folder, catch_up_with};

use super::{Begin, PAGE_EVENTS, Rebuilt};
use crate::store::{archive, beginning::unusable, snapshots, sqlite::pages};

/// Fills and indexes shadows from the log through `until`, the end of a commit or 0; answers where it has begun.
pub(in crate::store) fn fill(
    path: &Path,
    conn: &Connection,
    tables: &[&'static TableDef],
    until: &Checkpoint,
    with: Begin,
    note: &mut dyn FnMut(Position),
) -> Result<Rebuilt, StoreError> {
    let passing_over = passed_over(conn, until.position)?;
    let wanted = Wanted { tables, passing_over: &passing_over };
    let beginning = SqliteLog::new(conn, Arc::new(SystemClock)).beginning()?;
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
    let log = SqliteLog::new(conn, Arc::new(SystemClock));
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

pub(super) fn passed_over(conn: &Connection, through: Position) -> Result<Vec<Position>, StoreError> {
    if !table_exists(conn, facts::DEF.name)? {
        return Ok(Vec::new());
    }
    facts::quarantined_by(&SqliteView::live(conn), through)
}

/// Where to go on: at what an interrupted rebuild of the same has come to, if the log through `until` still has it.
pub(super) fn begin(
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
    let log = SqliteLog::new(conn, Arc::new(SystemClock));
    if let Some(beginning) = log.beginning()?.filter(|beginning| beginning.position == begun.position) {
        return Ok(beginning.commit == begun.commit);
    }
    let found = archive::joined(&log, &SqliteView::live(conn), |log| log.event(begun.position))?;
    Ok(found.is_some_and(|(commit, _)| commit.meta.id == begun.commit && commit.last() == begun.position))
}
