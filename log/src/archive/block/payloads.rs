//! The payloads of one kind of events: those of one length are alike byte for byte.

use std::collections::BTreeMap;

use super::BlockError;
use crate::archive::bytes::{COLUMN_BYTES_MAX, Malformed, Packer, Taker, Unpacker, put_number};

/// Payloads one after another.
const LAYOUT_ROWS: u8 = 0;
/// Payloads of one length together, shorter ones first; their first bytes, then their second bytes, …
const LAYOUT_PLANES: u8 = 1;

/// Appends payloads, laid out in the way that takes less.
pub(super) fn pack_payloads(packer: &mut Packer, bytes: &mut Vec<u8>, payloads: &[&[u8]]) -> Result<(), BlockError> {
    let mut lengths = Vec::new();
    let mut by_length: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    for payload in payloads {
        put_number(&mut lengths, payload.len() as u64);
        by_length.entry(payload.len()).or_default().push(payload);
    }
    packer.put(bytes, &lengths)?;
    let mut planes = Vec::new();
    for (length, payloads) in by_length {
        for plane in 0..length {
            planes.extend(payloads.iter().map(|payload| payload[plane]));
        }
    }
    let (mut in_rows, mut in_planes) = (vec![LAYOUT_ROWS], vec![LAYOUT_PLANES]);
    packer.put(&mut in_rows, &payloads.concat())?;
    packer.put(&mut in_planes, &planes)?;
    bytes.extend(if in_rows.len() <= in_planes.len() { in_rows } else { in_planes });
    Ok(())
}

/// Takes the payloads of so many events off the front.
pub(super) fn unpack_payloads(
    unpacker: &mut Unpacker,
    from: &mut Taker<'_>,
    events: usize,
) -> Result<Vec<Vec<u8>>, Malformed> {
    let lengths = unpacker.take(from)?;
    let mut lengths_from = Taker(&lengths);
    let mut lengths = Vec::with_capacity(events);
    for _ in 0..events {
        lengths.push(lengths_from.count(COLUMN_BYTES_MAX)?);
    }
    lengths_from.end()?;
    let layout = from.bytes(1)?;
    let packed = unpacker.take(from)?;
    let mut packed = Taker(&packed);
    let mut payloads = vec![Vec::new(); events];
    match layout {
        [LAYOUT_ROWS] => {
            for (payload, length) in payloads.iter_mut().zip(&lengths) {
                payload.extend_from_slice(packed.bytes(*length)?);
            }
        }
        [LAYOUT_PLANES] => {
            let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (at, length) in lengths.iter().enumerate() {
                by_length.entry(*length).or_default().push(at);
            }
            for (length, places) in by_length {
                let bytes = length.checked_mul(places.len()).ok_or(Malformed("payloads are too large"))?;
                let planes = packed.bytes(bytes)?;
                for (index, place) in places.iter().enumerate() {
                    payloads[*place] = (0..length).map(|plane| planes[plane * places.len() + index]).collect();
                }
            }
        }
        _ => return Err(Malformed("payloads are laid out in an unknown way")),
    }
    packed.end()?;
    Ok(payloads)
}
