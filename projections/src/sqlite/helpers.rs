//! Whether what leads to the rows of a table agrees with them: tombstones, the helper tables of multi-indexes, and indexes.

use rusqlite::params;
use tasklog_log::{Position, StoreError};

use super::{Area, SqliteView, schema::value_table};
use crate::{PAGE_ROWS_MAX, Scan, TableDef, Tombstones, View};

/// What is wrong with something that leads to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperFlaw {
    /// The row key; what was found there, if it is none.
    pub key: String,
    /// The table or index of the file.
    pub helper: String,
    /// How.
    pub kind: HelperFlawKind,
}

/// How something that leads to a row is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperFlawKind {
    /// The row's entry is not there.
    Missing,
    /// There is an entry that no row gives.
    Stray,
    /// The row's entry holds something else.
    Wrong,
    /// SQLite's own words about an index.
    Damaged(String),
}

impl SqliteView<'_> {
    /// Looks at everything that leads to rows of one live table. `fresh` is a replay of the same log; if it did not begin with
    /// the first event (`whole` is false), it does not know every short tombstone.
    ///
    /// # Errors
    /// The views'.
    pub fn check_helpers(
        &self,
        table: &'static TableDef,
        fresh: &SqliteView<'_>,
        whole: bool,
        meet: &mut dyn FnMut(HelperFlaw),
    ) -> Result<(), StoreError> {
        self.check_tombstones(table, fresh, whole, meet)?;
        for multi in table.multi_indexes {
            self.check_values(table, multi.name, multi.values, meet)?;
        }
        // Of one table and its indexes only: each row is looked up in each of them.
        let mut check = self.conn.prepare(&format!("PRAGMA integrity_check('{}')", table.name))?;
        let mut said = check.query([])?;
        while let Some(row) = said.next()? {
            let why: String = row.get(0)?;
            if why != "ok" {
                let kind = HelperFlawKind::Damaged(why);
                meet(HelperFlaw { key: String::new(), helper: table.name.into(), kind });
            }
        }
        Ok(())
    }

    fn check_tombstones(
        &self,
        table: &'static TableDef,
        fresh: &SqliteView<'_>,
        whole: bool,
        meet: &mut dyn FnMut(HelperFlaw),
    ) -> Result<(), StoreError> {
        let short = table.tombstones == Tombstones::Short;
        let mut flaw = |key, kind| meet(HelperFlaw { key, helper: "_tombstones".into(), kind });
        each_tombstone(self, table, |key, rev| {
            match fresh.tombstone(table, &key)? {
                Some(known) if known == rev => {}
                Some(_) => flaw(key, HelperFlawKind::Wrong),
                None if short && !whole && fresh.get(table, &key)?.is_none() => {}
                None => flaw(key, HelperFlawKind::Stray),
            }
            Ok(())
        })?;
        if short {
            return Ok(());
        }
        each_tombstone(fresh, table, |key, _| {
            // Where there is a row instead, that one is too many.
            if self.tombstone(table, &key)?.is_none() && self.get(table, &key)?.is_none() {
                flaw(key, HelperFlawKind::Missing);
            }
            Ok(())
        })
    }

    fn check_values(
        &self,
        table: &'static TableDef,
        index: &str,
        values: fn(&dyn crate::RowObject) -> Vec<String>,
        meet: &mut dyn FnMut(HelperFlaw),
    ) -> Result<(), StoreError> {
        let name = value_table(table, Area::Live, index);
        let mut flaw = |key, kind| meet(HelperFlaw { key, helper: name.clone(), kind });
        let mut find = self.conn.prepare(&format!("SELECT 1 FROM {name} WHERE _value = ?1 AND _key = ?2"))?;
        let mut scan = Scan::all("pk");
        loop {
            let page = self.scan(table, &scan)?;
            for held in &page {
                let key = held.row.key();
                for value in values(&*held.row) {
                    if !find.exists(params![value, key])? {
                        flaw(key.clone(), HelperFlawKind::Missing);
                    }
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS_MAX) else { break };
            scan = scan.after(table.key_cells(&last.row.key()).map_err(StoreError::corrupt_store)?);
        }
        let mut entries = self.conn.prepare(&format!("SELECT _value, _key FROM {name}"))?;
        let mut entries = entries.query([])?;
        while let Some(entry) = entries.next()? {
            let (value, key): (String, String) = (entry.get(0)?, entry.get(1)?);
            let row = self.get(table, &key)?;
            if row.is_none_or(|held| !values(&*held.row).contains(&value)) {
                flaw(key, HelperFlawKind::Stray);
            }
        }
        Ok(())
    }
}

fn each_tombstone(
    view: &SqliteView<'_>,
    table: &TableDef,
    mut meet: impl FnMut(String, Position) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let page = view.tombstones_page(table, after.as_deref(), PAGE_ROWS_MAX)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        page.into_iter().try_for_each(|(key, rev)| meet(key, rev))?;
    }
}
