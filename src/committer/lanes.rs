use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;

use super::{Committer, Jobs, Pending};
use crate::{engine::Request, rejection::Error};

/// Requests on their way at once that make a crowd.
const CROWD: usize = 64;
/// ms: how long both lanes are used after a crowd was seen.
const CROWD_MS: u64 = 1_000;
/// How long a second lane that could not be opened is left alone.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// Opens one more writer of the same store.
pub(crate) type OpenLane = Box<dyn Fn() -> Result<Committer, Error> + Send + Sync>;

/// The writers of one store in this process: one, and where others write as well, a second one for a crowd.
///
/// While the server carries out one writer's script, the other one decides. They are to each other what two processes are, so
/// nothing has to be kept from happening: a decision on rows that the other one changed is found stale. To make that
/// rare, a row's commands go the same way as long as there is a crowd. Without one, a single writer makes the larger
/// batches.
pub(crate) struct Lanes {
    first: Committer,
    second: Option<Arc<Second>>,
    began: Instant,
    /// ms after `began`, when a crowd was last seen; 0 for never.
    crowded_at: AtomicU64,
}

struct Second {
    open: OpenLane,
    opening: AtomicBool,
    lane: OnceLock<Committer>,
}

impl Lanes {
    /// One writer only.
    pub(crate) fn one(first: Committer) -> Self {
        Self { first, second: None, began: Instant::now(), crowded_at: AtomicU64::new(0) }
    }

    /// One writer, and a second one as soon as there is a crowd.
    pub(crate) fn two(first: Committer, open: OpenLane) -> Self {
        let second = Second { open, opening: AtomicBool::new(false), lane: OnceLock::new() };
        Self { second: Some(Arc::new(second)), ..Self::one(first) }
    }

    /// [`Committer::send`]
    pub(crate) async fn send(&self, request: Request) -> Result<Pending, Error> {
        self.lane(&request).send(request).await
    }

    /// [`Committer::send_blocking`]. These have an order, so all of them go one way.
    pub(crate) fn send_blocking(&self, request: Request) -> Result<Pending, Error> {
        self.first.send_blocking(request)
    }

    /// [`Lanes::send_blocking`] from within an async runtime.
    pub(crate) async fn send_ordered(&self, mut request: Request) -> Result<Pending, Error> {
        request.ordered = true;
        self.first.send(request).await
    }

    /// How many requests and jobs are not answered yet.
    pub(crate) fn busy(&self) -> usize {
        self.first.busy() + self.second.as_ref().and_then(|second| second.lane.get()).map_or(0, Committer::busy)
    }

    /// [`Committer::jobs`] of the first lane: for work on the connection of a store that has one writer.
    pub(crate) fn jobs(&self) -> Result<Jobs, StoreError> {
        self.first.jobs()
    }

    /// [`Committer::jobs`] of every lane, for what all of them are to know. One that is being opened has read nothing.
    pub(crate) fn all_jobs(&self) -> Result<Vec<Jobs>, StoreError> {
        let second = self.second.as_ref().and_then(|second| second.lane.get());
        std::iter::once(&self.first).chain(second).map(Committer::jobs).collect()
    }

    /// [`Committer::recorded_at`]
    pub(crate) fn recorded_at(&self) -> i64 {
        self.first.recorded_at()
    }

    fn lane(&self, request: &Request) -> &Committer {
        let Some(second) = &self.second else { return &self.first };
        let busy = self.busy();
        let seen = self.crowded_at.load(Ordering::Relaxed);
        if busy < CROWD && seen == 0 {
            return &self.first;
        }
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        if busy >= CROWD {
            self.crowded_at.store(now, Ordering::Relaxed);
            open(second);
        } else if now.saturating_sub(seen) > CROWD_MS {
            return &self.first;
        }
        let row = request.commands.first().and_then(|command| command.row());
        match (row, second.lane.get()) {
            (Some(row), Some(lane)) if is_second(row) => lane,
            _ => &self.first,
        }
    }
}

/// The same row always goes the same way.
fn is_second(row: &str) -> bool {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(row) & 1 == 1
}

/// Opens the second lane on a thread of its own: nobody waits for it, and until it is there the first one does all.
fn open(second: &Arc<Second>) {
    if second.lane.get().is_some() || second.opening.swap(true, Ordering::AcqRel) {
        return;
    }
    let store: Weak<Second> = Arc::downgrade(second);
    let opened = thread::Builder::new().name("tasklog-lane".into()).spawn(move || {
        let Some(second) = store.upgrade() else { return };
        match (second.open)() {
            Ok(lane) => drop(second.lane.set(lane)),
            Err(error) => {
                tracing::warn!(%error, "a second writer could not be opened: one does all");
                thread::sleep(OPEN_PAUSE);
                second.opening.store(false, Ordering::Release);
            }
        }
    });
    if let Err(error) = opened {
        tracing::warn!(%error, "no thread for a second writer: one does all");
        // The next crowd tries again.
        second.opening.store(false, Ordering::Release);
    }
}
