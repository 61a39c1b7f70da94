//! New commits, read once for all who wait for them.
//!
//! One thread watches the log's head, only as long as anybody waits. Pages of events are read by whoever comes first and
//! kept a little while: live tails stand at the same place, so that a hundred of them cost one read.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tasklog_log::{Commit, Event, Position, StoreError};
use tasklog_projections::{View, facts};
use tokio::sync::{OnceCell, watch};

use super::{problem::Problem, state::App};
use crate::{
    TaskStore,
    show::{events::event_json, mask::Mask},
};

/// Events in one page.
const PAGE_EVENTS: usize = 512;
/// Pages kept.
const PAGES_MAX: usize = 64;
/// Payload bytes of all pages that are kept.
const PAGES_BYTES_MAX: usize = 32 << 20;
/// How long a page is kept: long enough for tails at the same place, too short for a log that is cut back and grows again.
const PAGE_KEPT: Duration = Duration::from_secs(1);
/// How long one wait for the head lasts.
const WAIT: Duration = Duration::from_millis(500);
/// How long a watcher that failed leaves the store alone.
const FAILED_PAUSE: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Default)]
pub(crate) struct Feed {
    head: watch::Sender<u64>,
    waiting: AtomicUsize,
    /// Whether the thread runs.
    watched: Mutex<bool>,
    pages: Mutex<VecDeque<Kept>>,
}

struct Kept {
    after: Position,
    since: Instant,
    page: Arc<OnceCell<Arc<Page>>>,
}

/// Events right after some position, in order.
pub(crate) struct Page {
    /// The events.
    pub(crate) events: Vec<Told>,
    bytes: usize,
}

/// An event, and how it is told.
pub(crate) struct Told {
    commit: Arc<Commit>,
    index: usize,
    masked: OnceLock<Bytes>,
    clear: OnceLock<Bytes>,
}

impl Told {
    /// The event.
    pub(crate) fn event(&self) -> &Event {
        &self.commit.events[self.index]
    }

    /// Its commit.
    pub(crate) fn commit(&self) -> &Commit {
        &self.commit
    }

    /// As a server-sent event whose id is the position.
    pub(crate) fn sse(&self, sees_sensitive: bool) -> Bytes {
        let kept = if sees_sensitive { &self.clear } else { &self.masked };
        let made = || {
            // One mask for each: a tail has no end, and what it has hidden would be kept as long.
            let json = event_json(&mut Mask::new(sees_sensitive), &self.commit, self.event());
            format!("id: {}\ndata: {json}\n\n", self.event().position).into()
        };
        kept.get_or_init(made).clone()
    }
}

/// Whoever is told an event must be able to rely on its bytes. One that is quarantined is told as it is stored: that it is not to
/// be relied on has been decided, and is told further on.
///
/// # Errors
/// `corrupt`, naming the position.
pub(crate) fn whole(view: &dyn View, commit: &Commit, event: &Event) -> Result<(), StoreError> {
    match commit.check(event) {
        Err(error) if !facts::quarantined(view)?.contains(&event.position) => Err(error),
        _ => Ok(()),
    }
}

impl Page {
    fn read(store: &TaskStore, after: Position) -> Result<Self, crate::Error> {
        let commits = store.read(|log, view| {
            let commits = log.read(after, PAGE_EVENTS)?;
            let events = commits.iter().flat_map(|commit| commit.events.iter().map(move |event| (commit, event)));
            events
                .filter(|(_, event)| event.position > after)
                .try_for_each(|(commit, event)| whole(view, commit, event))?;
            Ok(commits)
        })?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        for commit in commits {
            let commit = Arc::new(commit);
            for (index, event) in commit.events.iter().enumerate().filter(|(_, event)| event.position > after) {
                bytes += event.payload.len() + event.key.len();
                let (masked, clear) = (OnceLock::new(), OnceLock::new());
                events.push(Told { commit: Arc::clone(&commit), index, masked, clear });
            }
        }
        Ok(Self { events, bytes })
    }

    /// The last event's position.
    pub(crate) fn last(&self) -> Option<Position> {
        self.events.last().map(|told| told.event().position)
    }
}

/// Somebody who waits for new commits; as long as there is one, the head is watched.
pub(crate) struct Waiting {
    app: App,
    head: watch::Receiver<u64>,
}

impl Waiting {
    /// Waits until the head is beyond `after`.
    pub(crate) async fn beyond(&mut self, after: Position) {
        // The sender lives as long as the process serves.
        let _ = self.head.wait_for(|head| *head > after.0).await;
    }

    /// The head, as far as it was watched.
    pub(crate) fn head(&self) -> Option<Position> {
        Some(Position(*self.head.borrow())).filter(|head| *head > Position::ZERO)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.app.feed.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Feed {
    /// Begins to wait.
    pub(crate) fn wait(&self, app: &App) -> Waiting {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Waiting { app: app.clone(), head: self.head.subscribe() };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !*watched {
            *watched = true;
            let app = app.clone();
            tokio::task::spawn_blocking(move || watch_head(&app));
        }
        waiting
    }

    /// Waits until the store has `position` or the time is over; answers the head.
    pub(crate) async fn reach(&self, app: &App, position: Position, wait: Duration) -> Result<Position, Problem> {
        let head = app.blocking(TaskStore::head).await?;
        if head >= position {
            return Ok(head);
        }
        let mut waiting = self.wait(app);
        let reached = tokio::time::timeout(wait, waiting.beyond(position.before())).await;
        Ok(if reached.is_ok() { position } else { head.max(Position(*self.head.borrow())) })
    }

    /// The events after `after`; an empty page at the head.
    pub(crate) async fn page(&self, app: &App, after: Position) -> Result<Arc<Page>, Problem> {
        let cell = self.cell(after);
        let page = cell
            .get_or_try_init(|| async { app.blocking(move |store| Page::read(store, after)).await.map(Arc::new) })
            .await?;
        let page = Arc::clone(page);
        if page.events.is_empty() {
            // The next one who asks may find some.
            self.forget(&cell);
        } else {
            self.bound();
        }
        Ok(page)
    }

    fn cell(&self, after: Position) -> Arc<OnceCell<Arc<Page>>> {
        let mut pages = self.pages();
        pages.retain(|kept| kept.since.elapsed() < PAGE_KEPT);
        if let Some(kept) = pages.iter().find(|kept| kept.after == after) {
            return Arc::clone(&kept.page);
        }
        let page = Arc::new(OnceCell::new());
        pages.push_back(Kept { after, since: Instant::now(), page: Arc::clone(&page) });
        page
    }

    fn forget(&self, page: &Arc<OnceCell<Arc<Page>>>) {
        self.pages().retain(|kept| !Arc::ptr_eq(&kept.page, page));
    }

    fn bound(&self) {
        let mut pages = self.pages();
        let bytes = |pages: &VecDeque<Kept>| -> usize {
            pages.iter().filter_map(|kept| kept.page.get()).map(|page| page.bytes).sum()
        };
        while pages.len() > PAGES_MAX || (pages.len() > 1 && bytes(&pages) > PAGES_BYTES_MAX) {
            pages.pop_front();
        }
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the head to whoever waits, until nobody does.
fn watch_head(app: &App) {
    let feed = &app.feed;
    let mut failed = false;
    loop {
        {
            let mut watched = feed.watched.lock().unwrap_or_else(PoisonError::into_inner);
            let stopping = app.phase() == super::state::Phase::Stopping;
            if feed.waiting.load(Ordering::Acquire) == 0 || stopping {
                *watched = false;
                return;
            }
        }
        let known = Position(*feed.head.borrow());
        let head = app.store().ok().map(|store| store.wait(known, WAIT));
        match head {
            Some(Ok(head)) => {
                failed = false;
                if head < known {
                    // The log was cut back: what was read beyond is not there any more.
                    feed.pages().clear();
                }
                feed.head.send_if_modified(|now| {
                    let moved = *now != head.0;
                    *now = head.0;
                    moved
                });
            }
            Some(Err(error)) => {
                if !failed {
                    tracing::warn!(error = %error, "watching the log's head failed, trying again");
                }
                failed = true;
                std::thread::sleep(FAILED_PAUSE);
            }
            None => std::thread::sleep(FAILED_PAUSE),
        }
    }
}
