//! Commands and transactions.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName},
    response::{IntoResponse, Response},
};
use tasklog_log::CommitId;
use uuid::Uuid;

use super::{
    answer::Answer,
    asked::Asked,
    body::{Media, read_text},
    problem::Problem,
    state::App,
    stream,
};
use crate::{
    Rejection, TaskStore,
    engine::{AnyReply, Request},
    wire::{self, ParsedLine},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `POST /v1/commands`
pub(crate) async fn commands(asked: Asked, body: Body) -> Result<Response, Problem> {
    asked.params.finish()?;
    match Media::of(&asked.headers)? {
        Media::Json => Ok(one(&asked, body, false).await?.into_response()),
        Media::Ndjson if asked.headers.contains_key(IDEMPOTENCY_KEY) => {
            Err(Problem::malformed("Idempotency-Key: in a stream every line has a \"command_id\" of its own"))
        }
        Media::Ndjson => Ok(stream::answer(&asked, body).await?.into_response()),
    }
}

/// `POST /v1/transactions`
pub(crate) async fn transactions(asked: Asked, body: Body) -> Result<Answer, Problem> {
    asked.params.finish()?;
    match Media::of(&asked.headers)? {
        Media::Json => one(&asked, body, true).await,
        Media::Ndjson => Err(Problem::media_type("Content-Type: a transaction is one JSON object: application/json")),
    }
}

async fn one(asked: &Asked, body: Body, transact: bool) -> Result<Answer, Problem> {
    let app = &asked.app;
    let store = app.store()?;
    let id = idempotency_key(&asked.headers)?;
    let text = read_text(app, &asked.headers, body).await?;
    let parsed = wire::parse(&text).map_err(Problem::not_understood)?;
    if parsed.request.transact != transact {
        let path = if transact { "/v1/commands" } else { "/v1/transactions" };
        let what = if transact { "one command" } else { "a transaction" };
        return Err(Problem::malformed(format!("{what} belongs to POST {path}")));
    }
    let mut request = with_clock(store, parsed);
    if let Some(id) = id {
        if request.options.command_id.is_some_and(|given| given != id) {
            return Err(Rejection::invalid("Idempotency-Key and \"command_id\" are different").into());
        }
        request.options.command_id = Some(id);
    }
    let reply = run(app, store, request).await?;
    app.saw(reply.meta.position);
    Ok(Answer::json(wire::reply_json(&reply)).at(reply.meta.position))
}

async fn run(app: &App, store: &TaskStore, request: Request) -> Result<AnyReply, Problem> {
    match tokio::time::timeout(app.request_max(), store.send(request)).await {
        Ok(answered) => answered.map_err(|error| Problem::from(error).at(app.seen())),
        Err(_) => Err(Problem::unavailable(
            "the command was not answered in time and may still be done: send it again with the same Idempotency-Key",
        )),
    }
}

/// The request at the instant that a recording gives it, if the store keeps a recording's time.
pub(crate) fn with_clock(store: &TaskStore, parsed: ParsedLine) -> Request {
    let ParsedLine { mut request, at_ms } = parsed;
    request.at = store.recording().zip(at_ms).map(|(recording, at)| recording.from.saturating_add(at));
    request
}

/// The header, bare or in quotes.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<CommitId>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    match bare.parse::<Uuid>() {
        Ok(id) => Ok(Some(CommitId(id))),
        Err(_) => Err(Problem::malformed(format!("Idempotency-Key: expected a UUID, found {text:?}"))),
    }
}
