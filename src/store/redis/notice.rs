//! What an open notices of tables that are not whole, in two calls however large the store is.

use std::sync::LazyLock;

use tasklog_log::{
    StoreError,
    redis::{Link, Script},
};
use tasklog_projections::{
    PROJECTED, TableDef,
    redis::{Names, stale_tables},
};

/// Sizes of sorted sets and sets at one moment; -1 where something else is in the way.
const SIZES: &str = "
local sizes = {}
for i, key in ipairs(KEYS) do
  local size = redis.pcall(ARGV[i], key)
  sizes[i] = type(size) == 'table' and -1 or size
end
return sizes";

/// The tables that an older projection built, or nobody knows which; and those in which one index has more rows than
/// another. A table that is gone with all its keys, and what is wrong inside of rows, is left to a verification.
///
/// # Errors
/// `schema_ahead` if a newer projection built one; `unavailable`.
pub(super) fn broken_tables(link: &Link, names: &Names) -> Result<Vec<&'static TableDef>, StoreError> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SIZES));
    let mut broken = stale_tables(link, names)?;
    let (mut keys, mut commands, mut of) = (Vec::new(), Vec::new(), Vec::new());
    // What time removes is removed from one index after the other.
    for table in PROJECTED.into_iter().filter(|table| table.dies_at.is_none()) {
        let mut add = |command: &'static str, key: String| {
            keys.push(key);
            commands.push(command);
            of.push(table);
        };
        for index in std::iter::once("pk").chain(table.indexes.iter().map(|index| index.name)) {
            add("ZCARD", names.index(table, index).to_owned());
        }
        if tasklog_projections::redis::has_index_set(table) {
            add("SCARD", names.of(table, "_index"));
        }
    }
    let sizes: Vec<i64> = link.ask(|conn| SCRIPT.run(conn, &keys, &commands))?;
    for table in PROJECTED {
        let sizes: Vec<_> =
            of.iter().zip(&sizes).filter(|(of, _)| of.name == table.name).map(|(_, size)| *size).collect();
        let uneven = sizes.windows(2).any(|pair| pair[0] != pair[1]) && !sizes.contains(&-1);
        if uneven && !broken.iter().any(|known| known.name == table.name) {
            broken.push(table);
        }
    }
    Ok(broken)
}
