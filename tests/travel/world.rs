//! Stores with a story, and the story told by a fold that shares nothing with the program's but the tables' own folds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tasklog::{
    TaskStore,
    log::{Commit, Position},
    projections::{AnyRow, TABLES, TableDef, cell_json},
};

use crate::support::script::{Single, Subject};

/// A row as text, by table and key.
pub type Rows = BTreeMap<(&'static str, String), String>;

/// Every backend, empty, with a clock that a test sets.
pub fn backends() -> [(&'static str, Single); 3] {
    [("memory", Single::memory()), ("sqlite", Single::sqlite()), ("redis", Single::redis())]
}

/// Plays the first lines of the recorded day.
pub fn play_day(single: &mut Single, lines: usize) {
    let day = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/day.ndjson")).unwrap();
    for line in day.lines().take(lines) {
        let at: Value = serde_json::from_str(line).unwrap();
        single.now(1_767_225_600_000 + at["at_ms"].as_i64().unwrap());
        single.line(line);
    }
}

pub fn commits(store: &TaskStore) -> Vec<Commit> {
    let mut all = Vec::new();
    let mut after = Position::ZERO;
    loop {
        let page = store.read(|log, _| Ok(log.read(after, 5_000)?)).unwrap();
        let Some(last) = page.last() else { return all };
        after = last.last();
        all.extend(page);
    }
}

pub fn row_text(table: &TableDef, row: &AnyRow, rev: Position) -> String {
    let cells = row.cells();
    let fields = table.columns.iter().zip(&cells).map(|(column, cell)| cell_json(column, cell).unwrap().to_string());
    format!("{} rev={rev}", fields.collect::<Vec<_>>().join(" "))
}

/// The tables, event by event.
#[derive(Default)]
pub struct Fold {
    pub rows: BTreeMap<(&'static str, String), (AnyRow, Position)>,
    pub seen: BTreeSet<(&'static str, String)>,
}

impl Fold {
    /// What every event so far has left, handed out after each one, with its instant.
    pub fn each(commits: &[Commit], mut meet: impl FnMut(&Self, Position, i64)) {
        let mut fold = Self::default();
        for commit in commits {
            for event in &commit.events {
                let table = tasklog::projections::table(&event.table).unwrap();
                let name = (table.name, event.key.to_string());
                fold.seen.insert(name.clone());
                let before = fold.rows.remove(&name).map(|(row, _)| row);
                if let Some(row) = table.fold(before, event, commit.recorded_at).unwrap() {
                    fold.rows.insert(name, (row, event.position));
                }
                meet(&fold, event.position, commit.recorded_at);
            }
        }
    }

    /// The rows that live at an instant.
    pub fn live(&self, now: i64) -> Rows {
        let live = self.rows.iter().filter(|(_, (row, _))| row.is_live(now));
        live.map(|(name, (row, rev))| (name.clone(), row_text(table_of(name.0), row, *rev))).collect()
    }
}

pub fn table_of(name: &str) -> &'static TableDef {
    tasklog::projections::table(name).unwrap()
}

/// All live rows that a store lists.
pub fn listed(store: &TaskStore) -> Rows {
    let mut rows = Rows::new();
    store
        .read_tables(|read| {
            for table in TABLES {
                read.walk_any(table, tasklog::projections::Scan::all("pk"), |row, rev| {
                    rows.insert((table.name, row.key()), row_text(table, &row, rev));
                    Ok(std::ops::ControlFlow::Continue(()))
                })?;
            }
            Ok(())
        })
        .unwrap();
    rows
}

/// One live row that a store finds by its key.
pub fn found(store: &TaskStore, name: &(&'static str, String)) -> Option<String> {
    let table = table_of(name.0);
    let held = store.read_tables(|read| read.get_any(table, &name.1)).unwrap();
    held.map(|held| row_text(table, &held.row, held.rev))
}
