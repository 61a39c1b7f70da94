//! What has become of a call whose answer was lost, and whether replicas have what was written.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use ahash::RandomState;
use redis::Value;
use tasklog_log::{
    CommitId, Log, Position, READ_EVENTS_MAX, StoreError,
    redis::{Durability, Script},
};
use tasklog_projections::redis::script;

use super::{RedisBackend, call::Called, groups::Group};
use crate::backend::Item;

/// How often a lost connection is opened again while the outcome of a call is unknown.
const RESOLVE_PAUSE: Duration = Duration::from_millis(20);

static FENCE: LazyLock<Script> = LazyLock::new(|| script(include_str!("fence.lua")));

/// Commits, and the positions of their first events.
type Found = HashMap<CommitId, Position, RandomState>;

impl RedisBackend {
    /// The answer was lost: finds out whether the call was carried out, and if it was not, sees to it that it never is.
    pub(super) fn resolve(
        &mut self,
        items: &[Item],
        groups: &[Group<'_>],
        error: StoreError,
    ) -> Result<Called, StoreError> {
        let began = Instant::now();
        let call = [self.writer.to_string(), self.sequence.to_string()];
        tracing::warn!(error = error.full(), "the answer of a commit was lost: looking for its outcome");
        let before = self.head;
        let found = loop {
            match self.outcome(&call, before.position) {
                Ok(Some(found)) => break found,
                Ok(None) => return Ok(Called::Not),
                // Whatever is lost on the way is asked again: nothing here is done twice.
                Err(error) if error.is_retryable() && began.elapsed() < self.resolve_max => {
                    thread::sleep(RESOLVE_PAUSE);
                }
                Err(error) if !error.is_retryable() => return Err(error),
                Err(unreachable) => {
                    self.clock = None;
                    return Err(StoreError::unavailable_because(
                        "the answer of a commit was lost and its outcome is not known yet: repeat the command with its \
                         command_id to learn it",
                        unreachable,
                    ));
                }
            }
        };
        let results = groups.iter().map(|group| {
            let first = group.items.iter().find_map(|at| {
                let item = &items[*at];
                let first = found.get(&item.commit.meta.id).filter(|_| !item.commit.events.is_empty())?;
                Some(first.before())
            });
            match first {
                // Groups are contiguous, and this is the first commit of this one.
                Some(base) => Value::BulkString(base.to_string().into_bytes()),
                None => Value::Array(vec![Value::Int(4)]),
            }
        });
        Ok(Called::Judged(results.collect()))
    }

    /// The commits after `after`, if the call was carried out; none if it was not, and never will be.
    fn outcome(&mut self, call: &[String; 2], after: Position) -> Result<Option<Found>, StoreError> {
        let carried_out: i64 = self.link.call(|conn| FENCE.run(conn, &[self.keys.head()], call))?;
        if self.compare()? || carried_out == 0 {
            return Ok(None);
        }
        let mut found = Found::default();
        let mut after = after;
        loop {
            let page = self.log.read(after, READ_EVENTS_MAX)?;
            let Some(last) = page.last() else { return Ok(Some(found)) };
            after = last.last();
            found.extend(page.iter().map(|commit| (commit.meta.id, commit.first())));
        }
    }

    /// Waits until as many replicas as were asked for have what was written.
    pub(super) fn confirm(&mut self) -> Result<Option<StoreError>, StoreError> {
        let Durability::Replicated(wanted) = self.durability else { return Ok(None) };
        let timeout = self.resolve_max / 2;
        let (link, generation) = (Arc::clone(&self.link), self.generation);
        let noted = format!("{} {}", self.sequence, self.head.recorded_at);
        let reached: Result<Option<u32>, _> = self.link.call(|conn| {
            if link.generation() != generation {
                // The server behind a new connection may not have it at all.
                return Ok(None);
            }
            // WAIT covers what its own connection wrote, and the commit may have come through an earlier one: a write after
            // it is with a replica only if it is there too.
            redis::cmd("HSET").arg(self.keys.head()).arg(format!("w:{}", self.writer)).arg(&noted).exec(conn)?;
            redis::cmd("WAIT").arg(wanted).arg(timeout.as_millis() as u64).query(conn).map(Some)
        });
        let why = match reached {
            Ok(Some(reached)) if reached >= wanted => return Ok(None),
            Ok(None) => format!("whether {wanted} replicas have it is not known: the connection was replaced"),
            Ok(Some(reached)) => format!("{reached} of {wanted} replicas have it after {} ms", timeout.as_millis()),
            Err(error) => format!("whether {wanted} replicas have it is not known: {}", error.full()),
        };
        Ok(Some(StoreError::NotConfirmed { position: self.head.position, why }))
    }
}
