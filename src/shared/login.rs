//! The limit on admin logins: a counter in a window, and a block that grows with consecutive failures.

use std::{net::IpAddr, sync::Arc};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tasklog_log::{Millis, StoreError};

use super::{SharedConfig, SharedKeys, rate_limit::seconds};

/// No block doubles more often than this, so that no arithmetic overflows.
pub const DOUBLINGS_MAX: u64 = 30;

/// When consecutive failures block, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginPolicy {
    /// The first failure that blocks.
    pub threshold: u64,
    /// ms: the first block.
    pub start_ms: Millis,
    /// ms: the longest block.
    pub max_ms: Millis,
    /// ms: how long failures are remembered after the block, or after the last failure below the threshold.
    pub kept_ms: Millis,
}

impl LoginPolicy {
    /// How long the `failed_count`-th consecutive failure blocks, in ms: 0 below the threshold, then the first block,
    /// doubled with every further failure up to the longest.
    ///
    /// ```
    /// use tasklog::shared::{LoginPolicy, SharedConfig};
    /// let policy = LoginPolicy::from(&SharedConfig::default());
    /// let minutes: Vec<_> = (4..14).map(|failure| policy.block_ms(failure) / 60_000).collect();
    /// assert_eq!(minutes, [0, 10, 20, 40, 80, 160, 320, 640, 1280, 1440]);
    /// ```
    #[must_use]
    pub fn block_ms(&self, failed_count: u64) -> Millis {
        match failed_count.checked_sub(self.threshold) {
            None => 0,
            Some(doublings) => self.start_ms.saturating_mul(1 << doublings.min(DOUBLINGS_MAX)).min(self.max_ms),
        }
    }

    /// The record after one more failure at `now`, and the instant at which it is forgotten.
    #[must_use]
    pub fn fail(&self, failed_count: u64, now: Millis) -> (LoginRecord, Millis) {
        let failed_count = failed_count.saturating_add(1);
        let block_ms = self.block_ms(failed_count);
        let next_allowed_at = if block_ms == 0 { 0 } else { now.saturating_add(block_ms) };
        (LoginRecord { failed_count, next_allowed_at }, now.saturating_add(block_ms).saturating_add(self.kept_ms))
    }
}

impl From<&SharedConfig> for LoginPolicy {
    fn from(config: &SharedConfig) -> Self {
        Self {
            threshold: config.admin_ui_failures_threshold,
            start_ms: config.admin_ui_backoff_start_ms,
            max_ms: config.admin_ui_backoff_max_ms,
            kept_ms: config.admin_ui_failures_kept_ms,
        }
    }
}

/// Consecutive failures of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginRecord {
    /// Failures since the last success.
    pub failed_count: u64,
    /// ms: the end of the block; 0 if there never was one.
    pub next_allowed_at: Millis,
}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginGate {
    /// A block lasts; the attempt was not counted.
    Blocked {
        /// ms: the end of the block.
        until: Millis,
        /// ms until then.
        left_ms: Millis,
    },
    /// Counted.
    Counted(super::Hits),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The key was right: counter and failures are forgotten.
    Succeeded,
    /// The key was wrong.
    Failed(LoginPolicy),
}

/// The answer to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The key was right.
    Admitted,
    /// The key was wrong; what is remembered now.
    WrongKey(LoginRecord),
    /// The key was not looked at: a block lasts.
    Blocked {
        /// Whole seconds until its end, rounded up.
        retry_in_s: u64,
    },
    /// The key was not looked at: too many attempts in this window.
    TooMany {
        /// Whole seconds until the window ends, rounded up.
        retry_in_s: u64,
    },
}

/// Compares two secrets in a time that depends on neither their content nor where they differ; their digests are
/// compared, so that not even the length shows.
#[must_use]
pub fn secrets_equal(given: &[u8], expected: &[u8]) -> bool {
    Sha256::digest(given).ct_eq(&Sha256::digest(expected)).into()
}

/// The limit on admin logins.
#[derive(Clone)]
pub struct AdminLogin {
    keys: Arc<dyn SharedKeys>,
    config: Arc<SharedConfig>,
}

impl AdminLogin {
    /// The limit with these settings.
    #[must_use]
    pub fn new(keys: Arc<dyn SharedKeys>, config: Arc<SharedConfig>) -> Self {
        Self { keys, config }
    }

    /// One attempt: the block first, then the counter, and only then `key_is_right` (in constant time:
    /// [`secrets_equal`]).
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; never in one process. An attempt whose outcome could not be recorded is an error, even
    /// with the right key.
    pub fn attempt(&self, ip: IpAddr, key_is_right: impl FnOnce() -> bool) -> Result<Login, StoreError> {
        let ip = ip.to_canonical();
        match self.keys.login_attempt(ip, self.config.admin_ui_window_ms)? {
            LoginGate::Blocked { left_ms, .. } => return Ok(Login::Blocked { retry_in_s: seconds(left_ms) }),
            LoginGate::Counted(hits) if hits.count > self.config.admin_ui_per_ip => {
                return Ok(Login::TooMany { retry_in_s: seconds(hits.reset_in_ms) });
            }
            LoginGate::Counted(_) => {}
        }
        if key_is_right() {
            self.keys.login_outcome(ip, &LoginOutcome::Succeeded)?;
            return Ok(Login::Admitted);
        }
        let policy = LoginPolicy::from(&*self.config);
        Ok(Login::WrongKey(self.keys.login_outcome(ip, &LoginOutcome::Failed(policy))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_never_exceeds_its_maximum_however_many_failures() {
        let policy = LoginPolicy::from(&SharedConfig::default());
        for failed_count in [13, 14, 68, 69, 1_000_000, u64::MAX] {
            assert_eq!(policy.block_ms(failed_count), 1_440 * 60_000, "{failed_count}");
        }
        assert_eq!(policy.fail(u64::MAX, 0).0.failed_count, u64::MAX);
    }

    #[test]
    fn secrets_are_equal_only_as_a_whole() {
        assert!(secrets_equal(b"key", b"key"));
        assert!(!secrets_equal(b"key", b"key "));
        assert!(!secrets_equal(b"", b"key"));
    }
}
