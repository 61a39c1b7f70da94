//! The bytes of a snapshot; `docs/formats.md` describes them one by one.

use std::borrow::Cow;

use rmp::{Marker, decode as read, encode as write};
use serde::{Deserialize, Serialize};
use tasklog_log::{Checkpoint, CommitId, LogId, LogInfo, Millis, Position, StoreError};
use tasklog_projections::{AnyRow, Cell, Cells, PROJECTED, TableDef};

/// How snapshots are named in their place.
pub(super) const FOLDER: &str = "snapshots/";
/// How their names end.
pub(super) const SUFFIX: &str = ".tls";
/// What a snapshot begins with.
pub(super) const MAGIC: [u8; 6] = *b"tlsnap";
/// The layout that this program writes and reads.
pub(super) const FORMAT_VERSION: u16 = 1;
/// [`MAGIC`] and the version.
pub(super) const HEAD_BYTES: u64 = 8;
/// The place and the two lengths of the directory, and the digest.
pub(super) const TRAILER_BYTES: u64 = 16 + DIGEST_BYTES;
/// A SHA-256.
pub(super) const DIGEST_BYTES: u64 = 32;
/// So many digits of the digest stand in the name.
pub(super) const DIGEST_DIGITS: usize = 16;
/// A block is closed once it has so many bytes: one of them is read to look up one row.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// No block is larger: one row can make it longer than [`BLOCK_BYTES`].
pub(super) const BLOCK_BYTES_MAX: usize = 256 << 20;
/// No directory is larger.
pub(super) const DIRECTORY_BYTES_MAX: usize = 1 << 30;

/// What a snapshot says of itself, and where its blocks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    log_id: LogId,
    epoch: u64,
    position: Position,
    commit_id: CommitId,
    recorded_at: Millis,
    /// The quarantined events at or before the position, which were passed over.
    pub(super) passed_over: Vec<Position>,
    /// In the order of [`PROJECTED`].
    pub(super) tables: Vec<TableEntry>,
}

/// One table of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableEntry {
    pub(super) name: String,
    pub(super) projection_version: u32,
    pub(super) columns: Vec<String>,
    pub(super) rows: u64,
    pub(super) tombstones: u64,
    pub(super) blocks: Vec<BlockEntry>,
}

/// Where a block is, as an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockEntry(
    /// The key of its first entry.
    pub(super) String,
    /// Its place in the file.
    pub(super) u64,
    /// Its length there.
    pub(super) u32,
    /// Its length once it is decompressed.
    pub(super) u32,
    /// How many entries it has.
    pub(super) u32,
);

impl Directory {
    pub(super) fn new(at: &Checkpoint, passed_over: Vec<Position>) -> Self {
        let tables = PROJECTED.iter().map(|table| TableEntry {
            name: table.name.into(),
            projection_version: table.projection_version,
            columns: table.columns.iter().map(|column| column.name.into()).collect(),
            rows: 0,
            tombstones: 0,
            blocks: Vec::new(),
        });
        Self {
            log_id: at.log.id,
            epoch: at.log.epoch,
            position: at.position,
            commit_id: at.commit,
            recorded_at: at.recorded_at,
            passed_over,
            tables: tables.collect(),
        }
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let log = LogInfo { id: self.log_id, epoch: self.epoch };
        Checkpoint { log, position: self.position, commit: self.commit_id, recorded_at: self.recorded_at }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("texts, bytes and numbers can be written to memory")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(bytes).map_err(|error| format!("its directory does not decode: {error}"))
    }

    /// Why this program cannot use rows of these tables.
    pub(super) fn unlike_this_program(&self) -> Option<String> {
        for table in PROJECTED {
            let Some(entry) = self.tables.iter().find(|entry| entry.name == table.name) else {
                return Some(format!("it has no table {}", table.name));
            };
            let (found, known) = (entry.projection_version, table.projection_version);
            if found != known {
                return Some(format!("its table {} is of projection {found}, this program's is {known}", table.name));
            }
        }
        let same = |(entry, table): (&TableEntry, &&TableDef)| {
            entry.name == table.name && entry.columns.iter().eq(table.columns.iter().map(|column| column.name))
        };
        let alike = self.tables.len() == PROJECTED.len() && self.tables.iter().zip(PROJECTED.iter()).all(same);
        (!alike).then(|| "its tables and columns are not this program's".into())
    }
}

/// One row or tombstone, as it stands in a block: `[key, rev, [cell, …]]` or `[key, rev, deleted_at]`.
#[derive(Debug)]
pub(super) struct Entry<'b> {
    pub(super) key: &'b str,
    pub(super) rev: Position,
    pub(super) body: Body<'b>,
    /// All of it.
    pub(super) bytes: &'b [u8],
}

#[derive(Debug)]
pub(super) enum Body<'b> {
    Row(Vec<Cell<'b>>),
    Tombstone(Millis),
}

/// Memory takes whatever is written to it.
const TO_MEMORY: &str = "writing to memory does not fail";

pub(super) fn encode_row(block: &mut Vec<u8>, key: &str, rev: Position, cells: &[Cell<'_>]) {
    write::write_array_len(block, 3).expect(TO_MEMORY);
    write::write_str(block, key).expect(TO_MEMORY);
    write::write_uint(block, rev.0).expect(TO_MEMORY);
    write::write_array_len(block, u32::try_from(cells.len()).expect("a table has few columns")).expect(TO_MEMORY);
    for cell in cells {
        match cell {
            Cell::Null => write::write_nil(block).expect(TO_MEMORY),
            Cell::Integer(value) => drop(write::write_sint(block, *value).expect(TO_MEMORY)),
            Cell::Text(text) => write::write_str(block, text).expect(TO_MEMORY),
            Cell::Blob(bytes) => write::write_bin(block, bytes).expect(TO_MEMORY),
        }
    }
}

pub(super) fn encode_tombstone(block: &mut Vec<u8>, key: &str, rev: Position, deleted_at: Millis) {
    write::write_array_len(block, 3).expect(TO_MEMORY);
    write::write_str(block, key).expect(TO_MEMORY);
    write::write_uint(block, rev.0).expect(TO_MEMORY);
    write::write_sint(block, deleted_at).expect(TO_MEMORY);
}

/// Takes the next entry from the front of what is left of a block.
pub(super) fn decode_entry<'b>(left: &mut &'b [u8]) -> Result<Entry<'b>, String> {
    let begin = *left;
    if read::read_array_len(left).map_err(damaged)? != 3 {
        return Err("an entry is no array of 3".into());
    }
    let key = text(left)?;
    let rev = Position(read::read_int(left).map_err(damaged)?);
    let body = match left.first().map(|byte| Marker::from_u8(*byte)) {
        Some(Marker::FixArray(_) | Marker::Array16 | Marker::Array32) => {
            let count = read::read_array_len(left).map_err(damaged)?;
            Body::Row((0..count).map(|_| cell(left)).collect::<Result<_, _>>()?)
        }
        _ => Body::Tombstone(read::read_int(left).map_err(damaged)?),
    };
    let bytes = &begin[..begin.len() - left.len()];
    Ok(Entry { key, rev, body, bytes })
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("an entry does not decode: {error}")
}

fn taken<'b>(left: &mut &'b [u8], length: u32) -> Result<&'b [u8], String> {
    let (taken, rest) = left.split_at_checked(length as usize).ok_or("an entry ends early")?;
    *left = rest;
    Ok(taken)
}

fn text<'b>(left: &mut &'b [u8]) -> Result<&'b str, String> {
    let length = read::read_str_len(left).map_err(damaged)?;
    std::str::from_utf8(taken(left, length)?).map_err(damaged)
}

fn cell<'b>(left: &mut &'b [u8]) -> Result<Cell<'b>, String> {
    let marker = left.first().map(|byte| Marker::from_u8(*byte)).ok_or("an entry ends early")?;
    Ok(match marker {
        Marker::Null => {
            taken(left, 1)?;
            Cell::Null
        }
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => Cell::Text(Cow::Borrowed(text(left)?)),
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let length = read::read_bin_len(left).map_err(damaged)?;
            Cell::Blob(Cow::Borrowed(taken(left, length)?))
        }
        _ => Cell::Integer(read::read_int(left).map_err(damaged)?),
    })
}

/// The row that cells of a table are.
pub(super) fn row_of(table: &TableDef, cells: &[Cell<'_>]) -> Result<AnyRow, StoreError> {
    struct List<'a>(&'a [Cell<'a>]);
    impl Cells for List<'_> {
        fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
            self.0.cell(index)
        }
    }
    (table.load)(&List(cells))
        .map_err(|why| StoreError::corrupt_store(format!("a snapshot's row of {}: {why}", table.name)))
}

/// When a row dies, by its cells.
pub(super) fn dies_at(table: &TableDef, cells: &[Cell<'_>]) -> Option<Millis> {
    let at = table.dies_at.and_then(|name| table.column(name))?;
    match cells.get(at) {
        Some(Cell::Integer(instant)) => Some(*instant),
        _ => None,
    }
}
