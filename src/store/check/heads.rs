use rusqlite::Connection;
use tasklog_log::{
    Checkpoint, Log, Position, StoreError,
    sqlite::{Head, accepted_epochs, read_head},
};
use tasklog_replay::{Finding, Report};

use crate::store::Following;

/// Compares what the file's heads say of their commits with the commits themselves.
///
/// # Errors
/// `unavailable`.
pub(super) fn check(conn: &Connection, log: &dyn Log, report: &mut Report) -> Result<(), StoreError> {
    let mut wrong = |what: &str, why: String| report.add(Finding::Store { what: what.to_owned(), why });
    let heads = [
        (Head::Log, "the head of the log"),
        (Head::Tables, "the head of the tables"),
        (Head::Tree, "the head of the Merkle tree"),
    ];
    let head = log.head()?;
    for (which, what) in heads {
        match read_head(conn, which) {
            // The tree gets the next epoch when it is kept the next time.
            Ok(Some(at)) if at.log.id != head.log.id || (which == Head::Tables && at.log != head.log) => {
                wrong(
                    what,
                    format!(
                        "it is of log {}, epoch {}; the log is {}, epoch {}",
                        at.log.id, at.log.epoch, head.log.id, head.log.epoch
                    ),
                );
            }
            // Where the others stand is told elsewhere.
            Ok(Some(at)) => mismatch(conn, log, &at)?.into_iter().for_each(|why| wrong(what, why)),
            Ok(None) => {}
            Err(StoreError::Corrupt { why, .. }) => wrong(what, why),
            Err(error) => return Err(error),
        }
    }
    let above: Option<i64> = conn.query_row("SELECT max(position) FROM events", [], |row| row.get(0))?;
    if let Some(above) = above.and_then(Position::from_i64).filter(|above| *above > head.position) {
        wrong("the head of the log", format!("it says event {}, the log has event {above}", head.position));
    }
    // A replica has its source's epoch, and not who accepted it.
    if Following::read(conn)?.is_none() {
        match accepted_epochs(conn) {
            Ok(accepted) => {
                if let Some(newest) = accepted.last().filter(|newest| newest.epoch != head.log.epoch) {
                    let why = format!("it says epoch {}, the last one accepted is {}", head.log.epoch, newest.epoch);
                    wrong("the head of the log", why);
                }
            }
            Err(StoreError::Corrupt { why, .. }) => wrong("the accepted epochs", why),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How a head differs from the commit that it names; none if it does not, or if that commit is not in the file.
///
/// # Errors
/// `unavailable`.
pub(in crate::store) fn mismatch(
    conn: &Connection,
    log: &dyn Log,
    at: &Checkpoint,
) -> Result<Option<String>, StoreError> {
    if at.position == Position::ZERO {
        let start = Checkpoint::start(at.log);
        return Ok((*at != start).then(|| format!("it says commit {} before the first event", at.commit)));
    }
    if read_head(conn, Head::Beginning)?.is_some_and(|beginning| beginning.position == at.position) {
        return Ok(None);
    }
    let commit = match log.event_alone(at.position) {
        Ok(Some(commit)) => commit,
        // That it is missing, or cannot be read, is told where events are.
        Ok(None) | Err(StoreError::Corrupt { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if commit.meta.id != at.commit {
        return Ok(Some(format!(
            "it says commit {} at event {}, which is of commit {}",
            at.commit, at.position, commit.meta.id
        )));
    }
    if commit.recorded_at != at.recorded_at {
        return Ok(Some(format!(
            "it says that event {} was recorded at {}, the event says {}",
            at.position, at.recorded_at, commit.recorded_at
        )));
    }
    Ok(None)
}
