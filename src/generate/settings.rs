use std::io;

use serde_json::json;

use super::{
    actor::{Actor, Day, number},
    leases::{self, Operation},
    line::Line,
    world::{INDEXES, NODES},
};
use crate::rejection::RejectionKind;

/// How often somebody changes settings, in ms.
const CHANGE_MS: u64 = 1_300_000;
/// A lease of the default length.
const LEASE_MS: u64 = 10_000;
const PHASES: &[&str] = &["propose", "verify", "commit"];
/// The node that joins in the afternoon.
const NEWCOMER: &str = "meili-6";

/// Settings are changed all day; one node leaves and another one joins.
pub(super) fn begin(day: &mut Day<'_>) {
    day.world.nodes = NODES.to_vec();
    day.later(5_000, Editors);
    day.later(11 * 3_600_000, Leaving);
    day.later(15 * 3_600_000, Joining);
}

/// People who change the settings of an index.
struct Editors;

impl Actor for Editors {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let index = *day.dice.pick(&INDEXES);
        if day.world.broadcasting.insert(index) {
            let scope = format!("settings_broadcast:{index}");
            let operation = Operation::begin(day, &scope, None, PHASES)?;
            let trouble = match day.dice.below(100) {
                0..10 => Trouble::HolderDies,
                10..14 => Trouble::GivenUp,
                _ => Trouble::None,
            };
            let fingerprint = day.dice.hex(64);
            day.later(40, Broadcast { index, operation, fingerprint, trouble, left_out: None });
        }
        let interval = day.pace(CHANGE_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// After the second phase; another pod goes on.
    HolderDies,
    /// After the second phase; an operator clears the lease.
    GivenUp,
}

/// One two-phase change of an index's settings on all nodes.
struct Broadcast {
    index: &'static str,
    operation: Operation,
    fingerprint: String,
    trouble: Trouble,
    /// A node that could not be verified and is repaired afterwards.
    left_out: Option<&'static str>,
}

impl Broadcast {
    fn commit(&mut self, day: &mut Day<'_>) -> io::Result<()> {
        let committed = day.world.settings.get(self.index).copied().unwrap_or_default();
        let mut nodes = day.world.nodes.clone();
        if day.dice.chance(150) {
            let at = day.dice.below(nodes.len() as u64) as usize;
            self.left_out = Some(nodes.remove(at));
        }
        let args = json!({
            "index_uid": self.index, "version": committed + 1, "node_ids": nodes, "fingerprint": self.fingerprint,
        });
        let line = Line::one("node_settings_version.commit", args).under(&self.operation.lease);
        let reply = day.say(&line)?;
        if day.dice.chance(60) {
            day.say(&line)?;
        }
        day.world.settings.insert(self.index, number(&reply["version"]));
        Ok(())
    }

    /// What an ousted holder tries.
    fn commit_late(&self, day: &mut Day<'_>) -> io::Result<()> {
        let committed = day.world.settings.get(self.index).copied().unwrap_or_default();
        let args = json!({
            "index_uid": self.index, "version": committed + 1, "node_ids": day.world.nodes,
            "fingerprint": self.fingerprint,
        });
        let line = Line::one("node_settings_version.commit", args).under(&self.operation.lease);
        day.misspeak(RejectionKind::LeaseLost, &line)
    }

    fn end(&self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        day.world.broadcasting.remove(self.index);
        if let Some(node) = self.left_out {
            let after = day.dice.between(20_000, 200_000);
            day.later(after, Repair { index: self.index, node, cause: "drift_repair" });
        }
        Ok(None)
    }
}

impl Actor for Broadcast {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        match (self.operation.next(), self.trouble) {
            (Some("commit"), Trouble::HolderDies) => {
                // Its lease ended while it stood still; it finds out, and another pod goes on.
                self.commit_late(day)?;
                self.trouble = Trouble::None;
                day.moment();
                self.operation.take_over(day, None)?;
                return Ok(Some(200));
            }
            (Some("commit"), Trouble::GivenUp) => {
                leases::clear(day, &self.operation.lease.scope)?;
                return self.end(day);
            }
            (Some("commit"), Trouble::None) => {
                self.commit(day)?;
                self.operation.commit_next(day)?;
                return Ok(Some(10));
            }
            (Some(_), _) => self.operation.commit_next(day)?,
            (None, _) => {
                leases::release(day, &self.operation.lease)?;
                return self.end(day);
            }
        }
        if self.operation.next() == Some("commit") && self.trouble != Trouble::None {
            return Ok(Some(LEASE_MS + day.dice.between(0, 9_000)));
        }
        if day.dice.chance(400) {
            day.moment();
            leases::renew(day, &self.operation.lease, None)?;
        }
        Ok(Some(day.dice.between(300, 3_000)))
    }
}

/// Brings one node up to the committed settings of an index.
struct Repair {
    index: &'static str,
    node: &'static str,
    cause: &'static str,
}

impl Actor for Repair {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let version = day.world.settings.get(self.index).copied().unwrap_or_default();
        if version > 0 && day.world.nodes.contains(&self.node) {
            let args = json!({"index_uid": self.index, "node_id": self.node, "version": version, "cause": self.cause});
            day.say(&Line::one("node_settings_version.advance", args))?;
        }
        Ok(None)
    }
}

/// A node is taken out of service.
struct Leaving;

impl Actor for Leaving {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        if let Some(node) = day.world.nodes.pop() {
            let line = Line::one("node_settings_version.forget_node", json!({"node_id": node}));
            day.say(&line.by("alice").because("replaced by meili-6"))?;
        }
        Ok(None)
    }
}

/// A new node comes into service and learns the settings of every index.
struct Joining;

impl Actor for Joining {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        day.world.nodes.push(NEWCOMER);
        for (at, index) in INDEXES.into_iter().enumerate() {
            day.later(at as u64 * 900, Repair { index, node: NEWCOMER, cause: "late_join" });
        }
        Ok(None)
    }
}

/// An index is dropped and made again: its settings versions go on.
pub(super) fn drop_and_remake(day: &mut Day<'_>) -> io::Result<()> {
    for round in 0..2 {
        let operation = Operation::begin(day, "settings_broadcast:scratch", None, PHASES)?;
        let args = json!({
            "index_uid": "scratch", "version": round + 1, "node_ids": ["meili-0", "meili-1"],
            "fingerprint": day.dice.hex(64),
        });
        day.moment();
        day.say(&Line::one("node_settings_version.commit", args).under(&operation.lease))?;
        leases::release(day, &operation.lease)?;
        if round == 0 {
            day.moment();
            let line = Line::one("node_settings_version.forget_index", json!({"index_uid": "scratch"}));
            day.say(&line.by("bob").because("index dropped"))?;
        }
    }
    Ok(())
}
