//! Whether the process lives, and whether it can be asked.

use axum::extract::State;

use super::{
    answer::Answer,
    problem::Problem,
    state::{App, Phase},
};
use crate::TaskStore;

/// `GET /healthz`
pub(crate) async fn healthz() -> Answer {
    Answer::json(r#"{"alive":true}"#)
}

/// `GET /readyz`
pub(crate) async fn readyz(State(app): State<App>) -> Result<Answer, Problem> {
    match app.phase() {
        Phase::Opening => return Err(app.not_open()),
        Phase::Stopping => return Err(Problem::busy("the service is stopping")),
        Phase::Serving => {}
    }
    let position = app.probe(TaskStore::health).await?;
    app.saw(position);
    Ok(Answer::json(format!(r#"{{"ready":true,"position":{position}}}"#)).at(position))
}
