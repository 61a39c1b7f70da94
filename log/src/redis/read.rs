use std::sync::atomic::{AtomicUsize, Ordering};

use redis::{Connection, RedisResult, Value};

use super::{Decoder, Keys, Link, entry_id};
use crate::{Commit, Position, StoreError};

/// The entries asked for at first, when their size is unknown.
const ENTRIES_FIRST: usize = 32;
/// The most entries that one call asks for.
const ENTRIES_PER_READ_MAX: usize = 1_000;
/// About this many bytes are asked for at once, by the size of the entries before.
const BYTES_PER_READ: usize = 4 << 20;

/// How large the entries were that were read last; 0 before any was.
#[derive(Default)]
pub(super) struct Sizes {
    bytes: AtomicUsize,
    events: AtomicUsize,
}

impl Sizes {
    fn note(&self, entries: usize, bytes: usize, events: usize) {
        self.bytes.store((bytes / entries).max(1), Ordering::Relaxed);
        self.events.store((events / entries).max(1), Ordering::Relaxed);
    }

    /// How many entries to ask for if so many events are wanted: more than are taken would be sent for nothing.
    fn entries(&self, events: usize) -> usize {
        let (bytes, each) = (self.bytes.load(Ordering::Relaxed), self.events.load(Ordering::Relaxed));
        if bytes == 0 || each == 0 {
            return ENTRIES_FIRST.min(events.max(1));
        }
        (BYTES_PER_READ / bytes).min(events.div_ceil(each)).clamp(1, ENTRIES_PER_READ_MAX)
    }
}

/// Whole commits after `after`: at least one if there is one, none further once `limit` events are reached.
pub(super) fn commits(
    link: &Link,
    keys: &Keys,
    sizes: &Sizes,
    after: Position,
    limit: usize,
) -> Result<Vec<Commit>, StoreError> {
    let mut commits = Vec::new();
    let mut decoder = Decoder::default();
    let (mut after, mut events, mut bytes) = (after, 0, 0);
    while commits.is_empty() || events < limit {
        let count = sizes.entries(limit.saturating_sub(events));
        let from = entry_id(after.next());
        let page = link.ask(|conn| range(conn, keys, &from, count))?;
        let ended = page.len() < count;
        for entry in &page {
            let (commit, size) = decoded(&mut decoder, entry)?;
            after = commit.last();
            events += commit.events.len();
            bytes += size;
            commits.push(commit);
            if events >= limit {
                break;
            }
        }
        if !commits.is_empty() {
            sizes.note(commits.len(), bytes, events);
        }
        if ended || after.0 == u64::MAX {
            break;
        }
    }
    Ok(commits)
}

/// The first commit that the stream has at or after `position`.
pub(super) fn commit_from(link: &Link, keys: &Keys, position: Position) -> Result<Option<Commit>, StoreError> {
    let page = link.ask(|conn| range(conn, keys, &entry_id(position), 1))?;
    page.first().map(|entry| Ok(decoded(&mut Decoder::default(), entry)?.0)).transpose()
}

fn range(conn: &mut Connection, keys: &Keys, from: &str, count: usize) -> RedisResult<Vec<Value>> {
    redis::cmd("XRANGE").arg(keys.log()).arg(from).arg("+").arg("COUNT").arg(count).query(conn)
}

/// The commit in one entry as XRANGE answers it, and the number of its bytes.
fn decoded(decoder: &mut Decoder, entry: &Value) -> Result<(Commit, usize), StoreError> {
    let strange = || StoreError::corrupt_store(format!("XRANGE answered what is no entry: {entry:?}"));
    let Value::Array(entry_parts) = entry else { return Err(strange()) };
    let [Value::BulkString(id), Value::Array(fields)] = &entry_parts[..] else { return Err(strange()) };
    let id = String::from_utf8_lossy(id);
    let last = id.strip_suffix("-0").and_then(|last| last.parse().ok()).map(Position);
    let last =
        last.ok_or_else(|| StoreError::corrupt_store(format!("entry {id}: expected an id that ends with -0")))?;
    let field = |name: &str| {
        let found = fields.chunks_exact(2).find_map(|pair| match pair {
            [Value::BulkString(key), Value::BulkString(value)] if key == name.as_bytes() => Some(&value[..]),
            _ => None,
        });
        found.ok_or_else(|| StoreError::corrupt(last, format!("its entry {id} has no field {name}")))
    };
    let c = field("c")?;
    Ok((decoder.decode(last, field("t")?, field("s")?, c)?, c.len()))
}
