use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tasklog_log::StoreError;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

use crate::{
    backend::{Backend, Fate},
    meters::Meters,
    engine::{AnyReply, DECIDE_ATTEMPTS_MAX, Decided, Engine, Finished, Request, too_many_attempts},
    rejection::Error,
};

/// Callers that may wait in the queue; the next one waits for room.
const QUEUE_REQUESTS_MAX: usize = 4_096;
/// How long a blocked caller looks for its answer before it sleeps.
const SPIN_MAX: Duration = Duration::from_micros(300);
/// How often one request, decided in its turn, asks for rows that it turned out to need.
const LEARNED_MAX: usize = 64;
/// How long a request may be put off without anything being known against it.
const PUT_OFF_MAX: Duration = Duration::from_secs(10);
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
    accepted: Instant,
    /// The async runtime that the caller waits in, if it has worker threads.
    runtime: Option<Handle>,
    attempts: usize,
    /// Since when it has been put off.
    put_off: Option<Instant>,
}

/// What stands in the queue.
#[allow(clippy::large_enum_variant, reason = "requests are nearly all that passes through it")]
enum Work {
    Request(Waiting),
    Job(Job),
}

/// Something that is not a request and has to be done on the writing connection: it runs between two batches, in a
/// transaction of its own, and its caller waits.
pub(crate) struct Job {
    /// Whether rows may be others afterwards, so that none that was read before counts.
    pub(crate) changes_rows: bool,
    /// What to do.
    pub(crate) run: RunJob,
}

/// Is given the writing connection, or why there is none.
pub(crate) type RunJob = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// What a batch has of one request.
struct Made {
    waiting: Waiting,
    item: Option<usize>,
    /// Its answer; none if it wants another round.
    answer: Option<Answer>,
}

/// The one thread that owns the writing connection: takes all waiting requests, decides them in order, writes once,
/// syncs once, answers each caller.
///
/// A batch is what arrived while the last one was being written. Callers that have just been answered are about to come
/// back: only as long as fewer are here than the last batch had does the thread linger, and never for longer than
/// [`LINGER_MAX`]. So many callers share a sync, and a lone caller waits for nobody.
pub(crate) struct Committer {
    queue: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
    recorded_at: Arc<AtomicI64>,
    meters: Arc<Meters>,
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
                let meters = engine.meters();
                let _ = opened.send(Ok((engine.recorded_at(), Arc::clone(&meters))));
                Loop { meters, engine, waiting, jobs: Vec::new(), carried: Vec::new(), expected: 1, broken: false }.run();
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let thread = thread::Builder::new()
            .name("tasklog-committer".into())
            .spawn(work)
            .map_err(|error| StoreError::unavailable_because("starting the committer thread", error))?;
        let (recorded_at, meters) = opening.recv().unwrap_or_else(|_| Err(stopped().into()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), recorded_at, meters })
    }

    /// Queues a request, waiting for room.
    pub(crate) async fn send(&self, request: Request) -> Result<Pending, Error> {
        let (mut waiting, pending) = waiting(request);
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
        let (waiting, pending) = waiting(request);
        self.queue()?.blocking_send(Work::Request(waiting)).map_err(|_| stopped())?;
        Ok(pending)
    }

    /// Where jobs go, for a thread that must not keep the committer from ending.
    pub(crate) fn jobs(&self) -> Result<Jobs, StoreError> {
        Ok(Jobs(self.queue()?.downgrade()))
    }

    /// Queues a job. It is run, or told why it cannot be, before the committer ends. For threads outside an async runtime.
    pub(crate) fn send_job(&self, job: Job) -> Result<(), StoreError> {
        self.queue()?.blocking_send(Work::Job(job)).map_err(|_| stopped())
    }

    /// The newest durable commit's instant.
    pub(crate) fn recorded_at(&self) -> i64 {
        self.recorded_at.load(Ordering::Acquire)
    }

    /// What is counted of its commands.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// How many requests wait in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    fn queue(&self) -> Result<&mpsc::Sender<Work>, StoreError> {
        self.queue.as_ref().ok_or_else(stopped)
    }
}

/// The queue of a committer, as long as that takes something.
#[derive(Clone)]
pub(crate) struct Jobs(mpsc::WeakSender<Work>);

impl Jobs {
    /// [`Committer::send_job`]
    pub(crate) fn send(&self, job: Job) -> Result<(), StoreError> {
        self.0.upgrade().ok_or_else(stopped)?.blocking_send(Work::Job(job)).map_err(|_| stopped())
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
    (Waiting { request, before: None, answer, accepted: Instant::now(), runtime: None, attempts: 0, put_off: None }, Pending(receiver))
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

/// A request that is to be decided again; none if it was answered that this has happened too often.
fn put_off(mut waiting: Waiting, fate: Fate) -> Option<Waiting> {
    if let Some(before) = waiting.before.take() {
        // The round did not happen: what it counted and chose is decided afresh.
        waiting.request = before;
    }
    waiting.attempts += usize::from(fate == Fate::Stale);
    let since = *waiting.put_off.get_or_insert_with(Instant::now);
    if waiting.attempts < DECIDE_ATTEMPTS_MAX && since.elapsed() < PUT_OFF_MAX {
        return Some(waiting);
    }
    let _ = waiting.answer.send(Err(too_many_attempts().into()));
    None
}

struct Loop<B> {
    engine: Engine<B>,
    meters: Arc<Meters>,
    waiting: mpsc::Receiver<Work>,
    /// What is to be done before the next batch.
    jobs: Vec<Job>,
    /// Chunked commands that want another commit, and requests to be decided again.
    carried: Vec<Waiting>,
    /// Requests in the last batch.
    expected: usize,
    broken: bool,
}

impl<B: Backend> Loop<B> {
    fn run(mut self) {
        loop {
            self.run_jobs();
            // A caller that was just answered often has the next command at hand: meeting it here is quicker than falling
            // asleep and being woken.
            if let Some(first) = self.carried.pop().or_else(|| self.linger(|_| true)) {
                self.group_commit(first);
                continue;
            }
            if !self.jobs.is_empty() {
                continue;
            }
            match self.waiting.blocking_recv() {
                Some(Work::Request(first)) => self.group_commit(first),
                Some(Work::Job(job)) => self.jobs.push(job),
                None => return,
            }
        }
    }

    fn run_jobs(&mut self) {
        for Job { changes_rows, run } in std::mem::take(&mut self.jobs) {
            if let Err(error) = self.reopen() {
                run(Err(error));
                continue;
            }
            run(self.engine.backend().connection().ok_or_else(|| {
                StoreError::unavailable("a store without a file has no connection of its own to be worked on")
            }));
            if changes_rows {
                self.engine.forget_rows();
            }
        }
    }

    fn group_commit(&mut self, first: Waiting) {
        if let Err(error) = self.prepare() {
            self.refuse(first, &error);
            return;
        }
        let mut made = Vec::new();
        let mut unsure = Vec::new();
        let mut later = Vec::new();
        let mut next = Some(first);
        let (requests_max, events_max) = self.engine.backend().batch_max();
        // Those that are here have come before the batch looks at anything.
        let mut here = self.waiting.len();
        while let Some(waiting) = next {
            let ends = self.decide(waiting, &mut made, &mut unsure, &mut later);
            let taken = made.len() + unsure.len();
            if ends || taken >= requests_max || self.engine.batch_events() >= events_max {
                break;
            }
            // What arrives while this batch is being decided still joins it.
            next = self.carried.pop().or_else(|| self.next(taken, &mut here));
        }
        while !unsure.is_empty() {
            if let Err(error) = self.engine.learn() {
                made.extend(unsure.drain(..).map(|waiting| Made {
                    waiting,
                    item: None,
                    answer: Some(Err(error.share().into())),
                }));
            }
            for waiting in std::mem::take(&mut unsure) {
                self.decide(waiting, &mut made, &mut unsure, &mut later);
            }
        }
        self.expected = made.len();
        match self.engine.finish() {
            Ok(finished) => self.settle(&finished, made, later),
            Err(error) => self.fail(&error, made.into_iter().map(|made| made.waiting).chain(later)),
        }
    }

    /// Nothing can be decided now: whoever waits is told so, instead of finding it out one after another.
    fn refuse(&mut self, first: Waiting, error: &StoreError) {
        let carried = std::mem::take(&mut self.carried);
        let mut queued = Vec::new();
        while queued.len() < QUEUE_REQUESTS_MAX
            && let Ok(work) = self.waiting.try_recv()
        {
            match work {
                Work::Request(waiting) => queued.push(waiting),
                Work::Job(job) => self.jobs.push(job),
            }
        }
        for waiting in std::iter::once(first).chain(carried).chain(queued) {
            // A caller that went away does not want to know.
            let _ = waiting.answer.send(Err(error.share().into()));
        }
    }

    /// Decides one request; answers whether the batch takes no further one: the store failed, or what follows would
    /// overtake it.
    fn decide(
        &mut self,
        mut waiting: Waiting,
        made: &mut Vec<Made>,
        unsure: &mut Vec<Waiting>,
        later: &mut Vec<Waiting>,
    ) -> bool {
        waiting.before = waiting.request.before_round();
        let mut outcome = self.engine.decide(&mut waiting.request);
        let ordered = waiting.request.ordered;
        let mut learned = 0;
        while ordered && matches!(outcome, Ok(Decided::Unsure)) && learned < LEARNED_MAX {
            // Those behind it are not to overtake it.
            if let Some(before) = waiting.before.take() {
                waiting.request = before;
                waiting.before = waiting.request.before_round();
            }
            learned += 1;
            outcome = match self.engine.learn() {
                Ok(()) => self.engine.decide(&mut waiting.request),
                Err(error) => Err(error.into()),
            };
        }
        let failed = matches!(&outcome, Err(Error::Store(_)));
        let answer = match outcome {
            Ok(Decided::Again) => None,
            Ok(Decided::Reply(reply)) => Some(Ok(reply)),
            Ok(undecided @ (Decided::Unsure | Decided::Later)) => {
                if let Some(before) = waiting.before.take() {
                    waiting.request = before;
                }
                if matches!(undecided, Decided::Unsure) && !ordered {
                    unsure.push(waiting);
                } else {
                    later.push(waiting);
                }
                return ordered;
            }
            Err(error) => Some(Err(error)),
        };
        made.push(Made { waiting, item: self.engine.item(), answer });
        failed
    }

    /// Answers what stands, and puts the rest in front of what waits.
    fn settle(&mut self, finished: &Finished, made: Vec<Made>, later: Vec<Waiting>) {
        self.meters.group(made.len());
        let durable = Instant::now();
        let mut answered = Vec::with_capacity(made.len());
        let mut carried = Vec::new();
        for Made { mut waiting, item, answer } in made {
            match (finished.fate(item), answer) {
                (Fate::Stands, Some(Ok(mut reply))) => {
                    if reply.meta.changed && !reply.meta.repeated {
                        self.meters.appended(durable.saturating_duration_since(waiting.accepted));
                    }
                    let answer = self.engine.complete(&mut reply, item).map(|()| reply);
                    answered.push((waiting, answer.map_err(Error::from)));
                }
                (Fate::Stands, Some(answer)) => answered.push((waiting, answer)),
                (Fate::Stands, None) => {
                    self.engine.complete_round(&mut waiting.request);
                    carried.push(waiting);
                }
                (Fate::Failed(_), _) => {
                    let error = finished.error(item).unwrap_or_else(stopped);
                    answered.push((waiting, Err(error.into())));
                }
                (fate, _) => carried.extend(put_off(waiting, fate)),
            }
        }
        carried.extend(later.into_iter().filter_map(|waiting| put_off(waiting, Fate::Later)));
        // Taken from the end, so the oldest request goes first; what was carried before and found no room is older still.
        carried.reverse();
        carried.append(&mut self.carried);
        self.carried = carried;
        answer_all(answered);
    }

    /// The next request that is here, or arrives while the callers of the last batch come back. `here` counts those that
    /// came before the batch looked at the store; those after them must see what was acknowledged before they came.
    fn next(&mut self, taken: usize, here: &mut usize) -> Option<Waiting> {
        let next = self.linger(|expected| taken < expected)?;
        *here = match here.checked_sub(1) {
            Some(rest) => rest,
            None => {
                self.engine.admit();
                self.waiting.len()
            }
        };
        Some(next)
    }

    /// The next request; waits for it, but not for longer than [`LINGER_MAX`], if `worth` says so of the number of
    /// requests in the last batch.
    fn linger(&mut self, worth: impl Fn(usize) -> bool) -> Option<Waiting> {
        let mut began = None;
        loop {
            match self.waiting.try_recv() {
                Ok(Work::Request(waiting)) => return Some(waiting),
                // It waits for the end of this batch, and the batch for nobody.
                Ok(Work::Job(job)) => {
                    self.jobs.push(job);
                    return None;
                }
                Err(mpsc::error::TryRecvError::Empty) if worth(self.expected) => {}
                Err(_) => return None,
            }
            if began.get_or_insert_with(Instant::now).elapsed() > LINGER_MAX {
                return None;
            }
            thread::yield_now();
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.broken {
            thread::sleep(REOPEN_PAUSE);
            self.engine.backend().reopen()?;
            self.broken = false;
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        self.reopen()?;
        self.engine.begin().inspect_err(|_| self.broken = true)
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
