//! The settings that decisions depend on.

use std::time::Duration;

use tasklog_replay::snapshot::TOMBSTONES_MS;

use crate::rejection::Rejection;

/// The settings that decisions depend on, with the defaults of the specification. Whatever shaped an outcome is written
/// into its event, so a changed setting never changes a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `task_registry.ttl_seconds`, in ms: how old a finished task is when pruning takes it by default.
    pub task_ttl_ms: i64,
    /// `session_pinning.ttl_seconds`, in ms.
    pub session_ttl_ms: i64,
    /// `session_pinning.max_sessions`
    pub sessions_max: u64,
    /// `aliases.history_retention`, in states.
    pub alias_history_retention: u32,
    /// `aliases.require_target_exists`
    pub alias_require_target_exists: bool,
    /// `idempotency.ttl_seconds`, in ms.
    pub idempotency_ttl_ms: i64,
    /// `idempotency.max_cached_keys`
    pub idempotency_keys_max: u64,
    /// `leader_election.lease_ttl_s`, in ms.
    pub lease_ttl_ms: i64,
    /// `leader_election.renew_interval_s`, in ms.
    pub lease_renew_interval_ms: i64,
    /// `jobs.claim_s`, in ms.
    pub job_claim_ms: i64,
    /// `jobs.max_attempts`; none is unlimited. Written into each job at enqueue.
    pub job_attempts_max: Option<i64>,
    /// `jobs.ttl_seconds`, in ms: how old a finished job is when a purge takes it by default.
    pub job_ttl_ms: i64,
    /// `canary_runner.run_history_per_canary`, at most [`CANARY_HISTORY_MAX`].
    pub canary_history: u32,
    /// `admin_ui.session_ttl_s`, in ms.
    pub admin_session_ttl_ms: i64,
    /// `retention.tombstones`: how long short tombstones are kept, at least a day. Readers of earlier moments, who do not know
    /// what the writer is set to, rely on that day.
    pub tombstone_retention: Duration,
    /// `retention.command_ids`: how long a repeated `command_id` finds its first outcome.
    pub command_id_retention: Duration,
}

/// ms of an hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// More runs than this would not fit the commit that deletes their canary.
pub const CANARY_HISTORY_MAX: u32 = 900;

/// ms: the longest time that a setting may name, a hundred years: far from where instants end.
const LENGTH_MS_MAX: i64 = 100 * 366 * DAY_MS;

const SECOND_MS: i64 = 1_000;
const DAY_MS: i64 = 86_400 * SECOND_MS;

impl Default for Config {
    fn default() -> Self {
        Self {
            task_ttl_ms: 7 * DAY_MS,
            session_ttl_ms: 900 * SECOND_MS,
            sessions_max: 100_000,
            alias_history_retention: 10,
            alias_require_target_exists: true,
            idempotency_ttl_ms: DAY_MS,
            idempotency_keys_max: 1_000_000,
            lease_ttl_ms: 10 * SECOND_MS,
            lease_renew_interval_ms: 3 * SECOND_MS,
            job_claim_ms: 30 * SECOND_MS,
            job_attempts_max: None,
            job_ttl_ms: 7 * DAY_MS,
            canary_history: 100,
            admin_session_ttl_ms: 3_600 * SECOND_MS,
            tombstone_retention: Duration::from_secs(86_400),
            command_id_retention: Duration::from_secs(86_400),
        }
    }
}

impl Config {
    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// `invalid`, naming the setting.
    pub fn check(&self) -> Result<(), Rejection> {
        for (what, least, ms) in [
            ("task_registry.ttl_seconds", 0, self.task_ttl_ms),
            ("session_pinning.ttl_seconds", 1, self.session_ttl_ms),
            ("idempotency.ttl_seconds", 1, self.idempotency_ttl_ms),
            ("leader_election.lease_ttl_s", 1, self.lease_ttl_ms),
            ("jobs.claim_s", 1, self.job_claim_ms),
            ("jobs.ttl_seconds", 0, self.job_ttl_ms),
            ("admin_ui.session_ttl_s", 1, self.admin_session_ttl_ms),
        ] {
            if !(least..=LENGTH_MS_MAX).contains(&ms) {
                return Err(Rejection::invalid(format!("{what}: {least} to {LENGTH_MS_MAX} ms, found {ms}")));
            }
        }
        if self.tombstone_retention.as_millis() < TOMBSTONES_MS.unsigned_abs().into() {
            return Err(Rejection::invalid(format!(
                "retention.tombstones: at least {TOMBSTONES_MS} ms, found {}",
                self.tombstone_retention.as_millis()
            )));
        }
        if self.lease_ttl_ms <= self.lease_renew_interval_ms {
            return Err(Rejection::invalid(format!(
                "leader_election: lease_ttl_s ({} ms) must be longer than renew_interval_s ({} ms)",
                self.lease_ttl_ms, self.lease_renew_interval_ms
            )));
        }
        if self.canary_history > CANARY_HISTORY_MAX {
            return Err(Rejection::invalid(format!(
                "canary_runner.run_history_per_canary: at most {CANARY_HISTORY_MAX}, found {}",
                self.canary_history
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A time that no instant could be added to ended the committer's thread at the first command that did.
    #[test]
    fn times_that_are_none_are_refused() {
        assert_eq!(Config::default().check(), Ok(()));
        let with = |ms: i64| Config { session_ttl_ms: ms, ..Config::default() }.check();
        assert!(with(1).is_ok() && with(LENGTH_MS_MAX).is_ok());
        for ms in [i64::MIN, -1, 0, LENGTH_MS_MAX + 1, i64::MAX] {
            assert!(with(ms).unwrap_err().message.starts_with("session_pinning.ttl_seconds: 1 to "), "{ms}");
        }
        assert!(Config { task_ttl_ms: 0, job_ttl_ms: 0, ..Config::default() }.check().is_ok());
        assert!(Config { job_ttl_ms: -1, ..Config::default() }.check().is_err());
    }

    /// A writer that forgot tombstones sooner made readers of an earlier moment say that a row had never been there.
    #[test]
    fn tombstones_are_kept_for_a_day_at_least() {
        let with = |hours: u64| Config { tombstone_retention: Duration::from_secs(hours * 3_600), ..Config::default() };
        assert!(with(24).check().is_ok() && with(1_000).check().is_ok());
        assert!(with(23).check().unwrap_err().message.starts_with("retention.tombstones: at least 86400000 ms"));
    }
}
