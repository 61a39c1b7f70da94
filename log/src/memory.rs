//! A log in this process's memory: the smallest thing that keeps every promise but durability.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use crate::{
    Checkpoint, Clock, Commit, CommitId, Entity, Linked, Log, LogInfo, Millis, NewCommit, Outcome, Position, Revs,
    StoreError, Stored, adopt::check_identity, check_adopted, deadline::Deadline, link,
};

/// The memory log. Clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

struct State {
    info: LogInfo,
    /// The commit after which the log begins; position 0 for one that has its first event, or was trimmed.
    beginning: Checkpoint,
    commits: Vec<Commit>,
    answers: HashMap<CommitId, Stored>,
}

impl State {
    fn head(&self) -> Checkpoint {
        self.commits.last().map_or(Checkpoint { log: self.info, ..self.beginning }, |commit| Checkpoint {
            log: self.info,
            position: commit.last(),
            commit: commit.meta.id,
            recorded_at: commit.recorded_at,
        })
    }

    fn last(&self) -> (Position, Millis) {
        let beginning = (self.beginning.position, self.beginning.recorded_at);
        self.commits.last().map_or(beginning, |commit| (commit.last(), commit.recorded_at))
    }
}

impl MemoryLog {
    /// An empty log with a new id.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let info = LogInfo { id: Uuid::now_v7(), epoch: 1 };
        let beginning = Checkpoint::start(info);
        let state = State { info, beginning, commits: Vec::new(), answers: HashMap::new() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), grown: Condvar::new() }), clock }
    }

    /// Forgets answers recorded before `cutoff`.
    pub fn forget_answers(&self, cutoff: Millis) {
        self.state().answers.retain(|_, stored| stored.appended.recorded_at >= cutoff);
    }

    /// Takes back every commit after `to`, which must be the end of a commit or 0, and goes on as `log`.
    pub fn cut_back(&mut self, to: Position, log: LogInfo) {
        let mut state = self.state();
        state.info = log;
        state.commits.retain(|commit| commit.last() <= to);
        state.answers.retain(|_, stored| stored.appended.last <= to);
    }

    /// Makes an empty log one that begins after `at`, a commit of another log whose identity it takes over: what follows that
    /// commit is adopted next.
    ///
    /// # Errors
    /// `corrupt` if this log has events.
    pub fn begin_after(&mut self, at: Checkpoint) -> Result<(), StoreError> {
        let mut state = self.state();
        check_identity(&state.head())?;
        state.info = at.log;
        state.beginning = at;
        drop(state);
        self.shared.grown.notify_all();
        Ok(())
    }

    /// The commit after which the log begins, if it was begun by [`MemoryLog::begin_after`].
    #[must_use]
    pub fn beginning(&self) -> Option<Checkpoint> {
        let state = self.state();
        (state.beginning.position > Position::ZERO).then(|| Checkpoint { log: state.info, ..state.beginning })
    }

    /// Removes the commits that end before `before`, but never the last one.
    pub fn trim(&mut self, before: Position) {
        let mut state = self.state();
        let gone = state.commits.partition_point(|commit| commit.last() < before);
        let gone = gone.min(state.commits.len().saturating_sub(1));
        state.commits.drain(..gone);
    }

    /// Goes on in another epoch of the same log.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.state().info.epoch = epoch;
    }

    /// Keeps an answer of a commit that was adopted, as the log has it that made the commit.
    pub fn adopt_answer(&mut self, id: CommitId, stored: Stored) {
        self.state().answers.insert(id, stored);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves the vector whole: it is pushed to only when a batch is complete.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn info(&self) -> Result<LogInfo, StoreError> {
        Ok(self.state().info)
    }

    fn now(&self) -> Result<Millis, StoreError> {
        Ok(self.clock.now().max(self.state().last().1))
    }

    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        let mut state = self.state();
        let (head, recorded_at) = state.last();
        let mut answered = |id| Ok(state.answers.get(&id).map(|stored| stored.appended));
        let (outcomes, linked) = link(head, recorded_at, now, batch, revs, &mut answered)?;
        for Linked { index, commit } in linked {
            if let (Some(answer), Ok(appended)) = (&batch[index].answer, &outcomes[index]) {
                let stored = Stored { appended: *appended, answer: answer.clone() };
                state.answers.insert(commit.meta.id, stored);
            }
            state.commits.push(commit);
        }
        drop(state);
        self.shared.grown.notify_all();
        Ok(outcomes)
    }

    fn adopt(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let mut state = self.state();
        check_adopted(&state.head(), commits)?;
        state.commits.extend_from_slice(commits);
        drop(state);
        self.shared.grown.notify_all();
        Ok(())
    }

    fn adopt_identity(&mut self, log: LogInfo) -> Result<(), StoreError> {
        let mut state = self.state();
        check_identity(&state.head())?;
        state.info = log;
        Ok(())
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let state = self.state();
        let from = state.commits.partition_point(|commit| commit.last() <= after);
        let mut events = 0;
        let page = state.commits[from..].iter().take_while(|commit| {
            let more = events == 0 || events < limit;
            events += commit.events.len();
            more
        });
        Ok(page.cloned().collect())
    }

    fn head(&self) -> Result<Checkpoint, StoreError> {
        Ok(self.state().head())
    }

    fn first(&self) -> Result<Position, StoreError> {
        let state = self.state();
        Ok(state.commits.first().map_or(state.beginning.position.next(), Commit::first))
    }

    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        Ok(self.state().answers.get(&id).cloned())
    }

    fn wait(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        let deadline = Deadline::after(timeout);
        let mut state = self.state();
        loop {
            let head = state.last().0;
            let left = deadline.left();
            if head > after || left.is_zero() {
                return Ok(head);
            }
            let waited = self.shared.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }
}

/// The revs of a log that stands alone, in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryRevs(HashMap<Entity, Position>);

impl MemoryRevs {
    /// Takes over what commits have changed.
    pub fn note<'a>(&mut self, commits: impl IntoIterator<Item = &'a Commit>) {
        for event in commits.into_iter().flat_map(|commit| &commit.events) {
            self.0.insert(Entity { table: event.table.clone(), key: event.key.clone() }, event.position);
        }
    }
}

impl Revs for MemoryRevs {
    fn rev(&mut self, entity: &Entity) -> Result<Position, StoreError> {
        Ok(self.0.get(entity).copied().unwrap_or_default())
    }
}
