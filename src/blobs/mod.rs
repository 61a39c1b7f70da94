//! Places for large immutable things: where a store keeps its snapshots.
//!
//! [`crate::log::Blobs`] says what each of them promises; `tests/blobs` is the suite that each of them passes.

mod dir;
mod redis;

use std::time::Duration;

use tasklog_log::StoreError;

pub use self::{dir::DirBlobs, redis::RedisBlobs};

/// What was begun and not touched for this long was begun by a process that is gone.
const LEFTOVER_AFTER: Duration = Duration::from_secs(60 * 60);
/// A name has at most this many bytes.
const NAME_BYTES_MAX: usize = 200;

/// Refuses what is no name of a blob: no part of it may lead out of the place, or be one that places keep for themselves.
fn check_name(name: &str) -> Result<(), StoreError> {
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let legal = |part: &str| !part.is_empty() && !part.starts_with('.') && letters(part);
    if name.len() <= NAME_BYTES_MAX && name.split('/').all(legal) {
        return Ok(());
    }
    Err(StoreError::unavailable(format!(
        "{name:?} is no name of a blob: expected parts of A-Z, a-z, 0-9, . _ and -, not beginning with a dot, joined by /"
    )))
}
