//! Copies of tables that a rebuild fills beside the live ones, and puts in their place in one step.
//!
//! ```text
//! _rebuilding, _heads 'shadow'    of which tables, by which projections, and how far they are
//! _shadow_<table>                 being filled
//! _old_<table>                    what was replaced, until it is removed
//! ```
//! Nothing but the swap makes a shadow a table, whatever is left behind.

use rusqlite::{Connection, ErrorCode, params};
use tasklog_log::{
    Checkpoint, Position, StoreError,
    sqlite::{Head, connection, read_head, remove_head, write_head},
};

use super::{
    Area, Built, read_built,
    schema::{create_table, create_tombstones, index_statements, named_statements, value_tables},
    table_exists, write_built,
};
use crate::{PROJECTED, TableDef};

/// What stands before the name of a table that was replaced.
const OLD: &str = "_old_";

/// What is being rebuilt: a shadow serves only the rebuild that began it, or one that wants exactly the same.
#[derive(Clone, Debug)]
pub struct Wanted<'t> {
    /// The tables.
    pub tables: &'t [&'static TableDef],
    /// The events that the fold passes over.
    pub passing_over: &'t [Position],
}

impl Wanted<'_> {
    fn rows(&self) -> Vec<(String, u32, String)> {
        let passing_over: Vec<_> = self.passing_over.iter().map(ToString::to_string).collect();
        let passing_over = passing_over.join(" ");
        let row = |table: &&TableDef| (table.name.to_owned(), table.projection_version, passing_over.clone());
        let mut rows: Vec<_> = self.tables.iter().map(row).collect();
        rows.sort_unstable();
        rows
    }
}

/// Creates empty shadows at the checkpoint `at`, throwing away what an interrupted rebuild left. `indexed`: with their
/// indexes, which are then kept up to date row by row; otherwise [`index_shadow`] builds them in the end.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn create_shadow(conn: &Connection, wanted: &Wanted<'_>, at: &Checkpoint, indexed: bool) -> Result<(), StoreError> {
    let transaction = conn.is_autocommit().then(|| connection::begin(conn)).transpose()?;
    drop_shadow(conn)?;
    conn.execute_batch(
        "CREATE TABLE _rebuilding (
           table_name   TEXT    PRIMARY KEY,
           version      INTEGER NOT NULL,
           passing_over TEXT    NOT NULL,
           snapshot     INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
    )?;
    for (name, version, passing_over) in wanted.rows() {
        conn.execute("INSERT INTO _rebuilding VALUES (?1, ?2, ?3, 0)", params![name, version, passing_over])?;
    }
    create_tombstones(conn, Area::Shadow)?;
    for table in wanted.tables {
        create_table(conn, table, Area::Shadow)?;
    }
    if indexed {
        index_shadow(conn, wanted.tables)?;
    }
    write_head(conn, Head::Shadow, at)?;
    if let Some(transaction) = transaction {
        transaction.commit()?;
    }
    Ok(())
}

/// A rebuild that was begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// How far it has come.
    pub at: Checkpoint,
    /// The position of the snapshot that it began with; 0 if it began with nothing.
    pub snapshot: Position,
}

/// Gives up the checkpoint of empty shadows while rows of a snapshot are written to them: a half is not to be gone on with.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn begin_loading(conn: &Connection) -> Result<(), StoreError> {
    remove_head(conn, Head::Shadow)
}

/// Notes that all rows of the snapshot at `at` are there.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn end_loading(conn: &Connection, at: &Checkpoint) -> Result<(), StoreError> {
    let transaction = connection::begin(conn)?;
    conn.execute("UPDATE _rebuilding SET snapshot = ?1", [at.position.to_i64()])?;
    write_head(conn, Head::Shadow, at)?;
    Ok(transaction.commit()?)
}

/// An interrupted rebuild of exactly this; none if there is none.
///
/// # Errors
/// `unavailable`, `corrupt`.
pub fn begun_shadow(conn: &Connection, wanted: &Wanted<'_>) -> Result<Option<Begun>, StoreError> {
    if !table_exists(conn, "_rebuilding")? {
        return Ok(None);
    }
    let mut select = conn.prepare("SELECT table_name, version, passing_over FROM _rebuilding ORDER BY table_name")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows = rows.collect::<Result<Vec<(String, u32, String)>, _>>()?;
    if rows != wanted.rows() {
        return Ok(None);
    }
    for table in wanted.tables {
        if !table_exists(conn, &format!("{}{}", Area::Shadow.prefix(), table.name))? {
            return Ok(None);
        }
    }
    let snapshot: i64 = conn.query_row("SELECT max(snapshot) FROM _rebuilding", [], |row| row.get(0))?;
    let snapshot = Position::from_i64(snapshot).unwrap_or_default();
    Ok(read_head(conn, Head::Shadow)?.map(|at| Begun { at, snapshot }))
}

/// Throws away all shadows, and what swaps have left.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn drop_shadow(conn: &Connection) -> Result<(), StoreError> {
    for table in PROJECTED {
        conn.execute_batch(&format!("DROP TABLE IF EXISTS {}{}", Area::Shadow.prefix(), table.name))?;
        conn.execute_batch(&format!("DROP TABLE IF EXISTS {OLD}{}", table.name))?;
        for name in value_tables(table, Area::Shadow) {
            conn.execute_batch(&format!("DROP TABLE IF EXISTS {name}"))?;
        }
    }
    conn.execute_batch(&format!(
        "DROP TABLE IF EXISTS {}_tombstones; DROP TABLE IF EXISTS _rebuilding;",
        Area::Shadow.prefix()
    ))?;
    remove_head(conn, Head::Shadow)
}

/// Builds the indexes of filled shadows: sorted, which costs less than keeping them up to date row by row. An index that
/// is there already stays; one that keeps its name is left for the swap.
///
/// # Errors
/// `unavailable` or `read_only`; a unique index that the rows violate is `corrupt`.
pub fn index_shadow(conn: &Connection, tables: &[&'static TableDef]) -> Result<(), StoreError> {
    for table in tables {
        let generation = read_built(conn, table)?.map_or(0, |built| built.generation) + 1;
        for statement in index_statements(table, Area::Shadow, generation) {
            let statement = statement.replacen("INDEX ", "INDEX IF NOT EXISTS ", 1);
            conn.execute_batch(&statement)?;
        }
    }
    Ok(())
}

/// Puts filled and indexed shadows in the place of the live tables, which become old ones: [`remove_old`] removes them.
/// Must run inside a transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn swap_shadow(conn: &Connection, tables: &[&'static TableDef]) -> Result<(), StoreError> {
    let shadow = Area::Shadow.prefix();
    for table in tables {
        let built = read_built(conn, table)?;
        let name = table.name;
        conn.execute_batch(&format!("DROP TABLE IF EXISTS {OLD}{name}"))?;
        for index in table.indexes.iter().filter(|index| index.keeps_name) {
            conn.execute_batch(&format!("DROP INDEX IF EXISTS {name}_{}", index.name))?;
        }
        if table_exists(conn, name)? {
            conn.execute_batch(&format!("ALTER TABLE {name} RENAME TO {OLD}{name}"))?;
        }
        conn.execute_batch(&format!("ALTER TABLE {shadow}{name} RENAME TO {name}"))?;
        for (live, filled) in value_tables(table, Area::Live).zip(value_tables(table, Area::Shadow)) {
            conn.execute_batch(&format!("DROP TABLE IF EXISTS {live}; ALTER TABLE {filled} RENAME TO {live};"))?;
        }
        for statement in named_statements(table) {
            conn.execute_batch(&statement)?;
        }
        conn.execute("DELETE FROM _tombstones WHERE table_name = ?1", [name])?;
        conn.execute(
            &format!("INSERT INTO _tombstones SELECT * FROM {shadow}_tombstones WHERE table_name = ?1"),
            [name],
        )?;
        let generation = built.map_or(0, |built| built.generation) + 1;
        write_built(conn, table, Built { version: table.projection_version, generation })?;
    }
    conn.execute_batch(&format!("DROP TABLE {shadow}_tombstones; DROP TABLE _rebuilding;"))?;
    remove_head(conn, Head::Shadow)
}

/// Removes about `limit` rows of tables that were replaced, or a table that has none left; answers whether all are gone.
/// Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn remove_old(conn: &Connection, limit: usize) -> Result<bool, StoreError> {
    for table in PROJECTED {
        let old = format!("{OLD}{}", table.name);
        if !table_exists(conn, &old)? {
            continue;
        }
        let keys: Vec<_> = table.key_columns().map(|column| column.name).collect();
        let keys = keys.join(", ");
        // The columns are those of an older projection; the key is what identifies a row in all of them.
        let removed = conn.execute(
            &format!("DELETE FROM {old} WHERE ({keys}) IN (SELECT {keys} FROM {old} ORDER BY {keys} LIMIT ?1)"),
            [i64::try_from(limit).unwrap_or(i64::MAX)],
        );
        let removed = match removed {
            // A damaged index may be what it was replaced for: then it goes as a whole.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => 0,
            removed => removed?,
        };
        if removed < limit {
            conn.execute_batch(&format!("DROP TABLE {old}"))?;
        }
        return Ok(false);
    }
    Ok(true)
}
