use crate::{CommitMeta, Event, Millis};

/// The first byte of every leaf.
pub const LEAF_LAYOUT_VERSION: u8 = 1;

/// The bytes of an event that its checksum covers: the same on every backend, and never re-encoded.
///
/// ```text
/// u8   layout version (1)           u32+n table
/// u64  position                     u32+n key
/// 16   commit id                    u32+n type
/// i64  recorded_at (ms)             u32   type version
/// u32+n actor                       u64   prev (0 = none)
/// u8 (0|1) [u32+n] reason           u32+n payload, as stored
/// u8 (0|1) [u32+n] request id
/// ```
/// Integers are big-endian; `u32+n` is a length and that many bytes. The whole table of formats is `docs/formats.md`.
#[must_use]
pub fn leaf(meta: &CommitMeta, recorded_at: Millis, event: &Event) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160 + event.key.len() + event.payload.len());
    walk(meta, recorded_at, event, |part| bytes.extend_from_slice(part));
    bytes
}

/// CRC32C (Castagnoli) over [`leaf`].
#[must_use]
pub fn checksum(meta: &CommitMeta, recorded_at: Millis, event: &Event) -> u32 {
    // One flat buffer on the stack: the checksum runs over a few hundred bytes, once per event read or written.
    let mut small = [0_u8; SMALL_LEAF_BYTES];
    let mut used = 0;
    let mut fits = true;
    walk(meta, recorded_at, event, |part| {
        if let Some(room) = small.get_mut(used..used + part.len()).filter(|_| fits) {
            room.copy_from_slice(part);
            used += part.len();
        } else {
            fits = false;
        }
    });
    if fits { crc32c::crc32c(&small[..used]) } else { crc32c::crc32c(&leaf(meta, recorded_at, event)) }
}

/// Leaves up to this size are summed without an allocation.
const SMALL_LEAF_BYTES: usize = 512;

fn walk(meta: &CommitMeta, recorded_at: Millis, event: &Event, mut put: impl FnMut(&[u8])) {
    fn text(put: &mut impl FnMut(&[u8]), bytes: &[u8]) {
        put(&(bytes.len() as u32).to_be_bytes());
        put(bytes);
    }
    fn optional(put: &mut impl FnMut(&[u8]), value: Option<&str>) {
        put(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            text(put, value.as_bytes());
        }
    }
    put(&[LEAF_LAYOUT_VERSION]);
    put(&event.position.0.to_be_bytes());
    put(meta.id.0.as_bytes());
    put(&recorded_at.to_be_bytes());
    text(&mut put, meta.actor.as_bytes());
    optional(&mut put, meta.reason.as_deref());
    optional(&mut put, meta.request_id.as_deref());
    text(&mut put, event.table.as_bytes());
    text(&mut put, event.key.as_bytes());
    text(&mut put, event.event_type.as_bytes());
    put(&event.type_version.to_be_bytes());
    put(&event.prev.unwrap_or_default().0.to_be_bytes());
    text(&mut put, &event.payload);
}
