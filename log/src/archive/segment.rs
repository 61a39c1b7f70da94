//! A segment: whole commits in blocks, an index of these, and digests over both. `docs/formats.md` shows its bytes.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    block::{self, BlockError},
    bytes::{Malformed, Packer},
    manifest::SegmentInfo,
};
use crate::{Blobs, Commit, LogInfo, Millis, Position, StoreError};

/// The first bytes of a segment. The first is no text, and a line end that was translated is noticed.
pub const SEGMENT_MAGIC: [u8; 8] = *b"\x89TLSEG\r\n";
/// The newest format of segments: one with checksums that are stored, because they are not those of their events.
pub const SEGMENT_VERSION: u16 = 2;
/// The format of segments whose events all have right checksums.
const SEGMENT_VERSION_RIGHT: u16 = 1;
/// A block takes no further commit when it has this many events.
pub const BLOCK_EVENTS: usize = 512;
/// A block takes no further commit when it has this many bytes of payloads and keys.
const BLOCK_BYTES: usize = 4 << 20;
/// The bytes of a header.
pub(super) const HEADER_BYTES: usize = 86;
/// The bytes of one block's entry in an index.
const ENTRY_BYTES: usize = 60;
/// The bytes of a digest.
pub(super) const DIGEST_BYTES: usize = 32;
/// What the names of segments begin with.
pub(super) const SEGMENTS: &str = "segments/";

/// A block, as its segment's index lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockEntry {
    /// The position of its first event.
    pub(super) first: Position,
    /// ms: the instant of its first commit.
    pub(super) recorded_from: Millis,
    /// Where it begins in the segment.
    pub(super) offset: u64,
    /// How many bytes it has.
    pub(super) bytes: u32,
    sha256: [u8; DIGEST_BYTES],
}

/// A segment's header and index.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) log: LogInfo,
    last: Position,
    pub(super) blocks: Vec<BlockEntry>,
}

/// A segment that is ready to be put.
pub(super) struct Sealed {
    pub(super) bytes: Vec<u8>,
    pub(super) info: SegmentInfo,
}

/// The name of the segment of these positions.
pub(super) fn name(first: Position, last: Position) -> String {
    format!("{SEGMENTS}{:020}-{:020}.tlseg", first.0, last.0)
}

/// Makes a segment of dense commits, of which there is at least one.
pub(super) fn seal(log: LogInfo, commits: &[Commit]) -> Result<Sealed, StoreError> {
    let (Some(head), Some(tail)) = (commits.first(), commits.last()) else {
        return Err(StoreError::corrupt_store("a segment without a commit"));
    };
    let (first, last) = (head.first(), tail.last());
    let failed = |error: BlockError| match error {
        BlockError::Malformed(why) => StoreError::corrupt(first, format!("sealing events {first} to {last}: {why}")),
        BlockError::Zstd(cause) => StoreError::unavailable_because(format!("sealing events {first} to {last}"), cause),
    };
    let mut packer = Packer::new().map_err(|error| failed(error.into()))?;
    let mut bytes = vec![0; HEADER_BYTES];
    let mut blocks = Vec::new();
    let mut version = SEGMENT_VERSION_RIGHT;
    for block in blocks_of(commits) {
        if block::any_damaged(block) {
            version = SEGMENT_VERSION;
        }
        let encoded = block::encode(&mut packer, block).map_err(failed)?;
        // What cannot be read back must never take the place of what can.
        if block::decode(&encoded).map_err(failed)? != block {
            return Err(failed(Malformed("a block does not read back as it was").into()));
        }
        let length =
            u32::try_from(encoded.len()).map_err(|_| StoreError::corrupt(first, "a block of more than 4 GiB"))?;
        blocks.push(BlockEntry {
            first: block.first().map_or(Position::ZERO, Commit::first),
            recorded_from: block.first().map_or(0, |commit| commit.recorded_at),
            offset: bytes.len() as u64,
            bytes: length,
            sha256: Sha256::digest(&encoded).into(),
        });
        bytes.extend_from_slice(&encoded);
    }
    let index_at = bytes.len();
    for block in &blocks {
        bytes.extend_from_slice(&block.first.0.to_be_bytes());
        bytes.extend_from_slice(&block.recorded_from.to_be_bytes());
        bytes.extend_from_slice(&block.offset.to_be_bytes());
        bytes.extend_from_slice(&block.bytes.to_be_bytes());
        bytes.extend_from_slice(&block.sha256);
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&SEGMENT_MAGIC);
    header.extend_from_slice(&version.to_be_bytes());
    header.extend_from_slice(log.id.as_bytes());
    let numbers = [
        log.epoch,
        first.0,
        last.0,
        head.recorded_at.cast_unsigned(),
        tail.recorded_at.cast_unsigned(),
        commits.len() as u64,
        index_at as u64,
    ];
    for number in numbers {
        header.extend_from_slice(&number.to_be_bytes());
    }
    header.extend_from_slice(&(blocks.len() as u32).to_be_bytes());
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    let index_sha256 = index_digest(&bytes[..HEADER_BYTES], &bytes[index_at..]);
    bytes.extend_from_slice(&index_sha256);
    let sha256: [u8; DIGEST_BYTES] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&sha256);
    let info = SegmentInfo {
        name: name(first, last),
        first,
        last,
        commits: commits.len() as u64,
        last_commit: tail.meta.id,
        recorded_from: head.recorded_at,
        recorded_to: tail.recorded_at,
        bytes: bytes.len() as u64,
        sha256: hex::encode(sha256),
        index_sha256: hex::encode(index_sha256),
    };
    Ok(Sealed { bytes, info })
}

/// Cuts commits into blocks.
fn blocks_of(commits: &[Commit]) -> impl Iterator<Item = &[Commit]> {
    let mut rest = commits;
    std::iter::from_fn(move || {
        let (mut events, mut bytes) = (0, 0);
        let whole = rest.iter().position(|commit| {
            let full = events >= BLOCK_EVENTS || bytes >= BLOCK_BYTES;
            events += commit.events.len();
            bytes += bytes_of(commit);
            full
        });
        let (block, others) = rest.split_at(whole.unwrap_or(rest.len()));
        rest = others;
        (!block.is_empty()).then_some(block)
    })
}

/// About how many bytes a commit is.
pub(super) fn bytes_of(commit: &Commit) -> usize {
    commit.events.iter().map(|event| event.payload.len() + event.key.len()).sum()
}

fn index_digest(header: &[u8], index: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(header).chain_update(index).finalize().into()
}

impl Index {
    /// Reads a segment's header and index, which must be the ones that the manifest means.
    pub(super) fn open(blobs: &dyn Blobs, info: &SegmentInfo) -> Result<Self, StoreError> {
        let lost = |why: String| lost(blobs, info, info.first, info.last, &why);
        let header = read(blobs, info, 0, HEADER_BYTES as u64)?;
        let tail_at = |at: u64| info.bytes.checked_sub(DIGEST_BYTES as u64 * 2).filter(|end| at <= *end);
        let mut from = Fields(&header);
        if from.array() != Some(SEGMENT_MAGIC) {
            return Err(lost("its first bytes are not those of a segment".into()));
        }
        let version = from.array().map(u16::from_be_bytes).unwrap_or_default();
        if version > SEGMENT_VERSION {
            let what = format!("archive segment {}", info.name);
            return Err(StoreError::SchemaAhead { what, found: version.into(), known: SEGMENT_VERSION.into() });
        }
        let mut fields = || {
            let id = Uuid::from_bytes(from.array()?);
            let epoch = from.number()?;
            let (first, last) = (Position(from.number()?), Position(from.number()?));
            let _instants = (from.number()?, from.number()?);
            let commits = from.number()?;
            let index_at = from.number()?;
            let blocks = from.array().map(u32::from_be_bytes)?;
            Some((LogInfo { id, epoch }, first, last, commits, index_at, blocks))
        };
        let (log, first, last, commits, index_at, count) =
            fields().ok_or_else(|| lost("its header is too short".into()))?;
        let end = tail_at(index_at).ok_or_else(|| lost("its index is beyond its end".into()))?;
        let index = read(blobs, info, index_at, end)?;
        if hex::encode(index_digest(&header, &index)) != info.index_sha256 {
            return Err(lost("its header and index do not have the digest of the manifest".into()));
        }
        let as_listed = first == info.first && last == info.last && commits == info.commits;
        if !as_listed || index.len() as u64 != u64::from(count) * ENTRY_BYTES as u64 || count == 0 {
            return Err(lost("its header is not that of the manifest's segment".into()));
        }
        let entry = |bytes: &[u8]| {
            let mut from = Fields(bytes);
            Some(BlockEntry {
                first: Position(from.number()?),
                recorded_from: from.number()?.cast_signed(),
                offset: from.number()?,
                bytes: from.array().map(u32::from_be_bytes)?,
                sha256: from.array()?,
            })
        };
        let blocks = index.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<Vec<_>>>();
        let blocks = blocks.ok_or_else(|| lost("its index is too short".into()))?;
        Ok(Self { log, last, blocks })
    }

    /// Which block holds a position that the segment has.
    pub(super) fn block_of(&self, position: Position) -> usize {
        self.blocks.partition_point(|block| block.first <= position).saturating_sub(1)
    }

    /// The last position of a block.
    fn last_of(&self, block: usize) -> Position {
        self.blocks.get(block + 1).map_or(self.last, |next| next.first.before())
    }

    /// The commits of a block.
    pub(super) fn block(&self, blobs: &dyn Blobs, info: &SegmentInfo, at: usize) -> Result<Vec<Commit>, StoreError> {
        let entry = &self.blocks[at];
        let (first, last) = (entry.first, self.last_of(at));
        let lost = |why: &str| lost(blobs, info, first, last, why);
        let end = entry.offset.saturating_add(entry.bytes.into());
        let bytes = read_part(blobs, info, entry.offset, end, first, last)?;
        if <[u8; DIGEST_BYTES]>::from(Sha256::digest(&bytes)) != entry.sha256 {
            return Err(lost(&format!("block {} does not have the digest of the index", at + 1)));
        }
        let commits = block::decode(&bytes).map_err(|error| lost(&format!("block {}: {error}", at + 1)))?;
        let ends = (commits.first().map(Commit::first), commits.last().map(Commit::last));
        if ends != (Some(first), Some(last)) {
            return Err(lost(&format!("block {} holds other events", at + 1)));
        }
        Ok(commits)
    }
}

/// Big-endian fields off the front of a slice.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

fn read(blobs: &dyn Blobs, info: &SegmentInfo, from: u64, to: u64) -> Result<Vec<u8>, StoreError> {
    read_part(blobs, info, from, to, info.first, info.last)
}

/// Bytes of a segment that must be there. `first` and `last` are the positions that are lost if they are not.
fn read_part(
    blobs: &dyn Blobs,
    info: &SegmentInfo,
    from: u64,
    to: u64,
    first: Position,
    last: Position,
) -> Result<Vec<u8>, StoreError> {
    let read = blobs.get(&info.name, from..to).map_err(|error| match error {
        StoreError::Unavailable { .. } => {
            let doing = format!(
                "reading segment {} at {}, which holds events {} to {}",
                info.name,
                blobs.place(),
                info.first,
                info.last
            );
            StoreError::unavailable_because(doing, error)
        }
        other => other,
    })?;
    let Some(bytes) = read else { return Err(lost(blobs, info, info.first, info.last, "it is missing")) };
    if bytes.len() as u64 == to - from {
        return Ok(bytes);
    }
    let why = format!("it ends at byte {}, expected {} bytes", from + bytes.len() as u64, info.bytes);
    Err(lost(blobs, info, first, last, &why))
}

/// A segment that cannot be read, and the events that are lost with it.
pub(super) fn lost(blobs: &dyn Blobs, info: &SegmentInfo, first: Position, last: Position, why: &str) -> StoreError {
    let place = blobs.place();
    StoreError::corrupt_store(format!("segment {} at {place}: {why}: events {first} to {last} are lost", info.name))
}

/// A commit's id at the end of a segment, for comparisons.
pub(super) fn ends_with(info: &SegmentInfo, commit: &Commit) -> bool {
    commit.last() == info.last && commit.meta.id == info.last_commit && commit.recorded_at == info.recorded_to
}
