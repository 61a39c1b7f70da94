use std::fmt;

use crate::{Checkpoint, Position};

/// What a caller can do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// The backend did not answer or was too busy; a retry may help.
    Unavailable,
    /// Committed, but the asked durability level was not reached.
    NotConfirmed,
    /// Checkpoint and log disagree.
    Diverged,
    /// A bad checksum, an unknown event or an impossible transition; a replay fails the same way.
    Corrupt,
    /// The store is newer than the program.
    SchemaAhead,
    /// This handle or this store takes no writes.
    ReadOnly,
}

impl StoreErrorKind {
    /// The name used on the command line and over the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::NotConfirmed => "not_confirmed",
            Self::Diverged => "diverged",
            Self::Corrupt => "corrupt",
            Self::SchemaAhead => "schema_ahead",
            Self::ReadOnly => "read_only",
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cause under an error of the store, kept whole.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error of the store, as opposed to a rejection of one command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The backend did not answer, was too busy, or could not write; a retry may help.
    #[error("unavailable: {doing}")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// Why it could not be.
        #[source]
        cause: Option<Cause>,
    },
    /// Committed, and readable, but the asked durability level was not reached: a failover may still lose it.
    #[error("not_confirmed: committed through position {position}, but {why}")]
    NotConfirmed {
        /// The last event that was committed.
        position: Position,
        /// What was asked for and what was reached.
        why: String,
    },
    /// A checkpoint that the log does not contain.
    #[error("diverged: checkpoint {checkpoint} and log {log} disagree")]
    Diverged {
        /// What the rows reflect.
        checkpoint: Box<Checkpoint>,
        /// What the log has at that place, or its head if that is lower.
        log: Box<Checkpoint>,
    },
    /// Stored bytes that cannot be right.
    #[error("corrupt: {}{why}", position.map(|p| format!("event {p}: ")).unwrap_or_default())]
    Corrupt {
        /// Where, if it is about one event.
        position: Option<Position>,
        /// What was wrong: expected and found.
        why: String,
    },
    /// The store was written by a newer program.
    #[error(
        "schema_ahead: the store is at {what} version {found}, this program knows {known}: upgrade the program or restore a backup"
    )]
    SchemaAhead {
        /// `schema`, or `projection` of a table, or an event type.
        what: String,
        /// In the store.
        found: u32,
        /// In the program.
        known: u32,
    },
    /// No writes here.
    #[error("read_only: {0}")]
    ReadOnly(String),
}

impl StoreError {
    /// `unavailable`, without a deeper cause.
    pub fn unavailable(doing: impl Into<String>) -> Self {
        Self::Unavailable { doing: doing.into(), cause: None }
    }

    /// `unavailable`, with its cause.
    pub fn unavailable_because(doing: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { doing: doing.into(), cause: Some(cause.into()) }
    }

    /// `corrupt` at one event.
    pub fn corrupt(position: Position, why: impl Into<String>) -> Self {
        Self::Corrupt { position: Some(position), why: why.into() }
    }

    /// `corrupt`, not about one event.
    pub fn corrupt_store(why: impl Into<String>) -> Self {
        Self::Corrupt { position: None, why: why.into() }
    }

    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Unavailable { .. } => StoreErrorKind::Unavailable,
            Self::NotConfirmed { .. } => StoreErrorKind::NotConfirmed,
            Self::Diverged { .. } => StoreErrorKind::Diverged,
            Self::Corrupt { .. } => StoreErrorKind::Corrupt,
            Self::SchemaAhead { .. } => StoreErrorKind::SchemaAhead,
            Self::ReadOnly(_) => StoreErrorKind::ReadOnly,
        }
    }

    /// The same error for another caller who waited for the same thing; its cause becomes text.
    #[must_use]
    pub fn share(&self) -> Self {
        match self {
            Self::Unavailable { doing, cause } => {
                Self::Unavailable { doing: doing.clone(), cause: cause.as_ref().map(|cause| in_full(&**cause).into()) }
            }
            Self::Diverged { checkpoint, log } => Self::Diverged { checkpoint: checkpoint.clone(), log: log.clone() },
            Self::NotConfirmed { position, why } => Self::NotConfirmed { position: *position, why: why.clone() },
            Self::Corrupt { position, why } => Self::Corrupt { position: *position, why: why.clone() },
            Self::SchemaAhead { what, found, known } => {
                Self::SchemaAhead { what: what.clone(), found: *found, known: *known }
            }
            Self::ReadOnly(why) => Self::ReadOnly(why.clone()),
        }
    }

    /// Whether the same call may succeed later without anything being repaired.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether a replay of the same log would fail in the same way.
    #[must_use]
    pub const fn is_deterministic(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::SchemaAhead { .. })
    }

    /// The error and its causes in one line.
    #[must_use]
    pub fn full(&self) -> String {
        in_full(self)
    }
}

fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        // Some errors end with what their cause says.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, ReadOnly};
        if matches!(
            error,
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
        ) {
            return Self::corrupt_store(error.to_string());
        }
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::corrupt_store(error.to_string()),
            Some(ReadOnly) => Self::ReadOnly(error.to_string()),
            _ => Self::unavailable_because("SQLite", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connecting: {0}")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn what_an_error_says_of_its_cause_is_not_said_twice() {
        let refused = || std::io::Error::other("connection refused");
        let told = StoreError::unavailable_because("asking", Outer(refused())).full();
        assert_eq!(told, "unavailable: asking: connecting: connection refused");
        assert_eq!(
            StoreError::unavailable_because("asking", refused()).full(),
            "unavailable: asking: connection refused"
        );
    }
}
