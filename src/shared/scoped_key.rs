//! The rotation of the search page's scoped keys: one record per index, a beacon per pod, and the gate before a key is
//! revoked.
//!
//! ```text
//!  holder:  mint ── publish ──────────── drain ──────────── gate open ── revoke on all nodes ── finish
//!  pods:                └ adopt, beacon (at every use, and each 20 s) ──┘
//!  record:  g       g+1, previous = old primary                                          previous gone
//! ```
//!
//! The record holds ids of keys, never a key. The lease `search_ui_key_rotation:<index>` says who is the holder; the
//! compare-and-set of the record stays right even with two of them.

use std::{sync::Arc, time::Duration};

use tasklog_log::{Millis, StoreError};

use super::{SharedConfig, SharedKeys};

/// The most peers one gate looks at.
pub const PEERS_MAX: usize = 1_000;

/// Which keys an index has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedKeyRecord {
    /// The key in use.
    pub primary_uid: String,
    /// The key before it, while it is still accepted.
    pub previous_uid: Option<String>,
    /// ms: when the primary was published.
    pub rotated_at: Millis,
    /// Rises by one with every rotation, from 1.
    pub generation: u64,
    /// Somebody asked for a rotation at the next tick.
    pub rotate_now: bool,
}

/// A step of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// A new primary; the old one becomes the previous. Needs this generation (0: no record), and no previous.
    Publish {
        /// The generation the holder saw.
        expected_generation: u64,
        /// The minted key.
        new_uid: String,
    },
    /// The previous key is revoked. Needs this generation.
    Finish {
        /// The generation whose gate was open.
        generation: u64,
    },
    /// Sets `rotate_now`. Needs a record without previous, and a primary of this age if one is given.
    Request {
        /// ms since the last rotation.
        age_min_ms: Option<Millis>,
    },
    /// The index is gone.
    Forget,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChanged {
    /// Whether the record was what the step needs.
    pub applied: bool,
    /// ms: the instant of the step.
    pub now: Millis,
    /// The record after it.
    pub record: Option<ScopedKeyRecord>,
}

/// A record and what pods have shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// ms: the instant of the look.
    pub now: Millis,
    /// The record.
    pub record: Option<ScopedKeyRecord>,
    /// For each peer asked about, in that order: the generation of its beacon, if it has one.
    pub beacons: Vec<Option<u64>>,
}

/// What a step makes of a record: none if the step does not apply, otherwise the record after it.
#[must_use]
pub fn apply(record: Option<&ScopedKeyRecord>, change: &KeyChange, now: Millis) -> Option<Option<ScopedKeyRecord>> {
    let settled = record.filter(|record| record.previous_uid.is_none());
    match (change, record) {
        (KeyChange::Forget, record) => record.map(|_| None),
        (KeyChange::Publish { expected_generation: 0, new_uid }, None) => Some(Some(ScopedKeyRecord {
            primary_uid: new_uid.clone(),
            previous_uid: None,
            rotated_at: now,
            generation: 1,
            rotate_now: false,
        })),
        (KeyChange::Publish { expected_generation, new_uid }, _) => {
            let old = settled.filter(|old| old.generation == *expected_generation)?;
            Some(Some(ScopedKeyRecord {
                primary_uid: new_uid.clone(),
                previous_uid: Some(old.primary_uid.clone()),
                rotated_at: now,
                generation: old.generation + 1,
                rotate_now: false,
            }))
        }
        (KeyChange::Finish { generation }, record) => {
            let old = record.filter(|old| old.generation == *generation && old.previous_uid.is_some())?;
            Some(Some(ScopedKeyRecord { previous_uid: None, ..old.clone() }))
        }
        (KeyChange::Request { age_min_ms }, _) => {
            let old = settled?;
            let old_enough = age_min_ms.is_none_or(|age| now.saturating_sub(old.rotated_at) >= age);
            old_enough.then(|| Some(ScopedKeyRecord { rotate_now: true, ..old.clone() }))
        }
    }
}

/// Whose beacons the gate needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers<'a> {
    /// This process is the only pod (SQLite): the gate opens after the drain.
    OnlySelf,
    /// The pods that are alive now, this one included. An empty list opens no gate: discovery has failed.
    Live(&'a [&'a str]),
}

/// Whether the previous key may be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// There is no previous key.
    Nothing,
    /// The previous key is still accepted.
    Draining {
        /// ms until the drain ends.
        left_ms: Millis,
    },
    /// These live peers have not shown the new generation; try again at the next tick.
    Waiting {
        /// Their names; empty if no peer is known at all.
        pods: Vec<String>,
    },
    /// Revoke it on all nodes, then [`ScopedKeys::finish`].
    Open {
        /// The key to revoke.
        previous_uid: String,
        /// The generation to finish.
        generation: u64,
    },
}

/// The revocation gate: opens after the drain, when every live peer shows the new generation or a later one.
#[must_use]
pub fn gate(state: &KeyState, peers: Peers<'_>, drain_ms: Millis) -> Gate {
    let Some((record, previous_uid)) = state.record.as_ref().and_then(|r| Some((r, r.previous_uid.clone()?))) else {
        return Gate::Nothing;
    };
    let left_ms = record.rotated_at.saturating_add(drain_ms).saturating_sub(state.now);
    if left_ms > 0 {
        return Gate::Draining { left_ms };
    }
    if let Peers::Live(names) = peers {
        let seen = |at: usize| state.beacons.get(at).copied().flatten().is_some_and(|seen| seen >= record.generation);
        let behind = names.iter().enumerate().filter(|(at, _)| !seen(*at)).map(|(_, pod)| (*pod).to_owned());
        let pods: Vec<String> = behind.collect();
        if names.is_empty() || !pods.is_empty() {
            return Gate::Waiting { pods };
        }
    }
    Gate::Open { previous_uid, generation: record.generation }
}

/// Whether a key should be rotated at this tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Mint and publish, expecting this generation.
    Now {
        /// 0 if the index has no key yet.
        expected_generation: u64,
    },
    /// The last rotation is not finished: look at the gate.
    Rotating,
    /// ms until the window opens.
    In(Millis),
}

/// Whether a key should be rotated: never while one rotation is unfinished; otherwise if it was asked for, or if the
/// primary is within `rotate_before` of its end.
#[must_use]
pub fn due(record: Option<&ScopedKeyRecord>, now: Millis, config: &SharedConfig) -> Due {
    let Some(record) = record else { return Due::Now { expected_generation: 0 } };
    if record.previous_uid.is_some() {
        return Due::Rotating;
    }
    let left_ms = record.rotated_at.saturating_add(window_opens_ms(config)).saturating_sub(now);
    if record.rotate_now || left_ms <= 0 {
        return Due::Now { expected_generation: record.generation };
    }
    Due::In(left_ms)
}

fn window_opens_ms(config: &SharedConfig) -> Millis {
    config.scoped_key_max_age_ms.saturating_sub(config.scoped_key_rotate_before_ms)
}

/// The answer to a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key before, if there was one.
    pub old_uid: Option<String>,
    /// The key from now on.
    pub new_uid: String,
    /// Its generation.
    pub generation: u64,
    /// ms
    pub rotated_at: Millis,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Published.
    Rotated(Rotated),
    /// Somebody else has rotated, or is rotating: the minted key is of no use and should be revoked. What is there now.
    Lost(Option<ScopedKeyRecord>),
}

/// The scoped keys of all indexes.
#[derive(Clone)]
pub struct ScopedKeys {
    keys: Arc<dyn SharedKeys>,
    config: Arc<SharedConfig>,
}

impl ScopedKeys {
    /// The scoped keys with these settings.
    #[must_use]
    pub fn new(keys: Arc<dyn SharedKeys>, config: Arc<SharedConfig>) -> Self {
        Self { keys, config }
    }

    /// The record of an index.
    ///
    /// # Errors
    /// Those of [`SharedKeys`].
    pub fn record(&self, index: &str) -> Result<Option<ScopedKeyRecord>, StoreError> {
        Ok(self.keys.key_state(index, &[])?.record)
    }

    /// The indexes that have a record, in order of their names.
    ///
    /// # Errors
    /// Those of [`SharedKeys`].
    pub fn indexes(&self) -> Result<Vec<String>, StoreError> {
        self.keys.key_indexes()
    }

    /// Whether the holder should rotate now.
    ///
    /// # Errors
    /// Those of [`SharedKeys`].
    pub fn due(&self, index: &str) -> Result<Due, StoreError> {
        let state = self.keys.key_state(index, &[])?;
        Ok(due(state.record.as_ref(), state.now, &self.config))
    }

    /// Asks for a rotation at the holder's next tick. Without `force` it is a no-op outside the window in which the key
    /// would be rotated anyway; in the middle of a rotation it always is. Answers whether it was taken.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating is safe.
    pub fn request(&self, index: &str, force: bool) -> Result<bool, StoreError> {
        let age_min_ms = (!force).then(|| window_opens_ms(&self.config));
        Ok(self.keys.key_change(index, &KeyChange::Request { age_min_ms })?.applied)
    }

    /// Publishes a minted key. Exactly one of several holders that saw the same generation wins.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating with the same `new_uid` is safe and gives the first answer.
    pub fn publish(&self, index: &str, expected_generation: u64, new_uid: &str) -> Result<Published, StoreError> {
        let change = KeyChange::Publish { expected_generation, new_uid: new_uid.to_owned() };
        let changed = self.keys.key_change(index, &change)?;
        Ok(match changed.record {
            Some(record) if record.primary_uid == new_uid && record.generation == expected_generation + 1 => {
                Published::Rotated(Rotated {
                    old_uid: record.previous_uid,
                    new_uid: record.primary_uid,
                    generation: record.generation,
                    rotated_at: record.rotated_at,
                })
            }
            record => Published::Lost(record),
        })
    }

    /// Whether the previous key may be revoked now.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; `unavailable` beyond [`PEERS_MAX`] peers.
    pub fn gate(&self, index: &str, peers: Peers<'_>) -> Result<Gate, StoreError> {
        let names = match peers {
            Peers::OnlySelf => &[],
            Peers::Live(names) => names,
        };
        if names.len() > PEERS_MAX {
            return Err(StoreError::unavailable(format!(
                "look at the gate of index {index}: expected at most {PEERS_MAX} peers, found {}",
                names.len()
            )));
        }
        Ok(gate(&self.keys.key_state(index, names)?, peers, self.config.scoped_key_drain_ms))
    }

    /// The previous key is revoked on all nodes: forgets it. Answers whether it was still there.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating is safe.
    pub fn finish(&self, index: &str, generation: u64) -> Result<bool, StoreError> {
        Ok(self.keys.key_change(index, &KeyChange::Finish { generation })?.applied)
    }

    /// The index is gone: forgets its record. Answers whether there was one.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating is safe.
    pub fn forget(&self, index: &str) -> Result<bool, StoreError> {
        Ok(self.keys.key_change(index, &KeyChange::Forget)?.applied)
    }

    /// Refreshes a pod's beacon: it uses this generation. To be called at every use of the key.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating is safe.
    pub fn observe(&self, pod: &str, index: &str, generation: u64) -> Result<(), StoreError> {
        self.keys.key_observe(pod, index, generation, self.config.scoped_key_beacon_ms)
    }

    /// Whether [`ScopedKeys::refresh`] is due, this long after the last one.
    #[must_use]
    pub fn refresh_due(&self, since_last: Duration) -> bool {
        since_last.as_millis() >= u128::try_from(self.config.scoped_key_refresh_ms).unwrap_or(0)
    }

    /// What every pod does each 20 s for every index, with or without traffic: re-reads the record, hands it to `adopt`,
    /// which answers the generation the pod uses from now on, and, while a rotation is unfinished, writes the beacon of
    /// that generation. A beacon thus never says more than the pod has adopted.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; repeating is safe.
    pub fn refresh(
        &self,
        pod: &str,
        index: &str,
        adopt: impl FnOnce(&ScopedKeyRecord) -> u64,
    ) -> Result<Option<ScopedKeyRecord>, StoreError> {
        let record = self.record(index)?;
        if let Some(record) = &record {
            let adopted = adopt(record);
            if record.previous_uid.is_some() {
                self.observe(pod, index, adopted)?;
            }
        }
        Ok(record)
    }
}
