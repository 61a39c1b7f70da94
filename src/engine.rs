//! The writer without its thread: decides requests in order and writes a batch of them as one transaction.
//!
//! There is one file for each step of a request's way. It comes (`request.rs`), a batch begins (`begin.rs`, `batch.rs`), it
//! is decided on top of what the batch has (`decide.rs`) and leaves its commit there (`accept.rs`), the batch is written
//! (`finish.rs`), and the caller is answered (`reply.rs`).

mod accept;
mod batch;
mod begin;
mod decide;
mod finish;
mod reply;
mod request;

pub use self::{
    decide::Decided,
    finish::Finished,
    reply::{Answers, AnyReply},
    request::{Request, Stream, TRANSACT_COMMANDS_MAX},
};

use std::sync::{Arc, atomic::AtomicI64};

use tasklog_log::{Millis, StoreError};

use self::batch::Batch;
use crate::{
    backend::{Backend, Fate},
    config::Config,
    meters::{Count, Meters},
    rejection::Error,
    rows::Rows,
};

/// How often a decision is made again because its rows changed under it.
pub const DECIDE_ATTEMPTS_MAX: usize = 8;

/// Decides requests in order against one store, and writes a whole batch of them as one transaction.
///
/// ```text
/// begin ─► decide ─► decide ─► ... ─► finish      (answer the callers only now)
///             └─ rejected: undone, costs the others nothing
/// ```
/// It has no thread and no queue: the committer gives it both.
pub struct Engine<B> {
    backend: B,
    rows: Rows,
    config: Config,
    actor: Arc<str>,
    batch: Batch,
    /// What the last decision left in the batch.
    item: Option<usize>,
    swept_at: Millis,
    /// The newest commit's instant, for readers in this process.
    recorded_at: Arc<AtomicI64>,
    meters: Arc<Meters>,
    /// What the last decision has counted once it stands.
    counts: Vec<Count>,
}

impl<B: Backend> Engine<B> {
    /// A writer over `backend`.
    ///
    /// # Errors
    /// `unavailable`, or `invalid` configuration.
    pub fn new(mut backend: B, config: Config, actor: Arc<str>) -> Result<Self, Error> {
        config.check()?;
        let from = backend.head()?;
        Ok(Self {
            backend,
            rows: Rows::new(),
            config,
            actor,
            batch: Batch::new(from),
            item: None,
            swept_at: 0,
            recorded_at: Arc::new(AtomicI64::new(from.recorded_at)),
            meters: Arc::new(Meters::new()),
            counts: Vec::new(),
        })
    }

    /// The store.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Forgets the rows that are known: between two batches, somebody has made others of them.
    pub fn forget_rows(&mut self) {
        self.rows.clear();
    }

    /// The newest durable commit's instant, kept up to date.
    #[must_use]
    pub fn recorded_at(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.recorded_at)
    }

    /// The same, counting there.
    #[must_use]
    pub fn counting(self, meters: Arc<Meters>) -> Self {
        Self { meters, ..self }
    }

    /// What is counted of the commands that this writer runs.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
    }

    /// Decides one request and makes it durable, alone.
    ///
    /// # Errors
    /// The rejection, or the store's error.
    pub fn execute(&mut self, mut request: Request) -> Result<AnyReply, Error> {
        for _ in 0..DECIDE_ATTEMPTS_MAX {
            loop {
                self.begin()?;
                let mut before = request.before_round();
                let mut decided = self.decide(&mut request);
                while matches!(decided, Ok(Decided::Unsure)) {
                    self.learn()?;
                    // What a round has chosen and counted before it knew the rows is chosen afresh.
                    if let Some(again) = before.take() {
                        request = again;
                        before = request.before_round();
                    }
                    decided = self.decide(&mut request);
                }
                let item = self.item();
                let finished = self.finish()?;
                if let Some(error) = finished.error(item) {
                    return Err(error.into());
                }
                if finished.fate(item) != Fate::Stands {
                    request = before.unwrap_or(request);
                    break;
                }
                match decided? {
                    Decided::Reply(mut reply) => {
                        self.complete(&mut reply, item)?;
                        return Ok(reply);
                    }
                    Decided::Again => self.complete_round(&mut request),
                    Decided::Unsure | Decided::Later => {}
                }
            }
        }
        Err(too_many_attempts().into())
    }
}

/// Rows kept changing under a decision.
pub(crate) fn too_many_attempts() -> StoreError {
    StoreError::unavailable(format!("rows changed under the decision {DECIDE_ATTEMPTS_MAX} times in a row"))
}
