use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    facts::{
        AGE, ARCHIVE, EVENTS, KEEP, KeepCleared, KeepSet, LogFacts, LogTrimmed, PLACE, PlaceCleared, PlaceSet, THE_LOG,
        TRIM,
    },
    pair,
};

use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    tables::Nothing,
    text,
};

/// Keeps something at a place from now on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlace {
    /// What: `archive`.
    pub subject: String,
    /// Its URL or path, without secrets; absent to keep nothing more there.
    pub url: Option<String>,
}

impl Command for SetPlace {
    const NAME: &'static str = "_log.set_place";
    const ABOUT: &'static str = "Keeps something at a place from now on";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        if self.subject != ARCHIVE {
            return Err(Rejection::invalid(format!("subject: expected {ARCHIVE}, found {:?}", self.subject)).into());
        }
        let key = pair(PLACE, &self.subject);
        cx.subject::<LogFacts>(&key);
        let held = cx.get::<LogFacts>(&key)?.and_then(|row| row.text.clone());
        match (&self.url, held) {
            (Some(url), held) if held.as_ref() != Some(url) => {
                text::key("url", url)?;
                cx.emit::<LogFacts>(&key, PlaceSet { url: url.clone(), set_at: cx.now() })?;
            }
            (None, Some(last_url)) => {
                cx.emit::<LogFacts>(&key, PlaceCleared { last_url })?;
            }
            _ => {}
        }
        Ok(Nothing {})
    }
}

/// Says how much of the log is to stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetKeep {
    /// `events` or `age`.
    pub subject: String,
    /// How many events, or how many ms; absent for as much as there is.
    pub number: Option<i64>,
}

impl Command for SetKeep {
    const NAME: &'static str = "_log.set_keep";
    const ABOUT: &'static str = "Says how much of the log is to stay";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        if self.subject != EVENTS && self.subject != AGE {
            let found = &self.subject;
            return Err(Rejection::invalid(format!("subject: expected {EVENTS} or {AGE}, found {found:?}")).into());
        }
        let key = pair(KEEP, &self.subject);
        cx.subject::<LogFacts>(&key);
        let held = cx.get::<LogFacts>(&key)?.and_then(|row| row.number);
        match (self.number, held) {
            (Some(number), held) if held != Some(number) => {
                text::at_least("number", 0, number)?;
                cx.emit::<LogFacts>(&key, KeepSet { number, set_at: cx.now() })?;
            }
            (None, Some(last)) => {
                cx.emit::<LogFacts>(&key, KeepCleared { last })?;
            }
            _ => {}
        }
        Ok(Nothing {})
    }
}

/// Records that events are about to be removed from the log, because a snapshot and the archive have them. A trim that goes
/// less far than an earlier one changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trim {
    /// The first position that is kept.
    pub first: i64,
    /// ms: the instant that ages were measured at.
    pub instant: i64,
    /// The position of the snapshot.
    pub snapshot: i64,
    /// The last position of the archive.
    pub archived: i64,
}

impl Command for Trim {
    const NAME: &'static str = "_log.trim";
    const ABOUT: &'static str = "Records that events are about to be removed from the log";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { first, instant, snapshot, archived } = *self;
        text::at_least("first", 1, first)?;
        if snapshot < first - 1 || archived < first - 1 {
            let why = format!(
                "a trim that keeps events from {first} on needs a snapshot and an archive through event {}, found \
                 {snapshot} and {archived}",
                first - 1
            );
            return Err(Rejection::invalid(why).into());
        }
        let key = pair(TRIM, THE_LOG);
        cx.subject::<LogFacts>(&key);
        let held = cx.get::<LogFacts>(&key)?.and_then(|row| row.number);
        if held.is_some_and(|held| held >= first) {
            return Ok(Nothing {});
        }
        let place_key = pair(PLACE, ARCHIVE);
        let place = cx.get::<LogFacts>(&place_key)?.and_then(|row| row.text.clone());
        if let Some(url) = place
            && cx.rev::<LogFacts>(&place_key)?.to_i64() < first
        {
            // The log itself must go on saying where its beginning is: a store whose tables are lost has nothing else.
            cx.emit::<LogFacts>(&place_key, PlaceSet { url, set_at: cx.now() })?;
        }
        cx.emit::<LogFacts>(&key, LogTrimmed { first, instant, snapshot, archived })?;
        Ok(Nothing {})
    }
}
