use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use tasklog_log::{
    Checkpoint, Commit, CommitId, Log, LogInfo, Millis, Position, StoreError, Stored, check_adopted,
    redis::{Keys, Link, RedisLog, RedisUrl, Script, encode_commit, is_answer_lost},
};
use tasklog_projections::{
    AnyRow, Held, PROJECTED, RowChange, Scan, TableDef, View,
    redis::{Expiry, RedisView, pack_bytes, pack_ops, script},
};
use tasklog_replay::{
    Folder,
    follow::{Decisions, Replica, decides_quarantine, settle_quarantine},
};

use super::{OpenOptions, redis};
use crate::rejection::{Error, Rejection};

/// Events in one script call; a commit is never split.
const CALL_EVENTS_MAX: usize = 2_000;
/// Bytes of entries in one script call; a larger commit goes alone.
const CALL_BYTES_MAX: usize = 4 << 20;
/// A call whose answer is lost is made again this many times: it names the head it follows, so it happens once at most.
const CALLS_MAX: usize = 2;
/// Dead rows removed from one table at once.
const SWEEP_ROWS_MAX: usize = 2_000;
/// What is folded here comes from a log: every row that dies by time counts as one that Redis may have removed meanwhile,
/// and is written as a whole.
const MAY_BE_GONE: Millis = Millis::MAX;

static COPY: LazyLock<Script> = LazyLock::new(|| script(include_str!("redis_copy.lua")));

/// A store in Redis that takes another log's commits, before anybody writes to it. Entries, rows and head of a page move
/// in one script, which insists on the head that the page follows: a copy that is killed goes on exactly where it was, and
/// one that somebody else writes beside notices.
///
/// No row gets its expiry before the copy has caught up ([`RedisCopy::settle`]), because Redis would remove it between
/// its creation and the event that extends it. A copy that goes on after that may find such rows gone: they are folded again from
/// their own events.
pub(crate) struct RedisCopy {
    link: Arc<Link>,
    keys: Keys,
    log: RedisLog,
    /// Writes rows without an end.
    view: RedisView,
    /// Stands where the tables stand; none after anything else has changed them.
    folder: Option<Folder>,
    /// Whether Redis is to remove rows that die, once the copy has caught up.
    expires: bool,
}

impl RedisCopy {
    /// Opens the store, or gives birth to one that keeps the time of a recording that the source keeps.
    ///
    /// # Errors
    /// `invalid` if the store keeps another kind of time than the source, and those of opening a store.
    pub(crate) fn open(url: &RedisUrl, recording_from: Option<Millis>) -> Result<Self, Error> {
        let options = OpenOptions { recording_from, ..OpenOptions::default() };
        let redis::Prepared { read, recording, writer } = redis::prepare(url, &options)?;
        if recording.map(|recording| recording.from) != recording_from {
            let kept = |from: Option<Millis>| match from {
                Some(from) => format!("the time of a recording from {from} ms"),
                None => "the server's time".to_owned(),
            };
            return Err(Rejection::invalid(format!(
                "{url} keeps {}, a copy of the source would keep {}: copy to another prefix",
                kept(recording.map(|recording| recording.from)),
                kept(recording_from)
            ))
            .into());
        }
        let link = writer.ok_or_else(|| StoreError::ReadOnly(format!("{url}: it takes no commits")))?.link;
        let log = RedisLog::open(Arc::clone(&link), read.time().clone())?;
        let view = RedisView::new(Arc::clone(&link), &url.prefix, Expiry::BySweep);
        Ok(Self { link, keys: Keys::new(&url.prefix), log, view, folder: None, expires: recording_from.is_none() })
    }

    /// Keeps answers of commits that were copied, for what is left of their time.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn keep_answers(
        &self,
        answers: &[(CommitId, Stored)],
        kept_ms: Millis,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.link.ask(|conn| {
            let mut pipe = ::redis::pipe();
            for (id, Stored { appended, answer }) in answers {
                let head = format!("{} {} {}\n", appended.first, appended.last, appended.recorded_at);
                let left = (appended.recorded_at.saturating_add(kept_ms) - now).max(1);
                let value = [head.as_bytes(), answer].concat();
                pipe.cmd("SET").arg(self.keys.answer(*id)).arg(value).arg("PX").arg(left).ignore();
            }
            pipe.query::<()>(conn)
        })
    }

    /// Called when the copy has caught up: removes rows that are dead at the head's instant, and leaves the others to Redis.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        self.folder = None;
        let dead_at = self.log.head()?.recorded_at;
        for table in PROJECTED {
            // Nobody but the writer knows which tombstones its next events may link to.
            while self.view.sweep(table, dead_at, Millis::MIN, SWEEP_ROWS_MAX)?.len() == SWEEP_ROWS_MAX {}
        }
        if self.expires {
            self.view.set_expiries()?;
        }
        Ok(())
    }

    fn take_chunk(
        &mut self,
        commits: &[Commit],
        entries: &[Vec<u8>],
        decisions: &Decisions,
    ) -> Result<Checkpoint, StoreError> {
        let from = self.view.checkpoint()?;
        let to = check_adopted(&from, commits)?;
        let restored = Restored::of(&self.view, &self.log, commits, from.position)?;
        let folder = self.folder.take();
        let begin = || {
            Ok::<_, StoreError>(
                Folder::on_live(&PROJECTED, &self.view)?.passing_over(decisions.passed_over.iter().copied()),
            )
        };
        let mut folder = folder.map_or_else(begin, Ok)?;
        for commit in commits {
            folder.fold(commit, &restored)?;
        }
        let packed = self.pack(&from, commits, entries, &folder.changes());
        self.call(&from, &to, &packed)?;
        self.folder = Some(folder);
        Ok(to)
    }

    fn pack(&self, from: &Checkpoint, commits: &[Commit], entries: &[Vec<u8>], changes: &[RowChange]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 64).sum());
        let text = |packed: &mut Vec<u8>, text: &str| pack_bytes(packed, text.as_bytes());
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_array_len(&mut packed, 6);
        text(&mut packed, &from.log.id.to_string());
        text(&mut packed, &from.log.epoch.to_string());
        text(&mut packed, &from.position.to_string());
        text(&mut packed, &from.commit.to_string());
        let _ = rmp::encode::write_array_len(&mut packed, commits.len() as u32);
        for (commit, bytes) in commits.iter().zip(entries) {
            let _ = rmp::encode::write_array_len(&mut packed, 4);
            text(&mut packed, &commit.last().to_string());
            text(&mut packed, &commit.recorded_at.to_string());
            pack_bytes(&mut packed, bytes);
            text(&mut packed, &commit.meta.id.to_string());
        }
        let writer = self.view.writer();
        // A value that moves from one row to another must be taken before it is given.
        let ops: Vec<_> = changes.iter().flat_map(|change| writer.ops(change, Some(MAY_BE_GONE))).collect();
        let (taken, given): (Vec<_>, Vec<_>) = ops.into_iter().partition(tasklog_projections::redis::takes);
        pack_ops(&taken.into_iter().chain(given).collect::<Vec<_>>(), &mut packed, &|place| place);
        packed
    }

    fn call(&self, from: &Checkpoint, to: &Checkpoint, packed: &[u8]) -> Result<(), StoreError> {
        let keys = [self.keys.log(), self.keys.head(), self.keys.identity()];
        let mut lost = None;
        for _ in 0..CALLS_MAX {
            let mut is_lost = false;
            let called: Result<Vec<String>, _> = self
                .link
                .call(|conn| COPY.run(conn, &keys, &[packed]).inspect_err(|error| is_lost = is_answer_lost(error)));
            let answer = match called {
                Ok(answer) => answer,
                Err(error) if is_lost => {
                    lost = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let part = |at: usize| answer.get(at).map_or("", String::as_str);
            return match part(0) {
                "0" => Ok(()),
                "1" => Err(StoreError::corrupt_store(part(1))),
                // The call before, whose answer was lost, has moved it.
                _ if part(1) == to.position.to_string() && part(2) == to.commit.to_string() && lost.is_some() => Ok(()),
                _ => Err(StoreError::unavailable(format!(
                    "copying: expected the destination at event {}, commit {}, found event {}, commit {}: somebody else writes to it",
                    from.position,
                    from.commit,
                    part(1),
                    part(2)
                ))),
            };
        }
        let doing =
            format!("copying events after {}: whether they are in the log is unknown, repeat the copy", from.position);
        Err(match lost {
            Some(error) => StoreError::unavailable_because(doing, error),
            None => StoreError::unavailable(doing),
        })
    }
}

impl Replica for RedisCopy {
    fn log(&self) -> Box<dyn Log + '_> {
        Box::new(self.log.clone())
    }

    fn belong_to(&mut self, log: LogInfo) -> Result<(), StoreError> {
        let head = self.log.head()?;
        if head.position == Position::ZERO {
            return self.log.adopt_identity(log);
        }
        if head.log.id != log.id {
            let theirs = Box::new(Checkpoint::start(log));
            return Err(StoreError::Diverged { checkpoint: Box::new(head), log: theirs });
        }
        self.log.raise_epoch(log)
    }

    fn take(&mut self, commits: &[Commit], decisions: &Decisions) -> Result<Checkpoint, StoreError> {
        let mut rest = commits;
        while !rest.is_empty() {
            let mut entries = Vec::new();
            let (mut events, mut bytes) = (0, 0);
            for commit in rest {
                let entry = encode_commit(commit);
                events += commit.events.len();
                bytes += entry.len();
                if !entries.is_empty() && (events > CALL_EVENTS_MAX || bytes > CALL_BYTES_MAX) {
                    break;
                }
                entries.push(entry);
                if decides_quarantine(commit) {
                    break;
                }
            }
            let (chunk, others) = rest.split_at(entries.len());
            self.take_chunk(chunk, &entries, decisions)?;
            if let Some(last) = chunk.last().filter(|last| decides_quarantine(last)) {
                settle_quarantine(&self.log, &mut self.view, last, decisions, None)?;
                self.folder = None;
            }
            rest = others;
        }
        self.log.head()
    }

    /// A copy is a prefix of its source, or refused.
    fn go_back(&mut self, to: &Checkpoint) -> Result<(), StoreError> {
        Err(StoreError::Diverged { checkpoint: Box::new(self.log.head()?), log: Box::new(*to) })
    }
}

/// The tables, with the rows that Redis has removed although the log goes on about them.
struct Restored<'v> {
    view: &'v RedisView,
    rows: HashMap<(&'static str, Box<str>), Held>,
}

impl<'v> Restored<'v> {
    /// Looks at every row that dies by time and that `commits` go on about.
    fn of(view: &'v RedisView, log: &RedisLog, commits: &[Commit], head: Position) -> Result<Self, StoreError> {
        let mut rows = HashMap::new();
        for table in PROJECTED.iter().copied().filter(|table| table.dies_at.is_some()) {
            let events = commits.iter().flat_map(|commit| &commit.events).filter(|event| *event.table == *table.name);
            let linked: HashMap<&str, Position> =
                events.filter_map(|event| Some((&*event.key, event.prev.filter(|prev| *prev <= head)?))).collect();
            let keys: Vec<String> = linked.keys().map(|key| (*key).to_owned()).collect();
            for (key, found) in keys.iter().zip(view.rows(table, &keys)?) {
                if found.is_some() || view.tombstone(table, key)?.is_some() {
                    continue;
                }
                let rev = linked[key.as_str()];
                if let Some(row) = folded(log, table, rev)? {
                    rows.insert((table.name, key.as_str().into()), Held { row, rev });
                }
            }
        }
        Ok(Self { view, rows })
    }
}

/// The row as its chain leaves it at one of its events.
fn folded(log: &RedisLog, table: &'static TableDef, rev: Position) -> Result<Option<AnyRow>, StoreError> {
    let mut chain = Vec::new();
    let mut next = Some(rev);
    while let Some(position) = next {
        let found = log.event(position)?;
        let (commit, index) =
            found.ok_or_else(|| StoreError::corrupt(position, "a later event links to it, the log has no such"))?;
        next = commit.events[index].prev.filter(|prev| *prev < position);
        chain.push((commit, index));
    }
    chain
        .iter()
        .rev()
        .try_fold(None, |row, (commit, index)| table.fold(row, &commit.events[*index], commit.recorded_at))
}

impl View for Restored<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        match self.view.get(table, key)? {
            Some(held) => Ok(Some(held)),
            None if table.dies_at.is_some() => Ok(self.rows.get(&(table.name, key.into())).cloned()),
            None => Ok(None),
        }
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        View::tombstone(self.view, table, key)
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.view.any_tombstone(table)
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        self.view.scan(table, scan)
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.view.count(table, scan)
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.view.checkpoint()
    }

    fn write(&mut self, _: &[RowChange]) -> Result<(), StoreError> {
        Err(StoreError::unavailable("rows of a copy are written together with its log"))
    }

    fn apply(&mut self, _: &[RowChange], _: &Checkpoint, _: &Checkpoint) -> Result<(), StoreError> {
        Err(StoreError::unavailable("rows of a copy are written together with its log"))
    }

    fn sweep(&mut self, _: &'static TableDef, _: Millis, _: Millis, _: usize) -> Result<Vec<AnyRow>, StoreError> {
        Ok(Vec::new())
    }
}
