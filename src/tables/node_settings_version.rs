//! `node_settings_version`: how settings broadcasts and drift checks record what nodes hold.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, Hash32, PAGE_ROWS_MAX, Scan, pair,
    tables::node_settings_version::{
        CLUSTER, DEF, ForgetWhy, NodeSettingsEvent, NodeSettingsForgotten, NodeSettingsRow, NodeSettingsVerified,
        NodeSettingsVersion, SettingsCommitted, VerifyCause,
    },
};

use crate::{
    command::Command,
    decision::Decision,
    meters::Count,
    query::{Query, Reader},
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
/// The most rows that forgetting works on in one call.
pub const FORGET_LIMIT: u64 = 10_000;

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

/// Forgets a node in every index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetNode {
    /// The node.
    pub node_id: String,
    /// How many rows are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub forgotten: u64,
}

impl ForgetNode {
    /// Forgets `node_id`.
    pub fn new(node_id: impl Into<String>) -> Self {
        Self { node_id: node_id.into(), forgotten: 0 }
    }
}

/// The outcome of forgetting a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeForgotten {
    /// How many of its rows are gone.
    pub forgotten: u64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for ForgetNode {
    const NAME: &'static str = "node_settings_version.forget_node";
    const ABOUT: &'static str = "Forgets a node in every index";
    const CHUNKED: bool = true;
    type Answer = NodeForgotten;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<NodeForgotten, Error> {
        check_node(&self.node_id)?;
        let scan = Scan::equal("by_node", [Cell::from(&*self.node_id)]);
        let more = forget(cx, scan, i64::MAX, ForgetWhy::Node, &mut self.forgotten)?;
        Ok(NodeForgotten { forgotten: self.forgotten, more })
    }
}

/// Forgets an index: its committed version first, so that no node can join, then its nodes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetIndex {
    /// The index.
    pub index_uid: String,
    /// The version it ended with, once its committed version is gone.
    #[serde(skip)]
    #[doc(hidden)]
    pub closed_at: Option<i64>,
    /// How many node rows are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub forgotten: u64,
}

impl ForgetIndex {
    /// Forgets `index_uid`.
    pub fn new(index_uid: impl Into<String>) -> Self {
        Self { index_uid: index_uid.into(), closed_at: None, forgotten: 0 }
    }
}

/// The outcome of forgetting an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IndexForgotten {
    /// How many of its node rows are gone.
    pub forgotten: u64,
    /// The version it ended with; 0 if it never had one.
    pub last_version: i64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for ForgetIndex {
    const NAME: &'static str = "node_settings_version.forget_index";
    const ABOUT: &'static str = "Forgets an index on every node";
    const CHUNKED: bool = true;
    type Answer = IndexForgotten;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<IndexForgotten, Error> {
        text::key("index_uid", &self.index_uid)?;
        let head = pair(&self.index_uid, CLUSTER);
        cx.subject::<NodeSettingsVersion>(&head);
        let last_version = match self.closed_at {
            Some(version) => version,
            None => close(cx, &head)?,
        };
        self.closed_at = Some(last_version);
        // The index may have been created again between two commits: its new pairs stay.
        let scan = Scan::equal("pk", [Cell::from(&*self.index_uid)]);
        let more = forget(cx, scan, last_version, ForgetWhy::Index, &mut self.forgotten)?;
        Ok(IndexForgotten { forgotten: self.forgotten, last_version, more })
    }
}

/// Deletes the committed version of an index, if there is one; answers the last one.
fn close(cx: &mut Decision<'_>, head: &str) -> Result<i64, Error> {
    let Some(row) = cx.get::<NodeSettingsVersion>(head)? else { return last_committed(cx, head) };
    let event = NodeSettingsForgotten { last_version: row.version, why: ForgetWhy::Index };
    cx.emit::<NodeSettingsVersion>(head, event)?;
    Ok(row.version)
}

/// Deletes one commit's worth of the pairs along `scan` up to `version`; answers whether more are left, and asks for a
/// further commit while the limit allows one.
fn forget(
    cx: &mut Decision<'_>,
    scan: Scan<'_>,
    version: i64,
    why: ForgetWhy,
    forgotten: &mut u64,
) -> Result<bool, Error> {
    let room = cx.room_for(FORGET_LIMIT.saturating_sub(*forgotten));
    // One more than there is room for tells whether work is left.
    let mut victims = pairs(cx, scan, version, room + 1)?;
    let more = victims.len() > room;
    victims.truncate(room);
    for row in victims {
        let event = NodeSettingsForgotten { last_version: row.version, why };
        cx.emit::<NodeSettingsVersion>(&pair(&row.index_uid, &row.node_id), event)?;
        *forgotten += 1;
    }
    if more && *forgotten < FORGET_LIMIT {
        cx.more();
    }
    Ok(more)
}

/// Up to `limit` pairs along `scan` whose version is at most `version`.
fn pairs(
    cx: &mut Decision<'_>,
    mut scan: Scan<'_>,
    version: i64,
    limit: usize,
) -> Result<Vec<Arc<NodeSettingsRow>>, Error> {
    let mut rows = Vec::new();
    loop {
        let page = cx.scan::<NodeSettingsVersion>(&scan)?;
        let last = page.last().cloned().filter(|_| page.len() == PAGE_ROWS_MAX);
        rows.extend(page.into_iter().filter(|row| row.node_id != CLUSTER && row.version <= version));
        let Some(last) = last.filter(|_| rows.len() < limit) else {
            rows.truncate(limit);
            return Ok(rows);
        };
        // The part of the key that the scan does not fix.
        let part = if scan.index == "pk" { &last.node_id } else { &last.index_uid };
        scan = scan.after(vec![Cell::Text(part.clone().into())]);
    }
}

/// One pair. A pair of an index without a committed version is hidden.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The index.
    pub index_uid: String,
    /// The node.
    pub node_id: String,
}

impl Query for Get {
    const NAME: &'static str = "node_settings_version.get";
    const ABOUT: &'static str = "What one node has verified of one index";
    type Answer = Option<Found<NodeSettingsRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        if !is_live(read, &self.index_uid)? {
            return Ok(None);
        }
        read.get::<NodeSettingsVersion>(&pair(&self.index_uid, &self.node_id))
    }
}

/// Whether an index has a committed version. Its pairs are visible only with it.
fn is_live(read: &Reader<'_>, index_uid: &str) -> Result<bool, Error> {
    Ok(read.get::<NodeSettingsVersion>(&pair(index_uid, CLUSTER))?.is_some())
}

/// The nodes of an index, by id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The index.
    pub index_uid: String,
    /// Only nodes that have verified at least this version.
    pub floor: Option<u64>,
}

impl Query for List {
    const NAME: &'static str = "node_settings_version.list";
    const ABOUT: &'static str = "The nodes of an index, or those that have verified a version";
    type Answer = Vec<Found<NodeSettingsRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut rows = Vec::new();
        // A floor beyond every version is one that no node reaches.
        let Ok(floor) = i64::try_from(self.floor.unwrap_or(0)) else { return Ok(rows) };
        if !is_live(read, &self.index_uid)? {
            return Ok(rows);
        }
        let scan = Scan::equal("pk", [Cell::from(&*self.index_uid)]);
        read.walk::<NodeSettingsVersion>(scan, |row| {
            if row.node_id != CLUSTER && row.version >= floor {
                rows.push(row);
            }
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }
}

/// What one node has verified, by index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByNode {
    /// The node.
    pub node_id: String,
}

impl Query for ByNode {
    const NAME: &'static str = "node_settings_version.by_node";
    const ABOUT: &'static str = "What one node has verified, by index";
    type Answer = Vec<Found<NodeSettingsRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut rows = Vec::new();
        if self.node_id == CLUSTER {
            return Ok(rows);
        }
        for row in read.list::<NodeSettingsVersion>(Scan::equal("by_node", [Cell::from(&*self.node_id)]), None)? {
            if is_live(read, &row.index_uid)? {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

/// The committed version of an index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// The index.
    pub index_uid: String,
}

/// An index's committed version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommittedAnswer {
    /// The committed version; after a deletion the last one; 0 if there never was one.
    pub version: i64,
    /// Whether it is committed now: false before the first commit and after a deletion.
    pub live: bool,
}

impl Query for Committed {
    const NAME: &'static str = "node_settings_version.committed";
    const ABOUT: &'static str = "The committed settings version of an index, or its last one";
    type Answer = CommittedAnswer;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let head = pair(&self.index_uid, CLUSTER);
        if let Some(row) = read.get::<NodeSettingsVersion>(&head)? {
            return Ok(CommittedAnswer { version: row.version, live: true });
        }
        let version = last_version(read.last_event_of_deleted::<NodeSettingsVersion>(&head)?);
        Ok(CommittedAnswer { version, live: false })
    }
}

#[cfg(test)]
#[path = "node_settings_version_tests.rs"]
mod tests;
