use clap::Args;
use serde_json::json;
use tasklog_log::AcceptedEpoch;

use super::{Context, Ended, output};
use crate::Error;

/// Show which log a store has and in which epoch it is; or begin the next epoch.
///
/// A server or a file that lost commits (a replica was promoted, a backup was restored) is refused by every writer and
/// follower that had seen them. `--accept` says that what the log has now is to stand: then writers forget what they knew
/// and go on, and followers go back to the last commit that both have. Look at the followers first: they may hold the
/// only copy of what was lost.
#[derive(Args)]
pub(crate) struct Epoch {
    /// Begin the next epoch: what the log has now is to stand
    #[arg(long)]
    accept: bool,
    /// Why; kept beside the epoch
    #[arg(long, requires = "accept", value_name = "TEXT")]
    reason: Option<String>,
    /// Who accepts it
    #[arg(long, requires = "accept", value_name = "NAME")]
    actor: Option<String>,
}

impl Epoch {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        // Read first: accepting a loss must never give birth to another log where none is.
        let mut store = context.open_to_read()?;
        let before = store.epoch()?.head.log.epoch;
        if self.accept {
            store = context.open()?;
            store.accept_epoch(self.actor.as_deref(), self.reason.as_deref())?;
        }
        let epoch = store.epoch()?;
        let out = context.out;
        if out.json {
            let accepted: Vec<_> = epoch
                .accepted
                .iter()
                .map(|one| {
                    json!({
                        "epoch": one.epoch, "position": one.position, "commit_id": one.commit,
                        "accepted_at": one.accepted_at, "actor": one.actor, "reason": one.reason,
                    })
                })
                .collect();
            let value = json!({
                "log_id": epoch.head.log.id, "epoch": epoch.head.log.epoch, "before": before,
                "head": epoch.head.position, "head_commit_id": epoch.head.commit, "born_at": epoch.born_at,
                "accepted": accepted,
            });
            out.line(value.to_string())?;
            return Ok(Ended::Well);
        }
        let line = |name: &str, value: String| out.line(format!("{name:<12} {value}"));
        line("log id", epoch.head.log.id.to_string())?;
        line(
            "epoch",
            if self.accept {
                format!("{}, before {before}", epoch.head.log.epoch)
            } else {
                epoch.head.log.epoch.to_string()
            },
        )?;
        let since = match (epoch.begun(), epoch.born_at) {
            (Some(begun), _) => told(begun),
            (None, Some(born_at)) if epoch.head.log.epoch == 1 => {
                format!("{}, when it was born", output::time(born_at))
            }
            (None, _) if epoch.head.log.epoch == 1 => "its birth".to_owned(),
            (None, _) => "not known here: it was taken over from the log that this one is a copy of".to_owned(),
        };
        line("since", since)?;
        line("newest", format!("event {} ({})", epoch.head.position, epoch.head.commit))?;
        for one in epoch.accepted.iter().rev().skip(usize::from(epoch.begun().is_some())) {
            line("before that", format!("epoch {} since {}", one.epoch, told(one)))?;
        }
        Ok(Ended::Well)
    }
}

fn told(one: &AcceptedEpoch) -> String {
    let AcceptedEpoch { position, commit, accepted_at, actor, reason, .. } = one;
    let because = reason.as_ref().map_or_else(String::new, |reason| format!(", because {reason}"));
    format!("{}, accepted by {actor} at event {position} ({commit}){because}", output::time(*accepted_at))
}
