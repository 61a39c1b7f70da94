use axum::extract::{Path, rejection::PathRejection};
use serde_json::{Value, json};
use tasklog_log::Position;
use tasklog_replay::history as steps_of;

use super::{
    answer::Answer,
    asked::{Asked, path, table_named},
    problem::Problem,
};
use crate::show::events::step_json;

/// Bytes of payloads after which a page takes no further step.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// `GET /v1/history/{table}/{*key}`
pub(crate) async fn history(
    parts: Result<Path<(String, String)>, PathRejection>,
    mut asked: Asked,
) -> Result<Answer, Problem> {
    let (name, key) = path(parts)?;
    let table = table_named(&name)?;
    let after = Position(asked.params.take_number("after")?.unwrap_or(0));
    let limit = asked.params.take_limit()?;
    let missing = format!("the log has no event of {name}/{key}");
    asked
        .read(
            || missing,
            move |store, mask| {
                let (steps, position) =
                    store.read(|log, view| Ok((steps_of(log, view, table, &key)?, view.checkpoint()?.position)))?;
                if steps.is_empty() {
                    return Ok((None, position));
                }
                let mut told: Vec<Value> = Vec::new();
                let mut later = steps.iter().filter(|step| step.event.position > after).peekable();
                let mut bytes = 0;
                while told.len() < limit
                    && bytes < PAGE_BYTES_MAX
                    && let Some(step) = later.next()
                {
                    bytes += step.event.payload.len();
                    told.push(step_json(table, step, mask)?);
                }
                let next = later.peek().and_then(|_| told.last()).map(|last| last["position"].clone());
                Ok((Some(json!({ "steps": told, "next_after": next }).to_string()), position))
            },
        )
        .await
}
