//! Turns: work that several processes would do at the same time, and that one of them is to do.

use std::{sync::Arc, time::Duration};

use tasklog_log::{StoreError, redis::Link};
use uuid::Uuid;

use super::pool::ReadSide;
use crate::rejection::Error;

/// Gives a turn back, if it has not ended by itself and become another one's.
const GIVE_BACK: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A turn; in Redis it is a key that expires, elsewhere one process writes anyway. Nothing depends on it: where two are at
/// the same work, both do the same.
pub(super) struct Turn(Option<Taken>);

struct Taken {
    link: Arc<Link>,
    key: String,
    token: String,
}

impl Turn {
    /// Takes the turn `name`, for at most so long; none if another process has it.
    pub(super) fn take(read: &ReadSide, name: &str, time: Duration) -> Result<Option<Self>, Error> {
        let ReadSide::Redis(read) = read else { return Ok(Some(Self(None))) };
        let (key, token) = (format!("{}:{name}", read.url().prefix), Uuid::now_v7().to_string());
        read.with(|log, _| {
            let link = Arc::clone(log.link());
            let taken: Option<String> = link.call(|conn| {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                redis::cmd("SET").arg(&key).arg(&token).arg("NX").arg("PX").arg(ms).query(conn)
            })?;
            Ok(taken.map(|_| Self(Some(Taken { link, key, token }))))
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(Taken { link, key, token }) = &self.0 {
            // It ends by itself, later.
            let _: Result<(), StoreError> =
                link.call(|conn| redis::cmd("EVAL").arg(GIVE_BACK).arg(1).arg(key).arg(token).exec(conn));
        }
    }
}
