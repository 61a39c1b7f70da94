use std::collections::HashSet;

use ahash::RandomState;

use super::Prints;
use crate::{
    PROJECTED, TableDef, Tombstones,
    redis::{
        Element, Role,
        names::{Names, place},
    },
};

/// Short tombstones of a table that [`Sums`] remember; with more of them it is for [`Expected`].
const SHORT_TOMBSTONES_MAX: usize = 250_000;
/// What one side has, table by table: all fingerprints added up. Two sides that are the same have the same sums.
///
/// Of short tombstones, which may be gone, those that are there must be among those that the log gives; and each has
/// two halves.
#[derive(Clone)]
pub struct Sums {
    pub(super) prints: Prints,
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

    pub(super) fn add(&mut self, table: &TableDef, print: u64) {
        let sum = self.table(table);
        sum.count += 1;
        sum.sum = sum.sum.wrapping_add(print);
    }

    pub(super) fn add_short(&mut self, table: &TableDef, print: u64) {
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
