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
};

use ::redis::RedisError;
use ahash::RandomState;
use tasklog_log::{
    Millis, StoreError,
    redis::{Part, Parts, Wire, to_store_error},
};

use super::{
    Element, RedisView, Role,
    names::{Names, place, suffix},
    shape::{Shape, Writer, row_hash, shape},
    slot::{Place, Slot, What},
    words::Words,
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

    fn of_element(&self, names: &Names, table: &TableDef, role: &Role, key: &str, element: &Element<'_>) -> u64 {
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
        &mut self.tables[place(table)]
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
    pub fn meet_element(&mut self, names: &Names, table: &TableDef, role: &Role, key: &str, element: &Element<'_>) {
        let short = table.tombstones == Tombstones::Short;
        if short && matches!(role, Role::Tombstones | Role::BuriedAt) {
            let half = self.prints.of_key(element.0);
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
        element: &Element<'_>,
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
        let mut words = Words::default();
        words.write(&Writer { names: &view.names, expiry: view.expiry }, change);
        words.places(&mut |place| {
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
    wire: Wire,
    packed: Vec<u8>,
    words: Words,
    /// Of the rows that were asked for and not yet taken.
    asked: VecDeque<OwnKeys>,
}

/// The keys that belong to one row alone: its hash, and the string beside it.
type OwnKeys = (Option<String>, Option<String>);

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
    /// What was found.
    Elements(Elements),
    /// The key is of a wrong type; what the server says of it.
    WrongType(String),
}

/// The elements of a page.
#[derive(Default)]
pub struct Elements {
    /// As it was received.
    answer: Vec<u8>,
    /// Parts before the first element.
    head: usize,
    values: Values,
}

/// What the values of elements are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Values {
    /// There are none.
    #[default]
    None,
    /// Scores that are 0.
    Zeros,
    /// They follow their elements.
    Follow,
}

impl Elements {
    fn of(answer: &[u8], head: usize, values: Values) -> Result<Self, StoreError> {
        let mut words = 0_usize;
        for part in Parts::of(answer).skip(head) {
            if !matches!(part, Part::Bytes(_)) {
                return Err(strange());
            }
            words += 1;
        }
        if values == Values::Follow && !words.is_multiple_of(2) {
            return Err(strange());
        }
        Ok(Self { answer: answer.to_vec(), head, values })
    }

    /// Each, with its value; an empty one where there is none.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let words = Parts::of(&self.answer).skip(self.head);
        let mut words = words.map_while(|part| if let Part::Bytes(bytes) = part { Some(bytes) } else { None });
        let values = self.values;
        std::iter::from_fn(move || {
            let element = words.next()?;
            Some(match values {
                Values::None => (element, &[][..]),
                Values::Zeros => (element, &b"0"[..]),
                Values::Follow => (element, words.next()?),
            })
        })
    }
}

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
    /// Asks for the rows that creations would make and that are alive at `now`.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask_rows(&mut self, page: &[RowChange], now: Millis) -> Result<(), StoreError> {
        self.packed.clear();
        for change in page {
            let (hash, outside) = own_keys(&self.view.names, change, now);
            if let Some(hash) = &hash {
                Wire::pack(&mut self.packed, &[b"HGETALL", hash.as_bytes()]);
                Wire::pack(&mut self.packed, &[b"PEXPIRETIME", hash.as_bytes()]);
            }
            if let Some(outside) = &outside {
                Wire::pack(&mut self.packed, &[b"GET", outside.as_bytes()]);
                Wire::pack(&mut self.packed, &[b"PEXPIRETIME", outside.as_bytes()]);
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
            let own = self.asked.pop_front().unwrap_or_default();
            if !self.is_as_expected(change, now, &own, notes)? {
                differs(change);
            }
        }
        Ok(())
    }

    fn is_as_expected(
        &mut self,
        change: &RowChange,
        now: Millis,
        (hash, outside): &OwnKeys,
        notes: &mut Notes<'_>,
    ) -> Result<bool, StoreError> {
        let Self { view, wire, words, .. } = self;
        let (names, expiry) = (&view.names, view.expiry);
        // What dead rows have left behind is housekeeping: known, but not needed. So is a short tombstone, of which
        // only a half is wrong.
        let needed = change.after.as_ref().is_none_or(|row| row.is_live(now));
        words.write(&Writer { names, expiry }, change);
        let mut own: Vec<(&[u8], &[u8])> = Vec::with_capacity(24);
        let (mut end, mut outside_text, mut outside_end) = (None, None, None);
        let (hash_key, outside_key) = (hash.as_deref().map(str::as_bytes), outside.as_deref().map(str::as_bytes));
        let is_run = shape(change.table) == Shape::Run;
        // A dead row's own keys were not asked for.
        let unasked = (hash.is_none() && !is_run).then(|| row_hash(names, change.table, &change.key));
        words.places(&mut |place| {
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
        for key in [hash_key, outside_key].into_iter().flatten() {
            notes.key(change.table, key);
        }
        let mut same = true;
        let mut look = |is_right: &dyn Fn(Parts<'_>) -> bool| -> Result<(), StoreError> {
            let answer = wire.answer().map_err(|error| failed(view, error))?;
            same &= is_right(Parts::of(answer));
            Ok(())
        };
        if hash.is_some() {
            look(&|found| same_fields(&own, found))?;
            look(&|found| same_end(end, found))?;
        }
        if outside.is_some() {
            look(&|mut found| outside_text.is_some() && found.next() == outside_text.map(Part::Bytes))?;
            look(&|found| same_end(outside_end, found))?;
        }
        Ok(same)
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
                Wire::pack(&mut self.packed, &[scan.as_bytes(), key, cursor.as_bytes(), b"COUNT", count]);
            }
            (At::Cursor(cursor), None) => {
                let (cursor, pattern) = (cursor.to_string(), pattern(self.view.names.prefix()));
                let words = [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", count];
                Wire::pack(&mut self.packed, &words);
            }
            (At::Member(behind), _) => {
                // Order by members is of no use if a score is another one.
                Wire::pack(&mut self.packed, &[b"ZCOUNT", key, b"-inf", b"(0"]);
                Wire::pack(&mut self.packed, &[b"ZCOUNT", key, b"(0", b"+inf"]);
                let from = behind.as_ref().map_or_else(|| b"-".to_vec(), |member| [b"(", &member[..]].concat());
                Wire::pack(&mut self.packed, &[b"ZRANGEBYLEX", key, &from, b"+", b"LIMIT", b"0", count]);
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
            At::End => Ok(Page::Elements(Elements::default())),
        }
    }

    fn members(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        let mut ordered = true;
        for _ in 0..2 {
            ordered &= Parts::of(self.receive()?).next() == Some(Part::Number(0));
        }
        let Self { view, wire, .. } = self;
        let answer = wire.answer().map_err(|error| failed(view, error))?;
        if let Some(why) = wrong_type(view, answer)? {
            walk.at = At::End;
            return Ok(Page::WrongType(why));
        }
        if !ordered {
            walk.at = At::Cursor(0);
            return Ok(Page::Elements(Elements::default()));
        }
        let Some(Part::List(count)) = Parts::of(answer).next() else { return Err(strange()) };
        let elements = Elements::of(answer, 1, Values::Zeros)?;
        walk.at = match elements.iter().last().filter(|_| count == PAGE_ELEMENTS) {
            Some((last, _)) => At::Member(Some(last.to_vec())),
            None => At::End,
        };
        Ok(Page::Elements(elements))
    }

    fn scanned(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        let Self { view, wire, .. } = self;
        let answer = wire.answer().map_err(|error| failed(view, error))?;
        if let Some(why) = wrong_type(view, answer)? {
            walk.at = At::End;
            return Ok(Page::WrongType(why));
        }
        let mut parts = Parts::of(answer);
        let (Some(Part::List(2)), Some(Part::Bytes(next)), Some(Part::List(_))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(strange());
        };
        let next = std::str::from_utf8(next).ok().and_then(|next| next.parse().ok()).ok_or_else(strange)?;
        walk.at = if next == 0 { At::End } else { At::Cursor(next) };
        let pairs = walk.of.as_ref().and_then(|(_, role)| role.scan()).is_some_and(|(_, pairs)| pairs);
        Ok(Page::Elements(Elements::of(answer, 3, if pairs { Values::Follow } else { Values::None })?))
    }

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

/// What the server says of a key of a wrong type, if it says so.
fn wrong_type(view: &RedisView, answer: &[u8]) -> Result<Option<String>, StoreError> {
    match Parts::of(answer).next() {
        Some(Part::Error(why)) => match why.strip_prefix(b"WRONGTYPE ") {
            Some(why) => Ok(Some(String::from_utf8_lossy(why).into_owned())),
            None => Err(failed(view, Wire::error(why))),
        },
        _ => Ok(None),
    }
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
fn same_fields(expected: &[(&[u8], &[u8])], mut found: Parts<'_>) -> bool {
    if found.next() != Some(Part::List(expected.len() * 2)) {
        return false;
    }
    let mut likely = 0;
    for _ in expected {
        let (Some(Part::Bytes(field)), Some(Part::Bytes(value))) = (found.next(), found.next()) else { return false };
        if expected.get(likely).is_none_or(|(name, _)| *name != field) {
            let Some(at) = expected.iter().position(|(name, _)| *name == field) else { return false };
            likely = at;
        }
        if expected[likely].1 != value {
            return false;
        }
        likely += 1;
    }
    true
}

/// Whether a key expires when it must; -1 says never.
fn same_end(expected: Option<&[u8]>, mut found: Parts<'_>) -> bool {
    let expected = expected.map_or(Some(-1), |text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    expected.is_some_and(|expected| found.next() == Some(Part::Number(expected)))
}
