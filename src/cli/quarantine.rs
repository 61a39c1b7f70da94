use clap::Args;
use serde_json::json;
use tasklog_log::Position;

use super::{Context, Ended};
use crate::{Error, command::CommandOptions};

/// Decide that replays pass over an event, as if it had left its row as it was: for an event that cannot be folded any more.
/// The row is brought to what it is without it. The decision is an event of the log itself, `verify` shows it, and it can be
/// taken back.
///
/// Without a position, lists what replays pass over.
#[derive(Args)]
pub(crate) struct Quarantine {
    /// The event's position
    #[arg(requires = "reason")]
    position: Option<u64>,
    /// Why: it is recorded
    #[arg(long, value_name = "WHY", requires = "position")]
    reason: Option<String>,
    /// Take the quarantine of this event back
    #[arg(long, requires = "position")]
    lift: bool,
    /// Who decides so
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl Quarantine {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let Some((position, why)) = self.position.map(Position).zip(self.reason.clone()) else {
            return list(context);
        };
        let store = context.open()?;
        let reason = Some(why.as_str().into());
        let options = CommandOptions { actor: self.actor.map(Into::into), reason, ..CommandOptions::default() };
        let reply = if self.lift {
            store.lift_quarantine(position, Some(why), options)?
        } else {
            store.quarantine(position, why, options)?
        };
        if context.out.json {
            let value = json!({
                "quarantined": !self.lift, "event": position, "changed": reply.changed, "decided": reply.position,
            });
            context.out.line(value.to_string())?;
        } else {
            let what = if self.lift { "is folded again" } else { "is passed over by replays" };
            let as_before = if reply.changed { "" } else { ", as before" };
            context.out.line(format!("event {position} {what}{as_before}"))?;
        }
        Ok(Ended::Well)
    }
}

fn list(context: &Context) -> Result<Ended, Error> {
    let quarantined = context.open_to_read()?.quarantined()?;
    for one in &quarantined {
        if context.out.json {
            let value = json!({ "event": one.position, "why": one.why, "decided": one.decided });
            context.out.line(value.to_string())?;
        } else {
            context.out.line(format!("event {}: {} (decided by event {})", one.position, one.why, one.decided))?;
        }
    }
    if quarantined.is_empty() && !context.out.json {
        context.out.line("no event is quarantined")?;
    }
    Ok(Ended::Well)
}
