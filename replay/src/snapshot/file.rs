use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use tasklog_log::{BlobReader, Blobs, Millis, Position, StoreError};
use tasklog_projections::PROJECTED;

use super::{
    SnapshotInfo,
    format::{
        BLOCK_BYTES_MAX, BlockEntry, Body, DIGEST_BYTES, DIRECTORY_BYTES_MAX, Directory, Entry, FORMAT_VERSION,
        HEAD_BYTES, MAGIC, TRAILER_BYTES, decode_entry, dies_at,
    },
};

/// So many bytes are hashed at once.
const HASH_BYTES: usize = 256 << 10;
/// Blocks kept decompressed for lookups.
const BLOCKS_KEPT_MAX: usize = 32;

/// A snapshot whose digest was found right.
pub(super) struct File {
    pub(super) info: SnapshotInfo,
    pub(super) digest: [u8; 32],
    pub(super) directory: Directory,
    /// By their place, the latest used last.
    blocks: Mutex<Vec<(u64, Arc<Vec<u8>>)>>,
}

/// One entry on its own.
pub(super) struct Kept {
    /// The place of its table among [`PROJECTED`].
    pub(super) table: usize,
    pub(super) key: Box<str>,
    pub(super) rev: Position,
    /// Of a tombstone.
    pub(super) deleted_at: Option<Millis>,
    /// Of a row that dies by time.
    pub(super) dies_at: Option<Millis>,
    /// As it stands in its block.
    pub(super) bytes: Box<[u8]>,
}

impl Kept {
    pub(super) fn place(&self) -> (usize, &str) {
        (self.table, &self.key)
    }
}

impl File {
    /// Reads all of a snapshot once. The inner error says why it cannot be used.
    pub(super) fn open(blobs: &dyn Blobs, info: &SnapshotInfo) -> Result<Result<Self, String>, StoreError> {
        if info.bytes < HEAD_BYTES + TRAILER_BYTES {
            return Ok(Err(format!("it has {} bytes only", info.bytes)));
        }
        let gone = || Ok(Err("it is gone".to_owned()));
        let Some(head) = blobs.get(&info.name, 0..HEAD_BYTES)? else { return gone() };
        if let Err(why) = check_head(&head) {
            return Ok(Err(why));
        }
        let (digest, end) = match hash(blobs, info) {
            Ok(found) => found,
            Err(error) => return passed(error),
        };
        if end != digest || !hex::encode(digest).starts_with(&info.digest) {
            let (expected, found) = (hex::encode(end), hex::encode(digest));
            return Ok(Err(format!("its digest does not match: expected {expected}, found {found}")));
        }
        let trailer = info.bytes - TRAILER_BYTES;
        let Some(lengths) = blobs.get(&info.name, trailer..info.bytes - DIGEST_BYTES)? else { return gone() };
        let Some(place) = place_of_directory(&lengths) else {
            return Ok(Err("its trailer is cut off".into()));
        };
        let Some(bytes) = blobs.get(&info.name, place.0..place.0.saturating_add(place.1.into()))? else {
            return gone();
        };
        let directory = decompress(&bytes, place.2, DIRECTORY_BYTES_MAX).and_then(|raw| Directory::decode(&raw));
        let blocks = Mutex::new(Vec::new());
        Ok(directory.and_then(|directory| {
            if directory.checkpoint().position != info.position {
                return Err(format!("its name says {}, it says {}", info.position, directory.checkpoint().position));
            }
            Ok(Self { info: info.clone(), digest, directory, blocks })
        }))
    }

    /// The entry of a row or a tombstone, by reading the one block that may have it.
    pub(super) fn look_up<T>(
        &self,
        blobs: &dyn Blobs,
        table: usize,
        key: &str,
        meet: impl FnOnce(&Entry<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let blocks = &self.directory.tables[table].blocks;
        let Some(at) = blocks.partition_point(|block| block.0.as_str() <= key).checked_sub(1) else {
            return Ok(None);
        };
        let block = self.block(blobs, &blocks[at])?;
        let mut left = &block[..];
        while !left.is_empty() {
            let entry = decode_entry(&mut left).map_err(|why| self.damaged(&why))?;
            match entry.key.cmp(key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return meet(&entry).map(Some),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
        Ok(None)
    }

    fn block(&self, blobs: &dyn Blobs, entry: &BlockEntry) -> Result<Arc<Vec<u8>>, StoreError> {
        let BlockEntry(_, place, bytes, raw, _) = entry;
        let mut kept = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(at, _)| at == place) {
            let block = kept.remove(at);
            kept.push(block.clone());
            return Ok(block.1);
        }
        drop(kept);
        let stored = blobs.get(&self.info.name, *place..place + u64::from(*bytes))?;
        let stored = stored.ok_or_else(|| self.gone(blobs))?;
        let block = Arc::new(decompress(&stored, *raw, BLOCK_BYTES_MAX).map_err(|why| self.damaged(&why))?);
        let mut kept = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= BLOCKS_KEPT_MAX {
            kept.remove(0);
        }
        kept.push((*place, block.clone()));
        Ok(block)
    }

    /// All entries of the tables that are wanted, in order.
    pub(super) fn entries<'f>(&'f self, blobs: &'f dyn Blobs, wanted: impl Fn(usize) -> bool + 'f) -> Entries<'f> {
        let tables = self.directory.tables.iter().enumerate();
        let blocks = tables.flat_map(|(table, entry)| entry.blocks.iter().map(move |block| (table, block)));
        Entries {
            file: self,
            blobs,
            bytes: BlobReader::new(blobs, &self.info.name),
            at: 0,
            blocks: Box::new(blocks.filter(move |(table, _)| wanted(*table))),
            block: Vec::new().into_iter(),
        }
    }

    pub(super) fn damaged(&self, why: &str) -> StoreError {
        StoreError::corrupt_store(format!("{}: {why}", self.info.name))
    }

    fn gone(&self, blobs: &dyn Blobs) -> StoreError {
        StoreError::unavailable(format!("{} no longer has {}", blobs.place(), self.info.name))
    }
}

/// Walks all entries, block after block.
pub(super) struct Entries<'f> {
    file: &'f File,
    blobs: &'f dyn Blobs,
    bytes: BlobReader<'f>,
    at: u64,
    blocks: Box<dyn Iterator<Item = (usize, &'f BlockEntry)> + 'f>,
    block: std::vec::IntoIter<Kept>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Kept, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(kept) = self.block.next() {
                return Some(Ok(kept));
            }
            match self.next_block()?.and_then(|(table, block)| self.kept(table, &block)) {
                Ok(kept) => self.block = kept.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Entries<'_> {
    /// The next block, decompressed, and its table: for whoever takes entries out of it at once.
    pub(super) fn next_block(&mut self) -> Option<Result<(usize, Vec<u8>), StoreError>> {
        let (table, block) = self.blocks.next()?;
        Some(self.read(block).map(|block| (table, block)))
    }

    fn read(&mut self, entry: &BlockEntry) -> Result<Vec<u8>, StoreError> {
        let BlockEntry(_, place, bytes, raw, _) = entry;
        let skipped = place.checked_sub(self.at).ok_or_else(|| self.file.damaged("its blocks are out of order"))?;
        let mut stored = vec![0; *bytes as usize];
        io::copy(&mut (&mut self.bytes).take(skipped), &mut io::sink())
            .and_then(|_| self.bytes.read_exact(&mut stored))
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.file.gone(self.blobs),
                io::ErrorKind::UnexpectedEof => self.file.damaged("it ends within a block"),
                _ => of_io(error),
            })?;
        self.at = place + u64::from(*bytes);
        decompress(&stored, *raw, BLOCK_BYTES_MAX).map_err(|why| self.file.damaged(&why))
    }

    fn kept(&self, table: usize, block: &[u8]) -> Result<Vec<Kept>, StoreError> {
        let mut left = block;
        let mut entries = Vec::new();
        while !left.is_empty() {
            let entry = decode_entry(&mut left).map_err(|why| self.file.damaged(&why))?;
            let Entry { key, rev, body, bytes } = entry;
            let (deleted_at, dies_at) = match &body {
                Body::Row(cells) => (None, dies_at(PROJECTED[table], cells)),
                Body::Tombstone(deleted_at) => (Some(*deleted_at), None),
            };
            entries.push(Kept { table, key: key.into(), rev, deleted_at, dies_at, bytes: bytes.into() });
        }
        Ok(entries)
    }
}

fn check_head(head: &[u8]) -> Result<(), String> {
    let (magic, version) = head.split_at_checked(MAGIC.len()).ok_or("it is cut off")?;
    if magic != MAGIC {
        return Err("it is no snapshot".into());
    }
    match version.try_into().map(u16::from_be_bytes) {
        Ok(FORMAT_VERSION) => Ok(()),
        Ok(other) => Err(format!("its format is {other}, this program reads {FORMAT_VERSION}")),
        Err(_) => Err("it is cut off".into()),
    }
}

/// The digest of all bytes but the last ones, and the last ones, which are to be it.
fn hash(blobs: &dyn Blobs, info: &SnapshotInfo) -> Result<([u8; 32], [u8; 32]), io::Error> {
    let mut bytes = BlobReader::new(blobs, &info.name);
    let mut hash = Sha256::new();
    let mut left = info.bytes - DIGEST_BYTES;
    let mut piece = vec![0; HASH_BYTES];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(HASH_BYTES).min(HASH_BYTES);
        bytes.read_exact(&mut piece[..length])?;
        hash.update(&piece[..length]);
        left -= length as u64;
    }
    let mut end = [0; 32];
    bytes.read_exact(&mut end)?;
    Ok((hash.finalize().into(), end))
}

/// Place, compressed and decompressed length.
fn place_of_directory(lengths: &[u8]) -> Option<(u64, u32, u32)> {
    let (place, lengths) = lengths.split_first_chunk::<8>()?;
    let (compressed, raw) = lengths.split_first_chunk::<4>()?;
    let raw = raw.try_into().ok()?;
    Some((u64::from_be_bytes(*place), u32::from_be_bytes(*compressed), u32::from_be_bytes(raw)))
}

fn decompress(bytes: &[u8], raw: u32, max: usize) -> Result<Vec<u8>, String> {
    let raw = raw as usize;
    if raw > max {
        return Err(format!("a part of it is to have {raw} bytes, at most {max} are possible"));
    }
    let decompressed = zstd::bulk::decompress(bytes, raw).map_err(|error| format!("a part of it: {error}"))?;
    if decompressed.len() != raw {
        return Err(format!("a part of it has {} bytes, expected {raw}", decompressed.len()));
    }
    Ok(decompressed)
}

/// An error of reading that means that the snapshot is not whole, as its reason; any other as it is.
fn passed<T>(error: io::Error) -> Result<Result<T, String>, StoreError> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(Err("it is gone".into())),
        io::ErrorKind::UnexpectedEof => Ok(Err("it is cut off".into())),
        _ => Err(of_io(error)),
    }
}

fn of_io(error: io::Error) -> StoreError {
    match error.downcast::<StoreError>() {
        Ok(error) => error,
        Err(error) => StoreError::unavailable_because("reading a snapshot", error),
    }
}
