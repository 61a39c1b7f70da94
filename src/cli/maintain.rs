use std::time::Instant;

use clap::Args;
use serde_json::json;
use tasklog_log::{Position, note::VerifierKey, redis::RedisUrl};
use tasklog_projections::{PROJECTED, TABLES, TableDef};

use super::{
    Context, Ended, against,
    mask::Mask,
    output::{self, BAD, GOOD, number},
    proof_files::{self, CheckpointFile},
    rows::parse_table,
};
use crate::{
    Error, Rejection, StoreUrl,
    store::{self, Begin, redis},
};

/// Check that positions are dense, every checksum and every link holds, and that a replay of the log into fresh tables
/// gives exactly the live ones. The events are compared with the Merkle tree that was kept of them, too. In a file, its
/// pages, indexes, side tables and heads are checked as well. Nothing is written, not even what an upgrade would.
#[derive(Args)]
pub(crate) struct Verify {
    /// Prove instead that everything this checkpoint covers is unchanged: compute its root from the events
    #[arg(long, value_name = "CHECKPOINTFILE", value_parser = proof_files::checkpoint)]
    against: Option<CheckpointFile>,
    /// The verifier key that must have signed the checkpoint
    #[arg(long, value_name = "VERIFIERKEY", requires = "against", value_parser = proof_files::verifier_key)]
    key: Option<VerifierKey>,
}

/// Rebuild tables from the log, while readers go on. One that was interrupted goes on where it had come to.
#[derive(Args)]
pub(crate) struct Rebuild {
    /// The tables; all of them if none is named
    #[arg(value_parser = parse_table)]
    tables: Vec<&'static TableDef>,
    /// Begin with the newest usable snapshot instead of the first event
    #[arg(long)]
    from_snapshot: bool,
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        if let Some(checkpoint) = &self.against {
            return against::verify(context, checkpoint, self.key.as_ref());
        }
        let store = context.open_to_look()?;
        let began = Instant::now();
        let bar = output::progress(store.head().ok().map(|head| head.0), "events");
        let report = store.verify(|position| bar.set_position(position.0))?;
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        let mut mask = Mask::new(context.out.show_sensitive);
        for finding in &report.findings {
            let finding = mask.finding(finding);
            if context.out.json {
                context.out.line(json!({ "finding": finding.to_string() }).to_string())?;
            } else {
                context.out.line(format!("{}✗{} {finding}", BAD.render(), BAD.render_reset()))?;
            }
        }
        let ok = report.found == 0;
        let began = (report.began > Position::ZERO).then_some(report.began);
        if !context.out.json {
            if let Some(began) = began {
                context.out.line(format!(
                    "the log begins at event {}: verified from the snapshot of event {began}, with which it began",
                    began.next()
                ))?;
            }
            for position in &report.quarantined {
                let damaged = if report.damaged.contains(position) { "; its checksum is wrong" } else { "" };
                context.out.line(format!("event {position} is quarantined: replays pass over it{damaged}"))?;
            }
        }
        if context.out.json {
            let value = json!({
                "ok": ok, "head": report.head, "events": report.events, "commits": report.commits, "rows": report.rows,
                "chunks": report.chunks, "findings": report.found, "quarantined": report.quarantined,
                "damaged": report.damaged, "seconds": seconds, "began_with_snapshot": began,
            });
            context.out.line(value.to_string())?;
        } else {
            let verdict = if ok {
                format!("{}✓{} everything holds", GOOD.render(), GOOD.render_reset())
            } else {
                format!("{}{} findings{}", BAD.render(), number(report.found), BAD.render_reset())
            };
            context.out.line(format!(
                "{verdict}: {} events in {} commits, dense, with valid checksums and links; {} rows compared with a replay, {} chunks of events with the kept Merkle tree, in {seconds:.1} s",
                number(report.events),
                number(report.commits),
                number(report.rows),
                number(report.chunks),
            ))?;
        }
        Ok(if ok { Ended::Well } else { Ended::Refused })
    }
}

impl Rebuild {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let begin = if self.from_snapshot { Begin::WithSnapshot } else { Begin::AtTheStart };
        let tables: Vec<&'static TableDef> = if self.tables.is_empty() { PROJECTED.to_vec() } else { self.tables };
        let path = match &context.url {
            StoreUrl::Sqlite(path) => path,
            StoreUrl::Redis(url) => return repair(url, &tables, begin, context),
            StoreUrl::Memory => {
                return Err(Rejection::invalid("a store in memory is built anew each time it is opened").into());
            }
        };
        let total = context.open_to_read()?.head()?;
        let began = Instant::now();
        let bar = output::progress(Some(total.0), "events");
        let rebuilt = store::rebuild(path, &tables, begin, |position: Position| bar.set_position(position.0))?;
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        let events = rebuilt.position.0 - rebuilt.began.max(rebuilt.resumed).0;
        let rate = events as f64 / seconds.max(1e-9);
        if context.out.json {
            let names = told(&tables);
            let value = json!({
                "tables": names, "events": events, "snapshot": rebuilt.began, "seconds": seconds, "events_per_s": rate as u64,
                "resumed": rebuilt.resumed, "differed": rebuilt.differed, "peak_rss_mb": peak_rss_mb(),
            });
            context.out.line(value.to_string())?;
        } else {
            let resumed = match rebuilt.resumed {
                Position::ZERO => String::new(),
                from => format!(", going on from event {} where it had been interrupted", number(from.0)),
            };
            let differed = match rebuilt.differed {
                None => String::new(),
                Some(rows) => format!("; {} rows were not what the log says", number(rows)),
            };
            let snapshot = match rebuilt.began {
                Position::ZERO => String::new(),
                began => format!("the snapshot at event {began} and "),
            };
            context.out.line(format!(
                "{} tables rebuilt from {snapshot}{} events in {seconds:.1} s ({} events/s){resumed}{differed}",
                told(&tables).len(),
                number(events),
                number(rate as u64),
            ))?;
        }
        Ok(Ended::Well)
    }
}

/// The names of those that are among the 14: the facts about the log are rebuilt along.
fn told(tables: &[&'static TableDef]) -> Vec<&'static str> {
    let known = tables.iter().filter(|table| TABLES.iter().any(|known| known.name == table.name));
    known.map(|table| table.name).collect()
}

/// Tables in Redis are repaired in place, while writers go on.
fn repair(url: &RedisUrl, tables: &[&'static TableDef], begin: Begin, context: &Context) -> Result<Ended, Error> {
    let began = Instant::now();
    let bar = output::progress(None, "events");
    let repairs = redis::rebuild(url, tables, begin, |position: Position| bar.set_position(position.0))?;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let mut mask = Mask::new(context.out.show_sensitive);
    let in_the_way: Vec<_> = repairs.in_the_way.iter().map(|(key, why)| (mask.redis_key(key), why)).collect();
    if context.out.json {
        let names = told(tables);
        let keys: Vec<_> = in_the_way.iter().map(|(key, _)| key).collect();
        let value = json!({
            "tables": names, "events": repairs.position, "seconds": seconds, "repaired": repairs.repaired,
            "in_the_way": keys, "peak_rss_mb": peak_rss_mb(),
        });
        context.out.line(value.to_string())?;
    } else {
        for (key, _) in &in_the_way {
            context.out.line(format!(
                "{}✗{} {key} is of a wrong type and was left alone: remove it, and rebuild again",
                BAD.render(),
                BAD.render_reset()
            ))?;
        }
        context.out.line(format!(
            "{} tables compared with {} events in {seconds:.1} s, {} entities repaired",
            told(tables).len(),
            number(repairs.position.0),
            number(repairs.repaired),
        ))?;
    }
    Ok(if in_the_way.is_empty() { Ended::Well } else { Ended::Refused })
}

/// The most memory this process has had, in MB, where the system tells.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
