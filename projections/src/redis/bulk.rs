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

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
use crate::{PROJECTED, RowChange, TableDef, Tombstones};

/// Keys and elements asked for at once.
const PAGE_ELEMENTS: usize = 1_000;
/// Short tombstones of a table that [`Sums`] remember; with more of them it is for [`Expected`].
const SHORT_TOMBSTONES_MAX: usize = 250_000;

/// It must be met.
const NEEDED: u8 = 1;
/// It was met.
const MET: u8 = 2;

/// Makes fingerprints; a clone makes the same ones.
#[derive(Clone)]
pub struct Prints {
    state: RandomState,
}

impl Default for Prints {
    fn default() -> Self {
        Self { state: RandomState::new() }
    }
}

impl Prints {
    fn print(&self, what: What, key: &[u8], member: &[u8], value: Beside<'_>) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64((what as u64) << 60 | (key.len() as u64) << 30 | member.len() as u64);
        hasher.write(key);
        hasher.write(member);
        match value {
            Beside::None => {}
            Beside::Score(bits) => hasher.write_u64(bits),
            Beside::Bytes(bytes) => hasher.write(bytes),
        }
        hasher.finish()
    }

    fn of_place(&self, names: &Names, table: &TableDef, place: &Place<'_>) -> u64 {
        let value = match place.what {
            What::Field => Beside::Bytes(place.value),
            What::Scored => Beside::score(names, table, place.key, place.value),
            What::Member | What::Text | What::Expiry => Beside::None,
        };
        self.print(place.what, place.key, place.member, value)
    }

    fn of_key(&self, key: &[u8]) -> u64 {
        self.print(What::Text, key, &[], Beside::None)
    }

    fn of_element(&self, names: &Names, table: &TableDef, role: &Role, key: &str, element: &Element) -> u64 {
        let (member, value) = element;
        let (what, value) = match role.what() {
            What::Scored => (What::Scored, Beside::score(names, table, key.as_bytes(), value)),
            What::Field => (What::Field, Beside::Bytes(value)),
            what => (what, Beside::None),
        };
        self.print(what, key.as_bytes(), member, value)
    }
}

/// What one side has, table by table: all fingerprints added up. Two sides that are the same have the same sums.
///
/// Of short tombstones, which may be gone, those that are there must be among those that the log gives; and each has
/// two halves.
#[derive(Clone)]
pub struct Sums {
    prints: Prints,
    tables: [Sum; PROJECTED.len()],
}

/// Of one table.
#[derive(Clone, Default)]
struct Sum {
    count: u64,
    sum: u64,
    /// Short tombstones: those that are there, or those that the log gives.
    short: HashSet<u64, RandomState>,
    /// Of the keys in one half less those in the other.
    halves: u64,
    unequal: bool,
}

impl Sums {
    /// Of nothing.
    #[must_use]
    pub fn new(prints: Prints) -> Self {
        Self { prints, tables: Default::default() }
    }

    fn table(&mut self, table: &TableDef) -> &mut Sum {
        let at = PROJECTED.iter().position(|known| std::ptr::eq(*known, table) || known.name == table.name);
        // Every table is one of them.
        &mut self.tables[at.unwrap_or_default()]
    }

    fn add(&mut self, table: &TableDef, print: u64) {
        let sum = self.table(table);
        sum.count += 1;
        sum.sum = sum.sum.wrapping_add(print);
    }

    fn add_short(&mut self, table: &TableDef, print: u64) {
        let sum = self.table(table);
        sum.short.insert(print);
        sum.unequal |= sum.short.len() > SHORT_TOMBSTONES_MAX;
        if sum.unequal {
            sum.short.clear();
        }
    }

    /// Notes that the table may be wrong.
    pub fn set_unequal(&mut self, table: &TableDef) {
        self.table(table).unequal = true;
    }

    /// A row's own key was found.
    pub fn meet_key(&mut self, table: &TableDef, key: &[u8]) {
        self.add(table, self.prints.of_key(key));
    }

    /// An element of a helper was found.
    pub fn meet_element(&mut self, names: &Names, table: &TableDef, role: &Role, key: &str, element: &Element) {
        let short = table.tombstones == Tombstones::Short;
        if short && matches!(role, Role::Tombstones | Role::BuriedAt) {
            let half = self.prints.of_key(&element.0);
            let sum = self.table(table);
            if *role == Role::BuriedAt {
                sum.halves = sum.halves.wrapping_sub(half);
                return;
            }
            sum.halves = sum.halves.wrapping_add(half);
            let print = self.prints.of_element(names, table, role, key, element);
            self.add_short(table, print);
        } else {
            let print = self.prints.of_element(names, table, role, key, element);
            self.add(table, print);
        }
    }

    /// Whether a table is the same on both sides: `self` is what the log gives.
    #[must_use]
    pub fn is_same(&mut self, found: &mut Self, table: &TableDef) -> bool {
        let (given, found) = (self.table(table), found.table(table));
        !given.unequal
            && !found.unequal
            && (given.count, given.sum) == (found.count, found.sum)
            && found.halves == 0
            && found.short.iter().all(|print| given.short.contains(print))
    }
}

/// Where is noted what rows put into helpers.
pub enum Notes<'n> {
    /// To know whether anything is wrong.
    Sums(&'n mut Sums),
    /// To know what.
    Expected(&'n mut Expected),
}

impl Notes<'_> {
    fn prints(&self) -> &Prints {
        match self {
            Self::Sums(sums) => &sums.prints,
            Self::Expected(expected) => &expected.prints,
        }
    }

    fn place(&mut self, names: &Names, change: &RowChange, place: &Place<'_>, needed: bool) {
        let print = self.prints().of_place(names, change.table, place);
        match self {
            Self::Expected(expected) => expected.expect(print, needed),
            Self::Sums(_) if !needed => {}
            Self::Sums(sums) if change.after.is_none() && change.table.tombstones == Tombstones::Short => {
                if place.what == What::Field {
                    sums.add_short(change.table, print);
                }
            }
            Self::Sums(sums) => sums.add(change.table, print),
        }
    }

    fn key(&mut self, table: &TableDef, key: &[u8]) {
        let print = self.prints().of_key(key);
        match self {
            Self::Expected(expected) => expected.expect(print, false),
            Self::Sums(sums) => sums.add(table, print),
        }
    }
}

/// Fingerprints of what helpers must hold, and of the keys of rows. A run over a large store is done in several parts,
/// each of which knows the fingerprints of its part only.
pub struct Expected {
    prints: Prints,
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
    /// One of `parts` parts, counted from 0. All parts of a run make the same fingerprints: these say which part knows.
    #[must_use]
    pub fn of_part(prints: Prints, part: u64, parts: u64) -> Self {
        Self { prints, marks: HashMap::default(), part, parts: parts.max(1) }
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
        self.meet(self.prints.of_key(key))
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
        self.meet(self.prints.of_element(names, table, role, key, element))
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
            let marks = self.marks.get(&self.prints.of_place(&view.names, change.table, place));
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
    /// Of the rows that were asked for and not yet taken.
    asked: VecDeque<(Option<String>, Option<String>)>,
}

/// A walk over the keys under the prefix, or over the elements of one of them.
#[derive(Clone, Debug)]
pub struct KeyWalk {
    /// Whose elements; none for the keys themselves.
    pub of: Option<(&'static TableDef, Role)>,
    /// The key.
    pub name: String,
    at: At,
}

/// Where a walk stands.
#[derive(Clone, Debug)]
enum At {
    /// The cursor of SCAN or a relative.
    Cursor(u64),
    /// Behind a member of a sorted set whose scores are all 0: cheaper than ZSCAN for the server, and without scores.
    Member(Option<Vec<u8>>),
    End,
}

impl KeyWalk {
    /// Over the keys under the prefix.
    #[must_use]
    pub fn keys() -> Self {
        Self { of: None, name: String::new(), at: At::Cursor(0) }
    }

    /// Over the elements of a key; none for one that is looked at as a whole.
    #[must_use]
    pub fn elements(table: &'static TableDef, role: Role, name: String) -> Option<Self> {
        role.scan()?;
        let at = if matches!(role, Role::Index(_)) { At::Member(None) } else { At::Cursor(0) };
        Some(Self { of: Some((table, role)), name, at })
    }

    /// Whether there are further pages.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !matches!(self.at, At::End)
    }
}

/// A page of a walk.
pub enum Page {
    /// What was found, each with its value (empty where there is none).
    Elements(Vec<Element>),
    /// The key is of a wrong type; what the server says of it.
    WrongType(String),
}

impl RedisView {
    /// Opens a connection for looking through the key space.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn bulk(&self) -> Result<Bulk<'_>, StoreError> {
        Ok(Bulk { view: self, conn: self.link.connector().connect()?, packed: Vec::new(), asked: VecDeque::new() })
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
            self.asked.push_back((hash, outside));
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
        notes: &mut Notes<'_>,
        differs: &mut dyn FnMut(&RowChange),
    ) -> Result<(), StoreError> {
        for change in page {
            let (hash, outside) = self.asked.pop_front().unwrap_or_default();
            let mut answers = [const { None }; 4];
            let wanted = usize::from(hash.is_some()) * 2 + usize::from(outside.is_some()) * 2;
            for answer in answers.iter_mut().take(wanted) {
                *answer = Some(self.receive()?);
            }
            if !self.is_as_expected(change, now, hash.as_deref(), outside.as_deref(), &answers, notes) {
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
        notes: &mut Notes<'_>,
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
        let is_run = shape(change.table) == Shape::Run;
        // A dead row's own keys were not asked for.
        let unasked = (hash.is_none() && !is_run).then(|| row_hash(names, change.table, &change.key));
        for op in &ops {
            places(op, &mut |place| {
                let is_hash = Some(place.key) == hash_key;
                match place.what {
                    What::Field if is_hash => own.push((place.member, place.value)),
                    What::Expiry if is_hash => end = Some(place.value),
                    What::Expiry if Some(place.key) == outside_key => outside_end = Some(place.value),
                    What::Text if Some(place.key) == outside_key => outside_text = Some(place.value),
                    What::Field if unasked.as_ref().is_some_and(|key| place.key == key.as_bytes()) => {}
                    What::Expiry | What::Text => {}
                    _ => notes.place(names, change, &place, needed),
                }
            });
        }
        for key in [hash_key, outside_key].into_iter().flatten() {
            notes.key(change.table, key);
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

    /// Asks for the next page of a walk.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask(&mut self, walk: &KeyWalk) -> Result<(), StoreError> {
        self.packed.clear();
        let (key, count) = (walk.name.as_bytes(), PAGE_ELEMENTS.to_string());
        let count = count.as_bytes();
        let scan = walk.of.as_ref().and_then(|(_, role)| role.scan());
        match (&walk.at, scan) {
            (At::Cursor(cursor), Some((scan, _))) => {
                let cursor = cursor.to_string();
                pack(&mut self.packed, &[scan.as_bytes(), key, cursor.as_bytes(), b"COUNT", count]);
            }
            (At::Cursor(cursor), None) => {
                let (cursor, pattern) = (cursor.to_string(), pattern(self.view.names.prefix()));
                let words = [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", count];
                pack(&mut self.packed, &words);
            }
            (At::Member(behind), _) => {
                // Order by members is of no use if a score is another one.
                pack(&mut self.packed, &[b"ZCOUNT", key, b"-inf", b"(0"]);
                pack(&mut self.packed, &[b"ZCOUNT", key, b"(0", b"+inf"]);
                let from = behind.as_ref().map_or_else(|| b"-".to_vec(), |member| [b"(", &member[..]].concat());
                pack(&mut self.packed, &[b"ZRANGEBYLEX", key, &from, b"+", b"LIMIT", b"0", count]);
            }
            (At::End, _) => {}
        }
        self.send()
    }

    /// The next page of the walk, which was asked for.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn page(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        match walk.at {
            At::Member(_) => self.members(walk),
            At::Cursor(_) => self.scanned(walk),
            At::End => Ok(Page::Elements(Vec::new())),
        }
    }

    fn members(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        let others = [self.receive()?, self.receive()?];
        let answer = self.receive()?;
        let words = match self.whole(answer)? {
            Ok(words) => words,
            Err(why) => {
                walk.at = At::End;
                return Ok(Page::WrongType(why));
            }
        };
        if others.iter().any(|count| !matches!(count, Value::Int(0))) {
            walk.at = At::Cursor(0);
            return Ok(Page::Elements(Vec::new()));
        }
        let elements: Vec<Element> = bytes(words)?.into_iter().map(|member| (member, b"0".to_vec())).collect();
        walk.at = match elements.last().filter(|_| elements.len() == PAGE_ELEMENTS) {
            Some((last, _)) => At::Member(Some(last.clone())),
            None => At::End,
        };
        Ok(Page::Elements(elements))
    }

    fn scanned(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        let answer = self.receive()?;
        let mut parts = match self.whole(answer)? {
            Ok(parts) => parts,
            Err(why) => {
                walk.at = At::End;
                return Ok(Page::WrongType(why));
            }
        };
        let (Some(Value::Array(words)), Some(Value::BulkString(next)), true) =
            (parts.pop(), parts.pop(), parts.is_empty())
        else {
            return Err(strange());
        };
        let next = std::str::from_utf8(&next).ok().and_then(|next| next.parse().ok()).ok_or_else(strange)?;
        walk.at = if next == 0 { At::End } else { At::Cursor(next) };
        let mut words = bytes(words)?.into_iter();
        let mut elements = Vec::with_capacity(words.len());
        let pairs = walk.of.as_ref().and_then(|(_, role)| role.scan()).is_some_and(|(_, pairs)| pairs);
        while let Some(element) = words.next() {
            let value = if pairs { words.next().ok_or_else(strange)? } else { Vec::new() };
            elements.push((element, value));
        }
        Ok(Page::Elements(elements))
    }

    /// The parts of an answer, or what the server says of a key of a wrong type.
    fn whole(&self, answer: Value) -> Result<Result<Vec<Value>, String>, StoreError> {
        match answer {
            Value::Array(parts) => Ok(Ok(parts)),
            Value::ServerError(error) if error.code() == "WRONGTYPE" => {
                Ok(Err(error.details().unwrap_or("wrong type").to_owned()))
            }
            other => Err(other.extract_error().map_or_else(|error| self.failed(error), |_| strange())),
        }
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

fn strange() -> StoreError {
    StoreError::corrupt_store("the server answered what is no page of keys or elements")
}

fn bytes(words: Vec<Value>) -> Result<Vec<Vec<u8>>, StoreError> {
    let bytes = words.into_iter().map(|word| match word {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(strange()),
    });
    bytes.collect()
}

/// What MATCH must be for the keys under a prefix.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::new();
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push_str(":*");
    pattern
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
