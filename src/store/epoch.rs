use tasklog_log::{
    AcceptedEpoch, Checkpoint, Log, Millis, SystemClock,
    sqlite::{SqliteLog, accept_epoch, accepted_epochs, connection, connection::Access as FileAccess},
};

use super::pool::ReadSide;
use crate::{
    rejection::{Error, Rejection},
    text,
};

/// Which log a store has, and in which epoch it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The log's id and epoch, and its newest commit.
    pub head: Checkpoint,
    /// ms: when the log was born, where that is known.
    pub born_at: Option<Millis>,
    /// The epochs that were accepted here, oldest first; a log is born in epoch 1, which nobody accepts, and a copy or a
    /// replica takes over the number without the story.
    pub accepted: Vec<AcceptedEpoch>,
}

impl Epoch {
    /// How the present epoch began, if that is known.
    #[must_use]
    pub fn begun(&self) -> Option<&AcceptedEpoch> {
        self.accepted.last().filter(|newest| newest.epoch == self.head.log.epoch)
    }
}

pub(super) fn read(read: &ReadSide) -> Result<Epoch, Error> {
    match read {
        ReadSide::Memory(backend) => Ok(Epoch { head: backend.log.head()?, born_at: None, accepted: Vec::new() }),
        ReadSide::At(past) => Ok(Epoch { head: past.moment().at, ..self::read(&past.origin().read)? }),
        ReadSide::Sqlite(pool) => pool.with(|conn| {
            let head = SqliteLog::new(conn, std::sync::Arc::new(SystemClock)).head()?;
            Ok(Epoch { head, born_at: None, accepted: accepted_epochs(conn)? })
        }),
        ReadSide::Redis(read) => read
            .with(|log, _| Ok(Epoch { head: log.head()?, born_at: log.born_at()?, accepted: log.accepted_epochs()? })),
    }
}

pub(super) fn accept(read: &ReadSide, actor: &str, reason: Option<&str>) -> Result<AcceptedEpoch, Error> {
    text::meta("actor", actor)?;
    text::meta("reason", reason.unwrap_or_default())?;
    match read {
        ReadSide::Memory(_) => {
            Err(Rejection::invalid("a store in memory loses nothing: its log stays in the epoch it was born in").into())
        }
        ReadSide::At(_) => Err(super::at::not_in_the_past("accepting an epoch")),
        ReadSide::Sqlite(pool) => {
            // A connection of its own: the writer of this process notices the change before its next batch.
            let conn = connection::open(pool.path(), FileAccess::Write)?;
            let transaction = connection::begin(&conn)?;
            let now = SqliteLog::new(&conn, pool.clock()).now()?;
            let accepted = accept_epoch(&conn, now, actor, reason)?;
            transaction.commit().map_err(tasklog_log::StoreError::from)?;
            Ok(accepted)
        }
        ReadSide::Redis(read) => read.with(|log, _| Ok(log.accept_epoch(actor, reason)?)),
    }
}
