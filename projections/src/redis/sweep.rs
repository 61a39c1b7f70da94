use std::{ops::Bound, sync::LazyLock};

use tasklog_log::{Millis, StoreError, redis::Script};

use super::{RedisView, names::suffix, order, pack_bytes, script, shape::row_hash};
use crate::{AnyRow, Cell, Scan, TableDef, Tombstones};

/// Dead rows removed by one script.
const SWEPT_PER_CALL_MAX: usize = 200;

/// What was left behind by rows that died, and old short tombstones. Rows are compared again inside the script, so that
/// one that was created anew meanwhile stays.
pub(super) fn sweep(
    view: &RedisView,
    table: &'static TableDef,
    now: Millis,
    tombstones_before: Millis,
    limit: usize,
) -> Result<Vec<AnyRow>, StoreError> {
    if table.tombstones == Tombstones::Short {
        forget_tombstones(view, table, tombstones_before, limit)?;
    }
    let Some(dies_at) = table.dies_at else { return Ok(Vec::new()) };
    let by_death = table.indexes.iter().find(|index| index.columns.first() == Some(&dies_at));
    let Some(by_death) = by_death else { return Ok(Vec::new()) };
    let scan = Scan::all(by_death.name).to(Bound::Included(vec![Cell::Integer(now)]));
    let Some((low, high)) = order::range(table, &scan) else { return Ok(Vec::new()) };
    let set = view.names.index(table, by_death.name);
    let mut removed = Vec::new();
    let members: Vec<Vec<u8>> = view.link.ask(|conn| {
        ::redis::cmd("ZRANGEBYLEX").arg(set).arg(&low).arg(&high).arg("LIMIT").arg(0).arg(limit).query(conn)
    })?;
    for members in members.chunks(SWEPT_PER_CALL_MAX) {
        let keys: Vec<_> = members.iter().filter_map(|member| order::key(table, by_death.name, member)).collect();
        let rows = view.rows(table, &keys)?;
        let mut packed = Vec::new();
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_array_len(&mut packed, keys.len() as u32);
        for (member, key) in members.iter().zip(&keys) {
            let instant = match order::cells(member).as_deref() {
                Some([Cell::Integer(instant), ..]) => instant.to_string(),
                _ => continue,
            };
            let mut pk = Vec::new();
            for cell in table.key_cells(key).map_err(StoreError::corrupt_store)? {
                order::put(&cell, &mut pk);
            }
            let lru = if table.name == "sessions" { view.names.of(table, "_lru") } else { String::new() };
            let (hash, used) = (row_hash(&view.names, table, key), suffix(table, key));
            let parts: [&[u8]; 8] = [
                hash.as_bytes(),
                dies_at.as_bytes(),
                instant.as_bytes(),
                set.as_bytes(),
                member,
                &pk,
                lru.as_bytes(),
                used.as_bytes(),
            ];
            let _ = rmp::encode::write_array_len(&mut packed, parts.len() as u32);
            for part in parts {
                pack_bytes(&mut packed, part);
            }
        }
        static SWEEP: LazyLock<Script> = LazyLock::new(|| script(include_str!("sweep.lua")));
        let pk_set = view.names.index(table, "pk");
        let gone: Vec<i64> = view.link.call(|conn| SWEEP.run(conn, std::slice::from_ref(&pk_set), &[&packed[..]]))?;
        let dead = rows.into_iter().zip(gone).filter(|(_, gone)| *gone == 1);
        removed.extend(dead.filter_map(|(held, _)| held.map(|held| held.row)).filter(|row| !row.is_live(now)));
    }
    Ok(removed)
}

fn forget_tombstones(view: &RedisView, table: &TableDef, before: Millis, limit: usize) -> Result<(), StoreError> {
    static FORGET: LazyLock<Script> = LazyLock::new(|| script(include_str!("forget.lua")));
    let keys = [view.names.buried_at(table), view.names.tombstones(table)];
    let (before, limit) = (format!("({before}"), limit.to_string());
    let _: i64 = view.link.call(|conn| FORGET.run(conn, &keys, &[before.as_bytes(), limit.as_bytes()]))?;
    Ok(())
}
