use std::{borrow::Cow, path::Path};

use rusqlite::{Connection, ToSql, params, params_from_iter, types::ToSqlOutput, types::ValueRef};
use tasklog_log::{
    Commit, Position, StoreError,
    sqlite::{SqliteLog, connection},
};
use tasklog_projections::{
    AnyRow, Cell,
    sqlite::{Area, index_statements, table_statement},
    tables::tasks,
};

use super::workload::Written;
use crate::Error;

/// What a program without tasklog would do with rusqlite: the same event row inserted and the same table row upserted by
/// prepared statements, with the same pragmas, tables and indexes.
pub(super) struct Raw {
    pub(super) conn: Connection,
    upsert: String,
}

const INSERT: &str = "INSERT INTO events \
     (position, commit_id, recorded_at, actor, reason, request_id, table_name, key, type, type_version, prev, payload, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

impl Raw {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let conn = connection::open(path, connection::Access::Write)?;
        SqliteLog::create(&conn)?;
        let run = |text: &str| conn.execute_batch(text).map_err(StoreError::from);
        run(&table_statement(&tasks::DEF, Area::Live))?;
        index_statements(&tasks::DEF, Area::Live, 0).iter().try_for_each(|text| run(text))?;
        Ok(Self { conn, upsert: upsert() })
    }

    /// Writes commands in transactions of `size`.
    pub(super) fn write(&self, written: &[Written], size: usize) -> Result<(), Error> {
        for chunk in written.chunks(size) {
            self.write_one(chunk).map_err(StoreError::from)?;
        }
        Ok(())
    }

    /// Writes commands as one transaction.
    pub(super) fn write_one(&self, written: &[Written]) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        {
            let mut insert = self.conn.prepare_cached(INSERT)?;
            let mut upsert = self.conn.prepare_cached(&self.upsert)?;
            for Written { commit, row } in written {
                insert_events(&mut insert, commit)?;
                let cells = row.cells();
                let rev = Cell::Integer(commit.last().to_i64());
                upsert.execute(params_from_iter(cells.iter().chain([&rev]).map(Bound)))?;
            }
        }
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Bulk-inserts rows as one transaction.
    pub(super) fn insert_rows<'r>(&self, rows: impl Iterator<Item = (&'r AnyRow, Position)>) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        {
            let mut upsert = self.conn.prepare_cached(&self.upsert)?;
            for (row, rev) in rows {
                let cells = row.cells();
                let rev = Cell::Integer(rev.to_i64());
                upsert.execute(params_from_iter(cells.iter().chain([&rev]).map(Bound)))?;
            }
        }
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

fn insert_events(insert: &mut rusqlite::Statement<'_>, commit: &Commit) -> rusqlite::Result<()> {
    for event in &commit.events {
        insert.execute(params![
            event.position.to_i64(),
            commit.meta.id.0.as_bytes(),
            commit.recorded_at,
            &*commit.meta.actor,
            commit.meta.reason.as_deref(),
            commit.meta.request_id.as_deref(),
            &*event.table,
            &*event.key,
            &*event.event_type,
            event.type_version,
            event.prev.map(Position::to_i64),
            event.payload,
            event.checksum,
        ])?;
    }
    Ok(())
}

fn upsert() -> String {
    let names: Vec<_> = tasks::DEF.columns.iter().map(|column| column.name).chain(["_rev"]).collect();
    let places: Vec<_> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let sets: Vec<_> = names[1..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO tasks ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
        names.join(", "),
        places.join(", "),
        names[0],
        sets.join(", ")
    )
}

struct Bound<'a>(&'a Cell<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Integer(value) => ValueRef::Integer(*value),
            Cell::Text(text) => ValueRef::Text(Cow::as_ref(text).as_bytes()),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
