//! What can be asked about jobs.

use std::{cmp::Reverse, collections::BTreeMap, ops::Bound};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, Scan,
    tables::jobs::{JobRow, JobState, Jobs},
};

use crate::{
    query::{Query, Reader},
    rejection::Error,
    tables::jobs::dead_claims,
};

/// One job by its id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The job.
    pub id: String,
}

impl Query for Get {
    const NAME: &'static str = "jobs.get";
    const ABOUT: &'static str = "One job by its id";
    type Answer = Option<Found<JobRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<Jobs>(&self.id)
    }
}

/// Jobs, newest enqueue first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only this state.
    pub state: Option<JobState>,
    /// Only this type.
    pub r#type: Option<String>,
    /// At most this many; all if absent.
    pub limit: Option<usize>,
}

impl Query for List {
    const NAME: &'static str = "jobs.list";
    const ABOUT: &'static str = "Jobs, newest enqueue first";
    type Answer = Vec<Found<JobRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        // Each state is walked along its own index, so no more than `limit` rows of each are read.
        let mut rows = Vec::new();
        for state in JobState::ALL.into_iter().filter(|state| self.state.is_none_or(|wanted| wanted == *state)) {
            let state = Cell::from(state.as_str());
            let scan = match &self.r#type {
                Some(name) => Scan::equal("by_type", [state, Cell::from(&**name)]),
                None => Scan::equal("by_state", [state]),
            };
            rows.extend(read.list::<Jobs>(scan.descending(), self.limit)?);
        }
        rows.sort_unstable_by_key(|row| Reverse(row.enqueued_at_position));
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(rows)
    }
}

/// The chunks of a job.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Children {
    /// The job that was split.
    pub parent_id: String,
}

impl Query for Children {
    const NAME: &'static str = "jobs.children";
    const ABOUT: &'static str = "The chunks of a job, in the order they were enqueued";
    type Answer = Vec<Found<JobRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut rows = read.list::<Jobs>(Scan::equal("by_parent", [Cell::from(&*self.parent_id)]), None)?;
        rows.sort_unstable_by_key(|row| row.enqueued_at_position);
        Ok(rows)
    }
}

/// How many jobs wait, per type.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Depth {}

impl Query for Depth {
    const NAME: &'static str = "jobs.depth";
    const ABOUT: &'static str = "How many jobs wait, per type";
    type Answer = BTreeMap<String, u64>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let queued = Cell::from(JobState::Queued.as_str());
        let mut depths = BTreeMap::new();
        // From type to type along the index; the rows between are counted there and not read.
        let mut next = Scan::equal("by_type", [queued.clone()]);
        while let Some(first) = read.list::<Jobs>(next, Some(1))?.pop() {
            let name = first.r#type.clone();
            let of_type = Scan::equal("by_type", [queued.clone(), Cell::from(&*name)]);
            depths.insert(name.clone(), read.count::<Jobs>(&of_type)?);
            let beyond = Bound::Excluded(vec![Cell::Text(name.into())]);
            next = Scan::equal("by_type", [queued.clone()]).from(beyond);
        }
        Ok(depths)
    }
}

/// Claims that are dead and not yet requeued.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiredClaims {}

impl Query for ExpiredClaims {
    const NAME: &'static str = "jobs.expired_claims";
    const ABOUT: &'static str = "Jobs whose claims are dead and not yet requeued, the oldest end first";
    type Answer = Vec<Found<JobRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<Jobs>(dead_claims(read.now()), None)
    }
}
