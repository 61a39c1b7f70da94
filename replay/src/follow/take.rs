//! What a replica does with commits, inside the transaction that takes them.

use tasklog_log::{Checkpoint, Commit, Log, Position, StoreError};
use tasklog_projections::{View, facts};

use super::{Beginning, Decisions, begin};
use crate::{Folder, quarantine_of, refold};

/// Adopts, folds and applies commits: what [`Replica::take`](super::Replica::take) does inside its transaction. `folder` stands where `view`
/// stands; after an error it is of no use any more. `beginning` is for a log that begins with a snapshot.
///
/// # Errors
/// `corrupt` or `schema_ahead` for commits that cannot be folded; the log's and the view's. A fold that fails has written
/// nothing, unless a quarantine stands before it.
pub fn take(
    folder: &mut Folder,
    log: &mut dyn Log,
    view: &mut dyn View,
    commits: &[Commit],
    decisions: &Decisions,
    beginning: Option<&dyn Beginning>,
) -> Result<Checkpoint, StoreError> {
    let mut at = view.checkpoint()?;
    // What comes after a quarantine was decided on a row that it had changed.
    for run in commits.split_inclusive(decides_quarantine) {
        at = take_run(folder, log, view, run)?;
        let Some(last) = run.last().filter(|last| decides_quarantine(last)) else { continue };
        let passing = settle_quarantine(log, view, last, decisions, beginning)?;
        *folder = folder.again(view)?.passing_over(passing);
    }
    Ok(at)
}

/// Whether a commit quarantines an event, or lifts a quarantine.
#[must_use]
pub fn decides_quarantine(commit: &Commit) -> bool {
    commit.events.iter().any(|event| quarantine_of(event).is_some())
}

/// Brings rows to what they are once `commit`, which was just taken, has decided about a quarantine; answers what is
/// passed over from now on.
///
/// # Errors
/// `corrupt` if an event cannot be folded without one that is passed over; `unavailable` if it is about an event before the log's
/// beginning, of which only the source knows what becomes of its row; the log's and the view's.
pub fn settle_quarantine(
    log: &dyn Log,
    view: &mut dyn View,
    commit: &Commit,
    decisions: &Decisions,
    beginning: Option<&dyn Beginning>,
) -> Result<Vec<Position>, StoreError> {
    let mut passing = facts::quarantined(view)?;
    passing.extend(&decisions.passed_over);
    let snapshot = beginning.map(Beginning::snapshot).transpose()?;
    for position in commit.events.iter().filter_map(quarantine_of) {
        if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| position <= snapshot.checkpoint().position) {
            let passed_over = passing.contains(&position) && !decisions.lifted.contains(&position);
            begin::require_known(snapshot, position, passed_over)?;
            continue;
        }
        let Some((commit, index)) = log.event(position)? else { continue };
        let change = refold(log, view, &commit.events[index], &passing, snapshot.as_ref())?;
        view.write(&change.into_iter().collect::<Vec<_>>())?;
    }
    Ok(passing)
}

fn take_run(
    folder: &mut Folder,
    log: &mut dyn Log,
    view: &mut dyn View,
    commits: &[Commit],
) -> Result<Checkpoint, StoreError> {
    let from = view.checkpoint()?;
    let Some(last) = commits.last() else { return Ok(from) };
    for commit in commits {
        folder.fold(commit, view)?;
    }
    let to = Checkpoint { log: from.log, position: last.last(), commit: last.meta.id, recorded_at: last.recorded_at };
    log.adopt(commits)?;
    view.apply(&folder.changes(), &from, &to)?;
    Ok(to)
}
