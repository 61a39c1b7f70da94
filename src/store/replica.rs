use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tasklog_log::{
    Blobs, Checkpoint, Commit, CommitId, Log, LogInfo, Millis, Position, StoreError, Stored, SystemClock,
    sqlite::{Head, SqliteLog, connection, write_head},
};
use tasklog_projections::{
    PROJECTED, View,
    sqlite::{SqliteView, drop_shadow, swap_shadow},
};
use tasklog_replay::{
    Folder,
    follow::{Beginning, Decisions, Replica, Word, take},
    snapshot::Snapshot,
};

use super::{
    Begin, Following, OpenOptions,
    beginning::{InFile, begin_file},
    lock::WriterLock,
    report::Reporter,
    snapshots, sqlite,
};
use crate::blobs::DirBlobs;
use crate::rejection::{Error, Rejection};

/// How often rows that have died are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Dead rows removed from one table at once.
const SWEEP_ROWS_MAX: usize = 2_000;
/// A replica forgets no tombstone: only the writer knows which ones its next events may link to.
const TOMBSTONES_BEFORE: Millis = Millis::MIN;

/// What a file becomes that takes another log's commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    /// A replica of the source with this name: it is marked, and takes no commands.
    Replica(&'a str),
    /// A store of its own that has the same log so far.
    Copy,
}

/// A store's file that takes another log's commits. It holds the writer's lock; readers are not disturbed.
pub(crate) struct SqliteReplica {
    path: PathBuf,
    conn: Connection,
    /// Stands where the tables stand; none after anything else has changed them.
    folder: Option<Folder>,
    swept: Instant,
    swept_at: Position,
    /// Tells readers of a replica about its source; a copy has nothing to tell.
    reporter: Option<Reporter>,
    _lock: WriterLock,
}

impl SqliteReplica {
    /// Opens or creates the file. If it is created, it keeps the time of a recording that the source keeps.
    ///
    /// # Errors
    /// `invalid` for a file that has another role, and those of opening a store.
    pub(crate) fn open(path: &Path, role: Role<'_>, recording_from: Option<Millis>) -> Result<Self, Error> {
        let options = OpenOptions { recording_from, ..OpenOptions::default() };
        let sqlite::Prepared { conn, lock, .. } = sqlite::prepare(path, &options)?;
        let marked = Following::read(&conn)?;
        let head = SqliteLog::new(&conn, Arc::new(SystemClock)).head()?;
        let file = path.display();
        let reporter = match (role, marked) {
            (Role::Replica(_), None) if head.position > Position::ZERO => {
                let events = head.position;
                return Err(Rejection::invalid(format!(
                    "{file} is a store of its own with {events} events: a replica needs a file of its own"
                ))
                .into());
            }
            (Role::Copy, Some(Following { source, .. })) => {
                return Err(
                    Rejection::invalid(format!("{file} is a replica of {source}: copy into another file")).into()
                );
            }
            (Role::Replica(source), _) => {
                Following::write(&conn, source)?;
                Some(Reporter::new(&conn)?)
            }
            (Role::Copy, None) => None,
        };
        if head.position == Position::ZERO {
            // What a follower left that was killed while it loaded a snapshot.
            drop_shadow(&conn)?;
        }
        let swept = Instant::now();
        Ok(Self { path: path.into(), conn, folder: None, swept, swept_at: Position::ZERO, reporter, _lock: lock })
    }

    /// Keeps answers of commits that were copied.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn keep_answers(&mut self, answers: &[(CommitId, Stored)]) -> Result<(), StoreError> {
        let transaction = connection::begin(&self.conn)?;
        let mut log = SqliteLog::new(&self.conn, Arc::new(SystemClock));
        answers.iter().try_for_each(|(id, stored)| log.adopt_answer(*id, stored))?;
        Ok(transaction.commit()?)
    }
}

impl Replica for SqliteReplica {
    fn log(&self) -> Box<dyn Log + '_> {
        Box::new(SqliteLog::new(&self.conn, Arc::new(SystemClock)))
    }

    fn belong_to(&mut self, log: LogInfo) -> Result<(), StoreError> {
        let transaction = connection::begin(&self.conn)?;
        let head = self.log().head()?;
        if head.position == Position::ZERO {
            SqliteLog::new(&self.conn, Arc::new(SystemClock)).adopt_identity(log)?;
        } else if head.log.id != log.id {
            let theirs = Box::new(Checkpoint::start(log));
            return Err(StoreError::Diverged { checkpoint: Box::new(head), log: theirs });
        } else {
            write_head(&self.conn, Head::Log, &Checkpoint { log, ..head })?;
        }
        write_head(&self.conn, Head::Tables, &Checkpoint { log, ..head })?;
        Ok(transaction.commit()?)
    }

    fn begin_with(
        &mut self,
        snapshot: &Snapshot,
        go_on: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<Checkpoint, StoreError> {
        self.folder = None;
        let place: Arc<dyn Blobs> = Arc::new(DirBlobs::new(snapshots::folder(&self.path)));
        begin_file(&self.conn, &snapshot.keep_in(&place)?, go_on)
    }

    fn beginning(&self) -> Result<Option<Checkpoint>, StoreError> {
        SqliteLog::new(&self.conn, Arc::new(SystemClock)).beginning()
    }

    fn take(&mut self, commits: &[Commit], decisions: &Decisions) -> Result<Checkpoint, StoreError> {
        // Taken out: after an error the next transaction begins with rows as they are stored.
        let folder = self.folder.take();
        let transaction = connection::begin(&self.conn)?;
        let mut log = SqliteLog::new(&self.conn, Arc::new(SystemClock));
        let mut view = SqliteView::live(&self.conn);
        let begin = || {
            let folder = Folder::on_live(&PROJECTED, &view)?.passing_over(decisions.passed_over.iter().copied());
            Ok::<_, StoreError>(folder.after_snapshot(Following::rows_from(&self.conn)?))
        };
        let mut folder = folder.map_or_else(begin, Ok)?;
        let beginning = log.beginning()?.map(|at| InFile { path: &self.path, conn: &self.conn, at });
        let beginning = beginning.as_ref().map(|beginning| beginning as &dyn Beginning);
        let to = take(&mut folder, &mut log, &mut view, commits, decisions, beginning)?;
        if let Some(reporter) = &mut self.reporter {
            reporter.tell_seen(&self.conn)?;
        }
        transaction.commit()?;
        self.folder = Some(folder);
        Ok(to)
    }

    fn go_back(&mut self, to: &Checkpoint) -> Result<(), StoreError> {
        self.folder = None;
        // The shadows are filled beside the tables; a crash leaves them to be thrown away. What counts is one transaction.
        let filled = super::rebuild::fill(&self.path, &self.conn, &PROJECTED, to, Begin::WithSnapshot, &mut |_| {})?;
        let transaction = connection::begin(&self.conn)?;
        swap_shadow(&self.conn, &PROJECTED)?;
        SqliteLog::new(&self.conn, Arc::new(SystemClock)).cut_back(to)?;
        write_head(&self.conn, Head::Tables, to)?;
        Following::note_snapshot(&self.conn, filled.began)?;
        transaction.commit()?;
        drop_shadow(&self.conn)
    }

    fn hear(&mut self, word: Word<'_>) -> Result<(), StoreError> {
        match &mut self.reporter {
            Some(reporter) => reporter.hear(&self.conn, word),
            None => Ok(()),
        }
    }

    fn rest(&mut self) -> Result<(), StoreError> {
        if self.swept.elapsed() < SWEEP_INTERVAL {
            return Ok(());
        }
        let head = self.log().head()?;
        self.swept = Instant::now();
        if head.position == self.swept_at {
            return Ok(());
        }
        self.folder = None;
        let transaction = connection::begin(&self.conn)?;
        let mut view = SqliteView::live(&self.conn);
        let mut done = true;
        for table in PROJECTED {
            // Dead at the head's instant, like the writer: whatever comes later finds them dead.
            let removed = view.sweep(table, head.recorded_at, TOMBSTONES_BEFORE, SWEEP_ROWS_MAX)?;
            done &= removed.len() < SWEEP_ROWS_MAX;
        }
        transaction.commit()?;
        if done {
            self.swept_at = head.position;
        }
        Ok(())
    }
}
