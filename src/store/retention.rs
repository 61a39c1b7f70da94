//! Retention: the process that writes archives, snapshots and trims by itself, as the log's facts say.

use std::{sync::Arc, time::Duration};

use tasklog_log::{
    Log, Position,
    archive::{Manifest, SEGMENT_EVENTS_DEFAULT, Sealing, SegmentInfo},
    sqlite::SqliteLog,
};
use tasklog_projections::{
    View,
    facts::{AGE, ARCHIVE, EVENTS},
};

use super::{
    ReadSide, TaskStore, archive,
    background::{Duties, Duty, Next, Stop, Whose},
    trim::{Facts, Keep, Trimmed},
    turn::Turn,
};
use crate::{
    blobs::place_name,
    command::CommandOptions,
    facts::{SetKeep, SetPlace},
    rejection::{Error, Rejection},
};

/// How long it rests between two rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(30);
/// Segments sealed in one round.
const ROUND_SEGMENTS: usize = 8;
/// A trim in the background removes at least this part of a segment,
const TRIM_PART: usize = 100;
/// and at least so many events.
const TRIM_EVENTS_MIN: usize = 10;
/// How long one process has the right to a round in Redis.
const TURN: Duration = Duration::from_secs(600);

/// How much of a log is kept where: what its facts say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The place of the archive.
    pub archive: Option<String>,
    /// What stays in the log. If neither is said, nothing is trimmed.
    pub keep: Keep,
}

impl Retention {
    /// Whether the process that writes archives and trims by itself: it needs a place, and something that is to stay.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.archive.is_some() && self.keep != Keep::default()
    }
}

/// What a round of retention has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Segments sealed.
    pub segments: u64,
    /// The last position of the archive.
    pub archived: Position,
    /// The trim, if something could be trimmed.
    pub trimmed: Option<Trimmed>,
}

impl TaskStore {
    /// Lends the log alone, for whoever reads it page by page and takes long.
    pub(crate) fn read_log<T>(&self, look: impl FnOnce(&dyn Log) -> Result<T, Error>) -> Result<T, Error> {
        self.inner.read.with_log(look)
    }

    /// Lends the log as the store itself has it, without its archive, and the tables.
    pub(crate) fn read_hot<T>(&self, look: impl FnOnce(&dyn Log, &dyn View) -> Result<T, Error>) -> Result<T, Error> {
        self.inner.read.with_hot(look)
    }

    /// What the log's facts say of its retention.
    ///
    /// # Errors
    /// The store's.
    pub fn retention(&self) -> Result<Retention, Error> {
        let Facts { place, keep, .. } = self.inner.read.with_hot(|_, view| Ok(Facts::read(view)?))?;
        Ok(Retention { archive: place, keep })
    }

    /// Says where the archive is; none for nowhere. A log that is trimmed depends on its archive: it may be moved, not
    /// given up.
    ///
    /// # Errors
    /// `invalid` for what names no place, and if a trimmed log's archive would be given up, or exchanged for one that does not
    /// have what was trimmed; `unavailable` for a place that cannot be written; `read_only`; the store's.
    pub fn set_archive(&self, place: Option<&str>) -> Result<(), Error> {
        let url = place.map(place_name).transpose()?;
        let (facts, info) = self.inner.read.with_hot(|log, view| Ok((Facts::read(view)?, log.info()?)))?;
        if facts.place == url {
            return Ok(());
        }
        let needed = facts.trimmed_to.before();
        if needed > Position::ZERO {
            let manifest = url.as_deref().map(|url| archive::open(url)?.manifest()).transpose()?.flatten();
            let has = |manifest: &Manifest| {
                manifest.log == info.id && manifest.first() == Some(Position(1)) && manifest.last() >= needed
            };
            if !manifest.is_some_and(|manifest| has(&manifest)) {
                let there = url.as_deref().unwrap_or("nowhere");
                let why =
                    format!("the log was trimmed: events 1 to {needed} are in its archive alone, and not at {there}");
                return Err(Rejection::invalid(why).into());
            }
        }
        if let Some(url) = &url {
            archive::try_writing(url)?;
        }
        self.run_blocking(SetPlace { subject: ARCHIVE.into(), url }, CommandOptions::default())?;
        Ok(())
    }

    /// Says how much of the log is to stay; with neither, nothing is trimmed any more.
    ///
    /// # Errors
    /// `invalid` for negative numbers; `read_only`; the store's.
    pub fn set_keep(&self, keep: &Keep) -> Result<(), Error> {
        let events = keep.events.map(|events| i64::try_from(events).unwrap_or(i64::MAX));
        for (subject, number) in [(EVENTS, events), (AGE, keep.age_ms)] {
            self.run_blocking(SetKeep { subject: subject.into(), number }, CommandOptions::default())?;
        }
        Ok(())
    }

    /// Seals what the archive does not have yet. The log is read beside its writers.
    ///
    /// # Errors
    /// `invalid` for a store in memory; see [`tasklog_log::archive::Archive::seal`]. A damaged event is sealed if it is
    /// quarantined, with the bytes and the checksum that it has.
    pub fn archive(&self, url: &str, how: &Sealing, note: &mut dyn FnMut(&SegmentInfo)) -> Result<Manifest, Error> {
        let past = archive::open(url)?.passing_over(self.passed_over()?);
        match &self.inner.read {
            ReadSide::Sqlite(pool) => {
                // Outside a transaction, which would keep the write-ahead log from being reset.
                let conn = pool.open()?;
                Ok(past.seal(&SqliteLog::new(&conn, pool.clock()), how, note)?)
            }
            ReadSide::Redis(read) => read.with(|log, _| Ok(past.seal(log, how, note)?)),
            ReadSide::Memory(_) | ReadSide::At(_) => {
                Err(Rejection::invalid("a store in memory or of an earlier moment is not archived").into())
            }
        }
    }

    /// One round of retention: seals whole segments, makes a snapshot if a trim needs one, and trims, each a bounded piece.
    /// None if the log's facts ask for nothing, or if another process is at it. The process that writes does this by itself
    /// now and then.
    ///
    /// # Errors
    /// As [`TaskStore::archive`] and [`TaskStore::trim`].
    pub fn retain(&self, segment_events: Option<usize>) -> Result<Option<Retained>, Error> {
        let retention = self.retention()?;
        let Some(url) = retention.archive.as_ref().filter(|_| retention.is_on()) else { return Ok(None) };
        let keep = retention.keep;
        let Some(_turn) = Turn::take(&self.inner.read, "_retaining", TURN)? else { return Ok(None) };
        let mut segments = 0;
        let how = Sealing {
            segment_events: segment_events.unwrap_or(SEGMENT_EVENTS_DEFAULT),
            segments_max: ROUND_SEGMENTS,
            all: false,
        };
        let archived = self.archive(url, &how, &mut |_| segments += 1)?.last();
        let mut retained = Retained { segments, archived, trimmed: None };
        let (first, head, now, facts) =
            self.inner.read.with_hot(|log, view| Ok((log.first()?, log.head()?, log.now()?, Facts::read(view)?)))?;
        let (until, _) = self.bound(&head, now, &keep, archived, head.position)?;
        // A trim is an event itself: it is to remove more than it adds.
        let least = (how.segment_events / TRIM_PART).max(TRIM_EVENTS_MIN) as u64;
        if until.0 < first.0 + least && first >= facts.trimmed_to {
            return Ok(Some(retained));
        }
        let snapshots = self.snapshots()?;
        let covered = self.read(|log, _| Ok(snapshots.newest(log, head.position)?))?;
        if covered.is_none_or(|snapshot| snapshot.checkpoint().position < until.before()) {
            self.snapshot(|_| ())?;
        }
        retained.trimmed = Some(self.trim(&keep)?);
        Ok(Some(retained))
    }
}

/// Keeps a store's log as its facts say, as long as it is open for writing.
pub(super) struct Retaining(Whose);

impl Retaining {
    pub(super) fn begin(duties: &mut Duties) {
        duties.add(ROUND_PAUSE, Box::new(Self(duties.whose())));
    }
}

impl Duty for Retaining {
    fn turn(&mut self, _: &Stop) -> Next {
        let Some(inner) = self.0.upgrade() else { return Next::After(ROUND_PAUSE) };
        let store = TaskStore { inner };
        match store.retain(None) {
            Ok(Some(Retained { segments, trimmed, archived })) if segments > 0 || trimmed.is_some() => {
                let first = trimmed.map(|trimmed| trimmed.first.0);
                tracing::info!(segments, archived = archived.0, first, "retention");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "retention"),
        }
        Arc::into_inner(store.inner).map_or(Next::After(ROUND_PAUSE), |inner| Next::Last(Box::new(inner)))
    }
}
