//! Why a command has no reply: rejections, and the errors of the store.

use serde::Serialize;
use tasklog_log::{Position, StoreError};

use crate::provisional;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionKind {
    /// The command needs a row that is absent or dead.
    NotFound,
    /// Creation with a used key and different content, or a unique index is violated.
    AlreadyExists,
    /// Version, rev, cursor or identity mismatch.
    Conflict,
    /// Malformed value, illegal transition, number out of range.
    Invalid,
    /// This caller may not do it.
    NotPermitted,
    /// Holder or claimant no longer holds.
    LeaseLost,
}

impl RejectionKind {
    /// The name used on the command line and over the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::NotPermitted => "not_permitted",
            Self::LeaseLost => "lease_lost",
        }
    }
}

/// A command's refusal. It changed nothing and cost no other command anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.as_str())]
pub struct Rejection {
    /// What the caller can do next.
    pub kind: RejectionKind,
    /// Subject, verb, expected and actual.
    pub message: String,
    /// For a conflict: what the command expected.
    pub expected: Option<String>,
    /// For a conflict: what is there.
    pub actual: Option<String>,
}

impl Rejection {
    /// A refusal of this kind.
    pub fn new(kind: RejectionKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), expected: None, actual: None }
    }

    /// The row is absent or dead.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RejectionKind::NotFound, message)
    }

    /// The key is used by other content.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(RejectionKind::AlreadyExists, message)
    }

    /// Malformed value, illegal transition, number out of range.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RejectionKind::Invalid, message)
    }

    /// This caller may not do it.
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self::new(RejectionKind::NotPermitted, message)
    }

    /// Holder or claimant no longer holds.
    pub fn lease_lost(message: impl Into<String>) -> Self {
        Self::new(RejectionKind::LeaseLost, message)
    }

    /// Whether it tells a position that is not known yet.
    pub(crate) fn quotes_places(&self) -> bool {
        let texts = [Some(&self.message), self.expected.as_ref(), self.actual.as_ref()];
        texts.into_iter().flatten().any(|text| provisional::is_quoted(text))
    }

    /// The same with the positions that the refused commit would have had.
    pub(crate) fn placed(mut self, position: impl Fn(u64) -> Position) -> Self {
        for text in [Some(&mut self.message), self.expected.as_mut(), self.actual.as_mut()].into_iter().flatten() {
            *text = provisional::placed(text, &position);
        }
        self
    }

    /// `subject`: expected one thing, found another.
    pub fn conflict(subject: &str, expected: impl ToString, actual: impl ToString) -> Self {
        let (expected, actual) = (expected.to_string(), actual.to_string());
        Self {
            kind: RejectionKind::Conflict,
            message: format!("{subject}: expected {expected}, found {actual}"),
            expected: Some(expected),
            actual: Some(actual),
        }
    }
}

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command was refused; it changed nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// The kind's name: one of the rejections or of the store errors.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.kind.as_str(),
            Self::Store(error) => error.kind().as_str(),
        }
    }
}
