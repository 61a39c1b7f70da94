//! The 14 tables as folds of the log.
//!
//! Each file under [`tables`] holds one table: its row, its columns and indexes, its events, and **evolve**, the pure
//! function `(row or none, event) -> row or none` that live projection, rebuild, time travel, followers and
//! verification share. A table knows no database: stores learn its shape from [`TableDef`].
//!
//! Architecture invariants: no command is known here; nothing under [`tables`] names a backend, reads a clock, draws a
//! random number or reads configuration.

mod cell;
mod event;
pub mod facts;
mod found;
mod json;
mod key;
pub mod memory;
pub mod overlay;
pub mod redis;
mod row;
pub mod sqlite;

mod table;
pub mod tables;
mod view;

pub use cell::{Cell, Cells, Column, Field, Hash32, Kind};
#[doc(hidden)]
pub use event::to_json;
pub use event::{DecodeError, EventType, TableEvent};
pub use found::{Found, cell_json, serialize_row};
pub use json::{JSON_BYTES_MAX, JSON_DEPTH_MAX, Json, JsonList, JsonMap, canonical};
pub use key::{KEY_BYTES_MAX, check_key, pair, split_pair};
#[doc(hidden)]
pub use row::column_name;
pub use row::{AnyRow, KeyPart, Row, RowObject};
pub use table::{At, Impossible, Index, MultiIndex, Table, TableDef, Tombstones, evolve, typed};
pub use tables::{PROJECTED, TABLES, table};
pub use view::{Held, PAGE_ROWS_MAX, RowChange, Scan, Unreadable, View};
