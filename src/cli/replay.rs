mod stepper;

use std::io::IsTerminal;

use clap::Args;
use console::{Key, Term};
use serde_json::json;
use tasklog_log::{Commit, Event, Log, Position, READ_EVENTS_MAX};
use tasklog_projections::{Cell, TableDef, table};
use tasklog_replay::{Past, Step, Steps};

use self::stepper::{Press, Seek, Stepper, Turn};
use super::{
    Context, Ended, fields,
    mask::Mask,
    on_terminal,
    output::{self, HEAD},
    rows::{parse_table, shown_value},
};
use crate::{Error, Rejection, TaskStore, store::When};

/// Step through events, with the row before and after each: interactive on a terminal, one after the other in a pipe.
#[derive(Args)]
pub(crate) struct Replay {
    /// The first event: its position, or what comes after a time; the log's first one if not given
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    from: Option<When>,
    /// The last event: its position, or what came until a time; the newest one if not given
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    to: Option<When>,
    /// Only events of this table
    #[arg(long, value_parser = parse_table)]
    table: Option<&'static TableDef>,
    /// Only events of the row with this key
    #[arg(long)]
    key: Option<String>,
    /// One after the other, also on a terminal
    #[arg(long)]
    plain: bool,
}

/// An event with its commit.
type Place = (Commit, usize);

impl Replay {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let first = match self.from {
            Some(When::Position(position)) => position,
            Some(when) => store.find_moment(when)?.at.position.next(),
            None => store.read(|log, _| Ok(log.first()?))?,
        };
        let last = store.find_moment(self.to.unwrap_or(When::Ago(0)))?.at.position;
        if first > last {
            return Err(Rejection::invalid(format!("there is no event from {first} to {last}")).into());
        }
        let first = first.max(Position(1));
        if context.out.json || self.plain || !on_terminal() || !std::io::stdin().is_terminal() {
            self.all(context, &store, first, last)?;
        } else {
            self.interactive(context, &store, first, last)?;
        }
        Ok(Ended::Well)
    }

    fn wants(&self, event: &Event) -> bool {
        self.table.is_none_or(|table| *event.table == *table.name)
            && self.key.as_ref().is_none_or(|key| *event.key == **key)
    }

    fn all(&self, context: &Context, store: &TaskStore, first: Position, last: Position) -> Result<(), Error> {
        let (passed_over, snapshots) = (store.passed_over()?, store.snapshots()?);
        let mut mask = Mask::new(context.out.show_sensitive);
        store.read(|log, _| {
            let mut steps = Steps::new(Past { log, passed_over: &passed_over, snapshots: Some(&snapshots) });
            let mut after = first.before();
            while after < last {
                let page = log.read(after, READ_EVENTS_MAX)?;
                let Some(end) = page.last() else { break };
                after = end.last();
                for commit in &page {
                    for (index, event) in commit.events.iter().enumerate() {
                        let within = event.position >= first && event.position <= last;
                        let Some(table) = table(&event.table).filter(|_| within && self.wants(event)) else { continue };
                        let step = steps.step(table, commit, index)?;
                        if context.out.json {
                            context.out.line(as_json(table, &step, &mut mask)?)?;
                        } else {
                            for line in told(table, &step, &mut mask)? {
                                context.out.line(line)?;
                            }
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn interactive(&self, context: &Context, store: &TaskStore, first: Position, last: Position) -> Result<(), Error> {
        let (passed_over, snapshots) = (store.passed_over()?, store.snapshots()?);
        let mut mask = Mask::new(context.out.show_sensitive);
        let term = Term::stdout();
        let failed = |error| output::io("talking to the terminal", error);
        let mut stepper = Stepper::new(first, last);
        let mut shown = self.seek(store, &stepper, Seek::At(first), None)?;
        let Some((commit, index)) = &shown else {
            return context.out.line("there is no such event");
        };
        stepper.arrived(Some(commit.events[*index].position));
        loop {
            if let Some((commit, index)) = &shown
                && let Some(table) = table(&commit.events[*index].table)
            {
                let step = store.read(|log, _| {
                    Ok(Steps::new(Past { log, passed_over: &passed_over, snapshots: Some(&snapshots) })
                        .step(table, commit, *index)?)
                })?;
                term.clear_screen().map_err(failed)?;
                for line in told(table, &step, &mut mask)? {
                    context.out.line(line)?;
                }
            }
            context.out.line("")?;
            context.out.line(fields::faint(stepper.prompt()))?;
            match stepper.press(pressed(term.read_key().map_err(failed)?)) {
                Turn::Stay => {}
                Turn::Quit => return Ok(()),
                Turn::Seek(seek) => {
                    let found = self.seek(store, &stepper, seek, shown.as_ref())?;
                    stepper.arrived(found.as_ref().map(|(commit, index)| commit.events[*index].position));
                    shown = found.or(shown);
                }
            }
        }
    }

    /// Finds the event that a step leads to, within the range and among those that are wanted.
    fn seek(
        &self,
        store: &TaskStore,
        stepper: &Stepper,
        seek: Seek,
        shown: Option<&Place>,
    ) -> Result<Option<Place>, Error> {
        let (first, last) = stepper.range();
        let same = |event: &Event| {
            let here = shown.map(|(commit, index)| &commit.events[*index]);
            here.is_some_and(|here| here.table == event.table && here.key == event.key)
        };
        let wanted = |event: &Event| self.wants(event);
        store.read(|log, _| match seek {
            Seek::At(at) => match forwards(log, at, last, &wanted)? {
                Some(found) => Ok(Some(found)),
                None => backwards(log, at, first, &wanted),
            },
            Seek::After(at) => forwards(log, at.next(), last, &wanted),
            Seek::Before(at) => backwards(log, at, first, &wanted),
            Seek::EntityAfter(at) => forwards(log, at.next(), last, &same),
            Seek::EntityBefore(_) => {
                let prev = shown.and_then(|(commit, index)| commit.events[*index].prev).filter(|prev| *prev >= first);
                Ok(prev.map(|prev| log.event(prev)).transpose()?.flatten())
            }
        })
    }
}

/// The first wanted event from `at` through `last`.
fn forwards(
    log: &dyn Log,
    at: Position,
    last: Position,
    wanted: &dyn Fn(&Event) -> bool,
) -> Result<Option<Place>, Error> {
    let mut after = at.before();
    // Next to each other, most of the time.
    let mut limit = 1;
    while after < last {
        let page = log.read(after, limit)?;
        let Some(end) = page.last() else { break };
        for commit in &page {
            let found = commit.events.iter().position(|event| event.position > after && wanted(event));
            if let Some(index) = found {
                return Ok((commit.events[index].position <= last).then(|| (commit.clone(), index)));
            }
        }
        after = end.last();
        limit = READ_EVENTS_MAX;
    }
    Ok(None)
}

/// The last wanted event before `at`, not before `first`.
fn backwards(
    log: &dyn Log,
    at: Position,
    first: Position,
    wanted: &dyn Fn(&Event) -> bool,
) -> Result<Option<Place>, Error> {
    let mut until = at;
    let mut span = 1;
    while until > first {
        let from = Position(until.0.saturating_sub(span)).max(first);
        let mut found = None;
        let mut after = from.before();
        while after.next() < until {
            let page = log.read(after, span as usize)?;
            let Some(end) = page.last() else { break };
            for commit in &page {
                for (index, event) in commit.events.iter().enumerate() {
                    if event.position >= from && event.position < until && wanted(event) {
                        found = Some((commit.clone(), index));
                    }
                }
            }
            after = end.last();
        }
        if found.is_some() {
            return Ok(found);
        }
        until = from;
        span = READ_EVENTS_MAX as u64;
    }
    Ok(None)
}

fn pressed(key: Key) -> Press {
    match key {
        Key::ArrowRight | Key::ArrowDown | Key::PageDown | Key::Char('n' | 'l' | 'j' | ' ') => Press::Forward,
        Key::ArrowLeft | Key::ArrowUp | Key::PageUp | Key::Char('p' | 'h' | 'k') => Press::Back,
        Key::Char('e') => Press::NextOfEntity,
        Key::Char('E') => Press::PreviousOfEntity,
        Key::Home => Press::First,
        Key::End => Press::Last,
        Key::Char(digit) if digit.is_ascii_digit() => Press::Digit(digit),
        Key::Backspace => Press::Erase,
        Key::Enter => Press::Enter,
        Key::Escape => Press::Escape,
        Key::Char('q') | Key::CtrlC => Press::Quit,
        _ => Press::Other,
    }
}

/// An event and its row, a line a field: changed ones as `before → after`.
fn told(table: &TableDef, step: &Step, mask: &mut Mask) -> Result<Vec<String>, Error> {
    let key = mask.key(table, &step.event.key);
    let by = fields::origin(&step.meta, step.recorded_at);
    let mut lines = vec![format!(
        "{}#{} {}{}  {}/{key}  {by}",
        HEAD.render(),
        step.event.position,
        step.event.event_type,
        HEAD.render_reset(),
        table.name,
    )];
    let row = step.after.as_ref().or(step.before.as_ref());
    for (column, cell) in table.columns.iter().zip(row.map(|row| row.cells()).into_iter().flatten()) {
        if let Some(change) = step.changes.iter().find(|change| change.column == column.name) {
            let old = fields::value(table, change.column, change.old.as_ref(), mask)?;
            let new = fields::value(table, change.column, change.new.as_ref(), mask)?;
            let (old, new) = (shown_value(&old.to_string()), shown_value(&new.to_string()));
            lines.push(format!("    {:<22} {old} → {new}", column.name));
        } else if !column.key && cell != Cell::Null {
            let text = tasklog_projections::cell_json(column, &cell).map_or_else(|why| why, |json| json.to_string());
            let value = fields::value(table, column.name, Some(&text), mask)?;
            lines.push(fields::faint(format!("    {:<22} {}", column.name, shown_value(&value.to_string()))));
        }
    }
    if !step.exists {
        lines.push("    the row is gone".into());
    }
    Ok(lines)
}

fn as_json(table: &TableDef, step: &Step, mask: &mut Mask) -> Result<String, Error> {
    let key = mask.key(table, &step.event.key);
    Ok(json!({
        "position": step.event.position, "commit_id": step.meta.id, "recorded_at": step.recorded_at,
        "actor": &*step.meta.actor, "reason": step.meta.reason, "request_id": step.meta.request_id,
        "table": table.name, "key": key, "type": &*step.event.event_type, "prev": step.event.prev,
        "before": fields::row_json(table, step.before.as_ref(), mask)?,
        "after": fields::row_json(table, step.after.as_ref(), mask)?,
        "changes": fields::changes_json(table, &step.changes, mask)?,
    })
    .to_string())
}
