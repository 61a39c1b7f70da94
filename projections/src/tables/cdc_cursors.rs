//! `cdc_cursors`: one row per sink and index: the last change number that the sink confirmed.
//!
//! The publisher allocates the numbers. A cursor only rises, except by an operator's reset. No row means that nothing is
//! confirmed, which is not the same as 0.

use crate::{At, Impossible, Index, Table, TableDef, Tombstones, events, row, words};

words! {
    /// What a dropped cursor was dropped with.
    pub enum DropReason {
        /// all cursors of a sink
        Sink = "sink",
        /// all cursors of an index
        Index = "index",
        /// this one
        Pair = "pair",
    }
}

row! {
    /// How far one sink has confirmed one index.
    pub struct CursorRow {
        key {
            /// sink
            sink_name: String,
            /// index
            index_uid: String,
        }
        /// last confirmed change number of that index
        last_event_seq: i64,
        /// ms: when it was confirmed
        updated_at: i64,
    }
}

events! {
    /// What happens to cursors.
    pub enum CursorEvent {
        /// The sink confirmed further changes.
        "cdc_cursor_advanced" v1 => CdcCursorAdvanced {
            /// the number before; none if nothing was confirmed
            from_seq: Option<i64>,
            /// the number now
            to_seq: i64,
            /// ms
            updated_at: i64,
        },
        /// An operator set the cursor.
        "cdc_cursor_reset" v1 => CdcCursorReset {
            /// the number before
            from_seq: i64,
            /// the number now
            to_seq: i64,
            /// ms
            updated_at: i64,
        },
        /// The cursor is no longer needed.
        "cdc_cursor_dropped" v1 => CdcCursorDropped {
            /// its last number
            last_event_seq: i64,
            /// what was dropped
            why: DropReason,
        },
    }
}

/// The table.
pub struct CdcCursors;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<CdcCursors>();

impl Table for CdcCursors {
    const NAME: &'static str = "cdc_cursors";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const INDEXES: &'static [Index] = &[Index::on("by_index", &["index_uid"])];
    const KEY_PREFIX: &'static str = "cdc_cursor";
    type Row = CursorRow;
    type Event = CursorEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<CursorRow>, event: CursorEvent, at: &At<'_>) -> Result<Option<CursorRow>, Impossible> {
        match event {
            CursorEvent::CdcCursorAdvanced(event) => advanced(row, event, at),
            CursorEvent::CdcCursorReset(event) => {
                let mut row = standing_at(row, "cdc_cursor_reset", event.from_seq)?;
                row.last_event_seq = event.to_seq;
                row.updated_at = event.updated_at;
                Ok(Some(row))
            }
            CursorEvent::CdcCursorDropped(event) => {
                standing_at(row, "cdc_cursor_dropped", event.last_event_seq)?;
                Ok(None)
            }
        }
    }
}

fn advanced(row: Option<CursorRow>, event: CdcCursorAdvanced, at: &At<'_>) -> Result<Option<CursorRow>, Impossible> {
    let CdcCursorAdvanced { from_seq, to_seq, updated_at } = event;
    let stored = row.map(|row| row.last_event_seq);
    if stored != from_seq || from_seq.is_some_and(|from| to_seq <= from) {
        return Err(Impossible(format!(
            "cdc_cursor_advanced from {from_seq:?} to {to_seq} on a cursor that stands at {stored:?}"
        )));
    }
    let (sink_name, index_uid) = crate::split_pair(at.key)?;
    Ok(Some(CursorRow { sink_name, index_uid, last_event_seq: to_seq, updated_at }))
}

/// The row, if it stands where the event says.
fn standing_at(row: Option<CursorRow>, event: &str, seq: i64) -> Result<CursorRow, Impossible> {
    let row = row.ok_or_else(|| Impossible::no_row(event))?;
    if row.last_event_seq != seq {
        return Err(Impossible(format!("{event} from {seq} on a cursor that stands at {}", row.last_event_seq)));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tasklog_log::Position;

    use super::*;
    use crate::TableEvent;

    const AT: At<'static> = At { position: Position(9), recorded_at: 2_000, key: "web%2Fhook/products" };

    fn standing(seq: i64) -> Option<CursorRow> {
        let (sink_name, index_uid) = ("web/hook".into(), "products".into());
        Some(CursorRow { sink_name, index_uid, last_event_seq: seq, updated_at: 1_000 })
    }

    fn moved(seq: i64) -> Option<CursorRow> {
        standing(seq).map(|row| CursorRow { updated_at: 2_000, ..row })
    }

    fn advance(from_seq: Option<i64>, to_seq: i64) -> CursorEvent {
        CdcCursorAdvanced { from_seq, to_seq, updated_at: 2_000 }.into()
    }

    fn fold(row: Option<CursorRow>, event: impl Into<CursorEvent>) -> Result<Option<CursorRow>, Impossible> {
        CdcCursors::evolve(row, event.into(), &AT)
    }

    #[test]
    fn the_first_advance_makes_a_row_even_at_zero() {
        assert_eq!(fold(None, advance(None, 0)), Ok(moved(0)));
        assert_eq!(fold(None, advance(None, 7)), Ok(moved(7)));
    }

    #[test]
    fn an_advance_starts_where_the_cursor_stands_and_rises() {
        assert_eq!(fold(standing(5), advance(Some(5), 6)), Ok(moved(6)));
        for (row, event) in [
            (standing(5), advance(Some(4), 6)),
            (standing(5), advance(None, 6)),
            (None, advance(Some(5), 6)),
            (standing(5), advance(Some(5), 5)),
            (standing(5), advance(Some(5), 4)),
        ] {
            assert!(fold(row.clone(), event.clone()).is_err(), "{event:?} on {row:?}");
        }
    }

    #[test]
    fn a_reset_sets_the_cursor_to_any_number() {
        let reset = |from_seq, to_seq| CdcCursorReset { from_seq, to_seq, updated_at: 2_000 };
        assert_eq!(fold(standing(5), reset(5, 2)), Ok(moved(2)));
        assert_eq!(fold(standing(5), reset(5, 9)), Ok(moved(9)));
        assert!(fold(standing(5), reset(4, 2)).is_err());
        assert_eq!(fold(None, reset(5, 2)), Err(Impossible::no_row("cdc_cursor_reset")));
    }

    #[test]
    fn a_drop_removes_the_row_it_describes() {
        let dropped = |last_event_seq| CdcCursorDropped { last_event_seq, why: DropReason::Sink };
        assert_eq!(fold(standing(5), dropped(5)), Ok(None));
        assert!(fold(standing(5), dropped(4)).is_err());
        assert_eq!(fold(None, dropped(5)), Err(Impossible::no_row("cdc_cursor_dropped")));
    }

    #[test]
    fn payload_bytes_stay_as_they_were_written() {
        let reset = CdcCursorReset { from_seq: 9, to_seq: 2, updated_at: 3 };
        let events: [CursorEvent; 4] = [
            advance(None, 0),
            advance(Some(5), 6),
            reset.into(),
            CdcCursorDropped { last_event_seq: 2, why: DropReason::Pair }.into(),
        ];
        let written: Vec<_> =
            events.iter().map(|event| (event.event_type().name, hex::encode(event.encode()))).collect();
        let golden = [
            ("cdc_cursor_advanced", "82a6746f5f73657100aa757064617465645f6174cd07d0"),
            ("cdc_cursor_advanced", "83a866726f6d5f73657105a6746f5f73657106aa757064617465645f6174cd07d0"),
            ("cdc_cursor_reset", "83a866726f6d5f73657109a6746f5f73657102aa757064617465645f617403"),
            ("cdc_cursor_dropped", "82ae6c6173745f6576656e745f73657102a3776879a470616972"),
        ];
        assert_eq!(written, golden.map(|(name, bytes)| (name, bytes.to_owned())));
        for (event, (name, bytes)) in events.iter().zip(golden) {
            assert_eq!(CursorEvent::decode(name, 1, &hex::decode(bytes).unwrap()).unwrap(), *event);
        }
    }
}
