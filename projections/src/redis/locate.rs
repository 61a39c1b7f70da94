//! Which table, and which row, a key or a member found in the key space belongs to.

use super::{
    Names, Slot,
    names::{escaped, suffix},
    order,
    shape::{Shape, shape},
    slot::What,
};
use crate::{PROJECTED, TableDef};

/// What a key of a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Belongs to the row with this key alone.
    Row(String),
    /// The runs of one canary, in a sorted set.
    Runs(String),
    /// The revs of the runs of one canary.
    Revs(String),
    /// A set whose members are the ends of rows' key names.
    Set,
    /// The same, sorted.
    SortedSet,
    /// A set of second key parts, of rows whose first one is this.
    Seconds(String),
    /// The entries of an index.
    Index(&'static str),
    /// The values of a unique index.
    Unique,
    /// The revs of deleted rows.
    Tombstones,
    /// When they were deleted.
    BuriedAt,
    /// A key under the table's name that no row can have.
    Foreign,
}

/// The table and the role of a key; none for a key that is none of the tables'.
#[must_use]
pub fn locate(names: &Names, key: &str) -> Option<(&'static TableDef, Role)> {
    let rest = key.strip_prefix(names.prefix())?.strip_prefix(':')?;
    let (first, rest) = rest.split_once(':')?;
    let named = |rest: &str| PROJECTED.into_iter().find(|table| table.name == rest);
    match first {
        "_tombstones" => return named(rest).map(|table| (table, Role::Tombstones)),
        "_tombstones_at" => return named(rest).map(|table| (table, Role::BuriedAt)),
        _ => {}
    }
    let table = PROJECTED.into_iter().find(|table| table.key_prefix == first)?;
    let role = match rest.strip_prefix('_') {
        Some(helper) => helper_role(names, table, key, helper)?,
        None if shape(table) == Shape::Run => unescaped(rest).map_or(Role::Foreign, Role::Runs),
        None => row_key(table, rest).map_or(Role::Foreign, Role::Row),
    };
    Some((table, role))
}

/// The table whose row has a key of its own with this name; none for every other key, which [`locate`] is for. It looks at
/// the beginning only.
#[must_use]
pub fn row_key_of(names: &Names, key: &[u8]) -> Option<&'static TableDef> {
    let rest = key.strip_prefix(names.prefix().as_bytes())?.strip_prefix(b":")?;
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let (first, rest) = (&rest[..colon], &rest[colon + 1..]);
    let table = PROJECTED.into_iter().find(|table| table.key_prefix.as_bytes() == first)?;
    let is_row = match shape(table) {
        Shape::Run => false,
        _ => !rest.starts_with(b"_"),
    };
    is_row.then_some(table)
}

fn helper_role(names: &Names, table: &'static TableDef, key: &str, helper: &str) -> Option<Role> {
    let indexes = std::iter::once("pk").chain(table.indexes.iter().map(|index| index.name));
    let mut indexes = indexes.chain(table.multi_indexes.iter().map(|multi| multi.name));
    if let Some(index) = indexes.find(|index| names.index(table, index) == key) {
        return Some(Role::Index(index));
    }
    if table.indexes.iter().any(|index| index.unique && names.unique(table, index.name) == key) {
        return Some(Role::Unique);
    }
    let of_row = |rest| row_key(table, rest).map_or(Role::Foreign, Role::Row);
    let part = |rest, role: fn(String) -> Role| unescaped(rest).map_or(Role::Foreign, role);
    Some(match (helper.split_once(':'), helper, table.name) {
        (Some(("row", rest)), _, "leader_lease" | "cdc_cursors") => of_row(rest),
        (Some(("rev", rest)), _, "canary_runs") => part(rest, Role::Revs),
        (Some(("index", rest)), _, "cdc_cursors") | (Some(("nodes", rest)), _, "node_settings_version") => {
            part(rest, Role::Seconds)
        }
        (Some(("queue", _)), _, "jobs") => Role::SortedSet,
        (Some(("children", _)), _, "jobs") => Role::Set,
        (None, "lru" | "claims", _) => Role::SortedSet,
        (None, "index" | "queued", _) => Role::Set,
        // Somebody else's.
        _ => return None,
    })
}

impl Role {
    /// The row that an element of a key with this role belongs to, and its slot. `value` is what the element holds.
    #[must_use]
    pub fn owner(&self, table: &TableDef, key: &str, element: &[u8], value: &[u8]) -> (Option<String>, Slot) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let set = || key.to_owned();
        let field = || Slot::Field { hash: set(), field: element.into() };
        let scored = || Slot::Scored { set: set(), member: element.into() };
        let member = || Slot::Member { set: set(), member: element.into() };
        let known = |row: String| table.key_cells(&row).is_ok().then_some(row);
        match self {
            Self::Row(row) => (Some(row.clone()), field()),
            Self::Runs(canary) => {
                let score = text(value).and_then(|score| score.parse::<f64>().ok());
                let whole = score.filter(|score| score.fract() == 0.0).map(|score| format!("{score:.0}"));
                (whole.and_then(|at| known(crate::pair(canary, &at))), scored())
            }
            Self::Revs(canary) => (text(element).and_then(|at| known(crate::pair(canary, &at))), field()),
            Self::Set => (text(element).and_then(|end| row_key(table, &end)), member()),
            Self::SortedSet => (text(element).and_then(|end| row_key(table, &end)), scored()),
            Self::Seconds(first) => {
                let second = text(element).and_then(|part| unescaped(&part));
                (second.and_then(|second| known(crate::pair(first, &second))), member())
            }
            Self::Index(index) => (order::key(table, index, element).and_then(known), scored()),
            Self::Unique => (text(value).and_then(known), field()),
            Self::Tombstones => (text(element).and_then(known), field()),
            Self::BuriedAt => (text(element).and_then(known), scored()),
            Self::Foreign => (None, field()),
        }
    }

    /// What kind of slots the elements of a key with this role are.
    pub(super) const fn what(&self) -> What {
        match self {
            Self::Set | Self::Seconds(_) => What::Member,
            Self::Runs(_) | Self::SortedSet | Self::Index(_) | Self::BuriedAt => What::Scored,
            Self::Row(_) | Self::Foreign | Self::Revs(_) | Self::Unique | Self::Tombstones => What::Field,
        }
    }

    /// The command that pages through the key's elements, and whether it answers values with them; none for keys that are
    /// looked at as a whole.
    #[must_use]
    pub const fn scan(&self) -> Option<(&'static str, bool)> {
        match self {
            Self::Row(_) | Self::Foreign => None,
            Self::Set | Self::Seconds(_) => Some(("SSCAN", false)),
            Self::Runs(_) | Self::SortedSet | Self::Index(_) | Self::BuriedAt => Some(("ZSCAN", true)),
            Self::Revs(_) | Self::Unique | Self::Tombstones => Some(("HSCAN", true)),
        }
    }
}

/// The row key whose name ends so.
fn row_key(table: &TableDef, end: &str) -> Option<String> {
    let key = match (table.name, end.split_once(':')) {
        ("leader_lease", Some((kind, rest))) => format!("{}:{}", unescaped(kind)?, unescaped(rest)?),
        (_, Some((a, b))) if table.key_columns().count() == 2 => {
            // The reserved name of the settings of a whole index is written as it is.
            let b = if b == "_cluster" { b.to_owned() } else { unescaped(b)? };
            crate::pair(&unescaped(a)?, &b)
        }
        _ => unescaped(end)?,
    };
    (table.key_cells(&key).is_ok() && suffix(table, &key) == end).then_some(key)
}

/// What [`escaped`] made this of; none if it made it of nothing.
fn unescaped(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        text.push(match rest.get(at..at + 3)? {
            "%25" => '%',
            "%3A" => ':',
            "%5F" => '_',
            _ => return None,
        });
        rest = &rest[at + 3..];
    }
    text.push_str(rest);
    (escaped(&text) == part).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tables::{aliases, canary_runs, cdc_cursors, leader_lease, node_settings_version};
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_name_leads_back_to_its_row() {
        let names = Names::new("{a:b}");
        for (table, key) in [
            (&aliases::DEF, "_index".to_owned()),
            (&leader_lease::DEF, "alias_flip:a:b".into()),
            (&leader_lease::DEF, "ilm".into()),
            (&node_settings_version::DEF, crate::pair("a:b", "_cluster")),
            (&node_settings_version::DEF, crate::pair("_a", "%n/1")),
            (&cdc_cursors::DEF, crate::pair("sink", "_i:x")),
        ] {
            let name = names.of(table, &suffix(table, &key));
            let (found, role) = locate(&names, &name).unwrap();
            assert_eq!((found.name, role), (table.name, Role::Row(key)), "{name}");
        }
        assert_eq!(locate(&names, "{a:b}:aliases:x:y").unwrap().1, Role::Foreign);
        assert!(locate(&names, "{a:b}:log").is_none());
        assert!(locate(&names, "{a:b}:ratelimit:searchui:1.2.3.4").is_none());
        assert_eq!(locate(&names, "{a:b}:canary_runs:c%3A").unwrap().1, Role::Runs("c:".into()));
        let revs = Role::Revs("c".into()).owner(&canary_runs::DEF, "k", b"17", b"3").0;
        assert_eq!(revs.as_deref(), Some("c/17"));
    }

    proptest! {
        #[test]
        fn a_name_leads_back_to_its_key(key in "[_%:a-c/é]{1,8}") {
            prop_assert_eq!(row_key(&aliases::DEF, &suffix(&aliases::DEF, &key)), Some(key.clone()));
            prop_assert_eq!(row_key(&leader_lease::DEF, &suffix(&leader_lease::DEF, &key)), Some(key));
        }

        #[test]
        fn foreign_names_never_panic(key in ".{0,20}") {
            let _ = row_key(&cdc_cursors::DEF, &key);
            let _ = locate(&Names::new("p"), &format!("p:{key}"));
        }
    }
}
