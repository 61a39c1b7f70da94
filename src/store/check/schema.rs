use rusqlite::Connection;
use tasklog_log::StoreError;
use tasklog_projections::{
    PROJECTED, TableDef, facts,
    sqlite::{check_indexes, read_built, table_exists},
};
use tasklog_replay::{Finding, Report};

use crate::store::migrate;

/// What every store has beside its tables.
const INTERNAL: [&str; 6] = ["events", "_heads", "_answers", "_settings", "_projections", "_tombstones"];
/// Without these there is nothing to look at.
const ESSENTIAL: [&str; 2] = ["events", "_heads"];
/// Foreign things that are told.
const FOREIGN_MAX: u32 = 100;

/// What can be looked at.
pub(super) struct Found {
    /// The tables whose rows can be compared with a replay.
    pub(super) tables: Vec<&'static TableDef>,
    /// Whether there is a log.
    pub(super) log: bool,
    /// Whether deleted rows are remembered.
    pub(super) tombstones: bool,
}

impl Found {
    /// Whether a table's rows can be read.
    pub(super) fn has(&self, table: &TableDef) -> bool {
        self.tables.iter().any(|found| found.name == table.name)
    }
}

/// Compares the file's tables and indexes with what this program expects.
///
/// # Errors
/// `schema_ahead` for a store of a newer program; `corrupt` for a file that is no store; `unavailable`.
pub(super) fn check(conn: &Connection, report: &mut Report) -> Result<Found, StoreError> {
    let mut store = |what: &str, why: String| report.add(Finding::Store { what: what.to_owned(), why });
    let applied = migrate::applied(conn)?;
    migrate::check(applied)?;
    let (applied, known) = (applied.unwrap_or_default(), migrate::SCHEMA_VERSION);
    if applied < known {
        let why = format!(
            "it is at version {applied}, this program knows {known}: an upgrade is due, which the next command makes"
        );
        store("the schema", why);
    }
    for name in INTERNAL {
        if !table_exists(conn, name)? {
            store(&format!("table {name}"), "it is missing: restore a backup".into());
        }
    }
    let tombstones = table_exists(conn, "_tombstones")?;
    if tombstones && !has_index(conn, "_tombstones_by_age")? {
        store("table _tombstones", "index _tombstones_by_age is missing; `tasklog rebuild` makes it anew".into());
    }
    let log = ESSENTIAL.iter().try_fold(true, |all, name| Ok::<_, StoreError>(all && table_exists(conn, name)?))?;
    let mut tables = Vec::new();
    for table in PROJECTED.iter().filter(|table| table.schema_version <= applied) {
        let (what, rebuild) = (format!("table {}", table.name), rebuild(table));
        if !table_exists(conn, table.name)? {
            store(&what, format!("it is missing: the next command makes it anew from the log, and so does {rebuild}"));
            continue;
        }
        let built = if table_exists(conn, "_projections")? { read_built(conn, table)? } else { None };
        let (built, known) = (built.map_or(0, |built| built.version), table.projection_version);
        if built > known {
            let what = format!("projection {}", table.name);
            return Err(StoreError::SchemaAhead { what, found: built, known });
        }
        if built < known {
            store(
                &what,
                format!(
                    "projection {built} has built it, this program has {known}: an upgrade is due, which the next command makes, or {rebuild}; its rows were not compared"
                ),
            );
            continue;
        }
        tables.push(*table);
        check_indexes(conn, table, |why| store(&what, format!("{why}; {rebuild} makes it as it must be")))?;
    }
    let mut select =
        conn.prepare("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name LIMIT ?1")?;
    let triggers = select.query_map([FOREIGN_MAX], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for trigger in triggers {
        let (name, table) = trigger?;
        store(
            &format!("table {table}"),
            format!("trigger {name:?} does not belong there: drop it while no process has the file open"),
        );
    }
    Ok(Found { tables, log, tombstones })
}

fn rebuild(table: &TableDef) -> String {
    if table.name == facts::DEF.name { "`tasklog rebuild`".into() } else { format!("`tasklog rebuild {}`", table.name) }
}

fn has_index(conn: &Connection, name: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1")?.exists([name])?)
}
