use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use tokio::sync::OwnedSemaphorePermit;

use super::{problem::Problem, state::App};

/// A body up to this length is read whatever others need; longer ones take room in such steps.
const SMALL_BYTES: usize = 64 << 10;

/// What a body is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/json`
    Json,
    /// `application/x-ndjson`: one JSON object a line
    Ndjson,
}

impl Media {
    /// Looks at `Content-Type`, and refuses encodings.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(Problem::media_type("Content-Encoding: bodies are taken as they are, without compression"));
        }
        let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            return Ok(Self::Json);
        }
        if essence.eq_ignore_ascii_case("application/x-ndjson") {
            return Ok(Self::Ndjson);
        }
        Err(Problem::media_type(format!(
            "Content-Type: expected application/json, or application/x-ndjson for a stream, found {given:?}"
        )))
    }
}

/// Reads a body of one JSON value, within its bounds of size and time.
pub(crate) async fn read_text(app: &App, headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    let max = app.settings.limits.command_bytes_max;
    let too_large = || Problem::too_large(format!("the body: at most {max} bytes"));
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > max as u64) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(app.request_max(), collect(app, body, max));
    let bytes = match read.await {
        Err(_) => return Err(Problem::body_too_slow()),
        Ok(Err(Broken::TooLarge)) => return Err(too_large()),
        Ok(Err(Broken::NoRoom(problem))) => return Err(problem),
        Ok(Err(Broken::Read(why))) => return Err(Problem::malformed(format!("reading the body: {why}"))),
        Ok(Ok(bytes)) => bytes,
    };
    String::from_utf8(bytes.into()).map_err(|error| {
        Problem::malformed(format!("the body: byte {}: not UTF-8", error.utf8_error().valid_up_to() + 1))
    })
}

enum Broken {
    TooLarge,
    NoRoom(Problem),
    Read(axum::Error),
}

async fn collect(app: &App, mut body: Body, max: usize) -> Result<Bytes, Broken> {
    let mut bytes = BytesMut::new();
    let mut room = Room::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Broken::Read)?.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Err(Broken::TooLarge);
        }
        room.grow(app, bytes.len() + data.len()).map_err(Broken::NoRoom)?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Room that a body takes of what all bodies share; a small one needs none.
#[derive(Default)]
pub(crate) struct Room {
    permits: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Room {
    /// Takes what `bytes` of a body need.
    ///
    /// # Errors
    /// `busy` if other bodies have it.
    pub(crate) fn grow(&mut self, app: &App, bytes: usize) -> Result<(), Problem> {
        while bytes > self.bytes + SMALL_BYTES {
            self.permits.push(app.body_room(SMALL_BYTES)?);
            self.bytes += SMALL_BYTES;
        }
        Ok(())
    }
}
