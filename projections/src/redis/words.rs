//! The commands of one change in one buffer that is used again: see [`Words`].

use std::{borrow::Cow, io::Write as _};

use tasklog_log::Position;

use super::{
    Arg,
    op::Out,
    order,
    shape::Writer,
    slot::{Place, What},
};
use crate::{AnyRow, RowChange, TableDef};

/// The commands that create what the log says of an entity, for whoever wants to know what they leave in the key space.
/// Millions of rows pass through one of these.
#[derive(Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    /// Where each word ends: each command's key, and its arguments.
    ends: Vec<usize>,
    /// The name of each command, and its first word.
    ops: Vec<(&'static str, usize)>,
}

impl Words {
    /// Takes the commands of a change, and forgets those before.
    pub(super) fn write(&mut self, writer: &Writer<'_>, change: &RowChange) {
        self.bytes.clear();
        self.ends.clear();
        self.ops.clear();
        writer.write(change, None, self);
    }

    fn word(&self, at: usize) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[from..self.ends[at]]
    }

    fn end_word(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// What the commands leave in the key space.
    pub(super) fn places<'o>(&'o self, meet: &mut dyn FnMut(Place<'o>)) {
        let ends = self.ops.iter().skip(1).map(|(_, first)| *first).chain([self.ends.len()]);
        for ((name, first), end) in self.ops.iter().zip(ends) {
            let (key, mut args) = (self.word(*first), (first + 1..end).map(|at| self.word(at)));
            let whole = |what, value| Place { what, key, member: &[], value };
            match *name {
                "HSET" => {
                    while let (Some(member), Some(value)) = (args.next(), args.next()) {
                        meet(Place { what: What::Field, key, member, value });
                    }
                }
                "ZADD" => {
                    if let (Some(value), Some(member)) = (args.next(), args.next()) {
                        meet(Place { what: What::Scored, key, member, value });
                    }
                }
                "SADD" => args.for_each(|member| meet(Place { what: What::Member, key, member, value: b"1" })),
                "SET" => {
                    if let Some(value) = args.next() {
                        meet(whole(What::Text, value));
                    }
                    // What it is that is said with this instant.
                    if let Some(at) = args.nth(1) {
                        meet(whole(What::Expiry, at));
                    }
                }
                "PEXPIREAT" => args.for_each(|at| meet(whole(What::Expiry, at))),
                // What removes leaves nothing.
                _ => {}
            }
        }
    }
}

impl<'c> Out<'c> for Words {
    fn begin(&mut self, name: &'static str, key: impl Into<Cow<'c, str>>) {
        self.ops.push((name, self.ends.len()));
        self.bytes.extend_from_slice(key.into().as_bytes());
        self.end_word();
    }

    fn arg(&mut self, arg: Arg<'c>) {
        // Positions that are written here are real: there are no other arguments.
        if let Arg::Bytes(bytes) = arg {
            self.bytes.extend_from_slice(&bytes);
        }
        self.end_word();
    }

    fn number(&mut self, number: i64) {
        // Writing to a vector cannot fail.
        let _ = write!(self.bytes, "{number}");
        self.end_word();
    }

    fn position(&mut self, position: Position) {
        let _ = write!(self.bytes, "{position}");
        self.end_word();
    }

    fn entry(&mut self, _: &TableDef, row: &AnyRow, order: &[usize]) {
        order.iter().for_each(|at| order::put(&row.cell(*at), &mut self.bytes));
        self.end_word();
    }
}
