use std::collections::HashMap;

use ahash::RandomState;

use super::Prints;
use crate::{
    RowChange, TableDef, Tombstones,
    redis::{
        Element, RedisView, Role,
        names::Names,
        shape::Writer,
        slot::{Place, Slot},
        words::Words,
    },
};

/// It must be met.
const NEEDED: u8 = 1;
/// It was met.
const MET: u8 = 2;
/// Fingerprints of what helpers must hold, and of the keys of rows. A run over a large store is done in several parts,
/// each of which knows the fingerprints of its part only.
pub struct Expected {
    pub(super) prints: Prints,
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

    pub(super) fn expect(&mut self, print: u64, needed: bool) {
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
