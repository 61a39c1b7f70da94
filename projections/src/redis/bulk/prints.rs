use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use crate::{
    TableDef, Tombstones,
    redis::{
        Element, Role,
        names::Names,
        slot::{Place, What},
    },
};

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

    pub(super) fn of_place(&self, names: &Names, table: &TableDef, place: &Place<'_>) -> u64 {
        let value = match place.what {
            What::Field => Beside::Bytes(place.value),
            What::Scored => Beside::score(names, table, place.key, place.value),
            What::Member | What::Text | What::Expiry => Beside::None,
        };
        self.print(place.what, place.key, place.member, value)
    }

    pub(super) fn of_key(&self, key: &[u8]) -> u64 {
        self.print(What::Text, key, &[], Beside::None)
    }

    pub(super) fn of_element(
        &self,
        names: &Names,
        table: &TableDef,
        role: &Role,
        key: &str,
        element: &Element<'_>,
    ) -> u64 {
        let (member, value) = element;
        let (what, value) = match role.what() {
            What::Scored => (What::Scored, Beside::score(names, table, key.as_bytes(), value)),
            What::Field => (What::Field, Beside::Bytes(value)),
            what => (what, Beside::None),
        };
        self.print(what, key.as_bytes(), member, value)
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
