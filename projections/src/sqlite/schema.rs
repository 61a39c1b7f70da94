use rusqlite::{Connection, OptionalExtension, params};
use tasklog_log::StoreError;

use super::Area;
use crate::{Kind, PROJECTED, TableDef};

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
fn value_tables(table: &TableDef, area: Area) -> impl Iterator<Item = String> {
    table.multi_indexes.iter().map(move |multi| value_table(table, area, multi.name))
}

/// The name of the helper table of a multi-index.
pub(super) fn value_table(table: &TableDef, area: Area, index: &str) -> String {
    format!("{}_{}_{index}", area.prefix(), table.name)
}

fn create_table(conn: &Connection, table: &TableDef, area: Area) -> Result<(), StoreError> {
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

/// The statements that create a table's indexes, of the live table's `generation`.
#[must_use]
pub fn index_statements(table: &TableDef, area: Area, generation: u32) -> Vec<String> {
    let suffix = if generation == 0 { String::new() } else { format!("_g{generation}") };
    let ordered = table.indexes.iter().map(|index| {
        let unique = if index.unique { "UNIQUE " } else { "" };
        format!(
            "CREATE {unique}INDEX {name}_{index_name}{suffix} ON {prefix}{name} ({columns})",
            name = table.name,
            index_name = index.name,
            prefix = area.prefix(),
            columns = index.columns.join(", ")
        )
    });
    ordered.collect()
}

/// Creates the live tables of `schema_version` that are not there, with their indexes, and the tables beside them.
/// Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn create_tables(conn: &Connection, schema_version: u32) -> Result<Vec<&'static TableDef>, StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS _projections (
           table_name TEXT    PRIMARY KEY,
           version    INTEGER NOT NULL,
           generation INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
    )?;
    create_tombstones(conn, Area::Live)?;
    let mut created = Vec::new();
    for table in PROJECTED.iter().filter(|table| table.schema_version == schema_version) {
        if table_exists(conn, table.name)? {
            continue;
        }
        create_table(conn, table, Area::Live)?;
        let generation = read_built(conn, table)?.map_or(0, |built| built.generation + 1);
        let named = if table.dies_at.is_some() { 0 } else { generation };
        for statement in index_statements(table, Area::Live, named) {
            conn.execute_batch(&statement)?;
        }
        write_built(conn, table, Built { version: table.projection_version, generation })?;
        created.push(*table);
    }
    Ok(created)
}

fn create_tombstones(conn: &Connection, area: Area) -> Result<(), StoreError> {
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

/// Creates empty shadows of `tables`, throwing away what an interrupted rebuild left.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn create_shadow(conn: &Connection, tables: &[&'static TableDef]) -> Result<(), StoreError> {
    drop_shadow(conn)?;
    create_tombstones(conn, Area::Shadow)?;
    for table in tables {
        create_table(conn, table, Area::Shadow)?;
    }
    Ok(())
}

/// Throws away all shadows.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn drop_shadow(conn: &Connection) -> Result<(), StoreError> {
    for table in PROJECTED {
        conn.execute_batch(&format!("DROP TABLE IF EXISTS {}{}", Area::Shadow.prefix(), table.name))?;
        for name in value_tables(table, Area::Shadow) {
            conn.execute_batch(&format!("DROP TABLE IF EXISTS {name}"))?;
        }
    }
    conn.execute_batch(&format!("DROP TABLE IF EXISTS {}_tombstones", Area::Shadow.prefix()))?;
    Ok(())
}

/// Builds the indexes of filled shadows: sorted, which costs less than keeping them up to date row by row. The tables
/// whose rows die by time are left for the swap: they are small, and their indexes keep their names.
///
/// # Errors
/// `unavailable` or `read_only`; a unique index that the rows violate is `corrupt`.
pub fn index_shadow(conn: &Connection, tables: &[&'static TableDef]) -> Result<(), StoreError> {
    for table in tables.iter().filter(|table| table.dies_at.is_none()) {
        let generation = read_built(conn, table)?.map_or(0, |built| built.generation) + 1;
        for statement in index_statements(table, Area::Shadow, generation) {
            conn.execute_batch(&statement)?;
        }
    }
    Ok(())
}

/// Puts filled and indexed shadows in the place of the live tables. Must run inside a transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn swap_shadow(conn: &Connection, tables: &[&'static TableDef]) -> Result<(), StoreError> {
    for table in tables {
        let built = read_built(conn, table)?;
        let name = table.name;
        let shadow = Area::Shadow.prefix();
        conn.execute_batch(&format!("DROP TABLE IF EXISTS {name}; ALTER TABLE {shadow}{name} RENAME TO {name};"))?;
        for (live, filled) in value_tables(table, Area::Live).zip(value_tables(table, Area::Shadow)) {
            conn.execute_batch(&format!("DROP TABLE IF EXISTS {live}; ALTER TABLE {filled} RENAME TO {live};"))?;
        }
        if table.dies_at.is_some() {
            for statement in index_statements(table, Area::Live, 0) {
                conn.execute_batch(&statement)?;
            }
        }
        conn.execute("DELETE FROM _tombstones WHERE table_name = ?1", [name])?;
        conn.execute(
            &format!("INSERT INTO _tombstones SELECT * FROM {shadow}_tombstones WHERE table_name = ?1"),
            [name],
        )?;
        let generation = built.map_or(0, |built| built.generation) + 1;
        write_built(conn, table, Built { version: table.projection_version, generation })?;
    }
    conn.execute_batch(&format!("DROP TABLE IF EXISTS {}_tombstones", Area::Shadow.prefix()))?;
    Ok(())
}
