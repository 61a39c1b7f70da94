use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tasklog_log::Position;

/// What an answer reflects: everything through this position.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("tasklog-position");

/// An answer, and what it reflects.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    position: Option<Position>,
    body: Body,
    goes_on: bool,
}

/// Marks the answer to a request whose body is read on while the answer is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoesOn;

impl Answer {
    /// 200, with the text of a JSON value.
    pub(crate) fn json(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            position: None,
            body: Body::from(text.into()),
            goes_on: false,
        }
    }

    /// 200, with a body that is made while it is read.
    pub(crate) fn streaming(content_type: &'static str, body: Body) -> Self {
        Self { status: StatusCode::OK, content_type, position: None, body, goes_on: false }
    }

    /// The request's body is read on meanwhile.
    pub(crate) fn going_on(self) -> Self {
        Self { goes_on: true, ..self }
    }

    /// With what it reflects.
    pub(crate) fn at(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(position) = self.position {
            headers.insert(POSITION, position.0.into());
        }
        if self.goes_on {
            response.extensions_mut().insert(GoesOn);
        }
        response
    }
}
