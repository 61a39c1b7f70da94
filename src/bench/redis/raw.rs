use std::sync::LazyLock;

use redis::Connection;
use tasklog_log::{
    StoreError,
    redis::{Script, encode_commit, entry_id, to_store_error},
};
use tasklog_projections::{Cell, TableDef, redis::pack_bytes};

use crate::{Error, bench::workload::Written};

static RAW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("raw.lua")));

/// What a program without tasklog would do with redis-rs: one script call per batch, on a connection of the same kind.
pub(super) struct Raw {
    conn: Connection,
    prefix: String,
}

impl Raw {
    pub(super) fn new(conn: Connection, prefix: String) -> Self {
        Self { conn, prefix }
    }

    pub(super) fn stream(&self) -> String {
        format!("{}:log", self.prefix)
    }

    fn pack(&self, table: &TableDef, written: &[Written]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(512 * written.len());
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_array_len(&mut packed, written.len() as u32);
        written.iter().for_each(|written| self.command(table, written, &mut packed));
        packed
    }

    fn command(&self, table: &TableDef, Written { commit, row }: &Written, out: &mut Vec<u8>) {
        let key = row.key();
        let before = commit.events.first().and_then(|event| event.prev);
        let mut parts: Vec<Vec<u8>> = vec![
            format!("{}:{}:{key}", self.prefix, table.key_prefix).into_bytes(),
            before.map_or_else(Vec::new, |prev| prev.to_string().into_bytes()),
            entry_id(commit.last()).into_bytes(),
            commit.recorded_at.to_string().into_bytes(),
            encode_commit(commit),
            key.into_bytes(),
            b"_rev".to_vec(),
            commit.last().to_string().into_bytes(),
        ];
        for (column, cell) in table.columns.iter().zip(row.cells()).filter(|(column, _)| !column.key) {
            let value = match cell {
                Cell::Null => continue,
                Cell::Integer(value) => value.to_string().into_bytes(),
                Cell::Text(text) => text.into_owned().into_bytes(),
                Cell::Blob(bytes) => bytes.into_owned(),
            };
            parts.extend([column.name.as_bytes().to_vec(), value]);
        }
        let _ = rmp::encode::write_array_len(out, parts.len() as u32);
        parts.iter().for_each(|part| pack_bytes(out, part));
    }

    /// Writes commands in calls of `size`, one after the other.
    pub(super) fn write(&mut self, table: &TableDef, written: &[Written], size: usize) -> Result<(), Error> {
        let keys = [self.stream(), format!("{}:_index", self.prefix)];
        for chunk in written.chunks(size) {
            let packed = self.pack(table, chunk);
            let done: Result<u64, _> = RAW.run(&mut self.conn, &keys, &[&packed[..]]);
            done.map_err(|error| StoreError::unavailable_because("the baseline", to_store_error("Redis", error)))?;
        }
        Ok(())
    }
}
