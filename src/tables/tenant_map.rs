//! `tenant_map`: what administrators may do to mappings of API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, Hash32, Scan,
    tables::tenant_map::{DEF, TenantMap, TenantMapped, TenantMapping, TenantRow, TenantUnmapped},
};

use crate::{
    command::Command,
    decision::Decision,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{Nothing, side},
    text,
};

side! {
    /// `tenant_map`
    pub struct TenantMapHandle for DEF as tenant_map {
        commands {
            map(Map),
            unmap(Unmap),
        }
        queries {
            get(Get),
            by_tenant(ByTenant),
        }
    }
}

/// Maps an API key to a tenant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// SHA-256 of the API key; the key itself never comes here.
    pub api_key_hash: Hash32,
    /// The tenant.
    pub tenant_id: String,
    /// Its fixed group; the hash of the tenant decides if absent.
    pub group_id: Option<i64>,
}

/// Whether the mapping is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MapAnswer {
    /// False if it was replaced, or equal already.
    pub created: bool,
}

impl Command for Map {
    const NAME: &'static str = "tenant_map.map";
    const ABOUT: &'static str = "Maps an API key to a tenant";
    type Answer = MapAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<MapAnswer, Error> {
        let Self { api_key_hash, tenant_id, group_id } = self.clone();
        text::key("tenant_id", &tenant_id)?;
        group_id.map_or(Ok(()), |group| text::at_least("group_id", 0, group))?;
        let key = api_key_hash.to_hex();
        cx.subject::<TenantMap>(&key);
        let previous = cx.get::<TenantMap>(&key)?.as_deref().map(TenantMapping::from);
        let created = previous.is_none();
        if previous.as_ref().is_none_or(|held| held.tenant_id != tenant_id || held.group_id != group_id) {
            cx.emit::<TenantMap>(&key, TenantMapped { tenant_id, group_id, previous })?;
        }
        Ok(MapAnswer { created })
    }
}

/// Removes an API key's mapping.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmap {
    /// SHA-256 of the API key.
    pub api_key_hash: Hash32,
}

impl Command for Unmap {
    const NAME: &'static str = "tenant_map.unmap";
    const ABOUT: &'static str = "Removes an API key's mapping";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let key = self.api_key_hash.to_hex();
        cx.subject::<TenantMap>(&key);
        let Some(row) = cx.get::<TenantMap>(&key)? else {
            return Err(Rejection::not_found("no tenant is mapped to this api_key_hash").into());
        };
        cx.emit::<TenantMap>(&key, TenantUnmapped { tenant_id: row.tenant_id.clone() })?;
        Ok(Nothing {})
    }
}

/// One mapping by the hash of its API key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// SHA-256 of the API key.
    pub api_key_hash: Hash32,
}

impl Query for Get {
    const NAME: &'static str = "tenant_map.get";
    const ABOUT: &'static str = "One mapping by the hash of its API key";
    type Answer = Option<Found<TenantRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<TenantMap>(&self.api_key_hash.to_hex())
    }
}

/// A tenant's mappings, by hash.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByTenant {
    /// The tenant.
    pub tenant_id: String,
}

impl Query for ByTenant {
    const NAME: &'static str = "tenant_map.by_tenant";
    const ABOUT: &'static str = "A tenant's mappings, by hash";
    type Answer = Vec<Found<TenantRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<TenantMap>(Scan::equal("by_tenant", [Cell::from(&*self.tenant_id)]), None)
    }
}
