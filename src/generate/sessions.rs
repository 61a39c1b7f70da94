use std::io;

use serde_json::json;

use super::{
    actor::{Actor, Day},
    line::Line,
    world::INDEXES,
};

/// A session lives so long after a use at least, in ms.
const LIFE_MS: u64 = 900_000;
/// And at most so much longer.
const GRACE_MS: u64 = 300_000;

/// The session of a new write: none, a new one, or one that goes on.
pub(super) fn of_a_write(day: &mut Day<'_>) -> Option<String> {
    if !day.dice.chance(600) {
        return None;
    }
    if !day.world.sessions.is_empty() && day.dice.chance(650) {
        return Some(day.dice.pick(&day.world.sessions).clone());
    }
    let session = day.dice.hex(12);
    day.world.sessions.push(session.clone());
    let reads = day.dice.below(13);
    let after = day.dice.between(1_000, 240_000);
    day.later(after, Reader { session: session.clone(), reads });
    Some(session)
}

/// A client that goes on reading in its session, then ends or forgets it.
struct Reader {
    session: String,
    reads: u64,
}

impl Actor for Reader {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let id = &self.session;
        if self.reads == 0 {
            day.world.sessions.retain(|known| known != id);
            match day.dice.below(100) {
                0..25 => day.say(&Line::one("sessions.close", json!({"session_id": id}))).map(drop)?,
                25..35 => {
                    let after = LIFE_MS + GRACE_MS + day.dice.below(3_600_000);
                    day.later(after, Latecomer(self.session.clone()));
                }
                _ => {}
            }
            return Ok(None);
        }
        self.reads -= 1;
        // A read that needs settings as new as the ones the client has seen.
        let seen = *day.dice.pick(&INDEXES);
        let version = day.world.settings.get(seen).copied().unwrap_or_default();
        if version > 0 && day.dice.chance(200) {
            day.say(&Line::one("sessions.raise_floor", json!({"session_id": id, "version": version})))?;
        } else {
            day.try_to_say(&Line::one("sessions.touch", json!({"session_id": id})))?;
        }
        Ok(Some(day.dice.between(20_000, 420_000)))
    }
}

/// A client that comes back when its session has died.
struct Latecomer(String);

impl Actor for Latecomer {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        day.try_to_say(&Line::one("sessions.touch", json!({"session_id": self.0})))?;
        Ok(None)
    }
}

/// A read has found that the session's write is on all nodes.
pub(super) struct Settled {
    pub(super) session: String,
    pub(super) task: String,
}

impl Settled {
    pub(super) fn say(&self, day: &mut Day<'_>) -> io::Result<()> {
        let why = if day.dice.chance(30) { "group_failed" } else { "write_settled" };
        let args = json!({"session_id": self.session, "mtask_id": self.task, "why": why});
        day.say(&Line::one("sessions.clear_pin", args)).map(drop)
    }
}
