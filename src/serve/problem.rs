//! Errors as RFC 9457 problem details.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tasklog_log::{Position, StoreError, StoreErrorKind};

use super::answer::POSITION;
use crate::{Error, Rejection, RejectionKind};

/// After how many seconds a store that did not answer, or a process that had no room, may be asked again.
const RETRY_SOON_S: u32 = 1;
/// The same where somebody has to repair something first.
const RETRY_LATER_S: u32 = 60;

/// The kind of a problem, beside its response: for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(pub(crate) &'static str);

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Clone, Debug, Serialize)]
struct Inner {
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
    /// What the answer reflects, if the store was asked.
    #[serde(skip)]
    position: Option<Position>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
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
            position: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(&mut self.0);
        self
    }

    /// 400: the request makes no sense; `detail` says what and where.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request makes no sense", detail)
    }

    /// A text that could not be understood: 400, where the same rejection of a command that was understood is 422.
    pub(crate) fn not_understood(rejection: Rejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.kind.as_str(), "The request makes no sense", rejection.message)
    }

    /// 401: who are you?
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail)
            .with(|problem| problem.challenge = true)
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
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not with this method", detail)
            .with(|problem| problem.allow = Some(allow))
    }

    /// 408: the body did not come in time.
    pub(crate) fn body_too_slow() -> Self {
        let detail = "the request's body did not come in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "Too slow", detail)
    }

    /// 413: larger than the bound, which `detail` names.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
    }

    /// 415
    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", "Unsupported media type", detail)
    }

    /// 503: no room, or not now; the same request may be sent again soon.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Not now", detail)
            .with(|problem| problem.retry_after_s = Some(RETRY_SOON_S))
    }

    /// 503: the store did not answer.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let kind = StoreErrorKind::Unavailable.as_str();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "The store did not answer", detail)
            .with(|problem| problem.retry_after_s = Some(RETRY_SOON_S))
    }

    /// With what the answer reflects, if it does not say so itself.
    pub(crate) fn at(self, position: Position) -> Self {
        self.with(|problem| problem.position = problem.position.or(Some(position)))
    }

    /// Whether it may be gone soon, without anybody's doing.
    pub(crate) fn passes(&self) -> bool {
        self.0.retry_after_s == Some(RETRY_SOON_S)
    }

    /// What is wrong.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
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
        let Rejection { kind, message, expected, actual } = rejection;
        Self::new(status, kind.as_str(), title(kind), message).with(|problem| {
            problem.expected = expected;
            problem.actual = actual;
        })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejection) => rejection.into(),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
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
        problem.with(|problem| {
            problem.retry_after_s = Some(retry_after_s);
            if let StoreError::NotConfirmed { position, .. } = error {
                problem.position = Some(position);
            }
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let problem = *self.0;
        // Texts and a number.
        let body = serde_json::to_string(&problem).unwrap_or_default();
        let mut response = (problem.status, body).into_response();
        response.extensions_mut().insert(Kind(problem.kind));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if problem.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tasklog\""));
        }
        if let Some(allow) = problem.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(position) = problem.position {
            headers.insert(POSITION, position.0.into());
        }
        response
    }
}
