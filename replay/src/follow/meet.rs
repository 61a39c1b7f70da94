use tasklog_log::{Checkpoint, Commit, CommitId, Log, LogInfo, Position, StoreError};

use super::{FOLLOW_PAGE_EVENTS, Replica, Source, checkpoint};

/// Dropped commits that are named; further ones are only counted.
pub const DROPPED_NAMED_MAX: usize = 100;

/// What a comparison of a replica's head with a source has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The source has the replica's head at its place, or the replica is empty.
    Agrees {
        /// The source's identity; its epoch may be higher than the replica's.
        log: LogInfo,
    },
    /// The source no longer has what comes next.
    Trimmed {
        /// The first position that it has.
        first: Position,
    },
    /// The source does not have the replica's head.
    Diverged {
        /// What it has there, or its head if that is lower.
        theirs: Box<Checkpoint>,
    },
}

/// A commit that a replica gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
    /// Its id.
    pub commit: CommitId,
}

/// A replica's way back to the last commit that it has in common with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// Where the replica stood.
    pub from: Checkpoint,
    /// What the source has there, or its head if that is lower.
    pub theirs: Checkpoint,
    /// The last common point.
    pub to: Checkpoint,
    /// Commits given up.
    pub commits: u64,
    /// The first of them, up to a bound.
    pub dropped: Vec<Dropped>,
}

/// Compares `mine`, a replica's head, with a source.
///
/// # Errors
/// The source's.
pub fn meet(source: &dyn Log, mine: &Checkpoint) -> Result<Meeting, StoreError> {
    let head = source.head()?;
    let first = source.first()?;
    let diverged = |theirs| Ok(Meeting::Diverged { theirs: Box::new(theirs) });
    if mine.position > Position::ZERO {
        if head.log.id != mine.log.id || head.position < mine.position {
            return diverged(head);
        }
        if first <= mine.position {
            let Some((commit, _)) = source.event(mine.position)? else { return diverged(head) };
            // It may end elsewhere; what counts is what the source has at this position.
            let theirs = Checkpoint { position: mine.position, ..checkpoint(head.log, &commit) };
            let same = theirs.commit == mine.commit && theirs.recorded_at == mine.recorded_at;
            if !same || commit.last() != mine.position || head.log.epoch < mine.log.epoch {
                return diverged(theirs);
            }
        } else if head.log.epoch < mine.log.epoch {
            return diverged(head);
        }
    }
    if first > mine.position.next() {
        return Ok(Meeting::Trimmed { first });
    }
    Ok(Meeting::Agrees { log: head.log })
}

/// The last point that two lives of one log have in common, by the ids of their commits, as a point of `mine`; none if
/// the source no longer reaches back to it, or it lies before the beginning of `mine`. Looks at a logarithmic number of commits.
///
/// # Errors
/// The logs'.
pub fn common_point(source: &dyn Log, mine: &dyn Log) -> Result<Option<Checkpoint>, StoreError> {
    let (theirs, own) = (source.head()?, mine.head()?);
    let first = source.first()?.max(mine.first()?);
    let mut common = (first <= Position(1)).then(|| Checkpoint::start(own.log));
    if theirs.log.id != own.log.id {
        return Ok(common);
    }
    // Everything through `low` is known to agree, or was trimmed; what comes after `high` is known to differ.
    let (mut low, mut high) = (first.before(), own.position.min(theirs.position));
    while low < high {
        let middle = Position(low.0 + (high.0 - low.0).div_ceil(2));
        let Some((commit, _)) = mine.event(middle)? else {
            return Err(StoreError::corrupt(middle, "missing from the log"));
        };
        let other = source.event(middle)?.map(|(other, _)| other);
        if other.is_some_and(|other| same(&other, &commit)) {
            common = Some(checkpoint(own.log, &commit));
            low = commit.last();
        } else {
            high = commit.first().before();
        }
    }
    Ok(common)
}

fn same(one: &Commit, other: &Commit) -> bool {
    let tail = |commit: &Commit| commit.events.last().map(|event| (event.position, event.checksum));
    one.meta.id == other.meta.id && one.recorded_at == other.recorded_at && tail(one) == tail(other)
}

/// Takes the replica back to the last common point, if that is allowed: the source says by a higher epoch that somebody
/// has accepted what it lost, or the follower was told to accept it. None if the replica no longer has, or never had, what
/// the two have in common.
pub(super) fn go_back(
    source: &dyn Source,
    replica: &mut dyn Replica,
    mine: &Checkpoint,
    theirs: &Checkpoint,
    accept: bool,
) -> Result<Option<WentBack>, StoreError> {
    if theirs.log.id != mine.log.id || !(accept || theirs.log.epoch > mine.log.epoch) {
        return Err(diverged(mine, theirs));
    }
    let beginning = replica.beginning()?;
    let mut common = None;
    source.session(&mut |log| {
        common = common_point(log, &*replica.log())?;
        if common.is_none()
            && let Some(beginning) = &beginning
        {
            common = has(log, beginning)?.then_some(*beginning);
        }
        Ok(())
    })?;
    let Some(to) = common else { return Ok(None) };
    let (commits, dropped) = dropped(&*replica.log(), to.position)?;
    replica.go_back(&Checkpoint { log: theirs.log, ..to })?;
    let to = Checkpoint { log: theirs.log, ..to };
    Ok(Some(WentBack { from: *mine, theirs: *theirs, to, commits, dropped }))
}

/// What is said of a replica and a source that do not agree.
pub(super) fn diverged(mine: &Checkpoint, theirs: &Checkpoint) -> StoreError {
    StoreError::Diverged { checkpoint: Box::new(*mine), log: Box::new(*theirs) }
}

/// Whether a log has a commit that ends at this point.
fn has(log: &dyn Log, point: &Checkpoint) -> Result<bool, StoreError> {
    if log.first()? > point.position {
        return Ok(false);
    }
    let found = log.event(point.position)?.map(|(commit, _)| checkpoint(point.log, &commit));
    Ok(found.is_some_and(|found| found == *point))
}

/// How many commits a log has after a position, and the first of them.
fn dropped(log: &dyn Log, after: Position) -> Result<(u64, Vec<Dropped>), StoreError> {
    let mut named = Vec::new();
    let mut count = 0;
    let mut at = after;
    loop {
        let page = log.read(at, FOLLOW_PAGE_EVENTS)?;
        let Some(last) = page.last() else { return Ok((count, named)) };
        at = last.last();
        for commit in &page {
            count += 1;
            if named.len() < DROPPED_NAMED_MAX {
                named.push(Dropped { first: commit.first(), last: commit.last(), commit: commit.meta.id });
            }
        }
    }
}
