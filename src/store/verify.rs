//! Whether a store is what its log says, and making it so.

use tasklog_log::{Millis, Position};
use tasklog_replay::{Report, snapshot::TOMBSTONES_MS};

use super::{Begin, Repairs, TaskStore, at, check, pool::ReadSide, redis};
use crate::{
    meters::Rebuilding,
    rejection::{Error, Rejection},
};

impl TaskStore {
    /// Verifies log and tables: density, checksums, links, and every row against a replay into fresh tables in a
    /// temporary file; of a file also its pages, indexes, side tables, tombstones and heads. Writers go on; the last stretch is compared under one snapshot. A replica that began with a snapshot is
    /// verified from there: its events against their checksums and links, its rows against that snapshot and the events since.
    /// `note` hears the position.
    ///
    /// # Errors
    /// The store's; what is wrong with events or rows is in the report.
    pub fn verify(&self, note: impl FnMut(Position)) -> Result<Report, Error> {
        match &self.inner.read {
            ReadSide::Sqlite(pool) => {
                let since = self.remembered_since(pool.clock().now());
                pool.with(|conn| Ok(check::verify(pool.path(), conn, since, note)?))
            }
            ReadSide::Memory(backend) => Ok(check::verify_memory(backend, &self.inner.kept, note)?),
            ReadSide::Redis(read) => read.with(|log, view| Ok(redis::verify(log, view, note)?)),
            ReadSide::At(_) => Err(at::not_in_the_past("verify")),
        }
    }

    /// ms: housekeeping may have forgotten rows that were deleted before this, as a snapshot has, which tables may come from.
    fn remembered_since(&self, now: Millis) -> Millis {
        let configured = Millis::try_from(self.inner.config.tombstone_retention.as_millis()).unwrap_or(TOMBSTONES_MS);
        match self.inner.recording {
            // Whoever replays one has a time of its own.
            Some(_) => Millis::MAX,
            None => now.saturating_sub(configured.min(TOMBSTONES_MS)),
        }
    }

    /// Repairs tables of a store in Redis in place, while writers go on: whatever does not hold what the log says of it
    /// (rows, indexes, sets, tombstones) is put right, each entity in one step and only if it has not changed meanwhile.
    /// One process at a time does so; killed, it leaves what it has repaired, and the next one does the rest. `note`
    /// hears the position.
    ///
    /// # Errors
    /// `invalid` for another kind of store; `corrupt`, naming the event that cannot be folded, and then nothing was
    /// changed; `unavailable`, also if another process goes on repairing.
    pub fn repair(
        &self,
        tables: &[&'static tasklog_projections::TableDef],
        mut note: impl FnMut(Position),
    ) -> Result<Repairs, Error> {
        match &self.inner.read {
            ReadSide::Redis(read) => {
                let rebuilding = Rebuilding::begin(self.head()?);
                let repairs = redis::rebuild(read.url(), tables, Begin::AtTheStart, |position| {
                    rebuilding.at(position);
                    note(position);
                })?;
                rebuilding.done();
                Ok(repairs)
            }
            _ => Err(Rejection::invalid("only a store in Redis is repaired in place: see tasklog rebuild").into()),
        }
    }
}
