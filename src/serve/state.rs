//! What all requests share.

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tasklog_log::Position;
use tokio::sync::{Semaphore, watch};

use super::{Settings, auth::Tokens, cursor::CursorKey, feed::Feed, problem::Problem};
use crate::{Error, StoreUrl, TaskStore, meters::Exposition, task_api::Uids};

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The store is being opened: migrated, or rebuilt, which may take long.
    Opening,
    /// Requests are answered.
    Serving,
    /// What was accepted is answered, nothing new is accepted.
    Stopping,
}

/// What all requests share.
pub(crate) type App = Arc<Shared>;

/// See [`App`].
pub(crate) struct Shared {
    pub(crate) url: StoreUrl,
    pub(crate) settings: Settings,
    store: OnceLock<TaskStore>,
    phase: watch::Sender<Phase>,
    tokens: RwLock<Tokens>,
    /// Sealed cursors are opened with it.
    cursor_key: RwLock<CursorKey>,
    readers: Semaphore,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) tails: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) feed: Feed,
    pub(crate) exposition: Exposition,
    pub(crate) uids: Uids,
    /// The newest position that an answer of this process was about.
    seen: AtomicU64,
}

impl Shared {
    pub(crate) fn new(url: StoreUrl, settings: Settings, tokens: Tokens) -> App {
        let limits = &settings.limits;
        Arc::new(Self {
            url,
            store: OnceLock::new(),
            phase: watch::Sender::new(Phase::Opening),
            cursor_key: RwLock::new(CursorKey::of(&tokens)),
            tokens: RwLock::new(tokens),
            readers: Semaphore::new(limits.readers_max),
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            tails: Arc::new(Semaphore::new(limits.tails_max)),
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            feed: Feed::default(),
            exposition: Exposition::new(settings.pod.clone()),
            uids: Uids::default(),
            seen: AtomicU64::new(0),
            settings,
        })
    }

    /// The store has been opened.
    pub(crate) fn opened(&self, store: TaskStore) {
        if self.store.set(store).is_err() {
            tracing::error!("the store was opened twice");
        }
        self.enter(Phase::Serving);
    }

    /// Goes on to a phase; there is no way back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// What the process is doing.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Ends when the process is told to stop.
    pub(crate) async fn stopping(&self) {
        // The sender is in `self`, so it is there.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Stopping).await;
    }

    /// The store, if it is open.
    pub(crate) fn store(&self) -> Result<&TaskStore, Problem> {
        self.store.get().ok_or_else(|| Problem::busy("the store is being opened"))
    }

    /// Runs something that blocks, on one of a bounded number of threads.
    ///
    /// # Errors
    /// What `work` answers; `busy` if no thread becomes free in time.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&TaskStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        self.store()?;
        let permit = tokio::time::timeout(self.settings.limits.request_max, self.readers.acquire()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Problem::busy("all threads that read are busy"));
        };
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(app.store()?).map_err(Problem::from)).await;
        drop(permit);
        done.unwrap_or_else(|_| Err(Problem::unavailable("the thread that read ended early")))
    }

    /// Remembers what an answer was about.
    pub(crate) fn saw(&self, position: Position) {
        self.seen.store(position.0, Ordering::Release);
    }

    /// What the last answer was about: the next one reflects at least that.
    pub(crate) fn seen(&self) -> Position {
        Position(self.seen.load(Ordering::Acquire))
    }

    /// Waits until the store has `position`.
    ///
    /// # Errors
    /// `unavailable` if it has not got there in time.
    pub(crate) async fn reach(self: &Arc<Self>, position: Position) -> Result<(), Problem> {
        if self.seen() >= position {
            return Ok(());
        }
        let wait = self.settings.limits.min_position_wait_max;
        let head = self.feed.reach(self, position, wait).await?;
        if head >= position {
            return Ok(());
        }
        let detail = format!("waiting {} ms for event {position}: the store is at event {head}", wait.as_millis());
        Err(Problem::unavailable(detail).at(head))
    }

    /// The tokens that hold now.
    pub(crate) fn tokens(&self) -> std::sync::RwLockReadGuard<'_, Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opens and seals cursors now.
    pub(crate) fn cursor_key(&self) -> CursorKey {
        *self.cursor_key.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the tokens anew; what cannot be read leaves those that hold.
    pub(crate) fn reload_tokens(&self) {
        let had_some = !self.tokens().is_empty();
        match Tokens::read(&self.settings.tokens) {
            Ok(tokens) if had_some && tokens.is_empty() => {
                tracing::error!("there are no tokens any more: those that held go on holding");
            }
            Ok(tokens) => {
                *self.cursor_key.write().unwrap_or_else(PoisonError::into_inner) = CursorKey::of(&tokens);
                *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
                tracing::info!("read the tokens anew");
            }
            Err(why) => tracing::error!("{why}: those that held go on holding"),
        }
    }

    /// How long one request may take.
    pub(crate) fn request_max(&self) -> Duration {
        self.settings.limits.request_max
    }
}
