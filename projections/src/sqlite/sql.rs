use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Arc, LazyLock},
};

use ahash::RandomState;
use parking_lot::RwLock;
use tasklog_log::StoreError;

use super::Area;
use crate::{Cell, PAGE_ROWS_MAX, PROJECTED, Scan, TableDef, view::index_order};

fn names(table: &TableDef) -> String {
    table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

fn by_key(table: &TableDef, first: usize) -> String {
    let terms = table.key_columns().enumerate().map(|(at, column)| format!("{} = ?{}", column.name, first + at));
    terms.collect::<Vec<_>>().join(" AND ")
}

fn get(table: &TableDef, area: Area) -> String {
    format!("SELECT {}, _rev FROM {}{} WHERE {}", names(table), area.prefix(), table.name, by_key(table, 1))
}

fn delete(table: &TableDef, area: Area) -> String {
    format!("DELETE FROM {}{} WHERE {}", area.prefix(), table.name, by_key(table, 1))
}

/// Inserts a row, or replaces the dead one of the same key.
fn upsert(table: &TableDef, area: Area) -> String {
    let values = (1..=table.columns.len() + 1).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
    let keys = table.key_columns().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let others = table.columns.iter().filter(|column| !column.key).map(|column| column.name);
    let sets = others.chain(["_rev"]).map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO {}{} ({}, _rev) VALUES ({values}) ON CONFLICT ({keys}) DO UPDATE SET {sets}",
        area.prefix(),
        table.name,
        names(table)
    )
}

/// Sets the columns whose bits are set in `changed`, then `_rev`.
fn update(table: &TableDef, area: Area, changed: u64) -> String {
    let names =
        table.columns.iter().enumerate().filter(|(at, _)| changed >> at & 1 == 1).map(|(_, column)| column.name);
    let sets: Vec<_> = names.chain(["_rev"]).enumerate().map(|(at, name)| format!("{name} = ?{}", at + 1)).collect();
    format!("UPDATE {}{} SET {} WHERE {}", area.prefix(), table.name, sets.join(", "), by_key(table, sets.len() + 1))
}

/// The statements of one table that every batch needs, put together once.
pub(super) struct Texts {
    pub(super) get: String,
    pub(super) delete: String,
    pub(super) upsert: String,
    /// By the set of changed columns; a table knows few such sets.
    updates: RwLock<HashMap<u64, Arc<str>, RandomState>>,
}

impl Texts {
    pub(super) fn of(table: &TableDef, area: Area) -> &'static Self {
        static TEXTS: LazyLock<Vec<[Texts; 2]>> = LazyLock::new(|| {
            PROJECTED.iter().map(|table| [Area::Live, Area::Shadow].map(|area| Texts::new(table, area))).collect()
        });
        let at = PROJECTED.iter().position(|known| known.name == table.name).unwrap_or_default();
        &TEXTS[at][usize::from(area == Area::Shadow)]
    }

    fn new(table: &TableDef, area: Area) -> Self {
        let (get, delete, upsert) = (get(table, area), delete(table, area), upsert(table, area));
        Self { get, delete, upsert, updates: RwLock::default() }
    }

    /// The statement that sets the columns whose bits are set in `changed`, then `_rev`.
    pub(super) fn update(&self, table: &TableDef, area: Area, changed: u64) -> Arc<str> {
        if let Some(known) = self.updates.read().get(&changed) {
            return Arc::clone(known);
        }
        let text: Arc<str> = update(table, area, changed).into();
        self.updates.write().insert(changed, Arc::clone(&text));
        text
    }
}

/// The rows that are dead at ?1, and the column that says so.
pub(super) fn dead(table: &TableDef, area: Area) -> Option<(String, &'static str)> {
    let dies_at = table.dies_at?;
    let text = format!(
        "SELECT {}, _rev FROM {}{} WHERE {dies_at} <= ?1 ORDER BY {dies_at} LIMIT ?2",
        names(table),
        area.prefix(),
        table.name
    );
    Some((text, dies_at))
}

/// The statement of a scan, for those who want to see its plan.
///
/// # Errors
/// If the table declares no such index.
pub fn scan_sql(table: &'static TableDef, query: &Scan<'_>) -> Result<String, StoreError> {
    Ok(scan(table, Area::Live, query)?.0)
}

pub(super) fn scan<'s>(
    table: &TableDef,
    area: Area,
    scan: &'s Scan<'_>,
) -> Result<(String, Vec<Cell<'s>>), StoreError> {
    let limit = Cell::Integer(scan.limit.min(PAGE_ROWS_MAX) as i64);
    if table.multi_indexes.iter().any(|multi| multi.name == scan.index) {
        let (clause, mut values) = multi_clause(scan);
        values.push(limit);
        let text = format!(
            "SELECT {}, _rev FROM {prefix}_{name}_{index} JOIN {prefix}{name} ON {key} = _key WHERE {clause} ORDER BY _key LIMIT ?{}",
            names(table),
            values.len(),
            prefix = area.prefix(),
            name = table.name,
            index = scan.index,
            key = table.columns[0].name,
        );
        return Ok((text, values));
    }
    let order = index_order(table, scan.index)?;
    let (clause, mut values) = where_clause(table, &order, scan);
    let direction = if scan.descending { " DESC" } else { "" };
    let by: Vec<_> =
        order[scan.equal.len()..].iter().map(|at| format!("{}{direction}", table.columns[*at].name)).collect();
    values.push(limit);
    let by = if by.is_empty() { String::new() } else { format!(" ORDER BY {}", by.join(", ")) };
    let text = format!(
        "SELECT {}, _rev FROM {}{}{clause}{by} LIMIT ?{}",
        names(table),
        area.prefix(),
        table.name,
        values.len()
    );
    Ok((text, values))
}

pub(super) fn count<'s>(
    table: &TableDef,
    area: Area,
    scan: &'s Scan<'_>,
) -> Result<(String, Vec<Cell<'s>>), StoreError> {
    if table.multi_indexes.iter().any(|multi| multi.name == scan.index) {
        let (clause, values) = multi_clause(scan);
        let text = format!("SELECT count(*) FROM {}_{}_{} WHERE {clause}", area.prefix(), table.name, scan.index);
        return Ok((text, values));
    }
    let order = index_order(table, scan.index)?;
    let (clause, values) = where_clause(table, &order, scan);
    Ok((format!("SELECT count(*) FROM {}{}{clause}", area.prefix(), table.name), values))
}

fn multi_clause<'s>(scan: &'s Scan<'_>) -> (String, Vec<Cell<'s>>) {
    let mut values: Vec<Cell<'s>> = scan.equal.first().cloned().into_iter().collect();
    let mut clause = "_value = ?1".to_owned();
    if let Bound::Excluded(cursor) = &scan.from {
        values.extend(cursor.first().cloned());
        clause.push_str(" AND _key > ?2");
    }
    (clause, values)
}

fn where_clause<'s>(table: &TableDef, order: &[usize], scan: &'s Scan<'_>) -> (String, Vec<Cell<'s>>) {
    let mut values: Vec<Cell<'s>> = Vec::new();
    let mut terms = Vec::new();
    let (equal, rest) = order.split_at(scan.equal.len().min(order.len()));
    for (at, cell) in equal.iter().zip(&scan.equal) {
        values.push(cell.clone());
        terms.push(format!("{} = ?{}", table.columns[*at].name, values.len()));
    }
    let mut bound = |bound: &'s Bound<Vec<Cell<'_>>>, included: &str, excluded: &str| {
        let (cells, operator) = match bound {
            Bound::Unbounded => return,
            Bound::Included(cells) => (cells, included),
            Bound::Excluded(cells) => (cells, excluded),
        };
        let columns: Vec<_> = rest.iter().take(cells.len()).map(|at| table.columns[*at].name).collect();
        let places: Vec<_> = (values.len() + 1..=values.len() + cells.len()).map(|at| format!("?{at}")).collect();
        values.extend(cells.iter().cloned());
        terms.push(format!("({}) {operator} ({})", columns.join(", "), places.join(", ")));
    };
    bound(&scan.from, ">=", ">");
    bound(&scan.to, "<=", "<");
    if terms.is_empty() { (String::new(), values) } else { (format!(" WHERE {}", terms.join(" AND ")), values) }
}
