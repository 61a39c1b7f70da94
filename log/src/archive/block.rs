//! A block: a bounded number of whole commits, column by column, so that what is alike stands together. `docs/formats.md`
//! shows its bytes.

mod decode;
mod encode;
mod ids;
mod payloads;
mod sums;
mod texts;

pub(super) use self::{decode::decode, encode::encode, sums::any_damaged};

use super::bytes::Malformed;

/// A block cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlockError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("zstd: {0}")]
    Zstd(#[from] std::io::Error),
}
