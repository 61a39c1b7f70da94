use std::io;

use serde_json::{Value, json};

use super::{
    actor::{Actor, Day},
    line::Line,
    world::{INDEXES, PODS},
};
use crate::store::RECORDING_FROM;

/// `(name, words searched)`
const CANARIES: [(&str, &str); 8] = [
    ("top product", "running shoes"),
    ("typo product", "runing shoos"),
    ("front page", "election"),
    ("user by mail", "ada@example.org"),
    ("worst review", "broken"),
    ("open orders", "open"),
    ("capital", "paris"),
    ("empty", "zzzzzz"),
];
/// How often a canary runs, in ms.
const RUN_MS: u64 = 480_000;

/// Defines the canaries; each then runs on a timer.
pub(super) fn begin(day: &mut Day<'_>) -> io::Result<()> {
    for place in 0..CANARIES.len() {
        let id = day.dice.uuid();
        day.world.canaries.push(id.clone());
        let line = define(day, place, &id);
        day.say(&line)?;
        let after = day.dice.below(day.pace(RUN_MS));
        day.later(after, Runner { place, enabled: true });
    }
    Ok(())
}

/// The definition of the canary at `place` under an id.
pub(super) fn define(day: &Day<'_>, place: usize, id: &str) -> Line {
    let (name, words) = CANARIES[place];
    let index = INDEXES[place % INDEXES.len()];
    let assertions = json!([{"type": "min_hits", "value": 1}, {"type": "max_p95_ms", "value": 200}]);
    Line::one(
        "canaries.define",
        json!({
            "id": id, "name": name, "index_uid": index, "interval_s": (day.pace(RUN_MS) / 1_000).max(1),
            "query_json": {"q": words, "limit": 5}, "assertions_json": assertions,
        }),
    )
    .by("alice")
}

/// Deletes a canary with its runs and defines it again, with none.
pub(super) fn start_over(day: &mut Day<'_>) -> io::Result<()> {
    let place = day.dice.below(CANARIES.len() as u64) as usize;
    let id = day.world.canaries[place].clone();
    day.say(&Line::one("canaries.delete", json!({"id": id})).by("alice").because("starting over"))?;
    day.moment();
    let line = define(day, place, &id);
    day.say(&line).map(drop)
}

/// The timer of one canary.
struct Runner {
    place: usize,
    enabled: bool,
}

impl Runner {
    fn set_enabled(&mut self, day: &mut Day<'_>, enabled: bool) -> io::Result<()> {
        self.enabled = enabled;
        let id = &day.world.canaries[self.place];
        let line = Line::one("canaries.set_enabled", json!({"id": id, "enabled": enabled})).by("bob");
        day.say(&line).map(drop)
    }

    fn revise(&self, day: &mut Day<'_>) -> io::Result<()> {
        let id = &day.world.canaries[self.place];
        let limit = day.dice.between(200, 400);
        let changes = json!({"assertions_json": [{"type": "max_p95_ms", "value": limit}]});
        day.say(&Line::one("canaries.revise", json!({"id": id, "changes": changes})).by("alice")).map(drop)
    }

    fn run(&self, day: &mut Day<'_>) -> io::Result<()> {
        let latency = day.dice.between(4, 60) + if day.dice.chance(30) { 200 } else { 0 };
        let (status, failed) = match day.dice.below(100) {
            0..4 => ("fail", Some(json!([{"type": "max_p95_ms", "observed": latency}]))),
            4..6 => ("error", None),
            _ => ("pass", None),
        };
        let mut args = json!({
            "canary_id": day.world.canaries[self.place],
            "ran_at": RECORDING_FROM + day.now.cast_signed() - latency.min(day.now).cast_signed(),
            "status": status, "latency_ms": latency,
        });
        if let Some(failed) = failed {
            args["failed_assertions_json"] = failed;
        }
        if day.dice.chance(100) {
            args["runner_pod"] = Value::from(*day.dice.pick(&PODS));
        }
        let line = Line::one("canary_runs.record", args);
        day.say(&line)?;
        if day.dice.chance(8) {
            // The answer was lost: recorded again, with nothing to do.
            day.say(&line)?;
        }
        Ok(())
    }
}

impl Actor for Runner {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        match day.dice.below(1_000) {
            0..12 => {
                let enabled = !self.enabled;
                self.set_enabled(day, enabled)?;
            }
            12..18 => self.revise(day)?,
            _ if self.enabled => self.run(day)?,
            _ => self.set_enabled(day, true)?,
        }
        let interval = day.pace(RUN_MS);
        Ok(Some(day.dice.about(interval)))
    }
}
