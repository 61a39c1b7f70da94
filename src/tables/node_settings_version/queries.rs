//! What can be asked about the settings that nodes hold. Without a committed version, an index has no visible nodes.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, Scan, pair,
    tables::node_settings_version::{CLUSTER, NodeSettingsRow, NodeSettingsVersion},
};

use super::last_version;
use crate::{
    query::{Query, Reader},
    rejection::Error,
};

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
