use std::sync::LazyLock;

use super::{ENTRY_LUA, RedisLog, Script, log::PARTS_LUA};
use crate::{COMMIT_EVENTS_MAX, Log, LogInfo, Position, StoreError};

static TRIM: LazyLock<Script> = LazyLock::new(|| Script::of_parts(&[ENTRY_LUA, PARTS_LUA, include_str!("trim.lua")]));

impl RedisLog {
    /// Removes commits from the front that end before `before`, oldest first, but never the last one: those that end
    /// within about `events_max` events of the first. Answers whether none is left to remove.
    ///
    /// # Errors
    /// `unavailable`, also if the log's identity is no longer `log`; `corrupt` for a log with missing parts.
    pub fn trim(&self, log: LogInfo, before: Position, events_max: usize) -> Result<bool, StoreError> {
        let keys = self.keys();
        let before = before.min(self.head()?.position);
        let first = self.first()?;
        // Every call goes on by a commit.
        let step = events_max.max(COMMIT_EVENTS_MAX) as u64;
        let until = Position(first.0.saturating_add(step)).min(before);
        let args = [log.id.to_string(), log.epoch.to_string(), until.to_string()];
        // Asked twice it removes the same.
        let removed: i64 =
            self.link().ask(|conn| TRIM.run(conn, &[keys.log(), keys.head(), keys.identity()], &args))?;
        if removed < 0 {
            let why = format!("trimming {}: it is no longer log {} in epoch {}", keys.log(), log.id, log.epoch);
            return Err(StoreError::unavailable(why));
        }
        Ok(until >= before)
    }
}
