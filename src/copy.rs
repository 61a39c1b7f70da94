//! Moving house: the log of one store into another, byte for byte, with tables folded from it, and a comparison of both.

use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tasklog_log::{CommitId, Log, Millis, Position, StoreError, Stored, leaf};
use tasklog_projections::{PROJECTED, View, cell_json};
use tasklog_replay::{
    follow::{FOLLOW_PAGE_EVENTS, Meeting, Replica, common_point, follow, meet},
    live_rows,
};

use crate::{
    Config, OpenOptions, TaskStore,
    follow::{FollowOptions, Note, OpenedSource, Source, open_source},
    rejection::{Error, Rejection},
    store::{Access, RedisCopy, Role, SqliteReplica, StoreUrl},
};

/// How often a copy catches up with a source that is still being written to, before it gives up comparing.
const CATCH_UPS_MAX: usize = 16;
/// ms: how far ahead of the clock rows must live to be compared where Redis removes them, at first.
const COMPARED_AHEAD_MS_MIN: Millis = 60_000;
/// Kept answers written in one transaction.
const ANSWERS_PAGE: usize = 1_000;

/// SHA-256 digests of one part on both sides, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// `log`, or a table.
    pub part: &'static str,
    /// Events of the log, live rows of a table.
    pub count: u64,
    /// Of the source.
    pub source: String,
    /// Of the destination.
    pub destination: String,
}

impl Compared {
    /// Whether both sides are the same.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.source == self.destination
    }
}

/// Where a copy goes.
enum Destination {
    Sqlite(Box<SqliteReplica>),
    Redis(Box<RedisCopy>),
}

impl Destination {
    fn open(to: &StoreUrl, recording_from: Option<Millis>) -> Result<Self, Error> {
        Ok(match to {
            StoreUrl::Sqlite(path) => Self::Sqlite(Box::new(SqliteReplica::open(path, Role::Copy, recording_from)?)),
            StoreUrl::Redis(url) => Self::Redis(Box::new(RedisCopy::open(url, recording_from)?)),
            StoreUrl::Memory => {
                return Err(Rejection::invalid(format!("{to}: a copy there would end with this process")).into());
            }
        })
    }

    fn replica(&mut self) -> &mut dyn Replica {
        match self {
            Self::Sqlite(copy) => &mut **copy,
            Self::Redis(copy) => &mut **copy,
        }
    }

    /// Called when the copy has caught up.
    fn settle(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Redis(copy) => copy.settle(),
        }
    }

    /// Keeps answers that are kept for `kept_ms` after their commits; `now` is the instant at the source.
    fn keep_answers(&mut self, answers: &[(CommitId, Stored)], kept_ms: Millis, now: Millis) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(copy) => copy.keep_answers(answers),
            Self::Redis(copy) => copy.keep_answers(answers, kept_ms, now),
        }
    }
}

/// What a copy has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The destination's head before.
    pub from: Position,
    /// Its head, and the source's, when they were compared.
    pub head: Position,
    /// Kept answers of repeatable commands that were copied.
    pub answers: u64,
    /// The log, then every table.
    pub compared: Vec<Compared>,
}

/// Copies the store at `from` to `to`: same positions, commit ids, instants and bytes. The destination must be empty or a
/// prefix of the source; it becomes an ordinary store with the same log id, so the source must not be written to any more
/// once the destination is. A copy that was interrupted goes on where it was.
///
/// # Errors
/// `invalid` if the destination has something else (naming the first differing position), or cannot be one; `unavailable`
/// if the source is written to faster than it can be compared, or `stop` was set; and the stores' errors.
pub fn copy(
    from: &StoreUrl,
    to: &StoreUrl,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<Copied, Error> {
    if from == to {
        return Err(Rejection::invalid(format!("{from} cannot be copied to itself")).into());
    }
    let OpenedSource { source, recording_from, .. } = open_source(from)?;
    let mut copy = Destination::open(to, recording_from)?;
    let began_at = copy.replica().log().head()?.position;
    require_prefix(&*source, copy.replica(), to)?;
    let options = FollowOptions { once: true, ..FollowOptions::default() };
    for _ in 0..CATCH_UPS_MAX {
        follow(&*source, copy.replica(), options, stop, note)?;
        if stop.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("the copy was stopped; repeat it to go on").into());
        }
        copy.settle()?;
        let answers = copy_answers(&*source, &mut copy)?;
        if let Some((head, compared)) = compare(from, to)? {
            return Ok(Copied { from: began_at, head, answers, compared });
        }
    }
    Err(StoreError::unavailable(format!("comparing with {from}: it is being written to, stop its writers first"))
        .into())
}

/// Takes a log that is no store's into `to`: same positions, commit ids, instants and bytes. The destination must be empty or a
/// prefix of it. Answers the destination's head before and after.
///
/// # Errors
/// As [`copy`].
pub(crate) fn take_over(
    source: &dyn Source,
    recording_from: Option<Millis>,
    to: &StoreUrl,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<(Position, Position), Error> {
    let mut copy = Destination::open(to, recording_from)?;
    let began_at = copy.replica().log().head()?.position;
    require_prefix(source, copy.replica(), to)?;
    let reached = follow(source, copy.replica(), FollowOptions { once: true, ..FollowOptions::default() }, stop, note)?;
    if stop.load(Ordering::Acquire) {
        return Err(StoreError::unavailable("it was stopped; repeat it to go on").into());
    }
    copy.settle()?;
    Ok((began_at, reached.position))
}

/// Refuses a destination that has anything the source has not, naming where they part.
fn require_prefix(source: &dyn Source, copy: &mut dyn Replica, to: &StoreUrl) -> Result<(), Error> {
    let mut refused = None;
    source.session(&mut |log| {
        let mine = copy.log();
        let head = mine.head()?;
        refused = match meet(log, &head)? {
            Meeting::Agrees { .. } => None,
            Meeting::Trimmed { first } => {
                Some(format!("the source begins at event {first}, {to} ends at {}", head.position))
            }
            Meeting::Diverged { theirs } if theirs.log.id != head.log.id => {
                Some(format!("{to} holds another log: {head}, the source is {theirs}"))
            }
            Meeting::Diverged { theirs } => match common_point(log, &*mine)? {
                Some(common) if common.position < head.position => {
                    let differs = common.position.next();
                    let id = |log: &dyn Log| -> Result<String, StoreError> {
                        Ok(log
                            .event(differs)?
                            .map_or("nothing".into(), |(commit, _)| format!("commit {}", commit.meta.id)))
                    };
                    let (here, there) = (id(&*mine)?, id(log)?);
                    Some(format!(
                        "{to} is no prefix of the source: event {differs} is of {here} here, of {there} there"
                    ))
                }
                _ => Some(format!("{to} is no prefix of the source: {head} here, {theirs} there")),
            },
        };
        Ok(())
    })?;
    refused.map_or(Ok(()), |why| Err(Rejection::invalid(why).into()))
}

/// Copies what repeated commands are answered, as far back as answers are kept.
fn copy_answers(source: &dyn Source, copy: &mut Destination) -> Result<u64, StoreError> {
    let retention = i64::try_from(Config::default().command_id_retention.as_millis()).unwrap_or(i64::MAX);
    let mut copied = 0;
    source.session(&mut |log| {
        let cutoff = log.now()?.saturating_sub(retention);
        let now = log.now()?;
        let mut at = first_since(&*copy.replica().log(), cutoff)?.before();
        loop {
            let page = copy.replica().log().read(at, FOLLOW_PAGE_EVENTS)?;
            let Some(last) = page.last() else { return Ok(()) };
            at = last.last();
            let mut found: Vec<(CommitId, Stored)> = Vec::new();
            for id in page.iter().map(|commit| commit.meta.id) {
                let stored = log.find(id)?;
                let known = stored.is_none() || copy.replica().log().find(id)?.is_some();
                found.extend(stored.filter(|_| !known).map(|stored| (id, stored)));
            }
            for answers in found.chunks(ANSWERS_PAGE) {
                copy.keep_answers(answers, retention, now)?;
                copied += answers.len() as u64;
            }
        }
    })?;
    Ok(copied)
}

/// The first position recorded at or after an instant; instants do not decrease along a log.
fn first_since(log: &dyn Log, cutoff: i64) -> Result<Position, StoreError> {
    let (mut low, mut high) = (1, log.head()?.position.0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match log.event(Position(middle))? {
            Some((commit, _)) if commit.recorded_at < cutoff => low = commit.last().0 + 1,
            _ => high = middle,
        }
    }
    Ok(Position(low))
}

/// Digests of both sides; none if the source has gone on meanwhile.
fn compare(from: &StoreUrl, to: &StoreUrl) -> Result<Option<(Position, Vec<Compared>)>, Error> {
    let open = |url| TaskStore::open_with(url, OpenOptions { access: Access::Read, ..OpenOptions::default() });
    let (from, to) = (open(from)?, open(to)?);
    let now =
        || -> Result<Millis, Error> { Ok(from.read(|log, _| Ok(log.now()?))?.max(to.read(|log, _| Ok(log.now()?))?)) };
    // Redis removes rows when they die, not when the log goes on: where one side does, rows that will live a while
    // longer are compared.
    let expires = [&from, &to].iter().any(|store| store.is_redis() && store.recording().is_none());
    let mut ahead = COMPARED_AHEAD_MS_MIN;
    let (ours, theirs, copied) = loop {
        let at = if expires { now()?.saturating_add(ahead) } else { Millis::MIN };
        let (ours, copied) = to.read(|log, view| Ok((log.head()?, digests(log, view, at)?)))?;
        let theirs =
            from.read(|log, view| if log.head()? == ours { Ok(Some(digests(log, view, at)?)) } else { Ok(None) })?;
        let Some(theirs) = theirs else { return Ok(None) };
        if !expires || now()? < at {
            break (ours, theirs, copied);
        }
        // It took longer than thought.
        ahead = ahead.saturating_mul(4);
    };
    let compared = theirs.into_iter().zip(copied).map(|((part, theirs_count, source), (_, count, destination))| {
        // A count that differs is a difference of the digests too.
        Compared { part, count: count.max(theirs_count), source, destination }
    });
    Ok(Some((ours.position, compared.collect())))
}

type PartDigest = (&'static str, u64, String);

/// SHA-256 over the log's leaves, each after its length in 4 bytes (big-endian), and over each table's rows that live at the
/// head's instant and at `alive_at`, in key order, one JSON object and a newline each.
fn digests(log: &dyn Log, view: &dyn View, alive_at: Millis) -> Result<Vec<PartDigest>, StoreError> {
    let head = log.head()?;
    let mut all = Vec::with_capacity(PROJECTED.len() + 1);
    let mut hash = Sha256::new();
    let (mut at, mut events) = (log.first()?.before(), 0);
    loop {
        let page = log.read(at, FOLLOW_PAGE_EVENTS)?;
        let Some(last) = page.last() else { break };
        at = last.last();
        for (commit, event) in page.iter().flat_map(|commit| commit.events.iter().map(move |event| (commit, event))) {
            let leaf = leaf(&commit.meta, commit.recorded_at, event);
            hash.update(u32::try_from(leaf.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(leaf);
            events += 1;
        }
    }
    all.push(("log", events, hex::encode(hash.finalize())));
    for table in PROJECTED {
        let mut hash = Sha256::new();
        let rows = live_rows(table, view, head.recorded_at.max(alive_at), |held| {
            for (column, cell) in table.columns.iter().zip(held.row.cells()) {
                let json = cell_json(column, &cell).map_err(StoreError::corrupt_store)?;
                hash.update(format!(
                    "{}\"{}\":{json}",
                    if column.name == table.columns[0].name { '{' } else { ',' },
                    column.name
                ));
            }
            hash.update(format!(",\"_rev\":{}}}\n", held.rev));
            Ok(())
        })?;
        all.push((table.name, rows, hex::encode(hash.finalize())));
    }
    Ok(all)
}
