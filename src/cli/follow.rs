use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tasklog_log::{Checkpoint, Position, StoreError};
use tasklog_replay::follow::follow;

use super::{
    Context, Ended, on_terminal,
    output::{self, number},
    signals::stop_flag,
};
use crate::{
    Error, Rejection, StoreUrl,
    follow::{FollowOptions, FollowState, FollowStatus, Note, WentBack, open_replica, open_source},
};

/// How often the status is told where no terminal redraws it.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Keep a replica: take the log of another store as it grows, and keep the tables in step.
///
/// The replica is a store of its own that any process may read at any time; it takes no commands. A follower that was
/// stopped or killed goes on exactly where it was. SIGINT and SIGTERM end it between two transactions.
#[derive(Args)]
pub(crate) struct Follow {
    /// The store to follow
    #[arg(value_name = "URL")]
    source: StoreUrl,
    /// The replica: sqlite:PATH, created if it is not there
    #[arg(long, value_name = "URL")]
    into: StoreUrl,
    /// Stop when the source's head is reached
    #[arg(long)]
    once: bool,
    /// Begin an empty replica with the newest snapshot of the source instead of its first event: its log goes on from there
    #[arg(long)]
    from_snapshot: bool,
    /// Go back to the last common commit if the source lost what the replica has, although its epoch was not raised
    #[arg(long)]
    accept_divergence: bool,
}

impl Follow {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        if self.into == StoreUrl::Memory {
            return Err(
                Rejection::invalid("--into memory: nobody could read it; programs use TaskStore::follow").into()
            );
        }
        if self.source == self.into {
            return Err(Rejection::invalid(format!("{} cannot follow itself", self.into)).into());
        }
        let stop = stop_flag()?;
        let from = open_source(&self.source)?;
        let mut replica = open_replica(&self.into, &from)?;
        let options = FollowOptions {
            once: self.once,
            accept_divergence: self.accept_divergence,
            from_snapshot: self.from_snapshot,
        };
        let mut teller = Teller::new(context);
        let followed =
            follow(&*from.source, &mut *replica, options, &stop, &mut |note| teller.note(&note)).map_err(Error::from);
        drop(replica);
        teller.bar.finish_and_clear();
        // Whoever read the output may have gone; then there is nobody to tell how it ended either.
        teller.failed.take().map_or(Ok(()), Err)?;
        let at = followed.map_err(|error| self.explain(context, teller.no_way_back, error))?;
        teller.status.state = FollowState::Stopped;
        teller.status.position = at.position;
        teller.tell()?;
        Ok(Ended::Well)
    }

    /// A divergence needs somebody to decide: says who and how.
    fn explain(&self, context: &Context, no_way_back: Option<NoWayBack>, error: Error) -> Error {
        if let Error::Store(StoreError::Diverged { checkpoint, log }) = &error
            && !context.out.json
        {
            if let Some(NoWayBack { first, began }) = no_way_back {
                let begins = match began {
                    Some(at) => format!("which began with the snapshot of event {at} and has events {first} on"),
                    None => format!("which has events {first} on"),
                };
                eprintln!(
                    "{into} has commit {mine} at event {at}, {source} has {theirs} at event {there}.\n\
                     What they have in common is no longer in the source, or lies before the beginning of {into},\n\
                     {begins}: it cannot go back. Begin the replica again, in a new file.",
                    into = self.into,
                    source = self.source,
                    mine = checkpoint.commit,
                    at = checkpoint.position,
                    theirs = log.commit,
                    there = log.position,
                );
            } else if checkpoint.log.id == log.log.id && log.log.epoch < checkpoint.log.epoch {
                eprintln!(
                    "{into} is in epoch {mine}, {source} is in epoch {theirs}: it has what the log had before somebody \
                     accepted a loss,\nas an old primary or a backup has. Follow the store that is in epoch {mine}; bring \
                     an old primary back as a replica of it.",
                    into = self.into,
                    source = self.source,
                    mine = checkpoint.log.epoch,
                    theirs = log.log.epoch,
                );
            } else if checkpoint.log.id == log.log.id {
                eprintln!(
                    "{into} has commit {mine} at event {at}, {source} has {theirs} at event {there}.\n\
                     The source has lost commits that the replica has. If what the source has now is to stand, say so on it\n\
                     with `tasklog epoch --accept`; every follower then goes back to the last common commit by itself.\n\
                     Or let this one go back now: --accept-divergence.",
                    into = self.into,
                    source = self.source,
                    mine = checkpoint.commit,
                    at = checkpoint.position,
                    theirs = log.commit,
                    there = log.position,
                );
            } else {
                eprintln!("{} is a replica of another log than {} has: use another file.", self.into, self.source);
            }
        }
        error
    }
}

/// Why a replica cannot go back.
#[derive(Clone, Copy)]
struct NoWayBack {
    /// The first event that it has.
    first: Position,
    /// The event of the snapshot that it began with.
    began: Option<Position>,
}

/// Tells a person or a program where the follower is.
struct Teller<'c> {
    context: &'c Context,
    bar: ProgressBar,
    /// Whether a person sees the bar.
    drawn: bool,
    status: FollowStatus,
    told: Option<(Instant, FollowStatus)>,
    no_way_back: Option<NoWayBack>,
    failed: Option<Error>,
}

impl<'c> Teller<'c> {
    fn new(context: &'c Context) -> Self {
        let drawn = on_terminal() && !context.out.json;
        let bar = if drawn { output::progress(Some(0), "events") } else { ProgressBar::hidden() };
        Self { context, bar, drawn, status: FollowStatus::START, told: None, no_way_back: None, failed: None }
    }

    fn note(&mut self, note: &Note<'_>) {
        self.status.note(note);
        let told = match note {
            Note::Progress { .. } => {
                let FollowStatus { position, source_head, lag_events, lag_ms, .. } = self.status;
                self.bar.set_length(source_head.0);
                self.bar.set_position(position.0);
                self.bar.set_message(format!("lag {} events, {lag_ms} ms", number(lag_events)));
                let due = self.told.is_none_or(|(when, told)| {
                    told.state != self.status.state || (told != self.status && when.elapsed() >= STATUS_INTERVAL)
                });
                if due && !self.drawn { self.tell() } else { Ok(()) }
            }
            Note::Loading { at, rows, of } => {
                self.bar.set_length(*of);
                self.bar.set_position(*rows);
                self.bar.set_message(format!("rows of the snapshot at event {}", number(at.position.0)));
                Ok(())
            }
            Note::Began { at, rows } => self.began(at, *rows),
            Note::NoWayBack { first, beginning } => {
                let began = beginning.map(|beginning| beginning.position);
                self.no_way_back = Some(NoWayBack { first: *first, began });
                Ok(())
            }
            Note::Lost(error) => {
                self.bar.set_message(error.full());
                tracing::warn!(error = error.full(), "the source was lost, trying again");
                if self.drawn { Ok(()) } else { self.tell() }
            }
            Note::WentBack(went) => self.went_back(went),
        };
        if let Err(error) = told {
            self.failed.get_or_insert(error);
        }
    }

    fn tell(&mut self) -> Result<(), Error> {
        let FollowStatus { position, source_head, lag_events, lag_ms, state } = self.status;
        self.told = Some((Instant::now(), self.status));
        let out = self.context.out;
        if out.json {
            return out.line(
                json!({
                    "state": state.as_str(), "position": position, "source_head": source_head,
                    "lag_events": lag_events, "lag_ms": lag_ms,
                })
                .to_string(),
            );
        }
        let doing = state.as_str().replace('_', " ");
        let (position, source) = (number(position.0), number(source_head.0));
        out.line(format!("{doing}: at event {position} of {source}, lag {} events, {lag_ms} ms", number(lag_events)))
    }

    fn began(&mut self, at: &Checkpoint, rows: u64) -> Result<(), Error> {
        let out = self.context.out;
        if out.json {
            let value = json!({
                "state": "began", "snapshot": at.position, "snapshot_commit_id": at.commit, "rows_and_tombstones": rows,
            });
            return out.line(value.to_string());
        }
        self.bar.suspend(|| {
            out.line(format!(
                "began with the snapshot of event {} ({} rows and tombstones): the log here begins at event {}",
                number(at.position.0),
                number(rows),
                number(at.position.next().0)
            ))
        })
    }

    fn went_back(&mut self, went: &WentBack) -> Result<(), Error> {
        let out = self.context.out;
        let WentBack { from, theirs, to, commits, dropped } = went;
        if out.json {
            let dropped: Vec<_> = dropped
                .iter()
                .map(|one| json!({ "first": one.first, "last": one.last, "commit_id": one.commit }))
                .collect();
            return out.line(
                json!({
                    "state": "went_back", "from": from.position, "from_commit_id": from.commit,
                    "source_commit_id": theirs.commit, "to": to.position, "to_commit_id": to.commit,
                    "epoch": to.log.epoch, "dropped_commits": commits, "dropped": dropped,
                })
                .to_string(),
            );
        }
        self.bar.suspend(|| {
            out.line(format!(
                "went back from event {} to event {} (commit {}), epoch {}; {} commits are not in the source any more:",
                from.position,
                to.position,
                to.commit,
                to.log.epoch,
                number(*commits)
            ))?;
            for one in dropped {
                out.line(format!("  events {} to {}: commit {}", one.first, one.last, one.commit))?;
            }
            let further = commits.saturating_sub(dropped.len() as u64);
            if further > 0 { out.line(format!("  and {} further commits", number(further))) } else { Ok(()) }
        })
    }
}
