//! Background duties: work that somebody in the cluster has to do now and then, and only one process at a time.
//!
//! Each duty has a scope of its own among the leases, and a thread in every process that serves the store for commands.
//! A thread looks, by a bounded read, whether there is anything to do; only then it asks for the lease, works in small
//! commands that carry the lease's term, and gives the lease back. So an idle cluster writes nothing, a process that lost
//! its lease is refused by the log and stops, and one that was killed is replaced when its lease has ended.
//!
//! ```text
//! every interval: due? ─no─► rest
//!                   └yes─► acquire ─granted─► step, step, … (renew) ─► release
//!                              └─held by another─► look again when a lease may have ended
//! ```
//! Snapshots and retention are duties too, but of the store itself: it takes turns over them wherever it is written to.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tasklog_projections::tables::jobs::Jobs;

use crate::{
    Error, RejectionKind, TaskStore,
    command::CommandOptions,
    decision::LeaseClaim,
    query::Query,
    tables::{
        jobs::{
            self,
            due::{self, Place},
        },
        leader_lease, tasks,
    },
};

/// Rows that one command of a duty works on: one commit, between two looks at the lease.
const STEP_ROWS: u64 = 1_000;
/// How long a duty rests after its first failure; twice as long after each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// See [`BACKOFF_MIN`].
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// When duties are looked after, and by whom.
#[derive(Clone, Debug)]
pub struct DutySettings {
    /// The name under which this process holds leases: no other process may have it.
    pub holder: Arc<str>,
    /// `task_registry.prune_interval_s`: how often old tasks and jobs are looked for.
    pub prune_interval: Duration,
    /// How often dead claims and delegated jobs are looked for; `jobs.heartbeat_s`.
    pub requeue_interval: Duration,
}

impl DutySettings {
    /// The defaults of the specification.
    #[must_use]
    pub fn new(holder: impl Into<Arc<str>>) -> Self {
        Self {
            holder: holder.into(),
            prune_interval: Duration::from_secs(300),
            requeue_interval: Duration::from_secs(10),
        }
    }
}

/// Something to be done once in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Removes old finished tasks.
    PruneTasks,
    /// Removes old finished jobs.
    PurgeJobs,
    /// Puts jobs with dead claims back into the queue, and ends delegated jobs whose chunks have ended.
    RequeueJobs,
}

impl Duty {
    const ALL: [Self; 3] = [Self::PruneTasks, Self::PurgeJobs, Self::RequeueJobs];

    const fn scope(self) -> &'static str {
        match self {
            Self::PruneTasks => "duty:prune",
            Self::PurgeJobs => "duty:purge",
            Self::RequeueJobs => "duty:requeue",
        }
    }

    fn interval(self, settings: &DutySettings) -> Duration {
        match self {
            Self::PruneTasks | Self::PurgeJobs => settings.prune_interval,
            Self::RequeueJobs => settings.requeue_interval,
        }
    }

    /// Whether there is anything to do beyond `place`, as far as one bounded look sees. If there is not, `place` moves to where
    /// the next look goes on, so that what cannot be worked on hides nothing for ever.
    fn is_due(self, store: &TaskStore, place: &mut Option<Place>) -> Result<bool, Error> {
        store.read_tables(|read| match self {
            Self::PruneTasks => {
                let cutoff_ms = read.now() - read.config().task_ttl_ms;
                Ok(!tasks::Prunable { cutoff_ms, limit: 1 }.answer(read)?.is_empty())
            }
            Self::PurgeJobs => due::is_purgeable(read, place),
            Self::RequeueJobs => {
                let dead = read.list::<Jobs>(jobs::dead_claims(read.now()), Some(1))?;
                let (ended, next) = due::settleable(read, place.as_ref())?;
                if ended.is_empty() {
                    *place = next;
                }
                Ok(!dead.is_empty() || !ended.is_empty())
            }
        })
    }

    /// Does a piece of it, beyond `place`, which moves along; answers whether work is left.
    fn step(self, store: &TaskStore, place: &mut Option<Place>, options: &CommandOptions) -> Result<bool, Error> {
        match self {
            Self::PruneTasks => {
                let prune = tasks::Prune { limit: Some(STEP_ROWS), ..tasks::Prune::default() };
                Ok(store.run_blocking(prune, options.clone())?.answer.more)
            }
            Self::PurgeJobs => {
                let purge = jobs::Purge { limit: Some(STEP_ROWS), after: place.clone(), ..jobs::Purge::default() };
                let purged = store.run_blocking(purge, options.clone())?.answer;
                *place = purged.after.filter(|_| purged.more);
                Ok(purged.more)
            }
            Self::RequeueJobs => {
                let requeue = jobs::RequeueExpired { limit: Some(STEP_ROWS), ..jobs::RequeueExpired::default() };
                let more = store.run_blocking(requeue, options.clone())?.answer.more;
                let (ended, next) = store.read_tables(|read| due::settleable(read, place.as_ref()))?;
                for id in ended {
                    match store.run_blocking(jobs::SettleParent { id }, options.clone()) {
                        // Its worker was quicker, or somebody has purged it.
                        Err(Error::Rejected(why)) if why.kind != RejectionKind::LeaseLost => {}
                        settled => {
                            settled?;
                        }
                    }
                }
                *place = next;
                Ok(more)
            }
        }
    }
}

/// The threads that do the duties, until this is dropped: then each ends after the command that it is at, and gives its
/// lease back.
pub(crate) struct Duties {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    fn is_asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits that long; true as soon as it is asked to stop.
    fn rest(&self, time: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(asked, time, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }
}

impl Duties {
    /// Starts them. A store that takes no commands has none.
    ///
    /// # Errors
    /// The system's, if it has no further thread.
    pub(crate) fn start(store: &TaskStore, settings: &DutySettings) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let mut duties = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        if store.read_only().is_some() {
            return Ok(duties);
        }
        for duty in Duty::ALL {
            let (store, settings, stop) = (store.clone(), settings.clone(), Arc::clone(&stop));
            let worker = Worker { duty, store, settings, stop, place: None };
            let name = format!("tasklog-{}", duty.scope().replace(':', "-"));
            duties.threads.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        Ok(duties)
    }
}

impl Drop for Duties {
    fn drop(&mut self) {
        self.stop.ask();
        for thread in self.threads.drain(..) {
            // A panic there was told by the thread itself.
            let _ = thread.join();
        }
    }
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Nothing was to be done, or it was done.
    Done,
    /// Somebody else is at it.
    Held,
    /// Somebody else may be at it by now.
    Lost,
}

struct Worker {
    duty: Duty,
    store: TaskStore,
    settings: DutySettings,
    stop: Arc<Stop>,
    /// Where the next look goes on; none for the front.
    place: Option<Place>,
}

impl Worker {
    fn run(mut self) {
        let interval = self.duty.interval(&self.settings);
        let lease = Duration::from_millis(self.store.config().lease_ttl_ms.unsigned_abs());
        let scope = self.duty.scope();
        let mut backoff = BACKOFF_MIN;
        let mut pause = Duration::ZERO;
        while !self.stop.rest(pause) {
            pause = match self.round() {
                Ok(round) => {
                    backoff = BACKOFF_MIN;
                    match round {
                        Round::Done => interval,
                        // Its holder may have been killed: then its lease ends without a word.
                        Round::Held => interval.min(lease),
                        Round::Lost => {
                            tracing::warn!(scope, "lost the lease: another process goes on");
                            interval.min(lease)
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(scope, %error, ms = backoff.as_millis() as u64, "a duty failed; it is tried again");
                    let now = backoff;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    now
                }
            };
        }
    }

    fn round(&mut self) -> Result<Round, Error> {
        if !self.duty.is_due(&self.store, &mut self.place)? {
            return Ok(Round::Done);
        }
        let (scope, holder) = (self.duty.scope().to_owned(), self.settings.holder.to_string());
        let acquire = leader_lease::Acquire { scope: scope.clone(), holder: holder.clone(), ttl_ms: None };
        let granted = self.store.run_blocking(acquire, self.options(None))?;
        let Some(term) = granted.answer.term.filter(|_| granted.answer.granted) else { return Ok(Round::Held) };
        let worked = self.work(term);
        if !matches!(worked, Ok(Round::Lost)) {
            let release = leader_lease::Release { scope, holder, term };
            let released = self.store.run_blocking(release, self.options(None));
            // Why it could not be done says more than why the lease could not be given back.
            return worked.and_then(|round| released.map(|_| round));
        }
        worked
    }

    /// Works until nothing is left, the lease is lost, or the process stops.
    fn work(&mut self, term: i64) -> Result<Round, Error> {
        let renew_after = Duration::from_millis(self.store.config().lease_renew_interval_ms.unsigned_abs());
        let claim = LeaseClaim { scope: self.duty.scope().into(), term };
        let options = self.options(Some(claim.clone()));
        let mut renewed = Instant::now();
        loop {
            match self.duty.step(&self.store, &mut self.place, &options) {
                Ok(false) => return Ok(Round::Done),
                Ok(true) => {}
                Err(error) if is_lost(&error) => return Ok(Round::Lost),
                Err(error) => return Err(error),
            }
            if self.stop.is_asked() {
                return Ok(Round::Done);
            }
            if renewed.elapsed() < renew_after {
                continue;
            }
            let holder = self.settings.holder.to_string();
            let renew = leader_lease::Renew { scope: claim.scope.clone(), holder, term, ttl_ms: None };
            let began = Instant::now();
            match self.store.run_blocking(renew, self.options(None)) {
                Ok(_) => renewed = began,
                Err(error) if is_lost(&error) => return Ok(Round::Lost),
                Err(error) => return Err(error),
            }
        }
    }

    fn options(&self, lease: Option<LeaseClaim>) -> CommandOptions {
        CommandOptions {
            actor: Some(Arc::clone(&self.settings.holder)),
            reason: Some(self.duty.scope().into()),
            lease,
            ..CommandOptions::default()
        }
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Rejected(rejection) if rejection.kind == RejectionKind::LeaseLost)
}

#[cfg(test)]
#[path = "duties_tests.rs"]
mod tests;
