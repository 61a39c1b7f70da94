//! Who writes: one thread with a queue before it, or the lone caller itself.

mod answers;
mod desk;
mod job;
mod lanes;

pub(crate) use job::{Connected, Job, Jobs};
pub(crate) use lanes::Lanes;

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use tasklog_log::StoreError;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

use self::{
    desk::{Desk, Loop, linger},
    job::QueuedJob,
};
use crate::{
    backend::Backend,
    engine::{AnyReply, Engine, Request},
    rejection::Error,
};

/// Callers that may wait in the queue; the next one waits for room.
const QUEUE_REQUESTS_MAX: usize = 4_096;

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
    busy: Busy,
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

    /// Only if there is no other.
    fn alone(count: &Arc<AtomicUsize>) -> Option<Self> {
        let first = count.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
        first.is_ok().then(|| Self(Arc::clone(count)))
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
/// 100 µs. So many callers share a sync, and a lone caller waits for nobody: if it is a thread of its own and nothing
/// else is on its way, it writes by itself, which spares two changes of threads.
pub(crate) struct Committer {
    queue: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
    recorded_at: Arc<AtomicI64>,
    /// The thread's; gone when the thread is.
    desk: Weak<Mutex<dyn Desk>>,
    /// Requests and jobs that are not answered yet.
    busy: Arc<AtomicUsize>,
}

/// An answer on its way.
pub(crate) struct Pending(oneshot::Receiver<Answer>);

impl Committer {
    /// Starts the thread. `open` runs on it.
    pub(crate) fn start<B, F>(open: F) -> Result<Self, Error>
    where
        B: Backend + Send + 'static,
        F: FnOnce() -> Result<Engine<B>, Error> + Send + 'static,
    {
        let (queue, mut inbox) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (opened, opening) = std::sync::mpsc::sync_channel(1);
        let work = move || match open() {
            Ok(engine) => {
                // The opener waits for this; if it is gone, the queue is closed and the loop ends at once.
                let recorded_at = engine.recorded_at();
                let desk = Arc::new(Mutex::new(Loop::new(engine)));
                let shared: Weak<Mutex<dyn Desk>> = Arc::downgrade(&(Arc::clone(&desk) as Arc<Mutex<dyn Desk>>));
                let _ = opened.send(Ok((recorded_at, shared)));
                serve(&desk, &mut inbox);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let thread = thread::Builder::new()
            .name("tasklog-committer".into())
            .spawn(work)
            .map_err(|error| StoreError::unavailable_because("starting the committer thread", error))?;
        let (recorded_at, desk) = opening.recv().unwrap_or_else(|_| Err(stopped().into()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), recorded_at, desk, busy: Arc::default() })
    }

    /// Queues a request, waiting for room.
    pub(crate) async fn send(&self, request: Request) -> Result<Pending, Error> {
        let (mut waiting, pending) = waiting(request, Busy::new(&self.busy));
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
        let (waiting, pending) = waiting(request, Busy::new(&self.busy));
        self.queue()?.blocking_send(Work::Request(waiting)).map_err(|_| stopped())?;
        Ok(pending)
    }

    /// Runs a request for a thread outside an async runtime, which waits for the answer: on this thread, if nothing else
    /// is on its way.
    pub(crate) fn run_blocking(&self, mut request: Request) -> Answer {
        request.ordered = true;
        let alone = Busy::alone(&self.busy);
        let lone = alone.is_some();
        let (waiting, pending) = waiting(request, alone.unwrap_or_else(|| Busy::new(&self.busy)));
        let queue = self.queue()?;
        let left = match self.desk.upgrade() {
            Some(desk) if lone => desk.lock().map_err(|_| stopped())?.alone(waiting),
            _ => vec![waiting],
        };
        for waiting in left {
            queue.blocking_send(Work::Request(waiting)).map_err(|_| stopped())?;
        }
        pending.answer_blocking()
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

    fn queue(&self) -> Result<&mpsc::Sender<Work>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }
}

impl Pending {
    /// The answer, once the request's batch is durable.
    pub(crate) async fn answer(self) -> Answer {
        self.0.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// [`Pending::answer`] for threads outside an async runtime.
    pub(crate) fn answer_blocking(self) -> Answer {
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

/// What the thread does: it takes the desk when there is something to do.
fn serve<B: Backend>(desk: &Mutex<Loop<B>>, inbox: &mut mpsc::Receiver<Work>) {
    loop {
        // A caller that was just answered often has the next command at hand: meeting it here is quicker than falling
        // asleep and being woken.
        let Some(first) = linger(inbox, true).or_else(|| inbox.blocking_recv()) else { return };
        // Whoever panicked with the desk may have left anything there.
        let Ok(mut desk) = desk.lock() else { return };
        desk.run(first, inbox);
    }
}

fn waiting(request: Request, busy: Busy) -> (Waiting, Pending) {
    let (answer, receiver) = oneshot::channel();
    (Waiting { request, before: None, answer, runtime: None, attempts: 0, put_off: None, busy }, Pending(receiver))
}

fn stopped() -> StoreError {
    StoreError::unavailable("the store is closed")
}
