//! `canaries`: defining, revising, switching and deleting canaries.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Found, Json, Scan,
    tables::{
        canaries::{
            Canaries, CanaryChange, CanaryDefined, CanaryDeleted, CanaryDisabled, CanaryEnabled, CanaryRevised,
            CanaryRow, DEF,
        },
        canary_runs::DropReason,
    },
};

use crate::{
    command::Command,
    decision::Decision,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{Nothing, canary_runs, side},
    text,
};

side! {
    /// `canaries`
    pub struct CanariesHandle for DEF as canaries {
        commands {
            define(Define),
            revise(Revise),
            set_enabled(SetEnabled),
            delete(Delete),
        }
        queries {
            get(Get),
            by_name(ByName),
            list(List),
            enabled(Enabled),
        }
    }
}

/// Defines a canary.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Define {
    /// The canary's id; minted if absent.
    pub id: Option<String>,
    /// Label, unique.
    pub name: String,
    /// Index or alias searched.
    pub index_uid: String,
    /// s: period, at least 1.
    pub interval_s: i64,
    /// Search body, an object.
    pub query_json: Json,
    /// Array of expectations, each an object with a `type`.
    pub assertions_json: Json,
    /// Runs or not; true if absent. 0 and 1 are understood too.
    #[serde(default, deserialize_with = "flag")]
    #[schemars(schema_with = "flag_or_null_schema")]
    pub enabled: Option<bool>,
}

/// The canary as defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Defined {
    /// The canary's id.
    pub id: String,
    /// ms
    pub created_at: Millis,
}

impl Command for Define {
    const NAME: &'static str = "canaries.define";
    const ABOUT: &'static str = "Defines a canary";
    type Answer = Defined;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Defined, Error> {
        self.check()?;
        let known = match &self.id {
            Some(id) => cx.get::<Canaries>(id)?,
            None => cx.scan::<Canaries>(&Scan::equal("by_name", [Cell::from(&*self.name)]).limit(1))?.pop(),
        };
        if let Some(row) = known {
            cx.subject::<Canaries>(&row.id);
            if self.is_in(&row) {
                return Ok(Defined { id: row.id.clone(), created_at: row.created_at });
            }
            let CanaryRow { id, name, .. } = &*row;
            return Err(Rejection::already_exists(format!("canary {id} ({name:?}) exists with other content")).into());
        }
        let id = self.id.clone().unwrap_or_else(|| cx.mint_id());
        let created_at = cx.now();
        cx.subject::<Canaries>(&id);
        let event = CanaryDefined {
            name: self.name.clone(),
            index_uid: self.index_uid.clone(),
            interval_s: self.interval_s,
            query_json: self.query_json.clone(),
            assertions_json: self.assertions_json.clone(),
            enabled: self.enabled.unwrap_or(true),
            created_at,
        };
        cx.emit::<Canaries>(&id, event)?;
        // A deletion that a crash cut short may have left runs behind; the new canary starts without any.
        canary_runs::drop_all(cx, &id, DropReason::CanaryDeleted)?;
        Ok(Defined { id, created_at })
    }
}

impl Define {
    fn check(&self) -> Result<(), Rejection> {
        self.id.as_ref().map_or(Ok(()), |id| text::key("id", id))?;
        text::key("name", &self.name)?;
        text::key("index_uid", &self.index_uid)?;
        text::at_least("interval_s", 1, self.interval_s)?;
        text::object("query_json", &self.query_json)?;
        check_assertions(&self.assertions_json)
    }

    /// Whether the row has equal content.
    fn is_in(&self, row: &CanaryRow) -> bool {
        self.name == row.name
            && self.index_uid == row.index_uid
            && self.interval_s == row.interval_s
            && self.query_json.same_content(&row.query_json)
            && self.assertions_json.same_content(&row.assertions_json)
            && self.enabled.unwrap_or(true) == row.enabled
    }
}

/// Changes columns of a canary.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revise {
    /// The canary.
    pub id: String,
    /// The new values.
    pub changes: Changes,
    /// The rev the row must have.
    pub expected_rev: Option<u64>,
}

/// New values of a canary's columns; absent ones stay.
#[serde_with::skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Label, unique.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    pub name: Option<String>,
    /// Index or alias searched.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    pub index_uid: Option<String>,
    /// s: period, at least 1.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "i64")]
    pub interval_s: Option<i64>,
    /// Search body, an object.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Json")]
    pub query_json: Option<Json>,
    /// Array of expectations, each an object with a `type`.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Json")]
    pub assertions_json: Option<Json>,
    /// Runs or not. 0 and 1 are understood too.
    #[serde(default, deserialize_with = "given_flag")]
    #[schemars(schema_with = "flag_schema")]
    pub enabled: Option<bool>,
}

/// What a revision changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revised {
    /// The columns, sorted.
    pub changed_fields: Vec<String>,
}

impl Command for Revise {
    const NAME: &'static str = "canaries.revise";
    const ABOUT: &'static str = "Changes columns of a canary";
    type Answer = Revised;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Revised, Error> {
        self.changes.check()?;
        let row = cx.existing::<Canaries>("canary", &self.id)?;
        let changes = self.changes.against(&row);
        let changed_fields: Vec<_> = changes.keys().cloned().collect();
        if changes.is_empty() {
            return Ok(Revised { changed_fields });
        }
        let rev = cx.rev::<Canaries>(&self.id)?;
        if let Some(expected) = self.expected_rev.filter(|expected| *expected != rev.0) {
            return Err(Rejection::conflict(&format!("canary {}: rev", self.id), expected, rev).into());
        }
        cx.emit::<Canaries>(&self.id, CanaryRevised { changes })?;
        Ok(Revised { changed_fields })
    }
}

impl Changes {
    fn check(&self) -> Result<(), Rejection> {
        self.name.as_ref().map_or(Ok(()), |name| text::key("name", name))?;
        self.index_uid.as_ref().map_or(Ok(()), |uid| text::key("index_uid", uid))?;
        self.interval_s.map_or(Ok(()), |interval| text::at_least("interval_s", 1, interval))?;
        self.query_json.as_ref().map_or(Ok(()), |query| text::object("query_json", query))?;
        self.assertions_json.as_ref().map_or(Ok(()), check_assertions)
    }

    /// The values that differ from the row's, with what they replace.
    fn against(&self, row: &CanaryRow) -> BTreeMap<String, CanaryChange> {
        let text = |value: &String| Json::from_value(&serde_json::Value::from(&**value));
        let given = [
            ("name", self.name.as_ref().map(text)),
            ("index_uid", self.index_uid.as_ref().map(text)),
            ("interval_s", self.interval_s.map(|value| Json::from_value(&value.into()))),
            ("query_json", self.query_json.clone()),
            ("assertions_json", self.assertions_json.clone()),
            ("enabled", self.enabled.map(|value| Json::from_value(&value.into()))),
        ];
        let mut changes = BTreeMap::new();
        for (column, to) in given {
            let (Some(to), Some(from)) = (to, row.revisable(column)) else { continue };
            if !from.same_content(&to) {
                changes.insert(column.to_owned(), CanaryChange { from, to });
            }
        }
        changes
    }
}

/// Switches a canary on or off.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEnabled {
    /// The canary.
    pub id: String,
    /// Runs or not. 0 and 1 are understood too.
    #[serde(deserialize_with = "plain_flag")]
    #[schemars(schema_with = "flag_schema")]
    pub enabled: bool,
}

impl Command for SetEnabled {
    const NAME: &'static str = "canaries.set_enabled";
    const ABOUT: &'static str = "Switches a canary on or off";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let row = cx.existing::<Canaries>("canary", &self.id)?;
        if row.enabled == self.enabled {
            return Ok(Nothing {});
        }
        if self.enabled {
            cx.emit::<Canaries>(&self.id, CanaryEnabled {})?;
        } else {
            cx.emit::<Canaries>(&self.id, CanaryDisabled {})?;
        }
        Ok(Nothing {})
    }
}

/// Deletes a canary and its runs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The canary.
    pub id: String,
    /// Whether an earlier commit of this command has deleted the canary.
    #[serde(skip)]
    #[doc(hidden)]
    pub closed: bool,
    /// How many runs are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub runs_dropped: u64,
}

impl Delete {
    /// Deletes the canary `id`.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), closed: false, runs_dropped: 0 }
    }
}

/// The outcome of a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// How many runs went with the canary.
    pub runs_dropped: u64,
}

impl Command for Delete {
    const NAME: &'static str = "canaries.delete";
    const ABOUT: &'static str = "Deletes a canary and its runs";
    // One commit unless other writers record runs meanwhile: the canary goes first, so that no further run can join,
    // and each further commit drops the runs that it still finds.
    const CHUNKED: bool = true;
    type Answer = Deleted;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Deleted, Error> {
        cx.subject::<Canaries>(&self.id);
        match cx.get::<Canaries>(&self.id)? {
            // Somebody has defined it anew since it was closed: the runs it has now are not ours to drop.
            Some(_) if self.closed => return Ok(Deleted { runs_dropped: self.runs_dropped }),
            Some(row) => {
                cx.emit::<Canaries>(&self.id, CanaryDeleted { name: row.name.clone() })?;
            }
            None if self.closed => {}
            None => return Err(no_canary(&self.id)),
        }
        self.runs_dropped += canary_runs::drop_all(cx, &self.id, DropReason::CanaryDeleted)?;
        self.closed = true;
        if cx.room() == 0 {
            cx.more();
        } else {
            cx.look_again();
        }
        Ok(Deleted { runs_dropped: self.runs_dropped })
    }
}

pub(super) fn no_canary(id: &str) -> Error {
    Rejection::not_found(format!("no canary {id}")).into()
}

/// An array of objects, each with a `type`. Which types there are is the runner's concern: it reports an unknown one.
fn check_assertions(assertions: &Json) -> Result<(), Rejection> {
    text::bounded("assertions_json", assertions)?;
    let refused = |why: String| Rejection::invalid(format!("assertions_json: {why}"));
    let items: Vec<&RawValue> = serde_json::from_str(assertions.as_str())
        .map_err(|_| refused(format!("expected an array, found {:.40}", assertions.as_str())))?;
    for (index, item) in items.into_iter().enumerate() {
        let members: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(item.get()).ok();
        let kind = members.and_then(|members| members.get("type").map(|kind| kind.get().starts_with('"')));
        if kind != Some(true) {
            return Err(refused(format!("item {index}: expected an object with a type, found {:.40}", item.get())));
        }
    }
    Ok(())
}

/// A value that may be absent, but not null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A boolean that may be absent or null.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let json = Option::<Json>::deserialize(deserializer)?;
    json.as_ref().map(truth).transpose().map_err(serde::de::Error::custom)
}

/// A boolean that may be absent, but not null.
fn given_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    plain_flag(deserializer).map(Some)
}

/// A boolean.
fn plain_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    truth(&Json::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn flag_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": [true, false, 0, 1] })
}

fn flag_or_null_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": [true, false, 0, 1, null] })
}

/// A boolean as JSON has it, or 0 or 1 as columns hold it.
fn truth(json: &Json) -> Result<bool, String> {
    match json.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(format!("expected a boolean, found {other:.40}")),
    }
}

/// One canary by its id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The canary.
    pub id: String,
}

impl Query for Get {
    const NAME: &'static str = "canaries.get";
    const ABOUT: &'static str = "One canary by its id";
    type Answer = Option<Found<CanaryRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<Canaries>(&self.id)
    }
}

/// One canary by its label.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByName {
    /// The label.
    pub name: String,
}

impl Query for ByName {
    const NAME: &'static str = "canaries.by_name";
    const ABOUT: &'static str = "One canary by its label";
    type Answer = Option<Found<CanaryRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        Ok(read.list::<Canaries>(Scan::equal("by_name", [Cell::from(&*self.name)]), Some(1))?.pop())
    }
}

/// All canaries, by label.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Query for List {
    const NAME: &'static str = "canaries.list";
    const ABOUT: &'static str = "All canaries, by label";
    type Answer = Vec<Found<CanaryRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<Canaries>(Scan::all("by_name"), None)
    }
}

/// The canaries that run, by id.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enabled {}

impl Query for Enabled {
    const NAME: &'static str = "canaries.enabled";
    const ABOUT: &'static str = "The canaries that run";
    type Answer = Vec<Found<CanaryRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<Canaries>(Scan::equal("by_enabled", [Cell::from(1)]), None)
    }
}
