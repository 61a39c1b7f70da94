use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tasklog_log::{Commit, Event, Log, Position, READ_EVENTS_MAX};
use tasklog_projections::TableDef;
use tasklog_replay::{Step, history};

use super::{
    Context, Ended,
    at::AsOf,
    fields,
    mask::Mask,
    output::{self, FAINT, HEAD},
    rows::{parse_table, shown_value},
};
use crate::{
    Error, Rejection, TaskStore,
    show::events::{event_json, payload, step_json},
};

/// How long `--follow` waits before it looks whether it was told to stop.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);

/// Show the audit trail, oldest event first.
#[derive(Args)]
pub(crate) struct LogArgs {
    /// Only events after this position (exclusive); with --reverse, before it
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// At most this many events
    #[arg(long)]
    limit: Option<usize>,
    /// Only this table
    #[arg(long, value_parser = parse_table)]
    table: Option<&'static TableDef>,
    /// Only this row key
    #[arg(long)]
    key: Option<String>,
    /// Only this event type
    #[arg(long = "type", value_name = "EVENT")]
    event_type: Option<String>,
    /// Only this actor
    #[arg(long)]
    actor: Option<String>,
    /// Go on with new events as they are committed
    #[arg(long, conflicts_with = "reverse")]
    follow: bool,
    /// Newest event first
    #[arg(long)]
    reverse: bool,
}

/// Tell everything that happened to one row: when, who, why, and what changed, field by field.
#[derive(Args)]
pub(crate) struct HistoryArgs {
    /// The table
    #[arg(value_parser = parse_table)]
    table: &'static TableDef,
    /// The row key, also of a row that is gone
    key: String,
    #[command(flatten)]
    as_of: AsOf,
}

impl LogArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let mut mask = Mask::new(context.out.show_sensitive);
        let mut left = self.limit.unwrap_or(usize::MAX);
        if self.reverse {
            self.backwards(context, &store, &mut mask, &mut left)?;
        } else {
            let reached = self.forwards(context, &store, &mut mask, Position(self.after.unwrap_or(0)), &mut left)?;
            if self.follow {
                self.follow(context, &store, &mut mask, reached, &mut left)?;
            }
        }
        Ok(Ended::Well)
    }

    fn forwards(
        &self,
        context: &Context,
        store: &TaskStore,
        mask: &mut Mask,
        mut after: Position,
        left: &mut usize,
    ) -> Result<Position, Error> {
        loop {
            let page = store.read(|log, _| Ok(log.read(after, READ_EVENTS_MAX)?))?;
            let Some(last) = page.last() else { return Ok(after) };
            let reached = last.last();
            for commit in &page {
                for event in commit.events.iter().filter(|event| event.position > after && self.wants(commit, event)) {
                    if *left == 0 {
                        return Ok(event.position);
                    }
                    *left -= 1;
                    show(context, mask, commit, event)?;
                }
            }
            after = reached;
        }
    }

    fn backwards(&self, context: &Context, store: &TaskStore, mask: &mut Mask, left: &mut usize) -> Result<(), Error> {
        let head = store.head()?;
        let mut until = self.after.map_or(head.0 + 1, |after| after.min(head.0 + 1));
        while until > 1 && *left > 0 {
            let from = until.saturating_sub(READ_EVENTS_MAX as u64).max(1);
            let page = store.read(|log, _| page_between(log, Position(from), Position(until)))?;
            let events = page.iter().flat_map(|commit| commit.events.iter().map(move |event| (commit, event)));
            let wanted: Vec<_> = events
                .filter(|(_, event)| (from..until).contains(&event.position.0))
                .filter(|(commit, event)| self.wants(commit, event))
                .collect();
            for (commit, event) in wanted.into_iter().rev().take(*left) {
                *left -= 1;
                show(context, mask, commit, event)?;
            }
            until = from;
        }
        Ok(())
    }

    fn follow(
        &self,
        context: &Context,
        store: &TaskStore,
        mask: &mut Mask,
        mut after: Position,
        left: &mut usize,
    ) -> Result<(), Error> {
        while *left > 0 {
            store.wait(after, FOLLOW_WAIT)?;
            after = self.forwards(context, store, mask, after, left)?;
        }
        Ok(())
    }

    fn wants(&self, commit: &Commit, event: &Event) -> bool {
        self.table.is_none_or(|table| *event.table == *table.name)
            && self.key.as_ref().is_none_or(|key| *event.key == **key)
            && self.event_type.as_ref().is_none_or(|wanted| *event.event_type == **wanted)
            && self.actor.as_ref().is_none_or(|actor| *commit.meta.actor == **actor)
    }
}

fn page_between(log: &dyn Log, from: Position, until: Position) -> Result<Vec<Commit>, Error> {
    let mut page = Vec::new();
    let mut after = from.before();
    while after.next() < until {
        let read = log.read(after, (until.0 - after.0) as usize)?;
        let Some(last) = read.last() else { break };
        after = last.last();
        page.extend(read);
    }
    Ok(page)
}

pub(super) fn show(context: &Context, mask: &mut Mask, commit: &Commit, event: &Event) -> Result<(), Error> {
    if context.out.json {
        return context.out.line(event_json(mask, commit, event).to_string());
    }
    let (key, payload) = payload(event, mask);
    let meta = &commit.meta;
    let why = meta.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    context.out.line(format!(
        "{:>8}  {}  {}{}{}  {}/{key}  {}{} by {}{why}{}",
        event.position,
        output::time(commit.recorded_at),
        HEAD.render(),
        event.event_type,
        HEAD.render_reset(),
        event.table,
        compact(&payload),
        FAINT.render(),
        meta.actor,
        FAINT.render_reset(),
    ))
}

fn compact(payload: &Value) -> String {
    let Value::Object(members) = payload else { return payload.to_string() };
    let shown = members.iter().map(|(name, value)| format!("{name}={}", shown_value(&value.to_string())));
    shown.collect::<Vec<_>>().join(" ")
}

impl HistoryArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = self.as_of.open(context)?;
        let steps = store.read(|log, view| Ok(history(log, view, self.table, &self.key)?))?;
        if steps.is_empty() {
            return Err(
                Rejection::not_found(format!("the log has no event of {}/{}", self.table.name, self.key)).into()
            );
        }
        let mut mask = Mask::new(context.out.show_sensitive);
        for step in &steps {
            if context.out.json {
                context.out.line(step_json(self.table, step, &mut mask)?.to_string())?;
            } else {
                self.tell(context, step, &mut mask)?;
            }
        }
        Ok(Ended::Well)
    }

    fn tell(&self, context: &Context, step: &Step, mask: &mut Mask) -> Result<(), Error> {
        let why = step.meta.reason.as_ref().map(|reason| format!(", because {reason}")).unwrap_or_default();
        context.out.line(format!(
            "{}#{} {}{}  {}  by {}{why}",
            HEAD.render(),
            step.event.position,
            step.event.event_type,
            HEAD.render_reset(),
            output::time(step.recorded_at),
            step.meta.actor,
        ))?;
        fields::tell_changes(context.out, self.table, &step.changes, mask)?;
        if step.quarantined {
            context.out.line("    quarantined: replays pass over it")?;
        }
        if !step.exists {
            context.out.line("    the row is gone")?;
        }
        Ok(())
    }
}
