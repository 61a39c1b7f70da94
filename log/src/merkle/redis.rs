use std::sync::{Arc, LazyLock};

use uuid::Uuid;

use super::{Hash, KeptTree, kept::chunks_through};
use crate::{
    Checkpoint, CommitId, LogInfo, Position, StoreError,
    redis::{Keys, Link, Script},
};

static ADVANCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("advance.lua")));
/// The fields of a checkpoint's hash.
const FIELDS: [&str; 5] = ["log_id", "epoch", "position", "commit", "recorded_at"];

/// A tree that is kept beside a log in Redis: the string `<prefix>:_tree` of all hashes, and the hash `<prefix>:_tree_at`
/// with its checkpoint, changed in one script.
pub struct RedisTree {
    link: Arc<Link>,
    keys: Keys,
}

impl RedisTree {
    /// The tree under `keys`; its keys are made when something is kept.
    #[must_use]
    pub const fn new(link: Arc<Link>, keys: Keys) -> Self {
        Self { link, keys }
    }
}

fn fields(at: Option<&Checkpoint>) -> [Vec<u8>; 5] {
    let Some(Checkpoint { log, position, commit, recorded_at }) = at else { return Default::default() };
    [log.id.to_string(), log.epoch.to_string(), position.to_string(), commit.to_string(), recorded_at.to_string()]
        .map(String::into_bytes)
}

impl KeptTree for RedisTree {
    fn at(&self) -> Result<Option<Checkpoint>, StoreError> {
        let key = self.keys.tree_at();
        let mut look = redis::pipe();
        look.cmd("HMGET").arg(&key).arg(&FIELDS).cmd("STRLEN").arg(self.keys.tree());
        let (found, bytes): (Vec<Option<String>>, u64) = self.link.ask(|conn| look.query(conn))?;
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let read = || {
            let [Some(id), Some(epoch), Some(position), Some(commit), Some(recorded_at)] = &found[..] else {
                return None;
            };
            Some(Checkpoint {
                log: LogInfo { id: Uuid::parse_str(id).ok()?, epoch: epoch.parse().ok()? },
                position: Position(position.parse().ok()?),
                commit: CommitId(Uuid::parse_str(commit).ok()?),
                recorded_at: recorded_at.parse().ok()?,
            })
        };
        let at = read().ok_or_else(|| StoreError::corrupt_store(format!("{key} is no checkpoint: {found:?}")))?;
        Ok((chunks_through(at.position) * Hash::BYTES as u64 <= bytes).then_some(at))
    }

    fn hashes(&self, from: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let key = self.keys.tree();
        let begin = from * Hash::BYTES as u64;
        let Some(last) = (count as u64).checked_mul(Hash::BYTES as u64).and_then(|bytes| bytes.checked_sub(1)) else {
            return Ok(Vec::new());
        };
        let bytes: Vec<u8> =
            self.link.ask(|conn| redis::cmd("GETRANGE").arg(&key).arg(begin).arg(begin + last).query(conn))?;
        let (hashes, rest) = bytes.as_chunks();
        if rest.is_empty() {
            return Ok(hashes.iter().copied().map(Hash).collect());
        }
        Err(StoreError::corrupt_store(format!("{key} ends within a hash")))
    }

    fn advance(&self, from: Option<&Checkpoint>, keep: u64, new: &[Hash], to: &Checkpoint) -> Result<bool, StoreError> {
        let mut args = Vec::from(fields(from));
        args.extend(fields(Some(to)));
        args.push((keep * Hash::BYTES as u64).to_string().into_bytes());
        args.push(new.iter().flat_map(|hash| hash.0).collect());
        let names = [self.keys.tree(), self.keys.tree_at()];
        self.link.call(|conn| ADVANCE.run(conn, &names, &args))
    }
}
