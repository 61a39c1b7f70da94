//! `leader_lease`: one row per singleton operation and the pod that may run it.
//!
//! The right ends at `expires_at`; the row stays until it is released, taken over or cleared, so that a successor finds
//! the phase. The position of the acquiring event is the fencing token: terms strictly increase per scope.

use crate::{At, Impossible, Index, Json, Table, TableDef, Tombstones, events, row};

row! {
    /// One scope and its latest holder.
    pub struct LeaseRow {
        key {
            /// operation: `<kind>` or `<kind>:<name>`
            scope: String,
        }
        /// pod id of the leader
        holder: String,
        /// ms: end of the right
        expires_at: i64,
        /// position of the acquiring event: the fencing token
        term: i64,
        /// last committed phase of the operation; survives expiry and takeover
        phase: Option<Json>,
        /// ms: grant
        acquired_at: i64,
    }
}

impl LeaseRow {
    /// Whether the right still holds.
    #[must_use]
    pub const fn holds(&self, now: i64) -> bool {
        now < self.expires_at
    }
}

events! {
    /// What happens to leases.
    pub enum LeaseEvent {
        /// A pod got the right.
        "lease_acquired" v1 => LeaseAcquired {
            /// pod id
            holder: String,
            /// ms
            acquired_at: i64,
            /// ms: end of the right
            expires_at: i64,
            /// whether another holder stood in the row
            takeover: bool,
            /// who stood in the row
            previous: Option<PreviousLease>,
        },
        /// The holder extended its right.
        "lease_renewed" v1 => LeaseRenewed {
            /// pod id
            holder: String,
            /// its term
            term: i64,
            /// ms: end of the right
            expires_at: i64,
        },
        /// The holder finished a step of its operation.
        "lease_phase_committed" v1 => LeasePhaseCommitted {
            /// the holder's term
            term: i64,
            /// where a successor would go on
            phase: Json,
        },
        /// The holder is done.
        "lease_released" v1 => LeaseReleased {
            /// pod id
            holder: String,
            /// its term
            term: i64,
        },
        /// An operator gave the operation up.
        "lease_cleared" v1 => LeaseCleared {
            /// the last holder
            holder: String,
            /// its term
            term: i64,
            /// ms: end of its right
            expires_at: i64,
            /// the phase that is lost
            phase: Option<Json>,
        },
    }
}

/// Who held a scope before.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct PreviousLease {
    /// pod id
    pub holder: String,
    /// its term
    pub term: i64,
    /// ms: end of its right
    pub expires_at: i64,
}

/// The table.
pub struct LeaderLease;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<LeaderLease>();

impl Table for LeaderLease {
    const NAME: &'static str = "leader_lease";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const INDEXES: &'static [Index] = &[Index::on("by_expiry", &["expires_at"])];
    const KEY_PREFIX: &'static str = "lease";
    const POSITIONS: &'static [&'static str] = &["term"];
    const PAYLOAD_POSITIONS: &'static [&'static str] = &["term"];
    type Row = LeaseRow;
    type Event = LeaseEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<LeaseRow>, event: LeaseEvent, at: &At<'_>) -> Result<Option<LeaseRow>, Impossible> {
        match event {
            LeaseEvent::LeaseAcquired(event) => acquired(row, event, at),
            LeaseEvent::LeaseRenewed(event) => {
                let mut row = held(row, "lease_renewed", Some(&event.holder), event.term)?;
                row.expires_at = event.expires_at;
                Ok(Some(row))
            }
            LeaseEvent::LeasePhaseCommitted(event) => {
                let mut row = held(row, "lease_phase_committed", None, event.term)?;
                row.phase = Some(event.phase);
                Ok(Some(row))
            }
            LeaseEvent::LeaseReleased(event) => {
                held(row, "lease_released", Some(&event.holder), event.term)?;
                Ok(None)
            }
            LeaseEvent::LeaseCleared(event) => {
                let row = held(row, "lease_cleared", Some(&event.holder), event.term)?;
                if row.holds(at.recorded_at) {
                    return Err(Impossible(format!("lease_cleared on a right that lasts until {}", row.expires_at)));
                }
                Ok(None)
            }
        }
    }
}

fn acquired(row: Option<LeaseRow>, event: LeaseAcquired, at: &At<'_>) -> Result<Option<LeaseRow>, Impossible> {
    // The previous term is not compared: a grant that follows another within one commit does not know it for sure.
    let (found, said) = (row.as_ref().map(|row| &row.holder), event.previous.as_ref().map(|previous| &previous.holder));
    if found != said {
        return Err(Impossible(format!("lease_acquired after {said:?} on a scope that belongs to {found:?}")));
    }
    if let Some(row) = row.as_ref().filter(|row| row.holder != event.holder && row.holds(at.recorded_at)) {
        let LeaseRow { holder, expires_at, .. } = row;
        return Err(Impossible(format!("lease_acquired over {holder:?}, whose right lasts until {expires_at}")));
    }
    Ok(Some(LeaseRow {
        scope: at.key.into(),
        holder: event.holder,
        expires_at: event.expires_at,
        term: at.position.to_i64(),
        phase: row.and_then(|row| row.phase),
        acquired_at: event.acquired_at,
    }))
}

/// The row, if it is of this term, and of this holder where the event names one.
fn held(row: Option<LeaseRow>, event: &str, holder: Option<&str>, term: i64) -> Result<LeaseRow, Impossible> {
    let row = row.ok_or_else(|| Impossible::no_row(event))?;
    if row.term != term || holder.is_some_and(|holder| holder != row.holder) {
        let LeaseRow { holder: owner, term: current, .. } = &row;
        return Err(Impossible(format!(
            "{event} of {:?} in term {term} on a lease of {owner:?} in term {current}",
            holder.unwrap_or(owner)
        )));
    }
    Ok(row)
}

#[cfg(test)]
#[path = "leader_lease_tests.rs"]
mod tests;
