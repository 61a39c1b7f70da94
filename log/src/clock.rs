use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// The largest instant the log accepts: 2^53 - 1, the largest integer a double holds exactly.
pub const TIME_MS_MAX: Millis = (1 << 53) - 1;

/// Where a log that keeps its own time reads it. A log never lets `recorded_at` fall below its last event's,
/// whatever its clock does.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Millis;
}

/// The process clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(TIME_MS_MAX).min(TIME_MS_MAX)
    }
}

/// A clock that stands still until it is told: for tests, and for recordings that bring their own time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Millis) -> Self {
        Self(Arc::new(AtomicI64::new(now)))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: Millis) {
        self.0.store(now, Ordering::Release);
    }

    /// Moves the clock on.
    pub fn advance(&self, ms: Millis) {
        self.0.fetch_add(ms, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::Acquire)
    }
}
