use clap::Args;
use serde_json::json;
use tasklog_log::Position;

use super::{Context, Ended};
use crate::{Error, command::CommandOptions};

/// Decide that replays pass over an event, as if it had left its row as it was: for an event that cannot be folded any more, or
/// whose checksum is wrong. The row is brought to what it is without it. The decision is an event of the log itself, `verify`
/// shows it, and it can be taken back.
///
/// Without a position, lists what replays pass over.
#[derive(Args)]
pub(crate) struct Quarantine {
    /// The event's position; several, for events of which none can be passed over if the others are not
    #[arg(requires = "reason")]
    positions: Vec<u64>,
    /// Why: it is recorded
    #[arg(long, value_name = "WHY", requires = "positions")]
    reason: Option<String>,
    /// Take the quarantine of this event back
    #[arg(long, requires = "positions")]
    lift: bool,
    /// Who decides so
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl Quarantine {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let Some(why) = self.reason.clone().filter(|_| !self.positions.is_empty()) else { return list(context) };
        let positions: Vec<Position> = self.positions.iter().copied().map(Position).collect();
        let store = context.open()?;
        let reason = Some(why.as_str().into());
        let options = CommandOptions { actor: self.actor.clone().map(Into::into), reason, ..CommandOptions::default() };
        if self.lift {
            for position in positions {
                let reply = store.lift_quarantine(position, Some(why.clone()), options.clone())?;
                self.tell(context, position, reply.changed, reply.position)?;
            }
        } else if let [position] = *positions {
            let reply = store.quarantine(position, why, options)?;
            self.tell(context, position, reply.changed, reply.position)?;
        } else {
            let reply = store.quarantine_all(&positions, &why, options)?;
            for position in positions {
                self.tell(context, position, reply.meta.changed, reply.meta.position)?;
            }
        }
        Ok(Ended::Well)
    }

    fn tell(&self, context: &Context, event: Position, changed: bool, decided: Position) -> Result<(), Error> {
        if context.out.json {
            let value = json!({ "quarantined": !self.lift, "event": event, "changed": changed, "decided": decided });
            return context.out.line(value.to_string());
        }
        let what = if self.lift { "is folded again" } else { "is passed over by replays" };
        let as_before = if changed { "" } else { ", as before" };
        context.out.line(format!("event {event} {what}{as_before}"))
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
