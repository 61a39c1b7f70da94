//! Following: a replica takes the commits of a log that somebody else writes, and keeps log and tables of its own.
//!
//! ```text
//! source ──► meet ──► read ahead ──► take (adopt + fold + apply, one transaction) ──► source ...
//!              │                         the replica's head is its checkpoint
//!              └─ diverged: go back to the last common commit, if that is allowed, and meet again
//! ```
//! Log, rows and checkpoint of a replica move in one transaction, so a follower that is killed goes on exactly where its
//! last transaction ended. Two logs are compared whenever a session begins, and every page read begins with the commit
//! that the replica ends with: a log that was replaced under the session is noticed before anything of it is taken.

mod ahead;
mod begin;
mod meet;
mod take;
mod word;

pub use begin::{BEGIN_ATTEMPTS_MAX, Beginning};
pub use meet::{Dropped, Meeting, WentBack, common_point, meet};
pub use take::{decides_quarantine, settle_quarantine, take};
pub use word::Word;

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use tasklog_log::{Checkpoint, Commit, Log, LogInfo, Millis, Position, StoreError};

use self::ahead::{Ahead, Read};
use crate::{
    is_quarantined_later,
    snapshot::{Snapshot, Snapshots},
};

/// Events in a page that is read from the source; more than a commit can have.
pub const FOLLOW_PAGE_EVENTS: usize = 4_000;
/// Pages read ahead of the fold.
pub const FOLLOW_PAGES_AHEAD: usize = 4;
/// Events after which a transaction takes no further page.
pub const FOLLOW_TRANSACTION_EVENTS: usize = 16_000;
/// How long a reader waits for new commits before it looks whether it was told to stop.
pub const FOLLOW_WAIT: Duration = Duration::from_millis(200);
/// The first pause after a source was lost; it doubles up to [`RECONNECT_PAUSE_MAX`].
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause before the next attempt to reach a source.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a session may be idle before the source is opened afresh: a path may lead to another file by then.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(1);

/// What the source has decided further on about events that are being taken, or were taken with a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Quarantined: a replica that cannot fold them passes over them now.
    pub passed_over: Vec<Position>,
    /// Not quarantined in the end, of those that are older than the replica: a decision on the way there is no reason to do
    /// anything about their rows, which it has as a snapshot had them.
    pub lifted: Vec<Position>,
}

/// A log that can be followed.
pub trait Source: Send + Sync {
    /// Opens the log, read-only, lends it to `look`, and closes it. Each call opens it afresh.
    ///
    /// # Errors
    /// `look`'s, and whatever kept the log from being opened: `unavailable` if a later attempt may succeed.
    fn session(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), StoreError>) -> Result<(), StoreError>;

    /// The source's own snapshots, as they fit what is quarantined there; none if it has no place for them.
    ///
    /// # Errors
    /// As [`Source::session`].
    fn snapshots(&self) -> Result<Option<Snapshots>, StoreError> {
        Ok(None)
    }

    /// How long a session may be idle before another one is begun.
    fn session_idle_max(&self) -> Duration {
        SESSION_IDLE_MAX
    }
}

/// A log and tables that take another log's commits. One follower owns it; readers may look at any time.
pub trait Replica {
    /// Its own log, for reading.
    fn log(&self) -> Box<dyn Log + '_>;

    /// Becomes a replica of `log`: an empty one takes over its identity, another one its epoch.
    ///
    /// # Errors
    /// `diverged` if it has events of another log; the store's.
    fn belong_to(&mut self, log: LogInfo) -> Result<(), StoreError>;

    /// Becomes a replica of the snapshot's log that has its rows and tombstones and whose log goes on after its commit; it
    /// keeps a copy of the snapshot. It is empty before. `go_on` hears how many rows and tombstones it has. The rows and the
    /// place where the log begins become what the replica is in one step: killed before it, it is empty still.
    ///
    /// # Errors
    /// `unavailable` if it cannot begin with one; `corrupt` if the snapshot was damaged; the store's, and those of `go_on`. Then
    /// it is empty still.
    fn begin_with(
        &mut self,
        snapshot: &Snapshot,
        go_on: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<Checkpoint, StoreError> {
        let _ = go_on;
        let position = snapshot.checkpoint().position;
        Err(StoreError::unavailable(format!("beginning with the snapshot at event {position}: this store cannot")))
    }

    /// The commit after which its log begins, if it began with a snapshot: it cannot go back any further.
    ///
    /// # Errors
    /// The store's.
    fn beginning(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(None)
    }

    /// Takes commits that continue its head: log, rows and checkpoint in one transaction. See [`take`].
    ///
    /// # Errors
    /// `corrupt` or `schema_ahead` for commits that cannot be folded, and the store's; then nothing was taken.
    fn take(&mut self, commits: &[Commit], decisions: &Decisions) -> Result<Checkpoint, StoreError>;

    /// Goes back to an earlier point of its own log, the end of a commit or 0, as a replica of the log that `to` names. A
    /// crash on the way leaves the old state or the new one.
    ///
    /// # Errors
    /// The store's; then nothing was changed.
    fn go_back(&mut self, to: &Checkpoint) -> Result<(), StoreError>;

    /// Hears how its follower stands, and leaves it where those find it who read the replica. What was [`Word::Seen`] may
    /// wait for the next transaction, or for a rest.
    ///
    /// # Errors
    /// The store's.
    fn hear(&mut self, word: Word<'_>) -> Result<(), StoreError> {
        let _ = word;
        Ok(())
    }

    /// Called when nothing is to be taken: time for housekeeping.
    ///
    /// # Errors
    /// The store's.
    fn rest(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// How a follower behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowOptions {
    /// Stop when the source's head was reached.
    pub once: bool,
    /// Go back to the last common commit although the source's epoch is not higher.
    pub accept_divergence: bool,
    /// An empty replica begins with the newest usable snapshot of the source, and its log after it, instead of the first event.
    /// One that has something goes on with that.
    pub from_snapshot: bool,
}

/// What a follower tells while it works.
#[derive(Debug)]
pub enum Note<'n> {
    /// Where it stands.
    Progress {
        /// What the replica has.
        at: &'n Checkpoint,
        /// The source's head, as last seen.
        source: &'n Checkpoint,
        /// How much of the log's time the replica does not have, in ms: from the first commit that it has not taken to
        /// the source's head; 0 if it has all.
        behind_ms: Millis,
    },
    /// Rows of a snapshot are being taken.
    Loading {
        /// The snapshot's commit.
        at: &'n Checkpoint,
        /// Rows and tombstones taken.
        rows: u64,
        /// Rows and tombstones of the snapshot.
        of: u64,
    },
    /// The replica has begun with a snapshot.
    Began {
        /// The snapshot's commit, after which the log of the replica begins.
        at: &'n Checkpoint,
        /// Rows and tombstones taken.
        rows: u64,
    },
    /// The replica was to go back, and what it has in common with its source lies before the beginning of what it has, or was
    /// trimmed there. An error follows.
    NoWayBack {
        /// The first position that the replica has.
        first: Position,
        /// The commit after which it began, if it began with a snapshot.
        beginning: Option<&'n Checkpoint>,
    },
    /// The source was lost; the next attempt comes by itself.
    Lost(&'n StoreError),
    /// The replica went back to the last common commit.
    WentBack(&'n WentBack),
}

/// Why a session with a source ended.
enum Ended {
    /// The head was reached, or it was told to stop.
    Done,
    /// The source is to be opened afresh.
    Again,
}

/// An error, and whether it is about the source's side.
struct Failed {
    error: StoreError,
    source: bool,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self { error, source: false }
    }
}

fn of_source(error: StoreError) -> Failed {
    Failed { error, source: true }
}

/// Follows `source` until `stop` is set, or with `once` until its head was reached; answers where the replica stands. A
/// source that was reached once and is lost is tried again, without an end; what else fails ends it.
///
/// # Errors
/// `diverged` if the two logs differ and going back is not allowed; `unavailable` if the source cannot be reached at
/// first or was trimmed beyond the replica; `corrupt` or `schema_ahead` for commits that cannot be folded; the replica's.
pub fn follow(
    source: &dyn Source,
    replica: &mut dyn Replica,
    options: FollowOptions,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<Checkpoint, StoreError> {
    let followed = sessions(source, replica, options, stop, note);
    let heard = replica.hear(followed.as_ref().map_or_else(Word::of, |()| Word::Stopped));
    if let (Err(_), Err(error)) = (&followed, &heard) {
        // Why it ended is what its caller is told.
        tracing::warn!(error = error.full(), "how the follower ended could not be left in the replica");
    }
    followed?;
    heard?;
    replica.log().head()
}

/// One session after the other, until one of them ends it all.
fn sessions(
    source: &dyn Source,
    replica: &mut dyn Replica,
    options: FollowOptions,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<(), StoreError> {
    let mut reached = false;
    let mut pause = RECONNECT_PAUSE_MIN;
    while !stop.load(Ordering::Acquire) {
        let mut met = false;
        match session(source, replica, options, stop, &mut met, note) {
            Ok(Ended::Done) => break,
            Ok(Ended::Again) => pause = RECONNECT_PAUSE_MIN,
            Err(Failed { error, source: true }) if (reached || met) && !options.once && error.is_retryable() => {
                note(Note::Lost(&error));
                replica.hear(Word::Lost(&error))?;
                if met {
                    pause = RECONNECT_PAUSE_MIN;
                }
                sleep(pause, stop);
                pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            }
            Err(Failed { error, .. }) => return Err(error),
        }
        reached |= met;
    }
    Ok(())
}

fn sleep(pause: Duration, stop: &AtomicBool) {
    let mut left = pause;
    while !left.is_zero() && !stop.load(Ordering::Acquire) {
        let step = left.min(FOLLOW_WAIT);
        thread::sleep(step);
        left -= step;
    }
}

/// Meets the source and takes its commits until something ends it.
fn session(
    source: &dyn Source,
    replica: &mut dyn Replica,
    options: FollowOptions,
    stop: &AtomicBool,
    met: &mut bool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<Ended, Failed> {
    begin::begin(source, replica, options, stop, note)?;
    if stop.load(Ordering::Acquire) {
        return Ok(Ended::Done);
    }
    let mine = replica.log().head()?;
    let mut meeting = None;
    let mut look = |log: &dyn Log| {
        meeting = Some(meet(log, &mine)?);
        Ok(())
    };
    source.session(&mut look).map_err(of_source)?;
    *met = true;
    match meeting {
        None => return Err(StoreError::unavailable("the source showed no log").into()),
        Some(Meeting::Agrees { log }) if log == mine.log => {}
        Some(Meeting::Agrees { log }) => replica.belong_to(log)?,
        Some(Meeting::Trimmed { first }) => {
            return Err(begin::out_of_reach(&mine, first, options).into());
        }
        Some(Meeting::Diverged { theirs }) => {
            let Some(went) = meet::go_back(source, replica, &mine, &theirs, options.accept_divergence)? else {
                let (first, beginning) = (replica.log().first()?, replica.beginning()?);
                note(Note::NoWayBack { first, beginning: beginning.as_ref() });
                return Err(meet::diverged(&mine, &theirs).into());
            };
            note(Note::WentBack(&went));
            return Ok(Ended::Again);
        }
    }
    let from = replica.log().head()?;
    let (sender, receiver) = sync_channel(FOLLOW_PAGES_AHEAD);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ahead = Ahead { source, from, stop: [stop, &over], sender };
        thread::Builder::new()
            .name("tasklog-read-ahead".into())
            .spawn_scoped(scope, move || ahead.run())
            .map_err(|error| StoreError::unavailable_because("starting a reader thread", error))?;
        let ended = take_pages(source, &receiver, replica, options, stop, note);
        // Both let the reader end: it may be waiting for new commits, or for room.
        over.store(true, Ordering::Release);
        drop(receiver);
        ended
    })
}

/// [`Replica::take`]. An event that cannot be folded is passed over if the source has quarantined it further on.
fn take_known(
    source: &dyn Source,
    replica: &mut dyn Replica,
    commits: &[Commit],
    decisions: &mut Decisions,
) -> Result<Checkpoint, Failed> {
    begin::look_ahead(source, replica, commits, decisions)?;
    loop {
        match replica.take(commits, decisions) {
            Err(StoreError::Corrupt { position: Some(position), why })
                if !decisions.passed_over.contains(&position) =>
            {
                let mut quarantined = false;
                let mut look = |log: &dyn Log| {
                    quarantined = is_quarantined_later(log, position, position)?;
                    Ok(())
                };
                source.session(&mut look).map_err(of_source)?;
                if !quarantined {
                    return Err(StoreError::corrupt(position, why).into());
                }
                decisions.passed_over.push(position);
            }
            taken => return Ok(taken?),
        }
    }
}

fn take_pages(
    source: &dyn Source,
    pages: &std::sync::mpsc::Receiver<Read>,
    replica: &mut dyn Replica,
    options: FollowOptions,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Note<'_>),
) -> Result<Ended, Failed> {
    let mut pending: Vec<Commit> = Vec::new();
    let mut decisions = Decisions::default();
    let mut events = 0;
    while let Ok(read) = pages.recv() {
        match read {
            Read::Page { commits, head } => {
                replica.hear(Word::Seen(&head))?;
                events += commits.iter().map(|commit| commit.events.len()).sum::<usize>();
                pending.extend(commits);
                let (Some(first), Some(last)) = (pending.first(), pending.last()) else { continue };
                if events < FOLLOW_TRANSACTION_EVENTS && last.last() < head.position {
                    continue;
                }
                let theirs = if last.last() > head.position { checkpoint(head.log, last) } else { head };
                let missing = theirs.recorded_at - first.recorded_at;
                let at = take_known(source, replica, &pending, &mut decisions)?;
                let behind_ms = if at.position < theirs.position { missing.max(0) } else { 0 };
                pending.clear();
                events = 0;
                note(Note::Progress { at: &at, source: &theirs, behind_ms });
            }
            Read::AtHead(head) => {
                // What was read before the head was reached has been taken with the page that reached it.
                if !pending.is_empty() {
                    take_known(source, replica, &pending, &mut decisions)?;
                    pending.clear();
                    events = 0;
                }
                replica.hear(Word::Seen(&head))?;
                let at = replica.log().head()?;
                note(Note::Progress { at: &at, source: &head, behind_ms: 0 });
                if options.once {
                    return Ok(Ended::Done);
                }
                replica.rest()?;
            }
            Read::Failed(error) => return Err(of_source(error)),
        }
        if stop.load(Ordering::Acquire) {
            return Ok(Ended::Done);
        }
    }
    Ok(Ended::Again)
}

/// The point of a log that a commit ends.
fn checkpoint(log: LogInfo, commit: &Commit) -> Checkpoint {
    Checkpoint { log, position: commit.last(), commit: commit.meta.id, recorded_at: commit.recorded_at }
}
