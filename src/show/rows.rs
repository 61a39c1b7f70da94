//! Rows as JSON, and the conditions by which they are listed.

use tasklog_log::{Position, StoreError};
use tasklog_projections::{AnyRow, Cell, Column, Hash32, Kind, Scan, TableDef, cell_json};

use super::mask::Mask;
use crate::Error;

/// A column that must have a value, given as text; the error says what is wrong with it.
pub(crate) fn condition(table: &'static TableDef, name: &str, value: &str) -> Result<(usize, Cell<'static>), String> {
    let Some(at) = table.column(name) else {
        let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        return Err(format!("{} has the columns {}", table.name, names.join(", ")));
    };
    Ok((at, value_cell(&table.columns[at], value)?))
}

fn value_cell(column: &Column, text: &str) -> Result<Cell<'static>, String> {
    if text == "null" && column.nullable {
        return Ok(Cell::Null);
    }
    match column.kind {
        Kind::Integer => text.parse().map(Cell::Integer).map_err(|_| format!("{text:?} is no integer")),
        Kind::Bool => match text {
            "0" | "false" => Ok(Cell::Integer(0)),
            "1" | "true" => Ok(Cell::Integer(1)),
            _ => Err(format!("{text:?} is neither 0 nor 1")),
        },
        Kind::Text | Kind::Json => Ok(Cell::Text(text.to_owned().into())),
        Kind::Hash => Hash32::from_hex(text).map(|hash| Cell::Blob(hash.0.to_vec().into())),
    }
}

/// The walk along the index whose first columns the conditions fix, or along the primary key.
pub(crate) fn scan(table: &'static TableDef, wanted: &[(usize, Cell<'static>)]) -> Scan<'static> {
    let value = |name: &str| wanted.iter().find(|(at, _)| table.columns[*at].name == name).map(|(_, v)| v.clone());
    let fixed = |columns: &[&str]| columns.iter().map_while(|name| value(name)).collect::<Vec<_>>();
    let best = table.indexes.iter().max_by_key(|index| fixed(index.columns).len());
    match best.map(|index| (index.name, fixed(index.columns))) {
        Some((name, values)) if !values.is_empty() && values.iter().all(|value| *value != Cell::Null) => {
            Scan::equal(name, values)
        }
        _ => Scan::all("pk"),
    }
}

/// A row's columns and rev, masked.
pub(crate) fn fields(
    table: &'static TableDef,
    row: &AnyRow,
    rev: Position,
    mask: &mut Mask,
) -> Result<Vec<(&'static str, String)>, Error> {
    let mut fields = Vec::with_capacity(table.columns.len() + 1);
    for (column, cell) in table.columns.iter().zip(row.cells()) {
        let json = cell_json(column, &cell).map_err(StoreError::corrupt_store)?;
        let hidden = !mask_passes(table, column.name, mask) && json.as_str() != "null";
        let text = if hidden {
            let value = json.to_value().map_err(StoreError::corrupt_store)?;
            mask.column(table, column.name, value).to_string()
        } else {
            json.to_string()
        };
        fields.push((column.name, text));
    }
    fields.push(("rev", rev.to_string()));
    Ok(fields)
}

fn mask_passes(table: &TableDef, column: &str, mask: &Mask) -> bool {
    mask.shows() || !table.sensitive.contains(&column)
}

/// Fields as a JSON object, each value byte for byte.
pub(crate) fn object(fields: Vec<(&'static str, String)>) -> String {
    let members = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// A field's value, from its JSON text; null where there is no row.
pub(crate) fn field(
    table: &TableDef,
    column: &str,
    text: Option<&String>,
    mask: &mut Mask,
) -> Result<serde_json::Value, Error> {
    let Some(text) = text else { return Ok(serde_json::Value::Null) };
    let value = serde_json::from_str(text).map_err(|error| StoreError::corrupt_store(error.to_string()))?;
    Ok(mask.column(table, column, value))
}
