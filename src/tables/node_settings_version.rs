//! `node_settings_version`: how settings broadcasts and drift checks record what nodes hold.

mod forget;
mod queries;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Hash32, pair,
    tables::node_settings_version::{
        CLUSTER, DEF, NodeSettingsEvent, NodeSettingsVerified, NodeSettingsVersion, SettingsCommitted, VerifyCause,
    },
};

pub use self::{
    forget::{FORGET_LIMIT, ForgetIndex, ForgetNode, IndexForgotten, NodeForgotten},
    queries::{ByNode, Committed, CommittedAnswer, Get, List},
};
use crate::{
    command::Command,
    decision::Decision,
    meters::Count,
    rejection::{Error, Rejection},
    tables::side,
    text,
};

side! {
    /// `node_settings_version`
    pub struct NodeSettingsVersionHandle for DEF as node_settings_version {
        commands {
            commit(Commit),
            advance(Advance),
            forget_node(ForgetNode),
            forget_index(ForgetIndex),
        }
        queries {
            get(Get),
            list(List),
            by_node(ByNode),
            committed(Committed),
        }
    }
}

/// The most nodes of one broadcast: their events and the index's own fill a commit.
pub const NODES_MAX: usize = 999;

/// Commits a settings version that a broadcast has verified on every listed node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The index.
    pub index_uid: String,
    /// One more than the committed version.
    pub version: i64,
    /// The nodes that hold it, 1 to 999.
    pub node_ids: Vec<String>,
    /// SHA-256 of the canonical settings.
    pub fingerprint: Hash32,
}

/// What was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitAnswer {
    /// The committed version.
    pub version: i64,
    /// How many nodes hold it by this command.
    pub node_count: u64,
}

impl Command for Commit {
    const NAME: &'static str = "node_settings_version.commit";
    const ABOUT: &'static str = "Commits a settings version that a broadcast has verified on every listed node";
    const LEASE: Option<&'static str> = Some("settings_broadcast:<index>");
    type Answer = CommitAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<CommitAnswer, Error> {
        let Self { index_uid, version, node_ids, fingerprint } = self;
        text::key("index_uid", index_uid)?;
        text::at_least("version", 1, *version)?;
        let nodes = distinct_nodes(node_ids)?;
        cx.require_lease(&format!("settings_broadcast:{index_uid}"))?;
        let term = cx.lease().map_or(0, |lease| lease.term);
        let (version, fingerprint) = (*version, fingerprint.to_hex());
        let answer = CommitAnswer { version, node_count: nodes.len() as u64 };
        let head = pair(index_uid, CLUSTER);
        cx.subject::<NodeSettingsVersion>(&head);
        let committed = cx.get::<NodeSettingsVersion>(&head)?;
        let stored = stored_versions(cx, index_uid, &nodes)?;
        let repeated = committed
            .as_ref()
            .is_some_and(|row| row.version == version && row.fingerprint.as_ref() == Some(&fingerprint));
        if repeated && stored.iter().all(|stored| *stored == version) {
            return Ok(answer);
        }
        let from_version = match committed {
            Some(row) => row.version,
            None => last_committed(cx, &head)?,
        };
        if from_version != version - 1 {
            let subject = format!("index {index_uid}: committed settings version");
            return Err(Rejection::conflict(&subject, version - 1, from_version).into());
        }
        let (updated_at, node_count) = (cx.now(), answer.node_count);
        let event =
            SettingsCommitted { from_version, version, fingerprint: fingerprint.clone(), node_count, term, updated_at };
        cx.emit::<NodeSettingsVersion>(&head, event)?;
        for (node, from_version) in nodes.into_iter().zip(stored) {
            let event = NodeSettingsVerified {
                from_version,
                version,
                fingerprint: Some(fingerprint.clone()),
                cause: VerifyCause::Commit,
                updated_at,
            };
            cx.emit::<NodeSettingsVersion>(&pair(index_uid, node), event)?;
        }
        Ok(answer)
    }
}

fn distinct_nodes(node_ids: &[String]) -> Result<BTreeSet<&str>, Rejection> {
    for node_id in node_ids {
        check_node(node_id)?;
    }
    let nodes: BTreeSet<_> = node_ids.iter().map(String::as_str).collect();
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Err(Rejection::invalid(format!("node_ids: 1 to {NODES_MAX} nodes, found {}", nodes.len())));
    }
    Ok(nodes)
}

fn check_node(node_id: &str) -> Result<(), Rejection> {
    text::key("node_id", node_id)?;
    if node_id == CLUSTER {
        return Err(Rejection::invalid(format!("node_id: no node is called {CLUSTER}")));
    }
    Ok(())
}

/// What the nodes have verified so far; 0 is nothing.
fn stored_versions(cx: &mut Decision<'_>, index_uid: &str, nodes: &BTreeSet<&str>) -> Result<Vec<i64>, Error> {
    let mut stored = Vec::with_capacity(nodes.len());
    for node in nodes {
        stored.push(cx.get::<NodeSettingsVersion>(&pair(index_uid, node))?.map_or(0, |row| row.version));
    }
    Ok(stored)
}

/// The last version of an index that has no committed one now; 0 if it never had.
fn last_committed(cx: &mut Decision<'_>, head: &str) -> Result<i64, Error> {
    Ok(last_version(cx.last_event_of_deleted::<NodeSettingsVersion>(head)?))
}

/// Where a quarantine has taken the row away, its last event is no end: the version that it gave was seen, and is not given
/// again.
fn last_version(last: Option<NodeSettingsEvent>) -> i64 {
    match last {
        None => 0,
        Some(NodeSettingsEvent::NodeSettingsForgotten(event)) => event.last_version,
        Some(NodeSettingsEvent::SettingsCommitted(event)) => event.version,
        Some(NodeSettingsEvent::NodeSettingsVerified(event)) => event.version,
    }
}

/// Why a node catches up with the committed version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AdvanceCause {
    /// A drifted node was repaired.
    DriftRepair,
    /// A node joined after the broadcast.
    LateJoin,
}

impl From<AdvanceCause> for VerifyCause {
    fn from(cause: AdvanceCause) -> Self {
        match cause {
            AdvanceCause::DriftRepair => Self::DriftRepair,
            AdvanceCause::LateJoin => Self::LateJoin,
        }
    }
}

/// Records that one node has caught up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// The index.
    pub index_uid: String,
    /// The node.
    pub node_id: String,
    /// What it holds now: above what is stored, at most the committed version.
    pub version: i64,
    /// Why.
    pub cause: AdvanceCause,
}

/// The outcome of an advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advanced {
    /// What was stored before; 0 if nothing.
    pub from_version: i64,
}

impl Command for Advance {
    const NAME: &'static str = "node_settings_version.advance";
    const ABOUT: &'static str = "Records that one node has caught up";
    type Answer = Advanced;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Advanced, Error> {
        let Self { index_uid, node_id, version, cause } = self;
        text::key("index_uid", index_uid)?;
        check_node(node_id)?;
        text::at_least("version", 1, *version)?;
        let (key, version) = (pair(index_uid, node_id), *version);
        cx.subject::<NodeSettingsVersion>(&key);
        let committed = cx
            .get::<NodeSettingsVersion>(&pair(index_uid, CLUSTER))?
            .ok_or_else(|| Rejection::not_found(format!("index {index_uid}: no committed settings version")))?;
        let from_version = cx.get::<NodeSettingsVersion>(&key)?.map_or(0, |row| row.version);
        if version == from_version {
            return Ok(Advanced { from_version });
        }
        if version < from_version || version > committed.version {
            return Err(Rejection::invalid(format!(
                "version of {index_uid} on {node_id}: more than {from_version} and at most {}, found {version}",
                committed.version
            ))
            .into());
        }
        // Only the committed version's fingerprint is known.
        let fingerprint = committed.fingerprint.clone().filter(|_| version == committed.version);
        let event =
            NodeSettingsVerified { from_version, version, fingerprint, cause: (*cause).into(), updated_at: cx.now() };
        let repaired = event.cause == VerifyCause::DriftRepair;
        cx.emit::<NodeSettingsVersion>(&key, event)?;
        if repaired {
            cx.note(Count::DriftRepaired);
        }
        Ok(Advanced { from_version })
    }
}

#[cfg(test)]
#[path = "node_settings_version_tests.rs"]
mod tests;
