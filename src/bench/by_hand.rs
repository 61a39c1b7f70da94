//! What a program without tasklog's replay would do: rows in a HashMap, and nothing is checked.

use std::{collections::HashMap, fs, path::Path};

use ahash::RandomState;
use rmp::{Marker, decode as read};
use rusqlite::Connection;
use serde::{Deserialize, de::IgnoredAny};
use tasklog_log::{Position, StoreError};
use tasklog_projections::{
    At, Cell, Row, Table, TableEvent,
    tables::tasks::{DEF, TaskEvent, TaskRow, Tasks},
};

use crate::Error;

/// Tasks by their ids, with their revs.
pub(super) type TaskRows = HashMap<String, (TaskRow, Position), RandomState>;

/// Bytes of a snapshot's trailer, and of the digest at its end.
const TRAILER: (usize, usize) = (48, 32);

/// The part of a snapshot's directory that is needed.
#[derive(Deserialize)]
struct Directory {
    tables: Vec<TableEntry>,
}

#[derive(Deserialize)]
struct TableEntry {
    name: String,
    blocks: Vec<Block>,
}

/// First key, place, length there, length once it is decompressed, how many entries.
type Block = (IgnoredAny, usize, usize, usize, IgnoredAny);

/// Tasks through an event: those of a snapshot, and the events after it; all events without one.
pub(super) fn tasks(
    conn: &Connection,
    snapshot: Option<(&Path, Position)>,
    through: Position,
) -> Result<TaskRows, Error> {
    let mut rows = TaskRows::default();
    let mut after = Position::ZERO;
    if let Some((file, at)) = snapshot {
        let bytes = fs::read(file).map_err(|error| StoreError::unavailable_because("reading a snapshot", error))?;
        load(&bytes, &mut rows).map_err(StoreError::corrupt_store)?;
        after = at;
    }
    fold(conn, &mut rows, after, through)?;
    Ok(rows)
}

fn load(bytes: &[u8], rows: &mut TaskRows) -> Result<(), String> {
    let trailer = &bytes[bytes.len() - TRAILER.0..bytes.len() - TRAILER.1];
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    let (place, length, raw) = (number(&trailer[..8]), number(&trailer[8..12]), number(&trailer[12..16]));
    let unpacked = |place: usize, length: usize, raw: usize| {
        zstd::bulk::decompress(&bytes[place..place + length], raw).map_err(|error| error.to_string())
    };
    let directory: Directory =
        rmp_serde::from_slice(&unpacked(place, length, raw)?).map_err(|error| error.to_string())?;
    let tasks = directory.tables.iter().find(|table| table.name == DEF.name).ok_or("no tasks")?;
    for (_, place, length, raw, _) in &tasks.blocks {
        let block = unpacked(*place, *length, *raw)?;
        let mut left = &block[..];
        while !left.is_empty() {
            entry(&mut left, rows)?;
        }
    }
    Ok(())
}

fn entry(left: &mut &[u8], rows: &mut TaskRows) -> Result<(), String> {
    read::read_array_len(left).map_err(wrong)?;
    let key = text(left)?.to_owned();
    let rev: u64 = read::read_int(left).map_err(wrong)?;
    if !matches!(left.first().map(|byte| Marker::from_u8(*byte)), Some(Marker::FixArray(_) | Marker::Array16)) {
        // A tombstone.
        let _: i64 = read::read_int(left).map_err(wrong)?;
        return Ok(());
    }
    let count = read::read_array_len(left).map_err(wrong)?;
    let cells = (0..count).map(|_| cell(left)).collect::<Result<Vec<_>, _>>()?;
    let row = TaskRow::from_cells(&Cells(&cells))?;
    rows.insert(key, (row, Position(rev)));
    Ok(())
}

struct Cells<'a>(&'a [Cell<'a>]);

impl tasklog_projections::Cells for Cells<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        self.0.cell(index)
    }
}

fn cell<'b>(left: &mut &'b [u8]) -> Result<Cell<'b>, String> {
    Ok(match left.first().map(|byte| Marker::from_u8(*byte)) {
        Some(Marker::Null) => {
            *left = &left[1..];
            Cell::Null
        }
        Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => Cell::Text(text(left)?.into()),
        _ => Cell::Integer(read::read_int(left).map_err(wrong)?),
    })
}

fn text<'b>(left: &mut &'b [u8]) -> Result<&'b str, String> {
    let length = read::read_str_len(left).map_err(wrong)? as usize;
    let (text, rest) = left.split_at_checked(length).ok_or("a text ends early")?;
    *left = rest;
    std::str::from_utf8(text).map_err(wrong)
}

fn wrong(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Select, decode, fold.
fn fold(conn: &Connection, rows: &mut TaskRows, after: Position, through: Position) -> Result<(), Error> {
    let mut select = conn
        .prepare(
            "SELECT position, recorded_at, key, type, type_version, payload FROM events \
             WHERE position > ?1 AND position <= ?2 AND table_name = 'tasks' ORDER BY position",
        )
        .map_err(StoreError::from)?;
    let mut events = select.query([after.to_i64(), through.to_i64()]).map_err(StoreError::from)?;
    while let Some(event) = events.next().map_err(StoreError::from)? {
        let text = |at| event.get_ref(at).ok().and_then(|value| value.as_str().ok()).unwrap_or_default();
        let number = |at| event.get_ref(at).ok().and_then(|value| value.as_i64().ok()).unwrap_or_default();
        let payload = event.get_ref(5).ok().and_then(|value| value.as_blob().ok()).unwrap_or_default();
        let decoded = TaskEvent::decode(text(3), number(4) as u32, payload)
            .map_err(|error| StoreError::corrupt_store(error.to_string()))?;
        let position = Position(number(0) as u64);
        let at = At { position, recorded_at: number(1), key: text(2) };
        let row = rows.remove(at.key).map(|(row, _)| row);
        let row = Tasks::evolve(row, decoded, &at).map_err(|why| StoreError::corrupt(position, why.0))?;
        if let Some(row) = row {
            rows.insert(at.key.to_owned(), (row, position));
        }
    }
    Ok(())
}
