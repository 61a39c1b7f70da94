//! What a store that is open for writing does by itself: snapshots, the log's Merkle tree, and retention. One thread does
//! them in turn, whichever is due first.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tasklog_log::StoreError;

use super::Inner;

/// Something that is looked after again and again.
pub(super) trait Duty: Send {
    /// Does what is due, a bounded piece of it, and gives up early if it is asked to stop.
    fn turn(&mut self, stop: &Stop) -> Next;
}

/// What a turn has come to.
pub(super) enum Next {
    /// The next one is due after this pause.
    After(Duration),
    /// The store's last handle was dropped during the turn, which held it too: it is closed here.
    Last(Box<Inner>),
}

/// Whether to stop.
#[derive(Default)]
pub(super) struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(super) fn is_asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the time is over; true at once if it is asked to stop.
    fn wait(&self, pause: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(asked, pause, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// The store that a duty works for, which is there only once its duties are.
#[derive(Clone, Default)]
pub(super) struct Whose(Arc<OnceLock<Weak<Inner>>>);

impl Whose {
    pub(super) fn upgrade(&self) -> Option<Arc<Inner>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

/// A duty, and when it is next due.
struct Due {
    duty: Box<dyn Duty>,
    at: Instant,
}

/// The duties of a store, before they begin.
#[derive(Default)]
pub(super) struct Duties {
    due: Vec<Due>,
    whose: Whose,
}

impl Duties {
    /// Adds one that is first due after `pause`.
    pub(super) fn add(&mut self, pause: Duration, duty: Box<dyn Duty>) {
        self.due.push(Due { duty, at: Instant::now() + pause });
    }

    pub(super) fn whose(&self) -> Whose {
        self.whose.clone()
    }

    /// Starts the thread, if there is anything to do.
    ///
    /// # Errors
    /// `unavailable` if there is no thread to be had.
    pub(super) fn start(self) -> Result<Option<Background>, StoreError> {
        let Self { due, whose } = self;
        if due.is_empty() {
            return Ok(None);
        }
        let stop = Arc::new(Stop::default());
        let asked = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("tasklog-background".into())
            .spawn(move || run(due, &asked))
            .map_err(|error| StoreError::unavailable_because("starting the background thread of a store", error))?;
        Ok(Some(Background { stop, whose, thread: Some(thread) }))
    }
}

/// The thread. It ends when this is dropped.
pub(super) struct Background {
    stop: Arc<Stop>,
    whose: Whose,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Says which store it is: before this, no duty has one.
    pub(super) fn belongs_to(&self, store: &Arc<Inner>) {
        // Said once, when the store is made.
        let _ = self.whose.0.set(Arc::downgrade(store));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.ask();
        let Some(thread) = self.thread.take() else { return };
        // The thread that closes the store cannot wait for itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the background thread of a store panicked");
        }
    }
}

fn run(mut duties: Vec<Due>, stop: &Stop) {
    while let Some(next) = duties.iter_mut().min_by_key(|due| due.at) {
        if stop.wait(next.at.saturating_duration_since(Instant::now())) {
            return;
        }
        match next.duty.turn(stop) {
            Next::After(pause) => next.at = Instant::now() + pause,
            Next::Last(store) => {
                // What reads goes before what it reads.
                drop(duties);
                drop(store);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tasklog_log::{Clock, Millis, SystemClock};

    use super::*;
    use crate::{OpenOptions, TaskStore};

    /// Tells its name at every turn.
    struct Tell(&'static str, Sender<&'static str>);

    impl Duty for Tell {
        fn turn(&mut self, _: &Stop) -> Next {
            // Whoever listened may have heard enough.
            let _ = self.1.send(self.0);
            Next::After(Duration::ZERO)
        }
    }

    #[test]
    fn duties_take_turns_and_end_with_what_they_are_for() {
        let (tell, told) = channel();
        let mut duties = Duties::default();
        duties.add(Duration::ZERO, Box::new(Tell("a", tell.clone())));
        duties.add(Duration::ZERO, Box::new(Tell("b", tell)));
        let background = duties.start().unwrap().unwrap();
        let heard: Vec<_> = told.iter().take(6).collect();
        assert_eq!(heard, ["a", "b", "a", "b", "a", "b"]);
        drop(background);
        // The thread has ended, and both senders with it.
        assert!(told.iter().all(|name| name == "a" || name == "b"));
    }

    #[test]
    fn without_duties_there_is_no_thread() {
        assert!(Duties::default().start().unwrap().is_none());
    }

    /// Holds the store until it is told to go on.
    struct Hold(Whose, Sender<()>, Receiver<()>);

    impl Duty for Hold {
        fn turn(&mut self, _: &Stop) -> Next {
            let store = self.0.upgrade().unwrap();
            self.1.send(()).unwrap();
            self.2.recv().unwrap();
            Arc::into_inner(store).map_or(Next::After(Duration::ZERO), |store| Next::Last(Box::new(store)))
        }
    }

    /// A clock that tells when nobody has it any more.
    struct LastSeen(Sender<()>);

    impl Clock for LastSeen {
        fn now(&self) -> Millis {
            SystemClock.now()
        }
    }

    impl Drop for LastSeen {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn a_store_whose_last_handle_is_dropped_during_a_turn_is_closed_after_it() {
        let (gone, closed) = channel();
        let (holds, holding) = channel();
        let (go_on, goes_on) = channel();
        let clock = Arc::new(LastSeen(gone));
        let options = OpenOptions { clock, snapshot_every: 0, ..OpenOptions::default() };
        let mut store = TaskStore::open_with(&"memory:".parse().unwrap(), options).unwrap();
        let mut duties = Duties::default();
        let (release, released) = channel();
        // First due once the thread knows whose it is.
        duties.add(Duration::ZERO, Box::new(Wait(released)));
        duties.add(Duration::ZERO, Box::new(Hold(duties.whose(), holds, goes_on)));
        Arc::get_mut(&mut store.inner).unwrap().background = duties.start().unwrap();
        store.inner.background.as_ref().unwrap().belongs_to(&store.inner);
        release.send(()).unwrap();
        holding.recv().unwrap();
        drop(store);
        assert!(closed.try_recv().is_err());
        go_on.send(()).unwrap();
        closed.recv().unwrap();
    }

    /// Takes its only turn when it is told to.
    struct Wait(Receiver<()>);

    impl Duty for Wait {
        fn turn(&mut self, _: &Stop) -> Next {
            self.0.recv().unwrap();
            Next::After(Duration::from_secs(3_600))
        }
    }
}
