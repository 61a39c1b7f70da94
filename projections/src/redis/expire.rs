use std::sync::LazyLock;

use tasklog_log::{StoreError, redis::Script};

use super::{
    RedisView,
    names::suffix,
    pack_bytes, script,
    shape::{Shape, row_hash, shape},
};
use crate::{Cell, PROJECTED, Scan, TableDef, View};

/// Rows that get their end in one script.
const EXPIRED_PER_CALL_MAX: usize = 200;

impl RedisView {
    /// Leaves every row that dies by time, and every right that ends, to Redis: for tables that were filled from a log, whose
    /// rows must not go while events that extend them are still to come. Answers how many keys got an end.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` if what is stored is no row.
    pub fn set_expiries(&self) -> Result<u64, StoreError> {
        let mut set = 0;
        for table in PROJECTED {
            let lease = shape(table) == Shape::Lease;
            let ends = if lease { Some("expires_at") } else { table.dies_at };
            if let Some(ends) = ends {
                set += self.expire_table(table, ends, lease)?;
            }
        }
        Ok(set)
    }

    fn expire_table(&self, table: &'static TableDef, ends: &'static str, lease: bool) -> Result<u64, StoreError> {
        static EXPIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("expire.lua")));
        let Some(column) = table.column(ends) else { return Ok(0) };
        let pk = self.names().index(table, "pk");
        let mut scan = Scan::all("pk").limit(EXPIRED_PER_CALL_MAX);
        let mut set = 0;
        loop {
            let rows = self.scan(table, &scan)?;
            let Some(last) = rows.last() else { return Ok(set) };
            scan = scan.after(table.key_cells(&last.row.key()).map_err(StoreError::corrupt_store)?);
            let ending: Vec<_> = rows
                .iter()
                .filter_map(|held| match held.row.cell(column) {
                    Cell::Integer(end) => Some((held.row.key(), end)),
                    _ => None,
                })
                .collect();
            let mut packed = Vec::new();
            // Writing to a vector cannot fail.
            let _ = rmp::encode::write_array_len(&mut packed, ending.len() as u32);
            for (key, end) in &ending {
                let hash = row_hash(self.names(), table, key);
                let ends_there = if lease { self.names().of(table, &suffix(table, key)) } else { hash.clone() };
                let _ = rmp::encode::write_array_len(&mut packed, 4);
                for part in [&hash, ends, &end.to_string(), &ends_there] {
                    pack_bytes(&mut packed, part.as_bytes());
                }
            }
            let ended: u64 = self.link().call(|conn| EXPIRE.run(conn, std::slice::from_ref(&pk), &[&packed[..]]))?;
            set += ended;
            if rows.len() < EXPIRED_PER_CALL_MAX {
                return Ok(set);
            }
        }
    }
}
