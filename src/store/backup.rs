//! Backups of a store in a file, and stores made of them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, OpenFlags};
use tasklog_log::{
    AcceptedEpoch, Checkpoint, Log, StoreError, SystemClock,
    sqlite::{Head, SqliteLog, accept_epoch, connection, connection::Access, read_head},
};

use super::{ReadSide, TaskStore, check, migrate, sqlite::of_file};
use crate::{
    beside::Beside,
    rejection::{Error, Rejection},
};

impl TaskStore {
    /// Writes a consistent copy of a store's file, as it is at one moment, while commands go on. The copy is durable when
    /// this returns, complete or not there, and for its owner only.
    ///
    /// # Errors
    /// `invalid` for a store that is no file, and if there is something of this name; `unavailable`.
    pub fn backup(&self, to: &Path) -> Result<Checkpoint, Error> {
        self.backup_until(to, &Arc::default())
    }

    /// The same; once `stop` is set it ends with nothing written.
    ///
    /// # Errors
    /// As [`TaskStore::backup`]; `unavailable` if it was stopped.
    pub fn backup_until(&self, to: &Path, stop: &Arc<AtomicBool>) -> Result<Checkpoint, Error> {
        let ReadSide::Sqlite(pool) = &self.inner.read else {
            let why = "only a store in a file is backed up like this: use tasklog copy, or the server's own backups";
            return Err(Rejection::invalid(why).into());
        };
        whole_or_absent(to, true, |incomplete| {
            copy_into(pool.path(), incomplete, stop).and_then(|()| head_of(incomplete))
        })
    }
}

/// Makes a store of a backup. Its log goes on in a new epoch: what was written after the backup is lost to it, and whoever
/// has seen that notices.
///
/// # Errors
/// `invalid` if there is something of this name, or for a replica's backup; `corrupt` for a file that is no store or is
/// damaged; `unavailable`.
pub fn restore(from: &Path, into: &Path, actor: &str) -> Result<AcceptedEpoch, Error> {
    restore_until(from, into, actor, &Arc::default())
}

/// The same; once `stop` is set it ends with nothing written.
///
/// # Errors
/// As [`restore`]; `unavailable` if it was stopped.
pub fn restore_until(from: &Path, into: &Path, actor: &str, stop: &Arc<AtomicBool>) -> Result<AcceptedEpoch, Error> {
    if !from.exists() {
        return Err(Rejection::not_found(format!("there is no backup at {}", from.display())).into());
    }
    for side in ["-wal", "-shm"] {
        let beside = with_suffix(into, side);
        if beside.exists() {
            let why = format!("{} is there: it belongs to another database", beside.display());
            return Err(Rejection::already_exists(why).into());
        }
    }
    let reason = format!("restored from {}", from.display());
    let accepted = whole_or_absent(into, false, |incomplete| {
        copy_into(from, incomplete, stop)?;
        let conn = Connection::open(incomplete)?;
        let found = migrate::applied(&conn).map_err(|error| of_file(from, error))?;
        if found.is_none() {
            return Err(StoreError::corrupt_store(format!("{} is no store", from.display())));
        }
        migrate::check(found)?;
        mend(&conn, from)?;
        if super::Following::read(&conn)?.is_some() {
            let why = format!("{} is a replica's: follow its source again", from.display());
            return Err(StoreError::ReadOnly(why));
        }
        let now = SqliteLog::new(&conn, Arc::new(SystemClock)).now()?;
        let transaction = connection::begin(&conn)?;
        let accepted = accept_epoch(&conn, now, actor, Some(&reason))?;
        transaction.commit()?;
        conn.close().map_err(|(_, error)| error)?;
        Ok(accepted)
    })?;
    Ok(accepted)
}

/// Has SQLite check a copy, pages and indexes. What is only an index is made anew of its rows, which are all there.
fn mend(conn: &Connection, from: &Path) -> Result<(), StoreError> {
    let Some(damage) = check::damage(conn)? else { return Ok(()) };
    let corrupt = |damage: String| StoreError::corrupt_store(format!("{}: {damage}", from.display()));
    conn.execute_batch("REINDEX").map_err(|_| corrupt(damage.clone()))?;
    match check::damage(conn)? {
        None => {
            tracing::warn!(damage, "{} is damaged: indexes were made anew in the store", from.display());
            Ok(())
        }
        Some(damage) => Err(corrupt(damage)),
    }
}

/// Writes a file that appears under its name when it is complete. A store's own file has the permissions that SQLite gives.
fn whole_or_absent<T>(
    to: &Path,
    private: bool,
    write: impl FnOnce(&Path) -> Result<T, StoreError>,
) -> Result<T, Error> {
    let beside = Beside::begin(to)?.private(private);
    let written = write(&beside.file())?;
    beside.place()?;
    Ok(written)
}

/// Instructions of SQLite between two looks at whether to stop: some tens of microseconds.
const LOOK_INSTRUCTIONS: i32 = 1_000;

/// A consistent copy of a database into a file that is not there, unless it is stopped.
fn copy_into(from: &Path, to: &Path, stop: &Arc<AtomicBool>) -> Result<(), StoreError> {
    // Nothing is written to it, but a connection for reading only could not write anywhere else either.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(from, flags).map_err(|error| of_file(from, error.into()))?;
    let asked = Arc::clone(stop);
    conn.progress_handler(LOOK_INSTRUCTIONS, Some(move || asked.load(Ordering::Acquire)))?;
    let name = to.to_str().ok_or_else(|| StoreError::unavailable(format!("{} is not UTF-8", to.display())))?;
    match conn.execute("VACUUM INTO ?1", [name]) {
        Ok(_) => Ok(()),
        Err(_) if stop.load(Ordering::Acquire) => {
            Err(StoreError::unavailable(format!("copying {} was stopped: nothing of it is left", from.display())))
        }
        Err(error) => Err(of_file(from, error.into())),
    }
}

fn head_of(path: &Path) -> Result<Checkpoint, StoreError> {
    let conn = connection::open(path, Access::Write)?;
    let head = read_head(&conn, Head::Log)?;
    conn.close().map_err(|(_, error)| error)?;
    head.ok_or_else(|| StoreError::corrupt_store("table _heads has no row for the log"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
