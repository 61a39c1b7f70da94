use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use redis::{Connection, RedisResult};
use uuid::Uuid;

use super::{
    ENTRY_LUA, Keys, Link, Script,
    append::{Entry, add},
    birth,
    birth::{identity_of, lost},
    encode_commit, facts, read, to_store_error,
};
use crate::{
    Appended, Checkpoint, Clock, Commit, CommitId, Linked, Log, LogInfo, Millis, NewCommit, Outcome, Position, Revs,
    StoreError, Stored, deadline::Deadline, link,
};

/// How long answers are kept, unless the log is told otherwise.
pub const ANSWER_RETENTION_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// An append that was overtaken by others looks at the new head this many times.
const APPEND_ATTEMPTS_MAX: usize = 64;
/// [`Log::wait`] blocks on the server for this long at most before it looks at the head again.
const WAIT_SLICE: Duration = Duration::from_millis(1_000);
/// The pause of [`Log::wait`] after the stream and the head disagreed.
const WAIT_PAUSE: Duration = Duration::from_millis(10);

pub(super) const PARTS_LUA: &str = include_str!("parts.lua");
static HEAD: LazyLock<Script> = LazyLock::new(|| Script::of_parts(&[ENTRY_LUA, PARTS_LUA, include_str!("head.lua")]));

/// Whose clock a log keeps.
#[derive(Clone)]
pub enum Time {
    /// The server's.
    Server,
    /// The process's, or a test's.
    Given(Arc<dyn Clock>),
}

/// A log in Redis that stands alone: without tables beside it. Clones share their connections.
///
/// [`Log::append`] answers an error without knowing whether its batch is in the log in one case: the answers of two calls
/// in a row were lost, and the error says so. An append is durable as far as the server's settings go
/// ([`super::Facts::promise`]); this log waits for no replica. Everything else is as every log promises.
#[derive(Clone)]
pub struct RedisLog {
    pub(super) shared: Arc<Shared>,
    pub(super) answer_retention: Duration,
}

pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    time: Time,
    /// The [`Link::generation`] whose server was found to have the head's entry as its stream's last.
    checked: AtomicU64,
    sizes: read::Sizes,
    /// For blocking reads.
    waiting: Mutex<Option<Connection>>,
}

/// The head, and what else one look at it brings.
struct Look {
    head: Checkpoint,
    server_now: Millis,
    last_id: String,
}

impl RedisLog {
    /// The log under the prefix of the link's URL; it is born if there is none.
    ///
    /// # Errors
    /// `unavailable`, also for a server that would evict the log; `corrupt` for keys of the wrong type in the way, a log
    /// with missing parts, and a stream that does not end at its head.
    pub fn open(link: Arc<Link>, time: Time) -> Result<Self, StoreError> {
        let keys = Keys::new(&link.connector().url().prefix);
        link.ask(facts)?.check(&link.connector().url().durability)?;
        let (name, now) = match &time {
            Time::Server => ("server", 0),
            Time::Given(clock) => ("given", clock.now()),
        };
        // Asked twice it is born once.
        link.ask(|conn| birth::birth(conn, &keys, name, now))?;
        let shared = Shared {
            link,
            keys,
            time,
            checked: AtomicU64::new(0),
            sizes: read::Sizes::default(),
            waiting: Mutex::new(None),
        };
        let log = Self { shared: Arc::new(shared), answer_retention: ANSWER_RETENTION_DEFAULT };
        log.look()?;
        Ok(log)
    }

    /// Keeps answers that long, at least a millisecond.
    #[must_use]
    pub fn with_answer_retention(self, answer_retention: Duration) -> Self {
        Self { answer_retention, ..self }
    }

    /// The names of its keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// Its connection.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.shared.link
    }

    /// Whether its time is not the server's.
    pub(super) fn keeps_given_time(&self) -> bool {
        matches!(self.shared.time, Time::Given(_))
    }

    /// The head. Behind a new connection the stream is asked whether it ends there.
    fn look(&self) -> Result<Look, StoreError> {
        let Shared { link, keys, checked, .. } = &*self.shared;
        let mut generation = 0;
        let look = link.ask(|conn| {
            // A number read in here belongs to this connection: whoever opens another one waits for the same lock.
            generation = link.generation();
            let check = if checked.load(Ordering::Acquire) == generation { "0" } else { "1" };
            look(conn, keys, check)
        })?;
        if !look.last_id.is_empty() {
            let Checkpoint { position, commit, .. } = look.head;
            if look.last_id != format!("{position}-0") {
                return Err(StoreError::corrupt_store(format!(
                    "{} says that the log ends with commit {commit} at position {position}, the last id of {} is {}",
                    keys.head(),
                    keys.log(),
                    look.last_id
                )));
            }
            checked.store(generation, Ordering::Release);
        }
        Ok(look)
    }

    /// Blocks until an entry follows `after` or `block` is over; says whether one does.
    fn block(&self, after: Position, block: Duration) -> Result<bool, StoreError> {
        let Shared { link, keys, waiting, .. } = &*self.shared;
        let connector = link.connector();
        let held = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut conn = match held {
            Some(conn) => conn,
            None => connector.connect_for(connector.url().timeout + WAIT_SLICE)?,
        };
        // 0 would be for ever.
        let ms = block.as_millis().max(1) as u64;
        let mut command = redis::cmd("XREAD");
        command.arg("BLOCK").arg(ms).arg("COUNT").arg(1).arg("STREAMS").arg(keys.log()).arg(format!("{after}-0"));
        let answer: RedisResult<redis::Value> = command.query(&mut conn);
        match answer {
            Ok(redis::Value::Nil) => {
                *waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(conn);
                Ok(false)
            }
            Ok(_) => {
                *waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(conn);
                Ok(true)
            }
            Err(error) => Err(to_store_error(&format!("waiting for {}", keys.log()), error)),
        }
    }
}

type Looked = (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>, Millis, String);

fn look(conn: &mut Connection, keys: &Keys, check: &str) -> RedisResult<Look> {
    let answer: Looked = HEAD.run(conn, &[keys.log(), keys.head(), keys.identity()], &[check])?;
    let (position, commit, recorded_at, id, epoch, server_now, last_id) = answer;
    let log = identity_of(keys, (id, epoch))?;
    let head = || {
        Some(Checkpoint {
            log,
            position: Position(position.as_ref()?.parse().ok()?),
            commit: CommitId(Uuid::parse_str(commit.as_ref()?).ok()?),
            recorded_at: recorded_at.as_ref()?.parse().ok()?,
        })
    };
    let head = head().ok_or_else(|| {
        lost(format!(
            "{} is no head: position {position:?}, commit {commit:?}, recorded_at {recorded_at:?}",
            keys.head()
        ))
    })?;
    Ok(Look { head, server_now, last_id })
}

impl Log for RedisLog {
    fn info(&self) -> Result<LogInfo, StoreError> {
        Ok(self.head()?.log)
    }

    fn now(&self) -> Result<Millis, StoreError> {
        let look = self.look()?;
        let now = match &self.shared.time {
            Time::Server => look.server_now,
            Time::Given(clock) => clock.now(),
        };
        Ok(now.max(look.head.recorded_at))
    }

    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        let Shared { link: redis, keys, .. } = &*self.shared;
        for _ in 0..APPEND_ATTEMPTS_MAX {
            let head = self.head()?;
            let mut answered = |id| Ok(self.find(id)?.map(|stored| stored.appended));
            let (outcomes, linked) = link(head.position, head.recorded_at, now, batch, revs, &mut answered)?;
            let entries: Vec<_> = linked
                .iter()
                .map(|Linked { index, commit }| {
                    Entry::of(commit, encode_commit(commit), batch[*index].answer.as_deref())
                })
                .collect();
            if entries.is_empty() || add(redis, keys, &head, &entries, self.answer_retention)? {
                return Ok(outcomes);
            }
        }
        Err(StoreError::unavailable(format!("appending: overtaken by others {APPEND_ATTEMPTS_MAX} times")))
    }

    fn adopt(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        Self::adopt_chunks(self, commits)
    }

    fn adopt_identity(&mut self, log: LogInfo) -> Result<(), StoreError> {
        Self::take_identity(self, log)
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let Shared { link, keys, sizes, .. } = &*self.shared;
        let commits = read::commits(link, keys, sizes, after, limit)?;
        if !commits.is_empty() {
            return Ok(commits);
        }
        // No entries are answered also where there is no stream, and where they were trimmed or deleted.
        let head = self.head()?.position;
        if head <= after {
            return Ok(commits);
        }
        let appended_meanwhile = read::commits(link, keys, sizes, after, limit)?;
        if appended_meanwhile.is_empty() {
            return Err(StoreError::corrupt(after.next(), format!("missing from the log: its head is {head}")));
        }
        Ok(appended_meanwhile)
    }

    fn head(&self) -> Result<Checkpoint, StoreError> {
        Ok(self.look()?.head)
    }

    fn first(&self) -> Result<Position, StoreError> {
        let head = self.head()?;
        let first = read::commit_from(&self.shared.link, &self.shared.keys, Position::ZERO)?;
        Ok(first.map_or(head.position.next(), |commit| commit.first()))
    }

    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        let key = self.shared.keys.answer(id);
        let found: Option<Vec<u8>> = self.shared.link.ask(|conn| redis::cmd("GET").arg(&key).query(conn))?;
        let Some(found) = found else { return Ok(None) };
        let parsed = || {
            let end = found.iter().position(|byte| *byte == b'\n')?;
            let mut numbers = std::str::from_utf8(&found[..end]).ok()?.split(' ');
            let first = Position(numbers.next()?.parse().ok()?);
            let last = Position(numbers.next()?.parse().ok()?);
            let recorded_at = numbers.next()?.parse().ok()?;
            Some(Stored { appended: Appended { first, last, recorded_at }, answer: found[end + 1..].to_vec() })
        };
        parsed().map(Some).ok_or_else(|| StoreError::corrupt_store(format!("{key} is no answer that was kept")))
    }

    fn wait(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        let deadline = Deadline::after(timeout);
        let (mut broke, mut found) = (false, false);
        loop {
            let head = self.head()?.position;
            let left = deadline.left();
            if head > after || left.is_zero() {
                return Ok(head);
            }
            if found {
                // The two connections lead to different servers: another one has been promoted.
                self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
                thread::sleep(WAIT_PAUSE.min(left));
            }
            match self.block(after, left.min(WAIT_SLICE)) {
                Ok(answer) => (broke, found) = (false, answer),
                // Once on a new connection; the one that was put away may have broken since.
                Err(error) if broke || !error.is_retryable() => return Err(error),
                Err(_) => (broke, found) = (true, false),
            }
        }
    }
}
