use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
};
use serde_json::value::RawValue;

use super::{
    answer::Answer,
    asked::{Asked, path},
    body::{Media, read_text},
    problem::Problem,
};
use crate::show::ask;

/// `GET /v1/queries/{name}?args={…}`
pub(crate) async fn get(parts: Result<Path<String>, PathRejection>, mut asked: Asked) -> Result<Answer, Problem> {
    let args = asked.params.take("args").unwrap_or_else(|| "{}".into());
    answer(path(parts)?, args, asked).await
}

/// `POST /v1/queries/{name}`
pub(crate) async fn post(
    parts: Result<Path<String>, PathRejection>,
    asked: Asked,
    body: Body,
) -> Result<Answer, Problem> {
    let name = path(parts)?;
    if Media::of(&asked.headers)? != Media::Json {
        return Err(Problem::media_type("Content-Type: arguments are one JSON object: application/json"));
    }
    let args = read_text(&asked.app, &asked.headers, body).await?;
    answer(name, args, asked).await
}

async fn answer(name: String, args: String, asked: Asked) -> Result<Answer, Problem> {
    if !ask::is_query(&name) {
        return Err(Problem::not_found(format!("no query {name:?}; `tasklog commands` lists them")));
    }
    let args: Box<RawValue> =
        serde_json::from_str(&args).map_err(|error| Problem::malformed(format!("{name}: arguments: {error}")))?;
    asked
        .read(String::new, move |store, mask| {
            let asked = ask::ask(store, &name, &args, mask)?;
            Ok((Some(asked.value.to_string()), asked.position))
        })
        .await
}
