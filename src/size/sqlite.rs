use std::{collections::BTreeMap, path::Path};

use tasklog_log::{Position, StoreError};
use tasklog_projections::TABLES;

use super::{Counts, Weight, Weights, fill::fill};
use crate::{Error, OpenOptions, StoreUrl, TaskStore};

/// Bytes of a SQL table's own pages, and of its indexes'.
type Pages = BTreeMap<String, (u64, u64)>;

pub(super) fn weigh(counts: &Counts, folder: &Path, note: &mut dyn FnMut()) -> Result<Weights, Error> {
    let url = StoreUrl::Sqlite(folder.join("size.db"));
    let store = TaskStore::open_with(&url, OpenOptions::default())?;
    let before = fill(&store, counts, note)?;
    let pages = store.with_connection(|conn| {
        let failed = |error| StoreError::unavailable_because("asking for the sizes of pages", error);
        let mut found = conn
            .prepare(
                "SELECT m.tbl_name, m.type = 'index', sum(d.pgsize) FROM dbstat d JOIN sqlite_master m USING (name) GROUP BY 1, 2",
            )
            .map_err(failed)?;
        let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(failed)?;
        let mut pages = Pages::new();
        for row in rows {
            let (table, is_index, bytes): (String, bool, i64) = row.map_err(failed)?;
            let bytes = bytes.unsigned_abs();
            let entry = pages.entry(table).or_default();
            if is_index { entry.1 += bytes } else { entry.0 += bytes }
        }
        Ok(pages)
    })?;
    weights(&store, counts, before, pages)
}

fn weights(store: &TaskStore, counts: &Counts, before: Position, mut pages: Pages) -> Result<Weights, Error> {
    let mut tables = Vec::new();
    for (table, (_, rows)) in TABLES.iter().zip(store.counts()?) {
        let (own, mut index_bytes) = pages.remove(table.name).unwrap_or_default();
        // What it looks things up in beside its indexes.
        let helper = format!("_{}_", table.name);
        while let Some((name, (own, indexes))) = pages.iter().find(|(name, _)| name.starts_with(&helper)) {
            index_bytes += own + indexes;
            let name = name.clone();
            pages.remove(&name);
        }
        tables.push(Weight { name: table.name, rows, bytes: own + index_bytes, index_bytes });
    }
    let (log, log_indexes) = pages.remove("events").unwrap_or_default();
    let head = store.head()?;
    Ok(Weights {
        tables,
        events: head.0,
        events_per_write: (head.0 - before.0) as f64 / counts.tasks.max(1) as f64,
        log_bytes: log + log_indexes,
        other_bytes: pages.values().map(|(own, indexes)| own + indexes).sum(),
        server: None,
    })
}
