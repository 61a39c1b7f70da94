//! `search_ui_config`: what the search page of an index looks like.
//!
//! The text is kept byte for byte; the digests in the events are of its canonical form, so that equal content has one
//! digest whatever its spelling.

use crate::{At, Hash32, Impossible, Json, Table, TableDef, Tombstones, events, row};

row! {
    /// One search page.
    pub struct SearchUiConfigRow {
        key {
            /// index or alias
            index_uid: String,
        }
        /// an object: title, facets, sort options, result template, paging, ...
        config_json: Json,
        /// ms: last change of content
        updated_at: i64,
    }
}

events! {
    /// What happens to search pages.
    pub enum SearchUiConfigEvent {
        /// The page was created or replaced.
        "search_ui_config_set" v1 => SearchUiConfigSet {
            /// the whole configuration
            config_json: Json,
            /// SHA-256 of its canonical form
            config_sha256: Hash32,
            /// SHA-256 of what it replaces; absent if it is new
            previous_sha256: Option<Hash32>,
            /// ms
            updated_at: i64,
        },
        /// The page was removed.
        "search_ui_config_deleted" v1 => SearchUiConfigDeleted {
            /// SHA-256 of the last configuration's canonical form
            last_sha256: Hash32,
        },
    }
}

/// The table.
pub struct SearchUiConfigs;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<SearchUiConfigs>();

impl Table for SearchUiConfigs {
    const NAME: &'static str = "search_ui_config";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const KEY_PREFIX: &'static str = "search_ui_config";
    type Row = SearchUiConfigRow;
    type Event = SearchUiConfigEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(
        row: Option<SearchUiConfigRow>,
        event: SearchUiConfigEvent,
        at: &At<'_>,
    ) -> Result<Option<SearchUiConfigRow>, Impossible> {
        match event {
            SearchUiConfigEvent::SearchUiConfigSet(event) => set(row, event, at),
            SearchUiConfigEvent::SearchUiConfigDeleted(_) => {
                row.ok_or_else(|| Impossible::no_row("search_ui_config_deleted"))?;
                Ok(None)
            }
        }
    }
}

fn set(
    row: Option<SearchUiConfigRow>,
    event: SearchUiConfigSet,
    at: &At<'_>,
) -> Result<Option<SearchUiConfigRow>, Impossible> {
    match (row, event.previous_sha256) {
        (Some(_), None) => return Err(Impossible::row_exists("search_ui_config_set without previous_sha256")),
        (None, Some(_)) => return Err(Impossible::no_row("search_ui_config_set with previous_sha256")),
        _ => {}
    }
    let SearchUiConfigSet { config_json, updated_at, .. } = event;
    Ok(Some(SearchUiConfigRow { index_uid: at.key.into(), config_json, updated_at }))
}

#[cfg(test)]
#[path = "search_ui_config_tests.rs"]
mod tests;
