//! Log and tables under one prefix of a Redis server, written to by many processes: a group commit is one script call.

mod accepted;
mod answers;
mod call;
mod groups;
mod lost;
mod newest;
mod options;

pub use self::{accepted::is_accepted, newest::Newest, options::RedisBackendOptions};

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use ahash::RandomState;
use tasklog_log::{
    Checkpoint, CommitId, Entity, Event, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
    redis::{Durability, Keys, Link, RedisLog, Script, Time},
};
use tasklog_projections::{
    RowChange, TableDef, View,
    overlay::Overlay,
    redis::{Expiry, RedisView, script},
    table,
};
use uuid::Uuid;

use self::groups::{Group, groups};
use super::{Backend, Fate, Item, Placed, SharedBackend, Written};
use crate::{
    rows::{Below, Known},
    store::archive,
};

/// Commits in one script call; a group is never split.
const CALL_COMMITS_MAX: usize = 512;
/// Bytes of payloads and keys in one script call; a group is never split.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Requests decided in one group commit.
const BATCH_REQUESTS_MAX: usize = 512;
/// Events after which a group commit takes no further request.
const BATCH_EVENTS_MAX: u64 = 2_048;
/// How old a reading of the server's clock may be; then it is read again.
const CLOCK_AGE_MAX: Duration = Duration::from_secs(1);
/// How long a writer waits for somebody else's turn to end before it asks again.
const TURN_PAUSE: Duration = Duration::from_micros(300);
/// No connection has this number.
const NOT_COMPARED: u64 = u64::MAX;

static FORGET: LazyLock<Script> = LazyLock::new(|| script(include_str!("forget.lua")));

/// ms: how long the number of a writer's last call is kept: far longer than a call can be on its way.
const WRITER_KEPT_MS: u64 = 3_600_000;

/// The writer's side of a shared store.
pub struct RedisBackend {
    link: Arc<Link>,
    keys: Keys,
    log: RedisLog,
    tables: Overlay<RedisView>,
    time: Time,
    durability: Durability,
    /// How long an outcome is looked for after its answer was lost.
    resolve_max: Duration,
    answer_kept_ms: Millis,
    writer: Uuid,
    /// Numbers this writer's calls.
    sequence: u64,
    /// The newest head this writer has seen.
    head: Checkpoint,
    newest: Newest,
    /// The connection on which `head` was last compared with the log.
    generation: u64,
    /// The server's clock, and when it was read.
    clock: Option<(Millis, Instant)>,
    /// First outcomes that the last batch found under the ids of its commands.
    answers: HashMap<CommitId, Stored, RandomState>,
    /// How often rows were repaired before those that this writer knows were read; as the script counts.
    repairs: String,
    /// Whether the log has entered a new epoch, or rows were repaired, and the next batch is to begin without any row known.
    forget: bool,
    /// Whether rows were overtaken in the last call.
    overtaken: bool,
    /// Whether somebody else has a turn.
    waits: bool,
}

impl RedisBackend {
    /// The writer's side of a store that is prepared.
    ///
    /// # Errors
    /// `unavailable`, `corrupt`.
    pub fn open(options: RedisBackendOptions) -> Result<Self, StoreError> {
        let RedisBackendOptions { link, prefix, time, durability, resolve_max, answer_kept, newest } = options;
        let expiry = match time {
            Time::Server => Expiry::ByServer,
            Time::Given(_) => Expiry::BySweep,
        };
        let view = RedisView::new(Arc::clone(&link), &prefix, expiry).keeping_pages();
        let head = view.checkpoint()?;
        let keys = Keys::new(&prefix);
        let args = [String::new(), WRITER_KEPT_MS.to_string()];
        let _: i64 = link.call(|conn| FORGET.run(conn, &[keys.head()], &args))?;
        // Before any row is read.
        let repairs: Option<String> =
            link.ask(|conn| redis::cmd("HGET").arg(keys.head()).arg("repairs").query(conn))?;
        Ok(Self {
            log: RedisLog::open(Arc::clone(&link), time.clone())?,
            keys,
            tables: Overlay::new(view),
            time,
            durability,
            resolve_max,
            answer_kept_ms: Millis::try_from(answer_kept.as_millis()).unwrap_or(Millis::MAX).max(1),
            writer: Uuid::now_v7(),
            sequence: 0,
            head,
            newest,
            generation: link.generation(),
            clock: None,
            answers: HashMap::default(),
            repairs: repairs.unwrap_or_else(|| "0".into()),
            forget: false,
            overtaken: false,
            waits: false,
            link,
        })
    }

    /// Compares what this writer knows with the log, after a new connection or when the log says that it differs.
    /// Answers whether the log has entered a new epoch, so that nothing that was known counts.
    ///
    /// # Errors
    /// `diverged`, naming both.
    fn compare(&mut self) -> Result<bool, StoreError> {
        self.take_newest();
        // Until it has gone well, every batch begins with it.
        self.generation = NOT_COMPARED;
        let generation = self.link.generation();
        let now = self.tables.below().checkpoint()?;
        let known = self.head;
        let accepted = is_accepted(known, now, &self.log)?;
        self.head = now;
        self.newest.raise(now);
        if accepted {
            tracing::warn!(from = %known, to = %now, "the log is in a new epoch: what was known of it is forgotten");
            self.answers.clear();
            self.forget = true;
        }
        // If the connection was opened for this, the next batch compares once more.
        self.generation = generation;
        self.clock = None;
        Ok(accepted)
    }

    /// Takes over what other writers of this process have seen. A new epoch has to be looked at by each of them: all that
    /// it knew counts no more.
    fn take_newest(&mut self) {
        let Some(newest) = self.newest.get() else { return };
        if newest.log != self.head.log {
            self.generation = NOT_COMPARED;
        } else if newest.position > self.head.position {
            self.head = newest;
        }
    }

    fn server_ms(&mut self) -> Result<Millis, StoreError> {
        if let Some((read, at)) = self.clock
            && at.elapsed() < CLOCK_AGE_MAX
        {
            // A little less than what has passed, so that the append is never earlier.
            let passed = Millis::try_from(at.elapsed().as_millis()).unwrap_or(Millis::MAX);
            return Ok(read.saturating_add((passed - 1).max(0)));
        }
        let (seconds, micros): (Millis, Millis) = self.link.ask(|conn| redis::cmd("TIME").query(conn))?;
        let now = seconds * 1_000 + micros / 1_000;
        self.clock = Some((now, Instant::now()));
        Ok(now)
    }

    fn view_below(&self) -> &RedisView {
        self.tables.peek_below()
    }

    /// What the store has of rows that were not as a decision had seen them.
    fn look_up(&mut self, stale: &mut [(Entity, Known)]) -> Result<(), StoreError> {
        stale.sort_by(|(a, _), (b, _)| (&*a.table, &a.key).cmp(&(&*b.table, &b.key)));
        for rows in stale.chunk_by_mut(|(a, _), (b, _)| a.table == b.table) {
            let Some(table) = rows.first().and_then(|(entity, _)| table(&entity.table)) else { continue };
            let keys: Vec<String> = rows.iter().map(|(entity, _)| entity.key.to_string()).collect();
            for ((_, known), found) in rows.iter_mut().zip(self.learn(table, &keys)?) {
                *known = found;
            }
        }
        Ok(())
    }
}

impl Drop for RedisBackend {
    fn drop(&mut self) {
        // If it does not get through, the next writer to open the store forgets it in time.
        let args = [self.writer.to_string(), WRITER_KEPT_MS.to_string()];
        let forgotten: Result<i64, _> = self.link.call(|conn| FORGET.run(conn, &[self.keys.head()], &args));
        if let Err(error) = forgotten {
            tracing::debug!(error = error.full(), "a writer's last call stays noted");
        }
    }
}

impl Below for RedisBackend {
    fn view(&mut self) -> Box<dyn View + '_> {
        Box::new(&mut self.tables)
    }

    fn event(&mut self, position: Position, checked: bool) -> Result<Event, StoreError> {
        archive::joined(&self.log, self.tables.peek_below(), |log| super::event_at(log, position, checked))
    }

    fn assumes(&self) -> bool {
        true
    }

    fn learn(&mut self, table: &'static TableDef, keys: &[String]) -> Result<Vec<Known>, StoreError> {
        let view = self.tables.below();
        // What was read along indexes before is older than these rows will be: a decision must not see both.
        view.forget_pages();
        let rows = view.rows(table, keys)?;
        let tombstones = view.tombstones(table, keys)?;
        Ok(rows.into_iter().zip(tombstones).collect())
    }
}

impl Backend for RedisBackend {
    fn begin(&mut self) -> Result<bool, StoreError> {
        if std::mem::take(&mut self.waits) {
            thread::sleep(TURN_PAUSE);
        }
        self.tables.take();
        self.tables.below().forget_pages();
        self.take_newest();
        // The first call of a batch may open a new connection; what is behind it may have lost what was acknowledged.
        if self.link.generation() != self.generation {
            self.compare()?;
        }
        Ok(std::mem::take(&mut self.forget))
    }

    fn now(&mut self) -> Result<Millis, StoreError> {
        let now = match &self.time {
            Time::Given(clock) => clock.now(),
            Time::Server => self.server_ms()?,
        };
        Ok(now.max(self.head.recorded_at))
    }

    fn head(&mut self) -> Result<Checkpoint, StoreError> {
        Ok(self.head)
    }

    /// The script finds first outcomes; those that it found are here.
    fn find(&mut self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        Ok(self.answers.get(&id).cloned())
    }

    fn append(&mut self, _: Millis, _: &[NewCommit], _: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        Err(StoreError::unavailable("a shared store appends together with its rows"))
    }

    /// They expire by themselves.
    fn forget_answers(&mut self, _: Millis) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn admit(&mut self) {
        self.tables.below().forget_pages();
    }

    fn rollback(&mut self) {
        self.tables.take();
    }

    fn shared(&mut self) -> Option<&mut dyn SharedBackend> {
        Some(self)
    }

    /// The commands of a recording are decided one by one: they stand in its order in the log, and name positions that
    /// the commands right before them were given.
    fn batch_max(&self) -> (usize, u64) {
        match self.time {
            Time::Server => (BATCH_REQUESTS_MAX, BATCH_EVENTS_MAX),
            Time::Given(_) => (1, BATCH_EVENTS_MAX),
        }
    }

    /// The connection opens itself.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.rollback();
        Ok(())
    }
}

impl SharedBackend for RedisBackend {
    fn write(&mut self, now: Millis, items: &[Item], changes: Vec<RowChange>) -> Result<Written, StoreError> {
        let changes = self.tables.take_with(changes)?;
        // Whoever asked for them has been answered while this batch was decided.
        self.answers.clear();
        let together = matches!(self.time, Time::Given(_));
        let mut groups = groups(items, &changes, together);
        let mut written = Written {
            fates: vec![Fate::Stands; items.len()],
            placed: Placed::default(),
            stale: Vec::new(),
            errors: Vec::new(),
        };
        let overtaken = std::mem::take(&mut self.overtaken);
        let mut rest = &mut groups[..];
        while !rest.is_empty() {
            let (mut commits, mut bytes) = (0, 0);
            let fits = |group: &&Group<'_>| {
                commits += group.items.len();
                bytes += group.bytes;
                commits <= CALL_COMMITS_MAX && bytes <= CALL_BYTES_MAX
            };
            let taken = rest.iter().take_while(fits).count().max(1);
            let (call, others) = rest.split_at_mut(taken);
            // Whoever was overtaken asks for a turn if it happens again.
            let again = std::mem::replace(&mut self.overtaken, overtaken);
            self.call(now, items, call, &mut written);
            self.overtaken = (self.overtaken && written.fates.contains(&Fate::Stale)) || again;
            rest = others;
        }
        // Whoever waits for its turn has been overtaken still.
        self.overtaken |= overtaken && self.waits;
        written.placed.spans.sort_unstable_by_key(|(first, ..)| *first);
        written.placed.head = self.head;
        if let Err(error) = self.look_up(&mut written.stale) {
            // What was written is written. The decisions that were not will be found stale once more.
            tracing::warn!(error = error.full(), "rows that had changed could not be read again");
            written.stale.clear();
        }
        Ok(written)
    }
}
