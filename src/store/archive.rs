//! Where a store's archive is, and its log joined with it: whoever reads a log here reads on into the archive.

use std::sync::{Mutex, PoisonError};

use tasklog_log::{
    Commit, Log, Position, StoreError,
    archive::{Archive, ArchivedLog},
};
use tasklog_projections::{
    TableEvent, View,
    facts::{self, ARCHIVE, DEF, FactEvent, PLACE, THE_LOG, TRIM},
    pair,
};

use crate::{blobs::open_place, rejection::Error};

/// Archives that this process has open; what they have read is shared.
const OPEN_MAX: usize = 16;
/// Events read at once when the place of an archive is looked for in the log itself.
const SEARCH_EVENTS: usize = 4_000;

static OPEN: Mutex<Vec<(String, Archive)>> = Mutex::new(Vec::new());

/// The archive at a place.
pub(crate) fn open(url: &str) -> Result<Archive, StoreError> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, archive)) = open.iter().find(|(known, _)| known == url) {
        return Ok(archive.clone());
    }
    let blobs = open_place(url).map_err(|error| match error {
        Error::Store(error) => error,
        Error::Rejected(why) => StoreError::unavailable(format!("the archive's place: {}", why.message)),
    })?;
    let archive = Archive::new(blobs);
    if open.len() >= OPEN_MAX {
        open.remove(0);
    }
    open.push((url.to_owned(), archive.clone()));
    Ok(archive)
}

/// Writes something to a place and removes it: a place that is remembered must not turn out to be none weeks later, when
/// the first segment is due.
pub(crate) fn try_writing(url: &str) -> Result<(), StoreError> {
    let archive = open(url)?;
    let name = format!("probe-{}", uuid::Uuid::now_v7().simple());
    archive.blobs().put(&name, &mut &b"tasklog tries whether it can write here\n"[..])?;
    // A place where nothing may be removed is a good one for an archive.
    if let Err(error) = archive.blobs().delete(&name) {
        tracing::warn!(error = error.full(), name, "what was written to try the archive's place cannot be removed");
    }
    Ok(())
}

/// Where the archive is, as the tables say; or, if they do not know, as the log says itself: a trim leaves there what it
/// depends on.
fn place(log: &dyn Log, view: &dyn View) -> Result<Option<String>, StoreError> {
    // The table itself may be what is to be rebuilt.
    if let Ok(Some(row)) = facts::get(view, PLACE, ARCHIVE) {
        return Ok(row.text.clone());
    }
    let key = pair(PLACE, ARCHIVE);
    let (mut found, mut after) = (None, log.first()?.before());
    loop {
        let page = log.read(after, SEARCH_EVENTS)?;
        let Some(last) = page.last().map(Commit::last) else { return Ok(found) };
        after = last;
        for event in page.iter().flat_map(|commit| &commit.events) {
            if &*event.table != DEF.name || *event.key != key {
                continue;
            }
            match FactEvent::decode(&event.event_type, event.type_version, &event.payload) {
                Ok(FactEvent::PlaceSet(set)) => found = Some(set.url),
                Ok(FactEvent::PlaceCleared(_)) => found = None,
                _ => {}
            }
        }
    }
}

/// Lends `log` joined with its archive, which is looked for only if something of it is wanted.
pub(crate) fn joined<T>(log: &dyn Log, view: &dyn View, look: impl FnOnce(&ArchivedLog<'_>) -> T) -> T {
    let find = || match place(log, view)? {
        Some(url) => open(&url).map(Some),
        None => Ok(None),
    };
    look(&ArchivedLog::lazily(log, &find))
}

/// The position that the log is trimmed before, as its facts say; 1 if it never was.
pub(crate) fn trimmed_to(view: &dyn View) -> Result<Position, StoreError> {
    let first = facts::get(view, TRIM, THE_LOG)?.and_then(|row| row.number).and_then(Position::from_i64);
    Ok(first.unwrap_or(Position(1)))
}
