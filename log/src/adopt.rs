use crate::{Checkpoint, Commit, StoreError};

/// Checks that `commits` continue a log that ends at `head`, and answers the head that they lead to: dense positions,
/// whole commits, instants that do not decrease, right checksums. What [`crate::Log::adopt`] refuses, it refuses here,
/// before anything is written.
///
/// # Errors
/// `corrupt`, naming the first position that is not as it must be.
pub fn check_adopted(head: &Checkpoint, commits: &[Commit]) -> Result<Checkpoint, StoreError> {
    let mut to = *head;
    for commit in commits {
        let next = to.position.next();
        if commit.events.is_empty() {
            return Err(StoreError::corrupt(next, format!("adopting commit {}: it has no event", commit.meta.id)));
        }
        if commit.recorded_at < to.recorded_at {
            let (found, before) = (commit.recorded_at, to.recorded_at);
            let why = format!("adopting commit {}: recorded at {found} ms, after {before} ms", commit.meta.id);
            return Err(StoreError::corrupt(next, why));
        }
        for event in &commit.events {
            let next = to.position.next();
            if event.position != next {
                let why =
                    format!("adopting commit {}: expected this position, found {}", commit.meta.id, event.position);
                return Err(StoreError::corrupt(next, why));
            }
            commit.check(event)?;
            to.position = next;
        }
        to.commit = commit.meta.id;
        to.recorded_at = commit.recorded_at;
    }
    Ok(to)
}

/// Refuses to give another identity to a log that has events.
pub(crate) fn check_identity(head: &Checkpoint) -> Result<(), StoreError> {
    if head.position == crate::Position::ZERO {
        return Ok(());
    }
    Err(StoreError::corrupt_store(format!("taking another log's identity: expected an empty log, found {head}")))
}
