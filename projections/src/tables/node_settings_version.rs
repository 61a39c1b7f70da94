//! `node_settings_version`: which node has verified which settings.
//!
//! One row per index and node says which settings version the node was last seen to hold. The row of the reserved node
//! `_cluster` holds the version that the whole index has committed; it moves in the same commit as the node rows, so
//! that racing broadcasts meet there. A pair without a row has never verified anything: version 0.

use crate::{At, Impossible, Index, Table, TableDef, Tombstones, events, row, split_pair, words};

/// The node id under which an index's committed version is kept. No node may be called so.
pub const CLUSTER: &str = "_cluster";

words! {
    /// What a node's settings were verified for.
    pub enum VerifyCause {
        /// a broadcast committed
        Commit = "commit",
        /// a drifted node was repaired
        DriftRepair = "drift_repair",
        /// a node joined after the broadcast
        LateJoin = "late_join",
    }
}

words! {
    /// What made a pair be forgotten.
    pub enum ForgetWhy {
        /// the node is gone
        Node = "node",
        /// the index is gone
        Index = "index",
    }
}

row! {
    /// One index on one node.
    pub struct NodeSettingsRow {
        key {
            /// index
            index_uid: String,
            /// node, or `_cluster`
            node_id: String,
        }
        /// count: last cluster-wide settings version this pair verified, at least 1
        version: i64,
        /// ms: when
        updated_at: i64,
        /// SHA-256 (hex) of the canonical settings of that version
        fingerprint: Option<String>,
    }
}

events! {
    /// What happens to settings versions.
    pub enum NodeSettingsEvent {
        /// An index's settings were applied and read back everywhere. On the row `_cluster`.
        "settings_committed" v1 => SettingsCommitted {
            /// committed before; 0 if never
            from_version: i64,
            /// committed now
            version: i64,
            /// SHA-256 (hex) of the canonical settings
            fingerprint: String,
            /// nodes that verified it
            node_count: u64,
            /// the broadcaster's lease term
            term: i64,
            /// ms
            updated_at: i64,
        },
        /// A node was seen to hold a version.
        "node_settings_verified" v1 => NodeSettingsVerified {
            /// verified before; 0 if never
            from_version: i64,
            /// verified now
            version: i64,
            /// SHA-256 (hex) of the canonical settings, if known
            fingerprint: Option<String>,
            /// on what occasion
            cause: VerifyCause,
            /// ms
            updated_at: i64,
        },
        /// The node or the index is gone.
        "node_settings_forgotten" v1 => NodeSettingsForgotten {
            /// the row's version
            last_version: i64,
            /// which of the two
            why: ForgetWhy,
        },
    }
}

/// The table.
pub struct NodeSettingsVersion;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<NodeSettingsVersion>();

impl Table for NodeSettingsVersion {
    const NAME: &'static str = "node_settings_version";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const INDEXES: &'static [Index] = &[Index::on("by_node", &["node_id"])];
    const KEY_PREFIX: &'static str = "node_settings_version";
    const PAYLOAD_POSITIONS: &'static [&'static str] = &["term"];
    type Row = NodeSettingsRow;
    type Event = NodeSettingsEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(
        row: Option<NodeSettingsRow>,
        event: NodeSettingsEvent,
        at: &At<'_>,
    ) -> Result<Option<NodeSettingsRow>, Impossible> {
        let (index_uid, node_id) = split_pair(at.key)?;
        match event {
            NodeSettingsEvent::SettingsCommitted(event) => {
                let SettingsCommitted { from_version, version, fingerprint, updated_at, .. } = event;
                if node_id != CLUSTER {
                    return Err(Impossible(format!("settings_committed on node {node_id:?}, not {CLUSTER}")));
                }
                // Without a row the count goes on from the tombstone, which a fold does not see.
                let before = row.map_or(from_version, |row| row.version);
                if before != from_version || from_version < 0 || from_version.checked_add(1) != Some(version) {
                    return Err(Impossible(format!(
                        "settings_committed from {from_version} to {version} on an index at {before}"
                    )));
                }
                Ok(Some(NodeSettingsRow { index_uid, node_id, version, updated_at, fingerprint: Some(fingerprint) }))
            }
            NodeSettingsEvent::NodeSettingsVerified(event) => {
                let NodeSettingsVerified { from_version, version, fingerprint, updated_at, .. } = event;
                if node_id == CLUSTER {
                    return Err(Impossible(format!("node_settings_verified on {CLUSTER}")));
                }
                let before = row.map_or(0, |row| row.version);
                if before != from_version || version <= from_version {
                    return Err(Impossible(format!(
                        "node_settings_verified from {from_version} to {version} on a node at {before}"
                    )));
                }
                Ok(Some(NodeSettingsRow { index_uid, node_id, version, updated_at, fingerprint }))
            }
            NodeSettingsEvent::NodeSettingsForgotten(NodeSettingsForgotten { last_version, why }) => {
                let row = row.ok_or_else(|| Impossible::no_row("node_settings_forgotten"))?;
                if row.version != last_version || (why == ForgetWhy::Node && node_id == CLUSTER) {
                    return Err(Impossible(format!(
                        "node_settings_forgotten with the {why} at {last_version} on {node_id:?} at {}",
                        row.version
                    )));
                }
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
#[path = "node_settings_version_tests.rs"]
mod tests;
