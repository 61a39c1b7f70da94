use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{problem::Problem, state::App};

/// Prometheus' text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `GET /metrics`. While the store is being opened, the process's own.
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = if app.store().is_ok() {
        let shown = app.clone();
        app.blocking(move |store| Ok(shown.exposition.text(Some(store)))).await?
    } else {
        app.exposition.text(None)
    };
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], text)
        .into_response())
}
