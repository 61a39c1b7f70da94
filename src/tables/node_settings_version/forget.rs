//! How pairs go: a node that left, or an index that was deleted.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, PAGE_ROWS_MAX, Scan, pair,
    tables::node_settings_version::{CLUSTER, ForgetWhy, NodeSettingsForgotten, NodeSettingsRow, NodeSettingsVersion},
};

use super::{check_node, last_committed};
use crate::{command::Command, decision::Decision, rejection::Error, text};

/// The most rows that forgetting works on in one call.
pub const FORGET_LIMIT: u64 = 10_000;

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
