//! The one thread that owns a writing connection, and the queue before it.

mod answers;
mod desk;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

use self::desk::Loop;
use crate::{
    backend::Backend,
    engine::{AnyReply, Engine, Request},
    rejection::Error,
};

/// Callers that may wait in the queue; the next one waits for room.
const QUEUE_REQUESTS_MAX: usize = 4_096;
/// How long a blocked caller looks for its answer before it sleeps.
const SPIN_MAX: Duration = Duration::from_micros(300);

type Answer = Result<AnyReply, Error>;

/// A request and where its answer goes.
struct Waiting {
    request: Request,
    /// The request as it was before its last round, if a round changes it.
    before: Option<Request>,
    answer: oneshot::Sender<Answer>,
    /// The async runtime that the caller waits in, if it has worker threads.
    runtime: Option<Handle>,
    attempts: usize,
    /// Since when it has been put off.
    put_off: Option<Instant>,
}

/// The one thread that owns the writing connection: takes all waiting requests, decides them in order, writes once,
/// syncs once, answers each caller.
///
/// A batch is what arrived while the last one was being written. Callers that have just been answered are about to come
/// back: only as long as fewer are here than the last batch had does the thread linger, and never for longer than
/// [`LINGER_MAX`]. So many callers share a sync, and a lone caller waits for nobody.
pub(crate) struct Committer {
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<thread::JoinHandle<()>>,
    recorded_at: Arc<AtomicI64>,
}

/// An answer on its way.
pub(crate) struct Pending(oneshot::Receiver<Answer>);

impl Committer {
    /// Starts the thread. `open` runs on it.
    pub(crate) fn start<B, F>(open: F) -> Result<Self, Error>
    where
        B: Backend + 'static,
        F: FnOnce() -> Result<Engine<B>, Error> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (opened, opening) = std::sync::mpsc::sync_channel(1);
        let work = move || match open() {
            Ok(engine) => {
                // The opener waits for this; if it is gone, the queue is closed and the loop ends at once.
                let _ = opened.send(Ok(engine.recorded_at()));
                Loop::new(engine, waiting).run();
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let thread = thread::Builder::new()
            .name("tasklog-committer".into())
            .spawn(work)
            .map_err(|error| StoreError::unavailable_because("starting the committer thread", error))?;
        let recorded_at = opening.recv().unwrap_or_else(|_| Err(stopped().into()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), recorded_at })
    }

    /// Queues a request, waiting for room.
    pub(crate) async fn send(&self, request: Request) -> Result<Pending, Error> {
        let (mut waiting, pending) = waiting(request);
        // Only a runtime with worker threads is sure to run the task that wakes its callers: another one may be entered
        // without being driven, and would keep their answers.
        let runtime = Handle::try_current().ok();
        waiting.runtime = runtime.filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
        self.queue()?.send(waiting).await.map_err(|_| stopped())?;
        Ok(pending)
    }

    /// [`Committer::send`] for threads outside an async runtime.
    pub(crate) fn send_blocking(&self, mut request: Request) -> Result<Pending, Error> {
        request.ordered = true;
        let (waiting, pending) = waiting(request);
        self.queue()?.blocking_send(waiting).map_err(|_| stopped())?;
        Ok(pending)
    }

    /// The newest durable commit's instant.
    pub(crate) fn recorded_at(&self) -> i64 {
        self.recorded_at.load(Ordering::Acquire)
    }

    fn queue(&self) -> Result<&mpsc::Sender<Waiting>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }
}

impl Pending {
    /// The answer, once the request's batch is durable.
    pub(crate) async fn answer(self) -> Answer {
        self.0.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// [`Pending::answer`] for threads outside an async runtime.
    ///
    /// A lone caller's answer is often there in less time than it takes to fall asleep and be woken: it is looked for a
    /// little first.
    pub(crate) fn answer_blocking(mut self) -> Answer {
        let began = Instant::now();
        while began.elapsed() < SPIN_MAX {
            match self.0.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => thread::yield_now(),
                answered => return answered.unwrap_or_else(|_| Err(stopped().into())),
            }
        }
        self.0.blocking_recv().unwrap_or_else(|_| Err(stopped().into()))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Closing the queue lets the thread finish what was accepted, and then end.
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer thread panicked");
        }
    }
}

fn waiting(request: Request) -> (Waiting, Pending) {
    let (answer, receiver) = oneshot::channel();
    (Waiting { request, before: None, answer, runtime: None, attempts: 0, put_off: None }, Pending(receiver))
}

fn stopped() -> StoreError {
    StoreError::unavailable("the store is closed")
}
