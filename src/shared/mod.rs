//! Shared keys that are not events: limits, overflow buffers, the scoped-key record, the revocation channel.
//!
//! They steer traffic, are lost without harm to the registry, and touch neither the log nor the 14 tables. What differs
//! between several pods on Redis and one pod on SQLite is behind one trait, [`SharedKeys`], whose methods are single
//! atomic steps; everything a step does not need to know (limits, gates, when to rotate) is said once, above it:
//!
//! ```text
//!  rate_limit   login   cdc   scoped_key   revocation     what the orchestrator calls; limits and decisions
//!       └─────────┴──────┼────────┴────────────┘
//!                   SharedKeys                            one atomic step each
//!                ┌───────┴────────┐
//!             memory            redis                     one process / all pods
//! ```
//!
//! Architecture invariant: nothing here names the log, a table or a command.

use std::{net::IpAddr, sync::Arc};

use tasklog_log::{Millis, StoreError};

pub mod cdc;
pub mod config;
pub mod login;
pub mod memory;
pub mod rate_limit;
pub mod redis;
pub mod revocation;
pub mod scoped_key;

pub use cdc::{CdcChange, CdcFront, CdcOverflow, Pushed};
pub use config::{CdcOverflowTier, LimitBackend, SharedConfig, StoreBackend};
pub use login::{AdminLogin, Login, LoginGate, LoginOutcome, LoginPolicy, LoginRecord};
pub use memory::MemoryKeys;
pub use rate_limit::{Counter, Hits, RateLimit, Verdict};
pub use redis::RedisKeys;
pub use revocation::{Revocation, RevocationChannel, Revocations};
pub use scoped_key::{Gate, KeyChange, KeyChanged, KeyState, Peers, ScopedKeyRecord, ScopedKeys};

/// The atomic steps of all facilities.
///
/// - Each method is one step: whole or absent, and no other caller, thread or pod sees half of it.
/// - The instant of a step is the backend's: the server's clock on Redis, the given clock in one process.
/// - A repeat after an error may count twice (limits, failures, changes in a buffer): the outcome of a step whose answer
///   was lost is unknown. No method repeats itself.
/// - What lives for a time is gone at `now >= end`.
/// - User-chosen names (sinks, indexes, pods) may hold any character and never collide.
///
/// # Errors
/// Every method: `unavailable` if the backend does not answer or cannot write, in which case a retry may help; `corrupt`
/// if a key holds what it cannot hold, for example a foreign value of another type.
#[allow(clippy::missing_errors_doc)]
pub trait SharedKeys: Send + Sync {
    /// Counts one hit in the counter's present window of `window_ms`; the first hit begins a window, later ones do not
    /// renew it.
    fn hit(&self, counter: &Counter, window_ms: Millis) -> Result<Hits, StoreError>;

    /// Begins a login attempt: refused and not counted during a block, otherwise counted like [`SharedKeys::hit`].
    fn login_attempt(&self, ip: IpAddr, window_ms: Millis) -> Result<LoginGate, StoreError>;

    /// Ends a login attempt: a failure is counted and may block, a success forgets counter and failures.
    fn login_outcome(&self, ip: IpAddr, outcome: &LoginOutcome) -> Result<LoginRecord, StoreError>;

    /// Adds a change at the end of a sink's buffer and drops the oldest ones until it fits into `bytes_max`; a change
    /// beyond the bound is dropped itself. May stop early (`stored` false, `more` true): then it is called again.
    fn cdc_push(&self, sink: &str, change: &[u8], bytes_max: u64) -> Result<Pushed, StoreError>;

    /// The oldest changes of a sink, at most `changes_max` and at most [`cdc::FRONT_CHANGES_MAX`] and
    /// [`cdc::FRONT_BYTES_MAX`], but at least one if there is any. They stay where they are.
    fn cdc_front(&self, sink: &str, changes_max: usize) -> Result<CdcFront, StoreError>;

    /// Removes changes from the front, in the order [`SharedKeys::cdc_front`] gave them; one that is not at the front
    /// any more (dropped, or acknowledged by another pod) is passed over. Answers how many were removed.
    fn cdc_ack(&self, sink: &str, tokens: &[String]) -> Result<u64, StoreError>;

    /// A scoped-key record, the generation each of `peers` shows, and the instant of both.
    fn key_state(&self, index: &str, peers: &[&str]) -> Result<KeyState, StoreError>;

    /// Changes a scoped-key record if it still is what the change expects ([`scoped_key::apply`]).
    fn key_change(&self, index: &str, change: &KeyChange) -> Result<KeyChanged, StoreError>;

    /// Writes a pod's beacon: it uses this generation. The beacon lives for `ttl_ms`.
    fn key_observe(&self, pod: &str, index: &str, generation: u64, ttl_ms: Millis) -> Result<(), StoreError>;

    /// The indexes that have a scoped-key record, in order of their names.
    fn key_indexes(&self) -> Result<Vec<String>, StoreError>;

    /// Tells every listener that a session was revoked; at most once, to whoever listens now.
    fn publish_revoked(&self, session_id: &str) -> Result<(), StoreError>;

    /// Listens to revocations from now on; when it answers, the listener hears everything that is published later.
    fn revocations(&self) -> Result<Revocations, StoreError>;
}

/// The facilities, each on the backend that the settings choose.
#[derive(Clone)]
pub struct Shared {
    config: Arc<SharedConfig>,
    store: StoreBackend,
    shared: Arc<dyn SharedKeys>,
    local: Arc<dyn SharedKeys>,
}

impl Shared {
    /// The facilities of one pod: `shared` is what all pods see, `local` what this process sees; with SQLite both are
    /// the same.
    ///
    /// # Errors
    /// `invalid`, naming the setting, if the settings cannot hold on this backend.
    pub fn new(
        config: SharedConfig,
        store: StoreBackend,
        shared: Arc<dyn SharedKeys>,
        local: Arc<dyn SharedKeys>,
    ) -> Result<Self, crate::Rejection> {
        config.check(store)?;
        Ok(Self { config: Arc::new(config), store, shared, local })
    }

    fn limits(&self, backend: Option<LimitBackend>) -> Arc<dyn SharedKeys> {
        match backend.unwrap_or_else(|| self.store.limits()) {
            LimitBackend::Local => Arc::clone(&self.local),
            LimitBackend::Redis => Arc::clone(&self.shared),
        }
    }

    /// The limit on queries and beacons of the search page.
    #[must_use]
    pub fn search_ui(&self) -> RateLimit {
        let config = &self.config;
        let keys = self.limits(config.search_ui_backend);
        RateLimit::new(keys, Counter::SearchUi, config.search_ui_per_ip, config.search_ui_window_ms)
    }

    /// The limit on minting sessions of the search page.
    #[must_use]
    pub fn search_ui_sessions(&self) -> RateLimit {
        let config = &self.config;
        let keys = self.limits(config.search_ui_backend);
        RateLimit::new(keys, Counter::SearchUiSession, config.search_ui_sessions_per_ip, config.search_ui_window_ms)
    }

    /// The limit on admin logins, with its backoff.
    #[must_use]
    pub fn admin_login(&self) -> AdminLogin {
        AdminLogin::new(self.limits(self.config.admin_ui_backend), Arc::clone(&self.config))
    }

    /// The overflow buffer of one sink.
    #[must_use]
    pub fn cdc_overflow(&self, sink: &str) -> CdcOverflow {
        let tier = self.config.cdc_overflow.unwrap_or_else(|| self.store.overflow());
        let keys = match tier {
            CdcOverflowTier::Redis => Some(Arc::clone(&self.shared)),
            CdcOverflowTier::Pvc => Some(Arc::clone(&self.local)),
            CdcOverflowTier::Drop => None,
        };
        CdcOverflow::new(keys, sink, self.config.cdc_overflow_bytes)
    }

    /// The scoped keys of the search page.
    #[must_use]
    pub fn scoped_keys(&self) -> ScopedKeys {
        ScopedKeys::new(Arc::clone(&self.shared), Arc::clone(&self.config))
    }

    /// The channel on which revoked admin sessions are told.
    #[must_use]
    pub fn revocation_channel(&self) -> RevocationChannel {
        RevocationChannel::new(Arc::clone(&self.shared))
    }
}
