use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use redis::{Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::Connector;
use crate::StoreError;

/// One held connection, opened when it is needed and thrown away when it broke. Calls take turns.
pub struct Link {
    connector: Connector,
    held: Mutex<Option<Connection>>,
    generation: AtomicU64,
}

impl Link {
    /// Connects at the first call.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self { connector, held: Mutex::new(None), generation: AtomicU64::new(0) }
    }

    /// Where it connects to; blocking commands take a connection of their own from here.
    #[must_use]
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// How many connections there have been. Whoever holds a checkpoint compares it with the log again when this has
    /// grown: the server behind a new connection may have lost commits.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Runs `work` once, on the held connection or a new one. It is never repeated: whether a write whose answer was lost
    /// has happened is for the caller to find out.
    ///
    /// # Errors
    /// What [`Connector::connect`] or [`to_store_error`] says.
    pub fn call<T>(&self, work: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Result<T, StoreError> {
        let mut held = self.held();
        let conn = self.connection(&mut held)?;
        work(conn).map_err(|error| self.failed(&mut held, error))
    }

    /// Runs `work`, which only reads, and once more on a new connection if the first one broke or leads to a server that
    /// is no longer the right one.
    ///
    /// # Errors
    /// What [`Connector::connect`] or [`to_store_error`] says.
    pub fn ask<T>(&self, mut work: impl FnMut(&mut Connection) -> RedisResult<T>) -> Result<T, StoreError> {
        let mut held = self.held();
        let conn = self.connection(&mut held)?;
        match work(conn) {
            Err(error) if is_broken(&error) => {
                *held = None;
                let conn = self.connection(&mut held)?;
                work(conn).map_err(|error| self.failed(&mut held, error))
            }
            answer => answer.map_err(|error| self.failed(&mut held, error)),
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Connection>> {
        let mut held = self.held.lock().unwrap_or_else(|poisoned| {
            // A panic in the middle of a call leaves an answer unread that would be taken for the next call's.
            let mut held = PoisonError::into_inner(poisoned);
            *held = None;
            held
        });
        self.held.clear_poison();
        if held.as_ref().is_some_and(|conn| !redis::ConnectionLike::is_open(conn)) {
            *held = None;
        }
        held
    }

    fn connection<'h>(&self, held: &'h mut Option<Connection>) -> Result<&'h mut Connection, StoreError> {
        match held {
            Some(conn) => Ok(conn),
            None => {
                let conn = self.connector.connect()?;
                self.generation.fetch_add(1, Ordering::AcqRel);
                Ok(held.insert(conn))
            }
        }
    }

    fn failed(&self, held: &mut Option<Connection>, error: RedisError) -> StoreError {
        if is_broken(&error) {
            *held = None;
        }
        to_store_error(&self.connector.describe(), error)
    }
}

/// Whether an error leaves the fate of its command unknown, because the answer did not arrive.
#[must_use]
pub fn is_answer_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.kind() == ErrorKind::Parse || error.is_unrecoverable_error()
}

/// Whether a connection is of no use after this error.
fn is_broken(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, MasterDown, Moved, ReadOnly};
    is_answer_lost(error)
        || matches!(error.kind(), ErrorKind::Server(Moved | Ask | ReadOnly | MasterDown))
        || error.code() == Some("NOAUTH")
}

/// What a caller can do about an error of Redis: `corrupt` for a key of the wrong type in the way and for a log that is
/// not there any more, `unavailable` with its cause for everything else. `doing` says what was being done, and to whom.
#[must_use]
pub fn to_store_error(doing: &str, error: RedisError) -> StoreError {
    let detail = || error.detail().unwrap_or_default().to_owned();
    let why = match (error.kind(), error.code()) {
        (_, Some("WRONGTYPE")) => return StoreError::corrupt_store(format!("{doing}: wrong type: {}", detail())),
        (_, Some(LOST_LOG)) => return StoreError::corrupt_store(format!("{doing}: {}", detail())),
        (_, Some("OOM")) => {
            "maxmemory is reached and nothing was written: raise maxmemory or remove other keys".to_owned()
        }
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
            "the login was refused: user or password is wrong or missing".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            "the server is a replica now: another one was promoted".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => "the server is still loading its data".to_owned(),
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => "the user may not do this".to_owned(),
        (_, Some("BUSY")) => "the server is busy with somebody's script".to_owned(),
        (_, Some("MISCONF")) => "the server cannot write to its disk and takes no writes".to_owned(),
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ => return StoreError::unavailable_because(doing, error),
    };
    StoreError::unavailable_because(format!("{doing}: {why}"), error)
}

/// The code of errors that this crate's scripts answer when parts of a log are missing.
pub(super) const LOST_LOG: &str = "LOSTLOG";
