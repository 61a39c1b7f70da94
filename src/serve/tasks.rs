//! The task registry as clients of Meilisearch know it. What this interface itself has to say is said as Meilisearch says
//! it; tokens, limits and the store answer as they do everywhere.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    answer::Answer,
    asked::{Asked, path},
    problem::Problem,
};
use crate::task_api::{self, ApiError};

/// `GET /tasks`
pub(crate) async fn list(mut asked: Asked) -> Result<Response, Problem> {
    let wanted = match task_api::Asked::parse(asked.params.rest()) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(refused(&error)),
    };
    asked.reach().await?;
    let app = asked.app.clone();
    let found = asked.app.blocking(move |store| task_api::list(store, &app.uids, &wanted)).await;
    let (tasks, position) = found.map_err(|problem| problem.at(asked.app.seen()))?;
    Ok(Answer::json(text(&tasks)).at(position).into_response())
}

/// `GET /tasks/{uid}`
pub(crate) async fn one(parts: Result<Path<String>, PathRejection>, asked: Asked) -> Result<Response, Problem> {
    let uid = path(parts)?;
    asked.params.finish()?;
    asked.reach().await?;
    let app = asked.app.clone();
    let found = asked.app.blocking(move |store| task_api::get(store, &app.uids, &uid)).await;
    match found.map_err(|problem| problem.at(asked.app.seen()))? {
        Ok((task, position)) => Ok(Answer::json(text(&task)).at(position).into_response()),
        Err(error) => Ok(refused(&error)),
    }
}

fn refused(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, [(header::CONTENT_TYPE, "application/json")], text(&error.body())).into_response()
}

/// Plain structs of texts and numbers.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
