use rusqlite::{Connection, OptionalExtension};
use tasklog_log::{COMMIT_EVENTS_MAX, Commit, Log, Position, StoreError, sqlite::SqliteLog};
use tasklog_replay::Verifier;

/// Events read one by one where a page cannot be read, before the next page is tried.
const ONE_BY_ONE: usize = COMMIT_EVENTS_MAX;

/// The next page of the log. Events that cannot be read are findings, and not in it.
///
/// # Errors
/// The log's; `corrupt` for a part of an archive that cannot be read.
pub(super) fn page(
    conn: &Connection,
    log: &dyn Log,
    verifier: &mut Verifier,
    limit: usize,
) -> Result<Vec<Commit>, StoreError> {
    let after = verifier.position();
    match log.read(after, limit) {
        Err(StoreError::Corrupt { .. }) if is_in_file(conn, after.next())? => one_by_one(conn, log, verifier),
        page => page,
    }
}

fn is_in_file(conn: &Connection, position: Position) -> Result<bool, StoreError> {
    Ok(position >= SqliteLog::new(conn, std::sync::Arc::new(tasklog_log::SystemClock)).first()?)
}

/// Ends with a commit, so that the next page begins with one.
fn one_by_one(conn: &Connection, log: &dyn Log, verifier: &mut Verifier) -> Result<Vec<Commit>, StoreError> {
    let head = log.head()?.position;
    let mut commits: Vec<Commit> = Vec::new();
    let mut next = verifier.position().next();
    for read in 0..ONE_BY_ONE + COMMIT_EVENTS_MAX {
        if next > head {
            break;
        }
        match log.event_alone(next) {
            Ok(Some(alone)) => match commits.last_mut() {
                Some(last) if last.meta == alone.meta && last.recorded_at == alone.recorded_at => {
                    last.events.extend(alone.events);
                }
                _ if read >= ONE_BY_ONE => break,
                _ => commits.push(alone),
            },
            Ok(None) => break,
            Err(StoreError::Corrupt { why, .. }) => verifier.unreadable(next, why, entity(conn, next)?),
            Err(error) => return Err(error),
        }
        next = next.next();
    }
    Ok(commits)
}

/// Whose event it is, if at least that can be read.
fn entity(conn: &Connection, position: Position) -> Result<Option<(String, String)>, StoreError> {
    let mut select = conn.prepare_cached("SELECT table_name, key FROM events WHERE position = ?1")?;
    let found = select.query_row([position.to_i64()], |row| Ok((row.get(0)?, row.get(1)?))).optional();
    match found.map_err(StoreError::from) {
        Err(StoreError::Corrupt { .. }) => Ok(None),
        found => found,
    }
}
