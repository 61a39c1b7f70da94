use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use tasklog_log::StoreError;

use crate::rejection::Error;

/// The right to write to one SQLite file, held by one process: a lock on a file beside it, which the system releases
/// when the process ends, however it ends. The file's text says who holds it.
pub(super) struct WriterLock {
    file: File,
}

/// Why a store was not opened for writing: another process has it.
#[derive(Debug, thiserror::Error)]
#[error("it is open for writing by {holder}: stop that process, or open the store for reading")]
pub(crate) struct OpenElsewhere {
    /// Which process, and since when.
    pub(crate) holder: String,
}

impl OpenElsewhere {
    /// The cause of an error, if this is it.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Store(StoreError::Unavailable { cause: Some(cause), .. }) => cause.downcast_ref(),
            _ => None,
        }
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started shares it until it runs its program.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "unlocking the store");
        }
    }
}

/// The lock file of a store.
fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

impl WriterLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// `unavailable`, naming the process that holds it.
    pub(super) fn take(store: &Path) -> Result<Self, StoreError> {
        let path = lock_path(store);
        let failed = |doing: &str, error: std::io::Error| {
            StoreError::unavailable_because(format!("{doing} {}", path.display()), error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("opening the lock file", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What cannot be read is left out of the message; the refusal stands without it.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "another process" } else { holder }.to_owned();
                return Err(StoreError::unavailable_because(store.display().to_string(), OpenElsewhere { holder }));
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", error)),
        }
        let text = format!("process {} since {}\n", std::process::id(), jiff::Timestamp::now());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(|error| failed("writing", error))?;
        Ok(Self { file })
    }
}
