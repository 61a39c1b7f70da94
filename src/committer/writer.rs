use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;
use tokio::sync::mpsc;

use super::{
    Answer, Job, QUEUE_REQUESTS_MAX, Waiting, Work,
    answers::answer_all,
    job::{Connected, QueuedJob},
    stopped,
};
use crate::{
    backend::{Backend, Fate},
    engine::{DECIDE_ATTEMPTS_MAX, Decided, Engine, Finished, too_many_attempts},
    rejection::Error,
};

/// How often one request, decided in its turn, asks for rows that it turned out to need.
const LEARNED_MAX: usize = 64;
/// How long a request may be put off without anything being known against it.
const PUT_OFF_MAX: Duration = Duration::from_secs(10);
/// How long the thread waits for callers that were in the last batch.
const LINGER_MAX: Duration = Duration::from_micros(100);
/// How long a store that failed to write is left alone before the next attempt to reopen it.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// What a batch has of one request.
struct Made {
    waiting: Waiting,
    item: Option<usize>,
    /// Its answer; none if it wants another round.
    answer: Option<Answer>,
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

/// Decides and writes batches.
pub(super) struct Writer<B> {
    engine: Engine<B>,
    inbox: mpsc::Receiver<Work>,
    /// What is to be done before the next batch.
    jobs: Vec<QueuedJob>,
    /// Chunked commands that want another commit, and requests to be decided again.
    carried: Vec<Waiting>,
    /// Requests in the last batch.
    expected: usize,
    broken: bool,
}

impl<B: Backend> Writer<B> {
    pub(super) fn new(engine: Engine<B>, inbox: mpsc::Receiver<Work>) -> Self {
        Self { engine, inbox, jobs: Vec::new(), carried: Vec::new(), expected: 1, broken: false }
    }

    /// Works until the queue is closed and empty. A panic ends the batch in which it happens, whose callers are told that
    /// nothing is known of their commands, and not the thread: a process that answers queries and takes no command any more
    /// would look healthy.
    pub(super) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(_) => {
                    tracing::error!("the committer panicked: its batch is given up, and the store is opened anew");
                    self.engine.abandon();
                    self.broken = true;
                }
            }
        }
    }

    /// One batch, or the jobs before it.
    fn turn(&mut self) -> ControlFlow<()> {
        self.run_jobs();
        if let Some(first) = self.carried.pop() {
            self.group_commit(first);
            return ControlFlow::Continue(());
        }
        // A caller that was just answered often has the next command at hand: meeting it here is quicker than falling
        // asleep and being woken.
        let Some(work) = self.linger(true).or_else(|| self.inbox.blocking_recv()) else {
            return ControlFlow::Break(());
        };
        if let Some(first) = self.request(work) {
            self.group_commit(first);
        }
        ControlFlow::Continue(())
    }

    /// What comes next; if it is `worth` it, waits for it, but not for longer than [`LINGER_MAX`].
    fn linger(&mut self, worth: bool) -> Option<Work> {
        let mut began = None;
        loop {
            match self.inbox.try_recv() {
                Ok(work) => return Some(work),
                Err(mpsc::error::TryRecvError::Empty) if worth => {}
                Err(_) => return None,
            }
            if began.get_or_insert_with(Instant::now).elapsed() > LINGER_MAX {
                return None;
            }
            thread::yield_now();
        }
    }

    /// A request, or a job put aside until this batch ends.
    fn request(&mut self, work: Work) -> Option<Waiting> {
        match work {
            Work::Request(waiting) => Some(waiting),
            Work::Job(job) => {
                self.jobs.push(job);
                None
            }
        }
    }

    fn run_jobs(&mut self) {
        for QueuedJob { job: Job { changes_rows, run }, busy } in std::mem::take(&mut self.jobs) {
            // Until its caller knows.
            let _busy = busy;
            if let Err(error) = self.reopen() {
                run(Err(error));
                continue;
            }
            let connected = run(self.engine.backend().connection().ok_or_else(|| {
                StoreError::unavailable("a store without a file has no connection of its own to be worked on")
            }));
            self.broken = connected == Connected::GiveUp;
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
        let mut here = self.inbox.len();
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
            && let Ok(work) = self.inbox.try_recv()
        {
            queued.extend(self.request(work));
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
        if let Err(error) = waiting.place.check() {
            made.push(Made { waiting, item: None, answer: Some(Err(error.into())) });
            return false;
        }
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
        let meters = self.engine.meters();
        meters.group(made.len());
        let durable = Instant::now();
        let mut answered = Vec::with_capacity(made.len());
        let mut carried = Vec::new();
        for Made { mut waiting, item, answer } in made {
            match (finished.fate(item), answer) {
                (Fate::Stands, Some(Ok(mut reply))) => {
                    if reply.meta.changed && !reply.meta.repeated {
                        meters.appended(durable.saturating_duration_since(waiting.accepted));
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
        for (waiting, answer) in &mut answered {
            waiting.place.answered(answer);
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
        // A job waits for the end of this batch, and the batch for nobody.
        let next = self.linger(taken < self.expected).and_then(|work| self.request(work))?;
        *here = match here.checked_sub(1) {
            Some(rest) => rest,
            None => {
                self.engine.admit();
                self.inbox.len()
            }
        };
        Some(next)
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
