//! What a verification asks of the tables beyond their rows.

use rusqlite::{Connection, params};
use tasklog_log::StoreError;

use super::{
    Area, SqliteView, StoredRow,
    schema::{value_table, value_tables},
    table_exists,
};
use crate::{Cell, Cells, PAGE_ROWS_MAX, Scan, TableDef, Unreadable, View, pair};

/// What stands in the place of a row.
pub(super) fn unreadable(table: &TableDef, row: &rusqlite::Row<'_>, why: String) -> Unreadable {
    let stored = StoredRow(row);
    let keys = table.columns.iter().enumerate().filter(|(_, column)| column.key);
    let (mut cells, mut parts) = (Some(Vec::new()), Vec::new());
    for (at, _) in keys {
        match stored.cell(at) {
            Ok(cell) => {
                parts.push(shown(&cell));
                cells = cells.map(|mut cells| {
                    cells.push(cell.into_owned());
                    cells
                });
            }
            Err(_) => {
                parts.push("?".into());
                cells = None;
            }
        }
    }
    let key = match &parts[..] {
        [a, b] => pair(a, b),
        parts => parts.concat(),
    };
    Unreadable { cells, key, why }
}

fn shown(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "?".into(),
        Cell::Integer(value) => value.to_string(),
        Cell::Text(text) => text.to_string(),
        Cell::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// An entry of a multi-index that its rows do not give, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// The helper table.
    pub helper: String,
    /// The row key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether it is missing; otherwise it is there without a reason.
    pub missing: bool,
}

/// Compares the helper tables of a table's multi-indexes, those that are there, with its rows, in both directions.
///
/// # Errors
/// `unavailable`; `corrupt` for a table that cannot be read at all.
pub fn check_values(
    conn: &Connection,
    table: &'static TableDef,
    mut meet: impl FnMut(Values),
) -> Result<(), StoreError> {
    let view = SqliteView::live(conn);
    for multi in table.multi_indexes {
        let helper = value_table(table, Area::Live, multi.name);
        if !table_exists(conn, &helper)? {
            continue;
        }
        let mut has = conn.prepare(&format!("SELECT 1 FROM {helper} WHERE _value = ?1 AND _key = ?2"))?;
        let mut scan = Scan::all("pk");
        loop {
            let page = view.scan_each(table, &scan)?;
            let full = page.len() == PAGE_ROWS_MAX;
            let mut last = None;
            // What cannot be read is told by the comparison of rows.
            for held in page.into_iter().flatten() {
                let key = held.row.key();
                for value in (multi.values)(&*held.row) {
                    if !has.exists(params![value, key])? {
                        meet(Values { helper: helper.clone(), key: key.clone(), value, missing: true });
                    }
                }
                last = Some(key);
            }
            match last.map(|key| table.key_cells(&key)) {
                Some(Ok(cells)) if full => scan = Scan::all("pk").after(cells),
                _ => break,
            }
        }
        let mut entries = conn.prepare(&format!("SELECT _value, _key FROM {helper} ORDER BY _value, _key"))?;
        let mut rows = entries.query([])?;
        while let Some(row) = rows.next()? {
            let text = |at| {
                Ok::<_, StoreError>(String::from_utf8_lossy(row.get_ref(at)?.as_bytes().unwrap_or(b"?")).into_owned())
            };
            let (value, key) = (text(0)?, text(1)?);
            let given = match view.get(table, &key) {
                Ok(held) => held.is_some_and(|held| (multi.values)(&*held.row).contains(&value)),
                Err(StoreError::Corrupt { .. }) => continue,
                Err(error) => return Err(error),
            };
            if !given {
                meet(Values { helper: helper.clone(), key, value, missing: false });
            }
        }
    }
    Ok(())
}

/// Compares a table's columns and indexes with those that it declares, and says what is not as declared.
///
/// # Errors
/// `unavailable`.
pub fn check_indexes(conn: &Connection, table: &TableDef, mut meet: impl FnMut(String)) -> Result<(), StoreError> {
    let mut select = conn.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    let columns = select.query_map([table.name], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let declared: Vec<_> = table.columns.iter().map(|column| column.name).chain(["_rev"]).collect();
    if columns != declared {
        meet(format!("its columns are {}", columns.join(", ")));
    }
    let mut select =
        conn.prepare("SELECT name, \"unique\", partial FROM pragma_index_list(?1) WHERE origin <> 'pk' ORDER BY name")?;
    let found = select.query_map([table.name], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?))
    })?;
    let mut found = found.collect::<Result<Vec<_>, _>>()?;
    let mut select = conn.prepare("SELECT coalesce(name, '') FROM pragma_index_info(?1) ORDER BY seqno")?;
    for index in table.indexes {
        let name = format!("{}_{}", table.name, index.name);
        // After rebuilds the name ends with their number.
        let own = |found: &str| {
            let rest = found.strip_prefix(&name);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.strip_prefix("_g").is_some_and(|n| n.parse::<u32>().is_ok())
            })
        };
        let Some(at) = found.iter().position(|(found, ..)| own(found)) else {
            meet(format!("index {name} is missing"));
            continue;
        };
        let (found, unique, partial) = found.swap_remove(at);
        let columns = select.query_map([&found], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        if columns != index.columns || unique != index.unique || partial {
            meet(format!("index {found} is another one: on {}", columns.join(", ")));
        }
    }
    for (name, ..) in found.iter().filter(|(_, unique, _)| *unique) {
        meet(format!("unique index {name:?} does not belong there: it refuses rows that the log has"));
    }
    for helper in value_tables(table, Area::Live) {
        if !table_exists(conn, &helper)? {
            meet(format!("side table {helper} is missing"));
        }
    }
    Ok(())
}
