use std::collections::BTreeMap;

use tasklog_log::{Millis, Position};

use super::{
    Expiry, Names,
    names::suffix,
    shape::{Shape, Writer, rev_place, row_hash, shape},
    words::Words,
};
use crate::{Held, RowChange, TableDef, Tombstones};

/// A place of the key space that can hold one value: what rows put there is compared slot by slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// A field of a hash.
    Field {
        /// The key.
        hash: String,
        /// The field.
        field: Vec<u8>,
    },
    /// A member of a sorted set; its value is the score.
    Scored {
        /// The key.
        set: String,
        /// The member.
        member: Vec<u8>,
    },
    /// A member of a set; its value is `1`.
    Member {
        /// The key.
        set: String,
        /// The member.
        member: Vec<u8>,
    },
    /// A string.
    Text {
        /// The key.
        key: String,
    },
    /// The instant at which a key expires, in ms; none for a key that stays.
    Expiry {
        /// The key.
        key: String,
    },
}

impl Slot {
    /// The key it belongs to.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Field { hash: key, .. }
            | Self::Scored { set: key, .. }
            | Self::Member { set: key, .. }
            | Self::Text { key }
            | Self::Expiry { key } => key,
        }
    }

    /// The type that the key must have, as `TYPE` answers it; none if any may expire.
    #[must_use]
    pub const fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Field { .. } => Some("hash"),
            Self::Scored { .. } => Some("zset"),
            Self::Member { .. } => Some("set"),
            Self::Text { .. } => Some("string"),
            Self::Expiry { .. } => None,
        }
    }
}

/// What slots hold.
pub type Slots = BTreeMap<Slot, Vec<u8>>;

/// What the log says of one entity.
#[derive(Clone, Debug)]
pub enum Said {
    /// There is a row, dead or alive.
    Row(Held),
    /// It was deleted, by the event at this position.
    Deleted(Position),
    /// Nothing, or nothing any more.
    Nothing,
}

impl Said {
    /// The position of the entity's last event.
    #[must_use]
    pub fn rev(&self) -> Position {
        match self {
            Self::Row(held) => held.rev,
            Self::Deleted(rev) => *rev,
            Self::Nothing => Position::ZERO,
        }
    }

    /// The row.
    #[must_use]
    pub fn row(&self) -> Option<&Held> {
        match self {
            Self::Row(held) => Some(held),
            _ => None,
        }
    }
}

/// The change that makes an entity what the log says of it, where there was nothing before.
#[must_use]
pub fn creation(table: &'static TableDef, key: &str, said: &Said) -> RowChange {
    RowChange {
        table,
        key: key.into(),
        before: None,
        buried: false,
        after: said.row().map(|held| held.row.clone()),
        rev: said.rev(),
        at: 0,
    }
}

/// What one entity puts into the key space: what the commands that create it would leave there. So there is one place
/// only that knows the shapes, the writer.
#[must_use]
pub fn slots(names: &Names, expiry: Expiry, table: &'static TableDef, key: &str, said: &Said) -> Slots {
    if matches!(said, Said::Nothing) {
        return Slots::new();
    }
    let change = creation(table, key, said);
    let mut slots = Slots::new();
    let mut words = Words::default();
    words.write(&Writer { names, expiry }, &change);
    words.places(&mut |place| {
        slots.insert(place.slot(), place.value.to_vec());
    });
    slots
}

/// What kind of slot a [`Place`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Field,
    Scored,
    Member,
    Text,
    Expiry,
}

/// A slot and its value, as they stand in a command.
#[derive(Clone, Copy)]
pub(super) struct Place<'o> {
    pub(super) what: What,
    pub(super) key: &'o [u8],
    /// Empty for a slot that is a whole key.
    pub(super) member: &'o [u8],
    pub(super) value: &'o [u8],
}

impl Place<'_> {
    pub(super) fn slot(&self) -> Slot {
        let key = String::from_utf8_lossy(self.key).into_owned();
        let member = self.member.to_vec();
        match self.what {
            What::Field => Slot::Field { hash: key, field: member },
            What::Scored => Slot::Scored { set: key, member },
            What::Member => Slot::Member { set: key, member },
            What::Text => Slot::Text { key },
            What::Expiry => Slot::Expiry { key },
        }
    }
}

/// The keys that belong to one entity alone, and where its rev and its tombstone stand.
#[derive(Clone, Debug)]
pub struct Own {
    /// The hash that holds the row; none for a row that lies in a set.
    pub hash: Option<String>,
    /// The string beside the hash.
    pub outside: Option<String>,
    /// Where the row's rev stands.
    pub rev: Slot,
    /// Where the rev of its tombstone stands.
    pub tombstone: Slot,
    /// Where short tombstones note when they were made.
    pub buried_at: Option<Slot>,
}

impl Own {
    /// Of one entity.
    #[must_use]
    pub fn of(names: &Names, table: &TableDef, key: &str) -> Self {
        let (hash, field) = rev_place(names, table, key);
        let shape = shape(table);
        Self {
            hash: (shape != Shape::Run).then(|| row_hash(names, table, key)),
            outside: matches!(shape, Shape::Lease | Shape::Cursor).then(|| names.of(table, &suffix(table, key))),
            rev: Slot::Field { hash, field: field.into_bytes() },
            tombstone: Slot::Field { hash: names.tombstones(table).into(), field: key.into() },
            buried_at: (table.tombstones == Tombstones::Short)
                .then(|| Slot::Scored { set: names.buried_at(table).into(), member: key.into() }),
        }
    }

    /// The instant after which the string beside the row is gone although the row is there.
    #[must_use]
    pub fn outside_ends(table: &TableDef, held: &Held) -> Option<Millis> {
        match (shape(table), table.column("expires_at").map(|at| held.row.cell(at))) {
            (Shape::Lease, Some(crate::Cell::Integer(end))) => Some(end),
            _ => None,
        }
    }

    /// Whether the string beside the row holds a column of it, and which.
    #[must_use]
    pub fn outside_column(table: &TableDef) -> Option<&'static str> {
        (shape(table) == Shape::Cursor).then(|| table.columns[2].name)
    }
}
