use clap::Args;
use serde_json::json;
use tasklog_projections::TableDef;
use tasklog_replay::{blame, history};

use super::{
    Context, Ended,
    at::AsOf,
    fields,
    mask::Mask,
    output,
    rows::{parse_table, shown_value},
};
use crate::{Error, Rejection};

/// Tell, for each field of a row, the event that last set it: which, when, who, why.
#[derive(Args)]
pub(crate) struct Blame {
    /// The table
    #[arg(value_parser = parse_table)]
    table: &'static TableDef,
    /// The row key; a two-part key is written a/b
    key: String,
    #[command(flatten)]
    as_of: AsOf,
}

impl Blame {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = self.as_of.open(context)?;
        let steps = store.read(|log, view| Ok(history(log, view, self.table, &self.key)?))?;
        let mut mask = Mask::new(context.out.show_sensitive);
        let live = store.read_tables(|read| read.get_any(self.table, &self.key))?.is_some();
        if !live {
            let gone = if steps.is_empty() { "" } else { " any more; tasklog history tells what happened to it" };
            let key = mask.key(self.table, &self.key);
            return Err(Rejection::not_found(format!("no row {key:?} in {}{gone}", self.table.name)).into());
        }
        let mut rows = Vec::new();
        for field in blame(self.table, &steps) {
            let value = fields::value(self.table, field.column, Some(&field.value), &mut mask)?;
            let step = field.step;
            if context.out.json {
                context.out.line(
                    json!({
                        "field": field.column, "value": value, "position": step.event.position,
                        "type": &*step.event.event_type, "commit_id": step.meta.id, "recorded_at": step.recorded_at,
                        "actor": &*step.meta.actor, "reason": step.meta.reason, "request_id": step.meta.request_id,
                    })
                    .to_string(),
                )?;
                continue;
            }
            rows.push(vec![
                field.column.to_owned(),
                shown_value(&value.to_string()),
                format!("#{}", step.event.position),
                step.event.event_type.to_string(),
                output::time(step.recorded_at),
                step.meta.actor.to_string(),
                step.meta.reason.as_deref().unwrap_or("-").to_owned(),
            ]);
        }
        context.out.table(&["field", "value", "event", "type", "when", "who", "why"], &rows)?;
        Ok(Ended::Well)
    }
}
