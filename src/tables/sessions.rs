//! `sessions`: what the request path may do to a session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Found,
    tables::sessions::{
        DEF, PinClearedWhy, SessionClosed, SessionEvicted, SessionPinCleared, SessionRow, SessionSettingsFloorRaised,
        SessionTouched, SessionWriteRecorded, Sessions,
    },
};

use crate::{
    command::Command,
    decision::Decision,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{Nothing, living, side},
    text,
};

side! {
    /// `sessions`
    pub struct SessionsHandle for DEF as sessions {
        commands {
            record_write(RecordWrite),
            raise_floor(RaiseFloor),
            touch(Touch),
            clear_pin(ClearPin),
            close(Close),
        }
        queries {
            get(Get),
            count(Count),
        }
    }
}

/// A use writes only if the session would die earlier than its length and this after the use, in ms: callers gather
/// touches for so long.
const TOUCH_SLACK_MS: i64 = 1_000;

/// Records the session's last write, or the group that confirmed it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordWrite {
    /// The session; created if there is no live one.
    pub session_id: String,
    /// The write.
    pub mtask_id: String,
    /// The group that reached quorum; for one write the first one stays.
    pub pinned_group: Option<i64>,
}

/// The session after a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WriteAnswer {
    /// The group that reads are pinned to.
    pub pinned_group: Option<i64>,
    /// ms: the instant of death.
    pub ttl: Millis,
    /// Whether there was no live session.
    pub new_life: bool,
    /// How many sessions made room.
    pub evicted: u64,
}

impl Command for RecordWrite {
    const NAME: &'static str = "sessions.record_write";
    const ABOUT: &'static str = "Records the session's last write, or the group that confirmed it";
    type Answer = WriteAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<WriteAnswer, Error> {
        let Self { session_id, mtask_id, pinned_group } = self.clone();
        text::key("session_id", &session_id)?;
        text::key("mtask_id", &mtask_id)?;
        pinned_group.map_or(Ok(()), |group| text::at_least("pinned_group", 0, group))?;
        cx.subject::<Sessions>(&session_id);
        let row = cx.get::<Sessions>(&session_id)?;
        let row = row.as_deref();
        let known = row.filter(|row| row.last_write_mtask_id.as_ref() == Some(&mtask_id));
        if let Some(row) = known.filter(|row| pinned_group.is_none() || row.pinned_group.is_some()) {
            return Ok(WriteAnswer { pinned_group: row.pinned_group, ttl: row.ttl, new_life: false, evicted: 0 });
        }
        let new_life = row.is_none();
        let evicted = if new_life { make_room(cx)? } else { 0 };
        let ttl = extended(cx, row);
        let event = SessionWriteRecorded {
            last_write_mtask_id: mtask_id,
            last_write_at: known.and_then(|row| row.last_write_at).unwrap_or(cx.now()),
            pinned_group,
            min_settings_version: row.map_or(0, |row| row.min_settings_version),
            ttl,
            new_life,
        };
        cx.emit::<Sessions>(&session_id, event)?;
        Ok(WriteAnswer { pinned_group, ttl, new_life, evicted })
    }
}

/// Raises the settings version that the session's reads must not fall below.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RaiseFloor {
    /// The session; created without a write if there is no live one.
    pub session_id: String,
    /// The settings version.
    pub version: i64,
}

/// The session after its floor was raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FloorAnswer {
    /// The floor.
    pub min_settings_version: i64,
    /// ms: the instant of death; none if there is no session, because version 0 needs none.
    pub ttl: Option<Millis>,
    /// Whether there was no live session.
    pub new_life: bool,
}

impl Command for RaiseFloor {
    const NAME: &'static str = "sessions.raise_floor";
    const ABOUT: &'static str = "Raises the settings version that the session's reads must not fall below";
    type Answer = FloorAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<FloorAnswer, Error> {
        let Self { session_id, version } = self;
        text::key("session_id", session_id)?;
        text::at_least("version", 0, *version)?;
        cx.subject::<Sessions>(session_id);
        let row = cx.get::<Sessions>(session_id)?;
        let row = row.as_deref();
        let from = row.map_or(0, |row| row.min_settings_version);
        if *version <= from {
            return Ok(FloorAnswer { min_settings_version: from, ttl: row.map(|row| row.ttl), new_life: false });
        }
        let new_life = row.is_none();
        if new_life {
            make_room(cx)?;
        }
        let ttl = extended(cx, row);
        cx.emit::<Sessions>(session_id, SessionSettingsFloorRaised { from, to: *version, ttl, new_life })?;
        Ok(FloorAnswer { min_settings_version: *version, ttl: Some(ttl), new_life })
    }
}

/// Says that the session was used; writes at most once in a third of its length.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// The session.
    pub session_id: String,
}

/// How long the session lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TouchAnswer {
    /// ms: the instant of death.
    pub ttl: Millis,
}

impl Command for Touch {
    const NAME: &'static str = "sessions.touch";
    const ABOUT: &'static str = "Says that the session was used";
    type Answer = TouchAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<TouchAnswer, Error> {
        let Self { session_id } = self;
        cx.subject::<Sessions>(session_id);
        let Some(row) = cx.get::<Sessions>(session_id)? else {
            return Err(Rejection::not_found("no live session of this id").into());
        };
        let due = row.ttl - cx.now() < cx.config().session_ttl_ms + TOUCH_SLACK_MS;
        let ttl = extended(cx, Some(&row));
        if !due || ttl == row.ttl {
            return Ok(TouchAnswer { ttl: row.ttl });
        }
        cx.emit::<Sessions>(session_id, SessionTouched { ttl })?;
        Ok(TouchAnswer { ttl })
    }
}

/// Clears the session's pin, if it still belongs to the write.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearPin {
    /// The session.
    pub session_id: String,
    /// The write that the pin belonged to when the caller read it.
    pub mtask_id: String,
    /// Why.
    pub why: PinClearedWhy,
}

/// The pin that is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinAnswer {
    /// The group that reads are pinned to.
    pub pinned_group: Option<i64>,
}

impl Command for ClearPin {
    const NAME: &'static str = "sessions.clear_pin";
    const ABOUT: &'static str = "Clears the session's pin, if it still belongs to the write";
    type Answer = PinAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<PinAnswer, Error> {
        let Self { session_id, mtask_id, why } = self.clone();
        cx.subject::<Sessions>(&session_id);
        let row = cx.get::<Sessions>(&session_id)?;
        let Some((row, group)) = row.and_then(|row| row.pinned_group.map(|group| (row, group))) else {
            return Ok(PinAnswer { pinned_group: None });
        };
        if row.last_write_mtask_id.as_ref() != Some(&mtask_id) {
            return Ok(PinAnswer { pinned_group: Some(group) });
        }
        cx.emit::<Sessions>(&session_id, SessionPinCleared { mtask_id, group, why })?;
        Ok(PinAnswer { pinned_group: None })
    }
}

/// Ends a session.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The session.
    pub session_id: String,
}

impl Command for Close {
    const NAME: &'static str = "sessions.close";
    const ABOUT: &'static str = "Ends a session";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { session_id } = self;
        cx.subject::<Sessions>(session_id);
        if cx.get::<Sessions>(session_id)?.is_some() {
            cx.emit::<Sessions>(session_id, SessionClosed {})?;
        }
        Ok(Nothing {})
    }
}

/// Until when a session lives that is used now: its length, and a third of it on top, so that uses within that third
/// write nothing. Never earlier than it lives already.
fn extended(cx: &Decision<'_>, row: Option<&SessionRow>) -> Millis {
    let length = cx.config().session_ttl_ms;
    let ttl = cx.now() + length + length / 3;
    row.map_or(ttl, |row| ttl.max(row.ttl))
}

/// Evicts the sessions that were not used for longest, if one more would be beyond the bound.
fn make_room(cx: &mut Decision<'_>) -> Result<u64, Error> {
    let bound = cx.config().sessions_max;
    let victims = living::victims::<Sessions>(cx, "by_ttl", bound)?;
    for victim in &victims {
        cx.emit::<Sessions>(&victim.session_id, SessionEvicted { ttl: victim.ttl, bound })?;
    }
    Ok(victims.len() as u64)
}

/// One live session by its id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The session.
    pub session_id: String,
}

impl Query for Get {
    const NAME: &'static str = "sessions.get";
    const ABOUT: &'static str = "One live session by its id";
    type Answer = Option<Found<SessionRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<Sessions>(&self.session_id)
    }
}

/// How many live sessions there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {}

impl Query for Count {
    const NAME: &'static str = "sessions.count";
    const ABOUT: &'static str = "How many live sessions there are";
    type Answer = u64;

    fn answer(&self, read: &Reader<'_>) -> Result<u64, Error> {
        read.count::<Sessions>(&living::scan("by_ttl", read.now()))
    }
}
