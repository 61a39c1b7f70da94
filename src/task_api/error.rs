use schemars::JsonSchema;
use serde::Serialize;

/// Where Meilisearch explains its codes.
const LINK: &str = "https://docs.meilisearch.com/errors#";

/// Why a request of this interface was refused, as Meilisearch says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong.
    pub message: String,
    /// Meilisearch's code for it.
    pub code: &'static str,
}

/// The body of such an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub message: String,
    /// Meilisearch's code for it.
    pub code: String,
    /// `invalid_request` or `internal`
    pub r#type: String,
    /// Where the code is explained.
    pub link: String,
}

impl ApiError {
    /// 400: a parameter has a value that it cannot have.
    pub(super) fn invalid(code: &'static str, param: &str, why: impl std::fmt::Display) -> Self {
        Self { status: 400, message: format!("Invalid value in parameter `{param}`: {why}"), code }
    }

    /// 400: there is no such parameter.
    pub(super) fn unknown_param(name: &str, known: &[&str]) -> Self {
        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("Unknown parameter `{name}`: expected one of {}", known.join(", "));
        Self { status: 400, message, code: "bad_request" }
    }

    /// 400: what should be a uid is none.
    pub(super) fn invalid_uid(text: &str) -> Self {
        let message = format!("Task uid `{text}` is invalid. It should only contain numeric characters.");
        Self { status: 400, message, code: "invalid_task_uid" }
    }

    /// 404: no such task.
    pub(super) fn task_not_found(uid: &str) -> Self {
        Self { status: 404, message: format!("Task `{uid}` not found."), code: "task_not_found" }
    }

    /// As Meilisearch writes it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        body(self.message.clone(), self.code, "invalid_request")
    }
}

pub(super) fn body(message: String, code: &str, kind: &str) -> ErrorBody {
    ErrorBody { message, code: code.into(), r#type: kind.into(), link: format!("{LINK}{code}") }
}
