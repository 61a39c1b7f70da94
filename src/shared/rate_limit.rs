//! Limits on hits of one IP address in a fixed window.

use std::{net::IpAddr, sync::Arc};

use tasklog_log::{Millis, StoreError};

use super::SharedKeys;

/// What is counted, for which address. Addresses are canonical: an IPv4 address in IPv6 clothes counts as itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Queries and beacons of the search page.
    SearchUi(IpAddr),
    /// Sessions minted for the search page.
    SearchUiSession(IpAddr),
}

/// One hit, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Hits in this window, this one included.
    pub count: u64,
    /// ms until the window ends.
    pub reset_in_ms: Millis,
}

/// Whether a hit is within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `count <= limit`
    pub allowed: bool,
    /// Hits in this window, this one included.
    pub count: u64,
    /// Whole seconds until the window ends, rounded up: `Retry-After`.
    pub reset_in_s: u64,
}

impl Hits {
    /// Judges by a limit.
    #[must_use]
    pub fn judge(self, limit: u64) -> Verdict {
        Verdict { allowed: self.count <= limit, count: self.count, reset_in_s: seconds(self.reset_in_ms) }
    }
}

/// Whole seconds, rounded up; 0 for what is over.
pub(super) fn seconds(ms: Millis) -> u64 {
    u64::try_from(ms).unwrap_or(0).div_ceil(1_000)
}

/// One limit.
#[derive(Clone)]
pub struct RateLimit {
    keys: Arc<dyn SharedKeys>,
    counter: fn(IpAddr) -> Counter,
    limit: u64,
    window_ms: Millis,
}

impl RateLimit {
    /// At most `limit` hits of one address in a window of `window_ms`.
    #[must_use]
    pub fn new(keys: Arc<dyn SharedKeys>, counter: fn(IpAddr) -> Counter, limit: u64, window_ms: Millis) -> Self {
        Self { keys, counter, limit, window_ms }
    }

    /// Counts a hit and says whether it is allowed. Refused hits count too, but never renew the window.
    ///
    /// # Errors
    /// Those of [`SharedKeys`]; never in one process.
    pub fn hit(&self, ip: IpAddr) -> Result<Verdict, StoreError> {
        let hits = self.keys.hit(&(self.counter)(ip.to_canonical()), self.window_ms)?;
        Ok(hits.judge(self.limit))
    }
}
