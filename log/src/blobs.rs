use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use crate::StoreError;

/// A blob as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name: one or more parts of `[A-Za-z0-9._-]`, joined by `/`.
    pub name: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A place for large immutable things (snapshots, segments of an archive), whatever keeps them: a directory, an object
/// store, a server. What every place promises:
///
/// - `put` makes a blob that is whole or absent, whatever happens while it is being written, and durable when it returns.
/// - `put` does not replace a blob that is there: it answers false and changes nothing. Of two writers of one name, one wins.
/// - `list` answers names in ascending order of their bytes, those that begin with `prefix`.
/// - A blob that is not there is none, never an empty one; a place that cannot be asked is `unavailable`.
pub trait Blobs: Send + Sync {
    /// Where it is, without secrets, for messages.
    fn place(&self) -> String;

    /// The blobs whose names begin with `prefix`.
    ///
    /// # Errors
    /// `unavailable`.
    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, StoreError>;

    /// Writes a blob, read from `content` piece by piece; false if there is one of this name.
    ///
    /// # Errors
    /// `unavailable`, also for an error of `content`; then there is no such blob.
    fn put(&self, name: &str, content: &mut dyn Read) -> Result<bool, StoreError>;

    /// Bytes of a blob; fewer than asked for if it ends before. None if it is not there.
    ///
    /// # Errors
    /// `unavailable`.
    fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes a blob; one that is not there is removed already.
    ///
    /// # Errors
    /// `unavailable`.
    fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// So many bytes of a blob are read at once by [`BlobReader`].
const READ_BYTES: u64 = 1 << 20;

/// Reads a blob from its beginning to its end.
pub struct BlobReader<'b> {
    blobs: &'b dyn Blobs,
    name: String,
    next: u64,
    page: Cursor<Vec<u8>>,
    ended: bool,
}

impl<'b> BlobReader<'b> {
    /// Begins at the first byte.
    pub fn new(blobs: &'b dyn Blobs, name: impl Into<String>) -> Self {
        Self { blobs, name: name.into(), next: 0, page: Cursor::default(), ended: false }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.page.read(into)?;
            if read > 0 || self.ended || into.is_empty() {
                return Ok(read);
            }
            let range = self.next..self.next + READ_BYTES;
            let page = self.blobs.get(&self.name, range).map_err(std::io::Error::other)?;
            let page = page.ok_or_else(|| {
                std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    format!("{} has no {}", self.blobs.place(), self.name),
                )
            })?;
            self.ended = (page.len() as u64) < READ_BYTES;
            self.next += page.len() as u64;
            self.page = Cursor::new(page);
        }
    }
}

/// Blobs in this process's memory.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<BTreeMap<String, Vec<u8>>>);

impl Blobs for MemoryBlobs {
    fn place(&self) -> String {
        "memory:".into()
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, StoreError> {
        let blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = blobs.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(named.map(|(name, bytes)| BlobInfo { name: name.clone(), bytes: bytes.len() as u64 }).collect())
    }

    fn put(&self, name: &str, content: &mut dyn Read) -> Result<bool, StoreError> {
        let mut bytes = Vec::new();
        let read = content.read_to_end(&mut bytes);
        read.map_err(|error| StoreError::unavailable_because(format!("reading what is to become {name}"), error))?;
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !blobs.contains_key(name);
        if free {
            blobs.insert(name.into(), bytes);
        }
        Ok(free)
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        let blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = |bytes: &Vec<u8>| {
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
            bytes[at(range.start)..at(range.end.max(range.start))].to_vec()
        };
        Ok(blobs.get(name).map(cut))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_blob_is_read_to_its_end_and_never_replaced() {
        let blobs = MemoryBlobs::default();
        let bytes: Vec<u8> = (0..3 * READ_BYTES / 2).map(|at| at as u8).collect();
        assert!(blobs.put("a/b", &mut &bytes[..]).unwrap());
        assert!(!blobs.put("a/b", &mut &b"other"[..]).unwrap());
        let mut read = Vec::new();
        BlobReader::new(&blobs, "a/b").read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(blobs.get("a/b", bytes.len() as u64 - 1..u64::MAX).unwrap().unwrap().len(), 1);
        assert!(BlobReader::new(&blobs, "a/c").read_to_end(&mut read).is_err());
    }
}
