//! Who writes: one thread with a queue before it, and for a crowd a second one.

mod answers;
mod job;
mod lanes;
mod writer;

pub(crate) use job::{Connected, Job, Jobs};
pub(crate) use lanes::Lanes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

use self::{job::QueuedJob, writer::Writer};
use crate::{
    backend::Backend,
    engine::{AnyReply, Engine, Request, Stream},
    rejection::Error,
};

/// Callers that may wait in the queue; the next one waits for room.
const QUEUE_REQUESTS_MAX: usize = 4_096;
/// How long a lone caller looks for its answer before it falls asleep.
const LOOK_MAX: Duration = Duration::from_micros(300);

type Answer = Result<AnyReply, Error>;

/// A request and where its answer goes.
struct Waiting {
    request: Request,
    /// The request as it was before its last round, if a round changes it.
    before: Option<Request>,
    answer: oneshot::Sender<Answer>,
    accepted: Instant,
    /// The async runtime that the caller waits in, if it has worker threads.
    runtime: Option<Handle>,
    attempts: usize,
    /// Since when it has been put off.
    put_off: Option<Instant>,
    place: Place,
    busy: Busy,
}

/// A request's place in its caller's stream. Unless it says that its request came to an answer of its own, what stands behind
/// it in the stream is refused: also after a panic.
struct Place(Option<Stream>);

impl Place {
    /// The request has this answer.
    fn answered(&mut self, answer: &Answer) {
        if !matches!(answer, Err(Error::Store(_))) {
            self.0 = None;
        }
    }

    /// # Errors
    /// Why the request is not to be carried out.
    fn check(&self) -> Result<(), StoreError> {
        self.0.as_ref().map_or(Ok(()), Stream::check)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            stream.fail();
        }
    }
}

/// What stands in the queue.
#[allow(clippy::large_enum_variant, reason = "requests are nearly all that passes through it")]
enum Work {
    Request(Waiting),
    Job(QueuedJob),
}

/// Counts what is queued from before it is until it is answered.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The one thread that owns the writing connection: takes all waiting requests, decides them in order, writes once,
/// syncs once, answers each caller.
///
/// A batch is what arrived while the last one was being written. Callers that have just been answered are about to come
/// back: only as long as fewer are here than the last batch had does the thread linger, and never for longer than
/// 100 µs. So many callers share a sync, and a lone caller waits for nobody.
pub(crate) struct Committer {
    queue: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
    recorded_at: Arc<AtomicI64>,
    /// Requests and jobs that are not answered yet.
    busy: Arc<AtomicUsize>,
}

/// An answer on its way.
pub(crate) struct Pending {
    answer: oneshot::Receiver<Answer>,
    busy: Arc<AtomicUsize>,
}

impl Committer {
    /// Starts the thread. `open` runs on it.
    pub(crate) fn start<B, F>(open: F) -> Result<Self, Error>
    where
        B: Backend + Send + 'static,
        F: FnOnce() -> Result<Engine<B>, Error> + Send + 'static,
    {
        let (queue, inbox) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (opened, opening) = std::sync::mpsc::sync_channel(1);
        let work = move || match open() {
            Ok(engine) => {
                // The opener waits for this; if it is gone, the queue is closed and the loop ends at once.
                let _ = opened.send(Ok(engine.recorded_at()));
                Writer::new(engine, inbox).run();
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
        Ok(Self { queue: Some(queue), thread: Some(thread), recorded_at, busy: Arc::default() })
    }

    /// Queues a request, waiting for room.
    pub(crate) async fn send(&self, request: Request) -> Result<Pending, Error> {
        let (mut waiting, pending) = self.waiting(request);
        // Only a runtime with worker threads is sure to run the task that wakes its callers: another one may be entered
        // without being driven, and would keep their answers.
        let runtime = Handle::try_current().ok();
        waiting.runtime = runtime.filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
        self.queue()?.send(Work::Request(waiting)).await.map_err(|_| stopped())?;
        Ok(pending)
    }

    /// [`Committer::send`] for threads outside an async runtime.
    pub(crate) fn send_blocking(&self, mut request: Request) -> Result<Pending, Error> {
        request.ordered = true;
        let (waiting, pending) = self.waiting(request);
        self.queue()?.blocking_send(Work::Request(waiting)).map_err(|_| stopped())?;
        Ok(pending)
    }

    /// Where jobs go, for a thread that must not keep the committer from ending.
    pub(crate) fn jobs(&self) -> Result<Jobs, StoreError> {
        Ok(Jobs::new(self.queue()?, &self.busy))
    }

    /// How many requests and jobs are not answered yet.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// The newest durable commit's instant.
    pub(crate) fn recorded_at(&self) -> i64 {
        self.recorded_at.load(Ordering::Acquire)
    }

    fn waiting(&self, request: Request) -> (Waiting, Pending) {
        let (sender, answer) = oneshot::channel();
        let busy = Busy::new(&self.busy);
        let place = Place(request.stream.clone());
        let waiting = Waiting {
            request,
            before: None,
            answer: sender,
            accepted: Instant::now(),
            runtime: None,
            attempts: 0,
            put_off: None,
            place,
            busy,
        };
        (waiting, Pending { answer, busy: Arc::clone(&self.busy) })
    }

    fn queue(&self) -> Result<&mpsc::Sender<Work>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }
}

impl Pending {
    /// The answer, once the request's batch is durable.
    pub(crate) async fn answer(self) -> Answer {
        self.answer.await.unwrap_or_else(|_| Err(unanswered().into()))
    }

    /// [`Pending::answer`] for threads outside an async runtime.
    ///
    /// A lone caller's answer is often there in less time than it takes to fall asleep and be woken: it is looked for a
    /// little first. In company that would only keep others from working.
    pub(crate) fn answer_blocking(mut self) -> Answer {
        let began = Instant::now();
        while self.busy.load(Ordering::Relaxed) <= 1 && began.elapsed() < LOOK_MAX {
            match self.answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => thread::yield_now(),
                answered => return answered.unwrap_or_else(|_| Err(unanswered().into())),
            }
        }
        self.answer.blocking_recv().unwrap_or_else(|_| Err(unanswered().into()))
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

fn stopped() -> StoreError {
    StoreError::unavailable("the store is closed")
}

fn unanswered() -> StoreError {
    StoreError::unavailable(
        "the committer ended without an answer: whether the command was carried out is not known, repeat it with its command_id",
    )
}
