//! `tenant_map`: API key to tenant.
//!
//! Only hashes of API keys come here, never the keys. Group 0 is a group; none means that the tenant's name decides.

use crate::{At, Hash32, Impossible, Index, KeyPart, Table, TableDef, Tombstones, events, row};

row! {
    /// Whose API key it is.
    pub struct TenantRow {
        key {
            /// SHA-256 of the API key
            api_key_hash: Hash32,
        }
        /// tenant
        tenant_id: String,
        /// fixed group; none is the hash of the tenant
        group_id: Option<i64>,
    }
}

events! {
    /// What happens to mappings of API keys.
    pub enum TenantEvent {
        /// A key was given to a tenant, or its tenant or group was replaced.
        "tenant_mapped" v1 => TenantMapped {
            /// tenant
            tenant_id: String,
            /// fixed group
            group_id: Option<i64>,
            /// what it replaced
            previous: Option<TenantMapping>,
        },
        /// A key belongs to nobody any more.
        "tenant_unmapped" v1 => TenantUnmapped {
            /// its last tenant
            tenant_id: String,
        },
    }
}

/// What a key was mapped to.
#[serde_with::skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct TenantMapping {
    /// tenant
    pub tenant_id: String,
    /// fixed group
    pub group_id: Option<i64>,
}

impl From<&TenantRow> for TenantMapping {
    fn from(row: &TenantRow) -> Self {
        Self { tenant_id: row.tenant_id.clone(), group_id: row.group_id }
    }
}

/// The table.
pub struct TenantMap;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<TenantMap>();

impl Table for TenantMap {
    const NAME: &'static str = "tenant_map";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const INDEXES: &'static [Index] = &[Index::on("by_tenant", &["tenant_id"])];
    const SENSITIVE: &'static [&'static str] = &["api_key_hash"];
    const KEY_PREFIX: &'static str = "tenant_map";
    type Row = TenantRow;
    type Event = TenantEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<TenantRow>, event: TenantEvent, at: &At<'_>) -> Result<Option<TenantRow>, Impossible> {
        match event {
            TenantEvent::TenantMapped(event) => mapped(row, event, at),
            TenantEvent::TenantUnmapped(event) => {
                let row = row.ok_or_else(|| Impossible::no_row("tenant_unmapped"))?;
                if row.tenant_id != event.tenant_id {
                    let (found, held) = (event.tenant_id, row.tenant_id);
                    return Err(Impossible(format!("tenant_unmapped from {found:?}, the row's tenant is {held:?}")));
                }
                Ok(None)
            }
        }
    }
}

fn mapped(row: Option<TenantRow>, event: TenantMapped, at: &At<'_>) -> Result<Option<TenantRow>, Impossible> {
    let held = row.as_ref().map(TenantMapping::from);
    if held != event.previous {
        return Err(Impossible(format!("tenant_mapped replaces {:?}, the row has {held:?}", event.previous)));
    }
    let api_key_hash = Hash32::from_key_part(at.key)?;
    Ok(Some(TenantRow { api_key_hash, tenant_id: event.tenant_id, group_id: event.group_id }))
}

#[cfg(test)]
#[path = "tenant_map_tests.rs"]
mod tests;
