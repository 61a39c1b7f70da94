//! The tables as SQLite tables under their own names, with exactly their columns and `_rev`.
//!
//! ```text
//! tasks, aliases, ...   STRICT, WITHOUT ROWID, one row each, `_rev` = position of the row's last event
//! _tombstones           the revs of deleted rows
//! _projections          which projection version built each table
//! _heads 'tables'       the checkpoint (table made by the log crate, so that both heads share a page)
//! _shadow_<table>       a copy being filled by a rebuild, until it is swapped in: see shadow.rs
//! ```
//! The connection belongs to the caller; an open transaction is joined.

mod audit;
mod schema;
mod shadow;
mod sql;

pub use audit::{Values, check_indexes, check_values};
pub use schema::{
    Built, create_helpers, create_tables, index_statements, read_built, table_exists, table_statement, write_built,
};
pub use shadow::{
    Begun, Wanted, begin_loading, begun_shadow, create_shadow, drop_shadow, end_loading, index_shadow, remove_old,
    swap_shadow,
};
use sql::Texts;
pub use sql::scan_sql;

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, ToSql, params, params_from_iter, types::ToSqlOutput, types::ValueRef};
use tasklog_log::{
    Checkpoint, Millis, Position, StoreError,
    sqlite::{Head, connection, read_head, write_head},
};

use crate::{AnyRow, Cell, Cells, Held, RowChange, Scan, TableDef, Tombstones, Unreadable, View};

/// Which copy of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The tables that queries read.
    Live,
    /// The copies that a rebuild fills.
    Shadow,
}

impl Area {
    /// What stands before a table's name.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Shadow => "_shadow_",
        }
    }
}

/// The view on a connection that the caller owns.
pub struct SqliteView<'c> {
    conn: &'c Connection,
    area: Area,
    checkpoint: Option<Checkpoint>,
}

impl<'c> SqliteView<'c> {
    /// The live tables.
    #[must_use]
    pub const fn live(conn: &'c Connection) -> Self {
        Self { conn, area: Area::Live, checkpoint: None }
    }

    /// The shadow tables, with their checkpoint in the file: a rebuild that is interrupted goes on from there.
    #[must_use]
    pub const fn shadow(conn: &'c Connection) -> Self {
        Self { conn, area: Area::Shadow, checkpoint: None }
    }

    /// Shadow tables that go with this value, which alone keeps their checkpoint.
    #[must_use]
    pub const fn scratch(conn: &'c Connection, at: Checkpoint) -> Self {
        Self { conn, area: Area::Shadow, checkpoint: Some(at) }
    }

    const fn head(&self) -> Head {
        match self.area {
            Area::Live => Head::Tables,
            Area::Shadow => Head::Shadow,
        }
    }

    /// A page of the deleted rows that are remembered, with their revs, in the order of their keys.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` for a rev that is none.
    pub fn tombstones_page(
        &self,
        table: &TableDef,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Position)>, StoreError> {
        let mut select = self.conn.prepare_cached(&format!(
            "SELECT key, rev FROM {}_tombstones WHERE table_name = ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key LIMIT ?3",
            self.area.prefix()
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = select.query(params![table.name, after, limit])?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, rev): (String, i64) = (row.get(0)?, row.get(1)?);
            let rev = Position::from_i64(rev)
                .ok_or_else(|| StoreError::corrupt_store(format!("tombstone of {}/{key}: rev {rev}", table.name)))?;
            page.push((key, rev));
        }
        Ok(page)
    }

    /// How many deletions of rows of a table are remembered.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn count_tombstones(&self, table: &TableDef) -> Result<u64, StoreError> {
        let text = format!("SELECT count(*) FROM {}_tombstones WHERE table_name = ?1", self.area.prefix());
        let count: i64 = self.conn.prepare_cached(&text)?.query_row([table.name], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn put(&self, change: &RowChange) -> Result<(), StoreError> {
        let RowChange { table, key, before, buried, after, rev, at } = change;
        match (before, after) {
            (_, None) => {
                let mut delete = self.conn.prepare_cached(&Texts::of(table, self.area).delete)?;
                delete.execute(params_from_iter(key_cells(table, key)?.iter().map(Bindable)))?;
                if *rev == Position::ZERO {
                    // Never seen: a creation that was written for a scan and then refused.
                    self.dig(table, key)?;
                } else {
                    self.bury(table, key, *rev, *at)?;
                }
            }
            (Some(before), Some(after)) => self.update(table, before, after, *rev)?,
            (None, Some(after)) => {
                let cells = after.cells();
                let rev = Cell::Integer(rev.to_i64());
                let mut upsert = self.conn.prepare_cached(&Texts::of(table, self.area).upsert)?;
                upsert.execute(params_from_iter(cells.iter().chain([&rev]).map(Bindable)))?;
            }
        }
        self.put_values(table, key, before.as_ref(), after.as_ref())?;
        if *buried && after.is_some() {
            self.dig(table, key)?;
        }
        Ok(())
    }

    /// Writes only the columns that changed: an index whose columns stay is left alone.
    fn update(&self, table: &TableDef, before: &AnyRow, after: &AnyRow, rev: Position) -> Result<(), StoreError> {
        let changed = before.differs(&**after);
        let rev = Cell::Integer(rev.to_i64());
        let places = || (0..table.columns.len()).filter(|at| changed >> at & 1 == 1);
        let keys = (0..table.columns.len()).filter(|at| table.columns[*at].key);
        let cells: Vec<_> =
            places().map(|at| after.cell(at)).chain([rev]).chain(keys.map(|at| after.cell(at))).collect();
        let text = Texts::of(table, self.area).update(table, self.area, changed);
        let mut update = self.conn.prepare_cached(&text)?;
        let values = cells.iter();
        let rows = update.execute(params_from_iter(values.map(Bindable)))?;
        if rows == 1 {
            return Ok(());
        }
        Err(StoreError::corrupt_store(format!("{}/{}: the row to change is gone", table.name, after.key())))
    }

    /// Keeps the helper tables of the multi-indexes in step.
    fn put_values(
        &self,
        table: &TableDef,
        key: &str,
        before: Option<&AnyRow>,
        after: Option<&AnyRow>,
    ) -> Result<(), StoreError> {
        for multi in table.multi_indexes {
            let values = |row: Option<&AnyRow>| row.map(|row| (multi.values)(&**row)).unwrap_or_default();
            let (old, new) = (values(before), values(after));
            let name = schema::value_table(table, self.area, multi.name);
            for value in old.iter().filter(|value| !new.contains(value)) {
                let mut delete =
                    self.conn.prepare_cached(&format!("DELETE FROM {name} WHERE _value = ?1 AND _key = ?2"))?;
                delete.execute(params![value, key])?;
            }
            for value in new.iter().filter(|value| !old.contains(value)) {
                let mut insert = self
                    .conn
                    .prepare_cached(&format!("INSERT OR IGNORE INTO {name} (_value, _key) VALUES (?1, ?2)"))?;
                insert.execute(params![value, key])?;
            }
        }
        Ok(())
    }

    fn dig(&self, table: &TableDef, key: &str) -> Result<(), StoreError> {
        let mut dig = self.conn.prepare_cached(match self.area {
            Area::Live => "DELETE FROM _tombstones WHERE table_name = ?1 AND key = ?2",
            Area::Shadow => "DELETE FROM _shadow__tombstones WHERE table_name = ?1 AND key = ?2",
        })?;
        dig.execute(params![table.name, key])?;
        Ok(())
    }

    fn bury(&self, table: &TableDef, key: &str, rev: Position, at: Millis) -> Result<(), StoreError> {
        let forgotten_from = (table.tombstones == Tombstones::Short).then_some(at);
        let mut bury = self.conn.prepare_cached(&format!(
            "INSERT OR REPLACE INTO {}_tombstones (table_name, key, rev, deleted_at) VALUES (?1, ?2, ?3, ?4)",
            self.area.prefix()
        ))?;
        bury.execute(params![table.name, key, rev.to_i64(), forgotten_from])?;
        Ok(())
    }

    fn load(&self, table: &TableDef, row: &rusqlite::Row<'_>) -> Result<Held, StoreError> {
        load(table, row).map_err(|why| StoreError::corrupt_store(format!("a row of {}: {why}", table.name)))
    }
}

fn load(table: &TableDef, row: &rusqlite::Row<'_>) -> Result<Held, String> {
    let stored = StoredRow(row);
    let loaded = (table.load)(&stored)?;
    let rev = stored.cell(table.columns.len())?;
    let Cell::Integer(rev) = rev else { return Err(format!("column _rev holds {rev:?}")) };
    let rev = Position::from_i64(rev).ok_or_else(|| format!("column _rev holds {rev}"))?;
    Ok(Held { row: loaded, rev })
}

fn key_cells(table: &TableDef, key: &str) -> Result<Vec<Cell<'static>>, StoreError> {
    table.key_cells(key).map_err(|why| StoreError::corrupt_store(format!("{}: {why}", table.name)))
}

struct StoredRow<'r, 's>(&'r rusqlite::Row<'s>);

impl Cells for StoredRow<'_, '_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        match self.0.get_ref(index).map_err(|error| error.to_string())? {
            ValueRef::Null => Ok(Cell::Null),
            ValueRef::Integer(value) => Ok(Cell::Integer(value)),
            ValueRef::Text(text) => {
                std::str::from_utf8(text).map(|text| Cell::Text(Cow::Borrowed(text))).map_err(|error| error.to_string())
            }
            ValueRef::Blob(bytes) => Ok(Cell::Blob(Cow::Borrowed(bytes))),
            ValueRef::Real(value) => Err(format!("a real number, {value}, where none is expected")),
        }
    }
}

struct Bindable<'a>(&'a Cell<'a>);

impl ToSql for Bindable<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Integer(value) => ValueRef::Integer(*value),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl View for SqliteView<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        // A text that is no key of the table is the key of no row.
        let Ok(cells) = table.key_cells(key) else { return Ok(None) };
        let mut select = self.conn.prepare_cached(&Texts::of(table, self.area).get)?;
        let mut rows = select.query(params_from_iter(cells.iter().map(Bindable)))?;
        rows.next()?.map(|row| self.load(table, row)).transpose()
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        let mut select = self.conn.prepare_cached(&format!(
            "SELECT rev FROM {}_tombstones WHERE table_name = ?1 AND key = ?2",
            self.area.prefix()
        ))?;
        let rev: Option<i64> = select.query_row(params![table.name, key], |row| row.get(0)).optional()?;
        rev.map(|rev| {
            Position::from_i64(rev)
                .ok_or_else(|| StoreError::corrupt_store(format!("tombstone of {}/{key}: rev {rev}", table.name)))
        })
        .transpose()
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        let mut select = self.conn.prepare_cached(&format!(
            "SELECT 1 FROM {}_tombstones WHERE table_name = ?1 LIMIT 1",
            self.area.prefix()
        ))?;
        Ok(select.exists([table.name])?)
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        if scan.limit == 0 {
            return Ok(Vec::new());
        }
        let (text, values) = sql::scan(table, self.area, scan)?;
        let mut select = self.conn.prepare_cached(&text)?;
        let mut rows = select.query(params_from_iter(values.iter().map(Bindable)))?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            page.push(self.load(table, row)?);
        }
        Ok(page)
    }

    fn scan_each(
        &self,
        table: &'static TableDef,
        scan: &Scan<'_>,
    ) -> Result<Vec<Result<Held, Unreadable>>, StoreError> {
        let (text, values) = sql::scan(table, self.area, scan)?;
        let mut select = self.conn.prepare_cached(&text)?;
        let mut rows = select.query(params_from_iter(values.iter().map(Bindable)))?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            page.push(load(table, row).map_err(|why| audit::unreadable(table, row, why)));
        }
        Ok(page)
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        let (text, values) = sql::count(table, self.area, scan)?;
        let mut select = self.conn.prepare_cached(&text)?;
        let count: i64 = select.query_row(params_from_iter(values.iter().map(Bindable)), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        if let Some(checkpoint) = self.checkpoint {
            return Ok(checkpoint);
        }
        let head = read_head(self.conn, self.head())?;
        head.ok_or_else(|| StoreError::corrupt_store(format!("table _heads has no row for {:?}", self.head())))
    }

    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        changes.iter().try_for_each(|change| self.put(change))
    }

    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        let transaction = self.conn.is_autocommit().then(|| connection::begin(self.conn)).transpose()?;
        let at = self.checkpoint()?;
        if at != *from {
            return Err(StoreError::Diverged { checkpoint: Box::new(*from), log: Box::new(at) });
        }
        self.write(changes)?;
        match &mut self.checkpoint {
            Some(checkpoint) => *checkpoint = *to,
            None => write_head(self.conn, self.head(), to)?,
        }
        if let Some(transaction) = transaction {
            transaction.commit()?;
        }
        Ok(())
    }

    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if table.tombstones == Tombstones::Short {
            let mut forget = self.conn.prepare_cached(&format!(
                "DELETE FROM {0}_tombstones WHERE (table_name, key) IN (SELECT table_name, key FROM {0}_tombstones \
                 WHERE table_name = ?1 AND deleted_at < ?2 ORDER BY deleted_at LIMIT ?3)",
                self.area.prefix()
            ))?;
            forget.execute(params![table.name, tombstones_before, limit])?;
        }
        let Some((text, dies_at)) = sql::dead(table, self.area) else { return Ok(Vec::new()) };
        let mut removed = Vec::new();
        let mut select = self.conn.prepare_cached(&text)?;
        let mut rows = select.query(params![now, limit])?;
        while let Some(row) = rows.next()? {
            removed.push(self.load(table, row)?.row);
        }
        drop(rows);
        debug_assert!(removed.iter().all(|row| !row.is_live(now)), "{} names {dies_at}", table.name);
        let mut delete = self.conn.prepare_cached(&Texts::of(table, self.area).delete)?;
        for row in &removed {
            let keys = key_cells(table, &row.key())?;
            delete.execute(params_from_iter(keys.iter().map(Bindable)))?;
        }
        Ok(removed)
    }
}
