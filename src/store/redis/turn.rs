use std::{
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use tasklog_log::{
    StoreError,
    redis::{Link, Script},
};
use uuid::Uuid;

/// How long a turn lasts without being renewed.
const TURN: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long others wait for it to end.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often they look.
const WAIT_PAUSE: Duration = Duration::from_millis(50);

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new("return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0")
});
static END: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"));

/// The right to repair: one process at a time, so that they do not do the same work. Nothing depends on it: repairs are
/// checked one by one.
pub(super) struct Turn {
    link: Arc<Link>,
    key: String,
    token: String,
    renewed: Instant,
}

impl Turn {
    /// Waits for the turn; none if `needless` says meanwhile that somebody else has done the work.
    ///
    /// # Errors
    /// `unavailable` if somebody else goes on for a minute; `needless`'s.
    pub(super) fn take(
        link: &Arc<Link>,
        prefix: &str,
        needless: &mut dyn FnMut() -> Result<bool, StoreError>,
    ) -> Result<Option<Self>, StoreError> {
        let (key, token) = (format!("{prefix}:_rebuilding"), Uuid::now_v7().to_string());
        let began = Instant::now();
        loop {
            let taken: Option<String> = link.call(|conn| {
                let ms = TURN.as_millis() as u64;
                redis::cmd("SET").arg(&key).arg(&token).arg("NX").arg("PX").arg(ms).query(conn)
            })?;
            let turn = taken.map(|_| Self {
                link: Arc::clone(link),
                key: key.clone(),
                token: token.clone(),
                renewed: Instant::now(),
            });
            if needless()? {
                return Ok(None);
            }
            if let Some(turn) = turn {
                return Ok(Some(turn));
            }
            if began.elapsed() > WAIT_MAX {
                return Err(StoreError::unavailable(format!(
                    "{key}: another process is rebuilding tables: wait for it"
                )));
            }
            thread::sleep(WAIT_PAUSE);
        }
    }

    /// Keeps the turn, if it is time to.
    ///
    /// # Errors
    /// `unavailable` if somebody else has it by now.
    pub(super) fn renew(&mut self) -> Result<(), StoreError> {
        if self.renewed.elapsed() < RENEW_EVERY {
            return Ok(());
        }
        let ms = TURN.as_millis().to_string();
        let kept: i64 = self.link.call(|conn| RENEW.run(conn, &[&self.key], &[&self.token, &ms]))?;
        if kept == 0 {
            return Err(StoreError::unavailable(format!("{}: another process has taken over the rebuild", self.key)));
        }
        self.renewed = Instant::now();
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // It ends by itself, a little later.
        let _: Result<i64, _> = self.link.call(|conn| END.run(conn, &[&self.key], &[&self.token]));
    }
}
