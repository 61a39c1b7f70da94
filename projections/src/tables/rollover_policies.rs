//! `rollover_policies`: index lifecycle rules.
//!
//! A policy names a write alias that moves to each new index and a read alias over the last few. What a rollover does
//! to the two aliases are events of their own rows; here it leaves only the memory of the last one.

use std::collections::BTreeMap;

use crate::{At, Impossible, Index, Json, Table, TableDef, Tombstones, events, row};

row! {
    /// One policy.
    pub struct RolloverPolicyRow {
        key {
            /// policy
            name: String,
        }
        /// single alias that moves
        write_alias: String,
        /// multi alias over the last N; differs from `write_alias`
        read_alias: String,
        /// index name pattern with a date token
        pattern: String,
        /// `max_docs` (count), `max_age` (`"7d"`), `max_size_gb`; at least one
        triggers_json: Json,
        /// `keep_indexes`, at least 1
        retention_json: Json,
        /// `primary_key`, `settings_ref`
        template_json: Json,
        /// whether the runner looks at it
        enabled: bool,
        /// `{at, trigger, old_index, new_index}`
        last_rollover: Option<Json>,
    }
}

impl RolloverPolicyRow {
    /// A column that may be revised, as JSON; none if there is no such column.
    #[must_use]
    pub fn column(&self, column: &str) -> Option<Json> {
        let text = |text: &String| Some(Json::from_value(&serde_json::Value::from(text.as_str())));
        match column {
            "write_alias" => text(&self.write_alias),
            "read_alias" => text(&self.read_alias),
            "pattern" => text(&self.pattern),
            "triggers_json" => Some(self.triggers_json.clone()),
            "retention_json" => Some(self.retention_json.clone()),
            "template_json" => Some(self.template_json.clone()),
            _ => None,
        }
    }

    fn set_column(&mut self, column: &str, to: Json) -> Result<(), String> {
        let text = |json: &Json| serde_json::from_str::<String>(json.as_str()).map_err(|error| error.to_string());
        match column {
            "write_alias" => self.write_alias = text(&to)?,
            "read_alias" => self.read_alias = text(&to)?,
            "pattern" => self.pattern = text(&to)?,
            "triggers_json" => self.triggers_json = to,
            "retention_json" => self.retention_json = to,
            "template_json" => self.template_json = to,
            other => return Err(format!("no column {other:?} to revise")),
        }
        Ok(())
    }
}

/// One column's change.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct PolicyChange {
    /// before
    pub from: Json,
    /// after
    pub to: Json,
}

events! {
    /// What happens to policies.
    pub enum RolloverPolicyEvent {
        /// It was defined.
        "rollover_policy_defined" v1 => RolloverPolicyDefined {
            /// single alias that moves
            write_alias: String,
            /// multi alias over the last N
            read_alias: String,
            /// index name pattern
            pattern: String,
            /// when to roll over
            triggers_json: Json,
            /// what to keep
            retention_json: Json,
            /// what new indexes are like
            template_json: Json,
            /// whether the runner looks at it
            enabled: bool,
        },
        /// Some columns were changed.
        "rollover_policy_revised" v1 => RolloverPolicyRevised {
            /// column -> change
            changes: BTreeMap<String, PolicyChange>,
        },
        /// The runner is to look at it.
        "rollover_policy_enabled" v1 => RolloverPolicyEnabled {},
        /// The runner is to leave it alone.
        "rollover_policy_disabled" v1 => RolloverPolicyDisabled {},
        /// The write alias was moved on.
        "rollover_executed" v1 => RolloverExecuted {
            /// ms
            at: i64,
            /// which trigger fired
            trigger: String,
            /// what was measured
            observed: Json,
            /// the index written before
            old_index: String,
            /// the index written now
            new_index: String,
            /// the runner's lease term
            term: i64,
        },
        /// It was deleted, and its read alias is gone.
        "rollover_policy_deleted" v1 => RolloverPolicyDeleted {
            /// its write alias, which stays
            write_alias: String,
            /// its read alias
            read_alias: String,
        },
    }
}

/// The table.
pub struct RolloverPolicies;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<RolloverPolicies>();

impl Table for RolloverPolicies {
    const NAME: &'static str = "rollover_policies";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const INDEXES: &'static [Index] =
        &[Index::unique("by_write_alias", &["write_alias"]), Index::unique("by_read_alias", &["read_alias"])];
    const DISJOINT: &'static [(&'static str, &'static str)] = &[("by_write_alias", "by_read_alias")];
    const KEY_PREFIX: &'static str = "rollover";
    const PAYLOAD_POSITIONS: &'static [&'static str] = &["term"];
    type Row = RolloverPolicyRow;
    type Event = RolloverPolicyEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(
        row: Option<RolloverPolicyRow>,
        event: RolloverPolicyEvent,
        at: &At<'_>,
    ) -> Result<Option<RolloverPolicyRow>, Impossible> {
        match event {
            RolloverPolicyEvent::RolloverPolicyDefined(event) => defined(row, event, at),
            RolloverPolicyEvent::RolloverPolicyRevised(event) => revised(row, event),
            RolloverPolicyEvent::RolloverPolicyEnabled(_) => switched(row, true),
            RolloverPolicyEvent::RolloverPolicyDisabled(_) => switched(row, false),
            RolloverPolicyEvent::RolloverExecuted(event) => executed(row, event),
            RolloverPolicyEvent::RolloverPolicyDeleted(event) => deleted(row, event),
        }
    }
}

fn defined(
    row: Option<RolloverPolicyRow>,
    event: RolloverPolicyDefined,
    at: &At<'_>,
) -> Result<Option<RolloverPolicyRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("rollover_policy_defined"));
    }
    let row = RolloverPolicyRow {
        name: at.key.into(),
        write_alias: event.write_alias,
        read_alias: event.read_alias,
        pattern: event.pattern,
        triggers_json: event.triggers_json,
        retention_json: event.retention_json,
        template_json: event.template_json,
        enabled: event.enabled,
        last_rollover: None,
    };
    two_aliases("rollover_policy_defined", &row)?;
    Ok(Some(row))
}

fn revised(
    row: Option<RolloverPolicyRow>,
    event: RolloverPolicyRevised,
) -> Result<Option<RolloverPolicyRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("rollover_policy_revised"))?;
    for (column, PolicyChange { from, to }) in event.changes {
        if row.column(&column).is_some_and(|held| held != from) {
            return Err(Impossible(format!("rollover_policy_revised: {column} was not {from}")));
        }
        row.set_column(&column, to).map_err(|why| Impossible(format!("rollover_policy_revised: {column}: {why}")))?;
    }
    two_aliases("rollover_policy_revised", &row)?;
    Ok(Some(row))
}

fn switched(row: Option<RolloverPolicyRow>, enabled: bool) -> Result<Option<RolloverPolicyRow>, Impossible> {
    let event = if enabled { "rollover_policy_enabled" } else { "rollover_policy_disabled" };
    let mut row = row.ok_or_else(|| Impossible::no_row(event))?;
    if row.enabled == enabled {
        return Err(Impossible(format!("{event} on a policy that is so already")));
    }
    row.enabled = enabled;
    Ok(Some(row))
}

fn executed(row: Option<RolloverPolicyRow>, event: RolloverExecuted) -> Result<Option<RolloverPolicyRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("rollover_executed"))?;
    if !row.enabled {
        return Err(Impossible("rollover_executed on a disabled policy".into()));
    }
    let RolloverExecuted { at, trigger, old_index, new_index, .. } = event;
    let last = serde_json::json!({ "at": at, "trigger": trigger, "old_index": old_index, "new_index": new_index });
    row.last_rollover = Some(Json::from_value(&last));
    Ok(Some(row))
}

fn deleted(
    row: Option<RolloverPolicyRow>,
    event: RolloverPolicyDeleted,
) -> Result<Option<RolloverPolicyRow>, Impossible> {
    let row = row.ok_or_else(|| Impossible::no_row("rollover_policy_deleted"))?;
    if row.write_alias != event.write_alias || row.read_alias != event.read_alias {
        return Err(Impossible(format!(
            "rollover_policy_deleted with aliases {:?} and {:?} on a policy with {:?} and {:?}",
            event.write_alias, event.read_alias, row.write_alias, row.read_alias
        )));
    }
    Ok(None)
}

fn two_aliases(event: &str, row: &RolloverPolicyRow) -> Result<(), Impossible> {
    if row.write_alias == row.read_alias {
        return Err(Impossible(format!("{event}: {:?} is both write and read alias", row.write_alias)));
    }
    Ok(())
}

#[cfg(test)]
#[path = "rollover_policies_tests.rs"]
mod tests;
