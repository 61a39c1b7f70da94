//! How every connection to a store's file is opened: the pragmas that the promises rest on are set on each connection
//! and read back from it, because pragmas are per connection and a file system may silently refuse one.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig};

use crate::StoreError;

/// Older SQLite versions can corrupt a WAL that two connections reset at once.
pub const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How long a connection waits for another one's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_millis(5_000);
/// The WAL file is cut back to this size when it is reset.
pub const JOURNAL_BYTES_MAX: i64 = 64 << 20;
/// Pages in the WAL after which a commit tries to fold it into the file.
pub const WAL_PAGES_SOFT: i64 = 4_000;
/// Page cache per connection, in KiB.
pub const CACHE_KIB: i64 = 32 << 10;
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 256;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Creates the file if it is missing; WAL, `synchronous=FULL`.
    Write,
    /// Never writes, never blocks the writer.
    Read,
    /// A file that nobody can write, on a medium where not even SQLite's side files can be made.
    Immutable,
}

/// Opens a connection, sets its pragmas and reads them back.
///
/// # Errors
/// `corrupt` if the file is no database, `unavailable` if it cannot be opened or a pragma did not take.
pub fn open(path: &Path, access: Access) -> Result<Connection, StoreError> {
    require_version()?;
    let shared = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = match access {
        Access::Write => Connection::open_with_flags(
            path,
            shared | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        ),
        Access::Read => Connection::open_with_flags(path, shared | OpenFlags::SQLITE_OPEN_READ_ONLY),
        Access::Immutable => Connection::open_with_flags(
            immutable_uri(path)?,
            shared | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
        ),
    }
    .map_err(|error| StoreError::unavailable_because(format!("opening {}", path.display()), error))?;
    configure(&conn, access).map_err(|error| match error {
        StoreError::Corrupt { why, .. } => StoreError::corrupt_store(format!("{}: {why}", path.display())),
        StoreError::Unavailable { doing, cause } => {
            StoreError::Unavailable { doing: format!("{}: {doing}", path.display()), cause }
        }
        other => other,
    })?;
    Ok(conn)
}

fn require_version() -> Result<(), StoreError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(StoreError::unavailable(format!(
            "SQLite {} is too old: versions before 3.51.3 can corrupt a WAL",
            rusqlite::version()
        )));
    }
    Ok(())
}

/// The URI of a file that is read without locks and without its WAL.
fn immutable_uri(path: &Path) -> Result<String, StoreError> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let wal = Path::new(&wal);
    if wal.metadata().is_ok_and(|wal| wal.len() > 0) {
        // Its commits are not in the file yet: without them the answer would be an older state that looks whole.
        return Err(StoreError::unavailable(format!(
            "opening {} as immutable: {} is not empty",
            path.display(),
            wal.display()
        )));
    }
    // An absolute path begins with a slash, which must not be read as the begin of a host name.
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "file:" });
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii() && !b"%?#".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri)
}

fn configure(conn: &Connection, access: Access) -> Result<(), StoreError> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Plans do not depend on bound values. Without this, a prepared range scan is prepared anew whenever other values are
    // bound to it, which costs more than the scan.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if access == Access::Write {
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::unavailable(format!("journal_mode: asked for wal, got {mode}")));
        }
    }
    for pragma in expected(access) {
        // Some pragmas answer their new value, some answer nothing; the value is read back below either way.
        let mut set = conn.prepare(&format!("PRAGMA {} = {}", pragma.name, pragma.value))?;
        let mut rows = set.query([])?;
        while rows.next()?.is_some() {}
    }
    check(conn, access)
}

/// A pragma and the value that every connection must report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pragma {
    /// Its name.
    pub name: &'static str,
    /// What reading it back must give.
    pub value: i64,
}

/// The pragmas of a connection, beside `journal_mode`.
#[must_use]
pub fn expected(access: Access) -> Vec<Pragma> {
    let pragma = |name, value| Pragma { name, value };
    let mut all = vec![
        pragma("synchronous", 2),
        pragma("cache_size", -CACHE_KIB),
        pragma("temp_store", 2),
        pragma("trusted_schema", 0),
        pragma("cell_size_check", 1),
    ];
    match access {
        Access::Write => {
            all.push(pragma("journal_size_limit", JOURNAL_BYTES_MAX));
            all.push(pragma("wal_autocheckpoint", WAL_PAGES_SOFT));
            all.push(pragma("fullfsync", 1));
        }
        Access::Read | Access::Immutable => all.push(pragma("query_only", 1)),
    }
    all
}

/// Reads every pragma back from the connection.
///
/// # Errors
/// `unavailable`, naming the pragma, the value asked for and the value found.
pub fn check(conn: &Connection, access: Access) -> Result<(), StoreError> {
    for Pragma { name, value } in expected(access) {
        let found: i64 = conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
        if found != value {
            return Err(StoreError::unavailable(format!("pragma {name}: asked for {value}, got {found}")));
        }
    }
    // Reading the schema is the first access to the file itself: it tells a database from something else.
    let _: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(())
}

/// Begins a write transaction at once (`BEGIN IMMEDIATE`): a read transaction that upgrades would be refused when
/// another connection has written meanwhile, whatever the busy timeout.
///
/// # Errors
/// `unavailable` if the lock could not be had in time.
pub fn begin(conn: &Connection) -> Result<Transaction<'_>, StoreError> {
    Ok(Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?)
}
