//! Errors as RFC 9457 problem details.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tasklog_log::{Position, StoreErrorKind};

use super::answer::POSITION;
use crate::{Error, Rejection, RejectionKind};

/// After how many seconds a store that did not answer, or a process that had no room, may be asked again.
const RETRY_SOON_S: u32 = 1;
/// The same where somebody has to repair something first.
const RETRY_LATER_S: u32 = 60;

/// Why a request has no answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Problem {
    /// `urn:tasklog:problem:<kind>`
    #[serde(rename = "type")]
    type_uri: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    /// The kinds of rejections and store errors, and a few of this service.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    #[serde(skip)]
    challenge: bool,
    #[serde(skip)]
    allow: Option<&'static str>,
    #[serde(skip)]
    closes: bool,
    /// What the answer reflects, if the store was asked.
    #[serde(skip)]
    pub(crate) position: Option<Position>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:tasklog:problem:{kind}"),
            title,
            status,
            detail: detail.into(),
            kind,
            expected: None,
            actual: None,
            retry_after_s: None,
            challenge: false,
            allow: None,
            closes: false,
            position: None,
        }
    }

    /// 400: the request makes no sense; `detail` says what and where.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request makes no sense", detail)
    }

    /// 401: who are you?
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail);
        Self { challenge: true, ..problem }
    }

    /// 403: not with this token, or not here.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_permitted", title(RejectionKind::NotPermitted), detail)
    }

    /// 404: no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", title(RejectionKind::NotFound), detail)
    }

    /// 405
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path answers {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not with this method", detail);
        Self { allow: Some(allow), ..problem }
    }

    /// 408: the body did not come in time.
    pub(crate) fn body_too_slow() -> Self {
        let detail = "the request's body did not come in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "Too slow", detail).closing()
    }

    /// 413: larger than the bound, which `detail` names.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail).closing()
    }

    /// 415
    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", "Unsupported media type", detail)
    }

    /// 503: no room, or not now; the same request may be sent again soon.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Not now", detail);
        Self { retry_after_s: Some(RETRY_SOON_S), ..problem }
    }

    /// 503: the store did not answer.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let kind = StoreErrorKind::Unavailable.as_str();
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "The store did not answer", detail);
        Self { retry_after_s: Some(RETRY_SOON_S), ..problem }
    }

    /// A text that could not be understood: 400, where the same rejection of a command that was understood is 422.
    pub(crate) fn not_understood(rejection: Rejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.kind.as_str(), "The request makes no sense", rejection.message)
    }

    /// With what the answer reflects.
    pub(crate) fn at(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The connection is of no further use: a body stands in it that nobody reads.
    fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

fn title(kind: RejectionKind) -> &'static str {
    match kind {
        RejectionKind::NotFound => "There is no such thing",
        RejectionKind::AlreadyExists => "It exists with other content",
        RejectionKind::Conflict => "Something else is there than expected",
        RejectionKind::Invalid => "The command cannot be done",
        RejectionKind::NotPermitted => "Not permitted",
        RejectionKind::LeaseLost => "The lease does not hold any more",
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let status = match rejection.kind {
            RejectionKind::NotFound => StatusCode::NOT_FOUND,
            RejectionKind::AlreadyExists | RejectionKind::Conflict | RejectionKind::LeaseLost => StatusCode::CONFLICT,
            RejectionKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            RejectionKind::NotPermitted => StatusCode::FORBIDDEN,
        };
        let problem = Self::new(status, rejection.kind.as_str(), title(rejection.kind), rejection.message);
        Self { expected: rejection.expected, actual: rejection.actual, ..problem }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Rejected(rejection) => return rejection.into(),
            Error::Store(error) => error,
        };
        let kind = error.kind();
        if kind == StoreErrorKind::ReadOnly {
            let detail =
                format!("{}; commands go to the store that it follows, or to one that is writable", error.full());
            return Self::new(StatusCode::FORBIDDEN, kind.as_str(), "No writes here", detail);
        }
        let (title, retry_after_s) = match kind {
            StoreErrorKind::Unavailable => ("The store did not answer", RETRY_SOON_S),
            StoreErrorKind::NotConfirmed => ("Committed, but less durable than asked for", RETRY_SOON_S),
            _ => ("The store needs repair", RETRY_LATER_S),
        };
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind.as_str(), title, error.full());
        Self { retry_after_s: Some(retry_after_s), ..problem }
    }
}

impl From<tasklog_log::StoreError> for Problem {
    fn from(error: tasklog_log::StoreError) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Texts and a number.
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tasklog\""));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(position) = self.position {
            headers.insert(POSITION, position.0.into());
        }
        response
    }
}
