//! Log and tables under one prefix of a Redis server, written to by many processes: a group commit is one script call.

mod groups;
mod newest;

pub use newest::Newest;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use ahash::RandomState;
use redis::{FromRedisValue, RedisError, Value};
use tasklog_log::{
    Appended, Checkpoint, CommitId, Entity, Event, Log, Millis, NewCommit, Outcome, Position, READ_EVENTS_MAX, Revs,
    StoreError, Stored,
    redis::{Durability, Keys, Link, RedisLog, Script, Time, is_answer_lost},
};
use tasklog_projections::{
    RowChange, TableDef, View,
    overlay::Overlay,
    redis::{Expiry, RedisView, script},
    table,
};
use uuid::Uuid;

use self::groups::{Group, Packer, array, groups, number, text};
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
/// ms: how far behind the append's instant the decisions' instant may be.
const CLOCK_LAG_MAX_MS: u64 = 1_000;
/// How long a writer waits for somebody else's turn to end before it asks again.
const TURN_PAUSE: Duration = Duration::from_micros(300);
/// How often a lost connection is opened again while the outcome of a call is unknown.
const RESOLVE_PAUSE: Duration = Duration::from_millis(20);
/// No connection has this number.
const NOT_COMPARED: u64 = u64::MAX;
/// How often a call is made again because the connection was replaced before it.
const CALLS_MAX: usize = 3;

static COMMIT: LazyLock<Script> = LazyLock::new(|| script(include_str!("commit.lua")));
static FENCE: LazyLock<Script> = LazyLock::new(|| script(include_str!("fence.lua")));
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

/// What a writer of a shared store is opened with.
pub struct RedisBackendOptions {
    /// The connection; this writer's alone.
    pub link: Arc<Link>,
    /// The keys' prefix.
    pub prefix: String,
    /// Whose clock the log keeps.
    pub time: Time,
    /// What an answer promises.
    pub durability: Durability,
    /// How long the outcome of a call is looked for after its answer was lost.
    pub resolve_max: Duration,
    /// How long answers are kept for a repeat of their command.
    pub answer_kept: Duration,
    /// What the writers of this process have seen.
    pub newest: Newest,
}

impl RedisBackendOptions {
    /// For one more writer of the same store in this process, with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            link: Arc::new(Link::new(self.link.connector().clone())),
            prefix: self.prefix.clone(),
            time: self.time.clone(),
            durability: self.durability,
            resolve_max: self.resolve_max,
            answer_kept: self.answer_kept,
            newest: self.newest.clone(),
        }
    }

    /// Whether the store keeps the time of a recording, whose commands have an order.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        matches!(self.time, Time::Given(_))
    }
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

    /// One script call for some groups.
    fn call<'b>(&mut self, now: Millis, items: &'b [Item], groups: &mut [Group<'b>], written: &mut Written) {
        let fail = |written: &mut Written, groups: &[Group<'_>], error: &StoreError| {
            written.errors.push(error.share());
            let failed = Fate::Failed(written.errors.len() - 1);
            groups.iter().flat_map(|group| &group.items).for_each(|item| written.fates[*item] = failed);
        };
        for _ in 0..CALLS_MAX {
            match self.try_call(now, items, groups) {
                Ok(Called::Judged(results)) => {
                    if let Err(error) = self.take(results, items, groups, written) {
                        fail(written, groups, &error);
                    }
                    return;
                }
                Ok(Called::Replaced) => match self.compare() {
                    Ok(false) => {}
                    Ok(true) => return self.put_off(groups, written),
                    Err(error) => return fail(written, groups, &error),
                },
                Ok(Called::Not) => return self.put_off(groups, written),
                Err(error) => return fail(written, groups, &error),
            }
        }
        self.put_off(groups, written);
    }

    fn put_off(&mut self, groups: &[Group<'_>], written: &mut Written) {
        groups.iter().flat_map(|group| &group.items).for_each(|item| written.fates[*item] = Fate::Later);
    }

    fn try_call<'b>(&mut self, now: Millis, items: &'b [Item], groups: &mut [Group<'b>]) -> Result<Called, StoreError> {
        self.sequence += 1;
        let packed = self.pack(now, items, groups)?;
        let prefix = self.keys.prefix();
        let keys = [
            self.keys.log().to_owned(),
            self.keys.head().to_owned(),
            self.keys.identity().to_owned(),
            format!("{prefix}:_turns"),
        ];
        let (mut replaced, mut lost) = (false, false);
        let (link, generation) = (Arc::clone(&self.link), self.generation);
        let answer = self.link.call(|conn| {
            replaced = link.generation() != generation;
            if replaced {
                return Ok(Value::Nil);
            }
            COMMIT.run(conn, &keys, &[&packed[..]]).inspect_err(|error: &RedisError| lost = is_answer_lost(error))
        });
        match answer {
            Ok(_) if replaced => Ok(Called::Replaced),
            Ok(answer) => self.judged(&answer),
            Err(error) if lost => self.resolve(items, groups, error),
            Err(error) => {
                // The next batch asks the server first, before anything is decided for it.
                self.clock = None;
                Err(error)
            }
        }
    }

    fn pack<'b>(&self, now: Millis, items: &'b [Item], groups: &mut [Group<'b>]) -> Result<Vec<u8>, StoreError> {
        let mut packed = Vec::with_capacity(512 * items.len() + 256);
        let given = match self.time {
            Time::Server => String::new(),
            Time::Given(_) => {
                // Each commit brings its own instant; rows must live at the first of them.
                let first = items.iter().map(|item| item.commit.decided_at.unwrap_or(now)).min();
                first.unwrap_or(now).to_string()
            }
        };
        array(&mut packed, 10);
        text(&mut packed, &self.writer.to_string());
        text(&mut packed, &self.sequence.to_string());
        text(&mut packed, &self.head.log.id.to_string());
        text(&mut packed, &self.head.log.epoch.to_string());
        text(&mut packed, &self.head.position.to_string());
        text(&mut packed, &self.repairs);
        text(&mut packed, &now.to_string());
        text(&mut packed, &given);
        number(&mut packed, CLOCK_LAG_MAX_MS);
        array(&mut packed, groups.len());
        let packer = Packer {
            view: self.view_below(),
            keys: &self.keys,
            items,
            answer_kept_ms: self.answer_kept_ms,
            now,
            urgent: self.overtaken,
            given: matches!(self.time, Time::Given(_)),
        };
        for group in groups {
            group.conditions.clear();
            packer.pack(group, items, &mut packed)?;
        }
        Ok(packed)
    }

    fn view_below(&self) -> &RedisView {
        self.tables.peek_below()
    }

    fn judged(&mut self, answer: &Value) -> Result<Called, StoreError> {
        let parts: Vec<Value> = parsed(answer)?;
        let kind: String = parsed(parts.first().unwrap_or(&Value::Nil))?;
        let part = |at: usize| parts.get(at).unwrap_or(&Value::Nil);
        match kind.as_str() {
            "done" => {
                self.clock = Some((parsed(part(1))?, Instant::now()));
                let (position, commit): (u64, String) = (parsed(part(2))?, parsed(part(3))?);
                let commit = commit.parse().map_err(|_| unexpected())?;
                self.head = Checkpoint {
                    log: self.head.log,
                    position: Position(position),
                    commit: CommitId(commit),
                    recorded_at: parsed(part(4))?,
                };
                self.newest.raise(self.head);
                Ok(Called::Judged(parsed(part(5))?))
            }
            "clock" => {
                self.clock = Some((parsed(part(1))?, Instant::now()));
                Ok(Called::Not)
            }
            "repaired" => {
                self.repairs = parsed(part(1))?;
                self.forget = true;
                Ok(Called::Not)
            }
            "diverged" => self.compare().map(|_| Called::Not),
            // A call with a later number was carried out: this one never will be.
            _ => Ok(Called::Not),
        }
    }

    /// The answer was lost: finds out whether the call was carried out, and if it was not, sees to it that it never is.
    fn resolve(&mut self, items: &[Item], groups: &[Group<'_>], error: StoreError) -> Result<Called, StoreError> {
        let began = Instant::now();
        let call = [self.writer.to_string(), self.sequence.to_string()];
        tracing::warn!(error = error.full(), "the answer of a commit was lost: looking for its outcome");
        let before = self.head;
        let found = loop {
            match self.outcome(&call, before.position) {
                Ok(Some(found)) => break found,
                Ok(None) => return Ok(Called::Not),
                // Whatever is lost on the way is asked again: nothing here is done twice.
                Err(error) if error.is_retryable() && began.elapsed() < self.resolve_max => {
                    thread::sleep(RESOLVE_PAUSE);
                }
                Err(error) if !error.is_retryable() => return Err(error),
                Err(unreachable) => {
                    self.clock = None;
                    return Err(StoreError::unavailable_because(
                        "the answer of a commit was lost and its outcome is not known yet: repeat the command with its \
                         command_id to learn it",
                        unreachable,
                    ));
                }
            }
        };
        let results = groups.iter().map(|group| {
            let first = group.items.iter().find_map(|at| {
                let item = &items[*at];
                let first = found.get(&item.commit.meta.id).filter(|_| !item.commit.events.is_empty())?;
                Some(first.before())
            });
            match first {
                // Groups are contiguous, and this is the first commit of this one.
                Some(base) => Value::BulkString(base.to_string().into_bytes()),
                None => Value::Array(vec![Value::Int(4)]),
            }
        });
        Ok(Called::Judged(results.collect()))
    }

    /// The commits after `after`, if the call was carried out; none if it was not, and never will be.
    fn outcome(&mut self, call: &[String; 2], after: Position) -> Result<Option<Found>, StoreError> {
        let carried_out: i64 = self.link.call(|conn| FENCE.run(conn, &[self.keys.head()], call))?;
        if self.compare()? || carried_out == 0 {
            return Ok(None);
        }
        let mut found = Found::default();
        let mut after = after;
        loop {
            let page = self.log.read(after, READ_EVENTS_MAX)?;
            let Some(last) = page.last() else { return Ok(Some(found)) };
            after = last.last();
            found.extend(page.iter().map(|commit| (commit.meta.id, commit.first())));
        }
    }

    /// Takes over what the script says of each group.
    fn take(
        &mut self,
        results: Vec<Value>,
        items: &[Item],
        groups: &[Group<'_>],
        written: &mut Written,
    ) -> Result<(), StoreError> {
        let mut committed = false;
        let mut found = Vec::new();
        for (group, result) in groups.iter().zip(results) {
            let parts = match &result {
                Value::Array(parts) => &parts[..],
                base => {
                    if group.events > 0 {
                        committed = true;
                        place(group, items, Position(parsed(base)?), written);
                    }
                    continue;
                }
            };
            let part = |at: usize| parts.get(at).unwrap_or(&Value::Nil);
            let fate = match parsed::<i64>(part(0))? {
                1 => {
                    for number in parsed::<Vec<usize>>(part(1))? {
                        let entity = group.conditions.get(number.wrapping_sub(1)).copied().flatten();
                        written.stale.extend(entity.map(|entity| (entity.clone(), (None, None))));
                    }
                    self.overtaken = true;
                    Fate::Stale
                }
                2 => {
                    let asked = group.asked.get(parsed::<usize>(part(1))?.wrapping_sub(1)).copied();
                    if let Some((at, id)) = asked.and_then(|at| Some((at, items[at].asked?))) {
                        self.answers.insert(id, stored(&parsed::<Vec<u8>>(part(2))?)?);
                        found.push(at);
                    }
                    Fate::Later
                }
                3 => {
                    written.errors.push(StoreError::corrupt_store(parsed::<String>(part(1))?));
                    Fate::Failed(written.errors.len() - 1)
                }
                _ => {
                    self.waits = true;
                    Fate::Later
                }
            };
            group.items.iter().for_each(|item| written.fates[*item] = fate);
        }
        // A first outcome may be one that was not confirmed: telling it again promises no less.
        if (committed || !found.is_empty())
            && let Some(error) = self.confirm()?
        {
            written.errors.push(error);
            let unconfirmed = Fate::Failed(written.errors.len() - 1);
            found.into_iter().for_each(|at| written.fates[at] = unconfirmed);
            self.answers.clear();
            for at in groups.iter().flat_map(|group| &group.items) {
                if written.fates[*at] == Fate::Stands && !items[*at].commit.events.is_empty() {
                    written.fates[*at] = unconfirmed;
                }
            }
        }
        Ok(())
    }

    /// Waits until as many replicas as were asked for have what was written.
    fn confirm(&mut self) -> Result<Option<StoreError>, StoreError> {
        let Durability::Replicated(wanted) = self.durability else { return Ok(None) };
        let timeout = self.resolve_max / 2;
        let (link, generation) = (Arc::clone(&self.link), self.generation);
        let noted = format!("{} {}", self.sequence, self.head.recorded_at);
        let reached: Result<Option<u32>, _> = self.link.call(|conn| {
            if link.generation() != generation {
                // The server behind a new connection may not have it at all.
                return Ok(None);
            }
            // WAIT covers what its own connection wrote, and the commit may have come through an earlier one: a write after
            // it is with a replica only if it is there too.
            redis::cmd("HSET").arg(self.keys.head()).arg(format!("w:{}", self.writer)).arg(&noted).exec(conn)?;
            redis::cmd("WAIT").arg(wanted).arg(timeout.as_millis() as u64).query(conn).map(Some)
        });
        let why = match reached {
            Ok(Some(reached)) if reached >= wanted => return Ok(None),
            Ok(None) => format!("whether {wanted} replicas have it is not known: the connection was replaced"),
            Ok(Some(reached)) => format!("{reached} of {wanted} replicas have it after {} ms", timeout.as_millis()),
            Err(error) => format!("whether {wanted} replicas have it is not known: {}", error.full()),
        };
        Ok(Some(StoreError::NotConfirmed { position: self.head.position, why }))
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

/// Commits, and the positions of their first events.
type Found = HashMap<CommitId, Position, RandomState>;

/// What a script call has come to.
enum Called {
    /// What became of each group.
    Judged(Vec<Value>),
    /// Nothing was written; the groups are to be decided again.
    Not,
    /// Nothing was sent, because the connection is a new one.
    Replaced,
}

/// Notes the positions of what a group has appended after `base`.
fn place(group: &Group<'_>, items: &[Item], base: Position, written: &mut Written) {
    let mut next = base.next();
    for item in group.items.iter().map(|at| &items[*at]) {
        let events = item.commit.events.len() as u64;
        if let Some(first) = item.first.as_provisional().filter(|_| events > 0) {
            written.placed.spans.push((first, events, next));
            next = Position(next.0 + events);
        }
    }
}

fn parsed<T: FromRedisValue>(value: &Value) -> Result<T, StoreError> {
    redis::from_redis_value_ref(value).map_err(|_| unexpected())
}

/// What was answered is not told: it may hold what only the command's caller is to see.
fn unexpected() -> StoreError {
    StoreError::unavailable("the commit script answered something that this program does not understand")
}

/// The first outcome as the script keeps it: `first last recorded_at`, a line end, and the answer.
fn stored(bytes: &[u8]) -> Result<Stored, StoreError> {
    let wrong = || StoreError::corrupt_store("a kept answer does not begin with its positions");
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(wrong)?;
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong())?;
    let mut numbers = line.split(' ');
    let mut next = || numbers.next().and_then(|number| number.parse::<u64>().ok()).ok_or_else(wrong);
    let (first, last, at) = (next()?, next()?, next()?);
    let recorded_at = Millis::try_from(at).map_err(|_| wrong())?;
    let appended = Appended { first: Position(first), last: Position(last), recorded_at };
    Ok(Stored { appended, answer: bytes[end + 1..].to_vec() })
}

/// Compares the newest head that this process has seen with what the log has now. Answers whether the log has entered a new
/// epoch, so that nothing that was known counts.
///
/// # Errors
/// `diverged`, naming both; the log's.
pub fn is_accepted(known: Checkpoint, now: Checkpoint, log: &dyn Log) -> Result<bool, StoreError> {
    let diverged = |log: Checkpoint| StoreError::Diverged { checkpoint: Box::new(known), log: Box::new(log) };
    if now.log.id != known.log.id || now.log.epoch < known.log.epoch {
        return Err(diverged(now));
    }
    if now.log.epoch > known.log.epoch {
        return Ok(true);
    }
    if now.position < known.position || (now.position == known.position && now.commit != known.commit) {
        return Err(diverged(now));
    }
    match commit_at(log, known.position)? {
        // It may end elsewhere; what counts is what the log has at this position.
        Some(found) if found.commit != known.commit => {
            Err(diverged(Checkpoint { log: now.log, position: known.position, ..found }))
        }
        _ => Ok(false),
    }
}

/// The commit that ends at a position, as far as the log still has it.
fn commit_at(log: &dyn Log, position: Position) -> Result<Option<Checkpoint>, StoreError> {
    if position == Position::ZERO || log.first()? > position {
        return Ok(None);
    }
    let info = log.info()?;
    let found = log.read(position.before(), 1)?.into_iter().next();
    Ok(found.map(|commit| Checkpoint {
        log: info,
        position: commit.last(),
        commit: commit.meta.id,
        recorded_at: commit.recorded_at,
    }))
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
