use std::sync::LazyLock;

use redis::{Connection, RedisResult};
use uuid::Uuid;

use super::{ENTRY_LUA, Keys, LOST_LOG, Script};
use crate::{LogInfo, Millis};

static BIRTH: LazyLock<Script> = LazyLock::new(|| Script::of_parts(&[ENTRY_LUA, include_str!("birth.lua")]));

/// Creates the log's keys with a new identity, unless they are there, and answers the identity. Of two processes that do
/// this at once, both get the same one.
///
/// `time` says whose clock the log keeps, `server` or `given`; a `server` log is born at the server's instant, a `given`
/// one at `now`.
///
/// # Errors
/// `WRONGTYPE` naming a key of the wrong type in the way, `LOSTLOG` if some of the log's keys are missing, and whatever
/// keeps Redis from answering; [`super::to_store_error`] turns the first two into `corrupt`.
pub fn birth(conn: &mut Connection, keys: &Keys, time: &str, now: Millis) -> RedisResult<LogInfo> {
    let args = [Uuid::now_v7().to_string(), time.to_owned(), now.to_string()];
    let answer = BIRTH.run(conn, &[keys.log(), keys.head(), keys.identity()], &args)?;
    identity_of(keys, answer)
}

/// The identity in the fields `id` and `epoch`.
pub(super) fn identity_of(keys: &Keys, (id, epoch): (Option<String>, Option<String>)) -> RedisResult<LogInfo> {
    let id = id.and_then(|id| Uuid::parse_str(&id).ok());
    let epoch = epoch.and_then(|epoch| epoch.parse().ok());
    match (id, epoch) {
        (Some(id), Some(epoch)) => Ok(LogInfo { id, epoch }),
        _ => Err(lost(format!("{} has no id and epoch of a log", keys.identity()))),
    }
}

/// An error as this crate's scripts answer it.
pub(super) fn lost(why: String) -> redis::RedisError {
    redis::make_extension_error(LOST_LOG.into(), Some(why))
}
