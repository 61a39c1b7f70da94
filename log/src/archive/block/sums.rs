//! What says that a block gives the events that were sealed: a sum of their checksums, and the checksums that are wrong.

use std::collections::BTreeMap;

use crate::{
    Commit, Event, Position,
    archive::bytes::{Malformed, Taker, put_number},
};

/// The events whose checksums are not those of their bytes, with their commits.
fn damaged(commits: &[Commit]) -> impl Iterator<Item = &Event> {
    commits.iter().flat_map(|commit| commit.events.iter().filter(|event| commit.check(event).is_err()))
}

/// Whether a block of these commits has checksums of its own.
pub(in crate::archive) fn any_damaged(commits: &[Commit]) -> bool {
    damaged(commits).next().is_some()
}

/// Nothing at all if every checksum is right, as it nearly always is.
pub(super) fn put_damaged(bytes: &mut Vec<u8>, first: Position, commits: &[Commit]) {
    let damaged: Vec<_> = damaged(commits).collect();
    if damaged.is_empty() {
        return;
    }
    put_number(bytes, damaged.len() as u64);
    for event in damaged {
        put_number(bytes, event.position.0 - first.0);
        bytes.extend_from_slice(&event.checksum.to_be_bytes());
    }
}

/// The checksums of damaged events, by the events' places in the block.
pub(super) fn take_damaged(from: &mut Taker<'_>, events: usize) -> Result<BTreeMap<usize, u32>, Malformed> {
    let mut damaged = BTreeMap::new();
    if from.0.is_empty() {
        return Ok(damaged);
    }
    for _ in 0..from.count(events)? {
        let at = from.count(events.saturating_sub(1))?;
        let (checksum, rest) = from.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        from.0 = rest;
        damaged.insert(at, u32::from_be_bytes(*checksum));
    }
    Ok(damaged)
}

/// CRC32C over the checksums of all events. Checksums are computed again when a block is read; this says that they are the
/// ones that the log had.
pub(super) fn sum(commits: &[Commit]) -> u32 {
    let checksums = commits.iter().flat_map(|commit| &commit.events).map(|event| event.checksum);
    checksums.fold(0, |sum, checksum| crc32c::crc32c_append(sum, &checksum.to_be_bytes()))
}
