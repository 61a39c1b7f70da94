use axum::extract::{Path, rejection::PathRejection};
use serde_json::{Value, json};
use tasklog_replay::history as steps_of;

use super::{
    answer::Answer,
    asked::{Asked, path, table_named},
    problem::Problem,
};
use crate::{Error, show::events::step_json};

/// `GET /v1/history/{table}/{*key}`
pub(crate) async fn history(
    parts: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
) -> Result<Answer, Problem> {
    let (name, key) = path(parts)?;
    let table = table_named(&name)?;
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
                let steps =
                    steps.iter().map(|step| step_json(table, step, mask)).collect::<Result<Vec<Value>, Error>>()?;
                Ok((Some(json!({ "steps": steps }).to_string()), position))
            },
        )
        .await
}
