//! `cdc_cursors`: how publishers move the cursors of their sinks.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Cell, Found, PAGE_ROWS_MAX, Row, Scan, pair,
    tables::cdc_cursors::{
        CdcCursorAdvanced, CdcCursorDropped, CdcCursorReset, CdcCursors, CursorRow, DEF, DropReason,
    },
};

use crate::{
    command::Command,
    decision::Decision,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::side,
    text,
};

side! {
    /// `cdc_cursors`
    pub struct CdcCursorsHandle for DEF as cdc_cursors {
        commands {
            advance(Advance),
            reset(Reset),
            drop(Drop),
        }
        queries {
            get(Get),
            by_sink(BySink),
            by_index(ByIndex),
        }
    }
}

/// The largest number of rows one drop works on.
pub const DROP_LIMIT: u64 = 10_000;

/// Moves a cursor forward.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// The sink.
    pub sink_name: String,
    /// The index.
    pub index_uid: String,
    /// Where the caller knows the cursor to stand; null if there is no row.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schemars(schema_with = "seq_or_null")]
    pub expected_seq: Option<i64>,
    /// The change number that the sink has confirmed now.
    pub new_seq: i64,
}

/// Where the cursor stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advanced {
    /// The last confirmed change number.
    pub last_event_seq: i64,
}

/// It must be said, also that there is none.
fn seq_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "format": "int64" })
}

impl Command for Advance {
    const NAME: &'static str = "cdc_cursors.advance";
    const ABOUT: &'static str = "Moves a sink's cursor forward";
    type Answer = Advanced;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Advanced, Error> {
        let Self { expected_seq, new_seq, .. } = *self;
        text::at_least("new_seq", 0, new_seq)?;
        let key = pair_key(&self.sink_name, &self.index_uid)?;
        cx.subject::<CdcCursors>(&key);
        let stored = cx.get::<CdcCursors>(&key)?.map(|row| row.last_event_seq);
        if stored == Some(new_seq) {
            return Ok(Advanced { last_event_seq: new_seq });
        }
        if stored != expected_seq {
            return Err(Rejection::conflict(&format!("cursor {key}"), shown(expected_seq), shown(stored)).into());
        }
        if let Some(stored) = stored.filter(|stored| new_seq < *stored) {
            return Err(Rejection::invalid(format!("cursor {key}: new_seq {new_seq} is lower than {stored}")).into());
        }
        let event = CdcCursorAdvanced { from_seq: stored, to_seq: new_seq, updated_at: cx.now() };
        cx.emit::<CdcCursors>(&key, event)?;
        Ok(Advanced { last_event_seq: new_seq })
    }
}

/// Sets a cursor, also backwards: an operator's command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The sink.
    pub sink_name: String,
    /// The index.
    pub index_uid: String,
    /// The change number to go on from.
    pub to_seq: i64,
}

/// Where the cursor stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WasReset {
    /// Before the command.
    pub from_seq: i64,
}

impl Command for Reset {
    const NAME: &'static str = "cdc_cursors.reset";
    const ABOUT: &'static str = "Sets a sink's cursor, also backwards";
    type Answer = WasReset;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<WasReset, Error> {
        let to_seq = self.to_seq;
        text::at_least("to_seq", 0, to_seq)?;
        let key = pair_key(&self.sink_name, &self.index_uid)?;
        cx.subject::<CdcCursors>(&key);
        let row = cx.get::<CdcCursors>(&key)?;
        let from_seq = row.ok_or_else(|| Rejection::not_found(format!("no cursor {key}")))?.last_event_seq;
        if from_seq != to_seq {
            cx.emit::<CdcCursors>(&key, CdcCursorReset { from_seq, to_seq, updated_at: cx.now() })?;
        }
        Ok(WasReset { from_seq })
    }
}

/// Drops the cursors of a sink, of an index, or of one pair.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    /// Only this sink's.
    pub sink_name: Option<String>,
    /// Only this index's.
    pub index_uid: Option<String>,
    /// How many are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub dropped: u64,
}

/// The outcome of a drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// How many cursors are gone.
    pub dropped: u64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for Drop {
    const NAME: &'static str = "cdc_cursors.drop";
    const ABOUT: &'static str = "Drops the cursors of a sink, of an index, or of one pair";
    const CHUNKED: bool = true;
    type Answer = Dropped;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Dropped, Error> {
        let room = cx.room_for(DROP_LIMIT - self.dropped).min(PAGE_ROWS_MAX - 1);
        // One more than there is room for tells whether work is left.
        let (mut rows, why) = self.family(cx, room + 1)?;
        let more = rows.len() > room;
        rows.truncate(room);
        for row in rows {
            let last_event_seq = row.last_event_seq;
            cx.emit::<CdcCursors>(&Row::key(&*row), CdcCursorDropped { last_event_seq, why })?;
            self.dropped += 1;
        }
        if more && self.dropped < DROP_LIMIT {
            cx.more();
        }
        Ok(Dropped { dropped: self.dropped, more })
    }
}

impl Drop {
    /// Up to `limit` of the rows to drop, and what they are dropped with.
    fn family(&self, cx: &mut Decision<'_>, limit: usize) -> Result<(Vec<Arc<CursorRow>>, DropReason), Error> {
        let (scan, why) = match (&self.sink_name, &self.index_uid) {
            (Some(sink_name), Some(index_uid)) => {
                let key = pair_key(sink_name, index_uid)?;
                cx.subject::<CdcCursors>(&key);
                return Ok((cx.get::<CdcCursors>(&key)?.into_iter().collect(), DropReason::Pair));
            }
            (Some(sink_name), None) => (of_sink(sink_name), DropReason::Sink),
            (None, Some(index_uid)) => (of_index(index_uid), DropReason::Index),
            (None, None) => return Err(Rejection::invalid("drop: expected sink_name, index_uid or both").into()),
        };
        Ok((cx.scan::<CdcCursors>(&scan.limit(limit))?, why))
    }
}

/// The row key of a pair whose parts may be keys.
fn pair_key(sink_name: &str, index_uid: &str) -> Result<String, Rejection> {
    text::key("sink_name", sink_name)?;
    text::key("index_uid", index_uid)?;
    Ok(pair(sink_name, index_uid))
}

fn of_sink(sink_name: &str) -> Scan<'_> {
    Scan::equal("pk", [Cell::from(sink_name)])
}

fn of_index(index_uid: &str) -> Scan<'_> {
    Scan::equal("by_index", [Cell::from(index_uid)])
}

fn shown(seq: Option<i64>) -> String {
    seq.map_or_else(|| "none".into(), |seq| seq.to_string())
}

/// The cursor of one sink on one index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The sink.
    pub sink_name: String,
    /// The index.
    pub index_uid: String,
}

impl Query for Get {
    const NAME: &'static str = "cdc_cursors.get";
    const ABOUT: &'static str = "The cursor of one sink on one index";
    type Answer = Option<Found<CursorRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<CdcCursors>(&pair(&self.sink_name, &self.index_uid))
    }
}

/// All cursors of a sink.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BySink {
    /// The sink.
    pub sink_name: String,
}

impl Query for BySink {
    const NAME: &'static str = "cdc_cursors.by_sink";
    const ABOUT: &'static str = "All cursors of a sink, by index";
    type Answer = Vec<Found<CursorRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<CdcCursors>(of_sink(&self.sink_name), None)
    }
}

/// All cursors on an index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByIndex {
    /// The index.
    pub index_uid: String,
}

impl Query for ByIndex {
    const NAME: &'static str = "cdc_cursors.by_index";
    const ABOUT: &'static str = "All cursors on an index, by sink";
    type Answer = Vec<Found<CursorRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.list::<CdcCursors>(of_index(&self.index_uid), None)
    }
}
