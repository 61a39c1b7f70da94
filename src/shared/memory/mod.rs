//! The facilities of one process: what embedded SQLite and stores in memory have.
//!
//! Limits, beacons and listeners live in memory and are lost at a restart, which is accepted. Records of scoped keys may
//! be kept in a small SQLite file of their own ([`MemoryKeys::with_records`]), overflow buffers in a folder
//! ([`MemoryKeys::with_cdc_folder`]); without the folder changes are dropped.

mod limits;
mod queue;
mod records;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tasklog_log::{Clock, Millis, StoreError};

use self::{limits::Limits, queue::FileQueue, records::Records};
use super::{
    CdcFront, Counter, Hits, KeyChange, KeyChanged, KeyState, LoginGate, LoginOutcome, LoginRecord, Pushed, Revocation,
    Revocations, SharedKeys, cdc::DROPS_PER_STEP_MAX, revocation::Inbox,
};

/// The facilities of one process.
pub struct MemoryKeys {
    clock: Arc<dyn Clock>,
    limits: Mutex<Limits>,
    records: Mutex<Records>,
    cdc_folder: Option<PathBuf>,
    queues: Mutex<HashMap<String, FileQueue>>,
    listeners: Mutex<Vec<Weak<Inbox>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryKeys {
    /// Everything in memory; changes that overflow are dropped.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            limits: Mutex::default(),
            records: Mutex::default(),
            cdc_folder: None,
            queues: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// Keeps the records of scoped keys in the table `_scoped_keys` of a SQLite file of its own, not the store's.
    ///
    /// # Errors
    /// `unavailable` or `corrupt` if the file cannot be opened or read.
    pub fn with_records(mut self, path: &Path) -> Result<Self, StoreError> {
        self.records = Mutex::new(Records::open(path)?);
        Ok(self)
    }

    /// Keeps overflow buffers as files in this folder (`overflow: pvc`), which is made if it is not there. One process
    /// uses it at a time.
    ///
    /// # Errors
    /// `unavailable` if the folder cannot be made.
    pub fn with_cdc_folder(mut self, folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)
            .map_err(|e| StoreError::unavailable_because(format!("make the folder {}", folder.display()), e))?;
        self.cdc_folder = Some(folder.to_owned());
        Ok(self)
    }

    /// Runs `work` on a sink's buffer; answers none if there is no folder for buffers.
    fn queue<T>(
        &self,
        sink: &str,
        work: impl FnOnce(&mut FileQueue) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let Some(folder) = &self.cdc_folder else { return Ok(None) };
        let mut queues = lock(&self.queues);
        let queue = match queues.entry(sink.to_owned()) {
            Entry::Occupied(queue) => queue.into_mut(),
            Entry::Vacant(place) => place.insert(FileQueue::open(folder, sink)?),
        };
        let worked = work(queue);
        if worked.is_err() {
            // What the file holds is unknown: it is read again.
            queues.remove(sink);
        }
        worked.map(Some)
    }
}

impl SharedKeys for MemoryKeys {
    fn hit(&self, counter: &Counter, window_ms: Millis) -> Result<Hits, StoreError> {
        Ok(lock(&self.limits).hit(limits::Key::Counter(*counter), window_ms, self.clock.now()))
    }

    fn login_attempt(&self, ip: IpAddr, window_ms: Millis) -> Result<LoginGate, StoreError> {
        Ok(lock(&self.limits).login_attempt(ip, window_ms, self.clock.now()))
    }

    fn login_outcome(&self, ip: IpAddr, outcome: &LoginOutcome) -> Result<LoginRecord, StoreError> {
        Ok(lock(&self.limits).login_outcome(ip, outcome, self.clock.now()))
    }

    fn cdc_push(&self, sink: &str, change: &[u8], bytes_max: u64) -> Result<Pushed, StoreError> {
        let pushed = self.queue(sink, |queue| queue.push(change, bytes_max, DROPS_PER_STEP_MAX))?;
        Ok(pushed.unwrap_or(Pushed { dropped: 1, ..Pushed::default() }))
    }

    fn cdc_front(&self, sink: &str, changes_max: usize) -> Result<CdcFront, StoreError> {
        Ok(self.queue(sink, |queue| queue.front(changes_max))?.unwrap_or_default())
    }

    fn cdc_ack(&self, sink: &str, tokens: &[String]) -> Result<u64, StoreError> {
        Ok(self.queue(sink, |queue| queue.ack(tokens))?.unwrap_or_default())
    }

    fn key_state(&self, index: &str, peers: &[&str]) -> Result<KeyState, StoreError> {
        let now = self.clock.now();
        Ok(lock(&self.records).state(index, peers, now))
    }

    fn key_change(&self, index: &str, change: &KeyChange) -> Result<KeyChanged, StoreError> {
        let mut records = lock(&self.records);
        records.change(index, change, self.clock.now())
    }

    fn key_observe(&self, pod: &str, index: &str, generation: u64, ttl_ms: Millis) -> Result<(), StoreError> {
        let dies_at = self.clock.now().saturating_add(ttl_ms);
        lock(&self.records).observe(pod, index, generation, dies_at);
        Ok(())
    }

    fn key_indexes(&self) -> Result<Vec<String>, StoreError> {
        Ok(lock(&self.records).indexes())
    }

    fn publish_revoked(&self, session_id: &str) -> Result<(), StoreError> {
        lock(&self.listeners).retain(|listener| {
            let Some(inbox) = listener.upgrade() else { return false };
            inbox.put(Revocation::Session(session_id.to_owned()));
            true
        });
        Ok(())
    }

    fn revocations(&self) -> Result<Revocations, StoreError> {
        let inbox = Arc::new(Inbox::default());
        lock(&self.listeners).push(Arc::downgrade(&inbox));
        Ok(Revocations::new(inbox))
    }
}
