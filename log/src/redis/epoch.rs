use std::sync::LazyLock;

use uuid::Uuid;

use super::{ENTRY_LUA, RedisLog, Script, log::PARTS_LUA};
use crate::{AcceptedEpoch, CommitId, Log, LogInfo, Millis, Position, StoreError};

static ACCEPT: LazyLock<Script> =
    LazyLock::new(|| Script::of_parts(&[ENTRY_LUA, PARTS_LUA, include_str!("epoch.lua")]));
static EPOCHS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("epochs.lua")));
static RAISE: LazyLock<Script> = LazyLock::new(|| Script::of_parts(&[ENTRY_LUA, PARTS_LUA, include_str!("raise.lua")]));

/// Epochs that are told; older ones stay in their list.
pub const EPOCHS_TOLD_MAX: usize = 1_000;

impl RedisLog {
    /// Begins the next epoch: what the log has now is accepted. The number and the note of it are one step.
    ///
    /// # Errors
    /// `corrupt` if a part of the log is missing or a key of another type is in the way; `unavailable`: if the answer was
    /// lost, the epoch may have begun all the same.
    pub fn accept_epoch(&self, actor: &str, reason: Option<&str>) -> Result<AcceptedEpoch, StoreError> {
        let instant = if self.keeps_given_time() { self.now()?.to_string() } else { String::new() };
        let keys = self.keys();
        let epochs = keys.epochs();
        let names = [keys.log(), keys.head(), keys.identity(), &epochs];
        let args = [actor, if reason.is_some() { "1" } else { "0" }, reason.unwrap_or(""), &instant];
        let _: String = self.link().call(|conn| ACCEPT.run(conn, &names, &args))?;
        let newest = self.accepted_epochs()?.pop();
        newest.ok_or_else(|| StoreError::unavailable(format!("{epochs} is empty: somebody has removed it")))
    }

    /// The newest epochs that were accepted, up to [`EPOCHS_TOLD_MAX`], oldest first.
    ///
    /// # Errors
    /// `unavailable`; `corrupt` if their list holds something else.
    pub fn accepted_epochs(&self) -> Result<Vec<AcceptedEpoch>, StoreError> {
        let key = self.keys().epochs();
        let max = EPOCHS_TOLD_MAX.to_string();
        let noted: Vec<Vec<String>> =
            self.link().ask(|conn| EPOCHS.run(conn, std::slice::from_ref(&key), std::slice::from_ref(&max)))?;
        noted.iter().map(|parts| accepted(&key, parts)).collect()
    }

    /// ms: when the log was born, by its clock.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn born_at(&self) -> Result<Option<Millis>, StoreError> {
        let key = self.keys().identity();
        self.link().ask(|conn| redis::cmd("HGET").arg(key).arg("born_at").query(conn))
    }

    /// Goes on in a higher epoch of the same log, as a copy of one whose loss somebody has accepted.
    ///
    /// # Errors
    /// `corrupt` for another log or a lower epoch; `unavailable`.
    pub fn raise_epoch(&self, log: LogInfo) -> Result<(), StoreError> {
        let keys = self.keys();
        let names = [keys.log(), keys.head(), keys.identity()];
        let args = [log.id.to_string(), log.epoch.to_string()];
        let raised: bool = self.link().ask(|conn| RAISE.run(conn, &names, &args))?;
        if raised {
            return Ok(());
        }
        let why = format!("{} is not log {} in an epoch up to {}", keys.identity(), log.id, log.epoch);
        Err(StoreError::corrupt_store(why))
    }
}

fn accepted(key: &str, parts: &[String]) -> Result<AcceptedEpoch, StoreError> {
    let read = || {
        let [epoch, position, commit, accepted_at, actor, reason @ ..] = parts else { return None };
        Some(AcceptedEpoch {
            epoch: epoch.parse().ok()?,
            position: Position(position.parse().ok()?),
            commit: CommitId(Uuid::parse_str(commit).ok()?),
            accepted_at: accepted_at.parse().ok()?,
            actor: actor.clone(),
            reason: reason.first().cloned(),
        })
    };
    read().ok_or_else(|| StoreError::corrupt_store(format!("{key} holds what is no accepted epoch: {parts:?}")))
}
