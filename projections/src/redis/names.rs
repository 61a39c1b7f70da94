use std::fmt::Write;

use crate::TableDef;

/// The names of the tables' keys under one prefix.
///
/// ```text
/// <prefix>:<table's short name>:<row>          a row
/// <prefix>:<table's short name>:_<helper>      a helper: a set of row keys, an index
/// <prefix>:_tombstones:<table>                 the revs of deleted rows
/// ```
/// In the parts that users choose, `%` is written `%25`, `:` is written `%3A` and a leading `_` is written `%5F`: no row can
/// have the name of a helper, and `a:b` + `c` differs from `a` + `b:c`.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

/// Escapes one user-chosen part of a key's name.
#[must_use]
pub fn escaped(part: &str) -> String {
    let mut name = String::with_capacity(part.len());
    for (at, c) in part.chars().enumerate() {
        match c {
            '%' => name.push_str("%25"),
            ':' => name.push_str("%3A"),
            '_' if at == 0 => name.push_str("%5F"),
            c => name.push(c),
        }
    }
    name
}

impl Names {
    /// Names under `prefix`, which is written without its colon.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A key of a table: its prefix, its short name and `rest`.
    #[must_use]
    pub fn of(&self, table: &TableDef, rest: &str) -> String {
        let mut name = String::with_capacity(self.prefix.len() + table.key_prefix.len() + rest.len() + 2);
        // Writing to a string cannot fail.
        let _ = write!(name, "{}:{}:{rest}", self.prefix, table.key_prefix);
        name
    }

    /// The sorted set of an index (`pk` is one too): every member is an entry in index order, all scores are 0.
    #[must_use]
    pub fn index(&self, table: &TableDef, index: &str) -> String {
        let short = index.strip_prefix("by_").unwrap_or(index);
        let unique = table.indexes.iter().any(|declared| declared.unique && declared.name == index);
        self.of(table, &format!("_by_{short}{}", if unique { "_sorted" } else { "" }))
    }

    /// The hash of a unique index: its value, and the key of the row that has it.
    #[must_use]
    pub fn unique(&self, table: &TableDef, index: &str) -> String {
        self.of(table, &format!("_{index}"))
    }

    /// The revs of deleted rows.
    #[must_use]
    pub fn tombstones(&self, table: &TableDef) -> String {
        format!("{}:_tombstones:{}", self.prefix, table.name)
    }

    /// When short tombstones were made: a sorted set, scored by the instant.
    #[must_use]
    pub fn buried_at(&self, table: &TableDef) -> String {
        format!("{}:_tombstones_at:{}", self.prefix, table.name)
    }

    /// The projection version that built each table: a hash.
    #[must_use]
    pub fn projections(&self) -> String {
        format!("{}:_projections", self.prefix)
    }
}

/// The end of a row's key name, which is also its member in the sets of row keys.
#[must_use]
pub fn suffix(table: &TableDef, key: &str) -> String {
    match (table.name, table.key_columns().count()) {
        // The kind of a scope is the program's, the rest of it a user's.
        ("leader_lease", _) => match key.split_once(':') {
            Some((kind, rest)) => format!("{}:{}", escaped(kind), escaped(rest)),
            None => escaped(key),
        },
        (name, 2) => match crate::split_pair(key) {
            // A reserved name, which no node can have.
            Ok((index, node)) if name == "node_settings_version" && node == "_cluster" => {
                format!("{}:{node}", escaped(&index))
            }
            Ok((a, b)) => format!("{}:{}", escaped(&a), escaped(&b)),
            // No key of the table: no row can have this name.
            Err(_) => escaped(key),
        },
        _ => escaped(key),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tables::{aliases, leader_lease, node_settings_version};

    #[test]
    fn no_row_has_the_name_of_a_helper() {
        assert_eq!(suffix(&aliases::DEF, "_index"), "%5Findex");
        assert_eq!(suffix(&aliases::DEF, "a_b"), "a_b");
        assert_eq!(suffix(&leader_lease::DEF, "_row:x"), "%5Frow:x");
    }

    #[test]
    fn parts_are_kept_apart() {
        let name = |a, b| suffix(&node_settings_version::DEF, &crate::pair(a, b));
        assert_ne!(name("a:b", "c"), name("a", "b:c"));
        assert_eq!(name("a:b", "%3A"), "a%3Ab:%253A");
        assert_eq!(name("products", "_cluster"), "products:_cluster");
    }

    #[test]
    fn the_kind_of_a_scope_stays_readable() {
        assert_eq!(suffix(&leader_lease::DEF, "alias_flip:a:b"), "alias_flip:a%3Ab");
        assert_eq!(suffix(&leader_lease::DEF, "ilm"), "ilm");
    }
}
