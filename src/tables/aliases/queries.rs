//! What can be asked about aliases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, Scan,
    tables::aliases::{AliasRow, Aliases},
};

use crate::{
    query::{Query, Reader},
    rejection::Error,
};

/// One alias by its name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The alias.
    pub name: String,
}

impl Query for Get {
    const NAME: &'static str = "aliases.get";
    const ABOUT: &'static str = "One alias by its name";
    type Answer = Option<Found<AliasRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<Aliases>(&self.name)
    }
}

/// All aliases, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Query for List {
    const NAME: &'static str = "aliases.list";
    const ABOUT: &'static str = "All aliases, by name";
    type Answer = Vec<Found<AliasRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<Aliases>(Scan::all("pk"), None)
    }
}

/// The aliases that lead to an index, by name. Asked before the index is deleted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByTarget {
    /// The index.
    pub uid: String,
}

impl Query for ByTarget {
    const NAME: &'static str = "aliases.by_target";
    const ABOUT: &'static str = "The aliases that lead to an index, by name";
    type Answer = Vec<Found<AliasRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<Aliases>(Scan::equal("by_target", [Cell::from(&*self.uid)]), None)
    }
}
