//! `canaries`: stored queries with expected results, run on a timer.
//!
//! A revision names each changed column with the value before and after, so that the log alone answers who loosened
//! which expectation. `enabled` also has events of its own, because switching is what operators do most.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{At, Impossible, Index, Json, Table, TableDef, Tombstones, events, row};

row! {
    /// One canary.
    pub struct CanaryRow {
        key {
            /// a UUID
            id: String,
        }
        /// label, unique
        name: String,
        /// index or alias searched
        index_uid: String,
        /// s: period
        interval_s: i64,
        /// search body, an object
        query_json: Json,
        /// array of expectations, each with a `type`
        assertions_json: Json,
        /// runs or not
        enabled: bool,
        /// ms: creation; kept on change
        created_at: i64,
    }
}

impl CanaryRow {
    /// A column that a revision may change, as JSON; none for the others.
    #[must_use]
    pub fn revisable(&self, column: &str) -> Option<Json> {
        Some(match column {
            "name" => Json::from_value(&Value::from(&*self.name)),
            "index_uid" => Json::from_value(&Value::from(&*self.index_uid)),
            "interval_s" => Json::from_value(&Value::from(self.interval_s)),
            "query_json" => self.query_json.clone(),
            "assertions_json" => self.assertions_json.clone(),
            "enabled" => Json::from_value(&Value::from(self.enabled)),
            _ => return None,
        })
    }

    fn revise(&mut self, column: &str, to: Json) -> Result<(), String> {
        let wrong = |error: serde_json::Error| error.to_string();
        match column {
            "name" => self.name = serde_json::from_str(to.as_str()).map_err(wrong)?,
            "index_uid" => self.index_uid = serde_json::from_str(to.as_str()).map_err(wrong)?,
            "interval_s" => self.interval_s = serde_json::from_str(to.as_str()).map_err(wrong)?,
            "query_json" => self.query_json = to,
            "assertions_json" => self.assertions_json = to,
            "enabled" => self.enabled = serde_json::from_str(to.as_str()).map_err(wrong)?,
            _ => return Err("no column that a revision may change".into()),
        }
        Ok(())
    }
}

events! {
    /// What happens to canaries.
    pub enum CanaryEvent {
        /// A canary was defined.
        "canary_defined" v1 => CanaryDefined {
            /// label
            name: String,
            /// index or alias searched
            index_uid: String,
            /// s
            interval_s: i64,
            /// search body
            query_json: Json,
            /// expectations
            assertions_json: Json,
            /// runs or not
            enabled: bool,
            /// ms
            created_at: i64,
        },
        /// Columns were changed.
        "canary_revised" v1 => CanaryRevised {
            /// column -> before and after
            changes: BTreeMap<String, CanaryChange>,
        },
        /// It runs from now on.
        "canary_enabled" v1 => CanaryEnabled {},
        /// It no longer runs.
        "canary_disabled" v1 => CanaryDisabled {},
        /// It is gone, and its runs with it.
        "canary_deleted" v1 => CanaryDeleted {
            /// its last label
            name: String,
        },
    }
}

/// One column's change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct CanaryChange {
    /// before
    pub from: Json,
    /// after
    pub to: Json,
}

/// The table.
pub struct Canaries;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<Canaries>();

impl Table for Canaries {
    const NAME: &'static str = "canaries";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const INDEXES: &'static [Index] = &[Index::unique("by_name", &["name"]), Index::on("by_enabled", &["enabled"])];
    const SENSITIVE: &'static [&'static str] = &["query_json"];
    const KEY_PREFIX: &'static str = "canary";
    type Row = CanaryRow;
    type Event = CanaryEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<CanaryRow>, event: CanaryEvent, at: &At<'_>) -> Result<Option<CanaryRow>, Impossible> {
        match event {
            CanaryEvent::CanaryDefined(event) => defined(row, event, at),
            CanaryEvent::CanaryRevised(event) => revised(row, event),
            CanaryEvent::CanaryEnabled(_) => switched(row, "canary_enabled", true),
            CanaryEvent::CanaryDisabled(_) => switched(row, "canary_disabled", false),
            CanaryEvent::CanaryDeleted(event) => {
                let row = row.ok_or_else(|| Impossible::no_row("canary_deleted"))?;
                if row.name != event.name {
                    return Err(Impossible(format!("canary_deleted of {:?}, the row is {:?}", event.name, row.name)));
                }
                Ok(None)
            }
        }
    }
}

fn defined(row: Option<CanaryRow>, event: CanaryDefined, at: &At<'_>) -> Result<Option<CanaryRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("canary_defined"));
    }
    Ok(Some(CanaryRow {
        id: at.key.into(),
        name: event.name,
        index_uid: event.index_uid,
        interval_s: event.interval_s,
        query_json: event.query_json,
        assertions_json: event.assertions_json,
        enabled: event.enabled,
        created_at: event.created_at,
    }))
}

fn revised(row: Option<CanaryRow>, event: CanaryRevised) -> Result<Option<CanaryRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("canary_revised"))?;
    for (column, CanaryChange { from, to }) in event.changes {
        let refused = |why: String| Impossible(format!("canary_revised: {column}: {why}"));
        match row.revisable(&column) {
            Some(held) if held == from => {}
            Some(held) => return Err(refused(format!("expected {from:.40}, found {held:.40}"))),
            None => return Err(refused("no column that a revision may change".into())),
        }
        row.revise(&column, to).map_err(refused)?;
    }
    Ok(Some(row))
}

fn switched(row: Option<CanaryRow>, event: &str, enabled: bool) -> Result<Option<CanaryRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row(event))?;
    if row.enabled == enabled {
        return Err(Impossible(format!("{event} on a canary with enabled = {enabled}")));
    }
    row.enabled = enabled;
    Ok(Some(row))
}

#[cfg(test)]
#[path = "canaries_tests.rs"]
mod tests;
