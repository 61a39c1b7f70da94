//! Followers: stores that another store's log is replayed into, for as long as it goes on. The loop is
//! [`tasklog_replay::follow`]; here are its sources, its replicas, and a thread for it.

mod memory;
mod source;

pub(crate) use memory::MemoryReplica;
pub(crate) use source::MemorySource;
pub use source::{OpenedSource, open_source};

pub use tasklog_replay::follow::{Dropped, FollowOptions, Note, Replica, Source, WentBack};

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tasklog_log::{Clock, MemoryBlobs, Millis, Position, StoreError, SystemClock};
use tasklog_replay::follow;

use crate::{
    OpenOptions, TaskStore,
    backend::MemoryBackend,
    rejection::{Error, Rejection},
    store::{Access, Role, SqliteReplica, StoreUrl},
};

/// How often a caller that waits for a follower looks at it.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// What a follower is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowState {
    /// It has not met its source yet.
    Connecting,
    /// It takes the rows of a snapshot; a reader still finds it empty.
    Loading,
    /// There is more in the source than it has.
    CatchingUp,
    /// It has all there is, and waits for more.
    Following,
    /// The source was lost; it goes on trying.
    Lost,
    /// It was told to stop, or to end at the head and is there.
    Stopped,
    /// It ended with an error.
    Failed,
}

impl FollowState {
    /// The name used on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Loading => "loading",
            Self::CatchingUp => "catching_up",
            Self::Following => "following",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Where a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowStatus {
    /// What the replica has: through this position.
    pub position: Position,
    /// The source's head, as last seen.
    pub source_head: Position,
    /// Events that the source was seen to have and the replica has not.
    pub lag_events: u64,
    /// How much of the log's time is missing: from the first commit not yet taken to the source's head, in ms by the log's
    /// clock; 0 if nothing is missing.
    pub lag_ms: Millis,
    /// What it is doing.
    pub state: FollowState,
}

impl FollowStatus {
    /// Before a follower has met its source.
    pub(crate) const START: Self = Self {
        position: Position::ZERO,
        source_head: Position::ZERO,
        lag_events: 0,
        lag_ms: 0,
        state: FollowState::Connecting,
    };

    /// Takes over what a note says.
    pub(crate) fn note(&mut self, note: &Note<'_>) {
        match note {
            Note::Progress { at, source, behind_ms } => {
                self.position = at.position;
                self.source_head = source.position.max(at.position);
                self.lag_events = self.source_head.0 - at.position.0;
                self.lag_ms = *behind_ms;
                self.state = if self.lag_events == 0 { FollowState::Following } else { FollowState::CatchingUp };
            }
            Note::Loading { at, .. } => {
                self.source_head = self.source_head.max(at.position);
                self.state = FollowState::Loading;
            }
            Note::Began { at, .. } => {
                self.position = at.position;
                self.state = FollowState::CatchingUp;
            }
            // An error follows.
            Note::NoWayBack { .. } => {}
            Note::Lost(_) => self.state = FollowState::Lost,
            Note::WentBack(went) => {
                self.position = went.to.position;
                self.state = FollowState::CatchingUp;
            }
        }
    }
}

/// A replica's side of a follower, opened for its thread.
pub(crate) fn open_replica(into: &StoreUrl, from: &OpenedSource) -> Result<Box<dyn Replica + Send>, Error> {
    Ok(match into {
        StoreUrl::Sqlite(path) => Box::new(SqliteReplica::open(path, Role::Replica(&from.name), from.recording_from)?),
        StoreUrl::Memory => {
            Box::new(MemoryReplica::on(MemoryBackend::new(Arc::new(SystemClock))?, Arc::new(MemoryBlobs::default())))
        }
        StoreUrl::Redis(_) => return Err(no_replica(into).into()),
    })
}

fn no_replica(into: &StoreUrl) -> Rejection {
    Rejection::invalid(format!(
        "{into}: a replica is an SQLite file or in memory; Redis has replicas of its own, and tasklog copy moves a store there"
    ))
}

/// A replica that follows a log on a thread of its own, until this handle is dropped.
pub struct Follower {
    store: TaskStore,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    status: FollowStatus,
    error: Option<StoreError>,
    went_back: Vec<WentBack>,
}

/// How many times of going back a handle remembers; the oldest are forgotten.
const WENT_BACK_KEPT_MAX: usize = 16;

impl Follower {
    /// Begins to follow `from` into a store at `into`: a file, which any process may read, or `memory:`.
    ///
    /// # Errors
    /// `unavailable` if another process writes to the file; `invalid` if the file is a store of its own.
    pub fn start(from: OpenedSource, into: &StoreUrl, options: FollowOptions) -> Result<Self, Error> {
        let (mut replica, store): (Box<dyn Replica + Send>, _) = match into {
            StoreUrl::Memory => {
                let clock: Arc<dyn Clock> = Arc::new(SystemClock);
                let backend = MemoryBackend::new(Arc::clone(&clock))?;
                let why = format!("a replica of {}", from.name);
                let store = TaskStore::reading_memory(backend.clone(), clock, why);
                (Box::new(MemoryReplica::on(backend, store.blobs()?)), store)
            }
            file => {
                let replica = open_replica(file, &from)?;
                let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
                (replica, TaskStore::open_with(file, options)?)
            }
        };
        let state = State { status: FollowStatus::START, error: None, went_back: Vec::new() };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new(state) });
        let sharing = Arc::clone(&shared);
        let work = move || {
            let mut note = |note: Note<'_>| sharing.note(&note);
            let ended = follow::follow(&*from.source, &mut *replica, options, &sharing.stop, &mut note);
            sharing.end(ended.err());
        };
        let thread = thread::Builder::new()
            .name("tasklog-follower".into())
            .spawn(work)
            .map_err(|error| StoreError::unavailable_because("starting the follower's thread", error))?;
        Ok(Self { store, shared, thread: Some(thread) })
    }

    /// The replica, for reading.
    #[must_use]
    pub fn store(&self) -> &TaskStore {
        &self.store
    }

    /// Where it is.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        self.shared.state().status
    }

    /// The times it went back to a common point, newest last; a bounded number.
    #[must_use]
    pub fn went_back(&self) -> Vec<WentBack> {
        self.shared.state().went_back.clone()
    }

    /// Waits until the replica has `position`; answers where it is then.
    ///
    /// # Errors
    /// The follower's error if it has ended with one; `unavailable` if the time is over, saying how far it is.
    pub fn wait_for(&self, position: Position, timeout: Duration) -> Result<Position, Error> {
        let began = Instant::now();
        loop {
            {
                let state = self.shared.state();
                let FollowStatus { position: at, source_head, state: doing, .. } = state.status;
                if at >= position && doing != FollowState::Connecting {
                    return Ok(at);
                }
                if let Some(error) = &state.error {
                    return Err(error.share().into());
                }
                if doing == FollowState::Stopped || began.elapsed() >= timeout {
                    return Err(StoreError::unavailable(format!(
                        "waiting {} ms for event {position}: the replica is at {at} of {source_head}, {}",
                        timeout.as_millis(),
                        doing.as_str()
                    ))
                    .into());
                }
            }
            thread::sleep(LOOK_PAUSE);
        }
    }

    /// Stops between two transactions, and answers where the replica stands.
    ///
    /// # Errors
    /// The error that the follower had ended with before.
    pub fn stop(mut self) -> Result<Position, Error> {
        self.join();
        let mut state = self.shared.state();
        match state.error.take() {
            Some(error) => Err(error.into()),
            None => Ok(state.status.position),
        }
    }

    fn join(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the follower's thread panicked");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: &Note<'_>) {
        let mut state = self.state();
        state.status.note(note);
        match note {
            Note::Progress { .. } | Note::Loading { .. } => {}
            Note::Began { at, .. } => tracing::info!(position = at.position.0, "the replica began with a snapshot"),
            Note::NoWayBack { first, .. } => {
                tracing::warn!(
                    first = first.0,
                    "the replica has nothing in common with its source any more: begin it again"
                );
            }
            Note::Lost(error) => tracing::warn!(error = error.full(), "the source was lost, trying again"),
            Note::WentBack(went) => {
                tracing::warn!(from = %went.from, to = %went.to, commits = went.commits, "went back to the last common commit");
                if state.went_back.len() == WENT_BACK_KEPT_MAX {
                    state.went_back.remove(0);
                }
                state.went_back.push((*went).clone());
            }
        }
    }

    fn end(&self, error: Option<StoreError>) {
        let mut state = self.state();
        state.status.state = if error.is_some() { FollowState::Failed } else { FollowState::Stopped };
        state.error = error;
    }
}
