use std::io;

use serde_json::{Value, json};

use super::{
    actor::{Day, number},
    line::{Lease, Line},
};

/// `(policy, hours between rollovers)`
const POLICIES: [(&str, u64); 3] = [("logs", 2), ("events", 3), ("metrics", 6)];
/// Indexes that a read alias keeps.
const KEPT: usize = 3;
const HOUR_MS: u64 = 3_600_000;
/// When somebody tries a policy out.
const TRIAL_MS: u64 = 10 * HOUR_MS;

/// The time-series indexes and their policies.
pub(super) struct Lifecycle {
    series: Vec<Series>,
    tried_out: bool,
}

/// One policy and what it has come to.
struct Series {
    name: &'static str,
    interval_ms: u64,
    next_at: u64,
    /// Oldest first; the last one is written to.
    indexes: Vec<String>,
    read_version: i64,
}

impl Lifecycle {
    /// Defines the policies with their write aliases. The read alias of the first one is made by hand, those of the others
    /// by their first rollover.
    pub(super) fn begin(day: &mut Day<'_>, ilm: &Lease) -> io::Result<Self> {
        let mut series = Vec::new();
        for (name, hours) in POLICIES {
            let first = format!("{name}-01-01T00");
            let alias = json!({"name": format!("{name}-write"), "target": first, "target_verified": true});
            day.say(&Line::one("aliases.create", alias).by("alice"))?;
            day.say(&define(name).by("alice"))?;
            day.moment();
            let interval_ms = hours * HOUR_MS;
            let next_at = day.now + interval_ms / 2;
            series.push(Series { name, interval_ms, next_at, indexes: vec![first], read_version: 0 });
        }
        let logs = &mut series[0];
        let args = json!({
            "name": "logs-read", "targets": logs.indexes, "policy": logs.name, "target_verified": true,
        });
        let reply = day.say(&Line::one("aliases.create_multi", args).under(ilm))?;
        logs.read_version = number(&reply["version"]);
        Ok(Self { series, tried_out: false })
    }

    /// Rolls over what is due, and takes out what is too old.
    pub(super) fn check(&mut self, day: &mut Day<'_>, ilm: &Lease) -> io::Result<()> {
        if !self.tried_out && day.now > TRIAL_MS {
            self.tried_out = true;
            try_out(day, ilm)?;
        }
        for series in &mut self.series {
            if day.now < series.next_at {
                continue;
            }
            series.next_at = day.now + day.dice.about(series.interval_ms);
            series.roll_over(day, ilm)?;
            if series.indexes.len() > KEPT {
                day.moment();
                series.forget_oldest(day, ilm)?;
            }
            if day.dice.chance(150) {
                pause(day, series.name)?;
            }
        }
        Ok(())
    }
}

impl Series {
    fn roll_over(&mut self, day: &mut Day<'_>, ilm: &Lease) -> io::Result<()> {
        let minute = day.now / 60_000;
        let new_index = format!("{}-01-01T{:02}{:02}", self.name, minute / 60, minute % 60);
        let trigger = *day.dice.pick(&["max_docs", "max_age", "max_size_gb"]);
        self.indexes.push(new_index.clone());
        let docs = day.dice.between(10_000, 9_000_000);
        let args = json!({
            "name": self.name, "trigger": trigger, "observed": {"docs": docs}, "new_index": new_index,
            "read_targets": self.indexes,
        });
        let line = Line::one("rollover_policies.execute", args).under(ilm).by(&ilm.holder);
        let reply = day.say(&line)?;
        self.read_version = number(&reply["read_version"]);
        if day.dice.chance(100) {
            // The answer was lost: done again, with nothing to do.
            day.say(&line)?;
        }
        Ok(())
    }

    fn forget_oldest(&mut self, day: &mut Day<'_>, ilm: &Lease) -> io::Result<()> {
        self.indexes.remove(0);
        let args = json!({
            "name": format!("{}-read", self.name), "expected_version": self.read_version, "targets": self.indexes,
            "why": "retention",
        });
        let reply = day.say(&Line::one("aliases.set_targets", args).under(ilm).by(&ilm.holder))?;
        self.read_version = number(&reply["version"]);
        Ok(())
    }
}

/// An operator looks after a policy.
pub(super) fn tune(day: &mut Day<'_>) -> io::Result<()> {
    let changes = json!({"retention_json": {"keep_indexes": 5}, "triggers_json": {"max_docs": 5_000_000}});
    let args = json!({"name": "metrics", "changes": changes});
    day.say(&Line::one("rollover_policies.revise", args).by("bob"))?;
    day.moment();
    pause(day, "metrics")
}

/// An operator stops a policy for a moment.
fn pause(day: &mut Day<'_>, name: &str) -> io::Result<()> {
    for enabled in [false, true] {
        let args = json!({"name": name, "enabled": enabled});
        day.say(&Line::one("rollover_policies.set_enabled", args).by("bob").because("maintenance"))?;
        day.moment();
    }
    Ok(())
}

fn define(name: &str) -> Line {
    Line::one("rollover_policies.define", arguments(name))
}

/// A policy with the aliases that belong to its name.
pub(super) fn arguments(name: &str) -> Value {
    json!({
        "name": name, "write_alias": format!("{name}-write"), "read_alias": format!("{name}-read"),
        "pattern": format!("{name}-{{YYYY-MM-DD}}"), "triggers_json": {"max_docs": 10_000_000},
        "retention_json": {"keep_indexes": KEPT}, "template_json": {"primary_key": "id"},
    })
}

/// A policy that is tried out goes again, with its read alias.
fn try_out(day: &mut Day<'_>, ilm: &Lease) -> io::Result<()> {
    day.say(&define("trial").by("bob"))?;
    let alias = json!({"name": "trial-read", "targets": ["trial-0"], "policy": "trial", "target_verified": true});
    day.say(&Line::one("aliases.create_multi", alias).under(ilm).by("bob"))?;
    day.moment();
    let args = json!({"name": "trial", "drop_read_alias": true});
    day.say(&Line::one("rollover_policies.delete", args).by("bob").because("was a trial")).map(drop)
}
