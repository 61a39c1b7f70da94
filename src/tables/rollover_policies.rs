//! `rollover_policies`: index lifecycle rules, and the rollovers they lead to.
//!
//! A rollover (`execute.rs`) is one commit over three rows: the policy, its write alias and its read alias. The events of the
//! aliases are built by [`aliases`]. What a policy may say is in `columns.rs`.

mod columns;
mod execute;
mod queries;

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Position;
use tasklog_projections::{
    Cell, Json, Scan,
    tables::{
        aliases::{AliasKind, AliasRow, Aliases},
        rollover_policies::{
            DEF, PolicyChange, RolloverPolicies, RolloverPolicyDefined, RolloverPolicyDeleted, RolloverPolicyDisabled,
            RolloverPolicyEnabled, RolloverPolicyRevised, RolloverPolicyRow,
        },
    },
};

use self::columns::check;
pub use self::{
    execute::{Execute, Executed},
    queries::{ByAlias, Enabled, Get},
};
use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    tables::{Nothing, aliases, side},
    text,
};

side! {
    /// `rollover_policies`
    pub struct RolloverPoliciesHandle for DEF as rollover_policies {
        commands {
            define(Define),
            revise(Revise),
            set_enabled(SetEnabled),
            execute(Execute),
            delete(Delete),
        }
        queries {
            get(Get),
            enabled(Enabled),
            by_alias(ByAlias),
        }
    }
}

/// Defines a policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Define {
    /// The policy.
    pub name: String,
    /// Single alias that moves.
    pub write_alias: String,
    /// Multi alias over the last N; differs from `write_alias`.
    pub read_alias: String,
    /// Index name pattern with a date token, such as `logs-{YYYY-MM-DD}`.
    pub pattern: String,
    /// `max_docs` (count), `max_age` (`"7d"`), `max_size_gb`; at least one.
    pub triggers_json: Json,
    /// `keep_indexes`, at least 1.
    pub retention_json: Json,
    /// `primary_key`, and optionally `settings_ref`.
    pub template_json: Json,
    /// Whether the runner looks at it; true if absent.
    pub enabled: Option<bool>,
}

impl Command for Define {
    const NAME: &'static str = "rollover_policies.define";
    const ABOUT: &'static str = "Defines a rollover policy";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let wanted = self.row();
        check(&wanted)?;
        let name = &wanted.name;
        cx.subject::<RolloverPolicies>(name);
        if let Some(row) = cx.get::<RolloverPolicies>(name)? {
            if row.enabled == wanted.enabled && changes(&row, &wanted).is_empty() {
                return Ok(Nothing {});
            }
            return Err(Rejection::already_exists(format!("policy {name} exists with other content")).into());
        }
        check_aliases_free(cx, &wanted)?;
        let event = RolloverPolicyDefined {
            write_alias: wanted.write_alias,
            read_alias: wanted.read_alias,
            pattern: wanted.pattern,
            triggers_json: wanted.triggers_json,
            retention_json: wanted.retention_json,
            template_json: wanted.template_json,
            enabled: wanted.enabled,
        };
        cx.emit::<RolloverPolicies>(&wanted.name, event)?;
        Ok(Nothing {})
    }
}

impl Define {
    /// The row it asks for.
    fn row(&self) -> RolloverPolicyRow {
        let Self { name, write_alias, read_alias, pattern, triggers_json, retention_json, template_json, enabled } =
            self.clone();
        RolloverPolicyRow {
            name,
            write_alias,
            read_alias,
            pattern,
            triggers_json,
            retention_json,
            template_json,
            enabled: enabled.unwrap_or(true),
            last_rollover: None,
        }
    }
}

/// Changes some columns of a policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revise {
    /// The policy.
    pub name: String,
    /// The new values.
    pub changes: PolicyChanges,
    /// The rev the policy must have.
    pub expected_rev: Option<u64>,
}

/// New values of a policy's columns; absent ones stay as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyChanges {
    /// See [`Define::write_alias`].
    pub write_alias: Option<String>,
    /// See [`Define::read_alias`]; only while the policy has no read alias in `aliases`.
    pub read_alias: Option<String>,
    /// See [`Define::pattern`].
    pub pattern: Option<String>,
    /// See [`Define::triggers_json`].
    pub triggers_json: Option<Json>,
    /// See [`Define::retention_json`].
    pub retention_json: Option<Json>,
    /// See [`Define::template_json`].
    pub template_json: Option<Json>,
}

impl PolicyChanges {
    fn applied_to(&self, row: &RolloverPolicyRow) -> RolloverPolicyRow {
        fn set<T: Clone>(column: &mut T, to: &Option<T>) {
            if let Some(to) = to {
                column.clone_from(to);
            }
        }
        let mut next = row.clone();
        set(&mut next.write_alias, &self.write_alias);
        set(&mut next.read_alias, &self.read_alias);
        set(&mut next.pattern, &self.pattern);
        set(&mut next.triggers_json, &self.triggers_json);
        set(&mut next.retention_json, &self.retention_json);
        set(&mut next.template_json, &self.template_json);
        next
    }
}

/// Which columns a revision changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revised {
    /// Sorted.
    pub changed_fields: Vec<String>,
}

impl Command for Revise {
    const NAME: &'static str = "rollover_policies.revise";
    const ABOUT: &'static str = "Changes some columns of a rollover policy";
    type Answer = Revised;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Revised, Error> {
        let name = &self.name;
        let row = existing(cx, name)?;
        let next = self.changes.applied_to(&row);
        check(&next)?;
        let changes = changes(&row, &next);
        let changed_fields: Vec<_> = changes.keys().cloned().collect();
        if changes.is_empty() {
            return Ok(Revised { changed_fields });
        }
        check_rev(cx, name, self.expected_rev)?;
        if next.read_alias != row.read_alias && own_read_alias(cx, &row)?.is_some() {
            return Err(Rejection::invalid(format!(
                "policy {name}: its read alias {} exists, so the policy keeps it",
                row.read_alias
            ))
            .into());
        }
        check_aliases_free(cx, &next)?;
        cx.emit::<RolloverPolicies>(name, RolloverPolicyRevised { changes })?;
        Ok(Revised { changed_fields })
    }
}

fn check_rev(cx: &mut Decision<'_>, name: &str, expected: Option<u64>) -> Result<(), Error> {
    let rev = cx.rev::<RolloverPolicies>(name)?;
    match expected {
        Some(expected) if Position(expected) != rev => {
            Err(Rejection::conflict(&format!("policy {name}: rev"), expected, rev).into())
        }
        _ => Ok(()),
    }
}

/// Enables or disables a policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEnabled {
    /// The policy.
    pub name: String,
    /// Whether the runner is to look at it.
    pub enabled: bool,
}

impl Command for SetEnabled {
    const NAME: &'static str = "rollover_policies.set_enabled";
    const ABOUT: &'static str = "Enables or disables a rollover policy";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let row = existing(cx, &self.name)?;
        if row.enabled == self.enabled {
            return Ok(Nothing {});
        }
        if self.enabled {
            cx.emit::<RolloverPolicies>(&self.name, RolloverPolicyEnabled {})?;
        } else {
            cx.emit::<RolloverPolicies>(&self.name, RolloverPolicyDisabled {})?;
        }
        Ok(Nothing {})
    }
}

/// Deletes a policy. Its indexes and its write alias stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The policy.
    pub name: String,
    /// Whether its read alias goes along; without it, a policy that has one stays.
    pub drop_read_alias: Option<bool>,
}

impl Command for Delete {
    const NAME: &'static str = "rollover_policies.delete";
    const ABOUT: &'static str = "Deletes a rollover policy, and its read alias along";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let row = existing(cx, &self.name)?;
        let RolloverPolicyRow { name, write_alias, read_alias, .. } = (*row).clone();
        let read = own_read_alias(cx, &row)?;
        if read.is_some() && self.drop_read_alias != Some(true) {
            return Err(Rejection::invalid(format!(
                "policy {name}: its read alias {read_alias} would be orphaned; drop_read_alias drops it along"
            ))
            .into());
        }
        cx.emit::<RolloverPolicies>(&name, RolloverPolicyDeleted { write_alias, read_alias })?;
        if let Some(read) = read {
            aliases::delete(cx, &read)?;
        }
        Ok(Nothing {})
    }
}

fn existing(cx: &mut Decision<'_>, name: &str) -> Result<Arc<RolloverPolicyRow>, Error> {
    text::key("name", name)?;
    cx.existing::<RolloverPolicies>("policy", name)
}

/// The multi alias that the policy manages, if it is there.
fn own_read_alias(cx: &mut Decision<'_>, row: &RolloverPolicyRow) -> Result<Option<Arc<AliasRow>>, Error> {
    let alias = cx.get::<Aliases>(&row.read_alias)?;
    Ok(alias.filter(|alias| alias.kind == AliasKind::Multi))
}

/// No other policy moves this one's read alias or reads through its write alias. (Two policies with the same write
/// alias, or the same read alias, are refused by the unique indexes.)
fn check_aliases_free(cx: &mut Decision<'_>, row: &RolloverPolicyRow) -> Result<(), Error> {
    let crossed = [
        ("by_read_alias", "write_alias", &row.write_alias, "read"),
        ("by_write_alias", "read_alias", &row.read_alias, "write"),
    ];
    for (index, column, alias, role) in crossed {
        let others = cx.scan::<RolloverPolicies>(&Scan::equal(index, [Cell::from(&**alias)]).limit(2))?;
        if let Some(other) = others.iter().find(|other| other.name != row.name) {
            return Err(Rejection::already_exists(format!(
                "policy {}: {column} {alias} is the {role} alias of policy {}",
                row.name, other.name
            ))
            .into());
        }
    }
    Ok(())
}

/// The columns that a revision can change, and how they differ.
fn changes(row: &RolloverPolicyRow, next: &RolloverPolicyRow) -> BTreeMap<String, PolicyChange> {
    let columns = ["write_alias", "read_alias", "pattern", "triggers_json", "retention_json", "template_json"];
    let change = |column: &str| Some(PolicyChange { from: row.column(column)?, to: next.column(column)? });
    columns
        .into_iter()
        .filter_map(|column| Some((column.to_owned(), change(column)?)))
        .filter(|(_, PolicyChange { from, to })| !from.same_content(to))
        .collect()
}
