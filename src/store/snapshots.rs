//! A store's snapshots: where they are, made on demand and by the way.
//!
//! The process that writes makes them in the background. It looks at the head now and then and makes the next one when enough
//! events have come; it reads the log page by page, as any other reader does, and no writer waits for it.

use std::{
    cell::Cell,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tasklog_log::{Blobs, Checkpoint, Log, MemoryBlobs, Position, StoreError};
use tasklog_projections::{TableDef, View, facts};
use tasklog_replay::snapshot::{MakeOptions, Snapshot, SnapshotInfo, Snapshots, Spool};

use super::{
    TaskStore,
    background::{Duties, Duty, Next, Stop},
    pool::ReadSide,
    turn::Turn,
};
use crate::{
    blobs::{DirBlobs, RedisBlobs},
    rejection::Error,
};

/// A snapshot every so many events, unless the store is opened with another number.
pub const SNAPSHOT_EVERY_DEFAULT: u64 = 100_000;
/// How often the head is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long one process has the right to make a snapshot in Redis; one that was killed is replaced then.
const TURN: Duration = Duration::from_secs(60);
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// A snapshot of up to so many bytes waits in memory until it is complete, a larger one in a temporary file.
const SPOOL_MEMORY_BYTES: usize = 4 << 20;

/// While the log grows, a snapshot that is being made rests after so much work,
const WORK_BETWEEN_RESTS: Duration = Duration::from_millis(5);
/// so many times as long as it worked,
const RESTS_PER_WORK: u32 = 3;
/// and no longer than that.
const REST_MAX: Duration = Duration::from_millis(200);

/// The folder of a file's snapshots.
pub(super) fn folder(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".snapshots");
    name.into()
}

/// Those of a file, of which these events are quarantined.
pub(crate) fn of_file(file: &Path, quarantined: impl IntoIterator<Item = Position>) -> Snapshots {
    Snapshots::new(Arc::new(DirBlobs::new(folder(file)))).passing_over(quarantined)
}

/// The snapshots of a store, and where they are.
#[derive(Clone)]
pub(super) struct Kept {
    blobs: Arc<dyn Blobs>,
    snapshots: Snapshots,
}

impl Kept {
    pub(super) fn of(read: &ReadSide) -> Self {
        let blobs: Arc<dyn Blobs> = match read {
            ReadSide::Sqlite(pool) => Arc::new(DirBlobs::new(folder(pool.path()))),
            ReadSide::Memory(_) => Arc::new(MemoryBlobs::default()),
            ReadSide::At(read) => return read.origin().kept.clone(),
            ReadSide::Redis(read) => Arc::new(RedisBlobs::new(read.url())),
        };
        Self { snapshots: Snapshots::new(Arc::clone(&blobs)), blobs }
    }

    /// All of them, whatever was quarantined when they were made.
    pub(super) fn all(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Those that were made without what is quarantined now.
    fn snapshots(&self, read: &ReadSide) -> Result<Snapshots, Error> {
        let quarantined = read.with(|_, view| Ok(facts::quarantined(view)?))?;
        Ok(self.snapshots.clone().passing_over(quarantined))
    }
}

impl TaskStore {
    /// The store's own place for large immutable things: a folder beside the file, keys beside those of a store in Redis,
    /// or memory.
    ///
    /// # Errors
    /// None in practice.
    pub fn blobs(&self) -> Result<Arc<dyn Blobs>, Error> {
        Ok(Arc::clone(&self.inner.kept.blobs))
    }

    /// The store's snapshots.
    ///
    /// # Errors
    /// The store's.
    pub fn snapshots(&self) -> Result<Snapshots, Error> {
        self.inner.kept.snapshots(&self.inner.read)
    }

    /// Makes a snapshot of the store as it is now, unless there is one, and thins out the older ones. Readers and writers
    /// go on; a store that was opened for reading can do so too, since only the place of snapshots is written to. `note`
    /// hears how far the log was read.
    ///
    /// # Errors
    /// `read_only` if the place cannot be written to; `corrupt`, naming the event that cannot be folded; the store's.
    pub fn snapshot(&self, note: impl Fn(Position)) -> Result<SnapshotInfo, Error> {
        if self.moment().is_some() {
            return Err(super::at::not_in_the_past("making a snapshot"));
        }
        let options = MakeOptions { note: &note, ..MakeOptions::default() };
        make(&self.inner.read, &self.snapshots()?, options)
    }
}

fn make(read: &ReadSide, snapshots: &Snapshots, options: MakeOptions<'_>) -> Result<SnapshotInfo, Error> {
    let folder = match read {
        ReadSide::Sqlite(pool) => pool.path().parent().filter(|folder| !folder.as_os_str().is_empty()),
        _ => None,
    };
    let spool = || -> io::Result<Box<dyn Spool>> {
        Ok(match folder {
            // Where there is room for the file there is room for its rows.
            Some(folder) => Box::new(tempfile::spooled_tempfile_in(SPOOL_MEMORY_BYTES, folder)),
            None => Box::new(tempfile::spooled_tempfile(SPOOL_MEMORY_BYTES)),
        })
    };
    read.with_log(|log| {
        let pace = Pace::new(log)?;
        let stop = || {
            pace.rest(log);
            (options.stop)()
        };
        let info = snapshots.make(log, &MakeOptions { spool: &spool, stop: &stop, ..options })?;
        for removed in snapshots.thin(log)? {
            tracing::debug!(snapshot = removed.name, "removed a snapshot between others");
        }
        Ok(info)
    })
}

/// Leaves the processor to the writers while there are some: a snapshot can wait, callers cannot.
struct Pace {
    working_since: Cell<Instant>,
    head: Cell<Position>,
}

impl Pace {
    fn new(log: &dyn Log) -> Result<Self, StoreError> {
        Ok(Self { working_since: Cell::new(Instant::now()), head: Cell::new(log.head()?.position) })
    }

    /// Sleeps for a multiple of the time worked since the last rest, if the log has grown meanwhile.
    fn rest(&self, log: &dyn Log) {
        let worked = self.working_since.get().elapsed();
        if worked < WORK_BETWEEN_RESTS {
            return;
        }
        // What is wrong with the log is found by whoever reads it.
        let head = log.head().map_or(Position::ZERO, |head| head.position);
        if self.head.replace(head) < head {
            thread::sleep((worked * RESTS_PER_WORK).min(REST_MAX));
        }
        self.working_since.set(Instant::now());
    }
}

/// Writes rows of the newest usable snapshot at or before `through` to an empty view; answers where the log goes on, if
/// there is one that can be read. The second answer is whether the view was written to and is of no use.
pub(super) fn begin_with(
    snapshots: &Snapshots,
    log: &dyn Log,
    through: Position,
    tables: &[&'static TableDef],
    view: &mut dyn View,
) -> (Option<Checkpoint>, bool) {
    begin_from(&snapshots.place(), || snapshots.newest(log, through), tables, view)
}

/// [`begin_with`] a snapshot that `find` finds.
pub(super) fn begin_from(
    place: &str,
    find: impl FnOnce() -> Result<Option<Snapshot>, StoreError>,
    tables: &[&'static TableDef],
    view: &mut dyn View,
) -> (Option<Checkpoint>, bool) {
    let mut touched = false;
    let load = || -> Result<Option<Checkpoint>, StoreError> {
        let Some(snapshot) = find()? else { return Ok(None) };
        touched = true;
        let at = snapshot.load(tables, view)?;
        tracing::info!(snapshot = snapshot.info().name, position = at.position.0, "began with a snapshot");
        Ok(Some(at))
    };
    match load() {
        Ok(began) => (began, false),
        Err(error) => {
            tracing::warn!(place, error = error.full(), "beginning at event 1: no snapshot was read");
            (None, touched)
        }
    }
}

/// Makes snapshots for as long as a store is open for writing.
pub(super) struct Maker {
    read: ReadSide,
    kept: Kept,
    every: u64,
    /// The position of the newest snapshot, as last seen.
    newest: Option<Position>,
}

impl Maker {
    /// Makes a snapshot every so many events; none if that is 0.
    pub(super) fn begin(duties: &mut Duties, read: &ReadSide, kept: &Kept, every: u64) {
        if every > 0 {
            duties.add(LOOK_INTERVAL, Box::new(Self { read: read.again(), kept: kept.clone(), every, newest: None }));
        }
    }

    fn look(&mut self, stop: &Stop) -> Result<(), Error> {
        let head = self.read.with_log(|log| Ok(log.head()?.position))?;
        // Every process comes to the same position, so that of several writers one makes it and the others find it.
        let due = Position(head.0 - head.0 % self.every);
        if due == Position::ZERO || self.newest.is_some_and(|newest| newest >= due || due.0 - newest.0 < self.every / 2)
        {
            return Ok(());
        }
        let snapshots = self.kept.snapshots(&self.read)?;
        self.newest = snapshots.list()?.first().map(|info| info.position);
        if self.newest.is_some_and(|newest| newest.0 + self.every / 2 > due.0) {
            return Ok(());
        }
        // What another process is making is found when it is done.
        let Some(_turn) = Turn::take(&self.read, "_snapshotting", TURN)? else { return Ok(()) };
        let options = MakeOptions { through: Some(due), stop: &|| stop.is_asked(), ..MakeOptions::default() };
        let info = make(&self.read, &snapshots, options)?;
        tracing::debug!(snapshot = info.name, bytes = info.bytes, "made a snapshot");
        self.newest = Some(info.position.max(due));
        Ok(())
    }
}

impl Duty for Maker {
    fn turn(&mut self, stop: &Stop) -> Next {
        let Err(error) = self.look(stop) else { return Next::After(LOOK_INTERVAL) };
        if !stop.is_asked() {
            let place = self.kept.blobs.place();
            tracing::warn!(place, error = told(&error), "no snapshot was made; it is tried again");
        }
        Next::After(AFTER_FAILURE)
    }
}

fn told(error: &Error) -> String {
    match error {
        Error::Store(error) => error.full(),
        Error::Rejected(rejection) => rejection.to_string(),
    }
}
