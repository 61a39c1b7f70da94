use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use rusqlite::{Connection, params};
use tasklog_log::{Millis, StoreError};

use crate::shared::{KeyChange, KeyChanged, KeyState, ScopedKeyRecord, scoped_key};

/// A table of its own, outside the 14.
const DDL: &str = "CREATE TABLE IF NOT EXISTS _scoped_keys (index_uid TEXT PRIMARY KEY NOT NULL, primary_uid TEXT NOT NULL, \
    previous_uid TEXT, rotated_at INTEGER NOT NULL, generation INTEGER NOT NULL, rotate_now INTEGER NOT NULL) STRICT";

/// The records and beacons of one process; records also in a file, if there is one.
#[derive(Default)]
pub(super) struct Records {
    records: BTreeMap<String, ScopedKeyRecord>,
    /// By pod and index: generation, and when the beacon dies.
    beacons: HashMap<(String, String), (u64, Millis)>,
    file: Option<Connection>,
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Connection::open(path)?;
        file.execute_batch(DDL)?;
        let mut records = BTreeMap::new();
        {
            let mut select = file.prepare(
                "SELECT index_uid, primary_uid, previous_uid, rotated_at, generation, rotate_now FROM _scoped_keys",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let record = ScopedKeyRecord {
                    primary_uid: row.get(1)?,
                    previous_uid: row.get(2)?,
                    rotated_at: row.get(3)?,
                    generation: row.get::<_, i64>(4)?.cast_unsigned(),
                    rotate_now: row.get(5)?,
                };
                records.insert(row.get(0)?, record);
            }
        }
        Ok(Self { records, beacons: HashMap::new(), file: Some(file) })
    }

    fn save(&self, index: &str, record: Option<&ScopedKeyRecord>) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        match record {
            None => file.execute("DELETE FROM _scoped_keys WHERE index_uid = ?1", [index])?,
            Some(record) => file.execute(
                "INSERT OR REPLACE INTO _scoped_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    index,
                    record.primary_uid,
                    record.previous_uid,
                    record.rotated_at,
                    record.generation.cast_signed(),
                    record.rotate_now
                ],
            )?,
        };
        Ok(())
    }

    pub(super) fn state(&self, index: &str, peers: &[&str], now: Millis) -> KeyState {
        let beacon = |pod: &str| {
            let (generation, dies_at) = *self.beacons.get(&(pod.to_owned(), index.to_owned()))?;
            (now < dies_at).then_some(generation)
        };
        let beacons = peers.iter().map(|pod| beacon(pod)).collect();
        KeyState { now, record: self.records.get(index).cloned(), beacons }
    }

    pub(super) fn change(&mut self, index: &str, change: &KeyChange, now: Millis) -> Result<KeyChanged, StoreError> {
        let Some(record) = scoped_key::apply(self.records.get(index), change, now) else {
            return Ok(KeyChanged { applied: false, now, record: self.records.get(index).cloned() });
        };
        self.save(index, record.as_ref())?;
        match &record {
            Some(record) => _ = self.records.insert(index.to_owned(), record.clone()),
            None => _ = self.records.remove(index),
        }
        Ok(KeyChanged { applied: true, now, record })
    }

    /// Beacons of pods that were forgotten are few: one process has one pod.
    pub(super) fn observe(&mut self, pod: &str, index: &str, generation: u64, dies_at: Millis) {
        self.beacons.insert((pod.to_owned(), index.to_owned()), (generation, dies_at));
    }

    pub(super) fn indexes(&self) -> Vec<String> {
        self.records.keys().cloned().collect()
    }
}
