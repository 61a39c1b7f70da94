//! One entry of the stream is one commit. `docs/formats.md` shows its bytes.

use std::{fmt::Write as _, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{Commit, CommitId, CommitMeta, Event, Millis, NewEvent, Position, StoreError, checksum, name::Interner};

/// Lua helpers to put before a script that appends: `add`, `less`, `seal`, `server_ms`.
pub const ENTRY_LUA: &str = include_str!("entry.lua");
/// The first number of an entry's bytes.
pub const ENTRY_LAYOUT_VERSION: u8 = 1;
/// The bytes of the checksum at an entry's end.
const CRC_BYTES: usize = 4;
/// The hexadecimal digits of a seal.
const SEAL_DIGITS: usize = 8;

/// An event's link to its entity's previous event, written before the event's own position is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prev {
    /// It is the first of its chain.
    None,
    /// An event of an earlier commit.
    At(Position),
    /// An event of the same commit, that many positions before this one.
    Back(u64),
}

impl Prev {
    fn to_stored(self) -> i64 {
        match self {
            Self::None => 0,
            Self::At(position) => position.to_i64(),
            Self::Back(distance) => i64::try_from(distance).map_or(i64::MIN, |distance| -distance),
        }
    }
}

/// Bytes that are written as a MessagePack bin.
struct Bin<'a>(&'a [u8]);

impl Serialize for Bin<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// An event inside an entry: table, key, type, type version, prev, payload.
#[derive(Serialize)]
struct Written<'a>(&'a str, &'a str, &'a str, u32, i64, Bin<'a>);

#[derive(Deserialize)]
struct Read<'a>(#[serde(borrow)] &'a str, &'a str, &'a str, u32, i64, &'a [u8]);

/// Layout version, commit id, actor, reason, request id, events.
type ReadEntry<'a> = (u8, &'a [u8], &'a str, Option<&'a str>, Option<&'a str>, Vec<Read<'a>>);

/// The bytes of an entry: MessagePack, and the CRC32C of that. They do not depend on the commit's position or instant.
pub fn encode<'a>(meta: &CommitMeta, events: impl Iterator<Item = (&'a NewEvent, Prev)>) -> Vec<u8> {
    let written = events.map(|(event, prev)| {
        let (entity, payload) = (&event.entity, Bin(&event.payload));
        Written(&entity.table, &entity.key, &event.event_type, event.type_version, prev.to_stored(), payload)
    });
    encode_written(meta, written.collect())
}

/// The bytes of the entry of a commit that stands in a log already.
#[must_use]
pub fn encode_commit(commit: &Commit) -> Vec<u8> {
    let first = commit.first();
    let written = commit.events.iter().map(|event| {
        let prev = match event.prev {
            None => Prev::None,
            Some(prev) if prev >= first => Prev::Back(event.position.0.saturating_sub(prev.0)),
            Some(prev) => Prev::At(prev),
        };
        let payload = Bin(&event.payload);
        Written(&event.table, &event.key, &event.event_type, event.type_version, prev.to_stored(), payload)
    });
    encode_written(&commit.meta, written.collect())
}

fn encode_written(meta: &CommitMeta, events: Vec<Written<'_>>) -> Vec<u8> {
    let id = Bin(meta.id.0.as_bytes());
    let entry = (ENTRY_LAYOUT_VERSION, id, &*meta.actor, meta.reason.as_deref(), meta.request_id.as_deref(), events);
    let mut bytes = rmp_serde::to_vec(&entry).expect("texts, bytes and numbers can be written to memory");
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

/// The id of the entry whose last event stands at `last`.
#[must_use]
pub fn entry_id(last: Position) -> String {
    format!("{last}-0")
}

/// What ties an entry's bytes to its place and its instant: eight hexadecimal digits. The appending script computes the
/// same.
#[must_use]
pub fn seal(last: Position, t: &[u8], c: &[u8]) -> String {
    let mut sha1 = sha1_smol::Sha1::from(format!("{last}-0|"));
    sha1.update(t);
    sha1.update(b"|");
    sha1.update(&c[c.len().saturating_sub(CRC_BYTES)..]);
    let mut digits = String::with_capacity(SEAL_DIGITS);
    for byte in &sha1.digest().bytes()[..SEAL_DIGITS / 2] {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Turns stored entries into commits, allocating repeated names once.
#[derive(Default)]
pub struct Decoder {
    names: Interner,
    actor: Option<Arc<str>>,
}

/// The commit in the entry with the id `<last>-0` and the fields `t`, `s` and `c`.
///
/// # Errors
/// As [`Decoder::decode`].
pub fn decode(last: Position, t: &[u8], s: &[u8], c: &[u8]) -> Result<Commit, StoreError> {
    Decoder::default().decode(last, t, s, c)
}

impl Decoder {
    /// The commit in the entry with the id `<last>-0` and the fields `t`, `s` and `c`. If the bytes are not those that
    /// were written there and then, its checksums are wrong: [`Commit::check`] says so.
    ///
    /// # Errors
    /// `corrupt` at `last` for bytes that are no entry at all, `schema_ahead` for a layout this program does not know.
    pub fn decode(&mut self, last: Position, t: &[u8], s: &[u8], c: &[u8]) -> Result<Commit, StoreError> {
        let corrupt = |why: String| StoreError::corrupt(last, format!("its entry {last}-0: {why}"));
        let recorded_at = std::str::from_utf8(t).ok().and_then(|t| t.parse::<Millis>().ok());
        let recorded_at = recorded_at.ok_or_else(|| corrupt("field t is no decimal number".into()))?;
        let (body, crc) = c.split_last_chunk::<CRC_BYTES>().ok_or_else(|| corrupt("field c is too short".into()))?;
        let intact = crc32c::crc32c(body) == u32::from_be_bytes(*crc) && seal(last, t, c).as_bytes() == s;

        if let Some(version) = version_of(body)
            && version > ENTRY_LAYOUT_VERSION
        {
            let what = "log entry".to_owned();
            return Err(StoreError::SchemaAhead { what, found: version.into(), known: ENTRY_LAYOUT_VERSION.into() });
        }
        let (_, id, actor, reason, request_id, events): ReadEntry<'_> =
            rmp_serde::from_slice(body).map_err(|error| corrupt(format!("field c does not decode: {error}")))?;
        let id = Uuid::from_slice(id).map_err(|_| corrupt("its commit id has not 16 bytes".into()))?;
        let meta = CommitMeta {
            id: CommitId(id),
            actor: self.actor(actor),
            reason: reason.map(Arc::from),
            request_id: request_id.map(Arc::from),
        };
        let count = events.len() as u64;
        if count == 0 || count > last.0 {
            return Err(corrupt(format!("it has {count} events")));
        }
        let mut commit = Commit { meta, recorded_at, events: Vec::with_capacity(events.len()) };
        for (index, Read(table, key, event_type, type_version, prev, payload)) in events.into_iter().enumerate() {
            let position = Position(last.0 - count + 1 + index as u64);
            let prev = match prev {
                0 => None,
                1.. => Some(Position(prev.unsigned_abs())),
                _ => Some(Position(
                    position
                        .0
                        .checked_sub(prev.unsigned_abs())
                        .ok_or_else(|| corrupt(format!("event {position} links {prev} positions back")))?,
                )),
            };
            let mut event = Event {
                position,
                table: self.names.name(table),
                key: key.into(),
                event_type: self.names.name(event_type),
                type_version,
                prev,
                payload: payload.to_vec(),
                checksum: 0,
            };
            let right = checksum(&commit.meta, recorded_at, &event);
            event.checksum = if intact { right } else { !right };
            commit.events.push(event);
        }
        Ok(commit)
    }

    fn actor(&mut self, actor: &str) -> Arc<str> {
        match &self.actor {
            Some(known) if **known == *actor => known.clone(),
            _ => Arc::clone(self.actor.insert(actor.into())),
        }
    }
}

/// The layout version of an entry, even if the rest of its layout is unknown.
fn version_of(body: &[u8]) -> Option<u8> {
    // An array of up to 15 elements has one byte of head, and a small number is one byte.
    match body {
        [0x90..=0x9f, version @ 0..=0x7f, ..] => Some(*version),
        _ => None,
    }
}
