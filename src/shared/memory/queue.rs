use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};
use tasklog_log::StoreError;

use crate::shared::{
    CdcChange, CdcFront, Pushed,
    cdc::{FRONT_BYTES_MAX, FRONT_CHANGES_MAX},
};

/// Kind (1 byte), length or count (8 bytes, little-endian), CRC32C of both and of what follows (4 bytes).
const HEADER_BYTES: usize = 13;
/// A change; its bytes follow.
const CHANGE: u8 = b'C';
/// So many changes at the front are gone; nothing follows.
const GONE: u8 = b'G';
/// A file is written anew when it has at least this many bytes that nobody needs, and more of them than needed ones.
const GARBAGE_BYTES_MAX: u64 = 1 << 20;

static OPENINGS: AtomicU64 = AtomicU64::new(1);

/// One sink's overflow buffer in a file that is only appended to, and written anew now and then.
///
/// Nothing is synced: a crash of the machine may cost the end, a crash of the process costs nothing. A torn record at
/// the end is cut off when the file is opened.
pub(super) struct FileQueue {
    path: PathBuf,
    file: File,
    /// Bytes in the file: where the next record goes.
    end: u64,
    /// Which opening of a file in this process this is: tokens of another one mean nothing here.
    opening: u64,
    /// The number of the first change; numbers count from the opening of the file.
    first: u64,
    /// Place and length of each change.
    places: VecDeque<(u64, u64)>,
    /// Bytes of the changes.
    bytes: u64,
}

fn failed(path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable_because(format!("overflow buffer {}", path.display()), error)
}

fn header(kind: u8, number: u64, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = kind;
    header[1..9].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..9]), body);
    header[9..].copy_from_slice(&sum.to_le_bytes());
    header
}

impl FileQueue {
    /// The buffer of a sink; its file is named by the hash of the sink's name, which may hold any character.
    pub(super) fn open(folder: &Path, sink: &str) -> Result<Self, StoreError> {
        let path = folder.join(format!("{}.cdc", hex::encode(Sha256::digest(sink))));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| failed(&path, e))?;
        let opening = OPENINGS.fetch_add(1, Ordering::Relaxed);
        let mut queue = Self { path, file, end: 0, opening, first: 0, places: VecDeque::new(), bytes: 0 };
        queue.read_all().map_err(|e| failed(&queue.path, e))?;
        Ok(queue)
    }

    /// Reads the file up to its end or its first torn record, and cuts off the rest.
    fn read_all(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut reader = BufReader::new(self.file.try_clone()?);
        let mut found = [0; HEADER_BYTES];
        let mut body = Vec::new();
        while length - self.end >= HEADER_BYTES as u64 {
            reader.read_exact(&mut found)?;
            let kind = found[0];
            let number = found[1..9].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            let after = self.end + HEADER_BYTES as u64;
            body.clear();
            if kind == CHANGE {
                if number > length - after {
                    break;
                }
                (&mut reader).take(number).read_to_end(&mut body)?;
            }
            if header(kind, number, &body) != found {
                break;
            }
            if kind == CHANGE {
                self.places.push_back((after, number));
                self.bytes += number;
                self.end = after + number;
            } else {
                self.forget(number);
                self.end = after;
            }
        }
        if self.end < length {
            tracing::warn!(path = %self.path.display(), cut = length - self.end, "a torn end of an overflow buffer is cut off");
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    fn token(&self, number: u64) -> String {
        format!("{}-{number}", self.opening)
    }

    fn forget(&mut self, count: u64) {
        for _ in 0..count {
            if let Some((_, length)) = self.places.pop_front() {
                self.bytes -= length;
                self.first += 1;
            }
        }
    }

    fn append(&mut self, kind: u8, number: u64, body: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(HEADER_BYTES + body.len());
        record.extend_from_slice(&header(kind, number, body));
        record.extend_from_slice(body);
        self.file.write_all_at(&record, self.end)?;
        self.end += record.len() as u64;
        Ok(())
    }

    fn remove(&mut self, count: u64) -> io::Result<()> {
        if count > 0 {
            self.append(GONE, count, &[])?;
            self.forget(count);
            let garbage = self.end - self.bytes;
            if garbage >= GARBAGE_BYTES_MAX && garbage > self.bytes {
                self.rewrite()?;
            }
        }
        Ok(())
    }

    /// Copies what is needed into a new file, which takes the place of the old one in one step.
    fn rewrite(&mut self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        let old = std::mem::replace(&mut self.file, file);
        self.end = 0;
        let mut body = Vec::new();
        for at in 0..self.places.len() {
            let (place, length) = self.places[at];
            body.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
            old.read_exact_at(&mut body, place)?;
            self.places[at].0 = self.end + HEADER_BYTES as u64;
            self.append(CHANGE, length, &body)?;
        }
        std::fs::rename(&fresh, &self.path)
    }

    pub(super) fn push(&mut self, change: &[u8], bytes_max: u64, drops_max: u64) -> Result<Pushed, StoreError> {
        let size = change.len() as u64;
        if size > bytes_max {
            return Ok(Pushed { dropped: 1, bytes: self.bytes, ..Pushed::default() });
        }
        let (mut dropped, mut bytes) = (0, self.bytes);
        for (_, length) in &self.places {
            if bytes + size <= bytes_max || dropped == drops_max {
                break;
            }
            bytes -= length;
            dropped += 1;
        }
        let stored = bytes + size <= bytes_max;
        let worked =
            self.remove(dropped).and_then(|()| if stored { self.append(CHANGE, size, change) } else { Ok(()) });
        worked.map_err(|e| failed(&self.path, e))?;
        if stored {
            self.places.push_back((self.end - size, size));
            self.bytes += size;
        }
        Ok(Pushed { stored, dropped, bytes: self.bytes, more: !stored })
    }

    pub(super) fn front(&self, changes_max: usize) -> Result<CdcFront, StoreError> {
        let mut front = CdcFront { changes: Vec::new(), held: self.places.len() as u64, bytes: self.bytes };
        let mut total = 0;
        for ((place, length), number) in self.places.iter().zip(self.first..).take(changes_max.min(FRONT_CHANGES_MAX)) {
            total += length;
            if !front.changes.is_empty() && total > FRONT_BYTES_MAX as u64 {
                break;
            }
            let length = usize::try_from(*length).map_err(|e| failed(&self.path, io::Error::other(e)))?;
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, *place).map_err(|e| failed(&self.path, e))?;
            front.changes.push(CdcChange { token: self.token(number), bytes });
        }
        Ok(front)
    }

    pub(super) fn ack(&mut self, tokens: &[String]) -> Result<u64, StoreError> {
        let mut count = 0;
        for token in tokens {
            if count < self.places.len() as u64 && *token == self.token(self.first + count) {
                count += 1;
            }
        }
        self.remove(count).map_err(|e| failed(&self.path, e))?;
        Ok(count)
    }
}
