use std::{borrow::Cow, sync::Arc};

use crate::{PROJECTED, TableDef, view::index_order};

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
    tables: Arc<[TableNames]>,
}

/// The names that every row change of a table needs.
#[derive(Debug)]
struct TableNames {
    /// Up to and with the colon before a row's part.
    beginning: String,
    pk: String,
    /// In the order of the table's indexes.
    indexes: Vec<String>,
    /// The columns by which `pk` and the indexes are ordered.
    orders: Vec<Vec<usize>>,
    /// In the order of the table's multi-indexes.
    multi_indexes: Vec<String>,
    tombstones: String,
    buried_at: String,
    all: String,
}

/// The place of a table among [`PROJECTED`].
pub(super) fn place(table: &TableDef) -> usize {
    let same = |known: &&TableDef| known.name.as_ptr() == table.name.as_ptr();
    let at = PROJECTED.iter().position(same);
    // Every table is one of them.
    at.or_else(|| PROJECTED.iter().position(|known| known.name == table.name)).unwrap_or_default()
}

/// Escapes one user-chosen part of a key's name.
#[must_use]
pub fn escaped(part: &str) -> Cow<'_, str> {
    if !part.starts_with('_') && !part.contains(['%', ':']) {
        return Cow::Borrowed(part);
    }
    let mut name = String::with_capacity(part.len() + 8);
    for (at, c) in part.chars().enumerate() {
        match c {
            '%' => name.push_str("%25"),
            ':' => name.push_str("%3A"),
            '_' if at == 0 => name.push_str("%5F"),
            c => name.push(c),
        }
    }
    Cow::Owned(name)
}

impl Names {
    /// Names under `prefix`, which is written without its colon.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let tables = PROJECTED.iter().map(|table| {
            let beginning = format!("{prefix}:{}:", table.key_prefix);
            let index = |name: &str, unique: bool| {
                let short = name.strip_prefix("by_").unwrap_or(name);
                format!("{beginning}_by_{short}{}", if unique { "_sorted" } else { "" })
            };
            let declared = ["pk"].into_iter().chain(table.indexes.iter().map(|declared| declared.name));
            TableNames {
                orders: declared.map(|name| index_order(table, name).unwrap_or_default()).collect(),
                pk: index("pk", false),
                indexes: table.indexes.iter().map(|declared| index(declared.name, declared.unique)).collect(),
                multi_indexes: table.multi_indexes.iter().map(|multi| index(multi.name, false)).collect(),
                tombstones: format!("{prefix}:_tombstones:{}", table.name),
                buried_at: format!("{prefix}:_tombstones_at:{}", table.name),
                all: format!("{beginning}_index"),
                beginning,
            }
        });
        Self { prefix: prefix.into(), tables: tables.collect() }
    }

    fn table(&self, table: &TableDef) -> &TableNames {
        &self.tables[place(table)]
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A key of a table: its prefix, its short name and `rest`.
    #[must_use]
    pub fn of(&self, table: &TableDef, rest: &str) -> String {
        let beginning = &self.table(table).beginning;
        let mut name = String::with_capacity(beginning.len() + rest.len());
        name.push_str(beginning);
        name.push_str(rest);
        name
    }

    /// The sorted set of an index (`pk` is one too): every member is an entry in index order, all scores are 0.
    #[must_use]
    pub fn index(&self, table: &TableDef, index: &str) -> &str {
        let names = self.table(table);
        let one = table.indexes.iter().position(|declared| declared.name == index).map(|at| &names.indexes[at]);
        let multi = || table.multi_indexes.iter().position(|multi| multi.name == index);
        one.or_else(|| multi().map(|at| &names.multi_indexes[at])).unwrap_or(&names.pk)
    }

    /// The sorted sets of `pk` and of the indexes with one entry per row, and the columns by which they are ordered.
    pub(super) fn orders(&self, table: &TableDef) -> impl Iterator<Item = (&str, &[usize])> {
        let TableNames { pk, indexes, orders, .. } = self.table(table);
        [pk].into_iter().chain(indexes).map(String::as_str).zip(orders.iter().map(Vec::as_slice))
    }

    /// The set of a table's rows that other tools read.
    #[must_use]
    pub fn all(&self, table: &TableDef) -> &str {
        &self.table(table).all
    }

    /// The hash of a unique index: its value, and the key of the row that has it.
    #[must_use]
    pub fn unique(&self, table: &TableDef, index: &str) -> String {
        self.of(table, &format!("_{index}"))
    }

    /// The revs of deleted rows.
    #[must_use]
    pub fn tombstones(&self, table: &TableDef) -> &str {
        &self.table(table).tombstones
    }

    /// When short tombstones were made: a sorted set, scored by the instant.
    #[must_use]
    pub fn buried_at(&self, table: &TableDef) -> &str {
        &self.table(table).buried_at
    }

    /// The projection version that built each table: a hash.
    #[must_use]
    pub fn projections(&self) -> String {
        format!("{}:_projections", self.prefix)
    }
}

/// The end of a row's key name, which is also its member in the sets of row keys.
#[must_use]
pub fn suffix<'k>(table: &TableDef, key: &'k str) -> Cow<'k, str> {
    match (table.name, table.key_columns().count()) {
        // The kind of a scope is the program's, the rest of it a user's.
        ("leader_lease", _) => match key.split_once(':') {
            Some((kind, rest)) => format!("{}:{}", escaped(kind), escaped(rest)).into(),
            None => escaped(key),
        },
        (name, 2) => match crate::split_pair(key) {
            // A reserved name, which no node can have.
            Ok((index, node)) if name == "node_settings_version" && node == "_cluster" => {
                format!("{}:{node}", escaped(&index)).into()
            }
            Ok((a, b)) => format!("{}:{}", escaped(&a), escaped(&b)).into(),
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
        let name = |a, b| suffix(&node_settings_version::DEF, &crate::pair(a, b)).into_owned();
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
