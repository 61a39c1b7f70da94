use std::io;

use serde_json::{Value, json};

use super::{
    actor::{Actor, Day},
    line::Line,
    world::INDEXES,
};
use crate::rejection::RejectionKind;

/// Destinations of document changes.
pub(super) const SINKS: [&str; 3] = ["audit", "nats", "search-log"];
/// How often one sink confirms one index, in ms.
const CONFIRM_MS: u64 = 620_000;

/// Every sink follows every index.
pub(super) fn begin(day: &mut Day<'_>) {
    for sink in SINKS {
        for index in INDEXES {
            let after = day.dice.below(day.pace(CONFIRM_MS));
            day.later(after, Publisher { sink, index });
        }
    }
}

/// The publisher of one index to one sink, which steps the cursor when a batch is confirmed.
struct Publisher {
    sink: &'static str,
    index: &'static str,
}

impl Publisher {
    fn advance(&self, expected: Option<i64>, new: i64) -> Line {
        let expected: Value = expected.into();
        let args = json!({"sink_name": self.sink, "index_uid": self.index, "expected_seq": expected, "new_seq": new});
        Line::one("cdc_cursors.advance", args)
    }
}

impl Actor for Publisher {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let pair = (self.sink, self.index);
        let stored = day.world.cursors.get(&pair).copied();
        let new = stored.unwrap_or_default() + day.dice.between(1, 100).cast_signed();
        let line = self.advance(stored, new);
        day.say(&line)?;
        day.world.cursors.insert(pair, new);
        match day.dice.below(1_000) {
            // The same confirmation arrives twice.
            0..15 => drop(day.say(&line)?),
            // One that was overtaken arrives late.
            15..30 if new > 1 => day.misspeak(RejectionKind::Conflict, &self.advance(stored, new - 1).by("pod-2"))?,
            30..33 => {
                let args = json!({"sink_name": self.sink, "index_uid": self.index, "to_seq": new / 2});
                let line = Line::one("cdc_cursors.reset", args).by("alice").because("send the last changes again");
                day.say(&line)?;
                day.world.cursors.insert(pair, new / 2);
            }
            _ => {}
        }
        let interval = day.pace(CONFIRM_MS);
        Ok(Some(day.dice.about(interval)))
    }
}
