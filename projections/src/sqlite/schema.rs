use rusqlite::{Connection, OptionalExtension, params};
use tasklog_log::StoreError;

use super::Area;
use crate::{Index, Kind, PROJECTED, TableDef};

/// What built a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// The projection version of the program that did.
    pub version: u32,
    /// Counts rebuilds. Index names carry it, because SQLite cannot rename an index.
    pub generation: u32,
}

/// The statement that creates a table.
#[must_use]
pub fn table_statement(table: &TableDef, area: Area) -> String {
    let mut lines: Vec<String> = Vec::new();
    for column in table.columns {
        let kind = match column.kind {
            Kind::Integer | Kind::Bool => "INTEGER",
            Kind::Text | Kind::Json => "TEXT",
            Kind::Hash => "BLOB",
        };
        let null = if column.nullable { "" } else { " NOT NULL" };
        lines.push(format!("  {} {kind}{null}", column.name));
    }
    lines.push("  _rev INTEGER NOT NULL".into());
    let keys: Vec<_> = table.key_columns().map(|column| column.name).collect();
    lines.push(format!("  PRIMARY KEY ({})", keys.join(", ")));
    format!("CREATE TABLE {}{} (\n{}\n) STRICT, WITHOUT ROWID", area.prefix(), table.name, lines.join(",\n"))
}

/// The statements that create the helper tables of a table's multi-indexes.
pub(super) fn value_tables(table: &TableDef, area: Area) -> impl Iterator<Item = String> {
    table.multi_indexes.iter().map(move |multi| value_table(table, area, multi.name))
}

/// The name of the helper table of a multi-index.
pub(super) fn value_table(table: &TableDef, area: Area, index: &str) -> String {
    format!("{}_{}_{index}", area.prefix(), table.name)
}

pub(super) fn create_table(conn: &Connection, table: &TableDef, area: Area) -> Result<(), StoreError> {
    conn.execute_batch(&table_statement(table, area))?;
    for name in value_tables(table, area) {
        conn.execute_batch(&format!(
            "DROP TABLE IF EXISTS {name};
             CREATE TABLE {name} (
               _value TEXT NOT NULL,
               _key   TEXT NOT NULL,
               PRIMARY KEY (_value, _key)
             ) STRICT, WITHOUT ROWID;"
        ))?;
    }
    Ok(())
}

/// The statements that create a table's indexes, of the live table's `generation`; or those of the indexes that keep their
/// names.
#[must_use]
pub fn index_statements(table: &TableDef, area: Area, generation: u32) -> Vec<String> {
    let suffix = if generation == 0 { String::new() } else { format!("_g{generation}") };
    let ordered = table.indexes.iter().filter(|index| !index.keeps_name);
    ordered.map(|index| index_statement(table, index, area, &suffix)).collect()
}

/// The statements that create the indexes that keep their names: none of them can stand beside an older one.
pub(super) fn named_statements(table: &TableDef) -> impl Iterator<Item = String> {
    let named = table.indexes.iter().filter(|index| index.keeps_name);
    named.map(|index| index_statement(table, index, Area::Live, ""))
}

fn index_statement(table: &TableDef, index: &Index, area: Area, suffix: &str) -> String {
    format!(
        "CREATE {unique}INDEX {name}_{index_name}{suffix} ON {prefix}{name} ({columns})",
        unique = if index.unique { "UNIQUE " } else { "" },
        name = table.name,
        index_name = index.name,
        prefix = area.prefix(),
        columns = index.columns.join(", ")
    )
}

/// Creates the live tables of `schema_version` that are not there, with their indexes, and the tables beside them.
/// Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn create_tables(conn: &Connection, schema_version: u32) -> Result<Vec<&'static TableDef>, StoreError> {
    create_helpers(conn)?;
    let mut created = Vec::new();
    for table in PROJECTED.iter().filter(|table| table.schema_version == schema_version) {
        if table_exists(conn, table.name)? {
            continue;
        }
        create_table(conn, table, Area::Live)?;
        let generation = read_built(conn, table)?.map_or(0, |built| built.generation + 1);
        for statement in index_statements(table, Area::Live, generation).into_iter().chain(named_statements(table)) {
            conn.execute_batch(&statement)?;
        }
        write_built(conn, table, Built { version: table.projection_version, generation })?;
        created.push(*table);
    }
    Ok(created)
}

/// Creates the tables beside the live ones that are not there. Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn create_helpers(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS _projections (
           table_name TEXT    PRIMARY KEY,
           version    INTEGER NOT NULL,
           generation INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
    )?;
    create_tombstones(conn, Area::Live)
}

pub(super) fn create_tombstones(conn: &Connection, area: Area) -> Result<(), StoreError> {
    let prefix = area.prefix();
    conn.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {prefix}_tombstones (
           table_name TEXT    NOT NULL,
           key        TEXT    NOT NULL,
           rev        INTEGER NOT NULL,
           deleted_at INTEGER,
           PRIMARY KEY (table_name, key)
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS {prefix}_tombstones_by_age ON {prefix}_tombstones (table_name, deleted_at)
           WHERE deleted_at IS NOT NULL;"
    ))?;
    Ok(())
}

/// Whether the file has a table of this name.
///
/// # Errors
/// `unavailable`.
pub fn table_exists(conn: &Connection, name: &str) -> Result<bool, StoreError> {
    let mut select = conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
    Ok(select.exists([name])?)
}

/// What built a live table; none if it was never built here.
///
/// # Errors
/// `unavailable`.
pub fn read_built(conn: &Connection, table: &TableDef) -> Result<Option<Built>, StoreError> {
    let mut select = conn.prepare_cached("SELECT version, generation FROM _projections WHERE table_name = ?1")?;
    let built =
        select.query_row([table.name], |row| Ok(Built { version: row.get(0)?, generation: row.get(1)? })).optional()?;
    Ok(built)
}

/// Notes what built a live table. Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn write_built(conn: &Connection, table: &TableDef, built: Built) -> Result<(), StoreError> {
    let mut upsert = conn
        .prepare_cached("INSERT OR REPLACE INTO _projections (table_name, version, generation) VALUES (?1, ?2, ?3)")?;
    upsert.execute(params![table.name, built.version, built.generation])?;
    Ok(())
}
