//! What can be asked about rollover policies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, Scan,
    tables::rollover_policies::{RolloverPolicies, RolloverPolicyRow},
};

use crate::{
    query::{Query, Reader},
    rejection::Error,
};

/// One policy by its name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The policy.
    pub name: String,
}

impl Query for Get {
    const NAME: &'static str = "rollover_policies.get";
    const ABOUT: &'static str = "One rollover policy by its name";
    type Answer = Option<Found<RolloverPolicyRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<RolloverPolicies>(&self.name)
    }
}

/// The policies that the runner looks at, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enabled {}

impl Query for Enabled {
    const NAME: &'static str = "rollover_policies.enabled";
    const ABOUT: &'static str = "The rollover policies that are enabled, by name";
    type Answer = Vec<Found<RolloverPolicyRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut rows = read.list::<RolloverPolicies>(Scan::all("pk"), None)?;
        rows.retain(|row| row.enabled);
        Ok(rows)
    }
}

/// The policy that an alias belongs to, as its write or its read alias.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByAlias {
    /// The alias.
    pub alias: String,
}

impl Query for ByAlias {
    const NAME: &'static str = "rollover_policies.by_alias";
    const ABOUT: &'static str = "The rollover policy that an alias belongs to";
    type Answer = Option<Found<RolloverPolicyRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        for index in ["by_write_alias", "by_read_alias"] {
            let found = read.list::<RolloverPolicies>(Scan::equal(index, [Cell::from(&*self.alias)]), Some(1))?.pop();
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
