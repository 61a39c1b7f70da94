use std::{
    collections::HashMap,
    io::{self, Read},
    ops::Range,
    sync::LazyLock,
};

use tasklog_log::{
    BlobInfo, Blobs, StoreError,
    redis::{Connector, Link, RedisUrl, Script},
};
use uuid::Uuid;

use super::{LEFTOVER_AFTER, check_name};

/// A blob is kept in strings of this many bytes: none of them holds the server up.
pub const PIECE_BYTES: usize = 1 << 20;

/// Writes one piece. The first one begins the upload; a further one needs it to go on where it was.
static PIECE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local pieces = redis.call('HGET', KEYS[1], ARGV[1])
pieces = pieces and string.match(pieces, ' (%d+)$') or '0'
if pieces ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
local at = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], at .. ' ' .. (tonumber(ARGV[2]) + 1))
redis.call('SET', KEYS[2], ARGV[3])
return 1",
    )
});

/// Makes a complete upload a blob: 1, or 0 if there is one of its name, or -1 if a part of it was removed meanwhile.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local pieces = redis.call('HGET', KEYS[2], ARGV[2])
pieces = pieces and string.match(pieces, ' (%d+)$') or '0'
if pieces ~= ARGV[4] then return -1 end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('HDEL', KEYS[2], ARGV[2])
return 1",
    )
});

/// Takes a blob out of the list; what it is made of is then a leftover. Answers it, if there was one.
static WITHDRAW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local blob = redis.call('HGET', KEYS[1], ARGV[1])
if not blob then return false end
local id, bytes = string.match(blob, '^(%S+) (%d+)$')
if not id then return redis.error_reply('a blob is listed as ' .. blob) end
local pieces = math.ceil(tonumber(bytes) / tonumber(ARGV[2]))
redis.call('HSET', KEYS[2], id, '0 ' .. string.format('%d', pieces))
redis.call('HDEL', KEYS[1], ARGV[1])
return id",
    )
});

/// The uploads that nobody goes on with: those not touched for ARGV[1] ms.
static LEFTOVERS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, pieces = string.match(all[i + 1], '^(%d+) (%d+)$')
  if at and now - tonumber(at) > tonumber(ARGV[1]) then
    found[#found + 1] = all[i]
    found[#found + 1] = pieces
  end
end
return found",
    )
});

/// Blobs in the keys beside a store in Redis, so that whoever has its URL has them too.
///
/// ```text
/// <prefix>:_blobs           hash: name -> upload and length; what is listed here is whole
/// <prefix>:_blob:<upload>:<n>   string: the nth piece, from 0
/// <prefix>:_blob_uploads    hash: upload -> when it was last touched and how many pieces it has
/// ```
/// A `put` writes pieces under an upload of its own and publishes it in one step. One that was killed leaves an upload that
/// nobody goes on with; a later `put` removes it.
pub struct RedisBlobs {
    link: Link,
    prefix: String,
}

/// Where a blob is.
struct Placed {
    upload: String,
    bytes: u64,
}

impl RedisBlobs {
    /// Those beside the store at `url`, on a connection of their own: connects when it is first used.
    #[must_use]
    pub fn new(url: &RedisUrl) -> Self {
        Self { link: Link::new(Connector::new(url.clone())), prefix: url.prefix.clone() }
    }

    fn index(&self) -> String {
        format!("{}:_blobs", self.prefix)
    }

    fn uploads(&self) -> String {
        format!("{}:_blob_uploads", self.prefix)
    }

    fn piece(&self, upload: &str, at: u64) -> String {
        format!("{}:_blob:{upload}:{at}", self.prefix)
    }

    fn find(&self, name: &str) -> Result<Option<Placed>, StoreError> {
        let index = self.index();
        let found: Option<String> = self.link.ask(|conn| redis::cmd("HGET").arg(&index).arg(name).query(conn))?;
        found.map(|text| self.placed(name, &text)).transpose()
    }

    fn placed(&self, name: &str, text: &str) -> Result<Placed, StoreError> {
        let parts = text.split_once(' ').and_then(|(upload, bytes)| Some((upload, bytes.parse().ok()?)));
        let (upload, bytes) = parts.ok_or_else(|| {
            StoreError::corrupt_store(format!("{}: {name} is {text:?}, expected an upload and a length", self.index()))
        })?;
        Ok(Placed { upload: upload.into(), bytes })
    }

    /// Writes all pieces, counting them and their bytes.
    fn upload(
        &self,
        upload: &str,
        name: &str,
        content: &mut dyn Read,
        (pieces, bytes): (&mut u64, &mut u64),
    ) -> Result<(), StoreError> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            piece.clear();
            io::Read::take(&mut *content, PIECE_BYTES as u64)
                .read_to_end(&mut piece)
                .map_err(|error| StoreError::unavailable_because(format!("reading what is to become {name}"), error))?;
            if piece.is_empty() {
                return Ok(());
            }
            let keys = [self.uploads(), self.piece(upload, *pieces)];
            let number = pieces.to_string();
            let args: [&[u8]; 3] = [upload.as_bytes(), number.as_bytes(), &piece];
            let written: i64 = self.link.call(|conn| PIECE.run(conn, &keys, &args))?;
            if written != 1 {
                return Err(self.interrupted(name));
            }
            *pieces += 1;
            *bytes += piece.len() as u64;
        }
    }

    fn publish(&self, upload: &str, name: &str, pieces: u64, bytes: u64) -> Result<bool, StoreError> {
        let keys = [self.index(), self.uploads()];
        let args = [name.to_owned(), upload.into(), bytes.to_string(), pieces.to_string()];
        match self.link.call(|conn| PUBLISH.run(conn, &keys, &args))? {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(self.interrupted(name)),
        }
    }

    fn interrupted(&self, name: &str) -> StoreError {
        StoreError::unavailable(format!("writing {name} to {}: its pieces were removed meanwhile", self.place()))
    }

    /// Removes the pieces of an upload, and then the note of it.
    fn discard(&self, upload: &str, pieces: u64) -> Result<(), StoreError> {
        // One more than is noted: an upload that was killed may have been writing it.
        for at in 0..=pieces {
            let key = self.piece(upload, at);
            self.link.ask(|conn| redis::cmd("UNLINK").arg(&key).exec(conn))?;
        }
        let uploads = self.uploads();
        self.link.ask(|conn| redis::cmd("HDEL").arg(&uploads).arg(upload).exec(conn))
    }

    fn tidy(&self) -> Result<(), StoreError> {
        let (keys, age) = ([self.uploads()], [LEFTOVER_AFTER.as_millis().to_string()]);
        let found: Vec<String> = self.link.ask(|conn| LEFTOVERS.run(conn, &keys, &age))?;
        for leftover in found.chunks_exact(2) {
            self.discard(&leftover[0], leftover[1].parse().unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Blobs for RedisBlobs {
    fn place(&self) -> String {
        self.link.connector().url().to_string()
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, StoreError> {
        let index = self.index();
        let found: HashMap<String, String> = self.link.ask(|conn| redis::cmd("HGETALL").arg(&index).query(conn))?;
        let named = found.into_iter().filter(|(name, _)| name.starts_with(prefix));
        let mut infos = named
            .map(|(name, text)| Ok(BlobInfo { bytes: self.placed(&name, &text)?.bytes, name }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos)
    }

    fn put(&self, name: &str, content: &mut dyn Read) -> Result<bool, StoreError> {
        check_name(name)?;
        if self.find(name)?.is_some() {
            return Ok(false);
        }
        self.tidy()?;
        let upload = Uuid::now_v7().to_string();
        let (mut pieces, mut bytes) = (0, 0);
        let written = self.upload(&upload, name, content, (&mut pieces, &mut bytes));
        let outcome = written.and_then(|()| self.publish(&upload, name, pieces, bytes));
        if !matches!(outcome, Ok(true)) {
            // Published after all, by a step whose answer was lost, it is whole, and nobody else's.
            match self.find(name) {
                Ok(Some(placed)) if placed.upload == upload => return Ok(true),
                Ok(_) => self.discard(&upload, pieces)?,
                Err(error) => {
                    tracing::warn!(upload, error = error.full(), "leaving an upload for a later one to remove")
                }
            }
        }
        outcome
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        check_name(name)?;
        let Some(Placed { upload, bytes }) = self.find(name)? else { return Ok(None) };
        let (mut at, end) = (range.start, range.end.min(bytes));
        let mut content = Vec::new();
        let size = PIECE_BYTES as u64;
        while at < end {
            let (key, from) = (self.piece(&upload, at / size), at % size);
            let to = (from + (end - at)).min(size);
            let part: Vec<u8> =
                self.link.ask(|conn| redis::cmd("GETRANGE").arg(&key).arg(from).arg(to - 1).query(conn))?;
            if part.len() as u64 != to - from {
                return match self.find(name)? {
                    Some(placed) if placed.upload == upload => {
                        let (length, expected) = (part.len(), to - from);
                        let why = format!("{key}: it has {length} of {expected} bytes from byte {from} on");
                        Err(StoreError::corrupt_store(why))
                    }
                    // Removed while it was being read.
                    _ => Ok(None),
                };
            }
            content.extend_from_slice(&part);
            at += to - from;
        }
        Ok(Some(content))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        let Some(Placed { bytes, .. }) = self.find(name)? else { return Ok(()) };
        let keys = [self.index(), self.uploads()];
        let args = [name.to_owned(), PIECE_BYTES.to_string()];
        // Asked twice, the second time finds nothing; the pieces are then a leftover.
        let withdrawn: Option<String> = self.link.ask(|conn| WITHDRAW.run(conn, &keys, &args))?;
        match withdrawn {
            Some(upload) => self.discard(&upload, bytes.div_ceil(PIECE_BYTES as u64)),
            None => Ok(()),
        }
    }
}
