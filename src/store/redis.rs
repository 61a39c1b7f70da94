//! How a store in Redis is opened: its server checked, its keys born or migrated, its tables repaired where an older
//! program built them.

mod audit;
mod look_through;
mod notice;
mod rebuild;
mod turn;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tasklog_log::{
    Checkpoint, Clock, Log, ManualClock, Millis, Position, StoreError,
    redis::{Connector, Facts, Keys, Link, RedisLog, RedisUrl, Script, Time, birth, facts},
};
use tasklog_projections::{
    PROJECTED,
    redis::{Expiry, Names, RedisView, stale_tables},
};

pub(super) use self::audit::verify;
pub use self::rebuild::Repairs;
pub(crate) use self::rebuild::rebuild;

use super::{Access, OpenOptions, RECORDING_FROM, Recording, migrate};
use crate::{
    backend::{Newest, RedisBackendOptions},
    rejection::Error,
};

/// Idle connections kept; more are opened while more callers read at once, and closed afterwards.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// The ledger is a number here; it only moves from the version it is known to have.
const MIGRATE: &str = "
local at = redis.call('GET', KEYS[1]) or '0'
if at ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
-- Beside a log that has events, nobody knows what is in a table: it is to be repaired first.
local empty = (redis.call('HGET', KEYS[3], 'position') or '0') == '0'
for i = 3, #ARGV, 2 do redis.call('HSETNX', KEYS[2], ARGV[i], empty and ARGV[i + 1] or '0') end
return 1";

/// A store that is ready.
pub(crate) struct Prepared {
    pub(crate) read: RedisRead,
    pub(crate) recording: Option<Recording>,
    /// For the writer; none if the store was opened for reading.
    pub(super) writer: Option<RedisBackendOptions>,
}

/// Where queries read: each with a connection of its own.
pub(crate) struct RedisRead {
    url: RedisUrl,
    time: Time,
    idle: Mutex<Vec<Reader>>,
    facts: Facts,
    /// What this process's writer has seen; nothing in one that only reads.
    newest: Newest,
}

struct Reader {
    log: RedisLog,
    view: RedisView,
}

pub(crate) fn prepare(url: &RedisUrl, options: &OpenOptions) -> Result<Prepared, StoreError> {
    let link = Arc::new(Link::new(Connector::new(url.clone())));
    let facts = link.ask(facts)?;
    facts.check(&url.durability)?;
    let keys = Keys::new(&url.prefix);
    let names = Names::new(&url.prefix);
    let found: Option<u32> = link.ask(|conn| redis::cmd("GET").arg(keys.schema_version()).query(conn))?;
    migrate::check(found)?;
    if found.is_none() && options.access != Access::Write {
        return Err(StoreError::unavailable(format!("no store at {url}: a command creates it")));
    }
    if found.is_none() {
        let (time, now) = match options.recording_from {
            Some(from) => ("given", from),
            None => ("server", 0),
        };
        link.call(|conn| birth(conn, &keys, time, now))?;
        if let Some(from) = options.recording_from {
            link.call(|conn| redis::cmd("HSETNX").arg(keys.identity()).arg("recording_from").arg(from).exec(conn))?;
        }
    }
    apply_migrations(&link, &keys, &names, found.unwrap_or(0))?;
    let recording = recording(&link, &keys)?;
    let time = match recording {
        None => Time::Server,
        Some(Recording { from }) => Time::Given(match &options.recording_clock {
            Some(clock) => Arc::clone(clock),
            None => Arc::new(ManualClock::at(from)) as Arc<dyn Clock>,
        }),
    };
    match options.access {
        Access::Read | Access::Look => {
            if let Some(table) = stale_tables(&link, &names)?.first() {
                let why = format!("table {} is to be rebuilt: run tasklog rebuild", table.name);
                return Err(StoreError::unavailable(why));
            }
        }
        Access::Write if notice::broken_tables(&link, &names)?.is_empty() => {}
        Access::Write => rebuild::at_open(&link, &url.prefix, &time)?,
    }
    if options.access == Access::Write && facts.appendonly == Some(false) && facts.save.as_deref() == Some("") {
        tracing::warn!("{url}: {}", facts.promise());
    }
    let newest = Newest::default();
    let writer = (options.access == Access::Write).then(|| RedisBackendOptions {
        link,
        prefix: url.prefix.clone(),
        time: time.clone(),
        durability: url.durability,
        resolve_max: url.timeout,
        answer_kept: options.config.command_id_retention,
        newest: newest.clone(),
    });
    let read = RedisRead { url: url.clone(), time, idle: Mutex::default(), facts, newest };
    Ok(Prepared { read, recording, writer })
}

fn apply_migrations(link: &Link, keys: &Keys, names: &Names, mut at: u32) -> Result<(), StoreError> {
    let script = Script::new(MIGRATE);
    while at < migrate::SCHEMA_VERSION {
        let next = at + 1;
        let mut args = vec![at.to_string(), next.to_string()];
        for table in PROJECTED.iter().filter(|table| table.schema_version == next) {
            args.extend([table.name.to_owned(), table.projection_version.to_string()]);
        }
        // Another process may have been faster; then the ledger says so.
        let _: i64 =
            link.call(|conn| script.run(conn, &[keys.schema_version(), &names.projections(), keys.head()], &args))?;
        let found: Option<u32> = link.ask(|conn| redis::cmd("GET").arg(keys.schema_version()).query(conn))?;
        migrate::check(found)?;
        at = found.unwrap_or(0).max(at);
    }
    Ok(())
}

fn recording(link: &Link, keys: &Keys) -> Result<Option<Recording>, StoreError> {
    let (time, from): (Option<String>, Option<Millis>) =
        link.ask(|conn| redis::cmd("HMGET").arg(keys.identity()).arg(&["time", "recording_from"]).query(conn))?;
    Ok((time.as_deref() == Some("given")).then(|| Recording { from: from.unwrap_or(RECORDING_FROM) }))
}

impl Reader {
    fn open(link: &Arc<Link>, prefix: &str, time: &Time) -> Result<Self, StoreError> {
        let expiry = match time {
            Time::Server => Expiry::ByServer,
            Time::Given(_) => Expiry::BySweep,
        };
        let view = RedisView::new(Arc::clone(link), prefix, expiry);
        Ok(Self { log: RedisLog::open(Arc::clone(link), time.clone())?, view })
    }
}

impl RedisRead {
    /// The newest head that this process's writer has seen.
    pub(crate) fn newest(&self) -> Option<Checkpoint> {
        self.newest.get()
    }

    /// The same store, read through connections of its own.
    pub(super) fn again(&self) -> Self {
        let (url, time, facts) = (self.url.clone(), self.time.clone(), self.facts.clone());
        Self { url, time, idle: Mutex::default(), facts, newest: self.newest.clone() }
    }

    /// Where the store is.
    pub(crate) fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Whose clock the log keeps.
    pub(crate) fn time(&self) -> &Time {
        &self.time
    }

    /// What the server promised when the store was opened.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Lends log and tables. There are no snapshots: each row and each page is one moment's, and later ones may be newer.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&RedisLog, &RedisView) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open()?,
        };
        let result = look(&reader.log, &reader.view);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(reader);
        }
        result
    }

    fn open(&self) -> Result<Reader, StoreError> {
        let link = Arc::new(Link::new(Connector::new(self.url.clone())));
        Reader::open(&link, &self.url.prefix, &self.time)
    }

    /// Waits until the log's head is beyond `after` or the time is over.
    pub(crate) fn wait(&self, after: Position, timeout: std::time::Duration) -> Result<Position, Error> {
        self.with(|log, _| Ok(log.wait(after, timeout)?))
    }

    /// The newest schema version applied.
    pub(crate) fn schema_version(&self) -> Result<u32, Error> {
        let keys = Keys::new(&self.url.prefix);
        self.with(|log, _| {
            let found: Option<u32> = log.link().ask(|conn| redis::cmd("GET").arg(keys.schema_version()).query(conn))?;
            Ok(found.unwrap_or_default())
        })
    }

    /// The projection version that built each table.
    pub(crate) fn built(&self) -> Result<HashMap<String, u32>, Error> {
        let key = Names::new(&self.url.prefix).projections();
        self.with(|log, _| Ok(log.link().ask(|conn| redis::cmd("HGETALL").arg(&key).query(conn))?))
    }
}
