use super::{Expected, Prints, Sums};
use crate::{
    RowChange, TableDef, Tombstones,
    redis::{
        names::Names,
        slot::{Place, What},
    },
};

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

    pub(super) fn place(&mut self, names: &Names, change: &RowChange, place: &Place<'_>, needed: bool) {
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

    pub(super) fn key(&mut self, table: &TableDef, key: &[u8]) {
        let print = self.prints().of_key(key);
        match self {
            Self::Expected(expected) => expected.expect(print, false),
            Self::Sums(sums) => sums.add(table, print),
        }
    }
}
