//! The log's past in sealed segments, in a place of blobs: what a hot log no longer has to keep.
//!
//! ```text
//! segments/<first>-<last>.tlseg   whole commits, compressed, never changed
//! manifests/<number>.json         which segments there are; written after them, never changed; the newest counts
//! ```
//! A segment that no manifest lists does not exist: whoever is killed between the two leaves one, and the next one puts the
//! same again. Two that archive at once write the same segments, and only one of them a manifest of the next number; the
//! other begins again from that.
//!
//! Nothing here removes a segment. [`ArchivedLog`] joins an archive and a hot log into one.

mod archived;
mod block;
mod bytes;
mod manifest;
mod seal;
mod segment;
mod template;
mod verify;

pub use archived::ArchivedLog;
pub use manifest::{MANIFEST_VERSION, Manifest, SegmentInfo};
pub use seal::{SEGMENT_EVENTS_DEFAULT, Sealing};
pub use segment::{BLOCK_EVENTS, SEGMENT_MAGIC, SEGMENT_VERSION};
pub use verify::ArchiveReport;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::segment::Index;
use crate::{Blobs, Commit, Position, StoreError};

/// Indexes of segments that are kept in memory.
const INDEXES_KEPT: usize = 64;
/// Unpacked blocks that are kept in memory.
const BLOCKS_KEPT: usize = 8;

/// An archive. Clones share what they have read.
#[derive(Clone)]
pub struct Archive {
    shared: Arc<Shared>,
    passed_over: Arc<BTreeSet<Position>>,
}

struct Shared {
    blobs: Arc<dyn Blobs>,
    read: Mutex<Read>,
}

type Block = Arc<Vec<Commit>>;

/// What has been read.
#[derive(Default)]
struct Read {
    manifest: Option<Arc<Manifest>>,
    indexes: VecDeque<(String, Arc<Index>)>,
    blocks: VecDeque<(String, usize, Block)>,
}

impl Archive {
    /// The archive in a place of blobs; an empty place is an empty archive.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { shared: Arc::new(Shared { blobs, read: Mutex::default() }), passed_over: Arc::default() }
    }

    /// Seals these events, which replays pass over, also if their checksums are wrong: they keep the bytes and the checksum
    /// that they have.
    #[must_use]
    pub fn passing_over(mut self, quarantined: impl IntoIterator<Item = Position>) -> Self {
        self.passed_over = Arc::new(quarantined.into_iter().collect());
        self
    }

    /// Where it is.
    #[must_use]
    pub fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.shared.blobs
    }

    /// What it holds now; none if nothing was archived.
    ///
    /// # Errors
    /// `corrupt` for a manifest that cannot be, `schema_ahead` for a newer one; `unavailable`.
    pub fn manifest(&self) -> Result<Option<Arc<Manifest>>, StoreError> {
        let newest = Manifest::newest(&*self.shared.blobs)?.map(Arc::new);
        self.read_so_far().manifest.clone_from(&newest);
        Ok(newest)
    }

    /// The manifest that lists a position, if one does: what is known, or else the newest.
    fn manifest_with(&self, position: Position) -> Result<Option<Arc<Manifest>>, StoreError> {
        let known = self.read_so_far().manifest.clone();
        match known {
            Some(known) if known.segment(position).is_some() => Ok(Some(known)),
            _ => Ok(self.manifest()?.filter(|newest| newest.segment(position).is_some())),
        }
    }

    /// The commit that holds a position, with the index of its event; none if the archive does not have it.
    ///
    /// # Errors
    /// `corrupt`, naming the segment and the positions lost, for one that is missing or damaged; `unavailable`.
    pub fn event(&self, position: Position) -> Result<Option<(Commit, usize)>, StoreError> {
        let Some(block) = self.block_of(position)? else { return Ok(None) };
        let at = block.partition_point(|commit| commit.last() < position);
        let commit = block.get(at).filter(|commit| commit.first() <= position);
        // A block that was read is dense from the first to the last position of the index.
        Ok(commit.map(|commit| (commit.clone(), (position.0 - commit.first().0) as usize)))
    }

    /// Whole commits from the one that holds the position after `after`, none that begins at or after `until`, and none
    /// further once `limit` events are reached. They end where the archive ends.
    ///
    /// # Errors
    /// As [`Archive::event`]. What was read before a damaged segment is answered first.
    pub fn read(&self, after: Position, until: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let mut commits: Vec<Commit> = Vec::new();
        let mut events = 0;
        let mut next = after.next();
        while next < until && (commits.is_empty() || events < limit) {
            let block = match self.block_of(next) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                // The next call begins there, and says so.
                Err(_) if !commits.is_empty() => break,
                Err(error) => return Err(error),
            };
            let from = block.partition_point(|commit| commit.last() < next);
            for commit in block[from..].iter().take_while(|commit| commit.first() < until) {
                if !commits.is_empty() && events >= limit {
                    break;
                }
                events += commit.events.len();
                next = commit.last().next();
                commits.push(commit.clone());
            }
        }
        Ok(commits)
    }

    fn block_of(&self, position: Position) -> Result<Option<Block>, StoreError> {
        let Some(manifest) = self.manifest_with(position)? else { return Ok(None) };
        let Some(info) = manifest.segment(position) else { return Ok(None) };
        let index = self.index(info)?;
        let at = index.block_of(position);
        let known = {
            let read = self.read_so_far();
            read.blocks.iter().find(|(name, block, _)| *name == info.name && *block == at).map(|known| known.2.clone())
        };
        if known.is_some() {
            return Ok(known);
        }
        let block = Arc::new(index.block(&*self.shared.blobs, info, at)?);
        let mut read = self.read_so_far();
        if read.blocks.len() >= BLOCKS_KEPT {
            read.blocks.pop_front();
        }
        read.blocks.push_back((info.name.clone(), at, Arc::clone(&block)));
        Ok(Some(block))
    }

    fn index(&self, info: &SegmentInfo) -> Result<Arc<Index>, StoreError> {
        let known = self.read_so_far().indexes.iter().find(|(name, _)| *name == info.name).map(|known| known.1.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let index = Arc::new(Index::open(&*self.shared.blobs, info)?);
        let mut read = self.read_so_far();
        if read.indexes.len() >= INDEXES_KEPT {
            read.indexes.pop_front();
        }
        read.indexes.push_back((info.name.clone(), Arc::clone(&index)));
        Ok(index)
    }

    fn read_so_far(&self) -> MutexGuard<'_, Read> {
        // Whatever is in there is whole.
        self.shared.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
