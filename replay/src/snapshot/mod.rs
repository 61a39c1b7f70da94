//! All rows as they were at the end of one commit, in one immutable file: what a rebuild, a new follower and a look at an
//! earlier moment begin with instead of position 0.
//!
//! A snapshot is made from the one before it and the log's events since then, never from live tables: so one code path
//! serves every backend, writers are not touched, and what it says is a witness of its own. Entries are sorted by table
//! and key. Making the next one is a merge, and one row is looked up by reading one block.
//!
//! ```text
//!   previous snapshot   a  b     d  e        entries in order
//!   the log since then     b' c     e† f     events grouped by entity, bounded in memory
//!   next snapshot       a  b' c  d  e† f     rows that died by time and old short tombstones are left out
//! ```
//!
//! The same log gives the same bytes, whichever snapshots were made on the way.

mod file;
mod format;
mod keep;
mod load;
mod make;
mod thin;
mod write;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tasklog_log::{BlobReader, Blobs, Checkpoint, Log, Position, StoreError};

use self::{
    file::File,
    format::{DIGEST_DIGITS, FOLDER, SUFFIX},
};

pub use load::{Contents, Snapshot};
pub use make::{MakeOptions, PASS_EVENTS_MAX};
pub use write::Spool;

/// How long short tombstones stay in a snapshot: a day before the commit that it ends with.
pub const TOMBSTONES_MS: i64 = 24 * 60 * 60 * 1_000;

/// A snapshot as a listing shows it: what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name in its place.
    pub name: String,
    /// Through this event, which is the last one of its commit.
    pub position: Position,
    /// The first 16 digits of its digest, lowercase hex.
    pub digest: String,
    /// How many bytes it has.
    pub bytes: u64,
}

impl SnapshotInfo {
    fn of(name: &str, bytes: u64) -> Option<Self> {
        let (position, digest) = name.strip_prefix(FOLDER)?.strip_suffix(SUFFIX)?.split_once('-')?;
        let hex = digest.len() == DIGEST_DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let position: u64 = position.parse().ok().filter(|_| position.len() == 20 && hex)?;
        Some(Self { name: name.into(), position: Position(position), digest: digest.into(), bytes })
    }

    fn named(position: Position, digest: &[u8; 32], bytes: u64) -> Self {
        let mut digest = hex::encode(digest);
        digest.truncate(DIGEST_DIGITS);
        Self { name: format!("{FOLDER}{:020}-{digest}{SUFFIX}", position.0), position, digest, bytes }
    }
}

/// The snapshots in one place.
#[derive(Clone)]
pub struct Snapshots {
    blobs: Arc<dyn Blobs>,
    passed_over: Arc<BTreeSet<Position>>,
    /// What was read once: they never change.
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// A snapshot whose digest is right, or why there is none.
type Known = Arc<Result<Arc<File>, String>>;

impl Snapshots {
    /// Those that `blobs` keeps.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, passed_over: Arc::default(), known: Arc::default() }
    }

    /// Makes snapshots that pass over these events, which somebody has quarantined, and uses those only that were made
    /// so.
    #[must_use]
    pub fn passing_over(mut self, quarantined: impl IntoIterator<Item = Position>) -> Self {
        self.passed_over = Arc::new(quarantined.into_iter().collect());
        self
    }

    /// Where they are, without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        self.blobs.place()
    }

    /// All of them, the newest first.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        let found = self.blobs.list(FOLDER)?;
        let mut infos: Vec<_> = found.iter().filter_map(|blob| SnapshotInfo::of(&blob.name, blob.bytes)).collect();
        infos.sort_by(|a, b| b.position.cmp(&a.position).then_with(|| a.name.cmp(&b.name)));
        self.known().retain(|name, _| infos.iter().any(|info| info.name == *name));
        Ok(infos)
    }

    /// The newest usable one at or before `through`. Unusable ones are passed over with a warning.
    ///
    /// # Errors
    /// `unavailable`; the log's.
    pub fn newest(&self, log: &dyn Log, through: Position) -> Result<Option<Snapshot>, StoreError> {
        for info in self.list()?.into_iter().filter(|info| info.position <= through) {
            match self.open(log, &info)? {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(why) => tracing::warn!(snapshot = info.name, place = self.place(), why, "passing over a snapshot"),
            }
        }
        Ok(None)
    }

    /// One of them, if it can be used with this log and this program; otherwise why not.
    ///
    /// # Errors
    /// `unavailable`; the log's.
    pub fn open(&self, log: &dyn Log, info: &SnapshotInfo) -> Result<Result<Snapshot, String>, StoreError> {
        let file = match &*self.file(info)? {
            Ok(file) => Arc::clone(file),
            Err(why) => return Ok(Err(why.clone())),
        };
        let at = file.directory.checkpoint();
        if let Some(why) = file.directory.unlike_this_program() {
            return Ok(Err(why));
        }
        let passed_over = self.passed_over_through(at.position);
        if file.directory.passed_over != passed_over {
            let positions = |all: &[Position]| all.iter().map(|at| at.0).collect::<Vec<_>>();
            let (made, now) = (positions(&file.directory.passed_over), positions(&passed_over));
            return Ok(Err(format!("events {made:?} were quarantined when it was made, now events {now:?} are")));
        }
        if let Some(why) = unlike_the_log(log, &at)? {
            return Ok(Err(why));
        }
        let checkpoint = Checkpoint { log: log.info()?, ..at };
        Ok(Ok(Snapshot { blobs: Arc::clone(&self.blobs), file, checkpoint }))
    }

    /// What one of them says of itself, whether or not it fits a log; why not, if it cannot be read.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn contents(&self, info: &SnapshotInfo) -> Result<Result<Contents, String>, StoreError> {
        Ok(match &*self.file(info)? {
            Ok(file) => Ok(Contents::of(file)),
            Err(why) => Err(why.clone()),
        })
    }

    /// Copies one of them, whose digest must be right, to another place; false if that has it.
    ///
    /// # Errors
    /// `corrupt` for a damaged one; `unavailable`; `read_only`.
    pub fn copy(&self, info: &SnapshotInfo, to: &dyn Blobs) -> Result<bool, StoreError> {
        if let Err(why) = &*self.file(info)? {
            return Err(StoreError::corrupt_store(format!("{}: {why}", info.name)));
        }
        to.put(&info.name, &mut BlobReader::new(&*self.blobs, &info.name))
    }

    fn file(&self, info: &SnapshotInfo) -> Result<Known, StoreError> {
        let known = self.known().get(&info.name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let opened: Known = Arc::new(File::open(&*self.blobs, info)?.map(Arc::new));
        self.known().insert(info.name.clone(), opened.clone());
        Ok(opened)
    }

    fn passed_over_through(&self, position: Position) -> Vec<Position> {
        self.passed_over.range(..=position).copied().collect()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // What is inserted is whole, so a panic leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why rows at a checkpoint are not those of a log at that place, or cannot be gone on from.
fn unlike_the_log(log: &dyn Log, at: &Checkpoint) -> Result<Option<String>, StoreError> {
    let (info, head, first) = (log.info()?, log.head()?, log.first()?);
    let position = at.position;
    if at.log.id != info.id {
        return Ok(Some(format!("it is of log {}, this is log {}", at.log.id, info.id)));
    }
    if at.log.epoch > info.epoch {
        return Ok(Some(format!("it is of epoch {}, the log is in epoch {}", at.log.epoch, info.epoch)));
    }
    if position > head.position {
        return Ok(Some(format!("it is of event {position}, the log ends at event {}", head.position)));
    }
    if position < first.before() {
        return Ok(Some(format!("it is of event {position}, the log begins at event {first}")));
    }
    if position < first {
        // The event itself was trimmed. A trim leaves nothing behind that a snapshot of this log does not cover.
        return Ok(None);
    }
    Ok(match log.event(position)? {
        Some((commit, _)) if commit.last() != position => {
            Some(format!("it ends at event {position}, a commit of the log ends at event {}", commit.last()))
        }
        Some((commit, _)) if commit.meta.id != at.commit => {
            Some(format!("at event {position} it has commit {}, the log has {}", at.commit, commit.meta.id))
        }
        Some(_) => None,
        None => Some(format!("the log has no event {position}")),
    })
}
