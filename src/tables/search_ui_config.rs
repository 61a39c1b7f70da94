//! `search_ui_config`: setting and removing search pages.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Found, Hash32, Json, Scan,
    tables::search_ui_config::{DEF, SearchUiConfigDeleted, SearchUiConfigRow, SearchUiConfigSet, SearchUiConfigs},
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
    /// `search_ui_config`
    pub struct SearchUiConfigHandle for DEF as search_ui_config {
        commands {
            set(Set),
            delete(Delete),
        }
        queries {
            get(Get),
            list(List),
        }
    }
}

/// Creates or replaces the search page of an index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Index or alias.
    pub index_uid: String,
    /// The whole configuration, an object.
    pub config_json: Json,
    /// The rev the row must have; null if there must be none.
    #[serde(default, with = "::serde_with::rust::double_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub expected_rev: Option<Option<u64>>,
}

/// The page as set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetAnswer {
    /// Whether there was none before.
    pub created: bool,
    /// SHA-256 of the configuration's canonical form.
    pub config_sha256: Hash32,
}

impl Command for Set {
    const NAME: &'static str = "search_ui_config.set";
    const ABOUT: &'static str = "Creates or replaces the search page of an index";
    type Answer = SetAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<SetAnswer, Error> {
        let Self { index_uid, config_json, expected_rev } = self;
        text::key("index_uid", index_uid)?;
        text::object("config_json", config_json)?;
        let config_sha256 = digest(config_json)?;
        cx.subject::<SearchUiConfigs>(index_uid);
        let row = cx.get::<SearchUiConfigs>(index_uid)?;
        let previous_sha256 = row.as_ref().map(|row| digest(&row.config_json)).transpose()?;
        if previous_sha256 == Some(config_sha256) {
            return Ok(SetAnswer { created: false, config_sha256 });
        }
        if let Some(expected) = *expected_rev {
            let rev = row.is_some().then_some(cx.rev::<SearchUiConfigs>(index_uid)?.0);
            if expected != rev {
                let subject = format!("search_ui_config {index_uid}: rev");
                return Err(Rejection::conflict(&subject, shown(expected), shown(rev)).into());
            }
        }
        let event = SearchUiConfigSet {
            config_json: config_json.clone(),
            config_sha256,
            previous_sha256,
            updated_at: cx.now(),
        };
        cx.emit::<SearchUiConfigs>(index_uid, event)?;
        Ok(SetAnswer { created: row.is_none(), config_sha256 })
    }
}

fn shown(rev: Option<u64>) -> String {
    rev.map_or_else(|| "no row".into(), |rev| rev.to_string())
}

/// Equal content, equal digest.
fn digest(config: &Json) -> Result<Hash32, Rejection> {
    config.digest().map_err(|why| Rejection::invalid(format!("config_json: {why}")))
}

/// Removes the search page of an index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Index or alias.
    pub index_uid: String,
}

impl Command for Delete {
    const NAME: &'static str = "search_ui_config.delete";
    const ABOUT: &'static str = "Removes the search page of an index";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let index_uid = &self.index_uid;
        cx.subject::<SearchUiConfigs>(index_uid);
        let row = cx.get::<SearchUiConfigs>(index_uid)?;
        let row = row.ok_or_else(|| Rejection::not_found(format!("no search_ui_config {index_uid}")))?;
        cx.emit::<SearchUiConfigs>(index_uid, SearchUiConfigDeleted { last_sha256: digest(&row.config_json)? })?;
        Ok(Nothing {})
    }
}

/// The search page of an index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Index or alias.
    pub index_uid: String,
}

impl Query for Get {
    const NAME: &'static str = "search_ui_config.get";
    const ABOUT: &'static str = "The search page of an index";
    type Answer = Option<Found<SearchUiConfigRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<SearchUiConfigs>(&self.index_uid)
    }
}

/// The indexes that have a search page, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Query for List {
    const NAME: &'static str = "search_ui_config.list";
    const ABOUT: &'static str = "The indexes that have a search page, by name";
    type Answer = Vec<String>;

    fn answer(&self, read: &Reader<'_>) -> Result<Vec<String>, Error> {
        let mut indexes = Vec::new();
        read.walk::<SearchUiConfigs>(Scan::all("pk"), |row| {
            indexes.push(row.index_uid.clone());
            ControlFlow::Continue(())
        })?;
        Ok(indexes)
    }
}

#[cfg(test)]
#[path = "search_ui_config_tests.rs"]
mod tests;
