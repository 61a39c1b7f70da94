use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use prometheus::{Gauge, Histogram, Registry};
use tasklog_log::Position;

use super::{LONG_S, PREFIX, histogram, made};

/// What a process knows of its rebuilds. They run while stores are being opened, before there is anything that belongs to
/// a store, so they are told by the process.
pub(super) struct Rebuilds {
    pub(super) registry: Registry,
    seconds: Histogram,
    ratio: Gauge,
    until: AtomicU64,
}

pub(super) static REBUILDS: LazyLock<Rebuilds> = LazyLock::new(|| {
    let registry = Registry::new();
    Rebuilds {
        seconds: made(
            &registry,
            histogram("rebuild_seconds", "How long a rebuild of tables from the log took.", LONG_S),
        ),
        ratio: made(
            &registry,
            Gauge::new(
                format!("{PREFIX}rebuild_progress_ratio"),
                "How far the rebuild of this process has come; 1 if none is running.",
            ),
        ),
        until: AtomicU64::new(0),
        registry,
    }
});

impl Rebuilds {
    /// At its end until the first one begins.
    pub(super) fn look(&self) {
        if self.until.load(Ordering::Relaxed) == 0 {
            self.ratio.set(1.0);
        }
    }
}

/// A rebuild that is running.
pub(crate) struct Rebuilding {
    began: Instant,
}

impl Rebuilding {
    /// It reads the log through `until`.
    pub(crate) fn begin(until: Position) -> Self {
        let rebuilding = Self { began: Instant::now() };
        REBUILDS.until.store(until.0.max(1), Ordering::Relaxed);
        rebuilding.at(Position::ZERO);
        rebuilding
    }

    /// It has come to this position.
    pub(crate) fn at(&self, position: Position) {
        let until = REBUILDS.until.load(Ordering::Relaxed).max(1);
        REBUILDS.ratio.set((position.0 as f64 / until as f64).min(1.0));
    }

    /// It is done: the new rows are in their place.
    pub(crate) fn done(self) {
        REBUILDS.seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

impl Drop for Rebuilding {
    fn drop(&mut self) {
        REBUILDS.ratio.set(1.0);
        REBUILDS.until.store(0, Ordering::Relaxed);
    }
}
