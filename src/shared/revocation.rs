//! The revocation channel: a hint to caches of admin sessions, at most once, without history.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tasklog_log::StoreError;

use super::SharedKeys;

/// The most revocations that wait for one listener; beyond, they become one [`Revocation::Reconnected`].
pub const WAITING_MAX: usize = 10_000;

/// What a listener hears.
#[derive(Clone, PartialEq, Eq)]
pub enum Revocation {
    /// This session was revoked.
    Session(String),
    /// Something may have been missed, because the connection was lost or too many waited: clear the whole cache.
    Reconnected,
}

/// A session id is sensitive, so it is not printed.
impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session(_) => "Session(***)",
            Self::Reconnected => "Reconnected",
        })
    }
}

/// Where a backend puts what a listener will hear.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<VecDeque<Revocation>>,
    arrived: Condvar,
    closed: AtomicBool,
}

impl Inbox {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Revocation>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, revocation: Revocation) {
        let mut waiting = self.waiting();
        if revocation == Revocation::Reconnected || waiting.len() >= WAITING_MAX {
            waiting.clear();
            waiting.push_back(Revocation::Reconnected);
        } else {
            waiting.push_back(revocation);
        }
        self.arrived.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// A listener. Dropping it ends the listening.
pub struct Revocations {
    inbox: Arc<Inbox>,
}

impl Revocations {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// What comes next, or none if nothing came within `timeout`. Blocks the calling thread.
    #[must_use]
    pub fn next(&self, timeout: Duration) -> Option<Revocation> {
        let waited = self.inbox.arrived.wait_timeout_while(self.inbox.waiting(), timeout, |waiting| waiting.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.pop_front()
    }
}

impl Drop for Revocations {
    fn drop(&mut self) {
        self.inbox.closed.store(true, Ordering::Release);
    }
}

/// The channel.
#[derive(Clone)]
pub struct RevocationChannel {
    keys: Arc<dyn SharedKeys>,
}

impl RevocationChannel {
    /// The channel of these keys.
    #[must_use]
    pub fn new(keys: Arc<dyn SharedKeys>) -> Self {
        Self { keys }
    }

    /// Tells all listeners; to be called after the revocation was appended.
    ///
    /// # Errors
    /// `unavailable`: nobody may have heard it, which costs at most the life of the caches, since rows decide.
    pub fn publish(&self, session_id: &str) -> Result<(), StoreError> {
        self.keys.publish_revoked(session_id)
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// `unavailable` if the first connection fails; later losses are healed and told as [`Revocation::Reconnected`].
    pub fn listen(&self) -> Result<Revocations, StoreError> {
        self.keys.revocations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_sleeps_too_long_is_told_to_clear_its_cache() {
        let listener = Revocations::new(Arc::default());
        for n in 0..=WAITING_MAX {
            listener.inbox.put(Revocation::Session(n.to_string()));
        }
        assert_eq!(listener.next(Duration::ZERO), Some(Revocation::Reconnected));
        assert_eq!(listener.next(Duration::ZERO), None);
    }
}
