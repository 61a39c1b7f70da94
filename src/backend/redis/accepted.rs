use tasklog_log::{Checkpoint, Log, Position, StoreError};

/// Compares the newest head that this process has seen with what the log has now. Answers whether the log has entered a new
/// epoch, so that nothing that was known counts.
///
/// # Errors
/// `diverged`, naming both; the log's.
pub fn is_accepted(known: Checkpoint, now: Checkpoint, log: &dyn Log) -> Result<bool, StoreError> {
    let diverged = |log: Checkpoint| StoreError::Diverged { checkpoint: Box::new(known), log: Box::new(log) };
    if now.log.id != known.log.id || now.log.epoch < known.log.epoch {
        return Err(diverged(now));
    }
    if now.log.epoch > known.log.epoch {
        return Ok(true);
    }
    if now.position < known.position || (now.position == known.position && now.commit != known.commit) {
        return Err(diverged(now));
    }
    match commit_at(log, known.position)? {
        // It may end elsewhere; what counts is what the log has at this position.
        Some(found) if found.commit != known.commit => {
            Err(diverged(Checkpoint { log: now.log, position: known.position, ..found }))
        }
        _ => Ok(false),
    }
}

/// The commit that ends at a position, as far as the log still has it.
fn commit_at(log: &dyn Log, position: Position) -> Result<Option<Checkpoint>, StoreError> {
    if position == Position::ZERO || log.first()? > position {
        return Ok(None);
    }
    let info = log.info()?;
    let found = log.read(position.before(), 1)?.into_iter().next();
    Ok(found.map(|commit| Checkpoint {
        log: info,
        position: commit.last(),
        commit: commit.meta.id,
        recorded_at: commit.recorded_at,
    }))
}
