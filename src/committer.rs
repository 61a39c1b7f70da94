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

use crate::{
    backend::Backend,
    engine::{AnyReply, DECIDE_ATTEMPTS_MAX, Decided, Engine, Request, too_many_attempts},
    rejection::Error,
};

/// Callers that may wait in the queue; the next one waits for room.
const QUEUE_REQUESTS_MAX: usize = 4_096;
/// Requests decided in one group commit.
const BATCH_REQUESTS_MAX: usize = 2_048;
/// Events after which a group commit takes no further request.
const BATCH_EVENTS_MAX: u64 = 8_192;
/// How long the thread waits for callers that were in the last batch.
const LINGER_MAX: Duration = Duration::from_micros(100);
/// How long a store that failed to write is left alone before the next attempt to reopen it.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

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
                Loop { engine, waiting, carried: Vec::new(), expected: 1, broken: false }.run();
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
    pub(crate) fn send_blocking(&self, request: Request) -> Result<Pending, Error> {
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

fn waiting(request: Request) -> (Waiting, Pending) {
    let (answer, receiver) = oneshot::channel();
    (Waiting { request, before: None, answer, runtime: None, attempts: 0 }, Pending(receiver))
}

fn stopped() -> StoreError {
    StoreError::unavailable("the store is closed")
}

/// Answers the callers of a batch. Waking a task from another thread costs a lock and often a system call, so the callers
/// of one runtime are woken from within it, by one task for all of them.
fn answer_all(decided: Vec<(Waiting, Answer)>) {
    let mut groups: Vec<(Handle, Answers)> = Vec::new();
    for (Waiting { answer: caller, runtime, .. }, answer) in decided {
        let Some(runtime) = runtime else {
            // A caller that went away does not want to know.
            let _ = caller.send(answer);
            continue;
        };
        match groups.iter_mut().find(|(known, _)| known.id() == runtime.id()) {
            Some((_, answers)) => answers.0.push((caller, answer)),
            None => groups.push((runtime, Answers(vec![(caller, answer)]))),
        }
    }
    for (runtime, answers) in groups {
        if answers.0.len() > 1 {
            runtime.spawn(async move { drop(answers) });
        }
    }
}

/// Answers that reach their callers when this is dropped, wherever that is: also in a runtime that is shutting down.
struct Answers(Vec<(oneshot::Sender<Answer>, Answer)>);

impl Drop for Answers {
    fn drop(&mut self) {
        for (caller, answer) in self.0.drain(..) {
            let _ = caller.send(answer);
        }
    }
}

struct Loop<B> {
    engine: Engine<B>,
    waiting: mpsc::Receiver<Waiting>,
    /// Chunked commands that want another commit, and requests to be decided again.
    carried: Vec<Waiting>,
    /// Requests in the last batch.
    expected: usize,
    broken: bool,
}

impl<B: Backend> Loop<B> {
    fn run(mut self) {
        loop {
            let first = match self.carried.pop() {
                Some(carried) => Some(carried),
                // A caller that was just answered often has the next command at hand: meeting it here is quicker than
                // falling asleep and being woken.
                None => self.linger(|_| true).or_else(|| self.waiting.blocking_recv()),
            };
            let Some(first) = first else { return };
            self.group_commit(first);
        }
    }

    fn group_commit(&mut self, first: Waiting) {
        if let Err(error) = self.prepare() {
            let _ = first.answer.send(Err(error.into()));
            return;
        }
        let mut decided = Vec::new();
        let mut again = Vec::new();
        let mut next = Some(first);
        while let Some(mut waiting) = next {
            waiting.before = waiting.request.before_round();
            let outcome = self.engine.decide(&mut waiting.request);
            let failed = matches!(&outcome, Err(Error::Store(_)));
            match outcome {
                Ok(Decided::Again) => again.push(waiting),
                Ok(Decided::Reply(reply)) => decided.push((waiting, Ok(reply))),
                Err(error) => decided.push((waiting, Err(error))),
            }
            let full =
                decided.len() + again.len() >= BATCH_REQUESTS_MAX || self.engine.batch_events() >= BATCH_EVENTS_MAX;
            if failed || full {
                break;
            }
            // What arrives while this batch is being decided still joins it.
            next = self.carried.pop().or_else(|| self.next(decided.len() + again.len()));
        }
        self.expected = decided.len() + again.len();
        match self.engine.finish() {
            Ok(true) => {
                self.carried = again;
                answer_all(decided);
            }
            Ok(false) => self.decide_again(decided.into_iter().map(|(waiting, _)| waiting).chain(again)),
            Err(error) => self.fail(&error, decided.into_iter().map(|(waiting, _)| waiting).chain(again)),
        }
    }

    /// The next request that is here, or arrives while the callers of the last batch come back.
    fn next(&mut self, taken: usize) -> Option<Waiting> {
        self.linger(|expected| taken < expected)
    }

    /// The next request; waits for it, but not for longer than [`LINGER_MAX`], if `worth` says so of the number of
    /// requests in the last batch.
    fn linger(&mut self, worth: impl Fn(usize) -> bool) -> Option<Waiting> {
        let mut began = None;
        loop {
            match self.waiting.try_recv() {
                Ok(waiting) => return Some(waiting),
                Err(mpsc::error::TryRecvError::Empty) if worth(self.expected) => {}
                Err(_) => return None,
            }
            if began.get_or_insert_with(Instant::now).elapsed() > LINGER_MAX {
                return None;
            }
            thread::yield_now();
        }
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        if self.broken {
            thread::sleep(REOPEN_PAUSE);
            self.engine.backend().reopen()?;
            self.broken = false;
        }
        self.engine.begin().inspect_err(|_| self.broken = true)
    }

    /// Rows changed under these decisions; the oldest request goes first next time.
    fn decide_again(&mut self, requests: impl Iterator<Item = Waiting>) {
        let mut kept = Vec::new();
        for mut waiting in requests {
            waiting.attempts += 1;
            if let Some(before) = waiting.before.take() {
                // The round did not happen: what it counted and chose is decided afresh.
                waiting.request = before;
            }
            if waiting.attempts >= DECIDE_ATTEMPTS_MAX {
                let _ = waiting.answer.send(Err(too_many_attempts().into()));
            } else {
                kept.push(waiting);
            }
        }
        kept.reverse();
        self.carried = kept;
    }

    /// The batch could not be written: nothing of it is in the store, and nobody is told otherwise. The connection is
    /// not used again.
    fn fail(&mut self, error: &StoreError, requests: impl Iterator<Item = Waiting>) {
        tracing::error!(error = error.full(), "a batch could not be written");
        self.broken = true;
        for waiting in requests {
            let _ = waiting.answer.send(Err(error.share().into()));
        }
    }
}
