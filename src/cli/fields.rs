//! Fields of rows before and after events, masked, for people and for programs.

use serde_json::{Map, Value};
use tasklog_log::{CommitMeta, Millis, StoreError};
use tasklog_projections::{AnyRow, TableDef, cell_json};
use tasklog_replay::FieldChange;

use super::{
    mask::Mask,
    output::{self, FAINT, Output},
    rows::shown_value,
};
use crate::Error;
pub(crate) use crate::show::{events::changes_json, rows::field as value};

/// A row as a JSON object, without its rev; null for none.
pub(crate) fn row_json(table: &TableDef, row: Option<&AnyRow>, mask: &mut Mask) -> Result<Value, Error> {
    let Some(row) = row else { return Ok(Value::Null) };
    let mut object = Map::new();
    for (column, cell) in table.columns.iter().zip(row.cells()) {
        let value = cell_json(column, &cell).and_then(|json| json.to_value()).map_err(StoreError::corrupt_store)?;
        object.insert(column.name.into(), mask.column(table, column.name, value));
    }
    Ok(Value::Object(object))
}

/// What changed, a line a field.
pub(crate) fn tell_changes(
    out: Output,
    table: &TableDef,
    changes: &[FieldChange],
    mask: &mut Mask,
) -> Result<(), Error> {
    for change in changes {
        let old = value(table, change.column, change.old.as_ref(), mask)?;
        let new = value(table, change.column, change.new.as_ref(), mask)?;
        let (old, new) = (shown_value(&old.to_string()), shown_value(&new.to_string()));
        out.line(format!("    {:<22} {old} → {new}", change.column))?;
    }
    Ok(())
}

/// Who did something, when, why.
pub(crate) fn origin(meta: &CommitMeta, recorded_at: Millis) -> String {
    let why = meta.reason.as_ref().map(|reason| format!(", because {reason}")).unwrap_or_default();
    format!("{}  by {}{why}", output::time(recorded_at), meta.actor)
}

/// Something that can be passed over.
pub(crate) fn faint(text: impl std::fmt::Display) -> String {
    format!("{}{text}{}", FAINT.render(), FAINT.render_reset())
}
