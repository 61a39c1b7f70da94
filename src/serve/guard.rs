//! What every request passes before and after its handler.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    http::header,
    middleware::Next,
    response::Response,
};

use super::{
    answer::{GoesOn, POSITION},
    auth::{Access, Caller},
    problem::{Kind, Problem},
    routes::allowed,
    state::App,
    unread::Unread,
};

/// Checks the token, and takes one of the places for requests.
pub(crate) async fn admit(
    State((app, access)): State<(App, Access)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller: Caller = app.tokens().admit(request.headers(), access, app.settings.show_sensitive)?;
    request.extensions_mut().insert(caller);
    // Whoever looks whether the process is alive is not turned away because it has much to do.
    if access == Access::Open {
        return Ok(next.run(request).await);
    }
    let Ok(_permit) = app.requests.try_acquire() else {
        let max = app.settings.limits.requests_max;
        return Err(Problem::busy(format!("{max} requests are being answered")));
    };
    Ok(next.run(request).await)
}

/// Logs what was asked and how it ended: never a token, a key or a body. A connection in which a body stands that nobody has
/// read is said to be closed, so that nobody sends another request into it.
pub(crate) async fn watch(State(app): State<App>, request: Request, next: Next) -> Response {
    let in_flight = app.exposition.request();
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    #[cfg(feature = "otel")]
    let span = super::spans::begin(&method, route.as_deref(), request.headers());
    let route = route.as_deref().unwrap_or("none");
    let unread = request.extensions().get::<Unread>().cloned().unwrap_or_default();
    let answering = next.run(request.map(|body| unread.watch(body)));
    #[cfg(feature = "otel")]
    let answering = tracing::Instrument::instrument(answering, span.clone());
    let mut response = answering.await;
    let status = response.status();
    in_flight.answered(route, status.as_u16());
    let goes_on = response.extensions().get::<GoesOn>().is_some();
    if unread.is_left() && !goes_on {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let position = response.headers().get(POSITION).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    #[cfg(feature = "otel")]
    super::spans::end(&span, status, position);
    let status_number = status.as_u16();
    if status.is_server_error() {
        let kind = response.extensions().get::<Kind>().map(|kind| kind.0);
        tracing::warn!(target: "tasklog::requests", %method, route, status = status_number, kind, ms, position, "request");
    } else {
        tracing::debug!(target: "tasklog::requests", %method, route, status = status_number, ms, position, "request");
    }
    response
}

/// Nothing is served there.
pub(crate) async fn no_such_path() -> Problem {
    Problem::not_found("nothing is served at this path; GET /openapi.json lists what is")
}

/// Something is served there, in another way.
pub(crate) async fn method_not_allowed(request: Request) -> Problem {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    Problem::method_not_allowed(allowed(path))
}
