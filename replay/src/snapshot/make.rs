use std::io::{self, Cursor};

use tasklog_log::{Checkpoint, Event, Log, Millis, Position, READ_EVENTS_MAX, StoreError, read_checked_but};
use tasklog_projections::{PROJECTED, TableDef, Tombstones};

use super::{
    Snapshot, SnapshotInfo, Snapshots, Spool, TOMBSTONES_MS,
    file::Kept,
    format::{Body, Directory, decode_entry, row_of},
    write::Writer,
};
use crate::fold::{Rules, Slot, table_of};

/// So many events, at most, are held in memory; a longer tail is taken in several passes, each of which makes a snapshot.
pub const PASS_EVENTS_MAX: usize = 1_000_000;
/// And so many bytes of them.
const PASS_BYTES_MAX: usize = 256 << 20;
/// What an event takes in memory beside its payload and key, about.
const EVENT_BYTES: usize = 160;
/// Entries written between two questions whether to stop.
const ENTRIES_BETWEEN_STOPS: u64 = 10_000;

/// How a snapshot is made.
pub struct MakeOptions<'o> {
    /// At the end of the newest commit at or before this event; none for the head.
    pub through: Option<Position>,
    /// Events held in memory at once, at most [`PASS_EVENTS_MAX`].
    pub pass_events: usize,
    /// Where it waits until it is complete: memory, unless said otherwise.
    pub spool: &'o dyn Fn() -> io::Result<Box<dyn Spool>>,
    /// Asked now and then: whether to give up.
    pub stop: &'o dyn Fn() -> bool,
    /// Hears how far the log was read.
    pub note: &'o dyn Fn(Position),
}

impl Default for MakeOptions<'_> {
    fn default() -> Self {
        Self {
            through: None,
            pass_events: PASS_EVENTS_MAX,
            spool: &|| Ok(Box::new(Cursor::new(Vec::new()))),
            stop: &|| false,
            note: &|_| (),
        }
    }
}

impl MakeOptions<'_> {
    fn go_on(&self) -> Result<(), StoreError> {
        if (self.stop)() { Err(StoreError::unavailable("making a snapshot: it was stopped")) } else { Ok(()) }
    }
}

/// A snapshot on its way to its place.
struct Stoppable<'o> {
    content: &'o mut dyn Spool,
    stop: &'o dyn Fn() -> bool,
}

impl io::Read for Stoppable<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("it was stopped"));
        }
        self.content.read(into)
    }
}

/// One event on its way to its row.
struct Arrived {
    table: usize,
    event: Event,
    recorded_at: Millis,
}

impl Arrived {
    fn place(&self) -> (usize, &str) {
        (self.table, &self.event.key)
    }
}

impl Snapshots {
    /// Makes the next snapshot, from the newest usable one and the log's events since then; answers the one that is there
    /// if it ends at the same commit. Readers and writers of the log are not held up.
    ///
    /// # Errors
    /// `corrupt` or `schema_ahead` at the first event that cannot be folded; `unavailable` if there is nothing to make one
    /// of, if neither snapshot nor log has the beginning, or if it was told to stop; the log's. Then the place is as it was,
    /// apart from complete snapshots of earlier commits.
    pub fn make(&self, log: &dyn Log, options: &MakeOptions<'_>) -> Result<SnapshotInfo, StoreError> {
        let target = end_of_commit(log, options.through)?;
        let mut base = self.newest(log, target)?;
        self.remove_lost(log, base.as_ref().map_or(Position::ZERO, |base| base.checkpoint.position))?;
        if base.is_none() && log.first()? > Position(1) {
            let first = log.first()?;
            return Err(StoreError::unavailable(format!(
                "making a snapshot: the log begins at event {first}, and {} has no usable snapshot of what was before",
                self.place()
            )));
        }
        loop {
            match &base {
                Some(base) if base.checkpoint.position >= target => return Ok(base.info().clone()),
                None if target == Position::ZERO => {
                    return Err(StoreError::unavailable("making a snapshot: there is no commit to make one of"));
                }
                _ => {}
            }
            let info = self.pass(log, base.as_ref(), target, options)?;
            if info.position >= target {
                return Ok(info);
            }
            base = Some(self.open(log, &info)?.map_err(|why| {
                StoreError::unavailable(format!("{}: {} was just written, and {why}", self.place(), info.name))
            })?);
        }
    }

    fn pass(
        &self,
        log: &dyn Log,
        base: Option<&Snapshot>,
        target: Position,
        options: &MakeOptions<'_>,
    ) -> Result<SnapshotInfo, StoreError> {
        let from = base.map_or(Checkpoint::start(log.info()?), |base| base.checkpoint);
        let rules = Rules::new(self.passed_over.iter().copied(), from.position);
        let (mut arrived, at) = tail(log, from, target, &rules, options)?;
        arrived.sort_by(|a, b| a.place().cmp(&b.place()));
        let failed = |error| StoreError::unavailable_because("making a file for a snapshot", error);
        let mut spool = (options.spool)().map_err(failed)?;
        let mut writer = Writer::new(&mut *spool, Directory::new(&at, self.passed_over_through(at.position)))?;
        Merge { writer: &mut writer, at: &at, written: 0, options }.run(base, &arrived, &rules)?;
        let written = writer.finish()?;
        drop(arrived);
        options.go_on()?;
        let info = SnapshotInfo::named(at.position, &written.digest, written.bytes);
        for _ in 0..2 {
            spool
                .rewind()
                .map_err(|error| StoreError::unavailable_because("reading a snapshot's file again", error))?;
            if self.blobs.put(&info.name, &mut Stoppable { content: &mut *spool, stop: options.stop })? {
                break;
            }
            // The same log gives the same bytes: the one that is there is this one, unless it was damaged.
            let there = self.list()?.into_iter().find(|there| there.name == info.name);
            match there {
                Some(there) if self.file(&there)?.is_err() => self.remove(&there)?,
                _ => break,
            }
        }
        Ok(info)
    }

    pub(super) fn remove(&self, info: &SnapshotInfo) -> Result<(), StoreError> {
        self.blobs.delete(&info.name)?;
        self.known().remove(&info.name);
        Ok(())
    }
}

/// The end of the newest commit at or before `through`.
fn end_of_commit(log: &dyn Log, through: Option<Position>) -> Result<Position, StoreError> {
    let head = log.head()?.position;
    match through {
        Some(through) if through < head => Ok(match log.event(through)? {
            Some((commit, _)) if commit.last() > through => commit.first().before(),
            _ => through,
        }),
        _ => Ok(head),
    }
}

/// The events after `from`, as many as may be held at once, and where they end.
fn tail(
    log: &dyn Log,
    from: Checkpoint,
    target: Position,
    rules: &Rules,
    options: &MakeOptions<'_>,
) -> Result<(Vec<Arrived>, Checkpoint), StoreError> {
    let mut at = from;
    let mut arrived = Vec::new();
    let mut bytes = 0;
    let events_max = options.pass_events.clamp(1, PASS_EVENTS_MAX);
    while at.position < target && arrived.len() < events_max && bytes < PASS_BYTES_MAX {
        options.go_on()?;
        let limit = READ_EVENTS_MAX.min(events_max - arrived.len());
        for commit in read_checked_but(log, at.position, limit, &|position| rules.passes_over(position))? {
            if commit.last() > target {
                break;
            }
            at = Checkpoint {
                log: from.log,
                position: commit.last(),
                commit: commit.meta.id,
                recorded_at: commit.recorded_at,
            };
            for event in commit.events {
                bytes += event.payload.len() + event.key.len() + EVENT_BYTES;
                arrived.push(Arrived { table: table_of(&event)?, event, recorded_at: commit.recorded_at });
            }
        }
        (options.note)(at.position);
    }
    Ok((arrived, at))
}

/// Old entries and new events, met in order.
struct Merge<'m, 's> {
    writer: &'m mut Writer<'s>,
    at: &'m Checkpoint,
    written: u64,
    options: &'m MakeOptions<'m>,
}

impl Merge<'_, '_> {
    fn run(mut self, base: Option<&Snapshot>, arrived: &[Arrived], rules: &Rules) -> Result<(), StoreError> {
        let old = base.map(|base| base.file.entries(&*base.blobs, |_| true));
        let mut old = old.into_iter().flatten().peekable();
        for events in arrived.chunk_by(|a, b| a.place() == b.place()) {
            let place = events[0].place();
            while let Some(before) = old.next_if(|old| old.as_ref().map_or(true, |old| old.place() < place)) {
                self.keep(&before?)?;
            }
            let standing = old.next_if(|old| old.as_ref().map_or(true, |old| old.place() == place)).transpose()?;
            let mut slot = standing.as_ref().map_or(Ok(Slot::default()), stand)?;
            let table = PROJECTED[place.0];
            for arrived in events {
                slot.fold(table, &arrived.event, arrived.recorded_at, rules)?;
            }
            self.write(place.0, place.1, &slot)?;
        }
        old.try_for_each(|left| self.keep(&left?))
    }

    /// Takes over an entry that no event has touched, unless it is time to forget it.
    fn keep(&mut self, kept: &Kept) -> Result<(), StoreError> {
        self.step()?;
        let now = self.at.recorded_at;
        let forgotten = match kept.deleted_at {
            Some(deleted_at) => self.is_forgotten(PROJECTED[kept.table], deleted_at),
            None => kept.dies_at.is_some_and(|end| end <= now),
        };
        if forgotten {
            return Ok(());
        }
        self.writer.copy(kept.table, &kept.key, kept.deleted_at.is_none(), &kept.bytes)
    }

    fn write(&mut self, table: usize, key: &str, slot: &Slot) -> Result<(), StoreError> {
        self.step()?;
        match &slot.row {
            Some(row) if row.is_live(self.at.recorded_at) => self.writer.row(table, key, slot.rev, &row.cells()),
            Some(_) => Ok(()),
            None if self.is_forgotten(PROJECTED[table], slot.at) => Ok(()),
            None => self.writer.tombstone(table, key, slot.rev, slot.at),
        }
    }

    fn is_forgotten(&self, table: &TableDef, deleted_at: Millis) -> bool {
        table.tombstones == Tombstones::Short && deleted_at < self.at.recorded_at - TOMBSTONES_MS
    }

    fn step(&mut self) -> Result<(), StoreError> {
        self.written += 1;
        if self.written.is_multiple_of(ENTRIES_BETWEEN_STOPS) { self.options.go_on() } else { Ok(()) }
    }
}

fn stand(kept: &Kept) -> Result<Slot, StoreError> {
    let entry = decode_entry(&mut &kept.bytes[..]).map_err(StoreError::corrupt_store)?;
    let row = match &entry.body {
        Body::Row(cells) => Some(row_of(PROJECTED[kept.table], cells)?),
        Body::Tombstone(_) => None,
    };
    Ok(Slot::standing(row, kept.rev))
}
