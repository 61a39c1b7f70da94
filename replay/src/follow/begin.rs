//! How an empty replica begins with a snapshot of its source instead of the first event.

use std::sync::atomic::{AtomicBool, Ordering};

use tasklog_log::{Checkpoint, Commit, Log, Position, StoreError};

use super::{Decisions, Failed, FollowOptions, Note, Replica, Source, of_source};
use crate::{is_quarantined_later, quarantine_of, snapshot::Snapshot};

/// How often an empty replica begins to load a snapshot: one may be thinned out, or found damaged, while it is read.
pub const BEGIN_ATTEMPTS_MAX: usize = 3;

/// What a log begins with that does not begin with event 1.
pub trait Beginning {
    /// The snapshot.
    ///
    /// # Errors
    /// `unavailable` if it is gone or damaged, saying what to do.
    fn snapshot(&self) -> Result<Snapshot, StoreError>;
}

/// Lets an empty replica begin with a snapshot, if that is wanted and there is one.
pub(super) fn begin(
    source: &dyn Source,
    replica: &mut dyn Replica,
    options: FollowOptions,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<(), Failed> {
    if !options.from_snapshot || replica.log().head()?.position > Position::ZERO {
        return Ok(());
    }
    let mut attempts = 0;
    loop {
        let (head, newest) = newest(source).map_err(of_source)?;
        let Some(snapshot) = newest else {
            // Of a source that has nothing yet there can be none.
            if head > Position::ZERO {
                tracing::warn!("no snapshot of the source can be used: following it from its first event");
            }
            return Ok(());
        };
        attempts += 1;
        match load(&snapshot, replica, stop, note) {
            Ok(()) => return Ok(()),
            Err(_) if stop.load(Ordering::Acquire) => return Ok(()),
            Err(error) if attempts < BEGIN_ATTEMPTS_MAX && may_be_the_snapshot(&error) => {
                tracing::warn!(snapshot = snapshot.info().name, error = error.full(), "a snapshot was not loaded");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn may_be_the_snapshot(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::Unavailable { .. })
}

/// The source's head, and its newest usable snapshot. All of it is read again each time: it may have been damaged since.
fn newest(source: &dyn Source) -> Result<(Position, Option<Snapshot>), StoreError> {
    let (mut head, mut newest) = (Position::ZERO, None);
    source.session(&mut |log| {
        head = log.head()?.position;
        if let Some(snapshots) = source.snapshots()? {
            newest = snapshots.newest(log, head)?;
        }
        Ok(())
    })?;
    Ok((head, newest))
}

fn load(
    snapshot: &Snapshot,
    replica: &mut dyn Replica,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<(), StoreError> {
    let contents = snapshot.contents();
    let of = contents.rows() + contents.tombstones();
    let at = replica.begin_with(snapshot, &mut |rows| {
        if stop.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("beginning with a snapshot: it was stopped"));
        }
        note(Note::Loading { at: snapshot.checkpoint(), rows, of });
        Ok(())
    })?;
    note(Note::Began { at: &at, rows: of });
    Ok(())
}

/// Asks the source what becomes of decisions, among those that are to be taken, about events that are older than the replica:
/// its snapshot was made as the source has decided in the end, whatever it decided on the way.
pub(super) fn look_ahead(
    source: &dyn Source,
    replica: &dyn Replica,
    commits: &[Commit],
    decisions: &mut Decisions,
) -> Result<(), Failed> {
    let decided: Vec<_> = commits.iter().flat_map(|commit| &commit.events).filter_map(quarantine_of).collect();
    if decided.is_empty() {
        return Ok(());
    }
    let (Some(beginning), Some(first)) = (replica.beginning()?, commits.first()) else { return Ok(()) };
    for position in decided.into_iter().filter(|position| *position <= beginning.position) {
        let mut quarantined = false;
        let mut look = |log: &dyn Log| {
            quarantined = is_quarantined_later(log, first.first().before(), position)?;
            Ok(())
        };
        source.session(&mut look).map_err(of_source)?;
        decisions.passed_over.retain(|known| *known != position);
        decisions.lifted.retain(|known| *known != position);
        if quarantined { &mut decisions.passed_over } else { &mut decisions.lifted }.push(position);
    }
    Ok(())
}

/// Refuses a decision about an event before the beginning, unless the snapshot was made as it says.
pub(super) fn require_known(snapshot: &Snapshot, position: Position, passed_over: bool) -> Result<(), StoreError> {
    if snapshot.contents().passed_over.contains(&position) == passed_over {
        return Ok(());
    }
    let (decided, begins) =
        (if passed_over { "quarantined" } else { "no longer quarantined" }, snapshot.checkpoint().position);
    Err(StoreError::unavailable(format!(
        "event {position} is {decided} in the source, and this replica began with a snapshot of event {begins}, which was made \
         otherwise: begin the replica again, in a new file, with a newer snapshot of the source"
    )))
}

/// Why a source that was trimmed cannot be followed, and what to do.
pub(super) fn out_of_reach(mine: &Checkpoint, first: Position, options: FollowOptions) -> StoreError {
    let from = mine.position.next();
    let advice = match (mine.position, options.from_snapshot) {
        (Position::ZERO, false) => "begin with a snapshot of the source (--from-snapshot)",
        (Position::ZERO, true) => "no snapshot of the source can be used; make one there (tasklog snapshot)",
        _ => "begin a new replica in another file, with a snapshot of the source (--from-snapshot)",
    };
    StoreError::unavailable(format!(
        "following from event {from}: the source begins at event {first}, what was before it is trimmed and in no archive that \
         can be read: {advice}"
    ))
}
