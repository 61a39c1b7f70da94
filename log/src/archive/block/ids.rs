//! Columns of ids. The first bytes of UUIDs of one time are alike, and the last ones never: each byte has its own column.

use uuid::Uuid;

use super::BlockError;
use crate::archive::bytes::{Malformed, Packer, Taker, Unpacker};

/// The bytes of a UUID, each in a column of its own.
const PLANES: usize = 16;

pub(super) fn pack_ids(
    packer: &mut Packer,
    bytes: &mut Vec<u8>,
    ids: impl Iterator<Item = Uuid> + Clone,
) -> Result<(), BlockError> {
    for plane in 0..PLANES {
        let column: Vec<u8> = ids.clone().map(|id| id.as_bytes()[plane]).collect();
        packer.put(bytes, &column)?;
    }
    Ok(())
}

pub(super) fn unpack_ids(unpacker: &mut Unpacker, from: &mut Taker<'_>, count: usize) -> Result<Vec<Uuid>, Malformed> {
    let mut planes = Vec::with_capacity(PLANES);
    for _ in 0..PLANES {
        let plane = unpacker.take(from)?;
        if plane.len() != count {
            return Err(Malformed("a column of ids has another length"));
        }
        planes.push(plane);
    }
    Ok((0..count).map(|at| Uuid::from_bytes(std::array::from_fn(|plane| planes[plane][at]))).collect())
}
