use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
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

/// Replays pass over an event from now on. Whether they can is looked at by [`crate::TaskStore::quarantine`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// The event.
    pub position: i64,
    /// Why.
    pub why: String,
}

impl Command for Quarantine {
    const NAME: &'static str = "_log.quarantine";
    const ABOUT: &'static str = "Replays pass over an event from now on";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { position, why } = self;
        text::at_least("position", 1, *position)?;
        let key = pair(QUARANTINE, &position.to_string());
        cx.subject::<LogFacts>(&key);
        if cx.get::<LogFacts>(&key)?.is_some() {
            return Ok(Nothing {});
        }
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
}

impl Command for Lift {
    const NAME: &'static str = "_log.lift_quarantine";
    const ABOUT: &'static str = "Replays fold an event again";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { position, why } = self;
        let key = pair(QUARANTINE, &position.to_string());
        cx.subject::<LogFacts>(&key);
        if cx.get::<LogFacts>(&key)?.is_none() {
            return Err(Rejection::not_found(format!("event {position} is not quarantined")).into());
        }
        cx.emit::<LogFacts>(&key, QuarantineLifted { why: why.clone() })?;
        Ok(Nothing {})
    }
}
