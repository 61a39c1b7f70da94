//! `rollover_policies`: index lifecycle rules, and the rollovers they lead to.
//!
//! A rollover is one commit over three rows: the policy, its write alias and its read alias. The events of the aliases
//! are built by [`aliases`].

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tasklog_log::Position;
use tasklog_projections::{
    Cell, Found, Json, Scan,
    tables::{
        aliases::{AliasKind, AliasRow, Aliases, TargetsWhy},
        rollover_policies::{
            DEF, PolicyChange, RolloverExecuted, RolloverPolicies, RolloverPolicyDefined, RolloverPolicyDeleted,
            RolloverPolicyDisabled, RolloverPolicyEnabled, RolloverPolicyRevised, RolloverPolicyRow,
        },
    },
};

use crate::{
    command::Command,
    decision::Decision,
    meters::Count,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{
        Nothing,
        aliases::{self, ILM_LEASE},
        side,
    },
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

/// Rolls over: moves the write alias to a new index and gives the read alias its new list. The caller holds the lease
/// `ilm`, and has created the new index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// The policy.
    pub name: String,
    /// Which trigger fired.
    pub trigger: String,
    /// What was measured.
    pub observed: Json,
    /// The index to write to from now on.
    pub new_index: String,
    /// The read alias's indexes from now on: distinct, the new one among them.
    pub read_targets: Vec<String>,
}

/// The outcome of a rollover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Executed {
    /// The index written before; none on a repeat that is not of the policy's last rollover.
    pub old_index: Option<String>,
    /// The write alias's version.
    pub write_version: i64,
    /// The read alias's version; none on a repeat after it was deleted.
    pub read_version: Option<i64>,
}

impl Command for Execute {
    const NAME: &'static str = "rollover_policies.execute";
    const ABOUT: &'static str = "Moves a policy's write alias to a new index, and its read alias along";
    const LEASE: Option<&'static str> = Some(ILM_LEASE);
    type Answer = Executed;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Executed, Error> {
        self.check()?;
        cx.require_lease(ILM_LEASE)?;
        let Self { name, new_index, read_targets, .. } = &*self;
        let policy = existing(cx, name)?;
        let write = cx.get::<Aliases>(&policy.write_alias)?.ok_or_else(|| {
            Rejection::not_found(format!("policy {name}: there is no write alias {}", policy.write_alias))
        })?;
        let read = cx.get::<Aliases>(&policy.read_alias)?;
        if write.current_uid.as_ref() == Some(new_index) {
            return Ok(Executed {
                old_index: rolled_from(&policy, new_index),
                write_version: write.version,
                read_version: read.map(|read| read.version),
            });
        }
        let Some(old_index) = write.current_uid.clone() else {
            let alias = &write.name;
            return Err(Rejection::invalid(format!("policy {name}: write alias {alias} is {}", write.kind)).into());
        };
        if !policy.enabled {
            return Err(Rejection::invalid(format!("policy {name} is disabled")).into());
        }
        if let Some(read) = read.as_ref().filter(|read| read.managed_by != Some(aliases::manager(name))) {
            let (alias, kind) = (&read.name, read.kind);
            return Err(Rejection::invalid(format!("policy {name}: {alias} is {kind}, not its read alias")).into());
        }
        let event = RolloverExecuted {
            at: cx.now(),
            trigger: self.trigger.clone(),
            observed: self.observed.clone(),
            old_index: old_index.clone(),
            new_index: new_index.clone(),
            term: cx.lease().map_or(0, |lease| lease.term),
        };
        cx.emit::<RolloverPolicies>(name, event)?;
        cx.note(Count::RolledOver(name.clone()));
        let write_version = aliases::flip(cx, &write, new_index, &aliases::manager(name))?;
        let read_version = match read {
            None => aliases::create_multi(cx, &policy.read_alias, read_targets, name, true)?,
            Some(read) if read.target_uids.as_deref() == Some(read_targets) => read.version,
            Some(read) => aliases::change_targets(cx, &read, read_targets, TargetsWhy::Rollover)?,
        };
        Ok(Executed { old_index: Some(old_index), write_version, read_version: Some(read_version) })
    }
}

impl Execute {
    fn check(&self) -> Result<(), Rejection> {
        text::key("trigger", &self.trigger)?;
        text::bounded("observed", &self.observed)?;
        text::key("new_index", &self.new_index)?;
        aliases::check_targets("read_targets", &self.read_targets)?;
        if self.read_targets.contains(&self.new_index) {
            return Ok(());
        }
        Err(Rejection::invalid(format!("read_targets: the new index {} is not among them", self.new_index)))
    }
}

/// What was written before, if the policy's last rollover led to `new_index`.
fn rolled_from(policy: &RolloverPolicyRow, new_index: &str) -> Option<String> {
    let last = policy.last_rollover.as_ref()?.to_value().ok()?;
    let index = |name: &str| last.get(name).and_then(|index| index.as_str());
    index("old_index").filter(|_| index("new_index") == Some(new_index)).map(str::to_owned)
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

fn check(row: &RolloverPolicyRow) -> Result<(), Rejection> {
    text::key("name", &row.name)?;
    text::key("write_alias", &row.write_alias)?;
    text::key("read_alias", &row.read_alias)?;
    if row.write_alias == row.read_alias {
        return Err(Rejection::invalid(format!("read_alias: {} is the write alias already", row.read_alias)));
    }
    check_pattern(&row.pattern)?;
    check_triggers(&row.triggers_json)?;
    let Retention { keep_indexes } = parts("retention_json", &row.retention_json)?;
    text::at_least("retention_json: keep_indexes", 1, keep_indexes)?;
    let Template { primary_key, settings_ref } = parts("template_json", &row.template_json)?;
    text::key("template_json: primary_key", &primary_key)?;
    settings_ref.map_or(Ok(()), |settings| text::key("template_json: settings_ref", &settings))
}

/// An index name with at least one date token: letters of a date, `-`, `_` or `.` in braces.
fn check_pattern(pattern: &str) -> Result<(), Rejection> {
    text::key("pattern", pattern)?;
    let refused = || {
        Rejection::invalid(format!(
            "pattern: expected a date token in braces, such as {{YYYY-MM-DD}}, found {pattern:?}"
        ))
    };
    let mut tokens = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (token, after) = rest[at..].strip_prefix('{').and_then(|open| open.split_once('}')).ok_or_else(refused)?;
        let date = token.contains(['Y', 'M', 'D', 'H']) && token.chars().all(|c| "YMDHms-_.".contains(c));
        if !date {
            return Err(refused());
        }
        tokens += 1;
        rest = after;
    }
    if tokens == 0 { Err(refused()) } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    max_docs: Option<u64>,
    max_age: Option<String>,
    max_size_gb: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retention {
    keep_indexes: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    primary_key: String,
    settings_ref: Option<String>,
}

/// The members of a JSON object.
fn parts<T: DeserializeOwned>(what: &str, json: &Json) -> Result<T, Rejection> {
    text::object(what, json)?;
    serde_json::from_str(json.as_str()).map_err(|error| Rejection::invalid(format!("{what}: {error}")))
}

fn check_triggers(json: &Json) -> Result<(), Rejection> {
    let Triggers { max_docs, max_age, max_size_gb } = parts("triggers_json", json)?;
    let given = max_docs.is_some() || max_age.is_some() || max_size_gb.is_some();
    let bad = if !given {
        "at least one of max_docs, max_age and max_size_gb"
    } else if max_docs == Some(0) {
        "max_docs: at least 1"
    } else if max_age.is_some_and(|age| !is_duration(&age)) {
        "max_age: a positive number and one of s, m, h, d and w, such as \"7d\""
    } else if max_size_gb.is_some_and(|size| size <= 0.0) {
        "max_size_gb: more than 0"
    } else {
        return Ok(());
    };
    Err(Rejection::invalid(format!("triggers_json: expected {bad}, found {:.200}", json.as_str())))
}

fn is_duration(text: &str) -> bool {
    let number = text.strip_suffix(['s', 'm', 'h', 'd', 'w']);
    number
        .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()) && number.parse::<u32>().is_ok_and(|n| n > 0))
}

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
