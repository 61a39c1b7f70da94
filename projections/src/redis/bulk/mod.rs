//! Looks through a whole key space quickly, only to tell what may be wrong. Whoever asks then looks closely.
//!
//! Rows are read by plain commands, many in flight, and compared field by field. What rows put into helpers is not
//! compared one by one: helpers are read through once, page by page, and what is met there has the same fingerprints as
//! what the log gives. [`Sums`] adds them up, table by table, which tells whether anything is wrong; [`Expected`] keeps
//! them, which tells what.
//!
//! Nothing here is one moment's, so beside writers much looks wrong that is not. But what is wrong from beginning to end is
//! never taken for right:
//!
//! - A row is compared with what the log says at its rev. A writer that changes a row changes its rev.
//! - SCAN and its relatives, and walks along the members of a sorted set, answer every element that is there all the
//!   time. What the log does not give has no fingerprint, and a sum that it is in is another one. (Fingerprints have 64
//!   bits under a key drawn for each run: one stray or one sum goes unseen with odds of about the slots of a table to
//!   2^64.)
//! - A slot that is empty all the time is met by no page: its fingerprint stays unmet, and is missing from the sum.

mod expected;
mod notes;
mod page;
mod prints;
mod rows;
mod sums;
mod walk;

use std::collections::VecDeque;

use ::redis::RedisError;
use tasklog_log::{
    StoreError,
    redis::{Wire, to_store_error},
};

pub use self::{
    expected::{Expected, Found},
    notes::Notes,
    page::{Elements, Page},
    prints::Prints,
    sums::Sums,
    walk::KeyWalk,
};
use super::{RedisView, words::Words};

/// A connection of its own for looking through the key space.
pub struct Bulk<'v> {
    view: &'v RedisView,
    wire: Wire,
    packed: Vec<u8>,
    words: Words,
    /// Of the rows that were asked for and not yet taken.
    asked: VecDeque<OwnKeys>,
}

/// The keys that belong to one row alone: its hash, and the string beside it.
type OwnKeys = (Option<String>, Option<String>);

impl RedisView {
    /// Opens a connection for looking through the key space.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn bulk(&self) -> Result<Bulk<'_>, StoreError> {
        let wire = self.link.connector().wire()?;
        Ok(Bulk { view: self, wire, packed: Vec::new(), words: Words::default(), asked: VecDeque::new() })
    }
}

impl Bulk<'_> {
    fn send(&mut self) -> Result<(), StoreError> {
        if self.packed.is_empty() {
            return Ok(());
        }
        let sent = self.wire.send(&self.packed);
        sent.map_err(|error| failed(self.view, error))
    }

    fn receive(&mut self) -> Result<&[u8], StoreError> {
        let Self { view, wire, .. } = self;
        wire.answer().map_err(|error| failed(view, error))
    }
}

fn failed(view: &RedisView, error: RedisError) -> StoreError {
    to_store_error(&view.link.connector().describe(), error)
}

fn strange() -> StoreError {
    StoreError::corrupt_store("the server answered what is no page of keys or elements")
}
