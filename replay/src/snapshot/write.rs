use std::io::{self, Read, Seek, Write};

use sha2::{Digest, Sha256};
use tasklog_log::{Millis, Position, StoreError};
use tasklog_projections::Cell;
use zstd::bulk::Compressor;

use super::format::{
    BLOCK_BYTES, BLOCK_BYTES_MAX, BlockEntry, Directory, FORMAT_VERSION, HEAD_BYTES, MAGIC, encode_row,
    encode_tombstone,
};

/// The level of zstd: a higher one is slower and makes rows hardly smaller.
const ZSTD_LEVEL: i32 = 3;

/// Where a snapshot waits until it is complete and its name is known: memory, or a temporary file.
pub trait Spool: Read + Write + Seek + Send {}

impl<S: Read + Write + Seek + Send> Spool for S {}

/// Writes a snapshot from its first byte to its last.
pub(super) struct Writer<'s> {
    spool: &'s mut dyn Spool,
    hash: Sha256,
    written: u64,
    directory: Directory,
    zstd: Compressor<'static>,
    /// The block being filled, the table it belongs to, its first key and how many entries it has.
    block: Vec<u8>,
    table: usize,
    first: String,
    entries: u32,
}

/// A complete snapshot.
pub(super) struct Written {
    pub(super) digest: [u8; 32],
    pub(super) bytes: u64,
}

impl<'s> Writer<'s> {
    pub(super) fn new(spool: &'s mut dyn Spool, directory: Directory) -> Result<Self, StoreError> {
        let mut zstd = Compressor::new(ZSTD_LEVEL).map_err(failed)?;
        zstd.include_checksum(true).map_err(failed)?;
        let mut writer = Self {
            spool,
            hash: Sha256::new(),
            written: 0,
            directory,
            zstd,
            block: Vec::with_capacity(2 * BLOCK_BYTES),
            table: 0,
            first: String::new(),
            entries: 0,
        };
        let mut head = [0; HEAD_BYTES as usize];
        head[..MAGIC.len()].copy_from_slice(&MAGIC);
        head[MAGIC.len()..].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        writer.put(&head)?;
        Ok(writer)
    }

    /// Adds a row; entries come in ascending order of table and key.
    pub(super) fn row(&mut self, table: usize, key: &str, rev: Position, cells: &[Cell<'_>]) -> Result<(), StoreError> {
        self.begin(table, key)?;
        encode_row(&mut self.block, key, rev, cells);
        self.directory.tables[table].rows += 1;
        Ok(())
    }

    /// Adds a tombstone.
    pub(super) fn tombstone(
        &mut self,
        table: usize,
        key: &str,
        rev: Position,
        deleted_at: Millis,
    ) -> Result<(), StoreError> {
        self.begin(table, key)?;
        encode_tombstone(&mut self.block, key, rev, deleted_at);
        self.directory.tables[table].tombstones += 1;
        Ok(())
    }

    /// Adds an entry of another snapshot as it is.
    pub(super) fn copy(&mut self, table: usize, key: &str, is_row: bool, bytes: &[u8]) -> Result<(), StoreError> {
        self.begin(table, key)?;
        self.block.extend_from_slice(bytes);
        let entry = &mut self.directory.tables[table];
        *(if is_row { &mut entry.rows } else { &mut entry.tombstones }) += 1;
        Ok(())
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> Result<Written, StoreError> {
        self.flush()?;
        let directory = self.directory.encode();
        let compressed = self.zstd.compress(&directory).map_err(failed)?;
        let place = self.written;
        self.put(&compressed)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| too_large("its directory", bytes.len()));
        let mut trailer = place.to_be_bytes().to_vec();
        trailer.extend_from_slice(&length(&compressed)?.to_be_bytes());
        trailer.extend_from_slice(&length(&directory)?.to_be_bytes());
        self.put(&trailer)?;
        let digest: [u8; 32] = self.hash.finalize_reset().into();
        self.spool.write_all(&digest).and_then(|()| self.spool.flush()).map_err(failed)?;
        Ok(Written { digest, bytes: self.written + digest.len() as u64 })
    }

    fn begin(&mut self, table: usize, key: &str) -> Result<(), StoreError> {
        if table != self.table || self.block.len() >= BLOCK_BYTES {
            self.flush()?;
            self.table = table;
        }
        if self.entries == 0 {
            key.clone_into(&mut self.first);
        }
        self.entries += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.entries == 0 {
            return Ok(());
        }
        let raw = self.block.len();
        if raw > BLOCK_BYTES_MAX {
            return Err(too_large("a block of it", raw));
        }
        let compressed = self.zstd.compress(&self.block).map_err(failed)?;
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| too_large("a block of it", bytes));
        let first = std::mem::take(&mut self.first);
        let entry = BlockEntry(first, self.written, length(compressed.len())?, length(raw)?, self.entries);
        self.put(&compressed)?;
        self.directory.tables[self.table].blocks.push(entry);
        self.block.clear();
        self.entries = 0;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.spool.write_all(bytes).map_err(failed)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::unavailable_because("writing a snapshot", error)
}

fn too_large(what: &str, bytes: usize) -> StoreError {
    StoreError::unavailable(format!("writing a snapshot: {what} would have {bytes} bytes"))
}
