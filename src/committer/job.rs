use std::sync::{Arc, atomic::AtomicUsize};

use rusqlite::Connection;
use tasklog_log::StoreError;
use tokio::sync::mpsc;

use super::{Busy, Work, stopped};

/// Something that is not a request and has to be done on the writing connection: it runs between two batches, in a
/// transaction of its own, and its caller waits.
pub(crate) struct Job {
    /// Whether rows may be others afterwards, so that none that was read before counts.
    pub(crate) changes_rows: bool,
    /// What to do.
    pub(crate) run: RunJob,
}

/// Is given the writing connection, or why there is none.
pub(crate) type RunJob = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Connected + Send>;

/// What a job has left of the writing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connected {
    /// It can be written through as before.
    Fit,
    /// The file could not be written: the connection is opened anew before anything else is.
    GiveUp,
}

/// A job in the queue. It counts as being on its way.
pub(super) struct QueuedJob {
    pub(super) job: Job,
    pub(super) busy: Busy,
}

/// The queue of a committer, as long as that takes something.
#[derive(Clone)]
pub(crate) struct Jobs {
    queue: mpsc::WeakSender<Work>,
    busy: Arc<AtomicUsize>,
}

impl Jobs {
    pub(super) fn new(queue: &mpsc::Sender<Work>, busy: &Arc<AtomicUsize>) -> Self {
        Self { queue: queue.downgrade(), busy: Arc::clone(busy) }
    }

    /// Queues a job. It is run, or told why it cannot be, before the committer ends. For threads outside an async runtime.
    pub(crate) fn send(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.upgrade().ok_or_else(stopped)?;
        queue.blocking_send(Work::Job(QueuedJob { job, busy: Busy::new(&self.busy) })).map_err(|_| stopped())
    }
}
