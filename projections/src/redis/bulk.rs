//! Looks through a whole key space quickly, only to tell what may be wrong. Whoever asks then looks closely.
//!
//! Rows are read by plain commands, many in flight, and compared field by field. What rows put into helpers is not
//! compared one by one: its fingerprints are kept in [`Expected`], and helpers are read through once, page by page.
//! Nothing here is one moment's, so beside writers much looks wrong that is not. But what is wrong from beginning to end is
//! never taken for right:
//!
//! - A row is compared with what the log says at its rev. A writer that changes a row changes its rev.
//! - SCAN and its relatives answer every element that is there all the time. What the log does not give has no
//!   fingerprint. (Fingerprints have 64 bits under a key drawn for each run: of n strays one goes unseen with odds of
//!   n × slots / 2^64.)
//! - A slot that is empty all the time is met by no page, and its fingerprint stays unmet.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    io::Write as _,
};

use ::redis::{Connection, Value};
use ahash::RandomState;
use tasklog_log::{Millis, StoreError, redis::to_store_error};

use super::{
    Element, RedisView, Role,
    names::{Names, suffix},
    shape::{Shape, Writer, row_hash, shape},
    slot::{Place, Slot, What, places},
};
use crate::{RowChange, TableDef, Tombstones};

/// Keys and elements asked for at once.
const PAGE_ELEMENTS: usize = 1_000;

/// It must be met.
const NEEDED: u8 = 1;
/// It was met.
const MET: u8 = 2;

/// Fingerprints of what helpers must hold, and of the keys of rows. A run over a large store is done in several parts,
/// each of which knows the fingerprints of its part only.
pub struct Expected {
    state: RandomState,
    marks: HashMap<u64, u8, RandomState>,
    part: u64,
    parts: u64,
}

/// What is known of something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The log gives it.
    Known,
    /// The log does not give it, or not any more.
    Unknown,
    /// Another part of the run knows.
    Elsewhere,
}

impl Expected {
    /// One of `parts` parts, counted from 0.
    #[must_use]
    pub fn of_part(part: u64, parts: u64) -> Self {
        let marks = HashMap::default();
        Self { state: RandomState::new(), marks, part, parts: parts.max(1) }
    }

    fn print(&self, what: What, key: &[u8], member: &[u8], value: Beside<'_>) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u8(what as u8);
        hasher.write_usize(key.len());
        hasher.write(key);
        hasher.write_usize(member.len());
        hasher.write(member);
        match value {
            Beside::None => {}
            Beside::Score(bits) => hasher.write_u64(bits),
            Beside::Bytes(bytes) => hasher.write(bytes),
        }
        hasher.finish()
    }

    fn print_of(&self, names: &Names, table: &TableDef, place: &Place<'_>) -> u64 {
        let value = match place.what {
            What::Field => Beside::Bytes(place.value),
            What::Scored => Beside::score(names, table, place.key, place.value),
            What::Member | What::Text | What::Expiry => Beside::None,
        };
        self.print(place.what, place.key, place.member, value)
    }

    fn is_here(&self, print: u64) -> bool {
        self.parts == 1 || print % self.parts == self.part
    }

    fn expect(&mut self, print: u64, needed: bool) {
        if self.is_here(print) {
            *self.marks.entry(print).or_default() |= u8::from(needed) * NEEDED;
        }
    }

    fn meet(&mut self, print: u64) -> Found {
        if let Some(marks) = self.marks.get_mut(&print) {
            *marks |= MET;
            return Found::Known;
        }
        if self.is_here(print) { Found::Unknown } else { Found::Elsewhere }
    }

    /// A key was found: whether it is that of a row.
    pub fn meet_key(&mut self, key: &[u8]) -> Found {
        self.meet(self.print(What::Text, key, &[], Beside::None))
    }

    /// An element of a helper was found.
    pub fn meet_element(
        &mut self,
        names: &Names,
        table: &TableDef,
        role: &Role,
        key: &str,
        element: &Element,
    ) -> Found {
        let (member, value) = element;
        let (what, value) = match role.what() {
            What::Scored => (What::Scored, Beside::score(names, table, key.as_bytes(), value)),
            What::Field => (What::Field, Beside::Bytes(value)),
            what => (what, Beside::None),
        };
        self.meet(self.print(what, key.as_bytes(), member, value))
    }

    /// Whether anything was not met that must be, or that may have to be.
    #[must_use]
    pub fn any_missing(&self) -> bool {
        self.marks.values().any(|marks| marks & (NEEDED | MET) == NEEDED)
    }

    /// The slots of a change that must be there and were not met.
    #[must_use]
    pub fn missing(&self, view: &RedisView, change: &RowChange) -> Vec<Slot> {
        let unmet = |place: &Place<'_>| {
            let marks = self.marks.get(&self.print_of(&view.names, change.table, place));
            marks.is_some_and(|marks| marks & (NEEDED | MET) == NEEDED)
        };
        let mut missing = Vec::new();
        let mut all = 0;
        view.places(change, &mut |place| {
            all += 1;
            if unmet(&place) {
                missing.push(place.slot());
            }
        });
        // A short tombstone that is gone is not missed: only a half of one is.
        let short = change.after.is_none() && change.table.tombstones == Tombstones::Short;
        if short && missing.len() == all && self.parts == 1 {
            missing.clear();
        }
        missing
    }
}

/// What beside its place belongs to a fingerprint.
enum Beside<'v> {
    None,
    Score(u64),
    Bytes(&'v [u8]),
}

impl Beside<'_> {
    /// Scores are numbers, and when a tombstone was made is not compared.
    fn score(names: &Names, table: &TableDef, key: &[u8], score: &[u8]) -> Self {
        if score == b"0" || (table.tombstones == Tombstones::Short && key == names.buried_at(table).as_bytes()) {
            return Self::Score(0);
        }
        let number = std::str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
        // Both zeros are one number.
        Self::Score(number.map_or(u64::MAX, |number| (number + 0.0).to_bits()))
    }
}

/// A connection of its own for looking through the key space.
pub struct Bulk<'v> {
    view: &'v RedisView,
    conn: Connection,
    packed: Vec<u8>,
}

/// A page of a walk.
pub enum Page {
    /// The cursor of the next one, 0 after the last, and what was found, each with its value (empty where there is none).
    Elements(u64, Vec<Element>),
    /// The key is of a wrong type; what the server says of it.
    WrongType(String),
}

impl RedisView {
    /// Opens a connection for looking through the key space.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn bulk(&self) -> Result<Bulk<'_>, StoreError> {
        Ok(Bulk { view: self, conn: self.link.connector().connect()?, packed: Vec::new() })
    }

    fn places(&self, change: &RowChange, meet: &mut dyn FnMut(Place<'_>)) {
        let writer = Writer { names: &self.names, expiry: self.expiry };
        for op in writer.ops(change, None) {
            places(&op, meet);
        }
    }
}

impl Bulk<'_> {
    /// Asks for the rows that creations would make and that are alive at `now`.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask_rows(&mut self, page: &[RowChange], now: Millis) -> Result<(), StoreError> {
        self.packed.clear();
        for change in page {
            let (hash, outside) = own_keys(&self.view.names, change, now);
            if let Some(hash) = &hash {
                pack(&mut self.packed, &[b"HGETALL", hash.as_bytes()]);
                pack(&mut self.packed, &[b"PEXPIRETIME", hash.as_bytes()]);
            }
            if let Some(outside) = &outside {
                pack(&mut self.packed, &[b"GET", outside.as_bytes()]);
                pack(&mut self.packed, &[b"PEXPIRETIME", outside.as_bytes()]);
            }
        }
        self.send()
    }

    /// Takes the answers to [`Bulk::ask_rows`] of the same page, notes what the changes put into helpers, and tells which
    /// rows may be wrong.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn rows(
        &mut self,
        page: &[RowChange],
        now: Millis,
        expected: &mut Expected,
        differs: &mut dyn FnMut(&RowChange),
    ) -> Result<(), StoreError> {
        for change in page {
            let (hash, outside) = own_keys(&self.view.names, change, now);
            let mut answers = [const { None }; 4];
            let wanted = usize::from(hash.is_some()) * 2 + usize::from(outside.is_some()) * 2;
            for answer in answers.iter_mut().take(wanted) {
                *answer = Some(self.receive()?);
            }
            if !self.is_as_expected(change, now, hash.as_deref(), outside.as_deref(), &answers, expected) {
                differs(change);
            }
        }
        Ok(())
    }

    fn is_as_expected(
        &self,
        change: &RowChange,
        now: Millis,
        hash: Option<&str>,
        outside: Option<&str>,
        [fields, ends, text, text_ends]: &[Option<Value>; 4],
        expected: &mut Expected,
    ) -> bool {
        let names = &self.view.names;
        // What dead rows have left behind is housekeeping: known, but not needed. So is a short tombstone, of which
        // only a half is wrong.
        let needed = change.after.as_ref().is_none_or(|row| row.is_live(now));
        let writer = Writer { names, expiry: self.view.expiry };
        let ops = writer.ops(change, None);
        let mut own: Vec<(&[u8], &[u8])> = Vec::with_capacity(24);
        let (mut end, mut outside_text, mut outside_end) = (None, None, None);
        let (hash_key, outside_key) = (hash.map(str::as_bytes), outside.map(str::as_bytes));
        let row_key = row_hash(names, change.table, &change.key);
        let is_run = shape(change.table) == Shape::Run;
        for op in &ops {
            places(op, &mut |place| {
                let is_hash = Some(place.key) == hash_key;
                match place.what {
                    What::Field if is_hash => own.push((place.member, place.value)),
                    What::Expiry if is_hash => end = Some(place.value),
                    What::Expiry if Some(place.key) == outside_key => outside_end = Some(place.value),
                    What::Text if Some(place.key) == outside_key => outside_text = Some(place.value),
                    // A dead row's own keys were not asked for.
                    What::Field if !is_run && place.key == row_key.as_bytes() => {}
                    What::Expiry | What::Text => {}
                    _ => expected.expect(expected.print_of(names, change.table, &place), needed),
                }
            });
        }
        for key in [hash_key, outside_key].into_iter().flatten() {
            expected.expect(expected.print(What::Text, key, &[], Beside::None), false);
        }
        let same = |answer: &Option<Value>, text: Option<&[u8]>| match (answer, text) {
            (Some(Value::BulkString(found)), Some(text)) => found == text,
            (None, None) => true,
            _ => false,
        };
        fields.as_ref().is_none_or(|found| same_fields(&own, found))
            && ends.as_ref().is_none_or(|found| same_end(end, found))
            && same(text, outside_text)
            && text_ends.as_ref().is_none_or(|found| same_end(outside_end, found))
    }

    /// Asks for a page of the keys under the prefix.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask_keys(&mut self, cursor: u64) -> Result<(), StoreError> {
        let mut pattern = String::new();
        for c in self.view.names.prefix().chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push_str(":*");
        let (cursor, count) = (cursor.to_string(), PAGE_ELEMENTS.to_string());
        self.packed.clear();
        let words: [&[u8]; 6] = [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", count.as_bytes()];
        pack(&mut self.packed, &words);
        self.send()
    }

    /// Asks for a page of a helper's elements.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask_elements(&mut self, (scan, _): (&str, bool), key: &str, cursor: u64) -> Result<(), StoreError> {
        let (cursor, count) = (cursor.to_string(), PAGE_ELEMENTS.to_string());
        self.packed.clear();
        let words: [&[u8]; 5] = [scan.as_bytes(), key.as_bytes(), cursor.as_bytes(), b"COUNT", count.as_bytes()];
        pack(&mut self.packed, &words);
        self.send()
    }

    /// The next page that was asked for; `pairs` if elements come with values.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn page(&mut self, pairs: bool) -> Result<Page, StoreError> {
        let answer = match self.receive()? {
            Value::ServerError(error) if error.code() == "WRONGTYPE" => {
                return Ok(Page::WrongType(error.details().unwrap_or("wrong type").to_owned()));
            }
            answer => answer.extract_error().map_err(|error| self.failed(error))?,
        };
        let strange = |what: &Value| StoreError::corrupt_store(format!("a page of keys or elements: {what:?}"));
        let mut parts = match answer {
            Value::Array(parts) if parts.len() == 2 => parts,
            other => return Err(strange(&other)),
        };
        let (Some(Value::Array(words)), Some(Value::BulkString(next))) = (parts.pop(), parts.pop()) else {
            return Err(strange(&Value::Nil));
        };
        let next = std::str::from_utf8(&next).ok().and_then(|next| next.parse().ok());
        let next = next.ok_or_else(|| strange(&Value::Nil))?;
        let mut elements = Vec::with_capacity(words.len());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let value = if pairs { words.next() } else { None };
            match (word, value) {
                (Value::BulkString(element), Some(Value::BulkString(value))) => elements.push((element, value)),
                (Value::BulkString(element), None) => elements.push((element, Vec::new())),
                (other, _) => return Err(strange(&other)),
            }
        }
        Ok(Page::Elements(next, elements))
    }

    fn send(&mut self) -> Result<(), StoreError> {
        if self.packed.is_empty() {
            return Ok(());
        }
        let sent = self.conn.send_packed_command(&self.packed);
        sent.map_err(|error| self.failed(error))
    }

    fn receive(&mut self) -> Result<Value, StoreError> {
        let received = self.conn.recv_response();
        received.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ::redis::RedisError) -> StoreError {
        to_store_error(&self.view.link.connector().describe(), error)
    }
}

/// The keys that belong to the row of a creation alone; none if it has none, or is dead.
fn own_keys(names: &Names, change: &RowChange, now: Millis) -> (Option<String>, Option<String>) {
    let RowChange { table, key, after, .. } = change;
    if !after.as_ref().is_some_and(|row| row.is_live(now)) {
        return (None, None);
    }
    match shape(table) {
        Shape::Run => (None, None),
        Shape::Hash => (Some(row_hash(names, table, key)), None),
        Shape::Lease | Shape::Cursor => (Some(row_hash(names, table, key)), Some(names.of(table, &suffix(table, key)))),
    }
}

/// Whether a hash has exactly these fields. They are mostly in the order in which they were written.
fn same_fields(expected: &[(&[u8], &[u8])], found: &Value) -> bool {
    let Value::Array(words) = found else { return false };
    if words.len() != expected.len() * 2 {
        return false;
    }
    words.chunks_exact(2).zip(expected).all(|(pair, likely)| {
        let [Value::BulkString(field), Value::BulkString(value)] = pair else { return false };
        let likely = if likely.0 == field { Some(likely) } else { expected.iter().find(|(name, _)| name == field) };
        likely.is_some_and(|(_, expected)| expected == value)
    })
}

/// Whether a key expires when it must; -1 says never.
fn same_end(expected: Option<&[u8]>, found: &Value) -> bool {
    let expected = expected.map_or(Some(-1), |text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    matches!(found, Value::Int(at) if Some(*at) == expected)
}

fn pack(out: &mut Vec<u8>, words: &[&[u8]]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(out, "${}\r\n", word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
