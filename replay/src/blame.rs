use tasklog_projections::{Cell, TableDef, cell_json};

use crate::Step;

/// A field of a row, and the event that last set it.
#[derive(Clone, Debug)]
pub struct Blame<'s> {
    /// The column.
    pub column: &'static str,
    /// What it holds, as JSON.
    pub value: String,
    /// The event; for a field that was never set since, the one that created the row.
    pub step: &'s Step,
}

/// For each field of a row, beside its key, the event that last set it; `steps` is the row's history, oldest event first.
/// Empty if the row is gone at its end.
#[must_use]
pub fn blame<'s>(table: &'static TableDef, steps: &'s [Step]) -> Vec<Blame<'s>> {
    let Some(row) = steps.last().and_then(|step| step.after.as_ref()) else { return Vec::new() };
    // Only the life that the row is in counts.
    let life = steps.iter().rposition(|step| step.before.is_none() && step.exists).unwrap_or_default();
    let life = &steps[life..];
    let fields = table.columns.iter().zip(row.cells()).filter(|(column, _)| !column.key);
    fields
        .filter_map(|(column, cell): (_, Cell<'_>)| {
            let set = |step: &&Step| step.changes.iter().any(|change| change.column == column.name);
            let step = life.iter().rev().find(set).or(life.first())?;
            let value = cell_json(column, &cell).map_or_else(|why| why, |json| json.to_string());
            Some(Blame { column: column.name, value, step })
        })
        .collect()
}
