use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    facts::{LogFacts, REBUILD, TableRebuilt},
    pair,
};

use crate::{command::Command, decision::Decision, rejection::Error, tables::Nothing};

/// Notes that a table was rebuilt for a newer projection.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteRebuild {
    /// The table.
    pub table: String,
    /// The projection version that had built it; 0 if the table was gone.
    pub from_version: i64,
    /// The projection version that has built it now.
    pub to_version: i64,
    /// The position through which it was rebuilt.
    pub through: i64,
}

impl Command for NoteRebuild {
    const NAME: &'static str = "_log.note_rebuild";
    const ABOUT: &'static str = "Notes that a table was rebuilt for a newer projection";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { table, from_version, to_version, through } = self;
        let key = pair(REBUILD, table);
        cx.subject::<LogFacts>(&key);
        cx.get::<LogFacts>(&key)?;
        let (from_version, to_version, through) = (*from_version, *to_version, *through);
        let rebuilt_at = cx.now();
        cx.emit::<LogFacts>(&key, TableRebuilt { from_version, to_version, through, rebuilt_at })?;
        Ok(Nothing {})
    }
}
