use clap::Args;
use serde_json::json;
use tasklog_log::StoreError;
use tasklog_projections::{TABLES, TableDef};
use tasklog_replay::{Cause, Counts, Difference, Fate, RowDiff, compare};

use super::{
    Context, Ended,
    at::told,
    fields,
    mask::Mask,
    output::{HEAD, number},
    rows::{parse_table, shown_value},
};
use crate::{
    Access, Error, OpenOptions, Rejection, StoreUrl, TaskStore,
    store::{Differed, Scope, When},
};

/// Tell which rows were added, removed or changed between two moments, field by field, with the events responsible; or, with
/// --with, which live rows of two stores differ.
#[derive(Args)]
pub(crate) struct Diff {
    /// The earlier moment: a position, an RFC 3339 time, or how long ago, such as -15m
    #[arg(value_name = "FROM", allow_hyphen_values = true, required_unless_present = "with", conflicts_with = "with")]
    from: Option<When>,
    /// The later moment
    #[arg(value_name = "TO", allow_hyphen_values = true, required_unless_present = "with")]
    to: Option<When>,
    /// Only this table
    #[arg(value_name = "TABLE", value_parser = parse_table)]
    only: Option<&'static TableDef>,
    /// Only this table, too
    #[arg(long, value_name = "TABLE", value_parser = parse_table, conflicts_with = "only")]
    table: Option<&'static TableDef>,
    /// Only the row with this key
    #[arg(long)]
    key: Option<String>,
    /// Compare the live rows with those of another store, such as a fork of this one; positions are compared only if both
    /// have the same log
    #[arg(long, value_name = "URL")]
    with: Option<StoreUrl>,
}

impl Diff {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let only = self.only.or(self.table);
        if self.key.is_some() && only.is_none() {
            return Err(Rejection::invalid("--key: name the table as well").into());
        }
        let tables = only.map_or_else(|| TABLES.to_vec(), |table| vec![table]);
        let store = context.open_to_read()?;
        let mut tell = Tell { context, mask: Mask::new(context.out.show_sensitive) };
        if let Some(with) = &self.with {
            return self.stores(&store, with, &tables, &mut tell);
        }
        let (Some(from), Some(to)) = (self.from, self.to) else {
            return Err(Rejection::invalid("two moments are needed").into());
        };
        let scope = match (&self.key, only) {
            (Some(key), Some(table)) => Scope::Row(table, key),
            _ => Scope::Tables(&tables),
        };
        let Differed { from: earlier, to: later, counts } =
            store.diff(from, to, scope, &mut |differs| tell.row(&differs))?;
        let Counts { added, removed, died, changed, unchanged, events } = counts;
        if context.out.json {
            let value = json!({
                "from": earlier.at.position, "to": later.at.position, "events": events, "added": added,
                "removed": removed, "died": died, "changed": changed, "unchanged": unchanged,
            });
            context.out.line(value.to_string())?;
        } else {
            context.out.line(format!(
                "{} added, {} removed, {} died, {} changed, {} touched without a difference; {} events, from {} to {}",
                number(added),
                number(removed),
                number(died),
                number(changed),
                number(unchanged),
                number(events),
                told(&earlier),
                told(&later),
            ))?;
        }
        Ok(Ended::Well)
    }

    fn stores(
        &self,
        store: &TaskStore,
        with: &StoreUrl,
        tables: &[&'static TableDef],
        tell: &mut Tell<'_>,
    ) -> Result<Ended, Error> {
        let other = TaskStore::open_with(with, OpenOptions { access: Access::Read, ..OpenOptions::default() })?;
        let (mut here, mut there, mut differ) = (0_u64, 0_u64, 0_u64);
        let (head, other_head) = store.read(|log, ours| {
            other.read(|other_log, theirs| {
                let same_log = log.info()?.id == other_log.info()?.id;
                // Both are looked at as of one instant, the later one.
                let now = log.now()?.max(other_log.now()?);
                for table in tables {
                    let mut last = None;
                    let mut failed = None;
                    compare(table, ours, theirs, now, |difference| {
                        if failed.is_some() || self.key.as_ref().is_some_and(|key| difference.entity().1 != key) {
                            return;
                        }
                        let first = last.as_deref() != Some(difference.entity().1);
                        match &difference {
                            Difference::Stray { .. } => here += 1,
                            Difference::Missing { .. } => there += 1,
                            Difference::Column { column, .. } => {
                                if !same_log && (*column == "_rev" || table.positions.contains(column)) {
                                    return;
                                }
                                differ += u64::from(first);
                            }
                            Difference::Unreadable { why, .. } => {
                                let why = format!("a row of {}: {why}", table.name);
                                failed = Some(StoreError::corrupt_store(why).into());
                                return;
                            }
                        }
                        last = Some(difference.entity().1.to_owned());
                        failed = tell.difference(table, &difference, first).err();
                    })?;
                    failed.map_or(Ok(()), Err)?;
                }
                Ok((log.head()?, other_log.head()?))
            })
        })?;
        let out = tell.context.out;
        if out.json {
            let value = json!({
                "head": head.position, "with_head": other_head.position, "only_here": here, "only_there": there,
                "changed": differ,
            });
            out.line(value.to_string())?;
        } else {
            out.line(format!(
                "{} rows only in {}, {} only in {with}, {} that differ; the logs end at event {} and event {}",
                number(here),
                tell.context.url,
                number(there),
                number(differ),
                number(head.position.0),
                number(other_head.position.0),
            ))?;
        }
        Ok(Ended::Well)
    }
}

/// Tells differences to a person or a program.
struct Tell<'c> {
    context: &'c Context,
    mask: Mask,
}

impl Tell<'_> {
    fn row(&mut self, differs: &RowDiff) -> Result<(), Error> {
        let RowDiff { table, key, fate, fields, causes, events } = differs;
        let key = self.mask.key(table, key);
        let out = self.context.out;
        let (sign, word) = match fate {
            Fate::Added => ('+', "added"),
            Fate::Removed => ('-', "removed"),
            Fate::Died => ('-', "died"),
            Fate::Changed => ('~', "changed"),
        };
        if out.json {
            let causes: Vec<_> = causes
                .iter()
                .map(|Cause { meta, recorded_at, position, event_type }| {
                    json!({
                        "position": position, "type": event_type, "commit_id": meta.id, "recorded_at": recorded_at,
                        "actor": &*meta.actor, "reason": meta.reason, "request_id": meta.request_id,
                    })
                })
                .collect();
            let fields = fields::changes_json(table, fields, &mut self.mask)?;
            return out.line(
                json!({
                    "table": table.name, "key": key, "fate": word, "fields": fields, "events": events, "causes": causes,
                })
                .to_string(),
            );
        }
        out.line(format!("{}{sign} {}/{key}{}  {word}", HEAD.render(), table.name, HEAD.render_reset()))?;
        fields::tell_changes(out, table, fields, &mut self.mask)?;
        let further = events.saturating_sub(causes.len() as u64);
        if further > 0 {
            out.line(fields::faint(format!("    {} earlier events, and", number(further))))?;
        }
        for Cause { meta, recorded_at, position, event_type } in causes {
            let by = fields::origin(meta, *recorded_at);
            out.line(fields::faint(format!("    #{position} {event_type}  {by}")))?;
        }
        if *events == 0 {
            out.line(fields::faint("    its time was over: no event did that"))?;
        }
        Ok(())
    }

    fn difference(&mut self, table: &'static TableDef, difference: &Difference, first: bool) -> Result<(), Error> {
        let key = self.mask.key(table, difference.entity().1);
        let out = self.context.out;
        let (sign, word) = match difference {
            Difference::Stray { .. } => ('-', "only_here"),
            Difference::Missing { .. } => ('+', "only_there"),
            Difference::Column { .. } | Difference::Unreadable { .. } => ('~', "changed"),
        };
        let column = match difference {
            Difference::Column { column, live, replayed, .. } => {
                let here = fields::value(table, column, Some(live), &mut self.mask)?;
                let there = fields::value(table, column, Some(replayed), &mut self.mask)?;
                Some((*column, here, there))
            }
            _ => None,
        };
        if out.json {
            let mut line = json!({ "table": table.name, "key": key, "fate": word });
            if let Some((column, here, there)) = column {
                line["field"] = column.into();
                line["here"] = here;
                line["there"] = there;
            }
            return out.line(line.to_string());
        }
        if first {
            let word = word.replace('_', " ");
            out.line(format!("{}{sign} {}/{key}{}  {word}", HEAD.render(), table.name, HEAD.render_reset()))?;
        }
        if let Some((column, here, there)) = column {
            let (here, there) = (shown_value(&here.to_string()), shown_value(&there.to_string()));
            out.line(format!("    {column:<22} {here} → {there}"))?;
        }
        Ok(())
    }
}
