use std::sync::LazyLock;

use super::{
    RedisLog, Script,
    append::{Entry, add},
    encode_commit,
    log::{PARTS_LUA, Shared},
};
use crate::{Checkpoint, Commit, Log, LogInfo, StoreError, adopt::check_identity, check_adopted};

/// One call adopts at most this many commits.
pub const ENTRIES_PER_CALL_MAX: usize = 1_000;
/// One call adopts at most about this many bytes; a single larger commit goes alone.
pub const BYTES_PER_CALL_MAX: usize = 8 << 20;

impl RedisLog {
    /// Appends commits that continue the head, in calls of a bounded size. What was adopted before an error stays.
    pub(super) fn adopt_chunks(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let mut head = self.head()?;
        check_adopted(&head, commits)?;
        let entries = commits.iter().map(|commit| Entry::of(commit, encode_commit(commit), None));
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            bytes += entry.bytes.len();
            if !chunk.is_empty() && (chunk.len() == ENTRIES_PER_CALL_MAX || bytes > BYTES_PER_CALL_MAX) {
                bytes = entry.bytes.len();
                head = self.adopt_chunk(&head, &std::mem::take(&mut chunk))?;
            }
            chunk.push(entry);
        }
        if !chunk.is_empty() {
            self.adopt_chunk(&head, &chunk)?;
        }
        Ok(())
    }

    fn adopt_chunk(&self, head: &Checkpoint, chunk: &[Entry]) -> Result<Checkpoint, StoreError> {
        let Shared { link, keys, .. } = &*self.shared;
        match (add(link, keys, head, chunk, self.answer_retention)?, chunk.last()) {
            (true, Some(last)) => Ok(last.checkpoint(head.log)),
            _ => Err(StoreError::unavailable("adopting commits: somebody else appends to the same log")),
        }
    }

    pub(super) fn take_identity(&mut self, info: LogInfo) -> Result<(), StoreError> {
        static ADOPT: LazyLock<Script> = LazyLock::new(|| Script::of_parts(&[PARTS_LUA, include_str!("adopt.lua")]));
        let args = [info.id.to_string(), info.epoch.to_string()];
        let keys = &self.shared.keys;
        let adopted: bool =
            self.shared.link.ask(|conn| ADOPT.run(conn, &[keys.log(), keys.head(), keys.identity()], &args))?;
        if adopted {
            return Ok(());
        }
        check_identity(&self.head()?)
    }
}
