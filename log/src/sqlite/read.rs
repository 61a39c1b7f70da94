use std::sync::Arc;

use rusqlite::{
    Connection, OptionalExtension, Row, params,
    types::{Value, ValueRef},
};
use uuid::Uuid;

use crate::{COMMIT_EVENTS_MAX, Commit, CommitId, CommitMeta, Event, Position, StoreError, name::Interner};

const COLUMNS: &str = "position, commit_id, recorded_at, actor, reason, request_id, table_name, key, type, \
                       type_version, prev, payload, checksum";

/// Whole commits after `after`: at least one if there is one, none further once `limit` events are reached.
pub(super) fn commits(conn: &Connection, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
    let start = start_of_commit(conn, after.next())?;
    let mut select =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE position > ?1 ORDER BY position"))?;
    let mut rows = select.query([start.before().to_i64()])?;
    let mut commits: Vec<Commit> = Vec::new();
    let mut reader = Reader::default();
    let mut events = 0;
    while let Some(row) = rows.next()? {
        match commits.last_mut() {
            Some(commit) if continues(row, commit)? => commit.events.push(reader.event(row)?),
            Some(_) if events >= limit => break,
            _ => {
                let (meta, recorded_at) = reader.meta(row)?;
                commits.push(Commit { meta, recorded_at, events: vec![reader.event(row)?] });
            }
        }
        events += 1;
    }
    Ok(commits)
}

/// The commit that holds `position`, and the index of its event.
pub(super) fn commit_around(conn: &Connection, position: Position) -> Result<(Commit, usize), StoreError> {
    let missing = || StoreError::corrupt(position, "missing from the log");
    let mut found = commits(conn, position.before(), 1)?;
    let commit = (!found.is_empty()).then(|| found.swap_remove(0)).ok_or_else(missing)?;
    let index = commit.events.iter().position(|event| event.position == position).ok_or_else(missing)?;
    Ok((commit, index))
}

/// One event, in its commit without the others.
pub(super) fn event_alone(conn: &Connection, position: Position) -> Result<Commit, StoreError> {
    let mut select = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE position = ?1"))?;
    let mut rows = select.query([position.to_i64()])?;
    let row = rows.next()?.ok_or_else(|| StoreError::corrupt(position, "missing from the log"))?;
    let mut reader = Reader::default();
    let (meta, recorded_at) = reader.meta(row)?;
    Ok(Commit { meta, recorded_at, events: vec![reader.event(row)?] })
}

/// The positions of one entity's events after `after` through `through`; no row is taken apart for it.
pub(super) fn positions_of(
    conn: &Connection,
    table: &str,
    key: &str,
    after: Position,
    through: Position,
) -> Result<Vec<Position>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT position FROM events WHERE position > ?1 AND position <= ?2 AND key = ?3 AND table_name = ?4 \
         ORDER BY position",
    )?;
    let mut rows = select.query(params![after.to_i64(), through.to_i64(), key, table])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(position(row, 0)?);
    }
    Ok(found)
}

/// The first position of the commit that holds `position`; `position` itself if nothing is stored there.
pub(super) fn start_of_commit(conn: &Connection, position: Position) -> Result<Position, StoreError> {
    let mut select = conn
        .prepare_cached("SELECT commit_id, recorded_at, actor, reason, request_id FROM events WHERE position = ?1")?;
    let mut meta_of = |at: Position| -> Result<Option<[Value; 5]>, StoreError> {
        let meta = |row: &Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]);
        Ok(select.query_row([at.to_i64()], meta).optional()?)
    };
    let mut first = position;
    let Some(meta) = meta_of(position)? else { return Ok(first) };
    for _ in 1..COMMIT_EVENTS_MAX {
        if first <= Position(1) || meta_of(first.before())?.as_ref() != Some(&meta) {
            break;
        }
        first = first.before();
    }
    Ok(first)
}

/// Whether a row belongs to the same commit as the row before it. Every row repeats what is common to its commit, and
/// its checksum covers that: a row that differs in it stands alone, so that its checksum is checked with what it says.
fn continues(row: &Row<'_>, commit: &Commit) -> Result<bool, StoreError> {
    let meta = &commit.meta;
    Ok(blob16(row, 1)? == meta.id.0
        && integer(row, 2)? == commit.recorded_at
        && text(row, 3)? == &*meta.actor
        && optional_text(row, 4)? == meta.reason.as_deref()
        && optional_text(row, 5)? == meta.request_id.as_deref())
}

/// Turns rows into events, allocating repeated names once.
#[derive(Default)]
struct Reader {
    names: Interner,
    actor: Option<Arc<str>>,
}

impl Reader {
    fn meta(&mut self, row: &Row<'_>) -> Result<(CommitMeta, i64), StoreError> {
        let id = CommitId(blob16(row, 1)?);
        let actor = text(row, 3)?;
        let actor = match &self.actor {
            Some(known) if **known == *actor => known.clone(),
            _ => Arc::clone(self.actor.insert(actor.into())),
        };
        let optional = |index| Ok::<_, StoreError>(optional_text(row, index)?.map(Arc::from));
        let meta = CommitMeta { id, actor, reason: optional(4)?, request_id: optional(5)? };
        Ok((meta, integer(row, 2)?))
    }

    fn event(&mut self, row: &Row<'_>) -> Result<Event, StoreError> {
        let prev = match value(row, 10)? {
            ValueRef::Null => None,
            _ => Some(position(row, 10)?),
        };
        Ok(Event {
            position: position(row, 0)?,
            table: self.names.name(text(row, 6)?),
            key: text(row, 7)?.into(),
            event_type: self.names.name(text(row, 8)?),
            type_version: unsigned32(row, 9)?,
            prev,
            payload: blob(row, 11)?.to_vec(),
            checksum: unsigned32(row, 12)?,
        })
    }
}

fn value<'r>(row: &'r Row<'_>, index: usize) -> Result<ValueRef<'r>, StoreError> {
    Ok(row.get_ref(index)?)
}

fn wrong(row: &Row<'_>, index: usize, expected: &str) -> StoreError {
    let why = format!("column {} of its row is no {expected}", row.as_ref().column_name(index).unwrap_or("?"));
    let at = row.get_ref(0).ok().and_then(|v| v.as_i64().ok()).and_then(Position::from_i64);
    StoreError::Corrupt { position: at, why }
}

fn integer(row: &Row<'_>, index: usize) -> Result<i64, StoreError> {
    value(row, index)?.as_i64().map_err(|_| wrong(row, index, "integer"))
}

fn position(row: &Row<'_>, index: usize) -> Result<Position, StoreError> {
    Position::from_i64(integer(row, index)?).ok_or_else(|| wrong(row, index, "position"))
}

fn unsigned32(row: &Row<'_>, index: usize) -> Result<u32, StoreError> {
    u32::try_from(integer(row, index)?).map_err(|_| wrong(row, index, "unsigned 32-bit integer"))
}

fn text<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r str, StoreError> {
    value(row, index)?.as_str().map_err(|_| wrong(row, index, "UTF-8 text"))
}

fn optional_text<'r>(row: &'r Row<'_>, index: usize) -> Result<Option<&'r str>, StoreError> {
    match value(row, index)? {
        ValueRef::Null => Ok(None),
        _ => text(row, index).map(Some),
    }
}

fn blob<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r [u8], StoreError> {
    value(row, index)?.as_blob().map_err(|_| wrong(row, index, "blob"))
}

fn blob16(row: &Row<'_>, index: usize) -> Result<Uuid, StoreError> {
    Uuid::from_slice(blob(row, index)?).map_err(|_| wrong(row, index, "16-byte id"))
}
