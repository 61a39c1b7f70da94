use super::{
    Frontier, Hash, KeptTree,
    kept::{CHUNK_LEAVES, chunks_through},
    leaf_hash,
};
use crate::{Checkpoint, Commit, Log, Position, StoreError, leaf, read_checked};

/// Events read at once.
pub(super) const PAGE_EVENTS: usize = 4_000;

/// What a round of catching up has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// Through which commit the tree is kept now; none if nothing is.
    pub at: Option<Checkpoint>,
    /// Hashes added.
    pub chunks: u64,
    /// Whether all complete chunks of the log, as it was at the beginning, are kept now.
    pub done: bool,
    /// Whether somebody else has changed what is kept meanwhile, so that nothing was added.
    pub overtaken: bool,
}

/// Keeps the hashes of chunks that the log has completed: at most about `events_max` events are read, in pages and each
/// checked, and what came of them is kept in one step, also when `stop` answers true between two pages. If the log is no
/// longer the one whose tree was kept (it was restored, or its end was lost), the tree is first cut back to where they
/// agree, with a warning.
///
/// # Errors
/// The log's and the place's; `corrupt`, naming the position, for an event that is missing or whose checksum is wrong.
pub fn catch_up(
    log: &dyn Log,
    kept: &dyn KeptTree,
    events_max: u64,
    stop: &dyn Fn() -> bool,
) -> Result<CaughtUp, StoreError> {
    let from = kept.at()?;
    let agreed = agreed(log, from.as_ref(), &mut |chunk| Ok(kept.hashes(chunk, 1)?.first().copied()))?;
    // A part chunk is not worth a write.
    let goal = Position(chunks_through(log.head()?.position) * CHUNK_LEAVES);
    let mut absorber = Absorber::after(agreed.chunks);
    let mut to = agreed.at;
    let events_end = absorber.position().0.saturating_add(events_max);
    while absorber.position() < goal && absorber.position().0 < events_end && !stop() {
        let page = read_checked(log, absorber.position(), PAGE_EVENTS)?;
        let Some(last) = page.last() else { break };
        for commit in &page {
            absorber.commit(commit, commit.last());
        }
        to = Some(Checkpoint {
            log: log.info()?,
            position: last.last(),
            commit: last.meta.id,
            recorded_at: last.recorded_at,
        });
    }
    let done = absorber.position() >= goal;
    let new = absorber.take();
    let added = CaughtUp { at: to, chunks: new.len() as u64, done, overtaken: false };
    match to {
        Some(to) if Some(to) != from && (!new.is_empty() || agreed.cut) => {
            if kept.advance(from.as_ref(), agreed.chunks, &new, &to)? {
                return Ok(added);
            }
            Ok(CaughtUp { at: from, chunks: 0, done: false, overtaken: true })
        }
        _ => Ok(CaughtUp { at: from, ..added }),
    }
}

/// How much of a kept tree is a log's.
pub(super) struct Agreed {
    /// So many chunks.
    pub(super) chunks: u64,
    /// The checkpoint that fits them.
    pub(super) at: Option<Checkpoint>,
    /// Whether something that is kept is not the log's.
    pub(super) cut: bool,
}

/// Finds out how much of what is kept through `at` is this log's. The end of the kept part is compared by commit id, which
/// is unique; only if that fails are chunks looked at, and halved: a log that has parted stays parted.
pub(super) fn agreed(
    log: &dyn Log,
    at: Option<&Checkpoint>,
    hash: &mut dyn FnMut(u64) -> Result<Option<Hash>, StoreError>,
) -> Result<Agreed, StoreError> {
    let nothing = Agreed { chunks: 0, at: None, cut: false };
    let Some(at) = at else { return Ok(nothing) };
    let head = log.head()?;
    let same_log = head.log.id == at.log.id;
    if same_log && at.position <= head.position && ends_with(log, at)? {
        return Ok(Agreed { chunks: chunks_through(at.position), at: Some(*at), cut: false });
    }
    let (mut low, mut high) = (0, 0);
    if same_log {
        high = chunks_through(at.position.min(head.position));
    }
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if hash(middle - 1)? == Some(chunk_hash(log, middle - 1)?) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let to = end_of_commit(log, head, Position(low * CHUNK_LEAVES))?;
    let chunks = chunks_through(to.position);
    tracing::warn!(
        kept = %at,
        log = %head,
        events = chunks * CHUNK_LEAVES,
        "the kept Merkle tree is not this log's: it counts as far as both agree"
    );
    Ok(Agreed { chunks, at: Some(to), cut: true })
}

/// Whether the log has the checkpoint's commit where the checkpoint says.
fn ends_with(log: &dyn Log, at: &Checkpoint) -> Result<bool, StoreError> {
    let Some((commit, _)) = log.event(at.position)? else { return Ok(at.position == Position::ZERO) };
    Ok(commit.meta.id == at.commit && commit.last() == at.position)
}

/// The last commit that ends at or before `position`, as a checkpoint.
fn end_of_commit(log: &dyn Log, head: Checkpoint, position: Position) -> Result<Checkpoint, StoreError> {
    let start = Checkpoint::start(head.log);
    let Some((mut commit, _)) = log.event(position)? else { return Ok(start) };
    if commit.last() > position {
        let Some((before, _)) = log.event(commit.first().before())? else { return Ok(start) };
        commit = before;
    }
    let (position, recorded_at) = (commit.last(), commit.recorded_at);
    Ok(Checkpoint { position, commit: commit.meta.id, recorded_at, ..start })
}

fn chunk_hash(log: &dyn Log, chunk: u64) -> Result<Hash, StoreError> {
    let mut absorber = Absorber::after(chunk);
    let end = Position((chunk + 1) * CHUNK_LEAVES);
    while absorber.position() < end {
        let page = read_checked(log, absorber.position(), CHUNK_LEAVES as usize)?;
        if page.is_empty() {
            break;
        }
        for commit in &page {
            absorber.commit(commit, end);
        }
    }
    let hash = absorber.take().first().copied();
    hash.ok_or_else(|| StoreError::corrupt(absorber.position().next(), "missing from the log"))
}

/// Turns the events after a chunk into hashes of chunks.
pub(super) struct Absorber {
    position: Position,
    current: Frontier,
    done: Vec<Hash>,
}

impl Absorber {
    pub(super) fn after(chunks: u64) -> Self {
        Self { position: Position(chunks * CHUNK_LEAVES), current: Frontier::new(), done: Vec::new() }
    }

    /// The last event that was taken.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Takes the events of a commit through `until`; those that were taken before are passed over.
    pub(super) fn commit(&mut self, commit: &Commit, until: Position) {
        let fresh = commit.events.iter().filter(|event| event.position > self.position && event.position <= until);
        let mut reached = self.position;
        for event in fresh {
            self.current.push(leaf_hash(&leaf(&commit.meta, commit.recorded_at, event)));
            reached = event.position;
            if self.current.leaves() == CHUNK_LEAVES {
                self.done.push(std::mem::take(&mut self.current).root());
            }
        }
        self.position = reached;
    }

    /// The chunks that were completed.
    pub(super) fn take(&mut self) -> Vec<Hash> {
        std::mem::take(&mut self.done)
    }
}
