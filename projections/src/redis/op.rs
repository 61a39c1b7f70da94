use std::borrow::Cow;

use tasklog_log::Position;

use super::shape::entry;
use crate::{AnyRow, TableDef};

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

/// Where a writer puts its commands, word by word.
pub(super) trait Out<'c> {
    /// Begins a command.
    fn begin(&mut self, name: &'static str, key: impl Into<Cow<'c, str>>);
    /// The next argument of the command that was begun last.
    fn arg(&mut self, arg: Arg<'c>);

    fn number(&mut self, number: i64) {
        self.arg(Arg::text(number.to_string()));
    }

    fn position(&mut self, position: Position) {
        self.arg(Arg::position(position));
    }

    /// A row's entry in an index.
    fn entry(&mut self, table: &TableDef, row: &AnyRow, order: &[usize]) {
        self.arg(entry(table, row, order));
    }

    /// A whole command.
    fn op(&mut self, name: &'static str, key: impl Into<Cow<'c, str>>, rest: impl IntoIterator<Item = Arg<'c>>) {
        self.begin(name, key);
        rest.into_iter().for_each(|arg| self.arg(arg));
    }
}

impl<'c> Out<'c> for Vec<Op<'c>> {
    fn begin(&mut self, name: &'static str, key: impl Into<Cow<'c, str>>) {
        let mut op = Vec::with_capacity(4);
        op.extend([Arg::text(name), Arg::text(key)]);
        self.push(op);
    }

    fn arg(&mut self, arg: Arg<'c>) {
        // One was begun.
        if let Some(op) = self.last_mut() {
            op.push(arg);
        }
    }
}
