//! What all requests share.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tasklog_log::Position;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{Settings, auth::Tokens, cursor::CursorKey, feed::Feed, problem::Problem};
use crate::{Error, Rejection, StoreUrl, TaskStore, meters::Exposition, store::When, task_api::Uids};

/// Looks at the process's health at one time.
const PROBES_MAX: usize = 2;
/// How long such a look may take.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// Earlier moments kept.
const PASTS_MAX: usize = 4;
/// Reads of earlier moments at one time.
const PAST_READERS_MAX: usize = 4;
/// How long they are kept.
const PAST_KEPT: Duration = Duration::from_secs(60);
/// The unit in which room for bodies is given out.
const UNIT_BYTES: usize = 1 << 10;

/// An earlier moment, as it was folded.
struct Past {
    position: Position,
    made: Instant,
    store: TaskStore,
}

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
    /// Why the store could not be opened so far, if it is tried again.
    not_yet: Mutex<Option<String>>,
    phase: watch::Sender<Phase>,
    tokens: RwLock<Tokens>,
    /// Sealed cursors are opened with it.
    cursor_key: RwLock<CursorKey>,
    readers: Arc<Semaphore>,
    /// Whoever looks after the process is not kept waiting by those who read.
    probes: Arc<Semaphore>,
    /// KiB of bodies that are being read.
    bodies: Arc<Semaphore>,
    /// Earlier moments that were asked about lately, with what was folded for them.
    pasts: Mutex<VecDeque<Past>>,
    /// Whoever folds the log for an earlier moment leaves threads to those who read the present.
    past_readers: Arc<Semaphore>,
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
            not_yet: Mutex::default(),
            phase: watch::Sender::new(Phase::Opening),
            cursor_key: RwLock::new(CursorKey::of(&tokens)),
            tokens: RwLock::new(tokens),
            readers: Arc::new(Semaphore::new(limits.readers_max)),
            probes: Arc::new(Semaphore::new(PROBES_MAX)),
            bodies: Arc::new(Semaphore::new(limits.bodies_bytes_max / UNIT_BYTES)),
            pasts: Mutex::default(),
            past_readers: Arc::new(Semaphore::new(PAST_READERS_MAX)),
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
        self.store.get().ok_or_else(|| self.not_open())
    }

    /// The store could not be opened, and is tried again. Answers whether it was for another reason than the last time.
    pub(crate) fn opened_not_yet(&self, why: &str) -> bool {
        let mut not_yet = self.not_yet.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = not_yet.as_deref() != Some(why);
        *not_yet = Some(why.to_owned());
        differs
    }

    /// What is told to whoever comes before the store is open.
    pub(crate) fn not_open(&self) -> Problem {
        match &*self.not_yet.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Problem::unavailable(format!("the store is not open yet: {why}")),
            None => Problem::busy("the store is being opened"),
        }
    }

    /// Runs something that blocks, on one of a bounded number of threads.
    ///
    /// # Errors
    /// What `work` answers; `busy` if no thread becomes free in time, `unavailable` if `work` takes too long.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&TaskStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        self.on_thread(&self.readers, self.settings.limits.request_max, work).await
    }

    /// [`Shared::blocking`] as of an earlier moment. What was folded for a position is kept a little while: who asks for one
    /// page asks for the next one as well.
    ///
    /// # Errors
    /// As there; `invalid` if there is no such moment.
    pub(crate) async fn blocking_at<T: Send + 'static>(
        self: &Arc<Self>,
        when: When,
        work: impl FnOnce(&TaskStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = Arc::clone(self);
        let work = move |store: &TaskStore| work(&app.at(store, when)?);
        self.on_thread(&self.past_readers, self.settings.limits.request_max, work).await
    }

    /// [`Shared::blocking`] for whoever looks after the process.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn probe<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&TaskStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        self.on_thread(&self.probes, PROBE_MAX, work).await
    }

    async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        room: &Arc<Semaphore>,
        time: Duration,
        work: impl FnOnce(&TaskStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Problem> {
        self.store()?;
        let deadline = Instant::now() + time;
        let permit = tokio::time::timeout_at(deadline, Arc::clone(room).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Problem::busy("all threads that read are busy"));
        };
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // Held until the thread is free, whether or not somebody still waits for it.
            let _permit = permit;
            work(app.store()?).map_err(Problem::from)
        });
        match tokio::time::timeout_at(deadline, done).await {
            Ok(done) => done.unwrap_or_else(|_| Err(Problem::unavailable("the thread that read ended early"))),
            Err(_) => Err(Problem::unavailable(format!("reading took longer than {} ms", time.as_millis()))),
        }
    }

    fn at(&self, store: &TaskStore, when: When) -> Result<TaskStore, Error> {
        let When::Position(position) = when else { return store.at(when) };
        let mut pasts = self.pasts.lock().unwrap_or_else(PoisonError::into_inner);
        pasts.retain(|past| past.made.elapsed() < PAST_KEPT);
        if let Some(past) = pasts.iter().find(|past| past.position == position) {
            return Ok(past.store.clone());
        }
        let at = store.at(when)?;
        if pasts.len() == PASTS_MAX {
            pasts.pop_front();
        }
        pasts.push_back(Past { position, made: Instant::now(), store: at.clone() });
        Ok(at)
    }

    /// Room for a body that has become longer; held until the body has been read.
    ///
    /// # Errors
    /// `busy` if other bodies have it.
    pub(crate) fn body_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.bodies).try_acquire_many_owned(units);
        room.map_err(|_| Problem::busy("too many large bodies are being read"))
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

    /// Waits until the store has the event that somebody wants to read on after: it may not have come to this replica yet. A
    /// reader that waited without a word for what a log has lost would wait for ever.
    ///
    /// # Errors
    /// `conflict` if it has not got there in time.
    pub(crate) async fn reach_after(self: &Arc<Self>, after: Position) -> Result<(), Problem> {
        let wait = self.settings.limits.min_position_wait_max;
        if self.seen() >= after {
            return Ok(());
        }
        let head = self.feed.reach(self, after, wait).await?;
        if head >= after {
            return Ok(());
        }
        let what = "reading on after an event that the log does not have (it has lost it, or this replica is behind)";
        Err(Problem::from(Rejection::conflict(what, after, head)).at(head))
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
