//! The settings of the facilities, with the defaults of the specification.

use tasklog_log::Millis;

use crate::rejection::Rejection;

const SECOND_MS: Millis = 1_000;
const MINUTE_MS: Millis = 60 * SECOND_MS;
const DAY_MS: Millis = 24 * 60 * MINUTE_MS;

/// Which backend the task store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreBackend {
    /// One pod with a SQLite file, or a store in memory.
    Embedded,
    /// Several pods on one Redis.
    Redis,
}

impl StoreBackend {
    /// The limit backend that "not set" means.
    #[must_use]
    pub const fn limits(self) -> LimitBackend {
        match self {
            Self::Embedded => LimitBackend::Local,
            Self::Redis => LimitBackend::Redis,
        }
    }

    /// The overflow tier that "not set" means.
    #[must_use]
    pub const fn overflow(self) -> CdcOverflowTier {
        match self {
            Self::Embedded => CdcOverflowTier::Drop,
            Self::Redis => CdcOverflowTier::Redis,
        }
    }
}

/// Where a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitBackend {
    /// Each pod alone: the limit of the cluster is the limit times the pods.
    Local,
    /// All pods together.
    Redis,
}

/// Where changes go that do not fit into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdcOverflowTier {
    /// A list that all pods share.
    Redis,
    /// A file of this pod.
    Pvc,
    /// Nowhere: they are dropped and counted.
    Drop,
}

/// The settings of all facilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    /// `search_ui.rate_limit.per_ip`: hits in one window, 60.
    pub search_ui_per_ip: u64,
    /// `search_ui.auth.session_rate_limit`: sessions minted in one window, 10.
    pub search_ui_sessions_per_ip: u64,
    /// `search_ui.rate_limit.redis_ttl_s`, in ms: the window of both, 60 s.
    pub search_ui_window_ms: Millis,
    /// `search_ui.rate_limit.backend`: by backend.
    pub search_ui_backend: Option<LimitBackend>,
    /// `admin_ui.rate_limit.per_ip`: attempts in one window, 10.
    pub admin_ui_per_ip: u64,
    /// The window of login attempts, in ms: 60 s.
    pub admin_ui_window_ms: Millis,
    /// `admin_ui.rate_limit.backend`: by backend.
    pub admin_ui_backend: Option<LimitBackend>,
    /// `admin_ui.rate_limit.failed_attempt_threshold`: the consecutive failure that blocks first, 5.
    pub admin_ui_failures_threshold: u64,
    /// `admin_ui.rate_limit.backoff_start_minutes`, in ms: the first block, 10 min.
    pub admin_ui_backoff_start_ms: Millis,
    /// `admin_ui.rate_limit.backoff_max_hours`, in ms: the longest block, 24 h.
    pub admin_ui_backoff_max_ms: Millis,
    /// How long failures are remembered after a block, or after the last one below the threshold, in ms: 24 h.
    pub admin_ui_failures_kept_ms: Millis,
    /// `cdc.buffer.memory_bytes`: what a pod buffers in memory before it overflows, 64 MiB. The pod keeps that tier.
    pub cdc_memory_bytes: u64,
    /// `cdc.buffer.overflow`: by backend.
    pub cdc_overflow: Option<CdcOverflowTier>,
    /// `cdc.buffer.redis_bytes`: the bound of one sink's overflow buffer, 1 GiB; of a file buffer too.
    pub cdc_overflow_bytes: u64,
    /// `search_ui.scoped_key_max_age_days`, in ms: the life of a scoped key, 60 days.
    pub scoped_key_max_age_ms: Millis,
    /// `search_ui.scoped_key_rotate_before_expiry_days`, in ms: 30 days.
    pub scoped_key_rotate_before_ms: Millis,
    /// `search_ui.scoped_key_rotation_drain_s`, in ms: how long the previous key is accepted at least, 120 s.
    pub scoped_key_drain_ms: Millis,
    /// How long a beacon lives, in ms: 60 s.
    pub scoped_key_beacon_ms: Millis,
    /// How often a pod re-reads the records and refreshes its beacons, in ms: 20 s.
    pub scoped_key_refresh_ms: Millis,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self {
            search_ui_per_ip: 60,
            search_ui_sessions_per_ip: 10,
            search_ui_window_ms: MINUTE_MS,
            search_ui_backend: None,
            admin_ui_per_ip: 10,
            admin_ui_window_ms: MINUTE_MS,
            admin_ui_backend: None,
            admin_ui_failures_threshold: 5,
            admin_ui_backoff_start_ms: 10 * MINUTE_MS,
            admin_ui_backoff_max_ms: DAY_MS,
            admin_ui_failures_kept_ms: DAY_MS,
            cdc_memory_bytes: 64 << 20,
            cdc_overflow: None,
            cdc_overflow_bytes: 1 << 30,
            scoped_key_max_age_ms: 60 * DAY_MS,
            scoped_key_rotate_before_ms: 30 * DAY_MS,
            scoped_key_drain_ms: 120 * SECOND_MS,
            scoped_key_beacon_ms: 60 * SECOND_MS,
            scoped_key_refresh_ms: 20 * SECOND_MS,
        }
    }
}

impl SharedConfig {
    /// Refuses settings that cannot work together, or not on this backend.
    ///
    /// # Errors
    /// `invalid`, naming the setting.
    pub fn check(&self, store: StoreBackend) -> Result<(), Rejection> {
        for (name, value) in [
            ("search_ui.rate_limit.redis_ttl_s", self.search_ui_window_ms),
            ("the window of admin logins", self.admin_ui_window_ms),
            ("admin_ui.rate_limit.backoff_start_minutes", self.admin_ui_backoff_start_ms),
            ("how long login failures are kept", self.admin_ui_failures_kept_ms),
            ("the life of a beacon", self.scoped_key_beacon_ms),
            ("search_ui.scoped_key_rotate_before_expiry_days", self.scoped_key_rotate_before_ms),
        ] {
            if value < 1 {
                return Err(Rejection::invalid(format!("{name}: expected at least 1 ms, found {value} ms")));
            }
        }
        if self.scoped_key_drain_ms < 0 {
            return Err(Rejection::invalid("search_ui.scoped_key_rotation_drain_s: negative".to_owned()));
        }
        if self.admin_ui_failures_threshold < 1 {
            return Err(Rejection::invalid(
                "admin_ui.rate_limit.failed_attempt_threshold: expected at least 1, found 0",
            ));
        }
        for (smaller, less, greater, more) in [
            (
                "search_ui.scoped_key_rotate_before_expiry_days",
                self.scoped_key_rotate_before_ms,
                "search_ui.scoped_key_max_age_days",
                self.scoped_key_max_age_ms.saturating_sub(1),
            ),
            (
                "admin_ui.rate_limit.backoff_start_minutes",
                self.admin_ui_backoff_start_ms,
                "admin_ui.rate_limit.backoff_max_hours",
                self.admin_ui_backoff_max_ms,
            ),
            (
                "the refresh of scoped keys",
                self.scoped_key_refresh_ms,
                "the life of a beacon",
                self.scoped_key_beacon_ms.saturating_sub(1),
            ),
        ] {
            if less > more {
                return Err(Rejection::invalid(format!(
                    "{smaller} ({less} ms): expected at most {more} ms, by {greater}"
                )));
            }
        }
        if store == StoreBackend::Embedded {
            for (name, redis) in [
                ("search_ui.rate_limit.backend", self.search_ui_backend == Some(LimitBackend::Redis)),
                ("admin_ui.rate_limit.backend", self.admin_ui_backend == Some(LimitBackend::Redis)),
                ("cdc.buffer.overflow", self.cdc_overflow == Some(CdcOverflowTier::Redis)),
            ] {
                if redis {
                    return Err(Rejection::invalid(format!("{name}: `redis` needs task_store.backend `redis`")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_on_both_backends() {
        SharedConfig::default().check(StoreBackend::Embedded).unwrap();
        SharedConfig::default().check(StoreBackend::Redis).unwrap();
    }

    #[test]
    fn a_key_must_be_rotated_before_it_expires() {
        for days in [0, 60, 90] {
            let config = SharedConfig { scoped_key_rotate_before_ms: days * DAY_MS, ..SharedConfig::default() };
            let refused = config.check(StoreBackend::Redis).unwrap_err();
            assert!(refused.message.contains("scoped_key_rotate_before_expiry_days"), "{refused}");
        }
        let config = SharedConfig { scoped_key_max_age_ms: 30 * DAY_MS, ..SharedConfig::default() };
        config.check(StoreBackend::Redis).unwrap_err();
    }

    #[test]
    fn one_pod_cannot_ask_for_redis() {
        let limits = SharedConfig { search_ui_backend: Some(LimitBackend::Redis), ..SharedConfig::default() };
        let overflow = SharedConfig { cdc_overflow: Some(CdcOverflowTier::Redis), ..SharedConfig::default() };
        for config in [limits, overflow] {
            config.check(StoreBackend::Embedded).unwrap_err();
            config.check(StoreBackend::Redis).unwrap();
        }
    }
}
