use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The place of an event in the log: dense, 1 for the first event, 0 for "before everything".
///
/// Stored as a signed 64-bit integer where a backend has no other, so the largest legal position is `i64::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

/// From here on positions are provisional.
const PROVISIONAL: u64 = 1 << 62;
/// So many of them are.
const PROVISIONAL_COUNT: u64 = 1 << 32;

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The position after this one; the largest number stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; [`Position::ZERO`] stays where it is.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The `k`th place of a batch whose real places are given by its append: far beyond every real position, so that the
    /// two are never taken for each other.
    #[must_use]
    pub const fn provisional(k: u64) -> Self {
        Self(PROVISIONAL + k)
    }

    /// Which place of its batch this stands for; none for a real position.
    #[must_use]
    pub const fn as_provisional(self) -> Option<u64> {
        match self.0.checked_sub(PROVISIONAL) {
            Some(k) if k < PROVISIONAL_COUNT => Some(k),
            _ => None,
        }
    }

    /// As an INTEGER column holds it; a number beyond the largest legal position becomes that one.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        if self.0 > i64::MAX as u64 { i64::MAX } else { self.0 as i64 }
    }

    /// From an INTEGER column; negative numbers are no positions.
    #[must_use]
    pub fn from_i64(value: i64) -> Option<Self> {
        u64::try_from(value).ok().map(Self)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The unique id of a commit: a UUIDv7 minted by the store, or the `command_id` its caller gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub Uuid);

impl CommitId {
    /// Mints a UUIDv7.
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
