use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Position;
use tasklog_projections::{
    AnyRow, TableDef,
    facts::{EventQuarantined, LogFacts, QUARANTINE, QuarantineLifted},
    pair,
};

use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    tables::Nothing,
    text,
};

/// The row of an event, as it was when somebody looked what becomes of it with the decision about the event.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) table: &'static TableDef,
    pub(crate) key: String,
    /// Its last event, or its tombstone's; another one by now has not been looked at.
    pub(crate) rev: Position,
    /// The row, if it is to be another one.
    pub(crate) becomes: Option<Option<AnyRow>>,
}

/// Replays pass over an event from now on. Whether they can is looked at by [`crate::TaskStore::quarantine`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// The event.
    pub position: i64,
    /// Why.
    pub why: String,
    /// What was looked at.
    #[serde(skip)]
    #[doc(hidden)]
    pub(crate) looked: Option<Looked>,
}

impl Command for Quarantine {
    const NAME: &'static str = "_log.quarantine";
    const ABOUT: &'static str = "Replays pass over an event from now on";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { position, why, looked } = self;
        text::at_least("position", 1, *position)?;
        let key = pair(QUARANTINE, &position.to_string());
        cx.subject::<LogFacts>(&key);
        if cx.get::<LogFacts>(&key)?.is_some() {
            return Ok(Nothing {});
        }
        looked.as_ref().map_or(Ok(()), |looked| cx.amend(looked))?;
        let why = text::cut(why, text::META_BYTES_MAX);
        cx.emit::<LogFacts>(&key, EventQuarantined { why, quarantined_at: cx.now() })?;
        Ok(Nothing {})
    }
}

/// Replays fold an event again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lift {
    /// The event.
    pub position: i64,
    /// Why.
    pub why: Option<String>,
    /// What was looked at.
    #[serde(skip)]
    #[doc(hidden)]
    pub(crate) looked: Option<Looked>,
}

impl Command for Lift {
    const NAME: &'static str = "_log.lift_quarantine";
    const ABOUT: &'static str = "Replays fold an event again";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { position, why, looked } = self;
        let key = pair(QUARANTINE, &position.to_string());
        cx.subject::<LogFacts>(&key);
        if cx.get::<LogFacts>(&key)?.is_none() {
            return Err(Rejection::not_found(format!("event {position} is not quarantined")).into());
        }
        looked.as_ref().map_or(Ok(()), |looked| cx.amend(looked))?;
        cx.emit::<LogFacts>(&key, QuarantineLifted { why: why.clone() })?;
        Ok(Nothing {})
    }
}
