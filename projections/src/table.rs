use std::sync::Arc;

use tasklog_log::{Event, Millis, Position, StoreError};

use crate::{AnyRow, Cells, Column, DecodeError, EventType, Row, RowObject, TableEvent};

/// One of the 14 tables. Implementing this is all that a table is.
pub trait Table: 'static {
    /// The name on every backend.
    const NAME: &'static str;
    /// Raised when evolve or the columns change: the table is then rebuilt on open.
    const PROJECTION_VERSION: u32 = 1;
    /// The schema version (1 or 2) that brought the table.
    const SCHEMA_VERSION: u32;
    /// How long deletions are remembered.
    const TOMBSTONES: Tombstones;
    /// Beside the primary key.
    const INDEXES: &'static [Index] = &[];
    /// Indexes over several values per row.
    const MULTI_INDEXES: &'static [MultiIndex] = &[];
    /// Pairs of unique indexes: no row has a value in the one that another row has in the other. Decisions look; where others
    /// write as well, the commit looks once more.
    const DISJOINT: &'static [(&'static str, &'static str)] = &[];
    /// Columns masked in human output and exports.
    const SENSITIVE: &'static [&'static str] = &[];
    /// The table's short name, which begins its keys where one key space holds all tables.
    const KEY_PREFIX: &'static str;
    /// Columns that hold positions of events.
    const POSITIONS: &'static [&'static str] = &[];
    /// Members of payloads, however deep, that hold positions of events: where events move, they follow.
    const PAYLOAD_POSITIONS: &'static [&'static str] = &[];
    /// The row.
    type Row: Row;
    /// The events.
    type Event: TableEvent;

    /// The table at run time.
    fn def() -> &'static TableDef;

    /// The pure fold. `row` is none if there is no row or it had died by `at.recorded_at`.
    ///
    /// # Errors
    /// [`Impossible`] if the row's state does not allow the event.
    fn evolve(row: Option<Self::Row>, event: Self::Event, at: &At<'_>) -> Result<Option<Self::Row>, Impossible>;
}

/// What the envelope tells evolve.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The event's position.
    pub position: Position,
    /// The commit's instant.
    pub recorded_at: Millis,
    /// The row key.
    pub key: &'a str,
}

/// An event that the row's state does not allow; the log that holds it is corrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible(pub String);

impl Impossible {
    /// The event needs a row and there is none.
    #[must_use]
    pub fn no_row(event: &str) -> Self {
        Self(format!("{event} on a row that does not exist"))
    }

    /// The event creates a row that exists.
    #[must_use]
    pub fn row_exists(event: &str) -> Self {
        Self(format!("{event} on a row that exists"))
    }
}

impl From<String> for Impossible {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// How long a table remembers the revs of deleted rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    /// For ever: version counters continue through them.
    Kept,
    /// For `retention.tombstones` (a day).
    Short,
}

/// A declared index. Its order is its columns, then the key columns that are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Unique within the table; the SQLite index is named `<table>_<name>`.
    pub name: &'static str,
    /// In order.
    pub columns: &'static [&'static str],
    /// Checked inside the commit on every backend.
    pub unique: bool,
    /// Whether others rely on what the SQLite index is called.
    pub keeps_name: bool,
}

impl Index {
    /// An ordinary index.
    #[must_use]
    pub const fn on(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, unique: false, keeps_name: false }
    }

    /// A unique index.
    #[must_use]
    pub const fn unique(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, unique: true, keeps_name: false }
    }

    /// An ordinary index of a small table, under a name that others rely on.
    #[must_use]
    pub const fn named(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, unique: false, keeps_name: true }
    }
}

/// An index over several values per row, each leading back to the row.
#[derive(Clone, Copy)]
pub struct MultiIndex {
    /// Unique within the table.
    pub name: &'static str,
    /// The values under which the row is found.
    pub values: fn(&dyn RowObject) -> Vec<String>,
}

impl std::fmt::Debug for MultiIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A table at run time: what stores, replay and tools need to know of it.
#[derive(Debug)]
pub struct TableDef {
    /// [`Table::NAME`]
    pub name: &'static str,
    /// [`Table::PROJECTION_VERSION`]
    pub projection_version: u32,
    /// [`Table::SCHEMA_VERSION`]
    pub schema_version: u32,
    /// [`Table::TOMBSTONES`]
    pub tombstones: Tombstones,
    /// The column that holds the instant of death, for rows that die by time.
    pub dies_at: Option<&'static str>,
    /// Key columns first.
    pub columns: &'static [Column],
    /// [`Table::INDEXES`]
    pub indexes: &'static [Index],
    /// [`Table::MULTI_INDEXES`]
    pub multi_indexes: &'static [MultiIndex],
    /// [`Table::DISJOINT`]
    pub disjoint: &'static [(&'static str, &'static str)],
    /// [`Table::SENSITIVE`]
    pub sensitive: &'static [&'static str],
    /// [`Table::KEY_PREFIX`]
    pub key_prefix: &'static str,
    /// [`Table::POSITIONS`]
    pub positions: &'static [&'static str],
    /// [`Table::PAYLOAD_POSITIONS`]
    pub payload_positions: &'static [&'static str],
    /// Event types.
    pub events: &'static [EventType],
    /// A row from stored values.
    pub load: fn(&dyn Cells) -> Result<AnyRow, String>,
    fold: FoldFn,
    payload_json: fn(&Event) -> Result<String, DecodeError>,
}

/// [`Table::evolve`] with its decoding, for rows whose table is known at run time only.
type FoldFn = fn(Option<AnyRow>, &Event, Millis) -> Result<Option<AnyRow>, FoldError>;

/// Why an event could not be folded.
enum FoldError {
    Decode(DecodeError),
    Impossible(Impossible),
}

impl TableDef {
    /// The run-time form of `T`.
    #[must_use]
    pub const fn of<T: Table>() -> Self {
        Self {
            name: T::NAME,
            projection_version: T::PROJECTION_VERSION,
            schema_version: T::SCHEMA_VERSION,
            tombstones: T::TOMBSTONES,
            dies_at: T::Row::DIES_AT,
            columns: T::Row::COLUMNS,
            indexes: T::INDEXES,
            multi_indexes: T::MULTI_INDEXES,
            disjoint: T::DISJOINT,
            sensitive: T::SENSITIVE,
            key_prefix: T::KEY_PREFIX,
            positions: T::POSITIONS,
            payload_positions: T::PAYLOAD_POSITIONS,
            events: T::Event::TYPES,
            load: |cells| Ok(Arc::new(T::Row::from_cells(cells)?)),
            fold: fold::<T>,
            payload_json: payload_json::<T>,
        }
    }

    /// Folds one event into a row. A row that had died by then counts as none.
    ///
    /// # Errors
    /// `corrupt` or `schema_ahead`, naming the position.
    pub fn fold(&self, row: Option<AnyRow>, event: &Event, recorded_at: Millis) -> Result<Option<AnyRow>, StoreError> {
        (self.fold)(row, event, recorded_at).map_err(|error| match error {
            FoldError::Decode(DecodeError::NewerVersion { name, found, known }) => {
                StoreError::SchemaAhead { what: format!("event {}: type {name}", event.position), found, known }
            }
            FoldError::Decode(error) => StoreError::corrupt(event.position, error.to_string()),
            FoldError::Impossible(Impossible(why)) => {
                StoreError::corrupt(event.position, format!("{}/{}: {why}", self.name, event.key))
            }
        })
    }

    /// An event's payload as the text of a JSON object, for people and tools.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn payload_json(&self, event: &Event) -> Result<String, DecodeError> {
        (self.payload_json)(event)
    }

    /// The key columns.
    pub fn key_columns(&self) -> impl Iterator<Item = &'static Column> + use<> {
        let columns = self.columns;
        columns.iter().filter(|column| column.key)
    }

    /// Where a walk along `index` goes on after `row`: the values beyond the first `equal` columns of its order.
    ///
    /// # Errors
    /// If the table declares no such index.
    pub fn cursor<'r>(&self, index: &str, equal: usize, row: &'r AnyRow) -> Result<Vec<crate::Cell<'r>>, StoreError> {
        let cells = row.cells();
        if self.multi_indexes.iter().any(|multi| multi.name == index) {
            return Ok(vec![crate::Cell::Text(row.key().into())]);
        }
        let order = crate::view::index_order(self, index)?;
        Ok(order[equal..].iter().map(|at| cells[*at].clone()).collect())
    }

    /// The place of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The row key that the values of the key columns, given in the order of the columns, stand for.
    #[must_use]
    pub fn key_of(&self, cells: &[crate::Cell<'_>]) -> String {
        let part = |cell: &crate::Cell<'_>| match cell {
            crate::Cell::Null => String::new(),
            crate::Cell::Integer(value) => value.to_string(),
            crate::Cell::Text(text) => text.to_string(),
            crate::Cell::Blob(bytes) => hex::encode(bytes),
        };
        match cells {
            [one] => part(one),
            [a, b, ..] => crate::pair(&part(a), &part(b)),
            [] => String::new(),
        }
    }

    /// The row with every position in it replaced by `place` of it; the same row if none changes.
    ///
    /// # Errors
    /// A sentence, if `place` gives a number that the row cannot hold.
    pub fn with_positions(&self, row: AnyRow, place: &dyn Fn(Position) -> Position) -> Result<AnyRow, String> {
        if self.positions.is_empty() {
            return Ok(row);
        }
        let mut cells: Vec<_> = row.cells().into_iter().map(crate::Cell::into_owned).collect();
        let mut moved = false;
        for at in self.positions.iter().filter_map(|name| self.column(name)) {
            if let crate::Cell::Integer(value) = &mut cells[at]
                && let Some(position) = Position::from_i64(*value)
            {
                let placed = place(position).to_i64();
                moved |= placed != *value;
                *value = placed;
            }
        }
        if moved { (self.load)(&crate::found::CellList(&cells)) } else { Ok(row) }
    }

    /// The values of the key columns that a row key stands for.
    ///
    /// # Errors
    /// A sentence, if it is no key of this table.
    pub fn key_cells(&self, key: &str) -> Result<Vec<crate::Cell<'static>>, String> {
        let columns: Vec<_> = self.key_columns().collect();
        let parts = match columns.len() {
            1 => vec![key.to_owned()],
            _ => {
                let (a, b) = crate::split_pair(key)?;
                vec![a, b]
            }
        };
        columns
            .iter()
            .zip(parts)
            .map(|(column, part)| match column.kind {
                crate::Kind::Integer => <i64 as crate::KeyPart>::from_key_part(&part).map(crate::Cell::Integer),
                crate::Kind::Hash => {
                    crate::Hash32::from_hex(&part).map(|hash| crate::Cell::Blob(hash.0.to_vec().into()))
                }
                _ => Ok(crate::Cell::Text(part.into())),
            })
            .collect()
    }
}

fn fold<T: Table>(row: Option<AnyRow>, event: &Event, recorded_at: Millis) -> Result<Option<AnyRow>, FoldError> {
    let decoded = T::Event::decode(&event.event_type, event.type_version, &event.payload).map_err(FoldError::Decode)?;
    let at = At { position: event.position, recorded_at, key: &event.key };
    evolve::<T>(row, decoded, &at).map_err(FoldError::Impossible)
}

/// [`Table::evolve`] on a row whose table is known at run time only. A row that had died by `at.recorded_at` counts as
/// none, so that a creation event replaces it.
///
/// # Errors
/// [`Impossible`].
pub fn evolve<T: Table>(row: Option<AnyRow>, event: T::Event, at: &At<'_>) -> Result<Option<AnyRow>, Impossible> {
    let row = row.filter(|row| row.is_live(at.recorded_at)).map(typed::<T>).transpose()?;
    let next = T::evolve(row.map(Arc::unwrap_or_clone), event, at)?;
    Ok(next.map(|row| Arc::new(row) as AnyRow))
}

/// A row of table `T`.
///
/// # Errors
/// [`Impossible`] if it is another table's row, which is a programming error.
pub fn typed<T: Table>(row: AnyRow) -> Result<Arc<T::Row>, Impossible> {
    (row as Arc<dyn std::any::Any + Send + Sync>)
        .downcast::<T::Row>()
        .map_err(|_| Impossible(format!("a row of another table among {}", T::NAME)))
}

fn payload_json<T: Table>(event: &Event) -> Result<String, DecodeError> {
    let decoded = T::Event::decode(&event.event_type, event.type_version, &event.payload)?;
    Ok(decoded.to_json())
}
