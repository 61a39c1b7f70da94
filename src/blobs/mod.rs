//! Places for large immutable things: where a store keeps its snapshots, and where its archive is.
//!
//! [`crate::log::Blobs`] says what each of them promises; `tests/blobs` is the suite that each of them passes.

mod dir;
mod object;
mod redis;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tasklog_log::{Blobs, StoreError};

pub use self::{dir::DirBlobs, object::ObjectBlobs, redis::RedisBlobs};
use crate::rejection::{Error, Rejection};

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

/// The one name of a place: a folder's absolute path (of a path or a `file:` URL), or the URL as it is.
///
/// # Errors
/// `invalid` for a URL that names no place; `unavailable` if the present folder is not known.
pub fn place_name(text: &str) -> Result<String, Error> {
    if text.is_empty() || text.starts_with("memory:") {
        return Err(Rejection::invalid(format!("{text:?} is no place that lasts: expected a folder or a URL")).into());
    }
    match folder_of(text)? {
        Some(folder) => {
            let absolute = std::path::absolute(&folder);
            let absolute = absolute
                .map_err(|error| StoreError::unavailable_because(format!("finding {}", folder.display()), error))?;
            absolute
                .into_os_string()
                .into_string()
                .map_err(|path| Rejection::invalid(format!("{} is not UTF-8", path.display())).into())
        }
        None => {
            ObjectBlobs::open(text)?;
            Ok(text.to_owned())
        }
    }
}

/// The place that a path, a `file:` URL or a URL of an object store names.
///
/// # Errors
/// `invalid` for a URL that names no place; `unavailable`.
pub fn open_place(text: &str) -> Result<Arc<dyn Blobs>, Error> {
    Ok(match folder_of(text)? {
        Some(folder) => Arc::new(DirBlobs::new(folder)),
        None => Arc::new(ObjectBlobs::open(text)?),
    })
}

/// The folder that a text names; none if it is a URL of something else.
fn folder_of(text: &str) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = text.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let (host, path) = if path.starts_with('/') { ("", path) } else { path.split_at(path.find('/').unwrap_or(0)) };
        if !matches!(host, "" | "localhost") || path.contains('%') {
            let why =
                format!("{text:?} names no folder here: expected file:///PATH without escapes, or the path itself");
            return Err(Rejection::invalid(why).into());
        }
        return Ok(Some(path.into()));
    }
    Ok((!text.contains("://")).then(|| text.into()))
}
