use std::borrow::Cow;

use tasklog_log::Position;

/// One argument of a Redis command, before positions are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg<'a> {
    /// Sent as it is.
    Bytes(Cow<'a, [u8]>),
    /// The decimal number of a place of the batch.
    Place(u64),
    /// An index entry with a place of the batch in it: what stands before its 19 digits, the place, and what follows.
    Entry(Vec<u8>, u64, Vec<u8>),
}

impl<'a> Arg<'a> {
    /// A text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        match text.into() {
            Cow::Borrowed(text) => Self::Bytes(Cow::Borrowed(text.as_bytes())),
            Cow::Owned(text) => Self::Bytes(Cow::Owned(text.into_bytes())),
        }
    }

    /// A position, real or provisional.
    #[must_use]
    pub fn position(position: Position) -> Self {
        match position.as_provisional() {
            Some(place) => Self::Place(place),
            None => Self::text(position.to_string()),
        }
    }
}

/// Whether a command only takes away. A value that moves from one row to another must be taken before it is given.
#[must_use]
pub fn takes(op: &Op<'_>) -> bool {
    matches!(op.first(), Some(Arg::Bytes(name))
        if matches!(&**name, b"HDEL" | b"ZREM" | b"SREM" | b"DEL" | b"ZREMRANGEBYSCORE"))
}

/// One Redis command that changes a key of the tables: its name, its key and the rest.
pub type Op<'a> = Vec<Arg<'a>>;
